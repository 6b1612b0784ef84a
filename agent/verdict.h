// Keep or revert: pure decisions over what the parent measured.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace autoresearch {

// What the parent knows about one finished run of a candidate.
struct Outcome {
  int train_exit = 0;  // exit code of train, 128 + signal
  bool timed_out = false, over_memory = false;
  double wall_seconds = 0;    // exec to exit of train, by the parent's clock
  bool sealed = false;        // a complete sealed file is there
  std::optional<double> bpb;  // what `score` said over its pipe
  std::string score_problem;  // its one line, where it said no
};

// The allowance of a run: what the clock and the scorer compare with.
struct Allowance {
  double budget = 0;             // the task's seconds
  double baseline_overhead = 0;  // baseline's wall seconds - budget
  // More wall time than this is void: budget + overhead + max(1 % of the budget, 3 s).
  double wall_limit() const;
};

struct Verdict {
  std::string status;  // keep | discard | crash
  std::string reason;  // one line for a person and for the next prompt; empty for keep
};

// Whether a run failed by a mistake in its code that the author can mend: a signal, an exception, a
// model that can't be sealed. Memory or time that ran out and a loss that diverged are results.
bool is_repairable(const Outcome& outcome);

// Greedy: keep when strictly better than `best` (nothing: the baseline, kept if it is whole at
// all).
Verdict judge(const Outcome& outcome, const Allowance& allowance, std::optional<double> best);

}  // namespace autoresearch
