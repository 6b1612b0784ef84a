// Whether a measurement counts at all: pure decisions over what the parent saw. Whether what counts
// is kept is decided by agent/lab/evidence.h.
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

// Whether a run failed by a mistake in its code that the author can mend: a signal, an exception, a
// model that can't be sealed. Memory or time that ran out and a loss that diverged are results.
bool is_repairable(const Measured& measured);

// Why a measurement counts for nothing, as a line for a user and for the next prompt; empty if it
// counts. Without an allowance its clock is not looked at: so is the baseline, from whose time that
// of the others is made.
std::string why_void(const Measured& measured,
                     const std::optional<Allowance>& allowance = std::nullopt);

}  // namespace autoresearch
