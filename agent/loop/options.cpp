#include "agent/loop/options.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "agent/lab/proof.h"
#include "agent/loop/until.h"
#include "common/error.h"
#include "common/limits.h"

namespace autoresearch {

namespace {

// --verify off | a share of the night | a number of measurements; false for any other words.
bool read_proof(const std::string& words, Settings& settings) {
  if (words == "off") return true;
  char* end = nullptr;
  const double value = std::strtod(words.c_str(), &end);
  if (words.empty() || *end != '\0') return false;
  if (value > 0 && value < 1) {
    settings.proof_share = value;
    return true;
  }
  const bool count = value >= 2 * kFewestPairs && value < 1e6 && value == std::floor(value);
  if (count) settings.proof_measurements = static_cast<int64_t>(value);
  return count;
}

std::string proof_problem(const std::string& words) {
  Settings unused;
  return read_proof(words, unused)
             ? ""
             : "'" + words +
                   "' is not off, a share such as 0.33, or a number of measurements from " +
                   std::to_string(2 * kFewestPairs) + " on";
}

void add_sandbox_option(CLI::App& app, std::string& sandbox) {
  app.add_option("--sandbox", sandbox,
                 "auto: model-written code runs in bubblewrap or not at all; landlock: a weaker "
                 "sandbox, for containers; try: the strongest of these that works, or none; off")
      ->check(CLI::IsMember({"auto", "landlock", "try", "off"}))
      ->capture_default_str();
}

}  // namespace

void add_place_options(CLI::App& app, Options& options) {
  app.add_option("--task", options.task, "task that `prepare` made, by name or folder")
      ->capture_default_str();
  add_model_options(app, options.models);
  app.add_option("--device", options.device, "auto, cpu, cuda or cuda:N")->capture_default_str();
  add_sandbox_option(app, options.sandbox);
  app.add_option("--data", options.data, "folder of tasks and runs");
}

void add_run_options(CLI::App& run, Options& options) {
  run.add_option("--tag", options.tag, "name of the run; an earlier name continues that run")
      ->required();
  add_place_options(run, options);
  run.add_option("--from", options.from, "begin with the champion of this run, not with train.cpp");
  run.add_option("--tuner-share", options.tuner_share,
                 "share of the experiments that the builtin proposer makes beside a model")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  run.add_option("--context-tokens", options.context_tokens,
                 "size of the model's context; below 32000 the prompt has less history")
      ->check(CLI::Range(int64_t{1000}, int64_t{1} << 40))
      ->capture_default_str();
  run.add_option("--max-experiments", options.max_experiments,
                 "stop after so many, not counting the baseline")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 40));
  run.add_option(
         "--keep", options.keep,
         "evidence: keep a gain beyond the noise of a measurement; greedy: keep any better score")
      ->check(CLI::IsMember({"evidence", "greedy"}))
      ->capture_default_str();
  run.add_option("--verify", options.verify,
                 "how long the gain is proven at the end: a share of the night, a number of "
                 "measurements, or off")
      ->check(proof_problem)
      ->capture_default_str();
  run.add_option("--disturbed", options.disturbed,
                 "repeat or count a measurement that other load on the machine disturbed")
      ->check(CLI::IsMember({"repeat", "count"}))
      ->capture_default_str();
  run.add_option("--until", options.until, "HH:MM: stop at that local time")->check(until_problem);
  run.add_option("--notify", options.notify,
                 "command to run at the end, the first keep, a pause, a breakage or a plateau; it "
                 "gets one line as its last argument, and details on stdin");
  run.add_option("--max-hours", options.max_hours, "stop after so many hours")
      ->check(CLI::Range(1e-6, 1e6));
  run.add_option("--overlap", options.overlap,
                 "on: propose and build while a training runs; off: one after the other; auto: "
                 "proposals unless they are recorded, builds with a GPU")
      ->check(CLI::IsMember({"auto", "on", "off"}))
      ->capture_default_str();
  run.add_option("--seed", options.seed, "the seed of each training is derived from this one")
      ->capture_default_str();
}

void add_verify_options(CLI::App& verify, Options& options) {
  verify.add_option("--tag", options.tag, "name of the run, which must not be running")->required();
  verify
      .add_option("--measurements", options.measurements,
                  "at most so many; by default a third of those made so far, but at least 8")
      ->check(CLI::Range(2 * kFewestPairs, int64_t{1'000'000}));
  verify.add_option("--task", options.task, "the run's task, if its folder has another name");
  add_sandbox_option(verify, options.sandbox);
  verify.add_option("--notify", options.notify, "command to run at the end, as for run");
  verify.add_option("--data", options.data, "folder of tasks and runs");
}

void add_remeasure_options(CLI::App& remeasure, Remeasuring& what) {
  remeasure.add_option("--tag", what.tag, "name of the run, which must not be running")->required();
  remeasure.add_option("--task", what.task, "train on another task than the run's");
  remeasure.add_option("--device", what.device, "train on another device than the run's");
  remeasure.add_option("--pairs", what.pairs, "how many times both are trained")
      ->check(CLI::Range(int64_t{1}, int64_t{1000}))
      ->capture_default_str();
  remeasure
      .add_option(
          "--steps", what.steps,
          "train so many steps, for at most ten minutes more than the budget: a gain that remains "
          "is not won by speed")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 40));
  add_sandbox_option(remeasure, what.sandbox);
  remeasure.add_option("--data", what.data, "folder of tasks and runs");
}

Settings settings_of(const Options& options, const RunState& state, const Slot& slot, bool models,
                     Moment now) {
  Settings settings;
  // A recorded reply costs no time, and fits to the champion that those before it have made.
  const bool recorded = !options.models.replay.empty() || options.models.first.kind == "replay";
  settings.overlap_proposals = options.overlap == "on" || (options.overlap == "auto" && !recorded);
  settings.overlap_builds = options.overlap == "on" || (options.overlap == "auto" && slot.gpu);
  settings.models = models;
  settings.tuner_share = options.tuner_share;
  settings.cores = usable_cores();
  settings.repeat_disturbed = options.disturbed != "count";
  settings.disturbed_pause = std::min(settings.disturbed_pause, slot.budget);
  settings.keep = options.keep == "greedy" ? KeepRule::kGreedy : KeepRule::kEvidence;
  settings.max_experiments = options.max_experiments;
  if (options.max_hours > 0) settings.deadline = now.run + 3600 * options.max_hours;
  if (!options.until.empty())
    settings.deadline =
        std::min(settings.deadline,
                 now.run + seconds_until(options.until, static_cast<std::time_t>(now.machine)));
  if (std::isfinite(settings.deadline)) settings.given = settings.deadline - now.run;
  settings.score_test = true;
  read_proof(options.verify, settings);
  settings.only_proof = options.only_proof;
  settings.proofs_wanted = state.proofs + 1;
  if (options.measurements > 0) settings.proof_measurements = options.measurements;
  return settings;
}

}  // namespace autoresearch
