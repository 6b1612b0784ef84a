// Prove before dawn, as the loop does it: when a proof begins and how large it may be, what is
// measured next in it, and what came of it. Pure functions of the journal's state; the statistics
// stand in agent/lab/proof.h.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "agent/loop/plan.h"

namespace autoresearch {

// Seconds since 1970 from which the night proves: the share of the time that was given, and if that
// is too short for the pairs of claim 1, up to half of it. Infinite: without a deadline.
double proof_begins_at(const RunState& state, const Settings& settings);

// How many measurements a proof that begins now may take; 0: there is nothing to prove, it is
// proven already, or no room is left for the pairs of claim 1.
int64_t proof_budget(const RunState& state, const Settings& settings, double now);

// The kept changes that the champion is made of, the largest believed gain first.
std::vector<int64_t> changes_of(const RunState& state);

// Why an arm gives no figure any more; empty: it may.
std::string lost(const ProofSoFar& proof, int64_t arm);

// "champion", "baseline", "without #3".
std::string name_of_arm(const event::Proof& plan, int64_t arm);

// What is measured next. Nothing: all that can be measured was.
std::optional<ArmOfBlock> next_in(const ProofSoFar& proof);

// The changes without which the tip measured better, if there are reserved pairs to show it.
std::vector<int64_t> changes_to_drop(const ProofSoFar& proof);

// What the proof says with what was measured so far.
event::Verified outcome_of(const RunState& state);

}  // namespace autoresearch
