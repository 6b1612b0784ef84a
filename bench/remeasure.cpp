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
  const fs::path run = data_dir() / "runs" / argv[1];
  check(fs::exists(run / "journal.jsonl"), "no run " + run.string());
  const RunState state = replay(read_journal(run / "journal.jsonl"));
  check(state.champion_n > 0, "nothing but the baseline was kept in this run");
  Workbench workbench(BUILD_DIR, state.start.at("task_name"));
  workbench.bench.device = state.start.at("device");
  workbench.bench.steps = state.experiments[0].measured->at("steps");
  for (const char* who : {"baseline", "champion"}) {
    const auto& experiment =
        state.experiments[who == std::string("baseline") ? 0
                                                         : static_cast<size_t>(state.champion_n)];
    workbench.build(who, read_file(run / "champion" / experiment.commit / "train.cpp"));
  }
  std::printf("%lld steps each, in the run: baseline %.4f, champion %.4f (%+.4f)\n",
              static_cast<long long>(workbench.bench.steps),
              state.experiments[0].measured->at("bpb").get<double>(), state.best_bpb,
              state.best_bpb - state.experiments[0].measured->at("bpb").get<double>());
  double sum = 0;
  for (int64_t seed : {1001, 1002, 1003}) {
    workbench.bench.seed = seed;
    const double before = *workbench.measure("baseline").outcome.bpb;
    const double after = *workbench.measure("champion").outcome.bpb;
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
