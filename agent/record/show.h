// `agent show` and `agent compare`: one experiment, or two runs, in words for a terminal.
#pragma once

#include <string>

#include "agent/record/run_state.h"
#include "common/run_folder.h"

namespace autoresearch {

// All about experiment n: idea and why, verdict, measurements beside its parent's, files, and the
// ends of its logs if it crashed. Cleaned: common/text.h.
std::string experiment_text(const RunFolder& run, const RunState& state, int64_t n);

// Two runs side by side, then what makes their figures comparable or not.
std::string comparison_text(const RunState& a, const RunState& b);

}  // namespace autoresearch
