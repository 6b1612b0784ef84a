// OpenAI's chat completions, as many servers speak them: OpenAI, OpenRouter, DeepSeek, Gemini's
// compatible endpoint, vLLM, llama.cpp, LM Studio, Ollama under /v1.

#include <algorithm>

#include "agent/llm/wire.h"

namespace autoresearch {
namespace {

using nlohmann::json;

// OpenRouter names Anthropic's models so, and passes their cache marks on.
bool takes_cache_marks(const CallSettings& settings) {
  return settings.model.starts_with("anthropic/") && settings.has("cache_control");
}

json content_with_mark(const Message& message, const CallSettings& settings) {
  json mark = {{"type", "ephemeral"}};
  if (settings.has("ttl")) mark["ttl"] = "1h";
  return json::array({{{"type", "text"}, {"text", message.text}, {"cache_control", mark}}});
}

void take_usage(const json& document, Answer& answer) {
  const json& usage = member(document, "usage");
  if (!usage.is_object()) return;
  answer.counted = true;
  answer.tokens_in = count_of(member(usage, "prompt_tokens"));
  // Some servers leave reasoning out of completion_tokens, but not out of the sum.
  const int64_t completion = count_of(member(usage, "completion_tokens"));
  answer.tokens_out =
      std::max(completion, count_of(member(usage, "total_tokens")) - answer.tokens_in);
  answer.tokens_cached = count_of(member(member(usage, "prompt_tokens_details"), "cached_tokens"));
  if (answer.tokens_cached == 0) {
    answer.tokens_cached = count_of(member(usage, "prompt_cache_hit_tokens"));  // DeepSeek
  }
  answer.tokens_reasoning =
      std::max(count_of(member(member(usage, "completion_tokens_details"), "reasoning_tokens")),
               answer.tokens_out - completion);
  const json& cost = member(usage, "cost");  // OpenRouter
  if (cost.is_number() && cost.get<double>() >= 0) answer.cost = cost.get<double>();
}

// `message` is a choice's "message" of a whole answer, or "delta" of an event.
void take_message(const json& message, Answer& answer) {
  answer.text += content_of(member(message, "content"));
  for (const char* name : {"reasoning_content", "reasoning", "thinking"}) {
    const std::string thought = text_of(member(message, name));
    if (thought.empty()) continue;
    answer.reasoned = true;
    answer.thoughts += thought;
    break;  // routers say the same under two names
  }
  answer.refusal += text_of(member(message, "refusal"));
}

void take_choice(const json& choice, const char* message, Answer& answer) {
  take_message(member(choice, message), answer);
  take_end(text_of(member(choice, "finish_reason")), answer);
  if (is_error(member(choice, "error"))) answer.error = member(choice, "error");  // OpenRouter
}

const json& choices_of(const json& document) {
  static const json none = json::array();
  const json& choices = member(document, "choices");
  return choices.is_array() ? choices : none;
}

// Only one answer was asked for; some servers give more, mixed.
const json& first_choice(const json& document) {
  static const json nothing;
  for (const json& choice : choices_of(document))
    if (count_of(member(choice, "index")) == 0) return choice;
  return nothing;
}

class OpenAiWire : public Wire {
 public:
  std::string default_base_url() const override { return "https://api.openai.com/v1"; }
  std::string default_key_env() const override { return "OPENAI_API_KEY"; }
  std::string path() const override { return "/chat/completions"; }

  std::vector<std::string> headers(const std::string& key, bool) const override {
    if (key.empty()) return {};
    return {"Authorization: Bearer " + key};
  }

  json request(const std::vector<Message>& conversation,
               const CallSettings& settings) const override {
    const bool marks = takes_cache_marks(settings);
    json messages = json::array();
    for (const Message& message : marks ? conversation : joined_by_role(conversation)) {
      const bool marked = marks && message.cache_after;
      messages.push_back(
          {{"role", message.role},
           {"content", marked ? content_with_mark(message, settings) : json(message.text)}});
    }
    // The newer models of OpenAI itself refuse the older name.
    const char* limit = settings.has("max_tokens") ? "max_tokens" : "max_completion_tokens";
    json body = {{"model", settings.model}, {"messages", messages}, {limit, settings.room}};
    if (settings.stream) body["stream"] = true;
    if (settings.stream) body["stream_options"] = {{"include_usage", true}};
    if (settings.temperature) body["temperature"] = *settings.temperature;
    if (!settings.effort.empty()) body["reasoning_effort"] = settings.effort;
    return body;
  }

  std::vector<std::string> droppable() const override {
    return {"max_tokens",       "stream_options", "stream", "temperature",
            "reasoning_effort", "cache_control",  "ttl"};
  }

  void take_event(const json& event, Answer& answer) const override {
    const json& choice = first_choice(event);
    take_choice(choice, member(choice, "delta").is_object() ? "delta" : "message", answer);
    take_usage(event, answer);
    // The chunk that only counts tokens is the last one, also where no [DONE] follows.
    answer.ended = answer.finished && answer.counted && choices_of(event).empty();
  }

  void take_document(const json& document, Answer& answer) const override {
    const json& choice = first_choice(document);
    if (!member(choice, "message").is_object()) {
      answer.malformed = true;
      return;
    }
    answer.finished = true;  // though not every server gives a whole answer a finish_reason
    take_choice(choice, "message", answer);
    take_usage(document, answer);
  }
};

}  // namespace

std::unique_ptr<Wire> openai_wire() { return std::make_unique<OpenAiWire>(); }

}  // namespace autoresearch
