// Ten thousand nights that are killed, stopped, disturbed and short of disk: nothing is lost,
// doubled or mislabelled, and the same seed gives the same night.
#include "tests/simulation.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "tests/support.h"

namespace autoresearch {
namespace {

class SimulationTest : public testing::Test {
 protected:
  SimulationTest() {
    std::string pattern = folder_in_memory() / "autoresearch_nights.XXXXXX";
    dir_ = mkdtemp(pattern.data());
  }
  ~SimulationTest() override { fs::remove_all(dir_); }

  // A night, and what is wrong with it.
  std::string wrong_with(const SimulatedNight& night, uint64_t seed) {
    const fs::path journal = dir_ / std::to_string(seed);
    Simulation simulation(night, seed, journal);
    simulation.run();
    kills_ += simulation.kills();
    experiments_ += simulation.state().next_n();
    std::string wrong;
    for (const std::string& line : simulation.check()) wrong += line + "\n";
    if (wrong.empty()) fs::remove(journal), fs::remove(journal.string() + ".lock");
    return wrong;
  }

  fs::path dir_;
  int64_t kills_ = 0, experiments_ = 0;
};

SimulatedNight everything_goes_wrong() {
  SimulatedNight night;
  night.hours = 1.5;
  night.kill = 0.004;
  night.stop = 0.002;
  night.trouble = 0.02;
  night.breaks = 0.03;
  return night;
}

TEST_F(SimulationTest, TenThousandNightsLoseDoubleAndMislabelNothing) {
  const char* wanted = std::getenv("AUTORESEARCH_NIGHTS");
  const int nights = wanted ? std::atoi(wanted) : 10000;
  SimulatedNight night = everything_goes_wrong();
  for (int seed = 1; seed <= nights; ++seed) {
    night.settings.overlap_builds = seed % 2 == 0;
    night.settings.overlap_proposals = seed % 3 != 0;
    night.settings.models = seed % 5 != 0;
    night.settings.keep = seed % 4 < 2 ? KeepRule::kEvidence : KeepRule::kGreedy;
    ASSERT_EQ(wrong_with(night, static_cast<uint64_t>(seed)), "") << "seed " << seed;
  }
  std::printf("%d nights, %lld experiments, %lld kills\n", nights,
              static_cast<long long>(experiments_), static_cast<long long>(kills_));
  EXPECT_GT(kills_, nights / 2);
  EXPECT_GT(experiments_, 3 * nights);
}

TEST_F(SimulationTest, TheSameSeedGivesTheSameNight) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    std::string journals[2];
    for (std::string& journal : journals) {
      const fs::path path = dir_ / "same";
      Simulation(everything_goes_wrong(), seed, path).run();
      journal = read_file(path);
      fs::remove(path);
    }
    EXPECT_EQ(journals[0], journals[1]) << "seed " << seed;
  }
}

TEST_F(SimulationTest, WithoutMishapsAGpuIdlesForTheGapsOnly) {
  SimulatedNight night;
  night.settings.models = night.settings.overlap_builds = true;
  night.no_reply = night.bad_edit = night.no_build = night.crash = night.disturbed = 0;
  night.hours = 8;
  Simulation simulation(night, 7, dir_ / "gpu");
  simulation.run();
  const TimeSpent& spent = simulation.state().spent;
  EXPECT_LT(spent.waiting() / spent.total, 0.02) << spent.waiting() << " of " << spent.total;
}

}  // namespace
}  // namespace autoresearch
