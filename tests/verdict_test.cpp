#include "agent/lab/verdict.h"

#include <gtest/gtest.h>

#include <cmath>
#include <csignal>
#include <limits>
#include <vector>

#include "common/error.h"

namespace autoresearch {
namespace {

constexpr Allowance kAllowance{.budget = 10, .baseline_overhead = 1};  // 14 s of wall time
constexpr double kBest = 1.8712;

Measured whole(double bpb) {
  Measured measured;
  measured.wall_seconds = 11;
  measured.sealed = true;
  measured.bpb = bpb;
  return measured;
}

void expect_crash(const Measured& measured, const std::string& part) {
  for (const auto& allowance : {std::optional<Allowance>(), std::optional(kAllowance)}) {
    const std::string why = why_void(measured, allowance);
    EXPECT_NE(why.find(part), std::string::npos) << why;
    EXPECT_EQ(why.find('\n'), std::string::npos);
  }
}

TEST(Verdict, WallLimitIsBudgetPlusOverheadPlusOnePercentButAtLeastThreeSeconds) {
  EXPECT_DOUBLE_EQ(kAllowance.wall_limit(), 14);
  EXPECT_DOUBLE_EQ((Allowance{.budget = 300, .baseline_overhead = 8}).wall_limit(), 311);
  EXPECT_DOUBLE_EQ((Allowance{.budget = 3600, .baseline_overhead = 8}).wall_limit(), 3644);
}

TEST(Verdict, MistakesInTheCodeCanBeMendedAndWhatRanOutIsAResult) {
  const auto ended = [](int code) {
    Measured measured;
    measured.train_exit = code;
    return measured;
  };
  for (const int code : std::vector<int>{kDone, kError, kCannotSeal, 128 + SIGSEGV, 128 + SIGABRT})
    EXPECT_TRUE(is_repairable(ended(code))) << code;
  for (const int code : std::vector<int>{kDiverged, kOutOfMemory, 128 + SIGKILL})
    EXPECT_FALSE(is_repairable(ended(code))) << code;
  EXPECT_FALSE(is_repairable(whole(kBest)));
  Measured memory = ended(kError), time = ended(kError);
  memory.over_memory = time.timed_out = true;
  EXPECT_FALSE(is_repairable(memory));
  EXPECT_FALSE(is_repairable(time));
  for (const Measured& measured : {memory, ended(kOutOfMemory)})  // with what to do about it
    EXPECT_NE(why_void(measured, kAllowance).find("use a smaller"), std::string::npos);
}

TEST(Verdict, TheBaselineCountsIfItIsWholeWhateverItsOverhead) {
  Measured slow = whole(3.5);
  slow.wall_seconds = 60;
  EXPECT_EQ(why_void(slow), "");
}

TEST(Verdict, MoreWallTimeThanAllowedIsVoidHoweverGoodTheFigure) {
  Measured measured = whole(0.5);
  measured.wall_seconds = 14.0;
  EXPECT_EQ(why_void(measured, kAllowance), "");
  measured.wall_seconds = 16.2;
  EXPECT_EQ(why_void(measured, kAllowance),
            "void: train took 16.2 s of wall time, and 14.0 s are allowed");
  measured.wall_seconds = std::nan("");
  EXPECT_NE(why_void(measured, kAllowance), "");
}

// --- The parts of the wall time

std::optional<Phases> told(std::initializer_list<Told> words) { return phases_of(words, 11); }

TEST(Phases, AreWhatLiesBetweenWhatWasToldAndTheEnd) {
  const auto phases = told({{'b', 0.75}, {'e', 10.75}});
  ASSERT_TRUE(phases);
  EXPECT_DOUBLE_EQ(phases->startup, 0.75);
  EXPECT_DOUBLE_EQ(phases->training, 10);
  EXPECT_DOUBLE_EQ(phases->sealing, 0.25);
}

TEST(Phases, AreUnknownUnlessBothWereToldOnceInTurn) {
  EXPECT_FALSE(told({}));
  EXPECT_FALSE(told({{'b', 1}}));
  EXPECT_FALSE(told({{'e', 1}, {'b', 2}}));
  EXPECT_FALSE(told({{'b', 1}, {'e', 2}, {'e', 3}}));
  EXPECT_FALSE(told({{'b', 1}, {'x', 2}}));
}

constexpr double kBudget = 300;
constexpr Phases kUsual{.startup = 4, .training = 300.1, .sealing = 2};

std::string verdict_on(std::optional<Phases> phases, std::optional<Phases> baseline = kUsual) {
  Measured measured = whole(kBest - 1);
  measured.phases = phases;
  measured.wall_seconds = phases ? phases->startup + phases->training + phases->sealing : 306;
  return why_void(measured, Allowance{kBudget, 6.1, baseline});
}

TEST(Verdict, TrainingMayOverrunTheBudgetByOnePercent) {
  EXPECT_EQ(verdict_on(kUsual), "");
  EXPECT_EQ(verdict_on(Phases{4, 302.9, 2}), "");
  EXPECT_EQ(verdict_on(Phases{3, 303.2, 2}),
            "void: training took 303.2 s of wall time, and 303.0 s are allowed");
}

TEST(Verdict, StartUpAndSealingAreComparedWithTheBaselines) {
  EXPECT_EQ(verdict_on(Phases{6.5, 300, 1}), "") << "a slow disk is no training";
  EXPECT_EQ(verdict_on(Phases{8.2, 299, 1}),
            "void: before training, train took 8.2 s of wall time, and 8.0 s are allowed");
  EXPECT_EQ(verdict_on(Phases{2, 299, 5.6}),
            "void: after training, train took 5.6 s of wall time, and 5.5 s are allowed");
}

TEST(Verdict, SecondsThatAreMovedBetweenPhasesCountInTheSum) {
  EXPECT_NE(verdict_on(Phases{7.9, 302.9, 5.4}).find("void: train took"), std::string::npos);
}

TEST(Verdict, ARunThatDoesNotTellItsPhasesIsVoidIfTheBaselineTold) {
  EXPECT_EQ(verdict_on(std::nullopt),
            "void: train did not tell once when training began and when it ended");
  EXPECT_EQ(verdict_on(std::nullopt, std::nullopt), "");
}

TEST(Verdict, EveryWayToFailHasItsSentenceEvenWithAGoodScoreBesideIt) {
  const std::pair<int, const char*> exits[] = {
      {1, "exit code 1"},
      {3, "diverged: the loss became NaN or exceeded 100"},
      {4, "micro-batch"},
      {5, "can't be sealed"},
      {127, "not be started"},
      {128 + SIGSEGV, "SIGSEGV"},
      {128 + SIGKILL, "SIGKILL"},
      {128 + SIGABRT, "SIGABRT"},
      {128 + SIGILL, "SIGILL: an instruction that this processor does not have"},
      {255, "exit code 255"}};
  for (auto [code, part] : exits) {
    Measured measured = whole(0.5);
    measured.train_exit = code;
    expect_crash(measured, part);
  }
  Measured measured = whole(0.5);
  measured.timed_out = true;
  measured.train_exit = 128 + SIGKILL;
  expect_crash(measured, "timed out: train was still going after 11.0 s");
  measured.over_memory = true;
  expect_crash(measured, "out of memory: train used more main memory");
  measured = whole(0.5);
  measured.over = "it filled the disk";
  expect_crash(measured, "train was ended: it filled the disk");
  measured = whole(0.5);
  measured.sealed = false;
  expect_crash(measured, "run.finish()");
}

TEST(Verdict, AModelThatTheScorerRefusesIsACrashWithTheScorersReason) {
  Measured measured = whole(0.5);
  measured.score_problem = "the operator aten::as_strided is not allowed";
  expect_crash(measured, "not scored: the operator aten::as_strided is not allowed");
  measured = whole(0.5);
  measured.bpb.reset();
  expect_crash(measured, "no figure");
}

TEST(Verdict, AFigureThatNoModelCanReachNeverCounts) {
  for (double bpb : {0.0, -1.0, -0.0}) expect_crash(whole(bpb), "void: val_bpb is");
  for (double bpb : {std::nan(""), std::numeric_limits<double>::infinity(),
                     -std::numeric_limits<double>::infinity()}) {
    expect_crash(whole(bpb), "not scored: val_bpb is");
  }
}

TEST(Repairable, AreMistakesInTheCodeAndNotResults) {
  Measured measured = whole(1.9);
  EXPECT_FALSE(is_repairable(measured)) << "nothing failed";
  const auto ended_with = [&](int code) {
    measured.train_exit = code;
    return is_repairable(measured);
  };
  for (const int code : {int{kError}, int{kCannotSeal}, 128 + SIGSEGV, 128 + SIGABRT, 77})
    EXPECT_TRUE(ended_with(code)) << code;
  for (const int code : {int{kDiverged}, int{kOutOfMemory}, int{kInterrupted}, 127, 128 + SIGKILL})
    EXPECT_FALSE(ended_with(code)) << code;
  measured.sealed = false;
  EXPECT_TRUE(ended_with(kDone)) << "it ended well and left no model";
  measured.train_exit = 128 + SIGSEGV;
  measured.timed_out = true;
  EXPECT_FALSE(is_repairable(measured));
  measured.timed_out = false;
  measured.over_memory = true;
  EXPECT_FALSE(is_repairable(measured));
}

}  // namespace
}  // namespace autoresearch
