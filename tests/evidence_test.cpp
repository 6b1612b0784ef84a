#include "agent/lab/evidence.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <set>

#include "agent/lab/proof.h"
#include "agent/lab/speed.h"
#include "common/error.h"

namespace autoresearch {
namespace {

// A baseline that scored 1.000 on average, with a sigma of 0.010.
Evidence quiet_evidence() { return {{{0.99, 1.00, 1.01}}, {}, {}, 0}; }

Judgement judge_and_add(Evidence& evidence, double y, int64_t tokens_saved = 0) {
  const Judgement judgement = judge(evidence, y, tokens_saved);
  add_candidate(evidence, y, judgement);
  return judgement;
}

// ------------------------------------------------------------------------------------------------
// Keep fast

TEST(Noise, IsPooledOverTheRepeatsOfEachCode) {
  // Squares 2e-4 with two degrees of freedom and 2e-2 with one: codes' own means do not count.
  const Noise noise = noise_of({{{0.99, 1.00, 1.01}, {0.5}, {0.2, 0.4}}, {}, {}, 0});
  EXPECT_EQ(noise.freedom, 3);
  EXPECT_NEAR(noise.sigma, std::sqrt((2e-4 + 2e-2) / 3), 1e-12);
}

TEST(Noise, IsUnknownBeforeAnythingWasMeasuredTwice) {
  EXPECT_EQ(noise_of({}).freedom, 0);
  EXPECT_EQ(noise_of({{{1.0}}, {}, {}, 0}).freedom, 0);
  EXPECT_EQ(judge({{{1.0}}, {}, {}, 0}, 0.9999, 0).decision, Decision::kKept);
}

TEST(Judge, KeepsWhatIsBetterThanTheBarByMoreThanSigma) {
  const Evidence evidence = quiet_evidence();
  EXPECT_EQ(judge(evidence, 0.9899, 0).decision, Decision::kKept);
  EXPECT_EQ(judge(evidence, 0.9901, 0).decision, Decision::kNoise);
  EXPECT_EQ(judge(evidence, 1.0099, 0).decision, Decision::kNoise);
  EXPECT_EQ(judge(evidence, 1.0101, 0).decision, Decision::kNo);
  EXPECT_NEAR(judge(evidence, 0.97, 0).difference, -0.03, 1e-12);
  EXPECT_NEAR(judge(evidence, 0.97, 0).sigma, 0.01, 1e-12);
}

TEST(Judge, KeepsSimplerCodeThatIsEqualWithinTheNoise) {
  const Evidence evidence = quiet_evidence();
  EXPECT_EQ(judge(evidence, 0.999, kClearlyFewerTokens).decision, Decision::kSimpler);
  EXPECT_EQ(judge(evidence, 0.999, kClearlyFewerTokens - 1).decision, Decision::kNoise);
  EXPECT_EQ(judge(evidence, 1.0099, 500).decision, Decision::kSimpler);
  EXPECT_EQ(judge(evidence, 1.0101, 500).decision, Decision::kNo);
  EXPECT_EQ(judge(evidence, 0.95, 500).decision, Decision::kKept);
  EXPECT_TRUE(is_keep(Decision::kSimpler) && is_keep(Decision::kKept));
  EXPECT_FALSE(is_keep(Decision::kNoise) || is_keep(Decision::kNo));
}

TEST(Judge, LetsNoRowOfSimplificationsCostMoreThanTheNoise) {
  Evidence evidence = quiet_evidence();
  EXPECT_EQ(judge_and_add(evidence, 1.009, 500).decision, Decision::kSimpler);
  add_repeat(evidence, 1.009);
  EXPECT_EQ(judge_and_add(evidence, 1.015, 500).decision, Decision::kNoise);
}

TEST(Judge, GreedyIsUpstreamsRule) {
  Evidence evidence = quiet_evidence();  // made by 0.99; repeats do not count
  EXPECT_EQ(judge(evidence, 0.98999, 0, KeepRule::kGreedy).decision, Decision::kKept);
  EXPECT_FALSE(is_keep(judge(evidence, 0.99, 500, KeepRule::kGreedy).decision));
  EXPECT_EQ(repeats_owed(evidence, KeepRule::kGreedy), 0);
  add_candidate(evidence, 0.98, judge(evidence, 0.98, 0, KeepRule::kGreedy));
  EXPECT_EQ(bar_of(evidence, KeepRule::kGreedy).value, 0.98);
}

TEST(Bar, OfTheBaselineIsItsMean) {
  EXPECT_NEAR(bar_of(quiet_evidence()).value, 1, 1e-12);
  EXPECT_EQ(bar_of(quiet_evidence()).n, 3);
  EXPECT_THROW(bar_of({}), Error);
}

TEST(Bar, FollowsTheMeasurementsWhileThePastSaysNothing) {
  Evidence evidence = quiet_evidence();
  judge_and_add(evidence, 0.9);
  EXPECT_NEAR(bar_of(evidence).value, 0.9, 1e-12);
  add_repeat(evidence, 0.92);
  EXPECT_NEAR(bar_of(evidence).value, 0.91, 1e-12);
  EXPECT_EQ(bar_of(evidence).n, 2);
}

// Differences whose median is 0 and whose median deviation is `spread`, also with one more.
Evidence evidence_with_a_past(double spread) {
  Evidence evidence = quiet_evidence();
  for (double d : {-2, -1, -1, 0, 0, 1, 1, 1, 2}) evidence.differences.push_back(d * spread);
  return evidence;
}

TEST(Bar, CountsWhatMadeTheChampionAsWhatPastDifferencesMakeOfIt) {
  Evidence evidence = evidence_with_a_past(0.02);
  judge_and_add(evidence, 0.985);
  const double sigma2 = 0.01 * 0.01, s2 = sigma2 * (1 + 1.0 / 3);
  const double tau2 = 1.4826 * 0.02 * 1.4826 * 0.02 - 2 * sigma2;
  const double shrunk = 1 + (0 / tau2 - 0.015 / s2) / (1 / tau2 + 1 / s2);
  EXPECT_NEAR(bar_of(evidence).value, shrunk, 1e-12);
  EXPECT_GT(bar_of(evidence).value, 0.987);
}

TEST(Bar, TakesFreshMeasurementsAsTheyAre) {
  Evidence evidence = evidence_with_a_past(0.02);
  judge_and_add(evidence, 0.985);
  add_repeat(evidence, 0.985);  // the noise, and with it the discount, becomes a little smaller
  add_repeat(evidence, 0.985);
  const double discount = 3 * (bar_of(evidence).value - 0.985);
  EXPECT_GT(discount, 0.0005);
  EXPECT_LT(discount, 0.0025);
  EXPECT_EQ(bar_of(evidence).n, 3);
}

TEST(Bar, StaysWithinOneStandardDeviationOfALargeGain) {
  Evidence evidence = evidence_with_a_past(0.01);
  judge_and_add(evidence, 0.5);
  EXPECT_NEAR(bar_of(evidence).value, 0.5 + 0.01 * std::sqrt(4.0 / 3), 1e-12);
}

TEST(Repeats, AreOwedByNewChampionsAndByOldBars) {
  Evidence evidence;
  EXPECT_EQ(repeats_owed(evidence), 0);
  add_repeat(evidence, 1.0);
  EXPECT_EQ(repeats_owed(evidence), 2);
  add_repeat(evidence, 1.01);
  add_repeat(evidence, 0.99);
  EXPECT_EQ(repeats_owed(evidence), 0);
  judge_and_add(evidence, 0.9);
  EXPECT_EQ(repeats_owed(evidence), 1);
  add_repeat(evidence, 0.9);
  for (int i = 0; i < 7; ++i) judge_and_add(evidence, 1.1);
  EXPECT_EQ(repeats_owed(evidence), 0);
  judge_and_add(evidence, 1.1);
  EXPECT_EQ(repeats_owed(evidence), 1);
}

TEST(Gains, AreTheStepsFromBarToBar) {
  Evidence evidence = quiet_evidence();
  EXPECT_TRUE(gains_of(evidence).empty());
  judge_and_add(evidence, 0.9);
  add_repeat(evidence, 0.92);
  judge_and_add(evidence, 0.8);
  ASSERT_EQ(gains_of(evidence).size(), 2u);
  EXPECT_NEAR(gains_of(evidence)[0], -0.09, 1e-12);
  EXPECT_NEAR(gains_of(evidence)[1], -0.11, 1e-12);
}

TEST(Seeds, DifferForEachMeasurementAndNotAfterARestart) {
  EXPECT_EQ(seed_of("a", 1, 2), seed_of("a", 1, 2));
  std::set<uint64_t> seeds;
  for (const char* tag : {"a", "b", "a1"})
    for (int64_t n = 0; n < 20; ++n)
      for (int64_t attempt = 0; attempt < 20; ++attempt) seeds.insert(seed_of(tag, n, attempt));
  EXPECT_EQ(seeds.size(), 3u * 20 * 20);
  EXPECT_LT(*seeds.rbegin(), uint64_t{1} << 48);
}

// ------------------------------------------------------------------------------------------------
// Student's t

TEST(Student, AgreesWithThePrintedTable) {
  // NIST/SEMATECH e-Handbook of Statistical Methods, 1.3.6.7.2.
  const struct {
    int64_t freedom;
    double p, t;
  } table[] = {{1, 0.90, 3.078},   {1, 0.975, 12.706}, {2, 0.95, 2.920},  {3, 0.975, 3.182},
               {4, 0.99, 3.747},   {5, 0.975, 2.571},  {8, 0.995, 3.355}, {10, 0.999, 4.144},
               {15, 0.975, 2.131}, {30, 0.95, 1.697},  {60, 0.99, 2.390}, {100, 0.975, 1.984}};
  for (const auto& [freedom, p, t] : table) {
    EXPECT_NEAR(student_quantile(p, freedom), t, 6e-4) << freedom << " " << p;
    EXPECT_NEAR(student_quantile(1 - p, freedom), -t, 6e-4) << freedom << " " << p;
    EXPECT_NEAR(student_cdf(student_quantile(p, freedom), freedom), p, 1e-12);
  }
  EXPECT_EQ(student_cdf(0, 7), 0.5);
  EXPECT_EQ(student_cdf(-std::numeric_limits<double>::infinity(), 2), 0);
  EXPECT_THROW(student_cdf(1, 0), Error);
  EXPECT_THROW(student_quantile(1, 5), Error);
}

// ------------------------------------------------------------------------------------------------
// Prove before dawn

TEST(Plan, HasEachArmOnceInEachBlockInShuffledOrder) {
  const ProofPlan plan = plan_proof(33, 10, "tag");
  EXPECT_EQ(plan.blocks.size(), 5u);
  EXPECT_EQ(plan.variants, 3);
  EXPECT_EQ(plan.reserved_pairs, kFewestPairs);
  std::set<std::vector<int64_t>> orders;
  for (std::vector<int64_t> block : plan.blocks) {
    orders.insert(block);
    std::sort(block.begin(), block.end());
    EXPECT_EQ(block, (std::vector<int64_t>{kTip, kBaseline, kFirstVariant, 3, 4}));
  }
  EXPECT_GT(orders.size(), 1u);
  EXPECT_EQ(plan.blocks, plan_proof(33, 10, "tag").blocks);
  EXPECT_NE(plan.blocks, plan_proof(33, 10, "other").blocks);
}

TEST(Plan, StaysWithinItsBudgetAndAlwaysHasClaimOne) {
  for (int64_t budget = 0; budget <= 300; ++budget) {
    for (int64_t changes : {0, 1, 2, 5, 100}) {
      const ProofPlan plan = plan_proof(budget, changes, "tag");
      int64_t spent = 2 * plan.reserved_pairs;
      for (const auto& block : plan.blocks) spent += static_cast<int64_t>(block.size());
      EXPECT_LE(spent, budget);
      EXPECT_LE(plan.variants, changes);
      EXPECT_EQ(static_cast<int64_t>(plan.blocks.size()) >= kFewestPairs, budget >= 8) << budget;
    }
  }
}

TEST(WholeGain, IsStudentsPairedInterval) {
  // Differences -3, -1, -2, -2: mean -2, standard error sqrt(2/3) / 2, t = 3.18245 for 3 degrees.
  const std::vector<ProofBlock> pairs = {{7, 10, {}}, {19, 20, {}}, {28, 30, {}}, {38, 40, {}}};
  const WholeGain gain = whole_gain(pairs);
  const double half = 3.182446 * std::sqrt(2.0 / 3) / 2;
  EXPECT_NEAR(gain.mean, -2, 1e-12);
  EXPECT_NEAR(gain.low, -2 - half, 1e-5);
  EXPECT_NEAR(gain.high, -2 + half, 1e-5);
  EXPECT_TRUE(gain.verified);
}

TEST(WholeGain, IsUnprovenFromThreePairsOrIfTheIntervalHoldsZero) {
  EXPECT_FALSE(whole_gain({}).verified);
  EXPECT_FALSE(whole_gain({{1, 2, {}}, {1, 2, {}}, {1, 2, {}}}).verified);
  EXPECT_TRUE(whole_gain({{1, 2, {}}, {1, 2, {}}, {1, 2, {}}, {1, 2, {}}}).verified);
  EXPECT_FALSE(whole_gain({{1, 9, {}}, {1, 2, {}}, {1, 2, {}}, {3, 2, {}}}).verified);
  EXPECT_FALSE(whole_gain({{2, 1, {}}, {2, 1, {}}, {2, 1, {}}, {2, 1, {}}}).verified);
}

TEST(Prove, ComparesWithinBlocksAgainstDrift) {
  // A machine that becomes slower by 10 from block to block; without change 0 the tip loses 1.
  std::vector<ProofBlock> blocks;
  const double noise[4][2] = {{0.01, 0}, {0, 0.02}, {-0.01, 0}, {0, -0.01}};
  for (int i = 0; i < 4; ++i)
    blocks.push_back({10.0 * i + noise[i][0], 10.0 * i + 2, {10.0 * i + 1 + noise[i][1]}});
  const Proof proof = prove(blocks);
  EXPECT_LT(proof.sigma, 0.02);
  EXPECT_EQ(proof.freedom, 3);
  ASSERT_EQ(proof.changes.size(), 1u);
  EXPECT_NEAR(proof.changes[0].effect, 1.0025, 1e-9);
  EXPECT_NEAR(proof.changes[0].t, proof.changes[0].effect / (proof.sigma * std::sqrt(0.5)), 1e-9);
  EXPECT_TRUE(proof.changes[0].verified);
  EXPECT_TRUE(proof.whole.verified);
}

TEST(Prove, DropsWhatMeasuresBetterWithoutIt) {
  std::vector<ProofBlock> blocks;
  for (double shift : {-0.1, 0.1, -0.1, 0.1})
    blocks.push_back({1 + shift, 2, {0.5 - shift, 0.99 + shift, 1.5 + shift}});
  const Proof proof = prove(blocks);
  EXPECT_TRUE(proof.changes[0].drop);
  EXPECT_FALSE(proof.changes[1].drop);  // better by less than a standard error
  EXPECT_FALSE(proof.changes[2].drop);
  EXPECT_FALSE(proof.changes[0].verified || proof.changes[1].verified);
  EXPECT_THROW(prove({{1, 2, {1}}, {1, 2, {}}}), Error);
}

TEST(Prove, ClaimsNothingWithoutBlocksOrWithoutADifference) {
  EXPECT_FALSE(prove({}).whole.verified);
  const Proof same = prove({{1, 1, {1}}, {1, 1, {1}}, {1, 1, {1}}, {1, 1, {1}}});
  EXPECT_FALSE(same.whole.verified || same.changes[0].verified || same.changes[0].drop);
}

// Nights' ends: `variants` changes with these true effects, `blocks` blocks, sigma 1. The share of
// runs with change 0 verified.
double verified_share(int64_t blocks, std::vector<double> effects, int tries) {
  std::mt19937_64 random(7);
  std::normal_distribution<double> noise;
  int verified = 0;
  for (int i = 0; i < tries; ++i) {
    std::vector<ProofBlock> measured;
    for (int64_t b = 0; b < blocks; ++b) {
      ProofBlock block{noise(random), noise(random), {}};
      for (double effect : effects) block.without.push_back(effect + noise(random));
      measured.push_back(block);
    }
    verified += prove(measured).changes[0].verified;
  }
  return static_cast<double>(verified) / tries;
}

TEST(SmallestProvableEffect, IsProvenFourTimesInFive) {
  for (const auto& [blocks, variants] : {std::pair{5, 3}, {4, 1}, {10, 8}}) {
    std::vector<double> effects(static_cast<size_t>(variants));
    effects[0] = smallest_provable_effect(1, blocks, variants);
    EXPECT_NEAR(verified_share(blocks, effects, 2000), 0.8, 0.04) << blocks << " " << variants;
  }
}

TEST(Prove, VerifiesOneNullInFortyAtMost) {
  EXPECT_LE(verified_share(4, {0}, 4000), 0.025 + 0.008);
  EXPECT_LE(verified_share(5, {0, 0, 0}, 4000), 0.025 + 0.008);
  EXPECT_LE(verified_share(5, {0, 9, 9}, 4000), 0.025 + 0.008);
}

// ------------------------------------------------------------------------------------------------
// Speed apart from learning

// 10 s of training; the loss falls with the tokens seen, from 5 by `rate` for each e-fold.
Curve curve(double steps_per_second, double tokens_per_step, double rate) {
  Curve result{{}, tokens_per_step};
  const double steps = 10 * steps_per_second;
  for (int i = 1; i <= 200; ++i) {
    const double step = steps * i / 200, wobble = 0.01 * std::sin(i * 1.7 + steps_per_second);
    result.points.push_back({step, step / steps_per_second,
                             5 - rate * std::log(1 + step * tokens_per_step / 1000) + wobble});
  }
  return result;
}

TEST(Speed, SaysWhatAWinCameFrom) {
  const Curve champion = curve(100, 1024, 0.5);
  EXPECT_EQ(compare_curves(champion, curve(120, 1024, 0.5)).won_by, WonBy::kSpeed);
  EXPECT_EQ(compare_curves(champion, curve(100, 1024, 0.51)).won_by, WonBy::kLearning);
  EXPECT_EQ(compare_curves(champion, curve(80, 1024, 0.55)).won_by, WonBy::kLearning);
  EXPECT_EQ(compare_curves(champion, curve(120, 1024, 0.55)).won_by, WonBy::kBoth);
  EXPECT_EQ(compare_curves(champion, curve(101, 1024, 0.5)).won_by, WonBy::kNeither);
  EXPECT_EQ(compare_curves(champion, curve(80, 1024, 0.49)).won_by, WonBy::kNeither);
}

TEST(Speed, GivesTheFigures) {
  const SpeedAndLearning result = compare_curves(curve(100, 1024, 0.5), curve(120, 1024, 0.55));
  EXPECT_NEAR(result.steps_ratio, 1.2, 1e-9);
  EXPECT_NEAR(result.tokens_ratio, 1.2, 1e-9);
  // From a fifth to half of 1,000 steps: 0.05 more for each of about 5.8 e-folds.
  EXPECT_NEAR(result.at_equal_tokens, -0.05 * 5.8, 0.02);
  EXPECT_NEAR(result.at_equal_steps, result.at_equal_tokens, 1e-9);
  EXPECT_GT(result.tokens_error, 0);
}

TEST(Speed, CountsTokensIfAChangeOfTheBatchChangesTheSteps) {
  // Twice the steps, each of half the tokens: as fast, and per token it learns as before.
  const SpeedAndLearning halved = compare_curves(curve(100, 2048, 0.5), curve(200, 1024, 0.5));
  EXPECT_NEAR(halved.steps_ratio, 2, 1e-9);
  EXPECT_NEAR(halved.tokens_ratio, 1, 1e-9);
  EXPECT_GT(halved.at_equal_steps, 0.2);
  EXPECT_NEAR(halved.at_equal_tokens, 0, 0.01);
  EXPECT_EQ(halved.won_by, WonBy::kNeither);
}

TEST(Speed, IsNotFooledByAScheduleThatFollowsTheClock) {
  // Rates fall in the second half of the time, and the loss with them: a slower run is there
  // earlier.
  const auto cooled = [](Curve c) {
    for (CurvePoint& point : c.points) point.loss -= 0.2 * std::max(0.0, point.seconds - 5);
    return c;
  };
  const Curve champion = cooled(curve(100, 1024, 0.5));
  EXPECT_EQ(compare_curves(champion, cooled(curve(85, 1024, 0.5))).won_by, WonBy::kNeither);
  EXPECT_EQ(compare_curves(champion, cooled(curve(115, 1024, 0.5))).won_by, WonBy::kSpeed);
}

TEST(Speed, TakesAnythingForACurve) {
  const double nan = std::nan(""), huge = std::numeric_limits<double>::max();
  const Curve good = curve(100, 1024, 0.5);
  for (const Curve& odd : {Curve{}, Curve{{{1, 1, nan}}, 1024}, Curve{{{huge, huge, huge}}, huge},
                           Curve{good.points, 0}, Curve{good.points, nan}}) {
    EXPECT_EQ(compare_curves(good, odd).won_by, WonBy::kNeither);
    EXPECT_EQ(compare_curves(odd, good).won_by, WonBy::kNeither);
  }
  Curve spoilt = good;
  spoilt.points.insert(spoilt.points.begin() + 50, {{-1, 0, 3}, {nan, 1, 2}, {1, 1, huge * 10}});
  EXPECT_EQ(compare_curves(good, spoilt).at_equal_tokens, 0);
}

}  // namespace
}  // namespace autoresearch
