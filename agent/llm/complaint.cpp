#include "agent/llm/complaint.h"

#include <algorithm>
#include <cstdlib>
#include <regex>

#include "agent/llm/api_error.h"
#include "common/text.h"

namespace autoresearch {
namespace {

constexpr double kDay = 86400;
constexpr double kLongest = 8 * kDay;  // a week's limit is the longest that is met

double number(const std::ssub_match& match) {
  return match.matched ? std::strtod(match.str().c_str(), nullptr) : 0;
}

// "in 1h 30m", "wait 2 hours", "after 20.5s".
double duration_in(const std::string& words) {
  static const std::regex start(
      R"(\b(in|after|wait|within|about|approximately)\b(:|\s|for\b)*(?=\d))");
  static const std::regex part(
      R"(^[\s,]*(?:and\s+)?(\d+(?:\.\d+)?)\s*)"
      R"((days?|d|hours?|hrs?|h|minutes?|mins?|ms|m|seconds?|secs?|s)(?![a-z]))");
  std::smatch match;
  if (!std::regex_search(words, match, start)) return 0;
  double seconds = 0;
  for (std::string rest = match.suffix(); std::regex_search(rest, match, part);) {
    const std::string unit = match[2];
    seconds += number(match[1]) * (unit == "ms"     ? 1e-3
                                   : unit[0] == 'd' ? kDay
                                   : unit[0] == 'h' ? 3600
                                   : unit[0] == 'm' ? 60
                                                    : 1);
    rest = match.suffix().str();
  }
  return seconds;
}

// "5am", "3:30 pm", "05:00", each behind a word that makes a moment of it.
double until_time_of_day(const std::string& words, time_t now) {
  static const std::regex clock(
      R"(\b(?:at|resets?|until|after)\s+(\d{1,2})(?::(\d\d))?(?::\d\d)?\s*(am|pm)?)"
      R"(\b\s*\(?(utc|gmt|z\b)?)");
  std::smatch match;
  if (!std::regex_search(words, match, clock)) return 0;
  if (!match[2].matched && !match[3].matched) return 0;  // "at 5" may be anything
  const bool half = match[3].matched;
  int hour = static_cast<int>(number(match[1]));
  if (hour > (half ? 12 : 24)) return 0;
  if (half) hour = hour % 12 + (match[3] == "pm" ? 12 : 0);
  tm day{};
  const bool utc = match[4].matched;
  utc ? gmtime_r(&now, &day) : localtime_r(&now, &day);
  const double seconds_of_day = 3600.0 * day.tm_hour + 60.0 * day.tm_min + day.tm_sec;
  const double wait = 3600.0 * hour + 60 * number(match[2]) - seconds_of_day;
  return wait > 0 ? wait : wait + kDay;
}

// "Nov 30th, 2025 9:14 AM", "Dec 5 at 3pm (UTC)"; without a year, the next such day.
double until_named_day(const std::string& words, time_t now) {
  constexpr std::string_view kMonths = "janfebmaraprmayjunjulaugsepoctnovdec";
  static const std::regex day_and_time(
      R"(\b(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.? (\d{1,2})(?:st|nd|rd|th)?)"
      R"((?:,? (\d{4}))?,?(?: at)? (\d{1,2})(?::(\d\d))?(?::\d\d)? ?(am|pm)?\s*\(?(utc|gmt)?)");
  std::smatch match;
  if (!std::regex_search(words, match, day_and_time)) return 0;
  tm then{};
  localtime_r(&now, &then);
  const bool year = match[3].matched;
  if (year) then.tm_year = static_cast<int>(number(match[3])) - 1900;
  then.tm_mon = static_cast<int>(kMonths.find(match[1].str()) / 3);
  then.tm_mday = static_cast<int>(number(match[2]));
  then.tm_hour = static_cast<int>(number(match[4]));
  if (match[6].matched) then.tm_hour = then.tm_hour % 12 + (match[6] == "pm" ? 12 : 0);
  then.tm_min = static_cast<int>(number(match[5]));
  then.tm_sec = 0;
  then.tm_isdst = -1;
  const auto wait = [&] {
    tm copy = then;
    const time_t moment = match[7].matched ? timegm(&copy) : mktime(&copy);
    return static_cast<double>(moment - now);
  };
  if (!year && wait() < 0) ++then.tm_year;
  return wait() < kLongest ? std::max(0.0, wait()) : 0;
}

// "2026-11-29T05:00:00Z" or "...|1764392400".
double until_date(const std::string& words, time_t now) {
  static const std::regex iso(R"((\d{4}-\d\d-\d\d)[t ](\d\d:\d\d(?::\d\d)?))");
  static const std::regex epoch(R"((?:^|[^\d.])(1\d{9})(?:$|[^\d.]))");
  std::smatch match;
  double then = 0;
  if (std::regex_search(words, match, epoch)) then = number(match[1]);
  if (std::regex_search(words, match, iso)) {
    tm moment{};
    const std::string text = match[1].str() + " " + match[2].str();
    if (!strptime(text.c_str(), "%Y-%m-%d %H:%M", &moment)) return 0;
    then = static_cast<double>(timegm(&moment));
  }
  const double wait = then - static_cast<double>(now);
  return wait < kLongest ? std::max(0.0, wait) : 0;
}

// Of an account, a plan or a minute: so much of something, and it is used up.
bool names_a_limit(const std::string& words) {
  if (has_any(words, {"quota", "too many requests", "throttl", "resource_exhausted", "slow down",
                      "上限", "额度", "лимит"}))
    return true;
  return has_any(words,
                 {"limit", "usage", "allowance", "requests", "messages", "tokens", "cap "}) &&
         has_any(words, {"reached",  "hit ",      "exceed",   "exhaust", "reset",  "used up",
                         "used all", "run out",   "ran out",  "out of ", "left",   "remaining",
                         "session",  "rate",      "weekly",   "daily",   "hourly", "monthly",
                         "today",    "try again", "erreicht", "attein",  "alcanz"});
}

// The conversation is too long, which is neither a limit that a pause mends nor a login.
bool names_length(const std::string& words) {
  if (has_any(words, {"usage", "session", "weekly", "daily", "hourly", "monthly", "today", "reset",
                      "try again in", "try again later", "try again at", "rate limit", "per minute",
                      "per day", "quota", "plan", "left"}))
    return false;
  ApiError refusal;
  refusal.status = 400;
  refusal.message = words;
  return has_any(words, {"prompt", "context", "input", "conversation", "token", "request"}) &&
         remedy_for(refusal) == Remedy::kShorten;
}

// A login, a key, a payment, a model that isn't there.
bool names_what_lasts(const std::string& words) {
  static const std::regex no_model(
      R"(\bmodel\b[^,;!?\n]{0,80}\b(not found|not exist|n't exist|not have access)\b)"
      R"(|\b(unknown|invalid|no such|unsupported) model\b)");
  if (std::regex_search(words, no_model)) return true;
  const bool login = has_any(words, {"log in", "login", "logged in", "logged out", "sign in",
                                     "signed in", "session expired", "authorized", "登录"});
  const bool closed =
      has_any(words, {"suspended", "deactivated", "has been disabled", "not available in your",
                      "territory", "plan does not include", "trial has", "trial ended",
                      "accept the terms", "trust the files"});
  const bool key =
      has_any(words, {"api key", "api_key", "apikey", "authenticat", "credential", "forbidden"}) ||
      has_any(words, {"access denied", "token expired", "token has expired", "invalid token"}) ||
      has_any(words, {" 401", " 403"});
  const bool payment = has_any(words, {"credit", "billing", "payment required", "subscription"}) ||
                       has_any(words, {"insufficient balance", "insufficient funds"}) ||
                       has_any(words, {"premium requests", "余额不足"});
  return login || closed || key || payment;
}

bool names_trouble(const std::string& words) {
  for (const std::string_view start : {"error", "[error", "fatal", "api error", "curl: ("})
    if (words.starts_with(start)) return true;
  return has_any(words, {"high demand", "heavy load", "had an error", "error occurred",
                         "went wrong", "timed out", "disconnected", "error sending",
                         "network is unreachable", "name resolution", "concurrent", "was aborted",
                         "certificate", "no space left", "繁忙", "稍后"}) ||
         has_any(words,
                 {"overload",         "at capacity",        "over capacity",    "api error",
                  "server error",     "unavailable",        "server is busy",   "try again later",
                  "connection error", "connection refused", "connection reset", "connect to",
                  "network error",    "econnrefused",       "econnreset",       "enotfound",
                  "etimedout",        "eai_again",          "fetch failed",     "socket hang up",
                  "getaddrinfo",      "bad gateway",        "gateway time"});
}

}  // namespace

double seconds_named(const std::string& words, time_t now) {
  constexpr size_t kLooked = 1000;  // bytes: std::regex recurses with the length of its text
  const std::string text = lower(words.substr(0, kLooked));
  for (const double wait : {until_date(text, now), until_named_day(text, now), duration_in(text),
                            until_time_of_day(text, now)})
    if (wait > 0) return std::min(wait, kLongest);
  return 0;
}

std::optional<Complaint> complaint_in(const std::string& text, time_t now) {
  constexpr size_t kLongestComplaint = 500;  // bytes
  const std::string words = lower(trim(text));
  if (words.size() > kLongestComplaint || has_any(words, {"idea", "next:", "<<<<", "```", "====="}))
    return std::nullopt;
  if (names_length(words)) return Complaint{.too_long = true};
  const bool limit = names_a_limit(words), lasting = names_what_lasts(words);
  if (!limit && !lasting && !names_trouble(words)) return std::nullopt;
  return Complaint{.lasting = lasting && !limit, .wait = seconds_named(words, now)};
}

}  // namespace autoresearch
