#include "agent/loop/commands.h"

#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <memory>
#include <nlohmann/json.hpp>

#include "agent/loop/housekeeping.h"
#include "agent/loop/status.h"
#include "agent/record/export.h"
#include "agent/record/report.h"
#include "agent/record/show.h"
#include "common/text.h"
#include "tests/story.h"
#include "tests/support.h"

namespace autoresearch {
namespace {

// What is typed after "agent", with no terminal on stdin.
class CommandsTest : public FolderTest {
 protected:
  std::optional<int> type(const std::string& words) {
    CLI::App app;
    app.add_subcommand("run");
    const auto housekeeping = add_commands(app);
    app.parse(words);
    testing::internal::CaptureStdout();
    try {
      const auto code = housekeeping();
      said_ = testing::internal::GetCapturedStdout();
      return code;
    } catch (...) {
      testing::internal::GetCapturedStdout();
      throw;
    }
  }
  std::string error(const std::string& words) {
    return error_of([&] { type(words); });
  }
  void SetUp() override { ASSERT_NE(freopen("/dev/null", "r", stdin), nullptr); }

  const std::string data_ = " --data " + dir_.string();
  std::string said_;
};

TEST_F(CommandsTest, LeaveTheOthersToTheAgent) { EXPECT_EQ(type("run"), std::nullopt); }

TEST_F(CommandsTest, FindTheDataWhereTheUserSaysItIs) {
  file("runs/monday/results.tsv", "");
  EXPECT_EQ(type("runs" + data_), kDone);
  EXPECT_NE(said_.find("monday"), std::string::npos) << said_;
}

TEST_F(CommandsTest, RemoveNothingThatNobodyHasConfirmed) {
  const fs::path run = file("runs/monday/results.tsv", "");
  const fs::path rest = file("runs/.deleted-x/results.tsv", "");
  EXPECT_NE(error("delete --tag monday" + data_).find("add --yes"), std::string::npos);
  EXPECT_EQ(type("prune" + data_), kDone);
  EXPECT_NE(said_.find("nothing was removed; add --yes"), std::string::npos) << said_;
  EXPECT_TRUE(fs::exists(run) && fs::exists(rest));
  EXPECT_EQ(type("prune --yes" + data_), kDone);
  EXPECT_FALSE(fs::exists(rest));
  EXPECT_EQ(type("delete --yes --tag monday" + data_), kDone);
  EXPECT_FALSE(fs::exists(run));
}

TEST_F(CommandsTest, PruneDeletesOldRunsIfToldTo) {
  Story begun;
  event::Start start;
  start.task_name = "demo";
  const std::string line = to_json(begun.tell(start).entries[0]).dump() + "\n";
  const fs::path old = file("runs/monday/journal.jsonl", line);
  const fs::path young = file("runs/today/journal.jsonl", line);
  const fs::path no_run = file("runs/my notes/diary", "dear diary");
  for (const fs::path& path : {old, no_run, no_run.parent_path()})
    fs::last_write_time(path, fs::file_time_type::clock::now() - std::chrono::hours(73));
  EXPECT_EQ(type("prune --yes" + data_), kDone);
  EXPECT_EQ(type("prune --yes --older-than 4" + data_), kDone);
  EXPECT_TRUE(fs::exists(old));
  EXPECT_EQ(type("prune --older-than 3" + data_), kDone);
  EXPECT_HAS(said_, "run monday:");
  EXPECT_TRUE(fs::exists(old)) << "nobody has confirmed it";
  EXPECT_EQ(type("prune --yes --older-than 3" + data_), kDone);
  EXPECT_FALSE(fs::exists(old));
  EXPECT_TRUE(fs::exists(young));
  EXPECT_TRUE(fs::exists(no_run)) << "it is no run";
}

TEST_F(CommandsTest, TellAUserWhatWasWrongAndWhatHelps) {
  file("runs/monday/results.tsv", "");
  for (const char* words : {"pause --tag tuesday", "resume --tag tuesday", "pause --tag monday",
                            "resume --tag monday", "delete --yes --tag tuesday"})
    EXPECT_TRUE(error(words + data_).ends_with("; see: build/agent runs")) << words;
  EXPECT_NE(error("pause --tag ../monday" + data_).find("can't name a run"), std::string::npos);
}

TEST_F(CommandsTest, ReplyShowsWhatTheLoopWouldMakeOfIt) {
  const std::string source = file("train.cpp", "int a = 1;\nint b = 2;\n").string();
  const std::string good = file("good.md",
                                "<think>maybe 3?</think>IDEA: a larger b\nWHY: it fits.\n"
                                "<<<<<<< SEARCH\nint b = 2;\n=======\nint b = 4;\n"
                                ">>>>>>> REPLACE\nNEXT: a as well\n");
  EXPECT_EQ(type("reply " + good + " --source " + source), kDone);
  for (const char* part :
       {"idea: a larger b", "why:  it fits.", "next: a as well", "-int b = 2;\n", "+int b = 4;\n"})
    EXPECT_NE(said_.find(part), std::string::npos) << said_;
  const std::string bad = file("bad.md",
                               "IDEA: c\nWHY: none.\n<<<<<<< SEARCH\nint b = 5;\n"
                               "=======\nint b = 6;\n>>>>>>> REPLACE\n");
  EXPECT_EQ(type("reply " + bad + " --source " + source), kError);
  for (const char* part : {"does not apply", "The model would be told", "int b = 2;"})
    EXPECT_NE(said_.find(part), std::string::npos) << said_;
  EXPECT_NE(error("reply " + bad + " --source " + source + ".x").find("train.cpp.x"),
            std::string::npos);
}

// ------------------------------------------------------------------------------------------------
// Reading a run

// A run folder as a loop leaves it: a baseline, a keep with an unfriendly description, a crash, and
// one under way.
class ReadingTest : public CommandsTest {
 protected:
  const std::string kEvil =
      "=cmd|'/c calc'!A1 <b>\t\x1b[31mred\x1b[0m \xe2\x80\xae"
      "drawkcab";

  std::string train_json(int64_t steps) {
    nlohmann::json curve = nlohmann::json::array();
    for (int64_t step = 0; step < steps; ++step)
      curve.push_back(
          {step, 0.1 * static_cast<double>(step), 5 - 0.01 * static_cast<double>(step)});
    return nlohmann::json{{"loss_curve", curve}, {"configuration", {{"total_batch", 64}}}}.dump();
  }

  Story baseline() {
    Story story;
    story.start();
    story.candidate(0);
    Measured measured = measured_at(2);
    measured.steps = 90;
    story.measured(0, measured).verdict(0, Status::kKeep);
    file("runs/t/experiments/0000/train.json", train_json(90));
    file("runs/t/champion/" + story.state.champion + "/train.cpp", "int a = 1;\nint b = 2;\n");
    return story;
  }

  Story night() {
    Story story = baseline();
    event::Candidate candidate;
    candidate.n = 1;
    candidate.commit = std::string(40, 'c');
    candidate.parent = story.state.champion;
    candidate.idea = kEvil;
    candidate.why = "--- a/other\n+++ b/other\nFrom: me <x@y>\ndiff --git a/z b/z\n" + kEvil;
    candidate.proposer = "openai:m";
    candidate.fingerprint = "f1";
    story.tell(candidate);
    Measured measured = measured_at(1.9);
    measured.steps = 120;
    measured.busy = "a build";
    measured.machine.cores = 2;
    measured.machine.load = 3;
    measured.machine.training.seconds = 8;
    measured.machine.training.contended = 2;
    story.measured(1, measured).verdict(1, Status::kKeep);
    story.measured(1, measured_at(1.92));
    file("runs/t/champion/" + candidate.commit + "/train.cpp", "int a = 7;\nint b = 2;\n");
    file("runs/t/experiments/0001/train.json", train_json(120));
    file("runs/t/experiments/0001/candidate.diff", "-int a = 1;\n+int a = 7;  // " + kEvil + "\n");
    story.experiment(2, Status::kCrash).candidate(3).run(3);
    file("runs/t/experiments/0002/run.log", "terminate called " + kEvil + "\n");
    file("runs/t/experiments/0003/run.log", " 20 %  step 30  1.2 s  loss 4.5000\n");
    file("runs/t/experiments/0003/attempt/x", "");
    return story;
  }

  static event::Verified proof_of(const std::string& tip) {
    event::Verified proof;
    proof.tip = tip;
    proof.verified = true;
    proof.pairs = 4;
    proof.bpb = 1.85;
    return proof;
  }

  void write(const Story& story, const std::string& tag = "t") {
    std::string lines;
    for (const Entry& entry : story.entries) lines += to_json(entry).dump() + "\n";
    file("runs/" + tag + "/journal.jsonl", lines);
  }

  // The run as a process that is alive holds it.
  std::unique_ptr<FileLock> hold() {
    fs::create_directories(dir_ / "runs/t");
    return std::make_unique<FileLock>(dir_ / "runs/t/journal.jsonl.lock");
  }

  std::string text_of(const Story& story, size_t columns) {
    write(story);
    return status_text(status_of({dir_ / "runs/t"}, story.now + 5), columns, false);
  }
};

TEST_F(ReadingTest, StatusOfARunThatIsAliveTellsWhatItDoes) {
  const auto lock = hold();
  const std::string text = text_of(night(), 120);
  EXPECT_NE(text.find("#3 training for 5 s, about 7 s left, step 30, loss 4.5000 (the champion's "
                      "was 4.7000)"),
            std::string::npos)
      << text;
  EXPECT_NE(text.find("running (" + std::to_string(getpid())), std::string::npos) << text;
  EXPECT_NE(
      text.find(
          "1.900000 (#1), -0.100000 (-5.00 %) from 2.000000; not verified yet: the gain rests "),
      std::string::npos)
      << text;
  EXPECT_NE(text.find("noise     0.014, by 1 repeat; the gain is 7.1 times that"),
            std::string::npos)
      << text;
}

TEST_F(ReadingTest, StatusTellsWhenTheRunWillEndByItself) {
  Story story = night();
  const auto lock = hold();
  EXPECT_HAS(text_of(story, 120), "ends      when you stop it");
  event::Start start;
  start.max_experiments = 10;  // two of them were made
  EXPECT_HAS(text_of(story.tell(start), 120), "ends      after 8 more experiments, at about ");
  start.deadline = story.now + 20;  // before the eighth
  const std::string at = "ends      at " + local_time(start.deadline, "%a %H:%M");
  EXPECT_HAS(text_of(story.tell(start), 120), at);
  start.max_experiments = 0;
  EXPECT_HAS(text_of(story.tell(start), 120), at);
  const auto object = status_json(status_of({dir_ / "runs/t"}, story.now));
  EXPECT_EQ(object["ends_at"], start.deadline);
  EXPECT_TRUE(object["experiments_left"].is_null()) << "the last start has no such limit";
  start.only_proof = true;
  EXPECT_HAS(text_of(story.tell(start), 120), "ends      with the proof, at ");
  EXPECT_HAS(text_of(story.tell(event::Paused{"by the user"}), 120), "ends      not while it is");
}

TEST_F(ReadingTest, StatusTellsOfAnErrorAsLongAsTheLoopRestsAfterIt) {
  Story story = baseline();
  const auto lock = hold();
  write(story.tell(event::Trouble{"the disk is full"}));
  const RunFolder run{dir_ / "runs/t"};
  EXPECT_HAS(status_text(status_of(run, story.now), 120, false), "error: the disk is full");
  EXPECT_EQ(status_text(status_of(run, story.now + 3600), 120, false).find("error"),
            std::string::npos);
}

TEST_F(ReadingTest, StatusReadsARepeatWhereItRuns) {
  const auto lock = hold();
  Story story = baseline();
  file("runs/t/experiments/0000/run.log", " 99 %  step 90  9 s  loss 4.1000\n");
  file("runs/t/again/build/x", "");
  EXPECT_NE(text_of(story, 120).find("now       #0 again building\n"), std::string::npos);
  fs::remove_all(dir_ / "runs/t/again/build");
  file("runs/t/again/run.log", " 20 %  step 30  1.2 s  loss 4.5000\n");
  file("runs/t/again/attempt/x", "");
  const std::string text = text_of(story.run(0), 120);
  EXPECT_NE(text.find("#0 again training for 5 s, about 7 s left, step 30, loss 4.5000\n"),
            std::string::npos)
      << text;
  story.tell(event::Start{}).tell(event::Tested{story.state.champion, 2.1, "", 1});
  EXPECT_NE(text_of(story, 120).find("now       between two measurements"), std::string::npos)
      << "what was open ended with the agent";
}

TEST_F(ReadingTest, StatusTellsWhatAProofMeasures) {
  const auto lock = hold();
  Story story = night();
  story.verdict(3, Status::kCrash);
  EXPECT_NE(text_of(story, 120).find("now       scoring on the test split\n"), std::string::npos);
  story.proof({{0, 1, 2}, {2, 1, 0}}, {1}).run_arm(0, 2);
  file("runs/t/proof/2/attempt/x", "");
  file("runs/t/proof/2/run.log", " 20 %  step 30  1.2 s  loss 4.5000\n");
  const std::string text = text_of(story, 120);
  EXPECT_NE(text.find("now       proof 1 of 2, without #1 training for 5 s, about 7 s left, step "
                      "30, loss 4.5000"),
            std::string::npos)
      << text;
  fs::remove_all(dir_ / "runs/t/proof/2/attempt");
  EXPECT_NE(text_of(story, 120).find("without #1 scoring for 5 s"), std::string::npos);
  story.tell(event::ProofMeasured{0, 2, 1, true, measured_at(1.95)});
  EXPECT_NE(text_of(story, 120).find("now       between two measurements of the proof\n"),
            std::string::npos);
}

TEST_F(ReadingTest, WhatWasKeptAfterAProofIsNowhereCalledVerified) {
  Story story = night();
  story.verdict(3, Status::kCrash).proof({});
  story.tell(proof_of(story.state.champion));
  write(story);
  type("status --json" + data_);
  EXPECT_EQ(nlohmann::json::parse(said_)["verified"], true);
  EXPECT_NE(comparison_text(story.state, story.state).find("which is      verified"),
            std::string::npos);
  write(story.experiment(4, Status::kKeep, 1.8));
  type("status --json" + data_);
  EXPECT_EQ(nlohmann::json::parse(said_)["verified"], false);
  EXPECT_EQ(nlohmann::json::parse(said_)["certainty"], "not verified yet");
  EXPECT_NE(comparison_text(story.state, story.state).find("which is      not verified yet"),
            std::string::npos);
}

TEST_F(ReadingTest, StatusHasTheTestSplitBesideVal) {
  Story story = night();
  EXPECT_EQ(text_of(story, 200).find("\ntest "), std::string::npos);
  story.tell(event::Tested{story.state.at(0).candidate.commit, 2.1, "", 1});
  story.tell(event::Tested{story.state.champion, 2.09, "", 1});
  const std::string text = text_of(story, 200);
  EXPECT_NE(
      text.find("\ntest      2.100000 -> 2.090000 (-0.010000), on val -0.100000; the loop may "
                "fit its validation rows"),
      std::string::npos)
      << text;
}

TEST_F(ReadingTest, StatusOfARunThatWasKilledSaysSo) {
  const std::string text = text_of(night(), 120);
  EXPECT_NE(text.find("nobody runs it, and no end is on record"), std::string::npos) << text;
  EXPECT_EQ(text.find("#3 training"), std::string::npos) << text;
}

TEST_F(ReadingTest, StatusShowsTheLastTenExperiments) {
  Story story = baseline();
  for (int64_t n = 1; n < 15; ++n) story.experiment(n, Status::kDiscard, 2.1);
  const std::string text = text_of(story, 120);
  EXPECT_EQ(text.find("\n#4 "), std::string::npos);
  for (int n = 5; n < 15; ++n)
    EXPECT_NE(text.find("\n#" + std::to_string(n) + " "), std::string::npos) << text;
}

TEST_F(ReadingTest, StatusFitsTheTerminalAndShowsNoControls) {
  Story story = night();
  story.state = {};
  for (Entry& entry : story.entries)
    if (auto* candidate = std::get_if<event::Candidate>(&entry.event))
      candidate->idea += " \xe6\xbc\xa2\xe5\xad\x97\xe6\xbc\xa2\xe5\xad\x97 and so on, and so on";
  for (const size_t columns : {40u, 60u, 79u, 80u, 120u}) {
    const std::string text = text_of(story, columns);
    EXPECT_EQ(text.find('\x1b'), std::string::npos);
    EXPECT_EQ(text.find("\xe2\x80\xae"), std::string::npos);
    for (const std::string& line : split_lines(text))
      EXPECT_TRUE(first_columns(line, columns) == line || line.starts_with("restore") ||
                  line.starts_with("report"))
          << columns << line;
  }
}

TEST_F(ReadingTest, ColoursAreOnlyThereIfTheyAreWanted) {
  write(night());
  const RunStatus status = status_of({dir_ / "runs/t"}, 0);
  EXPECT_NE(status_text(status, 100, true).find("\x1b[31mcrash  \x1b[0m"), std::string::npos);
  EXPECT_EQ(type("status --tag t" + data_), kDone);
  EXPECT_EQ(said_.find('\x1b'), std::string::npos) << "stdout is no terminal";
}

TEST_F(ReadingTest, StatusForProgramsHoldsTheSame) {
  write(night());
  const auto lock = hold();
  EXPECT_EQ(type("status --json" + data_), kDone);
  const auto object = nlohmann::json::parse(said_);
  EXPECT_EQ(object["tag"], "t");
  EXPECT_EQ(object["state"], "running");
  EXPECT_EQ(object["phase"], "training");
  EXPECT_EQ(object["experiment"], 3);
  EXPECT_EQ(object["step"], 30);
  EXPECT_EQ(object["champion"], 1);
  EXPECT_EQ(object["verified"], false);
  EXPECT_EQ(object["last"].size(), 4u);
  EXPECT_EQ(object["last"][1]["val_bpb"], 1.9);
  EXPECT_TRUE(object["last"][2]["val_bpb"].is_null()) << "a crash has no figure, not even 0";
}

TEST_F(ReadingTest, EveryReaderWorksOnARunWithNothingButABaselineOrLess) {
  write(baseline());
  for (const char* words : {"status", "status --json", "show 0", "report", "export", "compare t t"})
    EXPECT_EQ(type(words + data_), kDone) << words;
  Story begun;
  write(begun.start());
  for (const char* words : {"status", "status --json", "report", "compare t t"})
    EXPECT_EQ(type(words + data_), kDone) << words;
  EXPECT_NE(error("export" + data_).find("no baseline yet"), std::string::npos);
  EXPECT_NE(error("show 0" + data_).find("it has none yet"), std::string::npos);
  EXPECT_NE(error("status --tag none" + data_).find("see: build/agent runs"), std::string::npos);
}

TEST_F(ReadingTest, WithoutATagTheNewestRunIsRead) {
  write(baseline());
  Story other = baseline();
  write(other.experiment(1, Status::kDiscard), "u");
  fs::last_write_time(dir_ / "runs/t/journal.jsonl",
                      fs::file_time_type::clock::now() - std::chrono::hours(1));
  type("status --json" + data_);
  EXPECT_EQ(nlohmann::json::parse(said_)["tag"], "u");
}

TEST_F(ReadingTest, ShowTellsAllAboutOneExperiment) {
  write(night());
  EXPECT_EQ(type("show 1" + data_), kDone);
  for (const char* part :
       {"#1 keep  =cmd|'/c calc'!A1 <b> red drawkcab\n", "1.900000, -0.100000 against",
        "measured again: 1.920000", "made from     #0, which made 90 steps", "steps         120",
        "+0.0000 at equal steps (0.0000)",
        "load 3.0 on 2 cores; waited for a core 25 % of the time; busy in every attempt: a build"})
    EXPECT_NE(said_.find(part), std::string::npos) << part << said_;
  EXPECT_EQ(type("show 2" + data_), kDone);
  EXPECT_NE(said_.find("terminate called"), std::string::npos) << said_;
  EXPECT_EQ(type("show 1 --diff" + data_), kDone);
  EXPECT_TRUE(said_.starts_with("-int a = 1;\n+int a = 7;")) << said_;
  EXPECT_EQ(said_.find('\x1b'), std::string::npos);
  EXPECT_NE(error("show 1 --prompt" + data_).find("no prompt.md: no model was asked"),
            std::string::npos);
  EXPECT_NE(error("show 9" + data_).find("its last one is 3"), std::string::npos);
}

TEST_F(ReadingTest, ExportIsASeriesThatGitApplies) {
  write(night());
  const fs::path to = dir_ / "it's here";
  file("it's here/0009-old.patch", "\nFrom: autoresearch <autoresearch@localhost>\n");
  const fs::path users = file("it's here/0008-mine.patch", "From: me <me@home>\n");
  EXPECT_HAS(error_of([&] { export_run({dir_ / "runs/t"}, night().state, to); }),
             "0008-mine.patch is not of an export");
  fs::remove(users);
  const RunFolder run{dir_ / "runs/t"};
  const fs::path edited = file("it's here/train.cpp", "int a = 1;  // mine\n");
  EXPECT_HAS(error_of([&] { export_run(run, night().state, to); }),
             "name a new folder: --to FOLDER");
  EXPECT_EQ(read_file(edited), "int a = 1;  // mine\n");
  file("it's here/train.cpp", "int a = 1;\nint b = 2;\n");  // the baseline's
  const std::string said = export_run(run, night().state, to);
  EXPECT_FALSE(fs::exists(to / "0009-old.patch"));
  EXPECT_EQ(read_file(to / "train.cpp"), "int a = 7;\nint b = 2;\n");
  file("checkout/train.cpp", "int a = 1;\nint b = 2;\n");
  const std::string script =
      "cd '" + (dir_ / "checkout").string() +
      "' && git init -q . && git add -A && git -c user.name=a -c user.email=a@b commit -qm base && "
      "GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b git am -q --keep-non-patch ../it*here/*.patch";
  ASSERT_EQ(std::system(script.c_str()), 0);
  EXPECT_EQ(read_file(dir_ / "checkout/train.cpp"), "int a = 7;\nint b = 2;\n");
  ASSERT_EQ(std::system(("cd '" + (dir_ / "checkout").string() +
                         "' && git log -1 --format='%an <%ae>%n%B' > ../message")
                            .c_str()),
            0);
  const std::string message = read_file(dir_ / "message");
  EXPECT_TRUE(
      message.starts_with("autoresearch <autoresearch@localhost>\n=cmd|'/c calc'!A1 <b> "
                          "red drawkcab\n\nval_bpb 2.000000 -> 1.900000 (-0.100000), "
                          "measured 2 times; not verified yet.\n"))
      << message;
  EXPECT_NE(message.find("+++ b/other From: me"), std::string::npos) << message;
}

// Two changes, and a proof that takes the first out again.
TEST_F(ReadingTest, ExportOfATrimmedRunEndsWithTheTipThatIsLeft) {
  Story story = baseline();
  const auto keeps = [&](const std::string& commit, const std::string& source) {
    file("runs/t/champion/" + commit + "/train.cpp", source);
  };
  story.experiment(1, Status::kKeep, 1.95);
  keeps(story.state.champion, "int a = 7;\nint b = 2;\n");
  story.experiment(2, Status::kKeep, 1.9);
  keeps(story.state.champion, "int a = 7;\nint b = 9;\n");
  story.proof({{0, 1, 2}}, {1}).tell(event::Trimmed{"trimmed", {1}, {{0, 1}}});
  story.arm(1, 0, measured_at(1.85)).arm(1, 1, measured_at(2));
  keeps("trimmed", "int a = 1;\nint b = 9;\n");
  event::Verified proof = proof_of("trimmed");
  proof.changes = {{.n = 1, .effect = -0.05, .result = "dropped"}};
  story.tell(proof);
  const fs::path to = dir_ / "wins";
  export_run({dir_ / "runs/t"}, story.state, to);
  EXPECT_EQ(read_file(to / "train.cpp"), "int a = 1;\nint b = 9;\n");
  EXPECT_NE(read_file(to / "0001-idea-1.patch").find("dropped later"), std::string::npos);
  EXPECT_NE(read_file(to / "0003-without-1.patch").find("Subject: [PATCH 3/3] without #1\n"),
            std::string::npos);
  file("checkout/train.cpp", "int a = 1;\nint b = 2;\n");
  const std::string script =
      "cd '" + (dir_ / "checkout").string() +
      "' && git init -q . && git add -A && git -c user.name=a -c user.email=a@b commit -qm base && "
      "GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b git am -q --keep-non-patch ../wins/*.patch";
  ASSERT_EQ(std::system(script.c_str()), 0);
  EXPECT_EQ(read_file(dir_ / "checkout/train.cpp"), "int a = 1;\nint b = 9;\n");
}

TEST_F(ReadingTest, TheRestoreLinePutsTheChampionIntoTheCheckout) {
  RunState state = night().state;
  const std::string in_checkout = "cd '" + (dir_ / "my checkout").string() + "' && ";
  const auto restored = [&] {
    file("my checkout/train.cpp", "int a = 1;\n");
    const std::string line = restore_line({dir_ / "runs/t"}, state);
    EXPECT_EQ(std::system((in_checkout + line).c_str()), 0) << line;
    return read_file(dir_ / "my checkout/train.cpp");
  };
  file("my checkout/train.cpp", "int a = 3;\n");
  ASSERT_EQ(std::system((in_checkout +
                         "git init -q . && git add -A && git -c user.name=a -c user.email=a@b "
                         "commit -qm x && git rev-parse HEAD > ../commit")
                            .c_str()),
            0);
  const std::string champion = std::exchange(state.champion, trim(read_file(dir_ / "commit")));
  EXPECT_EQ(restored(), "int a = 3;\n");
  file("runs/t/git/repository.git/HEAD", "");
  state.champion = champion;
  EXPECT_EQ(restored(), "int a = 7;\nint b = 2;\n");
}

TEST_F(ReadingTest, CompareHasNoFiguresOfARunWithoutABaseline) {
  Story begun;
  begun.start();
  const std::string text = comparison_text(begun.state, baseline().state);
  EXPECT_NE(text.find("\nbaseline      no baseline yet  "), std::string::npos) << text;
  EXPECT_EQ(text.find(" 0.000000"), std::string::npos) << text;
}

TEST_F(ReadingTest, CompareSaysWhatIsNotComparable) {
  Story story = baseline();
  EXPECT_NE(comparison_text(story.state, story.state).find("\ncomparable: "), std::string::npos);
  Story other = baseline();
  other.state.start->task = "another";
  other.state.experiments[0].measured->steps = 45;
  const std::string text = comparison_text(story.state, other.state);
  EXPECT_EQ(text.find("\ncomparable: "), std::string::npos);
  EXPECT_NE(text.find("not comparable: the tasks differ"), std::string::npos) << text;
  EXPECT_NE(text.find("not comparable: the baselines made 90 and 45 steps"), std::string::npos);
}

TEST_F(ReadingTest, TheReportOfARunThatWasKilledDoesNotClaimToBeAlive) {
  write(night());
  EXPECT_EQ(type("report" + data_), kDone);
  const std::string html = read_file(dir_ / "runs/t/report.html");
  EXPECT_NE(html.find("\"alive\":false"), std::string::npos);
  const auto lock = hold();
  EXPECT_EQ(type("report" + data_), kDone);
  EXPECT_NE(read_file(dir_ / "runs/t/report.html").find("\"alive\":true"), std::string::npos);
}

}  // namespace
}  // namespace autoresearch
