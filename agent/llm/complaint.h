// A limit, a login, an overload or a prompt that is too long in another program's own words.
// Command-line assistants print them where their answer should stand, and exit with 0. Pure.
#pragma once

#include <ctime>
#include <optional>
#include <string>

namespace autoresearch {

// Seconds from `now` until the moment that the words name: "in 2 hours", "after 30s", "resets at
// 5am (UTC)", "will reset at 05:00", an ISO date or seconds since 1970. A time of day without a
// zone is local. 0: they name none, or one in the past.
double seconds_named(const std::string& words, time_t now);

struct Complaint {
  bool lasting = false;   // a login, a key, a payment, no such model: no pause mends it
  bool too_long = false;  // the prompt; a shorter one may do
  double wait = 0;        // seconds that it asks to be left alone, 0: it names none
};

// What a short text without any sign of an edit complains of; none for anything else.
std::optional<Complaint> complaint_in(const std::string& text, time_t now);

}  // namespace autoresearch
