// Keep or revert: pure decisions over what the parent measured.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "common/process.h"

namespace autoresearch {

// The three parts of a training's wall time, in seconds, by the parent's clock.
struct Phases {
  double startup = 0;   // from exec until the harness told that training begins
  double training = 0;  // until it told that training ends
  double sealing = 0;   // until nothing of the training ran any more
};

// Nothing unless the beginning and then the end were told, once each. A candidate can tell them
// itself; it then only moves seconds from one phase to another, each of which is bounded.
std::optional<Phases> phases_of(const std::vector<Told>& told, double wall_seconds);

// What the parent knows about one finished run of a candidate.
struct Outcome {
  int train_exit = 0;  // exit code of train, 128 + signal
  bool timed_out = false, over_memory = false;
  std::string over;         // another limit that ended it, as a sentence; empty: none
  double wall_seconds = 0;  // exec of train to the end of all that it began, by the parent's clock
  std::optional<Phases> phases;
  bool sealed = false;        // a complete sealed file is there
  std::optional<double> bpb;  // what `score` said over its pipe
  std::string score_problem;  // its one line, where it said no
};

// The allowance of a run: what the clock and the scorer compare with.
struct Allowance {
  double budget = 0;                    // the task's seconds
  double baseline_overhead = 0;         // baseline's wall seconds - budget
  std::optional<Phases> baseline = {};  // nothing: it told none, as in a run of an older version

  // More wall time than this is void: budget + overhead + max(1 % of the budget, 3 s).
  double wall_limit() const;
  // So is a phase before or after training that is longer than this, against the baseline's:
  // a quarter more + max(1 % of the budget, 2 s).
  double phase_limit(double baselines) const;
};

struct Verdict {
  std::string status;  // keep | discard | crash
  std::string reason;  // one line for a user and for the next prompt; empty for keep
};

// Whether a run failed by a mistake in its code that the author can mend: a signal, an exception, a
// model that can't be sealed. Memory or time that ran out and a loss that diverged are results.
bool is_repairable(const Outcome& outcome);

// Greedy: keep when strictly better than `best` (nothing: the baseline, kept if it is whole at
// all).
Verdict judge(const Outcome& outcome, const Allowance& allowance, std::optional<double> best);

}  // namespace autoresearch
