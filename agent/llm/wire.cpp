#include "agent/llm/wire.h"

#include <algorithm>
#include <cmath>

#include "agent/json.h"
#include "agent/text.h"

namespace autoresearch {
namespace {

using nlohmann::json;

constexpr size_t kMaxAnswer = 64 << 20;  // a server that never stops sending is broken

// What some local servers leave in the text: the model's thinking, before a closing tag.
void cut_thinking(Answer& answer) {
  constexpr std::string_view kOpen = "<think>", kClose = "</think>";
  const size_t begin = std::min(answer.text.find_first_not_of(" \t\r\n"), answer.text.size());
  const bool opens = answer.text.compare(begin, kOpen.size(), kOpen) == 0;
  const size_t close = answer.text.find(kClose);
  if (close != std::string::npos) {
    answer.text.erase(0, close + kClose.size());
  } else if (opens) {
    answer.text.clear();
  }
  answer.reasoned |= opens || close != std::string::npos;
}

}  // namespace

std::unique_ptr<Wire> make_wire(const std::string& kind) {
  if (kind == "openai") return openai_wire();
  if (kind == "openai-responses") return openai_responses_wire();
  if (kind == "anthropic") return anthropic_wire();
  if (kind == "ollama") return ollama_wire();
  return nullptr;
}

bool AnswerReader::feed(std::string_view bytes) {
  bytes_ += bytes.size();
  if (bytes_ > kMaxAnswer) answer_.malformed = true;
  if (!begun_) {
    const size_t first = bytes.find_first_not_of(" \t\r\n");
    if (first == std::string_view::npos) return true;
    begun_ = true;
    bytes.remove_prefix(first);  // as what came before it was, alone
    if (wire_.framing() == Framing::kEvents) whole_ = bytes[0] == '{' || bytes[0] == '[';
  }
  if (whole_) {
    document_ += bytes;
  } else if (wire_.framing() == Framing::kEvents) {
    events_.feed(bytes, [this](const std::string& data) { take(data); });
  } else {
    lines_.feed(bytes, [this](std::string_view line) { take(std::string(line)); });
  }
  return !answer_.ended && !answer_.malformed && answer_.error.is_null();
}

Answer AnswerReader::finish() {
  json document = whole_ ? parse_untrusted(document_) : json();
  if (whole_ && !document.is_object() && wire_.framing() == Framing::kLines) {
    lines_.feed(document_, [this](std::string_view line) { take(std::string(line)); });
    whole_ = false;
  }
  if (whole_) {
    answer_.malformed |= !document.is_object();
    answer_.error = member(document, "error");
    if (document.is_object() && answer_.error.is_null()) wire_.take_document(document, answer_);
  } else {
    events_.finish([this](const std::string& data) { take(data); });
    lines_.finish([this](std::string_view line) { take(std::string(line)); });
  }
  cut_thinking(answer_);
  return answer_;
}

void AnswerReader::take(const std::string& data) {
  if (answer_.ended || answer_.malformed || !answer_.error.is_null()) return;
  if (data.find_first_not_of(" \t\r\n") == std::string::npos) return;
  if (data == "[DONE]") {  // which does not say that the answer is whole
    answer_.ended = true;
    return;
  }
  const json event = parse_untrusted(data);
  if (!event.is_object()) {
    answer_.malformed = true;
    return;
  }
  answer_.error = member(event, "error");
  if (answer_.error.is_null()) wire_.take_event(event, answer_);
}

const json& member(const json& object, const char* key) {
  static const json nothing;
  if (!object.is_object()) return nothing;
  const auto it = object.find(key);
  return it == object.end() ? nothing : *it;
}

std::string text_of(const json& value) { return value.is_string() ? value.get<std::string>() : ""; }

int64_t count_of(const json& value) {
  if (!value.is_number()) return 0;
  constexpr double kMost = 1e12;
  const double number = value.get<double>();
  return number > 0 ? static_cast<int64_t>(std::min(number, kMost)) : 0;
}

void take_end(const std::string& reason, Answer& answer) {
  static const std::set<std::string> normal = {"stop",      "stop_sequence", "end_turn", "eos",
                                               "eos_token", "completed",     "complete", "done"};
  static const std::set<std::string> cut = {"length", "max_tokens", "max_output_tokens",
                                            "model_length", "model_context_window_exceeded"};
  static const std::set<std::string> refused = {
      "content_filter", "refusal", "safety", "sensitive", "recitation", "prohibited_content"};
  const std::string name = lower(reason);
  if (name.empty()) return;
  answer.truncated = cut.contains(name);
  if (refused.contains(name) && answer.refusal.empty()) answer.refusal = reason;
  if (!normal.contains(name) && !cut.contains(name) && !refused.contains(name))
    answer.odd_end = reason;
}

std::string content_of(const json& content) {
  if (!content.is_array()) return text_of(content);
  std::string text;
  for (const json& part : content) {
    const json& type = member(part, "type");
    if (part.is_string()) text += part.get<std::string>();
    if (type.is_null() || type == "text" || type == "output_text") {
      text += text_of(member(part, "text"));
    }
  }
  return text;
}

std::vector<Message> joined_by_role(const std::vector<Message>& conversation) {
  std::vector<Message> joined;
  for (const Message& message : conversation) {
    if (joined.empty() || joined.back().role != message.role) {
      joined.push_back(message);
      continue;
    }
    std::string& text = joined.back().text;
    text += text.ends_with("\n") ? "" : "\n";
    text += message.text;
    joined.back().cache_after = message.cache_after;
  }
  return joined;
}

}  // namespace autoresearch
