#include "agent/llm/wire.h"

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "agent/edit/thoughts.h"
#include "agent/llm/api_error.h"
#include "common/json.h"
#include "common/text.h"

namespace autoresearch {

// Each in the file of its protocol.
std::unique_ptr<Wire> openai_wire();
std::unique_ptr<Wire> openai_responses_wire();
std::unique_ptr<Wire> anthropic_wire();
std::unique_ptr<Wire> ollama_wire();

namespace {

using nlohmann::json;

// Every protocol: its name in --provider, and what makes it.
constexpr std::pair<const char*, std::unique_ptr<Wire> (*)()> kWires[] = {
    {"openai", openai_wire},
    {"openai-responses", openai_responses_wire},
    {"anthropic", anthropic_wire},
    {"ollama", ollama_wire},
};

constexpr size_t kMaxAnswer = 64 << 20;  // a server that never stops sending is broken

constexpr int kMostPassedOver = 50;  // lines that are no JSON, until the rest is none either

// Whether a block of an edit was begun and not closed.
bool has_open_block(const std::string& text) {
  const size_t last = text.rfind("<<<<<<< SEARCH");
  return last != std::string::npos && text.find(">>>>>>> REPLACE", last) == std::string::npos;
}

void judge_end(Answer& answer) {
  const Ending ending = answer.end.empty() ? Ending::kNormal : ending_of(answer.end);
  const bool unfinished = trim(answer.text).empty() || has_open_block(answer.text);
  answer.truncated = ending == Ending::kCut;
  if (ending == Ending::kRefused && answer.refusal.empty()) answer.refusal = answer.end;
  if (ending == Ending::kBroken || (ending == Ending::kUnknown && unfinished))
    answer.odd_end = answer.end;
}

}  // namespace

std::vector<std::string> wire_kinds() {
  std::vector<std::string> names;
  for (const auto& [name, make] : kWires) names.push_back(name);
  return names;
}

std::unique_ptr<Wire> make_wire(const std::string& kind) {
  for (const auto& [name, make] : kWires)
    if (kind == name) return make();
  return nullptr;
}

std::vector<std::string> Wire::headers(const std::string& key, bool) const {
  if (key.empty()) return {};
  return {"Authorization: Bearer " + key};
}

bool AnswerReader::feed(std::string_view bytes) {
  bytes_ += bytes.size();
  if (bytes_ > kMaxAnswer) answer_.malformed = true;
  if (!begun_) {
    const size_t first = bytes.find_first_not_of(" \t\r\n\xEF\xBB\xBF");  // and no byte-order mark
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
  if (whole_) {
    take_document();
  } else {
    events_.finish([this](const std::string& data) { take(data); });
    lines_.finish([this](std::string_view line) { take(std::string(line)); });
    answer_.malformed |= answer_.passed_over > 0 && last_.is_null();
  }
  // What is no answer, but says something, is a refusal in a dialect of its own.
  const bool nothing = answer_.text.empty() && !answer_.reasoned && answer_.refusal.empty();
  if (nothing && answer_.error.is_null() && !answer_.finished && !words_of(last_).empty())
    answer_.error = last_;
  if (mended_) {
    for (std::string* text : {&answer_.text, &answer_.thoughts, &answer_.refusal})
      *text = rejoined(*text);
  }
  CutText cut = cut_thoughts(answer_.text);
  answer_.text = std::move(cut.answer);
  answer_.reasoned |= cut.thought;
  if (answer_.thoughts.empty()) answer_.thoughts = std::move(cut.unclosed);
  judge_end(answer_);
  return answer_;
}

// One JSON document, or many, each in a line of its own.
void AnswerReader::take_document() {
  last_ = parse(document_);
  if (last_.is_array() && last_.size() == 1) last_ = json(last_[0]);
  if (!last_.is_object()) {
    take(document_);
    answer_.malformed |= !last_.is_object();
    return;
  }
  const json& error = member(last_, "error");
  if (is_error(error))
    answer_.error = error;
  else
    wire_.take_document(last_, answer_);
}

json with_settings(json body, const CallSettings& settings) {
  body["model"] = settings.model;
  if (settings.stream) body["stream"] = true;
  if (settings.temperature) body["temperature"] = *settings.temperature;
  return body;
}

// Null for what is no JSON.
json AnswerReader::parse(std::string_view text) {
  json value = parse_untrusted(text);
  if (!value.is_null()) return value;
  value = parse_untrusted(with_stand_ins(text));
  mended_ |= !value.is_null();
  return value;
}

void AnswerReader::take(std::string data) {
  if (answer_.ended || answer_.malformed || !answer_.error.is_null()) return;
  data = trim(data);
  while (data.starts_with("data:")) data = trim(data.substr(5));  // some gateways frame them twice
  if (data.empty()) return;
  if (data == "[DONE]") {  // which does not say that the answer is whole
    answer_.ended = true;
    return;
  }
  json event = parse(data);
  if (event.is_null() && data.find('\n') != std::string::npos) {  // no blank line between events
    for (const std::string& line : split_lines(data)) take(line);
  } else if (event.is_array() && !event.empty()) {
    for (const json& each : event) take_event(each);
  } else if (event.is_object()) {
    take_event(event);
  } else {
    const bool too_many = ++answer_.passed_over > kMostPassedOver;
    answer_.malformed |= !answer_.finished && (too_many || data.starts_with("{"));
  }
}

void AnswerReader::take_event(const json& event) {
  if (!answer_.error.is_null()) return;
  last_ = event;
  const json& error = member(last_, "error");
  if (!is_error(error))
    wire_.take_event(last_, answer_);
  else if (!answer_.finished || answer_.text.empty())
    answer_.error = error;
}

bool is_error(const json& value) {
  if (value.is_string()) return value != "";
  return value.is_object() && std::any_of(value.begin(), value.end(), [](const json& member) {
           return !member.is_null() && member != "" && member != 0 && member != false;
         });
}

const json& member(const json& object, const char* key) {
  static const json nothing;
  if (!object.is_object()) return nothing;
  const auto it = object.find(key);
  return it == object.end() ? nothing : *it;
}

const json& list_of(const json& value) {
  static const json none = json::array();
  return value.is_array() ? value : none;
}

std::string text_of(const json& value) { return value.is_string() ? value.get<std::string>() : ""; }

int64_t count_of(const json& value) {
  constexpr double kMost = 1e12;
  const double number = value.is_number()   ? value.get<double>()
                        : value.is_string() ? std::atof(value.get<std::string>().c_str())
                                            : 0;
  return number > 0 ? static_cast<int64_t>(std::min(number, kMost)) : 0;
}

void take_end(const std::string& reason, Answer& answer) {
  const std::string word = lower(trim(reason));
  static const std::set<std::string> kNone = {"",    "null",        "none",        "undefined",
                                              "nil", "in_progress", "not_finished"};
  if (kNone.contains(word) || has_any(word, {"unspecified"})) return;
  answer.end = reason;
  answer.finished = true;
}

Ending ending_of(const std::string& word) {
  const std::string name = lower(word);
  if (has_any(name, {"filter", "refus", "safety", "sensitive", "recitation", "prohibit", "block",
                     "moderat", "guardrail", "spii", "policy", "violat", "unsafe", "toxic", "harm",
                     "risk", "censor"}))
    return Ending::kRefused;
  if (has_any(name, {"error",     "abort",      "cancel",        "fail",       "timeout",
                     "interrupt", "tool",       "function_call", "pause",      "insufficient",
                     "overload",  "disconnect", "incomplete",    "unload",     "exception",
                     "kill",      "evict",      "preempt",       "shutdown",   "crash",
                     "deadline",  "timed_out",  "lost",          "rate_limit", "resource"}))
    return Ending::kBroken;
  if (has_any(name, {"length", "max_", "limit", "context", "truncat", "budget", "out_of"}))
    return Ending::kCut;
  if (has_any(name, {"stop", "end", "eos", "complete", "done", "finish"})) return Ending::kNormal;
  return Ending::kUnknown;
}

std::string content_of(const json& content) {
  if (content.is_object()) return text_of(member(content, "text"));
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
