// What is known about a run, in the form in which a proposer is told it. Pure: from the journal's
// state and the trainers' records.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "agent/propose/prompt.h"
#include "agent/record/run_state.h"

namespace autoresearch {

// The experiments with a verdict, oldest first.
std::vector<Past> past_of(const RunState& state);

// The limits of an experiment; the champion's and the latest experiment's own figures: score,
// speed, memory, the resolved hyperparameters, the loss over tenths of the tokens that both saw,
// each with its difference to the experiment that it was derived from. `record(n)` is the
// train.json of experiment n, written by code under test: whatever it holds is taken, and shown as
// data. `memory_bytes`: Slot::memory_bytes; 0: no limit.
std::string measurements_of(const RunState& state,
                            const std::function<nlohmann::json(int64_t n)>& record,
                            int64_t memory_bytes = 0);

}  // namespace autoresearch
