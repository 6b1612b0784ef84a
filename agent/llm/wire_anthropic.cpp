// Anthropic's Messages. Caching is explicit: a mark after a block caches all before it, for an
// hour; the default five minutes would expire between two experiments.

#include <algorithm>

#include "agent/llm/wire.h"

namespace autoresearch {
namespace {

using nlohmann::json;

constexpr size_t kMaxMarks = 4;  // more are refused
constexpr int64_t kLeastThinking = 1024;

json block_of(const Message& message, bool marked, const CallSettings& settings) {
  json block = {{"type", "text"}, {"text", message.text}};
  if (!marked || !settings.has("cache_control")) return block;
  block["cache_control"] = {{"type", "ephemeral"}};
  if (settings.has("ttl")) block["cache_control"]["ttl"] = "1h";
  return block;
}

// Tokens of the room that may go into thinking.
int64_t thinking_budget(const CallSettings& settings) {
  const int64_t quarters = settings.effort == "low" ? 1 : settings.effort == "medium" ? 2 : 3;
  return std::max(kLeastThinking, settings.room * quarters / 4);
}

void take_usage(const json& usage, Answer& answer) {
  if (!usage.is_object()) return;
  answer.counted = true;
  const auto newer = [&](const char* name, int64_t old) {
    return member(usage, name).is_number() ? count_of(member(usage, name)) : old;
  };
  // input_tokens counts only what was neither read from the cache nor written into it.
  int64_t fresh = answer.tokens_in - answer.tokens_cached - answer.tokens_cache_written;
  fresh = newer("input_tokens", fresh);
  answer.tokens_cached = newer("cache_read_input_tokens", answer.tokens_cached);
  answer.tokens_cache_written = newer("cache_creation_input_tokens", answer.tokens_cache_written);
  answer.tokens_in = fresh + answer.tokens_cached + answer.tokens_cache_written;
  answer.tokens_out = newer("output_tokens", answer.tokens_out);
}

// A block of a whole answer, the beginning of one, or a piece of one, whose type ends in "_delta".
void take_block(const json& block, Answer& answer) {
  const std::string type = text_of(member(block, "type"));
  answer.reasoned |= type.find("thinking") != std::string::npos;  // also what is redacted
  answer.thoughts += text_of(member(block, "thinking"));
  if (type.empty() || type.starts_with("text")) answer.text += text_of(member(block, "text"));
}

class AnthropicWire : public Wire {
 public:
  std::string default_base_url() const override { return "https://api.anthropic.com/v1"; }
  std::string default_key_env() const override { return "ANTHROPIC_API_KEY"; }
  std::string path() const override { return "/messages"; }

  // Gateways that speak this protocol want the key as all others do.
  std::vector<std::string> headers(const std::string& key, bool at_home) const override {
    auto lines = at_home ? std::vector<std::string>() : Wire::headers(key, at_home);
    lines.push_back("anthropic-version: 2023-06-01");
    if (!key.empty()) lines.push_back("x-api-key: " + key);
    return lines;
  }

  json request(const std::vector<Message>& conversation,
               const CallSettings& settings) const override {
    json system = json::array(), messages = json::array();
    size_t marks = 0;
    for (const Message& message : conversation) {
      const bool marked = message.cache_after && marks < kMaxMarks;
      marks += marked;
      const json block = block_of(message, marked, settings);
      if (message.role == "system") {
        system.push_back(block);
      } else if (!messages.empty() && messages.back()["role"] == message.role) {
        messages.back()["content"].push_back(block);
      } else {
        messages.push_back({{"role", message.role}, {"content", json::array({block})}});
      }
    }
    json body = with_settings({{"max_tokens", settings.room}, {"messages", messages}}, settings);
    if (!system.empty()) body["system"] = system;
    const int64_t thinking = thinking_budget(settings);
    if (!settings.effort.empty() && thinking < settings.room) {
      body["thinking"] = {{"type", "enabled"}, {"budget_tokens", thinking}};
    }
    return body;
  }

  std::vector<std::string> droppable() const override {
    return {"temperature", "thinking", "ttl", "cache_control", "stream"};
  }

  void take_event(const json& event, Answer& answer) const override {
    const std::string type = text_of(member(event, "type"));
    if (type == "message_start") take_usage(member(event, "message", "usage"), answer);
    if (type == "content_block_start") take_block(member(event, "content_block"), answer);
    if (type == "content_block_delta") take_block(member(event, "delta"), answer);
    if (type == "message_delta") {
      take_end(text_of(member(event, "delta", "stop_reason")), answer);
      take_usage(member(event, "usage"), answer);
    }
    if (type == "message_stop") answer.ended = true;
  }

  void take_document(const json& document, Answer& answer) const override {
    const json& content = member(document, "content");
    answer.text += text_of(content);  // some gateways give no list of blocks
    if (!content.is_array() && !content.is_string()) {
      answer.malformed = true;
      return;
    }
    for (const json& block : list_of(content)) take_block(block, answer);
    answer.finished = true;
    take_end(text_of(member(document, "stop_reason")), answer);
    take_usage(member(document, "usage"), answer);
  }
};

}  // namespace

std::unique_ptr<Wire> anthropic_wire() { return std::make_unique<AnthropicWire>(); }

}  // namespace autoresearch
