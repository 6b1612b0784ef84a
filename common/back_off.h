// Pauses between tries of what failed.
#pragma once

#include <algorithm>
#include <cmath>
#include <random>

namespace autoresearch {

// Seconds after `failures` failures (0: the first one): `first`, doubled with each, up to
// `longest`.
inline double back_off(double first, int failures, double longest) {
  return std::min(longest, std::ldexp(first, std::min(failures, 60)));
}

// The same within a quarter, so that those who failed together do not come back together.
inline double jittered(double seconds, std::mt19937& random) {
  return seconds * std::uniform_real_distribution<double>(0.75, 1.25)(random);
}

}  // namespace autoresearch
