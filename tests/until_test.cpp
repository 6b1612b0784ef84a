#include "agent/loop/until.h"

#include <stdlib.h>

#include "agent/loop/options.h"
#include "tests/support.h"

namespace autoresearch {
namespace {

// Seconds from a local time, "2026-03-28 22:15", in a zone to the next `clock`.
double wait(const char* zone, const char* from, const char* clock) {
  setenv("TZ", zone, 1);
  std::tm local = {};
  EXPECT_NE(strptime(from, "%Y-%m-%d %H:%M", &local), nullptr);
  local.tm_isdst = -1;
  return seconds_until(clock, std::mktime(&local));
}

constexpr double kHour = 3600;
constexpr const char* kBerlin = "CET-1CEST,M3.5.0,M10.5.0/3";

TEST(Until, IsTodayOrTomorrow) {
  EXPECT_EQ(wait("UTC", "2026-06-01 22:15", "23:45"), 1.5 * kHour);
  EXPECT_EQ(wait("UTC", "2026-06-01 22:15", "7:30"), 9.25 * kHour);
  EXPECT_EQ(wait("UTC", "2026-06-01 22:15", "22:15"), 24 * kHour) << "now has passed";
  EXPECT_EQ(wait("UTC", "2026-12-31 23:59", "00:00"), 60);
}

TEST(Until, IsTheUsersClockOnANightWhenItIsChanged) {
  EXPECT_EQ(wait(kBerlin, "2026-03-28 22:00", "07:00"), 8 * kHour);   // forward at 02:00
  EXPECT_EQ(wait(kBerlin, "2026-10-24 22:00", "07:00"), 10 * kHour);  // back at 03:00
  EXPECT_EQ(wait("AEST-10AEDT,M10.1.0,M4.1.0/3", "2026-10-03 22:00", "07:00"), 8 * kHour);
}

TEST(Until, MeansTheNextOfTwoMomentsThatClocksShowAlike) {
  EXPECT_EQ(wait(kBerlin, "2026-10-24 22:00", "02:30"), 4.5 * kHour);
  setenv("TZ", kBerlin, 1);
  const std::time_t second_0240 = 1792892400;  // 02:40 by winter time, 25 October 2026
  EXPECT_EQ(seconds_until("02:50", second_0240), 600);
  EXPECT_EQ(seconds_until("02:30", second_0240), 24 * kHour - 600);
  EXPECT_EQ(seconds_until("02:30", second_0240 - 3600), 3000) << "02:40 by summer time";
}

TEST(Until, ATimeThatClocksSkipIsWithinAnHourOfIt) {
  const double seconds = wait(kBerlin, "2026-03-28 22:00", "02:30");
  EXPECT_GE(seconds, 3.5 * kHour);
  EXPECT_LE(seconds, 4.5 * kHour);
}

TEST(Until, AnythingElseIsAUsageErrorThatShowsHow) {
  for (const char* text : {"", "7", "24:00", "07:60", "7.30", "07:30:00", "7:30am", "-1:00",
                           " 7:30", "07:3", "tomorrow"}) {
    EXPECT_NE(error_of([&] { seconds_until(text, 0); }).find("such as --until 07:30"),
              std::string::npos)
        << text;
  }
}

TEST(Until, IsAMomentOfTheRunsOwnClock) {
  setenv("TZ", "UTC", 1);
  Options options;
  options.until = "07:30";
  const double machine =
      1764396000;  // 06:00; the clock was put back by three hours before the start
  const double run = machine + 3 * kHour;
  const Settings settings = settings_of(options, {}, {}, false, {run, machine});
  EXPECT_EQ(settings.deadline, run + 1.5 * kHour);
  EXPECT_EQ(settings.given, 1.5 * kHour);
  options.max_hours = 1;
  EXPECT_EQ(settings_of(options, {}, {}, false, {run, machine}).deadline, run + kHour);
}

}  // namespace
}  // namespace autoresearch
