#include "agent/loop/options.h"

#include <algorithm>
#include <cmath>

#include "agent/loop/until.h"
#include "common/error.h"

namespace autoresearch {

void add_run_options(CLI::App& run, Options& options) {
  run.add_option("--tag", options.tag, "name of the run; the same name goes on with it")
      ->required();
  run.add_option("--task", options.task, "task that `prepare` made")->capture_default_str();
  add_model_options(run, options.models);
  run.add_option("--context-tokens", options.context_tokens,
                 "the model's context; below 32000 the prompt tells less of the run")
      ->check(CLI::Range(int64_t{1000}, int64_t{1} << 40))
      ->capture_default_str();
  run.add_option("--max-experiments", options.max_experiments, "stop after so many, baseline aside")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 40));
  run.add_option("--keep", options.keep,
                 "evidence: a gain beyond the noise of a measurement; greedy: any better figure")
      ->check(CLI::IsMember({"evidence", "greedy"}))
      ->capture_default_str();
  run.add_option("--until", options.until, "HH:MM: stop at that time of your clock");
  run.add_option("--notify", options.notify,
                 "a command that is told of the end, the first keep, a pause, a breakage, a "
                 "plateau: one line as its last argument, details on stdin");
  run.add_option("--max-hours", options.max_hours, "stop after so many hours")
      ->check(CLI::Range(0.0, 1e6));
  run.add_option("--overlap", options.overlap,
                 "on: propose and build while a training runs; off: one after the other; auto: "
                 "proposals always, builds with a GPU")
      ->check(CLI::IsMember({"auto", "on", "off"}))
      ->capture_default_str();
  run.add_option("--device", options.device, "auto, cpu, cuda or cuda:N")->capture_default_str();
  run.add_option("--seed", options.seed, "seed of every training run")->capture_default_str();
  run.add_option("--sandbox", options.sandbox, "auto or off")
      ->check(CLI::IsMember({"auto", "off"}))
      ->capture_default_str();
  run.add_option("--data", options.data, "folder of tasks and runs");
}

Settings settings_of(const Options& options, double budget, bool gpu, bool models, double now) {
  Settings settings;
  settings.overlap_proposals = options.overlap != "off";
  settings.overlap_builds = options.overlap == "on" || (options.overlap == "auto" && gpu);
  settings.models = models;
  settings.disturbed_pause = std::min(settings.disturbed_pause, budget);
  settings.keep = options.keep == "greedy" ? KeepRule::kGreedy : KeepRule::kEvidence;
  settings.max_experiments = options.max_experiments;
  if (options.max_hours > 0) settings.deadline = now + 3600 * options.max_hours;
  if (!options.until.empty())
    settings.deadline = std::min(settings.deadline,
                                 now + seconds_until(options.until, static_cast<std::time_t>(now)));
  return settings;
}

}  // namespace autoresearch
