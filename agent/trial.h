// One measurement: train a built candidate in its folder, then let the scorer judge the sealed
// model. The parent's clock, the parent's limits, the scorer's pipe: nothing the candidate writes
// counts.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "agent/recipe.h"
#include "agent/verdict.h"
#include "common/files.h"

namespace autoresearch {

// What every measurement of a run shares.
struct Bench {
  fs::path task;       // the task's folder
  double budget = 0;   // its seconds of training
  std::string device;  // for train and prepare: auto, cpu, cuda:N
  bool caged = true;   // in the sandbox
  bool gpu = false;    // the cage shows the GPU
  int64_t seed = 42;
  int64_t steps = 0;         // train so many steps instead of the budget; 0: the budget
  int64_t memory_bytes = 0;  // resident memory a child may use
};

// What the first measurement, the baseline, sets for all others. Zero: not measured yet.
struct Baseline {
  double overhead_seconds = 0;  // wall seconds beyond the budget
  double score_seconds = 0;
  int64_t score_rss_bytes = 0, sealed_bytes = 0;
};

// How much more than the baseline a candidate's sealed file, and the scorer on it, may take.
constexpr int64_t kScoreFactor = 4;
// What its sealed file may take in any case.
constexpr int64_t kMinSealedBytes = int64_t{64} << 20;

struct Measurement {
  Outcome outcome;
  nlohmann::json event;  // the fields of journal's `measured`
  bool interrupted = false;
};

// Runs <folder>/train to <folder>/model.safetensors and scores it on val. Writes run.log,
// train.json and score.json there. `before_exec` is called before the trainer may run; `tick` while
// it does.
Measurement measure(const Kit& kit, const Bench& bench, const Baseline& baseline,
                    const fs::path& folder, std::function<void(pid_t, uint64_t)> before_exec,
                    std::function<void(double)> tick);

// <folder>/train.json, an object: empty where the trainer left none. Nothing is decided by it.
nlohmann::json trainer_record(const fs::path& folder);

// <folder>/run.log, all that the trainer printed: empty where there is none.
std::string trainer_log(const fs::path& folder);

// Removes from an experiment's folder whatever is neither our record nor named in `keep` as a plain
// file. Done before every attempt, so that none finds what an earlier one left, and after the
// verdict. The folder was a candidate's: permissions are restored first, and nothing here throws.
void tidy(const fs::path& folder, const std::vector<std::string>& keep);

// The verdict's inputs again, from a `measured` event: for a run that stopped before its verdict.
Outcome outcome_of(const nlohmann::json& measured);
Baseline baseline_of(const nlohmann::json& measured, double budget);

}  // namespace autoresearch
