// The clocks of a night.
#pragma once

#include <string>

namespace autoresearch {

double wall_clock();  // seconds since 1970

// Seconds since boot, sleep included: a laptop that slept through the night did not work through
// it.
double boot_seconds();

// "07:45", so many seconds from now, local time.
std::string clock_time(double seconds_from_now);

}  // namespace autoresearch
