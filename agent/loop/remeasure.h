// Whether a run's gain carries over: its baseline and its champion are trained anew, in pairs with
// a seed of their own each, on the run's task and device or on others.
#pragma once

#include <cstdint>
#include <string>

#include "common/files.h"

namespace autoresearch {

struct Remeasuring {
  std::string tag;
  std::string task, device;  // empty: the run's own
  int64_t pairs = 4;
  int64_t steps = 0;  // train so many steps instead of the task's budget; 0: the budget
  std::string sandbox = "auto", data;
};

// Prints a line a pair, and at the end the gain with its interval. `build` has the programs. The
// record of the run stays as it is. Throws Error if the run kept nothing, if it is running, or if
// one of the two can't be built or measured. The first Ctrl-C lets the pair end: kInterrupted; else
// kDone.
int remeasure(const fs::path& build, const Remeasuring& what);

}  // namespace autoresearch
