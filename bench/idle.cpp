// How the loop spends a device's night: simulated nights of eight hours with the product's own
// plan, journal and verdicts (tests/simulation.h), for several proposal times and budgets, with and
// without overlap, on a processor (proposals overlap) and a GPU (builds too).
//
//   build/bench/idle [nights a cell, 20] [seed, 1]
#include <cstdio>
#include <cstdlib>

#include "tests/simulation.h"

using namespace autoresearch;

namespace {

struct Cell {
  double idle = 0, building = 0, experiments = 0, disturbed = 0;
};

Cell nights(SimulatedNight night, int count, uint64_t seed) {
  Cell cell;
  const fs::path journal = folder_in_memory() / "autoresearch_idle.jsonl";
  for (int i = 0; i < count; ++i) {
    fs::remove(journal);
    Simulation simulation(night, seed + static_cast<uint64_t>(i), journal);
    simulation.run();
    const TimeSpent& spent = simulation.state().spent;
    cell.idle += 100 * spent.waiting() / spent.total / count;
    cell.building += 100 * spent.building / spent.total / count;
    cell.experiments += static_cast<double>(simulation.state().next_n() - 1) / count;
    cell.disturbed += static_cast<double>(simulation.disturbed()) / count;
  }
  fs::remove(journal);
  fs::remove(journal.string() + ".lock");
  return cell;
}

}  // namespace

int main(int argc, char** argv) {
  const int count = argc > 1 ? std::atoi(argv[1]) : 20;
  const uint64_t seed = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 1;
  std::printf(
      "%d nights of 8 hours a cell, seed %llu; start-up 8 s, sealing 2 s, scoring 15 s, "
      "build 4 s, 4 %% of measurements disturbed\n\n",
      count, static_cast<unsigned long long>(seed));
  std::printf("budget  proposal  overlap            idle  building  experiments  disturbed\n");
  for (const double budget : {60.0, 300.0})
    for (const double proposal : {5.0, 30.0, 120.0})
      for (const char* overlap : {"off", "proposals", "proposals, builds"}) {
        SimulatedNight night;
        night.hours = 8;
        night.budget = budget;
        night.proposal = proposal;
        night.settings.models = true;
        night.settings.overlap_proposals = overlap[0] == 'p';
        night.settings.overlap_builds = std::string(overlap).size() > 10;
        const Cell cell = nights(night, count, seed);
        std::printf("%4.0f s   %4.0f s    %-17s %5.1f %%   %5.1f %%        %5.1f      %5.1f\n",
                    budget, proposal, overlap, cell.idle, cell.building, cell.experiments,
                    cell.disturbed);
      }
}
