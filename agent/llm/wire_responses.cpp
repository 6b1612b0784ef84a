// OpenAI's Responses; some models are served by nothing else.

#include "agent/llm/wire.h"

namespace autoresearch {
namespace {

using nlohmann::json;

void take_usage(const json& response, Answer& answer) {
  const json& usage = member(response, "usage");
  if (!usage.is_object()) return;
  answer.counted = true;
  answer.tokens_in = count_of(member(usage, "input_tokens"));
  answer.tokens_cached = count_of(member(member(usage, "input_tokens_details"), "cached_tokens"));
  answer.tokens_out = count_of(member(usage, "output_tokens"));
  answer.tokens_reasoning =
      count_of(member(member(usage, "output_tokens_details"), "reasoning_tokens"));
  const json& cost = member(usage, "cost");
  if (cost.is_number() && cost.get<double>() >= 0) answer.cost = cost.get<double>();
}

// A "response" object, whole or incomplete. Its text replaces what the events before it said.
void take_response(const json& response, Answer& answer) {
  const json& output = member(response, "output");
  std::string text;
  for (const json& item : output.is_array() ? output : json::array()) {
    if (member(item, "type") == "reasoning") answer.reasoned = true;
    if (member(item, "type") != "message") continue;
    const json& content = member(item, "content");
    text += content_of(content);
    for (const json& part : content.is_array() ? content : json::array()) {
      answer.refusal += text_of(member(part, "refusal"));
    }
  }
  if (!text.empty()) answer.text = text;
  if (is_error(member(response, "error"))) answer.error = member(response, "error");
  answer.finished = answer.ended = true;
  const std::string reason = text_of(member(member(response, "incomplete_details"), "reason"));
  take_end(reason.empty() ? text_of(member(response, "status")) : reason, answer);
  take_usage(response, answer);
}

class ResponsesWire : public Wire {
 public:
  std::string default_base_url() const override { return "https://api.openai.com/v1"; }
  std::string default_key_env() const override { return "OPENAI_API_KEY"; }
  std::string path() const override { return "/responses"; }

  std::vector<std::string> headers(const std::string& key, bool) const override {
    if (key.empty()) return {};
    return {"Authorization: Bearer " + key};
  }

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
    json body = {{"model", settings.model}, {"input", input}, {"max_output_tokens", settings.room}};
    if (settings.has("store")) body["store"] = false;
    if (!instructions.empty()) body["instructions"] = instructions;
    if (settings.stream) body["stream"] = true;
    if (settings.temperature) body["temperature"] = *settings.temperature;
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

std::unique_ptr<Wire> openai_responses_wire() { return std::make_unique<ResponsesWire>(); }

}  // namespace autoresearch
