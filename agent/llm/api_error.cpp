#include "agent/llm/api_error.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstdlib>
#include <map>
#include <optional>
#include <set>
#include <string_view>

#include "agent/llm/wire.h"
#include "common/json.h"
#include "common/text.h"

namespace autoresearch {
namespace {

using nlohmann::json;

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
std::string words_of_list(const json& list) {
  std::string words;
  for (const json& each : list) {
    const json& place = list_of(member(each, "loc"));
    for (const json& step : place)
      words += string_or_number(step) + (step == place.back() ? ": " : ".");
    words += words_of(each) + " ";
  }
  return trim(words);
}

// The text of an HTML page: what stands outside of its tags.
std::string text_of_page(const std::string& page) {
  std::string text;
  for (size_t at = 0; at < page.size();) {
    const size_t tag = std::min(page.find('<', at), page.size());
    text += page.substr(at, tag - at) + " ";
    at = std::min(page.find('>', tag), page.size() - 1) + 1;
  }
  return trim(text);
}

// Google's: {"details": [{"@type": "...QuotaFailure", "violations": [{"quotaId": "...PerDay..."}]},
// {"@type": "...RetryInfo", "retryDelay": "27s"}]}.
void take_details(const json& error, ApiError& result) {
  for (const json& detail : list_of(member(error, "details"))) {
    for (const json& violation : list_of(member(detail, "violations")))
      result.type += " " + text_of(member(violation, "quotaId"));
    const double seconds = std::strtod(text_of(member(detail, "retryDelay")).c_str(), nullptr);
    if (result.retry_after == 0 && std::isfinite(seconds) && seconds > 0)
      result.retry_after = std::min(seconds, 86400.0);
  }
}

ApiError from_object(long status, const json& error) {
  ApiError result;
  result.status = status;
  result.code = string_or_number(member(error, "code"));
  result.type = text_of(member(error, "type"));
  result.param = text_of(member(error, "param"));
  result.message = words_of(error);
  take_details(error, result);
  // OpenRouter: the words of the server behind it.
  const std::string raw = text_of(member(error, "metadata", "raw"));
  if (!raw.empty()) result.message += (result.message.empty() ? "" : ": ") + raw;
  return result;
}

std::string all_words(const ApiError& error) {
  return lower(error.code + " " + error.type + " " + error.message);
}

constexpr int64_t kLeastRoom = 1024;  // tokens; less holds no edit

// Of everything in the words that is written in digits.
std::vector<int64_t> numbers_in(const std::string& words) {
  std::vector<int64_t> numbers;
  for (size_t i = 0; i < words.size(); ++i) {
    const auto is_digit = [&](size_t at) {
      return std::isdigit(static_cast<unsigned char>(words[at]));
    };
    if (is_digit(i) && (i == 0 || !is_word_char(words[i - 1])))
      numbers.push_back(std::strtoll(words.c_str() + i, nullptr, 10));
  }
  return numbers;
}

// The tokens that credit pays for: "You requested up to 12000 tokens, but can only afford 3100". 0:
// the words name none.
int64_t affordable_tokens(const ApiError& error) {
  const std::string words = lower(error.message);
  const size_t afford = words.find("afford");
  const bool of_credit =
      error.status == 402 && has_any(words, {"token"}) && has_any(words, {"credit", "balance"});
  if (afford == std::string::npos && !of_credit) return 0;
  const std::vector<int64_t> numbers =
      numbers_in(afford == std::string::npos ? words : words.substr(afford));
  if (afford != std::string::npos) return numbers.empty() ? 0 : numbers.front();
  const auto least = std::min_element(numbers.begin(), numbers.end());
  return least == numbers.end() ? 0 : *least;
}

// What pays is known by its meaning as well: something of an account, and it is not enough.
bool out_of_credit(const ApiError& error) {
  if (error.status == 402) return true;
  const std::string words = all_words(error);
  if (has_any(words, {"insufficient_quota", "billing_hard_limit", "billing_not_active",
                      "billing_error", "spend limit", "spending limit", "spend_limit",
                      "usage limit", "perday", "-per-day", "recharge", "top up", "key limit",
                      "past due", "arrear", "good standing", "余额不足", "额度不足", "欠费"}))
    return true;
  const bool each_minute = error.retry_after > 0 || has_any(words, {"perminute", "per minute"});
  if (each_minute || error.status >= 500 || error.status == 404) return false;
  if (has_any(words, {"billing details"})) return true;
  if (has_any(words, {"budget_tokens", "thinking budget", "thinking_budget"})) return false;
  return has_any(words, {"credit", "balance", "funds", "budget", "free tier", "free trial",
                         "trial period", "trial has", "payment"}) &&
         has_any(words, {"insufficient", "not enough", "no credit", "out of ", "exhausted",
                         "exceeded", "expired", "used up", "run out", "ran out", "too low", "more ",
                         "required", "does not", "is not", "ended", "credit balance"});
}

// A parameter's own refusal, such as "body.temperature: Input should be less than 2".
bool about_a_parameter(const ApiError& error) {
  const auto is_prompt = [](std::string_view name) {
    return name.starts_with("messages") || name.starts_with("prompt") || name.starts_with("input");
  };
  const std::string_view message = error.message;
  constexpr std::string_view kBody = "body.";
  if (message.starts_with(kBody)) return !is_prompt(message.substr(kBody.size()));
  return !error.param.empty() && !is_prompt(error.param);
}

// Whether the words hold two numbers that may be sizes in tokens.
bool two_sizes(const std::string& words) {
  constexpr int64_t kLeast = 1000;
  const std::vector<int64_t> numbers = numbers_in(words);
  return std::count_if(numbers.begin(), numbers.end(), [](int64_t n) { return n >= kLeast; }) > 1;
}

// Every server says it in its own words, so it is known by its meaning: something of a conversation
// is more than something allows. A wrong guess costs one shorter try.
bool says_too_long(const ApiError& error) {
  static const std::set<long> statuses = {400, 402, 403, 413, 422, 424, 500};
  if (!statuses.contains(error.status) || about_a_parameter(error)) return false;
  const std::string words = all_words(error);
  if (has_any(words, {"per minute", "per day", "tpm", "rate limit", "rate_limit", "expired",
                      "deadline", "context canceled", "context cancelled", "timed out"}))
    return false;
  if (!has_any(words, {"prompt", "input", "context", "token", "message", "conversation", "sequence",
                       "text", "request body", "payload", "kv cache", "n_ctx", "输入", "上下文"}))
    return false;
  return has_any(words,
                 {"exceed",      "too long",     "too large",    "too big",      "too many",
                  "longer than", "larger than",  "greater than", "more than",    "less than",
                  "fewer than",  "smaller than", "at most",      "maximum",      "max length",
                  "max_length",  "<=",           "range",        "overflow",     "shorten",
                  "reduce the",  "not fit",      "out of space", "length limit", "shorter",
                  "surpass",     "above",        "over the",     "max input",    "is full",
                  "free space",  "超长",         "过长",         "超过",         "超出"}) ||
         (two_sizes(words) && has_any(words, {"limit", "support", "available", "handle", "takes",
                                              "allow", "n_ctx", " > ", "vs"}));
}

bool about_length(const ApiError& error) {
  if (error.status == 413) return true;
  return says_too_long(error) ||
         has_any(all_words(error),
                 {"context_length_exceeded", "exceed_context_size", "context length",
                  "context window", "context size", "context limit", "prompt is too long",
                  "request_too_large", "input token count", "string_above_max_length",
                  // A 429 that no pause mends: the request alone is more than a minute's tokens.
                  "request too large", "request is too large"});
}

bool names_the_room(const std::string& words) {
  return has_any(words, {"max_tokens", "max_completion_tokens", "max_output_tokens",
                         "max_new_tokens", "maxoutputtokens", "num_predict"});
}

bool about_room(const ApiError& error) {
  if (error.status != 400 && error.status != 422) return false;
  const std::string words = all_words(error);
  // vLLM's and OpenAI's words, where prompt and room together are too much.
  if (has_any(words, {"in the completion", "for the completion", "completion tokens requested",
                      "in the output"}))
    return true;
  if (names_the_room(words) && two_sizes(words) &&
      !has_any(words, {"instead", "unsupported param"}))
    return true;
  return names_the_room(words) &&
         has_any(words, {"too large", "at most", "maximum", "less than or equal",
                         "must be <=", "range of", "between", "exceed", "greater than"});
}

// A model that is on its way or busy, though the status says that the request is wrong.
bool is_soon_ready(const ApiError& error) {
  return error.status != 401 && has_any(all_words(error), {"still being",
                                                           "is being pulled",
                                                           "being loaded",
                                                           "is loading",
                                                           "loading model",
                                                           "currently loading",
                                                           "warming up",
                                                           "starting up",
                                                           "not ready yet",
                                                           "overload",
                                                           "try again later",
                                                           "try again in",
                                                           "retry in",
                                                           "retry shortly",
                                                           "temporarily",
                                                           "server busy",
                                                           "is busy",
                                                           "high demand",
                                                           "at capacity",
                                                           "capacity exceeded",
                                                           "concurrent",
                                                           "scaling up",
                                                           "initializ",
                                                           "not loaded yet",
                                                           "upstream connect",
                                                           "connection reset",
                                                           "繁忙",
                                                           "饱和",
                                                           "稍后"});
}

// What the limit leaves beside the prompt, if the words name both, `room`, and perhaps the sum of
// prompt and room; else nothing.
std::optional<int64_t> left_beside_prompt(const std::vector<int64_t>& words, int64_t room) {
  const std::set<int64_t> numbers(words.begin(), words.end());
  if (!numbers.contains(room)) return std::nullopt;
  std::set<int64_t> others = numbers;
  others.erase(room);
  for (const int64_t prompt : numbers) {
    if (others.erase(prompt + room) == 0 || others.size() != 2) continue;
    const int64_t limit = *others.begin() == prompt ? *others.rbegin() : *others.begin();
    return limit - prompt;
  }
  if (others.size() != 2) return std::nullopt;
  const int64_t left = *others.rbegin() - *others.begin();
  return left < room ? std::optional(left) : std::nullopt;
}

}  // namespace

std::string words_of(const json& document) {
  if (document.is_string()) return document.get<std::string>();
  if (document.is_array()) return words_of_list(document);
  if (!document.is_object()) return "";
  for (const char* name : {"message", "msg", "error", "status_msg", "error_message", "errorMessage",
                           "error_msg", "errmsg", "err", "detail", "details", "description",
                           "error_description", "reason", "title", "errors", "base_resp"}) {
    const json& value = member(document, name);
    const bool holds_more = std::string_view(name) != "message";  // an answer's message is none
    if (value.is_string() || (holds_more && value.is_structured()))
      if (std::string words = words_of(value); !words.empty()) return words;
  }
  return "";
}

ApiError read_api_error(long status, const std::string& body) {
  json document = parse_untrusted(body);
  if (document.is_array() && !document.empty()) document = json(document[0]);  // Gemini's
  const json& inner = member(document, "error");
  ApiError error = from_object(status, inner.is_object() ? inner : document);
  if (error.message.empty()) error.message = words_of(document);
  if (error.message.empty())
    error.message = trim(body).starts_with("<") ? text_of_page(body) : body;
  return error;
}

ApiError read_inner_error(const json& object) {
  ApiError error = from_object(500, object);
  if (error.message.empty())
    error.message = object.dump(-1, ' ', true, json::error_handler_t::replace);
  static const std::map<std::string, long> statuses = {
      {"invalid_request_error", 400}, {"invalid_request", 400},     {"authentication_error", 401},
      {"invalid_api_key", 401},       {"billing_error", 402},       {"permission_error", 403},
      {"not_found_error", 404},       {"model_not_found", 404},     {"request_too_large", 413},
      {"rate_limit_error", 429},      {"rate_limit_exceeded", 429}, {"insufficient_quota", 429},
      {"overloaded_error", 529},      {"timeout_error", 504}};
  // FastChat and others put two digits of their own behind the status: 40303.
  long number = std::strtol(error.code.c_str(), nullptr, 10);
  if (number >= 40000 && number < 60000) number /= 100;
  if (number >= 400 && number < 600) error.status = number;
  for (const std::string& name : {error.type, error.code}) {
    if (const auto it = statuses.find(name); it != statuses.end()) error.status = it->second;
  }
  return error;
}

Remedy remedy_for(const ApiError& error, const std::string& should_retry) {
  if (affords_less(error)) return Remedy::kLessRoom;
  if (error.status == 402 && says_too_long(error)) return Remedy::kShorten;
  if (out_of_credit(error)) return Remedy::kNoCredit;
  if (about_room(error)) return Remedy::kLessRoom;
  if (about_length(error)) return Remedy::kShorten;
  if (should_retry == "true") return Remedy::kWait;
  if (should_retry == "false") return Remedy::kGiveUp;
  const bool may_pass = error.status == 408 || error.status == 409 || error.status == 425 ||
                        error.status == 424 || error.status == 429 || error.status >= 498 ||
                        is_soon_ready(error);
  return may_pass ? Remedy::kWait : Remedy::kGiveUp;
}

std::string refused_parameter(const ApiError& error, const std::vector<std::string>& candidates) {
  const bool routed = error.status == 404 && has_word(lower(error.message), "parameters");
  if (error.status != 400 && error.status != 422 && !routed) return "";
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

bool refuses_system_role(const ApiError& error) {
  if (error.status != 400 && error.status != 422 && error.status != 500) return false;
  const std::string words = all_words(error);
  const bool role = has_word(words, "role") || has_word(words, "roles");
  if (role || has_any(words, {"template", "jinja", "first message", "with a user", "with user"}))
    return true;
  if (!has_any(words, {"system", "developer"}) ||
      !has_any(words, {"instruction", "message", "prompt", "author"}))
    return false;
  // A server that fails may speak of a system, too.
  return error.status != 500 || has_any(words, {"not supported", "unsupported", "not support",
                                                "not enabled", "unexpected", "not allowed"});
}

bool affords_less(const ApiError& error) { return affordable_tokens(error) >= kLeastRoom; }

int64_t smaller_room(const ApiError& error, int64_t room) {
  if (const int64_t tokens = affordable_tokens(error); tokens > 0)
    return tokens < room && tokens >= kLeastRoom ? tokens : 0;
  const std::vector<int64_t> numbers = numbers_in(error.message);
  int64_t best = 0;
  for (const int64_t number : numbers)
    if (number < room) best = std::max(best, number);
  if (best < kLeastRoom) best = room / 2;
  best = left_beside_prompt(numbers, room).value_or(best);
  return best < kLeastRoom ? 0 : best;
}

}  // namespace autoresearch
