// How many experiments a run will make, and by when.
#pragma once

#include "agent/loop/plan.h"

namespace autoresearch {

// Seconds of the latest training and its scoring; nothing before there is one.
std::optional<double> seconds_measured(const RunState& state);

// Seconds of one experiment, as the latest measured one took, its proposal included; `budget`
// before there is one.
double seconds_each(const RunState& state, double budget);

// How many more are made from now on and before the proof; without a deadline, in what is left of a
// night of eight hours that began at `started`. Times are seconds since 1970.
double experiments_left(const RunState& state, const Settings& settings, double budget,
                        double started, double now);

}  // namespace autoresearch
