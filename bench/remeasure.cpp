// Does a run's gain hold? Trains its baseline and its champion again, with three new seeds, both
// for the number of steps that the baseline made: speed and the luck of the first seed drop out.
//
//   build/bench/remeasure TAG

#include <iostream>

#include "agent/record/journal.h"
#include "bench/workbench.h"

using namespace autoresearch;

int main(int argc, char** argv) try {
  check(argc == 2, "usage: remeasure TAG");
  const RunFolder run = run_folder(argv[1]);
  check(fs::exists(run.journal()), "no run " + run.path.string());
  const RunState state = replay(read_journal(run.journal()));
  check(state.champion_n > 0, "nothing but the baseline was kept in this run");
  const Measured& baseline = *state.at(0).measured;
  Workbench workbench(BUILD_DIR, state.start->task_name);
  workbench.bench.device = state.start->device;
  workbench.bench.steps = baseline.steps;
  for (const auto& [who, n] :
       {std::pair("baseline", int64_t{0}), std::pair("champion", state.champion_n)})
    workbench.build(who, read_file(run.champion(state.at(n).candidate.commit) / "train.cpp"));
  std::printf("%lld steps each, in the run: baseline %.4f, champion %.4f (%+.4f)\n",
              static_cast<long long>(workbench.bench.steps), *baseline.bpb, state.best_bpb,
              state.best_bpb - *baseline.bpb);
  double sum = 0;
  for (int64_t seed : {1001, 1002, 1003}) {
    workbench.bench.seed = seed;
    const double before = *workbench.measure("baseline").bpb;
    const double after = *workbench.measure("champion").bpb;
    std::printf("seed %lld: baseline %.4f  champion %.4f  %+.4f\n", static_cast<long long>(seed),
                before, after, after - before);
    std::fflush(stdout);
    sum += after - before;
  }
  std::printf("---\nmean change over three new seeds: %+.4f\n", sum / 3);
} catch (const std::exception& error) {
  std::cerr << "remeasure: error: " << error.what() << "\n";
  return 1;
}
