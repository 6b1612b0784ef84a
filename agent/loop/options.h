// What `agent run` is told on the command line or in its TOML file.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "agent/lab/measurement.h"
#include "agent/llm/models.h"
#include "agent/loop/plan.h"
#include "agent/loop/remeasure.h"
#include "agent/propose/prompt.h"

namespace autoresearch {

struct Options {
  std::string tag, task = "demo", device = "auto", sandbox = "auto", overlap = "auto";
  std::string keep = "evidence", disturbed = "repeat", verify = "0.33", data, until, notify, from;
  ModelOptions models;
  int64_t context_tokens = kContextTokens;
  double tuner_share = 0;
  int64_t max_experiments = 0;  // 0: no limit
  double max_hours = 0;         // 0: no limit
  int64_t seed = 42;

  // agent verify
  bool only_proof = false;
  int64_t measurements = 0;  // 0: as many as at the end of a night
  std::string provider;      // of the run that is proven
};

// Those that say where a run takes place and which models it asks, for `run` and `doctor`.
void add_place_options(CLI::App& app, Options& options);

void add_run_options(CLI::App& run, Options& options);

void add_verify_options(CLI::App& verify, Options& options);

void add_remeasure_options(CLI::App& remeasure, Remeasuring& what);

// One moment by two clocks, in seconds since 1970: by the run's own, which nobody sets, and by the
// machine's.
struct Moment {
  double run, machine;
};

// The plan's part of them. `state`: of the journal so far. Throws Error for a time that is none.
Settings settings_of(const Options& options, const RunState& state, const Slot& slot, bool models,
                     Moment now);

}  // namespace autoresearch
