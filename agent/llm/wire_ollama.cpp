// Ollama's own protocol. Its OpenAI route ignores num_ctx, and a prompt beyond the default context
// (4,096 tokens on a small card) is cut silently: here every request names the context it needs.

#include <algorithm>

#include "agent/llm/wire.h"

namespace autoresearch {
namespace {

using nlohmann::json;

constexpr int64_t kBytesPerToken = 3;   // of a prompt of code and English; fewer is rare
constexpr int64_t kContextStep = 8192;  // another num_ctx makes Ollama load the model again

int64_t prompt_tokens(const std::vector<Message>& conversation) {
  size_t bytes = 0;
  for (const Message& message : conversation) bytes += message.text.size();
  return static_cast<int64_t>(bytes) / kBytesPerToken;
}

// What the context leaves for the answer, where it is named.
int64_t room_for(const std::vector<Message>& conversation, const CallSettings& settings) {
  if (settings.context_tokens == 0) return settings.room;
  return std::min(settings.room, settings.context_tokens - prompt_tokens(conversation));
}

int64_t context_for(const std::vector<Message>& conversation, const CallSettings& settings) {
  if (settings.context_tokens > 0) return settings.context_tokens;
  const int64_t tokens = prompt_tokens(conversation) + settings.room;
  return (tokens + kContextStep - 1) / kContextStep * kContextStep;
}

class OllamaWire : public Wire {
 public:
  std::string default_base_url() const override { return "http://localhost:11434"; }
  std::string default_key_env() const override { return ""; }
  std::string path() const override { return "/api/chat"; }
  Framing framing() const override { return Framing::kLines; }

  json request(const std::vector<Message>& conversation,
               const CallSettings& settings) const override {
    json messages = json::array();
    for (const Message& message : joined_by_role(conversation)) {
      messages.push_back({{"role", message.role}, {"content", message.text}});
    }
    json body = {{"model", settings.model},
                 {"messages", messages},
                 {"stream", settings.stream},
                 {"keep_alive", "1h"},  // longer than an experiment, or it is loaded each time
                 {"options",
                  {{"num_ctx", context_for(conversation, settings)},
                   {"num_predict", room_for(conversation, settings)}}}};
    if (settings.temperature) body["options"]["temperature"] = *settings.temperature;
    if (!settings.effort.empty()) body["think"] = settings.effort;
    return body;
  }

  std::vector<std::string> droppable() const override { return {"think", "keep_alive", "stream"}; }

  // The answer gets at least a quarter of the context, or its whole room where that is less.
  bool fits(const std::vector<Message>& conversation, const CallSettings& settings) const override {
    const int64_t least = std::min(settings.room, settings.context_tokens / 4);
    return settings.context_tokens == 0 || room_for(conversation, settings) >= least;
  }

  void take_event(const json& event, Answer& answer) const override {
    answer.text += text_of(member(event, "message", "content"));
    answer.text += text_of(member(event, "response"));  // as an answer without turns has it
    answer.thoughts += text_of(member(event, "message", "thinking"));
    answer.reasoned = !answer.thoughts.empty();
    if (member(event, "done") != true) return;
    answer.finished = answer.ended = true;
    answer.counted = member(event, "eval_count").is_number();
    take_end(text_of(member(event, "done_reason")), answer);
    answer.tokens_in = count_of(member(event, "prompt_eval_count"));
    answer.tokens_out = count_of(member(event, "eval_count"));
  }

  void take_document(const json& document, Answer& answer) const override {
    answer.malformed |=
        !member(document, "message").is_object() && !member(document, "response").is_string();
    take_event(document, answer);
  }
};

}  // namespace

std::unique_ptr<Wire> ollama_wire() { return std::make_unique<OllamaWire>(); }

}  // namespace autoresearch
