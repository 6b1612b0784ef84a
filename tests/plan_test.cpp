// Every policy of the night (agent/loop/plan.cpp) as a test of about ten lines.
#include "agent/loop/plan.h"

#include <gtest/gtest.h>

#include "agent/loop/proving.h"
#include "tests/story.h"

namespace autoresearch {
namespace {

class PlanTest : public testing::Test {
 protected:
  PlanTest() {
    settings.models = true;
    settings.keep = KeepRule::kGreedy;  // without repeats of the champion
    flight.models_ready = true;
  }

  Plan next() const { return plan(story.state, settings, flight, story.now); }
  // The step, if it is of that kind; a failure with what it is else.
  template <typename T>
  std::optional<T> expect() const {
    const Plan plan = next();
    if (!plan.step) {
      ADD_FAILURE() << "no step";
      return std::nullopt;
    }
    if (const T* step = std::get_if<T>(&*plan.step)) return *step;
    ADD_FAILURE() << "another step: number " << plan.step->index();
    return std::nullopt;
  }
  void expect_waiting() const { EXPECT_FALSE(next().step) << next().step->index(); }
  void talk(int64_t n, Talk::Stage stage, bool may_go_on = true) {
    flight.talks[n].stage = stage;
    flight.talks[n].may_go_on = may_go_on;
    flight.talks[n].base = story.state.champion;
  }

  Story story;
  Settings settings;
  InFlight flight;
};

// --- The way of an experiment

TEST_F(PlanTest, TheBaselineComesFirstAndIsBuiltMeasuredAndJudged) {
  story.start();
  expect<step::Baseline>();
  talk(0, Talk::kEdited);
  EXPECT_EQ(expect<step::Build>()->n, 0);
  story.candidate(0);
  talk(0, Talk::kDone);
  flight.built = {0};
  EXPECT_EQ(expect<step::Measure>()->n, 0);
  story.measured(0, measured_at(2));
  EXPECT_EQ(expect<step::Judge>()->n, 0);
}

TEST_F(PlanTest, ThenTheModelIsAskedItsEditBuiltAndMeasured) {
  story.begun();
  EXPECT_FALSE(expect<step::Propose>()->builtin);
  talk(1, Talk::kAsking);
  expect_waiting();
  talk(1, Talk::kEdited);
  EXPECT_EQ(expect<step::Build>()->n, 1);
  talk(1, Talk::kBuilding);
  expect_waiting();
}

TEST_F(PlanTest, OnAProcessorOnlyTheProposalOverlapsTheTraining) {
  story.begun().candidate(1).run(1);
  flight.measuring = 1;
  EXPECT_EQ(expect<step::Propose>()->n, 2);
  talk(2, Talk::kEdited);
  expect_waiting();
  settings.overlap_builds = true;  // with a GPU the build as well
  EXPECT_EQ(expect<step::Build>()->n, 2);
}

TEST_F(PlanTest, WithoutOverlapNothingIsAskedWhileTheSlotIsBusy) {
  settings.overlap_proposals = false;
  story.begun().candidate(1).run(1);
  flight.measuring = 1;
  expect_waiting();
}

TEST_F(PlanTest, OneCandidateIsMadeAheadAndNoMore) {
  story.begun().candidate(1).run(1);
  flight.measuring = 1;
  story.candidate(2);
  talk(2, Talk::kDone);
  flight.built = {1, 2};
  expect_waiting();
  story.tell(event::Measurement{1, 1, measured_at(2.1)}).verdict(1, Status::kDiscard);
  flight.measuring.reset();
  EXPECT_EQ(expect<step::Measure>()->n, 2);
}

TEST_F(PlanTest, ACandidateOfAChampionThatWasReplacedIsAppliedToTheNewOne) {
  story.begun().candidate(1).candidate(2);
  story.measured(1, measured_at(1.9)).verdict(1, Status::kKeep);
  flight.built = {2};
  EXPECT_EQ(expect<step::Rebase>()->n, 2);
}

TEST_F(PlanTest, SoIsAnEditThatWaitsToBeBuilt) {
  story.begun().candidate(1);
  talk(2, Talk::kEdited);
  story.measured(1, measured_at(1.9)).verdict(1, Status::kKeep);
  EXPECT_EQ(expect<step::Rebase>()->n, 2);
}

// --- Repeats

TEST_F(PlanTest, TheBaselineIsMeasuredThreeTimesBeforeAnythingIsJudgedByIt) {
  settings.keep = KeepRule::kEvidence;
  story.start().experiment(0, Status::kKeep, 2);
  for (int i = 0; i < 2; ++i) {
    EXPECT_TRUE(expect<step::Measure>()->again);
    flight.measuring = 0;
    EXPECT_EQ(expect<step::Propose>()->n, 1);  // meanwhile the first idea is asked for
    flight.measuring.reset();
    story.measured(0, measured_at(2.001));
  }
  EXPECT_EQ(expect<step::Propose>()->n, 1);
}

TEST_F(PlanTest, ANewChampionIsMeasuredOnceMore) {
  settings.keep = KeepRule::kEvidence;
  story.begun().experiment(1, Status::kKeep, 1.9);
  EXPECT_EQ(expect<step::Measure>()->n, 1);
  story.measured(1, measured_at(1.91));
  EXPECT_EQ(expect<step::Propose>()->n, 2);
}

TEST_F(PlanTest, ARepeatThatGivesNoFigureIsTriedTwiceAndOneThatIsDisturbedLater) {
  settings.keep = KeepRule::kEvidence;
  Measured disturbed = measured_at(3);
  disturbed.disturbed = "another process took a core";
  story.begun().experiment(1, Status::kKeep, 1.9).measured(1, disturbed);
  EXPECT_EQ(expect<step::Propose>()->n, 2);
  story.now += settings.disturbed_pause;
  EXPECT_TRUE(expect<step::Measure>()->again);
  story.measured(1, crashed()).now += settings.disturbed_pause;
  EXPECT_TRUE(expect<step::Measure>()->again);
  story.measured(1, crashed()).now += settings.disturbed_pause;
  EXPECT_EQ(expect<step::Propose>()->n, 2);
}

// --- Proposals

TEST_F(PlanTest, AReplyThatLedToNothingGoesBackToItsAuthorWhileItMay) {
  story.begun();
  talk(1, Talk::kSetback);
  EXPECT_EQ(expect<step::GoOn>()->n, 1);
  talk(1, Talk::kSetback, /*may_go_on=*/false);
  EXPECT_EQ(expect<step::Refuse>()->n, 1);
}

TEST_F(PlanTest, AfterThreeRefusalsInARowTheTunerHasATurn) {
  story.begun();
  for (int i = 0; i < 3; ++i) {
    EXPECT_FALSE(expect<step::Propose>()->builtin);
    story.tell(event::Refused{1, "openai:m", "no"});
  }
  EXPECT_TRUE(expect<step::Propose>()->builtin);
  story.tell(event::Refused{1, "builtin", "no"});
  EXPECT_FALSE(expect<step::Propose>()->builtin);
}

TEST_F(PlanTest, TheTunerMakesItsShareOfTheExperiments) {
  settings.tuner_share = 0.3;
  story.begun();
  std::string turns;
  for (int n = 1; n <= 10; ++n) {
    const bool builtin = expect<step::Propose>()->builtin;
    turns += builtin ? 't' : 'm';
    story.candidate(n, builtin ? "builtin" : "openai:m");
    story.measured(n, measured_at(2.1)).verdict(n, Status::kDiscard);
  }
  EXPECT_EQ(turns, "mmmtmmtmmt");
  story.tell(event::Exhausted{"all is known"});  // what it can't make, the models do
  settings.tuner_share = 1;
  EXPECT_FALSE(expect<step::Propose>()->builtin);
}

TEST_F(PlanTest, ATunerWhoseShareIsDueAndThatIsRefusedLeavesTheNextTurnsToTheModels) {
  settings.tuner_share = 1;
  story.begun();
  EXPECT_TRUE(expect<step::Propose>()->builtin);
  story.tell(event::Refused{1, "builtin", "does not build"});
  EXPECT_FALSE(expect<step::Propose>()->builtin);
}

TEST_F(PlanTest, TheTunerHasTheWordWhileNoModelCanBeAsked) {
  story.begun();
  flight.models_ready = false;
  flight.models_ready_in = 50;
  EXPECT_TRUE(expect<step::Propose>()->builtin);
  story.tell(event::Exhausted{"all is known"});  // then there is nothing to do but to wait
  expect_waiting();
  EXPECT_NEAR(next().look_again, 50, 1);
}

TEST_F(PlanTest, ATunerWithNothingLeftLooksAgainAfterTheNextVerdict) {
  settings.models = false;
  story.begun().tell(event::Exhausted{"all is known"});
  EXPECT_EQ(expect<step::Stop>()->why, "all is known");
  story.experiment(1, Status::kDiscard);
  EXPECT_TRUE(expect<step::Propose>()->builtin);
}

TEST_F(PlanTest, NoModelEverAgainAndNothingLeftEndsTheRun) {
  story.begun().tell(event::Exhausted{"all is known"});
  flight.models_ready = false;
  flight.models_ready_in = INFINITY;
  EXPECT_EQ(expect<step::Stop>()->kind, step::Stop::kNothingLeft);
}

TEST_F(PlanTest, SixteenRefusalsInARowEndTheRun) {
  story.begun().tell(event::Exhausted{"all is known"});
  for (int i = 0; i < kGiveUpProposing; ++i) story.tell(event::Refused{1, "openai:m", "no"});
  flight.models_ready = false;
  flight.models_ready_in = 60;
  EXPECT_EQ(expect<step::Stop>()->kind, step::Stop::kNothingLeft);
}

TEST_F(PlanTest, ModelsRestWhenHalfOfTheirLatestTwentyProposalsCameToNothing) {
  story.begun();
  for (int i = 0; i < 10; ++i) story.experiment(1 + i, Status::kDiscard);
  for (int i = 0; i < 10; ++i) story.tell(event::Refused{11, "openai:m", "no"});
  EXPECT_EQ(expect<step::RestModels>()->seconds, kModelsRest);
  story.tell(event::Rest{kModelsRest});
  EXPECT_TRUE(expect<step::Propose>()->builtin);
  story.now += kModelsRest + 1;
  EXPECT_FALSE(expect<step::Propose>()->builtin);
}

TEST_F(PlanTest, AReplyThatWasPaidForBeforeARestartIsUsed) {
  story.begun().tell(event::Replied{1, "openai:m"});
  EXPECT_EQ(expect<step::Reopen>()->n, 1);
}

TEST_F(PlanTest, AConversationWaitsForAModelThatCanBeAsked) {
  story.begun().tell(event::Replied{1, "openai:m"});
  flight.unanswered = {1};
  EXPECT_EQ(expect<step::Reopen>()->n, 1);
  flight.models_ready = false;
  flight.models_ready_in = 60;
  expect_waiting();
  EXPECT_EQ(next().look_again, 60);
  flight.models_ready_in = INFINITY;
  EXPECT_EQ(expect<step::Refuse>()->n, 1);
  flight.unanswered = {};  // after a restart its reply may lie there
  EXPECT_EQ(expect<step::Reopen>()->n, 1);
}

// --- Crashes and interruptions

// The thread that asks is one: the loop would wait for a call that waits for the loop.
TEST_F(PlanTest, ARepairWaitsWhileAnotherAuthorIsAsked) {
  story.begun().candidate(1).measured(1, crashed());
  talk(1, Talk::kDone);
  talk(2, Talk::kAsking);
  EXPECT_FALSE(next().step);
  flight.talks[1].stage = Talk::kSetback;
  EXPECT_FALSE(next().step);
  flight.talks.erase(1);
  story.tell(event::Replied{1, "openai:m"});  // after a restart
  EXPECT_FALSE(next().step);
  flight.talks.erase(2);
  EXPECT_EQ(expect<step::Reopen>()->n, 1);
}

TEST_F(PlanTest, ABuildThatNamesTheMachineIsTriedAgainAfterALookAtIt) {
  story.begun();
  talk(1, Talk::kEdited);
  flight.talks[1].broken_at = story.now;
  EXPECT_TRUE(expect<step::Canary>());
  story.tell(event::Canary{"the champion does not build: cc1plus is gone"});
  EXPECT_TRUE(expect<step::Pause>());
  story.tell(event::Paused{"cc1plus is gone"}).tell(event::Canary{""});
  EXPECT_TRUE(expect<step::Resume>());
  story.tell(event::Resumed{});
  EXPECT_EQ(expect<step::Build>()->n, 1);
}

TEST_F(PlanTest, ACrashThatItsAuthorCanMendGoesBackToIt) {
  story.begun().candidate(1).measured(1, crashed());
  talk(1, Talk::kDone);
  EXPECT_EQ(expect<step::GoOn>()->n, 1);
  talk(1, Talk::kDone, /*may_go_on=*/false);
  EXPECT_EQ(expect<step::Judge>()->n, 1);
  talk(1, Talk::kSetback, /*may_go_on=*/false);
  EXPECT_EQ(expect<step::Judge>()->n, 1);
}

TEST_F(PlanTest, ARepairThatWasInterruptedGoesOnWithTheConversation) {
  story.begun().tell(event::Replied{1, "openai:m"}).candidate(1).measured(1, crashed());
  EXPECT_EQ(expect<step::Reopen>()->n, 1);
  settings.models = false;  // started again without a model
  EXPECT_EQ(expect<step::Judge>()->n, 1);
}

TEST_F(PlanTest, AnInterruptedTrainingIsBuiltAndMeasuredAgainOnce) {
  story.begun().candidate(1).run(1);
  EXPECT_EQ(expect<step::Build>()->n, 1);
  flight.built = {1};
  EXPECT_EQ(expect<step::Measure>()->n, 1);
  story.run(1);  // and interrupted again
  flight.built.clear();
  const auto step = expect<step::GiveUp>();
  EXPECT_FALSE(step->machine);
  EXPECT_NE(step->reason.find("interrupted twice"), std::string::npos);
}

TEST_F(PlanTest, AUsersStopIsNoMarkAgainstTheCandidate) {
  story.begun().candidate(1);
  for (int i = 0; i < 3; ++i) story.run(1).tell(event::Stop{"interrupted"}).start();
  EXPECT_EQ(expect<step::Build>()->n, 1);
}

TEST_F(PlanTest, AMeasurementWithoutItsVerdictIsJudged) {
  story.begun().candidate(1).measured(1, measured_at(1.9));
  EXPECT_EQ(expect<step::Judge>()->n, 1);
}

// --- The machine

TEST_F(PlanTest, ADisturbedMeasurementIsRepeatedLaterTwiceAtMost) {
  Measured disturbed = measured_at(3);
  disturbed.disturbed = "another process took a core";
  story.begun().candidate(1).measured(1, disturbed);
  flight.built = {1};
  talk(2, Talk::kAsking);
  expect_waiting();
  EXPECT_NEAR(next().look_again, settings.disturbed_pause, 1);
  story.now += settings.disturbed_pause;
  EXPECT_EQ(expect<step::Measure>()->n, 1);
  story.measured(1, disturbed).now += settings.disturbed_pause;
  EXPECT_EQ(expect<step::Measure>()->n, 1);
  Measured busy = measured_at(3);
  busy.busy = disturbed.disturbed;  // then it counts, for what it is
  story.measured(1, busy);
  EXPECT_EQ(expect<step::Judge>()->n, 1);
}

TEST_F(PlanTest, ThreeCrashesAlikeAreLookedInto) {
  story.begun();
  for (int i = 1; i <= 3; ++i) story.experiment(i, Status::kCrash);
  expect<step::Canary>();
  story.tell(event::Canary{""});  // the machine is whole: the night goes on
  EXPECT_EQ(expect<step::Propose>()->n, 4);
  story.experiment(4, Status::kCrash);
  EXPECT_EQ(expect<step::Propose>()->n, 5);
}

TEST_F(PlanTest, ABrokenMachinePausesTheRunAndGivesTheBurnedCandidatesBack) {
  story.begun();
  for (int i = 1; i <= 3; ++i) story.experiment(i, Status::kCrash);
  story.tell(event::Canary{"libgomp.so is gone"});
  EXPECT_EQ(expect<step::Pause>()->why, "libgomp.so is gone");
  story.tell(event::Paused{"libgomp.so is gone"});
  expect_waiting();
  EXPECT_NEAR(next().look_again, kCanaryAgain, 2);
  story.now += kCanaryAgain;
  expect<step::Canary>();
  story.tell(event::Canary{"libgomp.so.1 is still gone"});
  expect_waiting();
  story.tell(event::Canary{""});
  for (int i = 3; i >= 1; --i) {
    EXPECT_EQ(expect<step::Again>()->n, i);
    story.tell(event::Reopened{i});
  }
  expect<step::Resume>();
  story.tell(event::Resumed{});
  EXPECT_EQ(expect<step::Build>()->n, 1);
}

TEST_F(PlanTest, AFailureThatNamesTheMachineIsLookedIntoAtOnceAndNotRepaired) {
  Measured broken = crashed(127);
  broken.broken = "error while loading shared libraries: libgomp.so.1";
  settings.overlap_proposals = false;
  story.begun().candidate(1).measured(1, broken);
  talk(1, Talk::kDone);
  expect<step::Canary>();
  flight.canary = true;
  expect_waiting();
  flight.canary = false;
  story.tell(event::Canary{""});  // it is over, or was the candidate's own doing
  EXPECT_EQ(expect<step::Again>()->n, 1);
  story.tell(event::Reopened{1}).measured(1, broken);
  expect<step::Canary>();
  story.tell(event::Canary{""});
  EXPECT_EQ(expect<step::Judge>()->n, 1);
}

TEST_F(PlanTest, ASlotHeldByAChildThatCantDieMeasuresNothing) {
  story.begun().candidate(1);
  flight.built = {1};
  flight.stuck = "process 7 can't be ended";
  expect_waiting();
}

// --- Errors of the loop's own

TEST_F(PlanTest, AnErrorOfTheLoopCostsAPause) {
  story.begun().candidate(1).measured(1, measured_at(1.9));
  story.tell(event::Trouble{"no space left on device"});  // at the copy of the champion
  expect_waiting();
  EXPECT_NEAR(next().look_again, 5, 0.1);
  story.now += 5;
  EXPECT_EQ(expect<step::Judge>()->n, 1);
  story.tell(event::Trouble{"no space left on device"});
  EXPECT_NEAR(next().look_again, 10, 0.1);
}

TEST_F(PlanTest, AMeasurementOutlastsAnyNumberOfErrorsAndACandidateThree) {
  story.begun().candidate(1);
  flight.built = {1};
  for (int i = 0; i < 3; ++i) story.tell(event::Trouble{"can't write"});
  story.now += 300;
  EXPECT_TRUE(expect<step::GiveUp>()->machine);
  story.measured(1, measured_at(1.9));
  EXPECT_EQ(expect<step::Judge>()->n, 1);
}

// --- Users and limits

TEST_F(PlanTest, APauseEndsNothingThatIsUnderWayAndBeginsNothing) {
  story.begun();
  talk(1, Talk::kAsking);
  flight.user_pauses = true;
  EXPECT_EQ(expect<step::Pause>()->why, kPausedByUser);
  story.tell(event::Paused{kPausedByUser});
  talk(1, Talk::kEdited);
  expect_waiting();
  flight.user_pauses = false;
  expect<step::Resume>();
  story.tell(event::Resumed{});
  EXPECT_EQ(expect<step::Build>()->n, 1);
}

TEST_F(PlanTest, TheFirstCtrlCLetsTheMeasurementEnd) {
  story.begun().candidate(1).run(1);
  flight.measuring = 1;
  flight.stop_soon = true;
  expect_waiting();
  story.tell(event::Measurement{1, 1, crashed()});
  flight.measuring.reset();
  EXPECT_EQ(expect<step::Judge>()->n, 1);  // without a repair
  story.verdict(1, Status::kCrash);
  EXPECT_EQ(expect<step::Stop>()->kind, step::Stop::kInterrupted);
}

TEST_F(PlanTest, TheFirstCtrlCLeavesARepairToTheNextStart) {
  story.begun().tell(event::Replied{1, "openai:m"}).candidate(1).measured(1, crashed());
  flight.stop_soon = true;
  for (const auto stage : {Talk::kDone, Talk::kAsking, Talk::kEdited, Talk::kBuilding}) {
    talk(1, stage);
    EXPECT_EQ(expect<step::Stop>()->kind, step::Stop::kInterrupted);
  }
  talk(1, Talk::kSetback, /*may_go_on=*/false);
  EXPECT_EQ(expect<step::Judge>()->n, 1);  // it has come to nothing
  flight.talks.clear();
  flight.stop_soon = false;
  EXPECT_EQ(expect<step::Reopen>()->n, 1);
}

TEST_F(PlanTest, TheSecondCtrlCStopsAtOnceAndTheFirstWhileNothingIsMeasured) {
  story.begun().candidate(1).run(1);
  flight.measuring = 1;
  flight.stop_soon = flight.stop_now = true;
  EXPECT_EQ(expect<step::Stop>()->kind, step::Stop::kInterrupted);
  flight.measuring.reset();
  flight.stop_now = false;
  EXPECT_EQ(expect<step::Stop>()->kind, step::Stop::kInterrupted);
}

TEST_F(PlanTest, ATaskMadeAnewEndsTheRun) {
  story.begun();
  flight.task_changed = true;
  EXPECT_EQ(expect<step::Stop>()->kind, step::Stop::kTaskChanged);
}

TEST_F(PlanTest, TheNumberOfExperimentsIsALimit) {
  settings.max_experiments = 1;
  story.begun();
  EXPECT_EQ(expect<step::Propose>()->n, 1);
  story.candidate(1).run(1);
  flight.measuring = 1;
  expect_waiting();
  story.tell(event::Measurement{1, 1, measured_at(2.1)}).verdict(1, Status::kDiscard);
  flight.measuring.reset();
  EXPECT_EQ(expect<step::Stop>()->why, "--max-experiments 1 reached");
}

TEST_F(PlanTest, AfterTheTimeThatWasGivenNothingBegins) {
  story.begun();
  settings.deadline = story.now + 60;
  talk(1, Talk::kAsking);
  EXPECT_NEAR(next().look_again, 60, 0.1);
  story.candidate(1).run(1);
  flight.measuring = 1;
  story.now = settings.deadline;
  expect_waiting();
  story.tell(event::Measurement{1, 1, measured_at(2.1)}).verdict(1, Status::kDiscard);
  flight.measuring.reset();
  EXPECT_EQ(expect<step::Stop>()->kind, step::Stop::kLimit);
}

TEST_F(PlanTest, TheTimeMayBeOverBeforeTheBaselineIsMeasured) {
  story.start().candidate(0);
  talk(0, Talk::kDone);
  flight.built = {0};
  settings.deadline = story.now;
  EXPECT_TRUE(next().step) << "nothing under way would ever ask again";
}

// --- The proof

const std::vector<std::vector<int64_t>> kPairs = {{0, 1}, {1, 0}, {0, 1}, {1, 0}};

// All pairs of a tip that is better by 0.1, and by a little less in every further block.
void tell_pairs(Story& story, int64_t from = 0) {
  for (int64_t block = from; block < from + 4; ++block)
    for (const int64_t arm : {0, 1})
      story.arm(block, arm,
                measured_at(1.9 + 0.1 * static_cast<double>(arm) +
                            1e-4 * static_cast<double>(block * (1 - arm))));
}

TEST_F(PlanTest, ANightThatEndsByALimitProvesWhatItKept) {
  settings.max_experiments = 1;
  settings.proof_share = 0.33;
  story.begun().experiment(1, Status::kKeep, 1.9);
  EXPECT_EQ(expect<step::BeginProof>()->budget, 8) << "the pairs of claim 1 at least";
  story.proof(kPairs);
  const auto first = expect<step::MeasureArm>()->next;
  EXPECT_TRUE(first.block == 0 && first.arm == 0);
  tell_pairs(story);
  expect<step::EndProof>();
  story.tell(outcome_of(story.state));
  EXPECT_EQ(expect<step::Stop>()->why, "--max-experiments 1 reached");
}

TEST_F(PlanTest, WithoutAKeepOrWithVerifyOffNothingIsProven) {
  settings.max_experiments = 1;
  story.begun().experiment(1, Status::kKeep, 1.9);
  expect<step::Stop>();  // off
  settings.proof_share = 0.33;
  Story nothing;
  nothing.begun().experiment(1, Status::kDiscard);
  story = nothing;
  expect<step::Stop>();
}

TEST_F(PlanTest, TheLastThirdOfTheTimeProves) {
  story.begun().experiment(1, Status::kKeep, 1.9);
  settings.proof_share = 1.0 / 3;
  settings.given = 3600;
  settings.deadline = story.now + 1300;
  expect<step::Propose>();
  talk(2, Talk::kAsking);
  EXPECT_NEAR(next().look_again, 100, 1);
  story.now += 101;
  const int64_t budget = expect<step::BeginProof>()->budget;  // of 12 s and 3 s of scoring each
  EXPECT_NEAR(static_cast<double>(budget), 1200 / 15 / 1.1, 2);
}

TEST_F(PlanTest, ASharePerhapsTooShortForFourPairsTakesUpToHalfOfTheTime) {
  story.begun().experiment(1, Status::kKeep, 1.9);
  settings.proof_share = 1.0 / 3;
  settings.given = 400;  // a third of it is 8 measurements, not the nine that are counted on
  settings.deadline = story.now + 400;
  EXPECT_NEAR(settings.deadline - proof_begins_at(story.state, settings), 9 * 16.5, 0.1);
  settings.given = 200;  // half of it is not enough: nothing is proven
  settings.deadline = story.now + 99;
  expect<step::Propose>();
}

TEST_F(PlanTest, WhileTheNightProvesNothingIsProposedAndNothingIsLost) {
  settings.overlap_builds = true;
  story.begun().experiment(1, Status::kKeep, 1.9).candidate(2).proof(kPairs);
  talk(3, Talk::kSetback);
  flight.built = {2};
  expect<step::MeasureArm>();
  flight.proving = ArmOfBlock{0, 0};
  expect_waiting();
  flight.proving.reset();
  tell_pairs(story);
  story.tell(outcome_of(story.state));  // then the night goes on
  EXPECT_EQ(expect<step::GoOn>()->n, 3);
}

TEST_F(PlanTest, AProofThatWasKilledGoesOnWithTheSamePlan) {
  story.begun().experiment(1, Status::kKeep, 1.9).proof(kPairs);
  story.arm(0, 0, measured_at(1.9)).run_arm(0, 1).start();
  const auto next = expect<step::MeasureArm>()->next;
  EXPECT_TRUE(next.block == 0 && next.arm == 1);
}

TEST_F(PlanTest, ADisturbedArmIsRepeatedTwiceAndThenItsBlockIsLeftOut) {
  Measured disturbed = measured_at(3);
  disturbed.disturbed = "another process took a core";
  story.begun().experiment(1, Status::kKeep, 1.9).proof(kPairs);
  for (int i = 0; i <= kMostDisturbances; ++i) {
    EXPECT_EQ(expect<step::MeasureArm>()->next.block, 0);
    story.arm(0, 0, disturbed);
    if (i < kMostDisturbances) expect_waiting();
    story.now += settings.disturbed_pause;
  }
  EXPECT_EQ(expect<step::MeasureArm>()->next.block, 1);
}

TEST_F(PlanTest, AVariantThatDoesNotBuildIsUnprovenAndTheRestGoesOn) {
  story.begun().experiment(1, Status::kKeep, 1.95).experiment(2, Status::kKeep, 1.9);
  story.proof({{2, 0, 1, 3}, {0, 1, 2, 3}}, {1, 2});
  story.tell(event::ProofMeasured{0, 2, 0, false, {}});
  EXPECT_EQ(expect<step::MeasureArm>()->next.arm, 0);
  story.arm(0, 0, measured_at(1.9)).arm(0, 1, measured_at(2)).arm(0, 3, crashed());
  EXPECT_EQ(expect<step::MeasureArm>()->next.arm, 3) << "a crash is looked at once more";
  story.arm(0, 3, crashed());
  EXPECT_EQ(expect<step::MeasureArm>()->next.block, 1);
  story.arm(1, 0, measured_at(1.9)).arm(1, 1, measured_at(2));
  expect<step::EndProof>();
}

TEST_F(PlanTest, ATipThatGivesNoFigureEndsTheProof) {
  story.begun().experiment(1, Status::kKeep, 1.9).proof(kPairs);
  story.arm(0, 0, crashed()).arm(0, 0, crashed());
  expect<step::EndProof>();
  const event::Verified result = outcome_of(story.state);
  EXPECT_FALSE(result.verified);
  EXPECT_NE(result.problem.find("the champion gave no figure"), std::string::npos);
}

TEST_F(PlanTest, ABrokenMachineIsLookedIntoBeforeAnArmIsBlamed) {
  Measured broken = crashed(127);
  broken.broken = "error while loading shared libraries: libgomp.so.1";
  story.begun().experiment(1, Status::kKeep, 1.9).proof(kPairs).arm(0, 0, broken);
  expect<step::Canary>();
  story.tell(event::Canary{"libgomp.so.1 is gone"});
  expect<step::Pause>();
  story.tell(event::Paused{"libgomp.so.1 is gone"}).tell(event::Canary{""});
  expect<step::Resume>();
  story.tell(event::Resumed{});
  EXPECT_EQ(expect<step::MeasureArm>()->next.block, 0);
  EXPECT_EQ(story.state.proof->failed[0], 0);
}

TEST_F(PlanTest, WhatHurtsIsDroppedAndTheNewTipMeasuredInTheReservedPairs) {
  story.begun().experiment(1, Status::kKeep, 1.95).experiment(2, Status::kKeep, 1.9);
  story.proof({{0, 1, 2, 3}, {0, 1, 2, 3}, {0, 1, 2, 3}, {0, 1, 2, 3}}, {1, 2});
  tell_pairs(story);
  for (int64_t block = 0; block < 4; ++block) {
    const double wander = 1e-3 * static_cast<double>(block % 2);
    story.arm(block, 2, measured_at(1.95 + wander)).arm(block, 3, measured_at(1.85 - wander));
  }
  EXPECT_EQ(expect<step::Trim>()->changes, std::vector<int64_t>{2});
  story.tell(event::Trimmed{"trimmed", {2}, kPairs});
  EXPECT_EQ(expect<step::MeasureArm>()->next.block, 4);
  tell_pairs(story, 4);
  expect<step::EndProof>();
  const event::Verified result = outcome_of(story.state);
  EXPECT_TRUE(result.verified && result.tip == "trimmed" && result.pairs == 4);
  ASSERT_EQ(result.changes.size(), 2u);
  EXPECT_EQ(result.changes[0].n == 2 ? result.changes[0].result : result.changes[1].result,
            "dropped");
  story.tell(result);
  EXPECT_EQ(story.state.champion, "trimmed");
  EXPECT_EQ(changes_of(story.state), std::vector<int64_t>{1});
  settings.score_test = true;
  for (const int64_t n : {0, 1, 2})
    story.tell(event::Tested{story.state.at(n).candidate.commit, 2.1, "", 3});
  EXPECT_EQ(expect<step::Test>()->commit, "trimmed");
}

TEST_F(PlanTest, AtTheDeadlineTheBlocksThatAreWholeCount) {
  story.begun().experiment(1, Status::kKeep, 1.9).proof({{0, 1}, {1, 0}, {0, 1}, {1, 0}, {0, 1}});
  tell_pairs(story);
  settings.deadline = story.now;
  expect<step::EndProof>();
  EXPECT_EQ(outcome_of(story.state).pairs, 4);
}

TEST_F(PlanTest, AgentVerifyProvesAnewAndDoesNothingElse) {
  settings.only_proof = true;
  settings.proof_share = 0.33;
  settings.proofs_wanted = 1;
  story.begun().experiment(1, Status::kKeep, 1.9).candidate(2);
  expect<step::BeginProof>();
  story.proof(kPairs);
  tell_pairs(story);
  story.tell(outcome_of(story.state));
  EXPECT_EQ(expect<step::Stop>()->why, "the proof has ended");
  settings.proofs_wanted = 2;  // typed once more
  expect<step::BeginProof>();
}

TEST_F(PlanTest, WhatIsKeptIsScoredOnTheTestSplitOnce) {
  settings.score_test = true;
  story.start().experiment(0, Status::kKeep, 2);
  const std::string baseline = story.state.champion;
  EXPECT_EQ(expect<step::Test>()->commit, baseline);
  story.tell(event::Tested{baseline, 2.1, "", 3}).experiment(1, Status::kKeep, 1.9);
  EXPECT_EQ(expect<step::Test>()->commit, story.state.champion);
  flight.testing = story.state.champion;
  EXPECT_EQ(expect<step::Propose>()->n, 2);  // meanwhile
  flight.testing.reset();
  story.tell(event::Tested{story.state.champion, {}, "no test split", 3});
  EXPECT_EQ(expect<step::Propose>()->n, 2);
}

TEST_F(PlanTest, ARunThatGainsNothingForLongSaysSoOnce) {
  story.begun();
  for (int i = 1; i <= kPlateau; ++i) story.experiment(i, Status::kDiscard);
  EXPECT_EQ(expect<step::Tell>()->what, "plateau since #0");
  story.tell(event::Told{"plateau since #0"});
  expect<step::Propose>();
}

}  // namespace
}  // namespace autoresearch
