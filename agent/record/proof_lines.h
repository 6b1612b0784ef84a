// What a user reads of a proof (agent/lab/proof.h). Only what is proven is called verified.
#pragma once

#include <string>

#include "agent/record/run_state.h"

namespace autoresearch {

// "verified: -0.0123 (95 % interval -0.0150 to -0.0096), 4 pairs", "not proven: ..." with what is
// known or with the reason; empty if the baseline is still the best. One line.
std::string proof_line(const RunState& state);

// "changes: 2 verified (#3 #7), 1 dropped (#4), 5 unproven"; empty without a proof.
std::string changes_line(const RunState& state);

}  // namespace autoresearch
