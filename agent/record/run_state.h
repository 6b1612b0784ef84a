// What a run knows: a fold over its journal, one apply() an event, so that a run that was killed
// and started again knows what it knew. Nothing that the loop must remember stands elsewhere.
#pragma once

#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "agent/lab/evidence.h"
#include "agent/record/events.h"

namespace autoresearch {

struct Experiment {
  int64_t n = 0;               // 0 is the baseline
  event::Candidate candidate;  // the last one of this number; commit empty: only proposed so far
  std::vector<std::string> failed;  // fingerprints of its candidates that a repair replaced
  int replies = 0;                  // of models, for this number
  int attempts = 0;                 // runs that were started
  int interrupted = 0;              // of the present candidate's: those that a later one found open
  int disturbed = 0;                // of the present candidate's: those that the machine spoilt
  int spoilt = 0;                   // of these, since the last one that counts
  int reopened = 0;                 // because it was the machine that failed
  bool open = false;                // the last attempt has neither ended nor been given up
  pid_t pid = 0;                    // of the open attempt
  uint64_t start_time = 0;
  std::optional<Measured> measured;  // of the present candidate; none while it is not measured
  int failed_again = 0;              // measurements of the kept commit that gave no figure
  std::vector<double> again;         // val_bpb of later measurements of the same commit
  Status status = Status::kOpen;
  bool machine = false;   // its verdict says nothing of the code: the machine or the loop failed
  std::string decision;   // of a keep or a discard: agent/lab/evidence.h
  double difference = 0;  // against the champion's bar
  std::string reason;     // of a crash or a discard, one line
  std::string start_utc, end_utc;
  double ended_at = 0;                        // of the latest measurement, seconds since 1970
  std::optional<event::ProvenChange> proven;  // of a keep: what the latest proof said of it

  bool is_dropped() const { return proven && proven->result == "dropped"; }
};

// A proof that is under way. What comes next in it is decided by agent/loop/proving.h.
struct ProofSoFar {
  event::Proof plan;  // its blocks include the pairs of a trimmed tip, and arms[kTip] is that tip
  std::string tip;    // the champion that it began with
  std::vector<std::map<int64_t, double>> figures;  // by block: val_bpb by arm
  std::vector<std::map<int64_t, int>> disturbed;   // by block and arm: attempts that it spoilt
  std::vector<int> failed;                         // by arm: attempts without a figure
  std::vector<std::string> problems;               // by arm: the last failure
  std::vector<bool> built;                         // by arm: false if it does not build
  std::vector<int64_t> trimmed;                    // changes that the tip lost
  size_t first_pair = 0;                           // the block, if it lost some
  int attempts = 0;                                // runs that were started
  int64_t block = 0, arm = 0;                      // of the latest
  bool open = false;                               // it has not ended
  pid_t pid = 0;
  uint64_t start_time = 0;
  bool broken = false;  // it named the machine, which was not looked at since
  double ended_at = 0;  // seconds since 1970
};

// A champion that is a former one without the changes that a proof dropped.
struct TrimmedTip {
  std::string commit;
  std::vector<int64_t> without;  // experiments
  double bpb = 0;                // the mean of its fresh measurements
  double at = 0;                 // seconds since 1970
};

// What the seconds of a run went to. `waiting` is what is left: for a model mostly.
struct TimeSpent {
  double startup = 0, training = 0, sealing = 0, scoring = 0, building = 0, paused = 0;
  double total = 0;  // from starts to stops
  double waiting() const;
};

struct RunState {
  std::optional<event::Start>
      start;              // the first one, with `from`, `sandbox` and limits of later ones
  std::string start_utc;  // when it was written
  std::vector<Experiment> experiments;  // by n, without gaps
  std::set<int64_t> open;               // those without a verdict
  std::string champion;                 // commit; empty before the baseline is kept
  int64_t champion_n = -1;
  double best_bpb = 0;                         // the champion's, by the measurement that made it
  Evidence evidence;                           // what decisions rest on
  Spending spending;                           // on models
  Spending on_experiments;                     // of it, without what only asked if a model answers
  std::map<int64_t, double> usd_for;           // by experiment, of calls that have ended
  std::map<int64_t, int64_t> calls_for;        // experiments, by the call's id
  std::map<std::string, int> came_to_nothing;  // proposals that never became a candidate
  int refusals_in_row = 0;                     // of them, since the last candidate
  std::string last_refusal;
  int replies = 0;                     // for the number that is proposed next
  std::string exhausted;               // why the builtin proposer has nothing left; empty: it has
  std::vector<int64_t> crashes_alike;  // the latest crashes, all for one reason
  std::string last_crash;              // it, without its figures
  std::deque<bool> proposals_failed;   // the latest twenty of models
  double models_rest_until = 0;        // seconds since 1970
  int64_t since_keep = 0;              // verdicts since the last keep
  std::string last_trouble;
  int troubles_in_row = 0;  // the loop's own errors without a verdict or a candidate between
  std::optional<std::string> canary;  // what a look at the machine found since; "": it was whole
  double canary_at = 0;
  std::string paused;    // why; empty: it is not
  double paused_at = 0;  // seconds since 1970
  double last_trouble_at = 0, last_event_at = 0;
  std::string stopped;                   // why, if the last event of the run is its end
  std::string program;                   // SHA-256 of the program.md that was seen last
  std::vector<int64_t> program_changes;  // the experiments that were the first to see another
  TimeSpent spent;
  std::unordered_map<std::string, std::string> not_built;  // compilers' errors, by fingerprint
  std::unordered_map<std::string, int64_t> measured_as;    // experiments, by fingerprint
  std::map<std::string, int64_t> fits;                     // tokens of a prompt, by model
  std::set<std::string> told;
  std::vector<std::string> next_lines;  // all NEXT lines, oldest first
  // Kept experiments in the order of gains_of(evidence); -1: a champion that lost changes.
  std::vector<int64_t> kept;
  std::map<std::string, event::Tested> tested;  // by commit: the test split beside val
  std::vector<TrimmedTip> trimmed;              // by the -1 in `kept`
  std::optional<ProofSoFar> proof;              // under way
  std::optional<event::Verified> verified;      // the latest proof's end; of the champion `tip`
  double verified_at = 0;                       // seconds since 1970
  int64_t proofs = 0;                           // that have ended

  // The latest ten NEXT lines that were not tried as an idea.
  std::vector<std::string> backlog() const;
  // The number of the next proposal.
  int64_t next_n() const { return static_cast<int64_t>(experiments.size()); }
  const Experiment& at(int64_t n) const { return experiments.at(static_cast<size_t>(n)); }
};

// Throws Error if the event contradicts those before it: candidates have n = 0, 1, 2, ...; run,
// measured and verdict only after their candidate; one verdict per n, and after it only further
// measurements of a kept commit; attempts are numbered in order, measured belongs to the open one;
// a keep was measured; one proof at a time, and one figure for each arm of a block.
void apply(RunState& state, const Entry& entry);

// apply() for all of them. The Error names the event by its number, which is its line.
RunState replay(const std::vector<Entry>& entries);

// The baseline's commit; empty before there is one.
std::string first_commit(const RunState& state);

// How val and test moved from the baseline to the champion's commit, and whether the gap grew: the
// loop fits its validation rows. Empty if either is not known or all is well.
std::string fits_validation(const RunState& state);

// Which operations are slow on this device, in one line; empty if all are fused.
std::string slow_operations(const RunState& state);

}  // namespace autoresearch
