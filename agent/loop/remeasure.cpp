#include "agent/loop/remeasure.h"

#include <fmt/format.h>

#include <iostream>
#include <optional>
#include <vector>

#include "agent/lab/compiler_log.h"
#include "agent/lab/evidence.h"
#include "agent/lab/proof.h"
#include "agent/lab/recipe.h"
#include "agent/lab/verdict.h"
#include "agent/loop/doctor.h"
#include "agent/record/journal.h"
#include "common/error.h"
#include "common/folder.h"
#include "common/process.h"
#include "common/text.h"

namespace autoresearch {
namespace {

// A folder that is gone afterwards.
class Scratch {
 public:
  explicit Scratch(const fs::path& path) : path_(fresh_folder(path)) {}
  ~Scratch() { remove_whatever(path_); }
  ExperimentFolder folder(const std::string& who) const { return {path_ / who}; }

 private:
  const fs::path path_;
};

void build_program(const Kit& kit, const Slot& slot, const ExperimentFolder& folder,
                   const std::string& source) {
  fs::create_directories(folder.path);
  write_file(folder.source(), source);
  const BuildResult built = kit.build(folder, slot.sandboxed);
  const std::string who = folder.path.filename().string();
  check(!built.interrupted, "interrupted while the " + who + " was built");
  check(built.ok, "the " + who + " does not build with the programs of today: " +
                      one_line(clean_compiler_output(built.log), 300));
}

// Nothing if it was interrupted.
std::optional<double> measure_once(const Kit& kit, const Slot& slot,
                                   const ExperimentFolder& folder) {
  const std::string who = folder.path.filename().string();
  const Measurement m = measure(kit, slot, {}, folder, nullptr, who);
  if (m.interrupted) return std::nullopt;
  const std::string why = why_void(m.measured);
  check(why.empty(),
        "the " + who + " can't be measured here: " + why + " " + m.measured.last_words);
  return m.measured.bpb;
}

std::string summary(const std::vector<ProofBlock>& pairs) {
  const WholeGain gain = whole_gain(pairs);
  if (static_cast<int64_t>(pairs.size()) < kFewestPairs)
    return fmt::format("mean {:+.4f}; an interval takes at least {} pairs", gain.mean,
                       kFewestPairs);
  return fmt::format("{}: {:+.4f} (95 % interval {:+.4f} to {:+.4f}), {} pairs",
                     gain.verified ? "the gain carries over" : "no gain is proven here", gain.mean,
                     gain.low, gain.high, pairs.size());
}

}  // namespace

int remeasure(const fs::path& build, const Remeasuring& what) {
  const RunFolder run = run_folder(what.tag);
  check(fs::exists(run.journal()), "no run " + what.tag + "; see: build/agent runs");
  const FileLock lock(run.lock());  // a run that measures meanwhile would disturb and be disturbed
  const RunState state = replay(read_journal(run.journal()));
  check(state.champion_n > 0, "run " + what.tag + " has kept nothing that could be measured anew");

  const bool model_written = state.start->provider != "builtin";
  const Site site{.checkout = fs::current_path(),
                  .build = build,
                  .run = run.path,
                  .task = what.task.empty() ? state.start->task_name : what.task,
                  .device = what.device.empty() ? state.start->device : what.device,
                  .model_written = model_written,
                  .sandbox = what.sandbox};
  Slot slot = good_site(site);
  slot.steps = what.steps;
  slot.best_bpb = 0;  // nothing is kept by these figures, so a light look at causality will do
  const Kit kit = Kit::open_or_create(build, kits_dir());
  const Scratch scratch(run.remeasured());
  // The champion by its commit: a proof may have taken changes from what was kept last.
  for (const auto& [who, commit] :
       {std::pair("baseline", state.at(0).candidate.commit), std::pair("champion", state.champion)})
    build_program(kit, slot, scratch.folder(who), read_file(run.champion(commit).source()));

  std::vector<ProofBlock> pairs;
  for (int64_t i = 0; i < what.pairs && !stop_requested(); ++i) {
    slot.seed = static_cast<int64_t>(seed_of(what.tag + " remeasured", i, 0));
    const auto before = measure_once(kit, slot, scratch.folder("baseline"));
    const auto after = before ? measure_once(kit, slot, scratch.folder("champion")) : std::nullopt;
    if (!after) break;
    pairs.push_back({*after, *before, {}});
    std::cout << fmt::format("pair {} of {}   baseline {:.4f}   champion {:.4f}   {:+.4f}\n", i + 1,
                             what.pairs, *before, *after, *after - *before)
              << std::flush;
  }
  if (!pairs.empty()) std::cout << summary(pairs) << "\n";
  return static_cast<int64_t>(pairs.size()) == what.pairs ? kDone : kInterrupted;
}

}  // namespace autoresearch
