#include "agent/llm/api_error.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstdlib>
#include <map>

#include "agent/json.h"
#include "agent/llm/wire.h"
#include "agent/text.h"

namespace autoresearch {
namespace {

using nlohmann::json;

bool has_any(const std::string& text, const std::vector<const char*>& parts) {
  return std::any_of(parts.begin(), parts.end(),
                     [&](const char* part) { return text.find(part) != std::string::npos; });
}

bool is_word_char(char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_'; }

// Where `word` stands in `text` and is no part of a longer one.
bool has_word(const std::string& text, const std::string& word) {
  for (size_t at = text.find(word); at != std::string::npos; at = text.find(word, at + 1)) {
    const size_t end = at + word.size();
    if ((at == 0 || !is_word_char(text[at - 1])) &&
        (end == text.size() || !is_word_char(text[end])))
      return true;
  }
  return false;
}

std::string string_or_number(const json& value) {
  return value.is_number_integer() ? std::to_string(value.get<int64_t>()) : text_of(value);
}

// FastAPI's validation errors: {"detail": [{"loc": ["body", "stream_options"], "msg": ...}]}.
std::string words_of_detail(const json& detail) {
  if (!detail.is_array()) return text_of(detail);
  std::string words;
  for (const json& each : detail) {
    const json& place = member(each, "loc");
    for (const json& step : place.is_array() ? place : json::array()) {
      words += string_or_number(step) + (step == place.back() ? ": " : ".");
    }
    words += text_of(member(each, "msg")) + " ";
  }
  return words;
}

// Google's: {"details": [{"@type": "...QuotaFailure", "violations": [{"quotaId":
// "...PerDay..."}]}]}.
std::string quotas_of(const json& error) {
  std::string quotas;
  const json& details = member(error, "details");
  for (const json& detail : details.is_array() ? details : json::array()) {
    const json& violations = member(detail, "violations");
    for (const json& violation : violations.is_array() ? violations : json::array()) {
      quotas += " " + text_of(member(violation, "quotaId"));
    }
  }
  return quotas;
}

// Google's: {"details": [{"@type": "...RetryInfo", "retryDelay": "27s"}]}.
double retry_delay_of(const json& error) {
  const json& details = member(error, "details");
  for (const json& detail : details.is_array() ? details : json::array()) {
    const double seconds = std::strtod(text_of(member(detail, "retryDelay")).c_str(), nullptr);
    if (std::isfinite(seconds) && seconds > 0) return std::min(seconds, 86400.0);
  }
  return 0;
}

ApiError from_object(long status, const json& error) {
  ApiError result;
  result.status = status;
  result.code = string_or_number(member(error, "code"));
  result.type = text_of(member(error, "type")) + quotas_of(error);
  result.param = text_of(member(error, "param"));
  result.message = error.is_string() ? error.get<std::string>() : text_of(member(error, "message"));
  result.retry_after = retry_delay_of(error);
  // OpenRouter: the words of the server behind it.
  const std::string raw = text_of(member(member(error, "metadata"), "raw"));
  if (!raw.empty()) result.message += (result.message.empty() ? "" : ": ") + raw;
  return result;
}

std::string all_words(const ApiError& error) {
  return lower(error.code + " " + error.type + " " + error.message);
}

bool out_of_credit(const ApiError& error) {
  if (error.status == 402) return true;
  return has_any(all_words(error),
                 {"insufficient_quota", "billing_hard_limit", "billing_not_active", "billing_error",
                  "credit balance", "insufficient balance", "insufficient credits", "spend limit",
                  "spending limit", "spend_limit", "usage limit", "perday", "-per-day"});
}

bool about_length(const ApiError& error) {
  if (error.status == 413) return true;
  return has_any(
      all_words(error),
      {"context_length_exceeded", "exceed_context_size", "context length", "context window",
       "context size", "context limit", "prompt is too long", "request_too_large",
       "input is too long", "input token count", "string_above_max_length",
       // A 429 that no pause mends: the request alone is more than a minute's tokens.
       "request too large"});
}

bool about_room(const ApiError& error) {
  if (error.status != 400 && error.status != 422) return false;
  const std::string words = all_words(error);
  // vLLM's and OpenAI's older words, where prompt and room together are too much.
  if (has_any(words, {"in the completion"})) return true;
  return has_any(words, {"max_tokens", "max_completion_tokens", "max_output_tokens"}) &&
         has_any(words, {"too large", "at most", "maximum", "less than or equal",
                         "must be <=", "range of", "between"});
}

}  // namespace

ApiError read_api_error(long status, const std::string& body) {
  json document = parse_untrusted(body);
  if (document.is_array() && !document.empty()) document = json(document[0]);  // Gemini's
  const json& inner = member(document, "error");
  ApiError error = from_object(status, inner.is_null() ? document : inner);
  if (error.message.empty()) error.message = text_of(member(document, "message"));
  if (error.message.empty()) error.message = words_of_detail(member(document, "detail"));
  if (error.message.empty()) error.message = body;
  return error;
}

ApiError read_inner_error(const json& object) {
  ApiError error = from_object(500, object);
  if (error.message.empty())
    error.message = object.dump(-1, ' ', true, json::error_handler_t::replace);
  static const std::map<std::string, long> statuses = {
      {"invalid_request_error", 400}, {"authentication_error", 401}, {"invalid_api_key", 401},
      {"billing_error", 402},         {"permission_error", 403},     {"not_found_error", 404},
      {"model_not_found", 404},       {"request_too_large", 413},    {"rate_limit_error", 429},
      {"rate_limit_exceeded", 429},   {"insufficient_quota", 429},   {"overloaded_error", 529},
      {"timeout_error", 504}};
  for (const std::string& name : {error.type, error.code}) {
    if (const auto it = statuses.find(name); it != statuses.end()) error.status = it->second;
  }
  const long number = std::strtol(error.code.c_str(), nullptr, 10);
  if (number >= 400 && number < 600) error.status = number;
  return error;
}

Remedy remedy_for(const ApiError& error, const std::string& should_retry) {
  if (out_of_credit(error)) return Remedy::kNoCredit;
  if (about_room(error)) return Remedy::kLessRoom;
  if (about_length(error)) return Remedy::kShorten;
  if (should_retry == "true") return Remedy::kWait;
  if (should_retry == "false") return Remedy::kGiveUp;
  const bool may_pass =
      error.status == 408 || error.status == 409 || error.status == 429 || error.status >= 500;
  return may_pass ? Remedy::kWait : Remedy::kGiveUp;
}

std::string refused_parameter(const ApiError& error, const std::vector<std::string>& candidates) {
  if (error.status != 400 && error.status != 422) return "";
  const auto named = [&](const std::string& candidate) {
    if (error.param == candidate || error.param.starts_with(candidate + ".")) return true;
    // An everyday word: only where it is quoted or a path is it the parameter.
    if (candidate == "stream")
      return has_any(error.message, {"'stream'", "\"stream\"", "body.stream:"});
    // "Use 'max_completion_tokens' instead": the new name gives the old one away.
    if (candidate == "max_tokens" && has_word(error.message, "max_completion_tokens")) return true;
    return has_word(error.message, candidate) ||
           (candidate == "think" && has_word(error.message, "thinking"));
  };
  const auto it = std::find_if(candidates.begin(), candidates.end(), named);
  return it == candidates.end() ? "" : *it;
}

bool counts_the_prompt(const ApiError& error) {
  return has_any(all_words(error), {"in the completion", "context", "input tokens", "prompt"});
}

int64_t smaller_room(const ApiError& error, int64_t room) {
  constexpr int64_t kLeast = 1024;  // less holds no edit
  int64_t best = 0;
  for (size_t i = 0; i < error.message.size(); ++i) {
    if (!std::isdigit(static_cast<unsigned char>(error.message[i]))) continue;
    if (i > 0 && is_word_char(error.message[i - 1])) continue;
    const int64_t number = std::strtoll(error.message.c_str() + i, nullptr, 10);
    if (number < room) best = std::max(best, number);
  }
  if (best < kLeast) best = room / 2;
  return best < kLeast ? 0 : best;
}

}  // namespace autoresearch
