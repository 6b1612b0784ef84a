// One measurement: train a built candidate in a folder of its own, take the sealed model out of it,
// let the scorer judge that. The parent's clock, the parent's limits, the scorer's pipe: nothing
// the candidate writes counts.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "agent/lab/machine_state.h"
#include "agent/lab/recipe.h"
#include "agent/lab/verdict.h"
#include "common/files.h"
#include "common/limits.h"
#include "common/run_folder.h"

namespace autoresearch {

// Where a training runs, and what all measurements there share.
struct Slot {
  fs::path task;          // the task's folder
  double budget = 0;      // its seconds of training
  std::string device;     // for train and score: auto, cpu, cuda:N
  bool sandboxed = true;  // in the sandbox
  bool gpu = false;       // the sandbox shows the GPU
  int64_t seed = 42;
  int64_t steps = 0;                 // train so many steps instead of the budget; 0: the budget
  int64_t memory_bytes = 0;          // resident memory a child may use
  int threads = training_threads();  // that a training computes with on a CPU
  // What may be kept, and so is probed fully, has a val_bpb below this. None: all but the baseline.
  std::optional<double> best_bpb = {};
};

// What the first measurement, the baseline, sets for all others. Zero: not measured yet.
struct Baseline {
  double overhead_seconds = 0;    // wall seconds beyond the budget
  double score_seconds = 0;       // with the light probe
  double full_score_seconds = 0;  // at most, if the full one follows
  int64_t score_rss_bytes = 0, sealed_bytes = 0;
  std::optional<Phases> phases = {};
};

// What the sealed file of a candidate may have; as much as it likes before there is a baseline.
int64_t most_sealed_bytes(const Baseline& baseline);

struct Measurement {
  Measured measured;
  bool interrupted = false;
  std::optional<ProcessId> stuck;  // holds the slot and what lies in `folder`: Exit::stuck
};

// Runs <folder>/train in <folder>/attempt, which is empty at first and gone afterwards, and scores
// the model that it sealed there on val. What counts is moved out, into <folder>:
// model.safetensors, train.json, run.log and score.json, in place of those of an earlier attempt.
// `before_exec` is called before the trainer may run. Bars that begin with `title` show how far
// training and scoring are, by the time that the baseline took.
Measurement measure(const Kit& kit, const Slot& slot, const Baseline& baseline,
                    const ExperimentFolder& folder,
                    std::function<void(pid_t, uint64_t)> before_exec, const std::string& title);

// What a kept model scores on the test split, which nothing is decided by.
struct HeldoutScore {
  std::optional<double> bpb;
  std::string problem;  // why there is none, in a line
  double seconds = 0;
  bool interrupted = false;
  std::optional<ProcessId> stuck;
};
HeldoutScore score_on_test(const Kit& kit, const Slot& slot, const Baseline& baseline,
                           const fs::path& sealed);

// <folder>/train.json, an object: empty if the trainer left none. Nothing is decided by it.
nlohmann::json trainer_record(const ExperimentFolder& folder);

// What of a candidate's record may be shown to the author of a later one: values under names that
// the baseline's record has (the user's own code gave them), and of these numbers, words of
// [A-Za-z0-9._-] and the baseline's own texts. What a candidate can tell its successors is no more
// than that.
nlohmann::json known_facts(const nlohmann::json& record, const nlohmann::json& baselines);

// <folder>/run.log, all that the trainer printed: empty if there is none.
std::string trainer_log(const ExperimentFolder& folder);

Baseline baseline_of(const Measured& measured);
Allowance allowance_of(double budget, const Baseline& baseline);

}  // namespace autoresearch
