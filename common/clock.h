// The clocks of a night.
#pragma once

#include <functional>
#include <string>

namespace autoresearch {

double wall_clock();  // seconds since 1970

// Seconds since boot, sleep included: a laptop that slept through the night did not work through
// it.
double boot_seconds();

// A wall clock for one run of a program: what wall_clock() says now, but not before `not_before`,
// and from then on by boot_seconds(). If somebody sets the machine's clock, no wait becomes longer.
std::function<double()> steady_wall_clock(double not_before);

// "07:45", so many seconds from now, local time.
std::string clock_time(double seconds_from_now);

}  // namespace autoresearch
