// What a reader of a run wants beside the journal's own figures, derived from all experiments.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "agent/lab/evidence.h"
#include "agent/record/run_state.h"

namespace autoresearch {

// The idea of an experiment for a user, with the mark "recorded: " if a recorded reply holds it.
std::string idea_of(const Experiment& experiment);

// Of one experiment, from those before it.
struct Figures {
  std::optional<double> bpb;      // of a keep or a discard
  std::optional<double> change;   // against the best before it
  std::optional<double> best;     // after it
  std::optional<double> minutes;  // of training, or from the candidate to the verdict
  double memory_gb = 0;
};
std::vector<Figures> figures_of(const RunState& state);

struct Counts {
  int kept = 0, discarded = 0, crashed = 0;
  int all() const { return kept + discarded + crashed; }
};

// Without the baseline, which nobody proposed.
Counts count(const RunState& state);
std::map<std::string, Counts> count_by_proposer(const RunState& state);

// "builtin 2 (1 kept, 50 %), openai 2 (0 kept, 0 %; 1 came to nothing)"; empty before any.
std::string proposers_in_words(const RunState& state);

double baseline_bpb(const RunState& state);  // 0 before there is one

std::string noise_in_words(const Noise& noise);  // "0.0011, by 3 repeats", or that it is not known

// What is known of a gain, in the words of docs/morning.md.
enum class Certainty { kNoGain, kNotYet, kNotProven, kVerified };
const char* name_of(Certainty certainty);  // "", "not verified yet", "not proven", "verified"
// Of the champion's gain: a proof says nothing of what was kept after it.
Certainty certainty_of(const RunState& state);
// Of one kept change. One that was dropped is "not proven".
Certainty certainty_of(const Experiment& experiment);

// The score of a commit on the test split, if there is one.
std::optional<double> tested_bpb(const RunState& state, const std::string& commit);
// "2.100000 -> 2.090000 (-0.010000), on val -0.020000" with fits_validation()'s warning; empty
// while baseline and champion do not have both scores.
std::string test_line(const RunState& state);

// A warning if the champion made far more steps in its time than the baseline, and no proof has
// measured both side by side; else empty.
std::string steps_caution(const RunState& state);

// The parts of the time by name, the largest ones of a healthy run first.
std::vector<std::pair<std::string, double>> parts_of(const TimeSpent& spent);

// The seconds that a training of this run may take; nothing before the baseline was measured.
std::optional<double> budget_in(const RunState& state);

// Seconds that an experiment takes on average, all that the run did included; 0 before there is
// one.
double pace_of(const RunState& state);

}  // namespace autoresearch
