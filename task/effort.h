// How often a held-out split is gone through when a model is scored: for who scores
// (referee/plan.h), and for who foretells what that takes.
#pragma once

#include <algorithm>
#include <cstdint>

namespace autoresearch {

// How many altered versions of rows are wanted, and how they are spread over waves.
struct Effort {
  int64_t cuts = 0;     // in each wave
  int64_t runners = 2;  // of each wave; more than two only if every row is probed in each wave
  int64_t waves = 1;
};

// At least this many cuts: a leak at 1 % of the positions escapes one with probability 0.99, 1,024
// of them with 3e-5, 700 with 9e-4; one at 0.1 % escapes 1,024 with 0.36, 700 with 0.5.
constexpr int64_t kLightCuts = 64, kFullCuts = 1024, kFullCutsOfFewRows = 700;
constexpr int64_t kMostRunners = 5;  // of a wave: each is a process with a copy of the model

inline Effort effort_for(int64_t rows, int64_t fewest_cuts) {
  if (rows <= 0) return {};  // as a damaged task.json may say
  const int64_t cuts = std::max(fewest_cuts, rows / 10);
  if (cuts <= rows) return {.cuts = cuts};
  // Every row is probed in every wave, by as many runners as are needed and allowed.
  const auto rounded_up = [](int64_t a, int64_t b) { return (a + b - 1) / b; };
  Effort effort;
  effort.waves = rounded_up(cuts, rows * (kMostRunners - 1));
  effort.runners = 1 + rounded_up(cuts, rows * effort.waves);
  effort.cuts = rows * (effort.runners - 1);
  return effort;
}

// The light probe: a tenth of the rows, at least 64 cuts.
inline Effort light_effort(int64_t rows) { return effort_for(rows, kLightCuts); }

// The full one: at least 1,024 cuts, if one wave can make them. Few rows would be computed over and
// over for so many, and long rows take minutes: there, 700 have to do.
inline Effort full_effort(int64_t rows) {
  const bool one_wave = rows * (kMostRunners - 1) >= kFullCuts;
  return effort_for(rows, one_wave ? kFullCuts : kFullCutsOfFewRows);
}

// Rows that the model computes in all of it: every row once a wave, and each altered version.
inline int64_t rows_computed(int64_t rows, const Effort& effort) {
  return effort.waves * (rows + effort.cuts);
}

}  // namespace autoresearch
