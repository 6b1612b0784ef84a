// How far a training may overrun its budget: for who trains, and for who judges.
#pragma once

#include <algorithm>

namespace autoresearch {

// Seconds that training on a budget of so many may last: 1 % more, and on a short budget half a
// second more, since the last step ends after the budget does.
inline double longest_training(double budget) { return budget + std::max(0.01 * budget, 0.5); }

// What the parent takes for too long. On a short budget it allows half a second more than the
// harness plans with: a last step may meet a busy moment.
inline double judged_training(double budget) { return budget + std::max(0.01 * budget, 1.0); }

// A training's mean loss above this, in nats per token, has diverged.
constexpr double kMostLoss = 100;

// Says how many bytes the sealed model's file may have, as `train --max-sealed-bytes` does. By the
// environment, because a run goes on with the kit that it began with, whose `train` may not know
// the option.
constexpr const char* kMaxSealedVariable = "AUTORESEARCH_MAX_SEALED_BYTES";

// Names the descriptor to which the harness tells when training begins (kBegins) and ends (kEnds).
constexpr const char* kClockVariable = "AUTORESEARCH_CLOCK_FD";
constexpr char kBegins = 'b', kEnds = 'e';

}  // namespace autoresearch
