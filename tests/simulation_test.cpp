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
    count_claims(simulation);
    experiments_ += simulation.state().next_n();
    std::string wrong;
    for (const std::string& line : simulation.check()) wrong += line + "\n";
    if (wrong.empty()) fs::remove(journal), fs::remove(journal.string() + ".lock");
    return wrong;
  }

  void count_claims(const Simulation& simulation) {
    const auto& proof = simulation.state().verified;
    proofs_ += simulation.state().proofs;
    if (!proof) return;
    whole_ += proof->verified;
    whole_falsely_ += proof->verified && simulation.true_gain(proof->tip) >= 0;
    for (const event::ProvenChange& change : proof->changes) {
      verified_ += change.result == "verified";
      verified_falsely_ += change.result == "verified" && simulation.true_effect(change.n) <= 0;
      dropped_ += change.result == "dropped";
    }
  }

  void print_claims() const {
    const auto whole = [](int64_t count) { return static_cast<long long>(count); };
    std::printf(
        "%lld proofs; whole gain verified %lld times, %lld falsely; changes verified %lld, %lld "
        "falsely; dropped %lld\n",
        whole(proofs_), whole(whole_), whole(whole_falsely_), whole(verified_),
        whole(verified_falsely_), whole(dropped_));
  }

  fs::path dir_;
  int64_t kills_ = 0, experiments_ = 0, proofs_ = 0;
  int64_t whole_ = 0, whole_falsely_ = 0, verified_ = 0, verified_falsely_ = 0, dropped_ = 0;
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
    night.settings.tuner_share = seed % 10 == 1 ? 0.4 : 0;
    night.settings.keep = seed % 4 < 2 ? KeepRule::kEvidence : KeepRule::kGreedy;
    night.settings.score_test = seed % 7 < 4;
    night.settings.proof_share = seed % 3 == 0 ? 1.0 / 3 : 0;
    night.settings.max_experiments = seed % 6 == 0 ? 6 : 0;
    night.hours = seed % 3 == 0 ? 3 : 1.5;
    ASSERT_EQ(wrong_with(night, static_cast<uint64_t>(seed)), "") << "seed " << seed;
  }
  print_claims();
  EXPECT_GT(proofs_, nights / 10);
  std::printf("%d nights, %lld experiments, %lld kills\n", nights,
              static_cast<long long>(experiments_), static_cast<long long>(kills_));
  EXPECT_GT(kills_, nights / 2);
  EXPECT_GT(experiments_, 3 * nights);
}

// Long nights on a steady and on a noisy machine, in which single changes are in question too and
// things go wrong meanwhile: what is called verified is true.
TEST_F(SimulationTest, WhatIsVerifiedIsTrue) {
  SimulatedNight night;
  night.settings.models = night.settings.overlap_builds = true;
  night.settings.proof_share = 1.0 / 3;
  night.hours = 9;
  night.kill = 0.002;
  night.trouble = 0.01;
  night.breaks = 0.01;
  for (uint64_t seed = 1; seed <= 300; ++seed) {
    night.noise = seed % 2 == 0 ? 3e-4 : 1.5e-3;
    ASSERT_EQ(wrong_with(night, seed), "") << "seed " << seed;
  }
  print_claims();
  EXPECT_GT(proofs_, 280);
  EXPECT_GT(whole_, 200);
  EXPECT_GT(verified_, 100);
  EXPECT_GT(dropped_, 5);
  EXPECT_GT(kills_, 300);
  EXPECT_LE(whole_falsely_, whole_ / 20);
  EXPECT_LE(verified_falsely_, verified_ / 20);
}

// Every proposal is the same code as before: there is nothing to verify.
TEST_F(SimulationTest, ANightWithoutAnyTrueGainVerifiesNone) {
  SimulatedNight night;
  night.settings.models = true;
  night.settings.keep = KeepRule::kGreedy;  // which keeps by luck alone
  night.settings.proof_share = 1.0 / 3;
  night.hours = 5;
  night.effects = false;
  for (uint64_t seed = 1; seed <= 400; ++seed)
    ASSERT_EQ(wrong_with(night, seed), "") << "seed " << seed;
  print_claims();
  EXPECT_GT(proofs_, 350);
  EXPECT_LE(whole_, proofs_ / 20);
  EXPECT_LE(verified_, proofs_ / 20);
}

TEST_F(SimulationTest, TheSameSeedGivesTheSameNight) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    std::string journals[2];
    for (std::string& journal : journals) {
      const fs::path path = dir_ / "same";
      SimulatedNight night = everything_goes_wrong();
      night.settings.proof_share = seed % 2 == 0 ? 1.0 / 3 : 0;
      night.hours = 3;
      Simulation(night, seed, path).run();
      journal = read_file(path);
      fs::remove(path);
    }
    EXPECT_EQ(journals[0], journals[1]) << "seed " << seed;
  }
}

TEST_F(SimulationTest, TheUserIsToldWhatMattersOnce) {
  SimulatedNight night;
  night.settings.models = true;
  night.hours = 8;
  Simulation simulation(night, 7, dir_ / "told");
  simulation.run();
  EXPECT_EQ(simulation.times_said("safe to leave"), 1);
  EXPECT_EQ(simulation.times_said("program.md has changed; #"), 1);
  EXPECT_EQ(simulation.noticed(Notice::kFirstKeep), 1);
  EXPECT_EQ(simulation.noticed(Notice::kEnd), 1);
  EXPECT_EQ(simulation.noticed(Notice::kBreakage), 0);
  night.breaks = 0.05;
  Simulation broken(night, 7, dir_ / "broken");
  broken.run();
  EXPECT_GT(broken.noticed(Notice::kBreakage), 0);
  EXPECT_EQ(broken.times_said("because the machine is broken"), broken.noticed(Notice::kBreakage));
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
