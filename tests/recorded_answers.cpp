#include "tests/recorded_answers.h"

#include <nlohmann/json.hpp>

namespace autoresearch {
namespace {

using nlohmann::json;

std::string event(const json& data, const std::string& name = "") {
  return (name.empty() ? "" : "event: " + name + "\n") + "data: " + data.dump() + "\n\n";
}

// The text in pieces, as a tokenizer would cut it.
std::vector<std::string> pieces_of(const std::string& text) {
  std::vector<std::string> pieces;
  for (size_t at = 0; at < text.size(); at += 5) pieces.push_back(text.substr(at, 5));
  return pieces;
}

HttpAnswer answer_of(const std::string& body, const std::string& type, bool stream) {
  HttpAnswer answer;
  answer.headers = {"Content-Type: " + type};
  answer.body = body;
  if (stream) answer.length = HttpAnswer::Length::kChunked;
  return answer;
}

// ------------------------------------------------------------------------------------------------
// openai: chat completions

json chat_usage() {
  return {{"prompt_tokens", 1200},
          {"completion_tokens", 34},
          {"total_tokens", 1234},
          {"prompt_tokens_details", {{"cached_tokens", 1000}, {"audio_tokens", 0}}},
          {"completion_tokens_details", {{"reasoning_tokens", 20}}}};
}

std::string chat_chunk(const json& choices, const json& usage) {
  return event({{"id", "chatcmpl-C1"},
                {"object", "chat.completion.chunk"},
                {"created", 1764000000},
                {"model", "scripted-2026"},
                {"system_fingerprint", nullptr},
                {"choices", choices},
                {"usage", usage}});
}

std::string chat_delta(const json& delta, const json& finish_reason = nullptr) {
  return chat_chunk(json::array({{{"index", 0},
                                  {"delta", delta},
                                  {"logprobs", nullptr},
                                  {"finish_reason", finish_reason}}}),
                    nullptr);
}

// With OpenRouter's comment while it waits, and the usage chunk that has no choices.
std::string chat_stream(const Said& said) {
  std::string body = ": OPENROUTER PROCESSING\n\n";
  body += chat_delta({{"role", "assistant"}, {"content", ""}, {"refusal", nullptr}});
  for (const std::string& piece : pieces_of(said.thought))
    body += chat_delta({{"content", nullptr}, {"reasoning_content", piece}});
  for (const std::string& piece : pieces_of(said.text)) body += chat_delta({{"content", piece}});
  body += chat_delta(json::object(), said.cut ? "length" : "stop");
  return body + chat_chunk(json::array(), chat_usage()) + "data: [DONE]\n\n";
}

json chat_document(const Said& said) {
  json message = {{"role", "assistant"}, {"content", said.text}, {"refusal", nullptr}};
  if (said.text.empty()) message["content"] = nullptr;
  if (!said.thought.empty()) message["reasoning_content"] = said.thought;
  return {{"id", "chatcmpl-C1"},
          {"object", "chat.completion"},
          {"created", 1764000000},
          {"model", "scripted-2026"},
          {"choices", json::array({{{"index", 0},
                                    {"message", message},
                                    {"finish_reason", said.cut ? "length" : "stop"}}})},
          {"usage", chat_usage()}};
}

// ------------------------------------------------------------------------------------------------
// openai-responses

json response_document(const Said& said) {
  json output = json::array();
  if (!said.thought.empty())
    output.push_back({{"id", "rs_1"}, {"type", "reasoning"}, {"summary", json::array()}});
  if (!said.text.empty())
    output.push_back({{"id", "msg_1"},
                      {"type", "message"},
                      {"status", said.cut ? "incomplete" : "completed"},
                      {"role", "assistant"},
                      {"content", json::array({{{"type", "output_text"},
                                                {"text", said.text},
                                                {"annotations", json::array()}}})}});
  return {{"id", "resp_1"},
          {"object", "response"},
          {"status", said.cut ? "incomplete" : "completed"},
          {"error", nullptr},
          {"incomplete_details", said.cut ? json{{"reason", "max_output_tokens"}} : json(nullptr)},
          {"model", "scripted-2026"},
          {"output", output},
          {"usage",
           {{"input_tokens", 1200},
            {"input_tokens_details", {{"cached_tokens", 1000}}},
            {"output_tokens", 34},
            {"output_tokens_details", {{"reasoning_tokens", 20}}},
            {"total_tokens", 1234}}}};
}

std::string typed(json data) {
  const std::string type = data.at("type");
  return event(data, type);
}

std::string responses_stream(const Said& said) {
  json begun = response_document({});
  begun["status"] = "in_progress";
  begun["usage"] = nullptr;
  std::string body = typed({{"type", "response.created"}, {"response", begun}}) +
                     typed({{"type", "response.in_progress"}, {"response", begun}});
  if (!said.thought.empty())
    body += typed({{"type", "response.reasoning_summary_text.delta"}, {"delta", said.thought}});
  for (const std::string& piece : pieces_of(said.text))
    body += typed({{"type", "response.output_text.delta"},
                   {"item_id", "msg_1"},
                   {"output_index", 0},
                   {"content_index", 0},
                   {"delta", piece}});
  return body + typed({{"type", said.cut ? "response.incomplete" : "response.completed"},
                       {"response", response_document(said)}});
}

// ------------------------------------------------------------------------------------------------
// anthropic: Messages

json anthropic_usage(int output) {
  return {{"input_tokens", 150},
          {"cache_creation_input_tokens", 50},
          {"cache_read_input_tokens", 1000},
          {"output_tokens", output}};
}

json anthropic_document(const Said& said) {
  json content = json::array();
  if (!said.thought.empty())
    content.push_back({{"type", "thinking"}, {"thinking", said.thought}, {"signature", "EqQB"}});
  if (!said.text.empty()) content.push_back({{"type", "text"}, {"text", said.text}});
  return {{"id", "msg_01"},           {"type", "message"},
          {"role", "assistant"},      {"model", "scripted-2026"},
          {"content", content},       {"stop_reason", said.cut ? "max_tokens" : "end_turn"},
          {"stop_sequence", nullptr}, {"usage", anthropic_usage(34)}};
}

std::string anthropic_start() {
  json message = anthropic_document({});
  message["stop_reason"] = nullptr;
  message["usage"] = anthropic_usage(1);
  return typed({{"type", "message_start"}, {"message", message}});
}

std::string anthropic_block(int index, const json& empty, const std::string& field,
                            const std::string& text) {
  std::string body =
      typed({{"type", "content_block_start"}, {"index", index}, {"content_block", empty}});
  for (const std::string& piece : pieces_of(text))
    body += typed({{"type", "content_block_delta"},
                   {"index", index},
                   {"delta", {{"type", field + "_delta"}, {field, piece}}}});
  return body + typed({{"type", "content_block_stop"}, {"index", index}});
}

std::string anthropic_stream(const Said& said) {
  std::string body = anthropic_start() + typed({{"type", "ping"}});
  int index = 0;
  if (!said.thought.empty())
    body += anthropic_block(index++, {{"type", "thinking"}, {"thinking", ""}, {"signature", ""}},
                            "thinking", said.thought);
  if (!said.text.empty())
    body += anthropic_block(index, {{"type", "text"}, {"text", ""}}, "text", said.text);
  return body +
         typed(
             {{"type", "message_delta"},
              {"delta",
               {{"stop_reason", said.cut ? "max_tokens" : "end_turn"}, {"stop_sequence", nullptr}}},
              {"usage", {{"output_tokens", 34}}}}) +
         typed({{"type", "message_stop"}});
}

// ------------------------------------------------------------------------------------------------
// ollama

json ollama_line(const std::string& content, const std::string& thinking) {
  json message = {{"role", "assistant"}, {"content", content}};
  if (!thinking.empty()) message["thinking"] = thinking;
  return {{"model", "scripted"},
          {"created_at", "2026-11-25T02:00:00.000000Z"},
          {"message", message},
          {"done", false}};
}

json ollama_last(json line, bool cut) {
  line.update({{"done", true},
               {"done_reason", cut ? "length" : "stop"},
               {"total_duration", 5191566416},
               {"prompt_eval_count", 1200},
               {"eval_count", 34}});
  return line;
}

std::string ollama_stream(const Said& said) {
  std::string body;
  for (const std::string& piece : pieces_of(said.thought))
    body += ollama_line("", piece).dump() + "\n";
  for (const std::string& piece : pieces_of(said.text))
    body += ollama_line(piece, "").dump() + "\n";
  return body + ollama_last(ollama_line("", ""), said.cut).dump() + "\n";
}

json error_object(const std::string& kind, const std::string& type, const std::string& message) {
  if (kind == "ollama") return message;
  if (kind == "anthropic") return {{"type", type}, {"message", message}};
  return {{"message", message}, {"type", type}, {"param", nullptr}, {"code", type}};
}

}  // namespace

HttpAnswer recorded_answer(const std::string& kind, bool stream, const Said& said) {
  if (kind == "ollama") {
    return stream ? answer_of(ollama_stream(said), "application/x-ndjson", true)
                  : answer_of(ollama_last(ollama_line(said.text, said.thought), said.cut).dump(),
                              "application/json", false);
  }
  if (stream) {
    return answer_of(kind == "anthropic"          ? anthropic_stream(said)
                     : kind == "openai-responses" ? responses_stream(said)
                                                  : chat_stream(said),
                     "text/event-stream; charset=utf-8", true);
  }
  const json document = kind == "anthropic"          ? anthropic_document(said)
                        : kind == "openai-responses" ? response_document(said)
                                                     : chat_document(said);
  return answer_of(document.dump(), "application/json", false);
}

HttpAnswer recorded_inner_error(const std::string& kind, bool stream, const std::string& type,
                                const std::string& message) {
  const json error = error_object(kind, type, message);
  json body = {{"error", error}};
  if (kind == "anthropic") body["type"] = "error";
  if (!stream) return answer_of(body.dump(), "application/json", false);
  if (kind == "ollama")
    return answer_of(ollama_line("half ", "").dump() + "\n" + body.dump() + "\n",
                     "application/x-ndjson", true);
  std::string events;
  if (kind == "openai") events = chat_delta({{"content", "half "}}) + event(body);
  if (kind == "anthropic") events = anthropic_start() + typed(body);
  if (kind == "openai-responses")
    events = typed({{"type", "response.output_text.delta"}, {"delta", "half "}}) +
             typed({{"type", "error"}, {"code", type}, {"message", message}, {"param", nullptr}});
  return answer_of(events, "text/event-stream", true);
}

HttpAnswer recorded_error(const std::string& kind, int status, const std::string& type,
                          const std::string& message, std::vector<std::string> headers) {
  json body = {{"error", error_object(kind, type, message)}};
  if (kind == "anthropic") body["type"] = "error";
  HttpAnswer answer = answer_of(body.dump(), "application/json", false);
  answer.status = status;
  answer.headers.insert(answer.headers.end(), headers.begin(), headers.end());
  return answer;
}

}  // namespace autoresearch
