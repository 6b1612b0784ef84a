// The fold over a run's journal, and the events that it is made of.
#include "agent/record/run_state.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "tests/story.h"
#include "tests/support.h"

namespace autoresearch {
namespace {

using nlohmann::json;

// --- Events: one line of each kind, with every key that a journal can hold

const char* const kLines[] = {
    R"({"event":"start","version":2,"tag":"t","task_name":"tiny","task":"ab","kit":"cd",
        "device":"cpu","machine":"box","seed":7,"provider":"openai","from":"u #3 ab",
        "sandbox":"landlock","deadline":9.5,"max_experiments":8,
        "only_proof":true})",
    R"({"event":"program","sha256":"ef"})",
    R"({"event":"call","id":1,"n":2,"provider":"openai:m","prompt_bytes":3,"room":4,
        "largest_usd":0.5})",
    R"({"event":"call_done","id":1,"tokens_in":2,"tokens_cached":3,"tokens_cache_written":4,
        "tokens_out":5,"tokens_reasoning":6,"seconds":7.5,"problem":"busy","usd":0.25,
        "assumed":true,"stated":true})",
    R"({"event":"replied","n":1,"proposer":"openai:m"})",
    R"({"event":"not_built","n":1,"fingerprint":"f","errors":"no ;"})",
    R"({"event":"candidate","n":1,"commit":"c","parent":"p","idea":"i","why":"w","proposer":"b",
        "fingerprint":"f","constants":["kA 2"],"areas":["Model"],"next":["more"]})",
    R"({"event":"withdrawn","n":1,"why":"w"})",
    R"({"event":"refused","n":1,"proposer":"p","reason":"r"})",
    R"({"event":"exhausted","why":"w"})",
    R"({"event":"fits","provider":"p","tokens":4096})",
    R"({"event":"built","n":1,"seconds":2.5})",
    R"({"event":"run","n":1,"attempt":2,"pid":7,"starttime":99})",
    R"({"event":"measured","n":1,"attempt":2,"machine":{"startup":{"seconds":1.5,"cpu_seconds":2.0,"waited":2.5,"contended":3.0,
        "others_cpu":3.5,"stolen":4.0,"throttled":4.5,"cpu_pressure":5.0,"io_pressure":5.5,
        "memory_pressure":6.0,"suspended":6.5,"stopped":7.0,"gpu_foreign":7.5,
        "gpu_slowed":8.0,"gpu_megahertz":8.5,"gpu_hottest":9.0,"major_faults":1},
        "training":{"seconds":20.5,"cpu_seconds":21.0,"waited":21.5,"contended":22.0,
        "others_cpu":22.5,"stolen":23.0,"throttled":23.5,"cpu_pressure":24.0,
        "io_pressure":24.5,"memory_pressure":25.0,"suspended":25.5,"stopped":26.0,
        "gpu_foreign":26.5,"gpu_slowed":27.0,"gpu_megahertz":27.5,"gpu_hottest":28.0,
        "major_faults":20},"sealing":{"seconds":40.5,"cpu_seconds":41.0,"waited":41.5,
        "contended":42.0,"others_cpu":42.5,"stolen":43.0,"throttled":43.5,"cpu_pressure":44.0,
        "io_pressure":44.5,"memory_pressure":45.0,"suspended":45.5,"stopped":46.0,
        "gpu_foreign":46.5,"gpu_slowed":47.0,"gpu_megahertz":47.5,"gpu_hottest":48.0,
        "major_faults":40},"cores":2.0,"load":1.25,"involuntary_switches":7,
        "peak_rss_bytes":9},
        "seed":42,"train_exit":3,"timed_out":true,
        "over_memory":true,"over":"o","wall_seconds":12.5,"overhead_seconds":2.5,
        "phases":{"startup":1.5,"training":10.0,"sealing":1.0},"sealed":true,"sealed_bytes":1000,
        "bpb":1.875,"score_problem":"p","score_seconds":3.5,"score_rss_bytes":2000,
        "score":{"val_bpb":1.875,"val_loss":3.0},"memory_gb":1.5,"steps":100,
        "tokens_per_second":5000.5,"last_words":"l","fused_operations":"all","busy":"b","disturbed":"d",
        "broken":"b"})",
    R"({"event":"verdict","n":1,"status":"keep","reason":"r","champion":"c","machine":true,
        "decision":"kept","difference":-0.5,"sigma":0.25})",
    R"({"event":"reopened","n":1})",
    R"({"event":"rest","seconds":1800.5})",
    R"({"event":"told","what":"plateau"})",
    R"({"event":"trouble","what":"no space"})",
    R"({"event":"canary","problem":"no device"})",
    R"({"event":"tested","commit":"c","bpb":1.5,"problem":"p","seconds":2.5})",
    R"({"event":"proof","arms":["c","b","v"],"changes":[3],"blocks":[[0,2,1],[1,0,2]],
        "reserved_pairs":4})",
    R"({"event":"proof_run","block":1,"arm":2,"attempt":3,"pid":7,"starttime":99})",
    R"({"event":"proof_measured","block":1,"arm":2,"attempt":3,"compiled":true,"machine":{"startup":{"seconds":1.5,"cpu_seconds":2.0,"waited":2.5,"contended":3.0,
        "others_cpu":3.5,"stolen":4.0,"throttled":4.5,"cpu_pressure":5.0,"io_pressure":5.5,
        "memory_pressure":6.0,"suspended":6.5,"stopped":7.0,"gpu_foreign":7.5,
        "gpu_slowed":8.0,"gpu_megahertz":8.5,"gpu_hottest":9.0,"major_faults":1},
        "training":{"seconds":20.5,"cpu_seconds":21.0,"waited":21.5,"contended":22.0,
        "others_cpu":22.5,"stolen":23.0,"throttled":23.5,"cpu_pressure":24.0,
        "io_pressure":24.5,"memory_pressure":25.0,"suspended":25.5,"stopped":26.0,
        "gpu_foreign":26.5,"gpu_slowed":27.0,"gpu_megahertz":27.5,"gpu_hottest":28.0,
        "major_faults":20},"sealing":{"seconds":40.5,"cpu_seconds":41.0,"waited":41.5,
        "contended":42.0,"others_cpu":42.5,"stolen":43.0,"throttled":43.5,"cpu_pressure":44.0,
        "io_pressure":44.5,"memory_pressure":45.0,"suspended":45.5,"stopped":46.0,
        "gpu_foreign":46.5,"gpu_slowed":47.0,"gpu_megahertz":47.5,"gpu_hottest":48.0,
        "major_faults":40},"cores":2.0,"load":1.25,"involuntary_switches":7,
        "peak_rss_bytes":9},
        "seed":42,"train_exit":3,"timed_out":true,
        "over_memory":true,"over":"o","wall_seconds":12.5,"overhead_seconds":2.5,
        "phases":{"startup":1.5,"training":10.0,"sealing":1.0},"sealed":true,"sealed_bytes":1000,
        "bpb":1.875,"score_problem":"p","score_seconds":3.5,"score_rss_bytes":2000,
        "score":{"val_bpb":1.875,"val_loss":3.0},"memory_gb":1.5,"steps":100,
        "tokens_per_second":5000.5,"last_words":"l","fused_operations":"all","busy":"y","disturbed":"d",
        "broken":"b"})",
    R"({"event":"trimmed","commit":"d","changes":[3],"blocks":[[0,1]]})",
    R"({"event":"verified","tip":"c","verified":true,"problem":"p","pairs":4,"mean":-0.5,
        "low":-0.75,"high":-0.25,"bpb":1.5,"sigma":0.125,
        "changes":[{"n":3,"effect":0.5,"standard_error":0.25,"p":0.125,"result":"verified"}]})",
    R"({"event":"paused","why":"w"})",
    R"({"event":"resumed"})",
    R"({"event":"stop","why":"w"})",
};

TEST(Events, EveryKeyOfEveryKindIsReadAndWritten) {
  ASSERT_EQ(std::size(kLines), std::variant_size_v<Event>);
  for (size_t i = 0; i < std::size(kLines); ++i) {
    json line = json::parse(kLines[i]);
    line["time"] = "2026-11-23T01:00:00.000Z";
    const auto entry = entry_from(line);
    ASSERT_TRUE(entry) << line;
    EXPECT_EQ(entry->event.index(), i);
    EXPECT_EQ(to_json(*entry), line);
  }
}

TEST(Events, WhatIsThereWithoutAFigureIsReadAsNotMeasured) {
  const auto entry = entry_from({{"event", "measured"}, {"n", 0}, {"attempt", 1}});
  const Measured& measured = std::get<event::Measurement>(entry->event).measured;
  EXPECT_FALSE(measured.bpb || measured.phases || measured.sealed);
  EXPECT_FALSE(to_json(*entry).contains("bpb") || to_json(*entry).contains("phases"));
}

TEST(Events, AnUnknownOneIsPassedOverAndOneWithoutItsSenseIsNot) {
  EXPECT_FALSE(entry_from({{"event", "from the future"}, {"n", "x"}}));
  for (const json& bad :
       {json{{"event", "run"}, {"n", 0}}, json{{"event", "verdict"}, {"n", 0}},
        json{{"event", "candidate"}, {"n", 0}}, json{{"event", "replied"}, {"n", "0"}},
        json{{"event", "verdict"}, {"n", 0}, {"status", "open"}}})
    EXPECT_ANY_THROW(entry_from(bad)) << bad;
}

TEST(Events, TimesKeepTheirMilliseconds) {
  EXPECT_EQ(utc_text(1.7e9 + 0.25), "2023-11-14T22:13:20.250Z");
  EXPECT_EQ(seconds_of_utc("2023-11-14T22:13:20.250Z"), 1.7e9 + 0.25);
  EXPECT_EQ(seconds_of_utc("2023-11-14T22:13:20Z"), 1.7e9);
  EXPECT_FALSE(seconds_of_utc("yesterday"));
}

// --- The way of a run

TEST(Replay, ARunReadsBackAsItWent) {
  Story story;
  story.begun().experiment(1, Status::kKeep, 1.9);
  event::Start other;
  other.tag = "b";
  story.tell(other).experiment(2, Status::kDiscard, 1.95);
  story.candidate(3).verdict(3, Status::kCrash, "does not build");
  story.candidate(4).run(4);
  const RunState state = replay(story.entries);
  EXPECT_EQ(state.start->tag, "t") << "the first start event is the run's identity";
  EXPECT_EQ(state.champion, state.at(1).candidate.commit);
  EXPECT_EQ(state.champion_n, 1);
  EXPECT_EQ(state.best_bpb, 1.9);
  ASSERT_EQ(state.experiments.size(), 5u);
  EXPECT_EQ(state.open, std::set<int64_t>{4});
  EXPECT_EQ(state.at(0).status, Status::kKeep);
  EXPECT_EQ(state.at(2).reason, "no gain");
  EXPECT_EQ(state.at(2).measured->bpb, 1.95);
  EXPECT_EQ(state.at(3).attempts, 0);
  EXPECT_EQ(state.at(3).end_utc, story.entries[story.entries.size() - 3].time);
  const Experiment& open = state.at(4);
  EXPECT_TRUE(open.open && open.status == Status::kOpen && !open.measured);
  EXPECT_EQ(open.pid, 100);
  EXPECT_EQ(open.start_time, 200u);
}

TEST(Replay, AnEmptyJournalIsAnEmptyRun) {
  const RunState state = replay({});
  EXPECT_TRUE(!state.start && state.experiments.empty() && state.champion.empty());
  EXPECT_EQ(state.champion_n, -1);
}

TEST(Replay, AnotherVersionIsOneClearLine) {
  event::Start older;
  older.version = 1;
  const std::string message = error_of([&] { replay({{older, utc_text(1.7e9)}}); });
  EXPECT_NE(message.find("version 1"), std::string::npos) << message;
  EXPECT_NE(message.find("the program that began it"), std::string::npos) << message;
  EXPECT_EQ(message.find('\n'), std::string::npos);
}

TEST(Replay, InterruptedAttemptsAreCountedAndARepairBeginsAnew) {
  Story story;
  story.start().candidate(0).run(0).run(0);
  EXPECT_EQ(story.state.at(0).interrupted, 1);
  EXPECT_TRUE(story.state.at(0).open);
  story.candidate(0);
  EXPECT_EQ(story.state.at(0).interrupted, 0);
  EXPECT_FALSE(story.state.at(0).open);
  story.run(0);
  EXPECT_EQ(story.state.at(0).attempts, 3);
}

// A crash goes back to its author: the mended candidate takes its place, and the verdict is on
// that.
TEST(Replay, ARepairAfterAMeasuredCrashIsAnAttemptWithinTheExperiment) {
  const auto version = [](const std::string& fingerprint) {
    event::Candidate candidate;
    candidate.commit = "commit of " + fingerprint;
    candidate.fingerprint = fingerprint;
    candidate.constants = {"kA 2 (was 1)"};
    candidate.areas = {"Model"};
    return candidate;
  };
  Story story;
  story.start().tell(version("a")).measured(0, crashed());
  EXPECT_TRUE(story.state.at(0).measured) << "a kill here ends in the crash's verdict";
  story.tell(version("b"));
  EXPECT_FALSE(story.state.at(0).measured);
  story.measured(0, measured_at(1.5)).verdict(0, Status::kKeep);
  ASSERT_EQ(story.state.experiments.size(), 1u);
  const Experiment& experiment = story.state.at(0);
  EXPECT_EQ(experiment.attempts, 2);
  EXPECT_EQ(experiment.interrupted, 0);
  EXPECT_EQ(experiment.candidate.fingerprint, "b");
  EXPECT_EQ(experiment.failed, std::vector<std::string>{"a"});
  EXPECT_EQ(experiment.candidate.constants, std::vector<std::string>{"kA 2 (was 1)"});
  EXPECT_EQ(experiment.candidate.areas, std::vector<std::string>{"Model"});
  EXPECT_EQ(story.state.champion, "commit of b");
  EXPECT_EQ(story.state.best_bpb, 1.5);
}

// The same edit on a new champion, before it ran, is no failure of the first.
TEST(Replay, ARebasedCandidateTakesThePlaceOfTheOtherWithoutAMark) {
  Story story;
  story.begun().candidate(1).candidate(1);
  EXPECT_TRUE(story.state.at(1).failed.empty());
  EXPECT_EQ(story.state.experiments.size(), 2u);
}

TEST(Replay, BrokenInvariantsAreErrorsThatNameTheEvent) {
  const auto candidate = [](int64_t n) {
    event::Candidate event;
    event.n = n;
    event.commit = "c";
    return Event(event);
  };
  const auto run = [](int64_t n, int attempt) {
    return Event(event::RunStarted{n, attempt, 1, 1});
  };
  const auto measured = [](int64_t n, int attempt, double bpb) {
    return Event(event::Measurement{n, attempt, measured_at(bpb)});
  };
  const auto verdict = [](Status status) {
    return Event(event::Verdict{0, status, "", "c", false});
  };
  const Event keep = verdict(Status::kKeep), zero = candidate(0), first = run(0, 1),
              good = measured(0, 1, 2), withdrawn = event::Withdrawn{0, ""};
  const std::vector<std::vector<Event>> bad = {
      {candidate(1)},
      {candidate(-1)},
      {first},
      {good},
      {verdict(Status::kCrash)},
      {zero, run(0, 2)},
      {zero, first, first},
      {zero, good},
      {zero, first, good, zero, keep},
      {zero, first, good, zero, first},
      {zero, first, measured(0, 2, 2)},
      {zero, first, good, good},
      {zero, keep},
      {zero, first, measured(0, 1, std::nan("")), keep},
      {zero, first, good, keep, keep},
      {zero, first, good, keep, zero},
      {zero, first, good, keep, event::Reopened{0}},
      {zero, first, good, verdict(Status::kDiscard), run(0, 2)},
      {zero, first, withdrawn},
      {zero, candidate(1), withdrawn},
      {event::Reopened{0}},
  };
  for (const std::vector<Event>& events : bad) {
    std::vector<Entry> entries;
    for (const Event& event : events) entries.push_back({event, utc_text(1.7e9)});
    const std::string message = error_of([&] { replay(entries); });
    EXPECT_NE(message.find("event " + std::to_string(events.size()) + " "), std::string::npos)
        << to_json(entries.back()) << "\n"
        << message;
    EXPECT_EQ(message.find('\n'), std::string::npos);
  }
}

TEST(Replay, BacklogHoldsTheLatestTenLinesThatWereNotTried) {
  Story story;
  story.start();
  const auto candidate = [&](int64_t n, const std::string& idea, std::vector<std::string> next) {
    event::Candidate event;
    event.n = n;
    event.idea = idea;
    event.next = std::move(next);
    story.tell(event);
  };
  for (int n = 0; n < 8; ++n) {
    const std::string number = std::to_string(n);
    candidate(n, "idea " + number, {"next a" + number, "next b" + number});
    story.verdict(n, Status::kCrash);
  }
  candidate(8, "next b7", {"idea 3", "next a7", "next c"});
  EXPECT_EQ(story.state.backlog(),
            (std::vector<std::string>{"next a3", "next b3", "next a4", "next b4", "next a5",
                                      "next b5", "next a6", "next b6", "next a7", "next c"}));
}

TEST(Replay, TenThousandExperimentsAreRead) {
  Story story;
  story.start();
  for (int64_t n = 0; n < 10000; ++n)
    story.experiment(n, Status::kKeep, 2.0 - 1e-5 * static_cast<double>(n));
  const RunState state = replay(story.entries);
  EXPECT_EQ(state.champion_n, 9999);
  EXPECT_EQ(state.measured_as.size(), 10000u);
}

// --- What is measured again

TEST(Fold, ADisturbedMeasurementIsNoResult) {
  Measured spoilt = measured_at(1.5);
  spoilt.disturbed = "another process took a core";
  Story story;
  story.begun().candidate(1).measured(1, spoilt);
  EXPECT_FALSE(story.state.at(1).measured);
  EXPECT_EQ(story.state.at(1).disturbed, 1);
  EXPECT_EQ(story.state.open.count(1), 1u);
  story.measured(1, measured_at(1.9));
  EXPECT_EQ(story.state.at(1).measured->bpb, 1.9);
  EXPECT_EQ(story.state.at(1).attempts, 2);
  story.candidate(1);
  EXPECT_EQ(story.state.at(1).disturbed, 0) << "of the present candidate's";
}

TEST(Fold, AProofTakesOneFigureOfEachArmOfABlock) {
  Story story;
  story.begun().experiment(1, Status::kKeep, 1.9).proof({{0, 1}, {1, 0}});
  EXPECT_ANY_THROW(story.proof({{0, 1}})) << "one at a time";
  story.arm(0, 0, measured_at(1.9));
  EXPECT_EQ(story.state.proof->figures[0].at(0), 1.9);
  EXPECT_ANY_THROW(story.run_arm(0, 0)) << "it was measured already";
  EXPECT_ANY_THROW(story.run_arm(0, 2)) << "no such arm";
  EXPECT_ANY_THROW(story.run_arm(2, 0)) << "no such block";
  EXPECT_ANY_THROW(story.tell(event::ProofMeasured{0, 1, 1, true, measured_at(2)}))
      << "no open attempt";
  event::Verified end;
  end.tip = "other";
  EXPECT_ANY_THROW(story.tell(end)) << "another tip";
  end.tip = story.state.champion;
  story.tell(end);
  EXPECT_FALSE(story.state.proof);
  EXPECT_FALSE(story.state.verified->verified);
  EXPECT_EQ(story.state.proofs, 1);
}

TEST(Fold, ACallIsPaidForTheExperimentThatItWasFor) {
  Story story;
  story.begun();
  for (const int64_t id : {1, 2, 3}) {
    CallOpened opened;
    opened.id = id;
    opened.n = id == 3 ? 2 : 1;
    CallClosed closed;
    closed.id = id;
    closed.usd = 0.25;
    story.tell(opened).tell(closed);
  }
  EXPECT_EQ(story.state.usd_for, (std::map<int64_t, double>{{1, 0.5}, {2, 0.25}}));
}

TEST(Fold, ARunTellsEveryKindOfSandboxThatItHad) {
  Story story;
  event::Start start;
  for (const char* kind : {"bubblewrap", "bubblewrap", "off"}) {
    start.sandbox = kind;
    story.tell(start);
  }
  EXPECT_EQ(story.state.start->sandbox, "bubblewrap, then off");
}

TEST(Fold, AGainThatTheTestSplitDoesNotShowIsToldOf) {
  Story story;
  story.begun();
  story.tell(event::Tested{story.state.champion, 2.1, "", 1}).experiment(1, Status::kKeep, 1.9);
  EXPECT_EQ(fits_validation(story.state), "") << "not known yet";
  Story good = story, bad = story;
  good.tell(event::Tested{story.state.champion, 2.001, "", 1});
  EXPECT_EQ(fits_validation(good.state), "");
  bad.tell(event::Tested{story.state.champion, 2.05, "", 1});
  EXPECT_NE(fits_validation(bad.state).find("#1 gained 0.1000 on val and 0.0500 on test"),
            std::string::npos);
}

TEST(Fold, AReplyThatComesAfterTheVerdictIsNoContradiction) {
  Story story;
  story.begun().experiment(1, Status::kCrash).tell(event::Replied{1, "openai:m"});
  EXPECT_EQ(story.state.replies, 0);
}

TEST(Fold, LaterMeasurementsOfAKeptCommitStandBesideTheFirst) {
  Measured spoilt = measured_at(1.5);
  spoilt.disturbed = "another process took a core";
  Story story;
  story.begun().measured(0, measured_at(2.01)).measured(0, spoilt).measured(0, crashed());
  EXPECT_EQ(story.state.at(0).measured->bpb, 2);
  EXPECT_EQ(story.state.at(0).again, (std::vector<double>{2.001, 1.999, 2.01}));
  EXPECT_EQ(story.state.best_bpb, 2);
}

TEST(Fold, AReopenedExperimentIsMeasuredAndJudgedAnew) {
  Story story;
  story.begun().experiment(1, Status::kCrash).tell(event::Reopened{1});
  EXPECT_EQ(story.state.at(1).status, Status::kOpen);
  EXPECT_EQ(story.state.at(1).reason + story.state.at(1).end_utc, "");
  EXPECT_FALSE(story.state.at(1).measured);
  EXPECT_EQ(story.state.at(1).reopened, 1);
  EXPECT_EQ(story.state.open, std::set<int64_t>{1});
  EXPECT_TRUE(story.state.crashes_alike.empty());
  story.measured(1, measured_at(1.9)).verdict(1, Status::kKeep);
  EXPECT_EQ(story.state.champion_n, 1);
  EXPECT_EQ(story.state.at(1).attempts, 2);
}

TEST(Fold, AUsersStopIsNoMarkAgainstWhatRan) {
  Story story;
  story.begun().candidate(1).run(1).tell(event::Stop{"interrupted"});
  EXPECT_FALSE(story.state.at(1).open);
  EXPECT_EQ(story.state.stopped, "interrupted");
  story.start().run(1);
  EXPECT_EQ(story.state.at(1).interrupted, 0);
  EXPECT_EQ(story.state.stopped, "");
}

// --- Proposals

TEST(Fold, AWithdrawnCandidateGivesItsNumberBack) {
  Story story;
  story.begun().candidate(1);
  const std::string fingerprint = story.state.at(1).candidate.fingerprint;
  EXPECT_EQ(story.state.measured_as.at(fingerprint), 1);
  story.tell(event::Withdrawn{1, "the champion has changed"});
  EXPECT_EQ(story.state.next_n(), 1);
  EXPECT_TRUE(story.state.open.empty());
  EXPECT_EQ(story.state.measured_as.count(fingerprint), 0u) << "it may be proposed again";
  story.experiment(1, Status::kKeep, 1.9);
  EXPECT_EQ(story.state.champion_n, 1);
}

TEST(Fold, RepliesBelongToTheNumberThatTheyAreFor) {
  Story story;
  story.begun().tell(event::Replied{1, "m"}).tell(event::Replied{1, "m"});
  EXPECT_EQ(story.state.replies, 2);
  story.candidate(1).tell(event::Replied{1, "m"});
  EXPECT_EQ(story.state.replies, 0);
  EXPECT_EQ(story.state.at(1).replies, 3);
  story.tell(event::Replied{2, "m"}).tell(event::Withdrawn{2, "a draft"});
  EXPECT_EQ(story.state.replies, 0);
  story.tell(event::Replied{2, "m"}).tell(event::Refused{2, "m", "no edit"});
  EXPECT_EQ(story.state.replies, 0);
}

TEST(Fold, RefusalsAreCountedUntilTheNextCandidate) {
  Story story;
  story.begun().tell(event::Refused{1, "m", "no edit"}).tell(event::Refused{1, "m", "no find"});
  EXPECT_EQ(story.state.came_to_nothing.at("m"), 2);
  EXPECT_EQ(story.state.refusals_in_row, 2);
  EXPECT_EQ(story.state.last_refusal, "no find");
  EXPECT_EQ(story.state.proposals_failed, (std::deque<bool>{true, true}));
  story.experiment(1, Status::kDiscard);
  EXPECT_EQ(story.state.refusals_in_row, 0);
  EXPECT_EQ(story.state.proposals_failed, (std::deque<bool>{true, true, false}));
}

TEST(Fold, OnlyTheLatestTwentyProposalsOfModelsCount) {
  Story story;
  story.begun().candidate(1, "builtin").verdict(1, Status::kCrash);
  EXPECT_TRUE(story.state.proposals_failed.empty()) << "the builtin proposer is no model";
  for (int i = 0; i < 25; ++i) story.tell(event::Refused{2, "m", "no edit"});
  EXPECT_EQ(story.state.proposals_failed.size(), 20u);
  story.tell(event::Rest{600});
  EXPECT_TRUE(story.state.proposals_failed.empty());
  EXPECT_NEAR(story.state.models_rest_until, story.now + 600, 0.01);
}

TEST(Fold, WhatTheRunWasToldIsKnownAfterARestart) {
  Story story;
  story.begun();
  story.tell(event::NotBuilt{1, "f", "no ;"}).tell(event::Told{"plateau"});
  story.tell(event::Fits{"ollama:m", 4096}).tell(event::Program{"ab"});
  story.tell(event::Exhausted{"all is known"});
  const RunState state = replay(story.entries);
  EXPECT_EQ(state.not_built.at("f"), "no ;");
  EXPECT_EQ(state.told, std::set<std::string>{"plateau"});
  EXPECT_EQ(state.fits.at("ollama:m"), 4096);
  EXPECT_EQ(state.program, "ab");
  EXPECT_TRUE(state.program_changes.empty()) << "the first is no change";
  EXPECT_EQ(state.exhausted, "all is known");
  story.experiment(1, Status::kDiscard);
  EXPECT_EQ(story.state.exhausted, "") << "there is one more neighbour";
  story.tell(event::Program{"cd"});
  EXPECT_EQ(story.state.program_changes, std::vector<int64_t>{2});
}

// --- What goes wrong

TEST(Fold, CrashesAreAlikeWhateverTheirFigures) {
  Story story;
  story.begun();
  const auto crash = [&](int64_t n, const std::string& reason) {
    story.candidate(n).measured(n, crashed()).verdict(n, Status::kCrash, reason);
  };
  crash(1, "timed out: train was still going after 12.3 s");
  crash(2, "timed out: train was still going after 9.0 s");
  EXPECT_EQ(story.state.crashes_alike, (std::vector<int64_t>{1, 2}));
  crash(3, "diverged");
  EXPECT_EQ(story.state.crashes_alike, std::vector<int64_t>{3});
  story.candidate(4).tell(event::Verdict{4, Status::kCrash, "no disk", story.state.champion, true});
  EXPECT_EQ(story.state.crashes_alike, std::vector<int64_t>{3}) << "the machine's says nothing";
  story.experiment(5, Status::kDiscard);
  EXPECT_TRUE(story.state.crashes_alike.empty());
}

TEST(Fold, TroublesCountUntilSomethingWorks) {
  Story story;
  story.begun().tell(event::Trouble{"disk"}).tell(event::Trouble{"disk"});
  EXPECT_EQ(story.state.troubles_in_row, 2);
  EXPECT_NEAR(story.state.last_trouble_at, story.now, 0.01);
  EXPECT_EQ(story.candidate(1).state.troubles_in_row, 0);
}

TEST(Fold, ALookAtTheMachineHoldsUntilTheNextVerdict) {
  Story story;
  story.begun().tell(event::Canary{"no device"});
  EXPECT_EQ(story.state.canary, "no device");
  EXPECT_NEAR(story.state.canary_at, story.now, 0.01);
  EXPECT_FALSE(story.experiment(1, Status::kDiscard).state.canary);
}

// --- Time

TEST(TimeSpent, IsSharedOutAndTheRestIsWaiting) {
  Story story;
  story.start().tell(event::Built{0, 4}, 5).candidate(0);
  story.measured(0, measured_at(2)).verdict(0, Status::kKeep);
  const TimeSpent& spent = story.state.spent;
  EXPECT_EQ(spent.building, 4);
  EXPECT_EQ(spent.startup, 1);
  EXPECT_EQ(spent.training, 10);
  EXPECT_EQ(spent.sealing, 1);
  EXPECT_EQ(spent.scoring, 3);
  EXPECT_NEAR(spent.total, 5 + 1 + 1 + 15 + 1, 0.01);
  EXPECT_NEAR(spent.waiting(), spent.total - 19, 0.01);
}

TEST(TimeSpent, TheTimeBetweenAStopAndAStartIsNobodys) {
  Story story;
  story.start().tell(event::Stop{"interrupted"}, 10).tell(event::Start{}, 5000);
  story.tell(event::Stop{"interrupted"}, 20);
  EXPECT_NEAR(story.state.spent.total, 30, 0.01);
}

TEST(TimeSpent, APauseCountsWhileTheAgentLives) {
  Story story;
  story.start().tell(event::Paused{"agent pause"}, 1).tell(event::Paused{"agent pause"}, 3);
  story.tell(event::Stop{"interrupted"}, 7).tell(event::Start{}, 5000);
  EXPECT_EQ(story.state.paused, "agent pause");
  story.tell(event::Resumed{}, 20);
  EXPECT_EQ(story.state.paused, "");
  EXPECT_NEAR(story.state.spent.paused, 3 + 7 + 20, 0.01);
  EXPECT_NEAR(story.state.spent.total, 1 + 3 + 7 + 20, 0.01);
  EXPECT_NEAR(story.state.spent.waiting(), 1, 0.01);
}

TEST(TimeSpent, AResumeWithoutAPauseIsNothing) {
  Story story;
  story.start().tell(event::Resumed{}, 20);
  EXPECT_EQ(story.state.spent.paused, 0);
}

}  // namespace
}  // namespace autoresearch
