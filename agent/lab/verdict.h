// Keep or revert: pure decisions over what the parent measured.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "agent/lab/measured.h"
#include "common/process.h"

namespace autoresearch {

// Nothing unless the beginning and then the end were told, once each. A candidate can tell them
// itself; it then only moves seconds from one phase to another, each of which is bounded.
std::optional<Phases> phases_of(const std::vector<Told>& told, double wall_seconds);

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

// As results.tsv has them; an experiment without a verdict is open.
enum class Status { kOpen, kKeep, kDiscard, kCrash };
const char* name_of(Status status);  // "open", "keep", "discard", "crash"
std::optional<Status> status_of(const std::string& name);

struct Verdict {
  Status status = Status::kOpen;
  std::string reason;  // one line for a user and for the next prompt; empty for keep
};

// Whether a run failed by a mistake in its code that the author can mend: a signal, an exception, a
// model that can't be sealed. Memory or time that ran out and a loss that diverged are results.
bool is_repairable(const Measured& measured);

// Why a measurement gave no figure, its clock aside; empty if it gave one.
std::string failure_of(const Measured& measured);

// Greedy: keep when strictly better than `best` (nothing: the baseline, kept if it is whole at
// all).
Verdict judge(const Measured& measured, const Allowance& allowance, std::optional<double> best);

}  // namespace autoresearch
