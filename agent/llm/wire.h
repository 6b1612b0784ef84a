// What the endpoints' protocols say on the wire: a conversation becomes a request's JSON, an
// answer's JSON becomes an Answer. Pure: no sockets, no clock, no environment; any bytes are
// survived.
//
// Sources: OpenAI's, Anthropic's and Ollama's API references; OpenRouter's, DeepSeek's, vLLM's and
// llama.cpp's documentation for where the "compatible" ones differ.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "agent/llm/event_cutter.h"
#include "agent/llm/llm.h"

namespace autoresearch {

// What a request may carry beside the conversation. A parameter that the endpoint refused once is
// in `dropped` and is left out from then on.
struct CallSettings {
  std::string model;
  int64_t room = 0;            // tokens of output, reasoning included
  int64_t context_tokens = 0;  // ollama's num_ctx, 0: what the prompt needs
  bool stream = true;
  std::optional<double> temperature;
  std::string effort;
  std::set<std::string> dropped = {};
  bool has(const std::string& parameter) const { return !dropped.contains(parameter); }
};

struct Answer : Tokens {
  std::string text;
  std::string thoughts;    // what stood in the fields for reasoning, or in `text` without an end
  bool reasoned = false;   // thinking was seen; it is not part of the text
  bool finished = false;   // the protocol's own end was seen
  bool ended = false;      // ... and nothing more will come, though the connection may stay open
  std::string end;         // the endpoint's last word for that end; empty: it named none
  bool truncated = false;  // the length limit ended it
  bool malformed = false;  // something that is not this protocol, or an answer with a hole
  std::string refusal;     // the model's or a filter's words, or what the endpoint calls it
  std::string odd_end;     // the endpoint's word for an end that leaves the text unfinished
  nlohmann::json error;    // an error object inside the answer; null: none
  int passed_over = 0;     // lines of the stream that were no JSON
  bool counted = false;    // the endpoint said how many tokens it was
  std::optional<double> cost;  // USD
};

enum class Framing { kEvents, kLines };  // of a stream: server-sent events, or one JSON a line

class Wire {
 public:
  virtual ~Wire() = default;
  virtual std::string default_base_url() const = 0;
  virtual std::string default_key_env() const = 0;  // empty: none
  virtual std::string path() const = 0;             // behind the base URL
  virtual Framing framing() const { return Framing::kEvents; }
  // A key goes as a Bearer token. `at_home`: the request goes to the protocol's own host.
  virtual std::vector<std::string> headers(const std::string& key, bool at_home) const;
  virtual nlohmann::json request(const std::vector<Message>& conversation,
                                 const CallSettings& settings) const = 0;
  // The names of parameters that an endpoint may refuse and that the request can do without.
  virtual std::vector<std::string> droppable() const = 0;
  // False where the conversation surely does not fit and the endpoint would not say so.
  virtual bool fits(const std::vector<Message>&, const CallSettings&) const { return true; }
  // One event of a stream.
  virtual void take_event(const nlohmann::json& event, Answer& answer) const = 0;
  // An answer that came whole.
  virtual void take_document(const nlohmann::json& document, Answer& answer) const = 0;
};

// The names of all protocols, as in --provider.
std::vector<std::string> wire_kinds();

// The protocol of that name; null for another name.
std::unique_ptr<Wire> make_wire(const std::string& kind);

// Reads an answer as it arrives. A server that was asked to stream and sends one whole document
// all the same is understood, and so is one that streams unasked, or bare JSON lines for events. A
// line that is no JSON costs nothing, unless it began as JSON: then a piece of the answer is lost.
class AnswerReader {
 public:
  AnswerReader(const Wire& wire, bool streamed) : wire_(wire), whole_(!streamed) {}
  // False when nothing more is needed: the end was seen, or an error, or too much.
  bool feed(std::string_view bytes);
  // What was said in all, once the bytes have ended.
  Answer finish();

 private:
  void take(std::string data);
  void take_event(const nlohmann::json& event);
  void take_document();
  nlohmann::json parse(std::string_view text);

  const Wire& wire_;
  bool whole_;
  bool begun_ = false;  // a byte that is not blank was seen
  size_t bytes_ = 0;
  std::string document_;
  EventCutter events_;
  LineCutter lines_{/*lone_cr=*/false};
  bool mended_ = false;  // halves of characters were replaced, see agent/llm/event_cutter.h
  nlohmann::json last_;  // the last event
  Answer answer_;
};

// ------------------------------------------------------------------------------------------------
// Shared by the protocols

// A member of an object, null where there is none: servers leave out and nullify at will.
const nlohmann::json& member(const nlohmann::json& object, const char* key);
// A member of a member, and so on.
template <typename... Keys>
const nlohmann::json& member(const nlohmann::json& object, const char* key, Keys... inner) {
  return member(member(object, key), inner...);
}
const nlohmann::json& list_of(const nlohmann::json& value);  // empty unless it is a list
std::string text_of(const nlohmann::json& value);            // "" unless it is a string
int64_t count_of(const nlohmann::json& value);  // 0 unless it is a number, or one in a string; >= 0

// A request with what all protocols but Ollama's call by the same name.
nlohmann::json with_settings(nlohmann::json body, const CallSettings& settings);

// Notes the endpoint's word for the end of its answer. Servers say "" or "null" before the end.
void take_end(const std::string& reason, Answer& answer);

// What such a word means, by its parts: every router has words of its own.
enum class Ending {
  kNormal,
  kCut,      // the length limit
  kRefused,  // a filter, or the model
  kBroken,   // an error, a cancellation, a pause, a tool that was never offered
  kUnknown,
};
Ending ending_of(const std::string& word);

// Whether `value` is an error: a text or an object that says something. Some servers put "" or
// false into each event.
bool is_error(const nlohmann::json& value);

// The text of a string, of a part, or of a list of parts of which those of type "text" or
// "output_text" count.
std::string content_of(const nlohmann::json& content);

// Neighbours of one role as one message.
std::vector<Message> joined_by_role(const std::vector<Message>& conversation);

}  // namespace autoresearch
