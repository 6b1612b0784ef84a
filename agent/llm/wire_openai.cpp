// OpenAI's two protocols. Chat completions, as many servers speak them: OpenAI, OpenRouter,
// DeepSeek, Gemini's compatible endpoint, vLLM, llama.cpp, LM Studio, Ollama under /v1. And
// Responses: some models are served by nothing else.

#include <algorithm>
#include <string_view>

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

// `prompt` and `completion`: how the protocol calls what goes in and what comes out.
void take_usage(const json& document, const std::string& prompt, const std::string& completion,
                Answer& answer) {
  const json& own = member(document, "usage");
  const json& usage = own.is_object() ? own : member(document, "x_groq", "usage");
  const auto count = [&](auto... keys) { return count_of(member(usage, keys...)); };
  // Gateways to other protocols keep those names.
  const auto either = [&](const std::string& name, const char* other) {
    const int64_t tokens = count((name + "_tokens").c_str());
    return tokens > 0 ? tokens : count(other);
  };
  const int64_t tokens_in = either(prompt, "input_tokens");
  // Some servers leave reasoning out of completion_tokens, but not out of the sum.
  const int64_t told = either(completion, "output_tokens");
  if (tokens_in + told == 0) return;  // it names no number
  answer.counted = true;
  answer.tokens_in = tokens_in;
  answer.tokens_out = std::max(told, count("total_tokens") - answer.tokens_in);
  answer.tokens_cached = count((prompt + "_tokens_details").c_str(), "cached_tokens");
  for (const char* name : {"prompt_cache_hit_tokens", "cached_tokens"})  // DeepSeek, Moonshot
    if (answer.tokens_cached == 0) answer.tokens_cached = count(name);
  answer.tokens_reasoning =
      std::max(count((completion + "_tokens_details").c_str(), "reasoning_tokens"),
               answer.tokens_out - told);
  const json& cost = member(usage, "cost");  // OpenRouter
  if (cost.is_number() && cost.get<double>() >= 0) answer.cost = cost.get<double>();
}

class OpenAiWire : public Wire {
 public:
  std::string default_base_url() const override { return "https://api.openai.com/v1"; }
  std::string default_key_env() const override { return "OPENAI_API_KEY"; }
};

// ------------------------------------------------------------------------------------------------
// Chat completions

// What a field for thoughts says: a text, or parts that have one.
std::string thought_in(const json& field) {
  if (field.is_object())
    for (const char* name : {"thinking", "text", "content"})
      if (const json& inner = member(field, name); !inner.is_null()) return thought_in(inner);
  if (!field.is_array()) return text_of(field);
  std::string thought;
  for (const json& part : field) thought += thought_in(part);
  return thought;
}

// `message` is a choice's "message" of a whole answer, or "delta" of an event.
void take_message(const json& message, Answer& answer) {
  answer.text += content_of(member(message, "content"));
  for (const char* name : {"reasoning_content", "reasoning", "thinking", "reasoning_details"}) {
    const std::string thought = thought_in(member(message, name));
    if (thought.empty()) continue;
    answer.reasoned = true;
    answer.thoughts += thought;
    break;  // routers say the same under two names
  }
  answer.refusal += text_of(member(message, "refusal"));
}

// The word for an answer's end, under the names that servers have for it; some number them.
std::string end_in(const json& choice) {
  for (const char* name : {"finish_reason", "finishReason", "stop_reason"}) {
    const json& value = member(choice, name);
    const json& word = value.is_object() ? member(value, "type") : value;
    if (word.is_number()) return word == 0 ? "" : word.dump();
    if (!text_of(word).empty()) return text_of(word);
  }
  return "";
}

void take_choice(const json& choice, const char* message, Answer& answer) {
  const size_t before = answer.text.size();
  take_message(member(choice, message), answer);
  answer.text += text_of(member(choice, "text"));  // as completions without turns have it
  // A whole message behind or among pieces of itself takes their place.
  if (message == std::string_view("message") && before > 0 && answer.text.size() >= 2 * before &&
      answer.text.compare(before, before, answer.text, 0, before) == 0)
    answer.text.erase(0, before);
  take_end(end_in(choice), answer);
  if (is_error(member(choice, "error"))) answer.error = member(choice, "error");  // OpenRouter
}

// Only one answer was asked for; some servers give more, mixed.
const json& first_choice(const json& document) {
  static const json nothing;
  for (const json& choice : list_of(member(document, "choices")))
    if (count_of(member(choice, "index")) == 0) return choice;
  return nothing;
}

// The document that has the choices, which some gateways wrap: {"code": 0, "data": {"choices":
// ...}}.
const json& unwrapped(const json& document) {
  if (member(document, "choices").is_array()) return document;
  const auto inner = std::find_if(document.begin(), document.end(), [](const json& part) {
    return member(part, "choices").is_array();
  });
  return inner == document.end() ? document : *inner;
}

class ChatWire : public OpenAiWire {
 public:
  std::string path() const override { return "/chat/completions"; }

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
    json body = with_settings({{"messages", messages}, {limit, settings.room}}, settings);
    if (settings.stream) body["stream_options"] = {{"include_usage", true}};
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
    take_usage(event, "prompt", "completion", answer);
    // The chunk that only counts tokens is the last one, also where no [DONE] follows.
    answer.ended = answer.finished && answer.counted && list_of(member(event, "choices")).empty();
  }

  void take_document(const json& document, Answer& answer) const override {
    const json& choice = first_choice(unwrapped(document));
    if (!member(choice, "message").is_object() && !member(choice, "text").is_string()) {
      answer.malformed = true;
      return;
    }
    answer.finished = true;  // though not every server gives a whole answer a finish_reason
    take_choice(choice, "message", answer);
    take_usage(document, "prompt", "completion", answer);
    if (!answer.counted) take_usage(unwrapped(document), "prompt", "completion", answer);
  }
};

// ------------------------------------------------------------------------------------------------
// Responses

// A "response" object, whole or incomplete. Its text replaces what the events before it said.
void take_response(const json& response, Answer& answer) {
  std::string text;
  for (const json& item : list_of(member(response, "output"))) {
    if (member(item, "type") == "reasoning") answer.reasoned = true;
    if (member(item, "type") != "message") continue;
    const json& content = member(item, "content");
    text += content_of(content);
    for (const json& part : list_of(content)) answer.refusal += text_of(member(part, "refusal"));
  }
  if (text.empty() && answer.text.empty()) text = text_of(member(response, "output_text"));
  if (!text.empty()) answer.text = text;
  if (is_error(member(response, "error"))) answer.error = member(response, "error");
  answer.finished = answer.ended = true;
  const std::string reason = text_of(member(response, "incomplete_details", "reason"));
  take_end(reason.empty() ? text_of(member(response, "status")) : reason, answer);
  take_usage(response, "input", "output", answer);
}

class ResponsesWire : public OpenAiWire {
 public:
  std::string path() const override { return "/responses"; }

  json request(const std::vector<Message>& conversation,
               const CallSettings& settings) const override {
    std::string instructions;
    json input = json::array();
    for (const Message& message : joined_by_role(conversation)) {
      if (message.role == "system") {
        instructions += message.text;
      } else {
        input.push_back({{"role", message.role}, {"content", message.text}});
      }
    }
    json body = with_settings({{"input", input}, {"max_output_tokens", settings.room}}, settings);
    if (settings.has("store")) body["store"] = false;
    if (!instructions.empty()) body["instructions"] = instructions;
    if (!settings.effort.empty()) body["reasoning"] = {{"effort", settings.effort}};
    return body;
  }

  std::vector<std::string> droppable() const override {
    return {"store", "temperature", "reasoning", "stream"};
  }

  void take_event(const json& event, Answer& answer) const override {
    const std::string type = text_of(member(event, "type"));
    if (type == "response.output_text.delta") answer.text += text_of(member(event, "delta"));
    if (type == "response.refusal.delta") answer.refusal += text_of(member(event, "delta"));
    if (type == "response.output_text.done" && answer.text.empty())
      answer.text = text_of(member(event, "text"));
    if (type.starts_with("response.reasoning")) answer.reasoned = true;
    if (type == "error") answer.error = event;
    if (type == "response.completed" || type == "response.incomplete" ||
        type == "response.failed") {
      take_response(member(event, "response"), answer);
    }
  }

  void take_document(const json& document, Answer& answer) const override {
    if (!member(document, "output").is_array()) {
      answer.malformed = true;
      return;
    }
    take_response(document, answer);
  }
};

}  // namespace

std::unique_ptr<Wire> openai_wire() { return std::make_unique<ChatWire>(); }
std::unique_ptr<Wire> openai_responses_wire() { return std::make_unique<ResponsesWire>(); }

}  // namespace autoresearch
