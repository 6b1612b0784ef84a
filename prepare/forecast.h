// What a training and the scoring of val will take on this machine's CPU, foretold before there was
// one, and which sizes suit it. No libtorch is linked here: what is foretold rests on counting what
// the default train.cpp computes, and on a trial of the CPU.
#pragma once

#include <optional>
#include <string>

#include "task/task.h"

namespace autoresearch {

struct Forecast {
  double steps = 0;            // of a training in its budget
  double light = 0, full = 0;  // seconds of scoring: any candidate, and one that may be kept
};

// `speed`: trial_speed().
Forecast forecast(const TaskInfo& info, double speed);

// The sizes nearest to the task's that suit this speed, so that a training makes at least 50 steps
// and scoring takes no longer than it. They are found by halving rows, vocabulary and held-out
// splits, not below the demo's; the budget stays. The result's eval_tokens are val's, rounded down
// to rows only in val.rows.
TaskInfo suitable(TaskInfo info, double speed);

// Multiplications and additions of float32 a second, in matrix products that stay in the caches, on
// as many threads as a training has. Takes a tenth of a second.
double trial_speed();

// The forecast as `prepare` prints it, with the flags of other sizes if those would suit better.
// `speed`: nothing on a machine with a GPU, of which only a training tells what it does.
std::string forecast_in_words(const TaskInfo& info, std::optional<double> speed);

}  // namespace autoresearch
