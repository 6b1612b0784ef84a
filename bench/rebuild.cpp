// How long a rebuild of the full train.cpp as a candidate takes: compile, localize, link, sandboxed
// as in the loop. The loop pays this once an experiment.
//
//   build/bench/rebuild [TASK]

#include <iostream>

#include "bench/workbench.h"

using namespace autoresearch;

int main(int argc, char** argv) try {
  const Workbench workbench(BUILD_DIR, argc > 1 ? argv[1] : "demo");
  const std::string source = read_file(SOURCE_DIR "/train.cpp");
  constexpr int kRuns = 5;
  double best = 1e9, sum = 0;
  for (int i = 0; i < kRuns; ++i) {
    const double seconds =
        workbench.build("candidate", source + "\n// " + std::to_string(i) + "\n").seconds;
    best = std::min(best, seconds);
    sum += seconds;
  }
  std::printf("candidate rebuild: mean %.1f s, best %.1f s of %d (%s)\n", sum / kRuns, best, kRuns,
              machine_name().c_str());
} catch (const std::exception& error) {
  std::cerr << "rebuild: error: " << error.what() << "\n";
  return 1;
}
