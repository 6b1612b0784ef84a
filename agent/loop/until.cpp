#include "agent/loop/until.h"

#include <algorithm>
#include <optional>
#include <regex>

#include "common/error.h"

namespace autoresearch {
namespace {

struct Moment {
  std::time_t time = 0;
  bool shown = false;  // local clocks show the time of day that was asked for
};

// `summer`: as tm_isdst, whether summer time is meant; -1: whatever holds then.
Moment moment_of(std::time_t now, int days, int hour, int minute, int summer) {
  std::tm local = {};
  localtime_r(&now, &local);
  local.tm_mday += days;
  local.tm_hour = hour;
  local.tm_min = minute;
  local.tm_sec = 0;
  local.tm_isdst = summer;
  const std::time_t time = std::mktime(&local);
  return {time, local.tm_hour == hour && local.tm_min == minute};
}

// The first moment of that day after `now`; nothing if it has passed.
std::optional<std::time_t> next_on(std::time_t now, int days, int hour, int minute) {
  std::optional<std::time_t> next;
  bool shown = false;
  for (const int summer : {0, 1}) {  // a clock that is put back shows some times twice
    const Moment moment = moment_of(now, days, hour, minute, summer);
    shown |= moment.shown;
    if (moment.shown && moment.time > now) next = std::min(next.value_or(moment.time), moment.time);
  }
  if (shown) return next;
  // A clock that is put forward shows some times never.
  const Moment skipped = moment_of(now, days, hour, minute, -1);
  return skipped.time > now ? std::optional(skipped.time) : std::nullopt;
}

}  // namespace

std::string until_problem(const std::string& text) {
  try {
    seconds_until(text, std::time(nullptr));
    return "";
  } catch (const Error& error) {
    return error.what();
  }
}

double seconds_until(const std::string& text, std::time_t now) {
  std::smatch part;
  if (!std::regex_match(text, part, std::regex("([01]?[0-9]|2[0-3]):([0-5][0-9])")))
    throw Error("'" + text + "' is no time of day; use 00:00 to 23:59, such as --until 07:30",
                kUsage);
  const int hour = std::stoi(part[1]), minute = std::stoi(part[2]);
  const auto today = next_on(now, 0, hour, minute);
  const auto next = today ? today : next_on(now, 1, hour, minute);
  return std::difftime(next.value(), now);
}

}  // namespace autoresearch
