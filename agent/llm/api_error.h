// What an endpoint's error means for the one who asked. Pure.
//
// After the error pages of OpenAI, Anthropic, OpenRouter, Gemini and DeepSeek, and what vLLM,
// llama.cpp, LM Studio and Ollama really send; the retry rules are those of Anthropic's and
// OpenAI's own clients, except that a long Retry-After is handed on instead of being cut to a
// minute.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace autoresearch {

struct ApiError {
  long status = 0;
  std::string code, type, param, message;  // empty where the endpoint named none
  double retry_after = 0;                  // seconds, from the body
};

// From a status of 300 and more, and its body, whatever that holds: JSON of any shape, a page,
// text.
ApiError read_api_error(long status, const std::string& body);

// From an error object inside a 200 or in the middle of a stream, or from a document that stands in
// place of an answer: routers put the status of the server behind them into it, others only a type
// or a code. Unknown ones count as 500.
ApiError read_inner_error(const nlohmann::json& error);

// What a JSON document says to its reader, under whichever of the usual names; empty: nothing.
std::string words_of(const nlohmann::json& document);

enum class Remedy {
  kWait,      // ask again after a pause
  kShorten,   // the conversation does not fit
  kLessRoom,  // max_output_tokens is more than this model can give
  kNoCredit,  // a quota or a spending limit is used up: no pause of this run brings it back soon
  kGiveUp,    // asking again can't help
};
Remedy remedy_for(const ApiError& error, const std::string& should_retry = "");

// The parameter of `candidates` that the endpoint refuses; empty when it is none of them.
std::string refused_parameter(const ApiError& error, const std::vector<std::string>& candidates);

// Whether the endpoint's template has no place for a system turn.
bool refuses_system_role(const ApiError& error);

// Whether what is left of the account's credit would pay for a smaller answer; then `smaller_room`
// is what it pays for.
bool affords_less(const ApiError& error);

// For kLessRoom: the room to try next, below `room`; 0 when there is no use in trying.
int64_t smaller_room(const ApiError& error, int64_t room);

// For kLessRoom: whether prompt and room together are too much, so that a shorter conversation
// would have more; else the room is more than the model ever gives.
bool counts_the_prompt(const ApiError& error);

}  // namespace autoresearch
