#include "agent/record/report.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <fstream>
#include <map>
#include <regex>
#include <sstream>

#include "common/error.h"
#include "common/text.h"
#include "tests/story.h"

namespace autoresearch {
namespace {

struct Step {
  std::optional<Status> status;
  std::string idea;
  double bpb = 0;
  std::string reason = "";
};

// A run as the loop would have written it; experiment n has commit "n" forty times.
RunState state_of(const std::vector<Step>& steps) {
  Story story;
  story.now = *seconds_of_utc("2026-11-23T01:00:00.1Z") - 1;
  event::Start start;
  start.task_name = "demo";
  story.tell(start);
  for (size_t i = 0; i < steps.size(); ++i) {
    const Step& step = steps[i];
    event::Candidate candidate;
    candidate.n = static_cast<int64_t>(i);
    candidate.idea = step.idea;
    candidate.commit = std::string(40, static_cast<char>('a' + i % 6));
    candidate.proposer = i % 2 ? "builtin" : "openai";
    story.tell(candidate, 0);
    if (!step.status) continue;
    if (step.bpb != 0) {
      Measured measured;
      measured.bpb = step.bpb;
      measured.wall_seconds = 24;
      measured.memory_gb = 45.16;
      story.measured(candidate.n, measured);
    }
    story.now = *seconds_of_utc(story.state.at(candidate.n).start_utc);
    story.tell(event::Verdict{candidate.n, *step.status, step.reason, candidate.commit, false}, 90);
  }
  return story.state;
}

RunState a_night() {
  return state_of({{Status::kKeep, "baseline", 1.87733},
                   {Status::kKeep, "matrix learning rate 0.04 -> 0.05", 1.87421},
                   {Status::kDiscard, "wider", 1.8799999, "no gain: 1.8800 against 1.8742"},
                   {Status::kCrash, "deeper", 0, "out of memory: not even one row fits"},
                   {Status::kCrash, "longer", 1.5, "void: train took 99 s"},
                   {std::nullopt, "under way"}});
}

TEST(ResultsTsv, HasUpstreamsFiveColumnsAndOneRowForEachVerdict) {
  EXPECT_EQ(results_tsv(a_night()),
            "commit\tval_bpb\tmemory_gb\tstatus\tdescription\n"
            "aaaaaaa\t1.877330\t45.2\tkeep\tbaseline\n"
            "bbbbbbb\t1.874210\t45.2\tkeep\tmatrix learning rate 0.04 -> 0.05\n"
            "ccccccc\t1.880000\t45.2\tdiscard\twider\n"
            "ddddddd\t0.000000\t0.0\tcrash\tdeeper\n"
            "eeeeeee\t0.000000\t0.0\tcrash\tlonger\n");
  EXPECT_EQ(results_tsv(RunState{}), "commit\tval_bpb\tmemory_gb\tstatus\tdescription\n");
}

TEST(ResultsTsv, NoDescriptionBreaksARow) {
  RunState state = state_of({{Status::kKeep, "a\tb\nc\r\nd \"quoted\" \x01\x1b[31m", 1.0}});
  EXPECT_EQ(results_tsv(state),
            "commit\tval_bpb\tmemory_gb\tstatus\tdescription\n"
            "aaaaaaa\t1.000000\t45.2\tkeep\ta b c d 'quoted'\n");
}

TEST(ResultsTsv, NoDescriptionIsAFormulaOrTurnsTheOrderOfWhatFollows) {
  for (const char* formula : {"=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\x1b[0m=1", "\xe2\x80\xae=1",
                              "\xef\xbc\x9d"
                              "1",
                              "\"=1"}) {
    const std::string tsv = results_tsv(state_of({{Status::kKeep, formula, 1.0}}));
    EXPECT_NE(tsv.find("\tkeep\t'"), std::string::npos) << tsv;
  }
  const std::string turned = results_tsv(
      state_of({{Status::kKeep, "a\xe2\x80\xae b\xe2\x81\xa6 c\xe2\x80\x8f d\xd8\x9c", 1.0}}));
  EXPECT_NE(turned.find("\tkeep\ta b c d\n"), std::string::npos) << turned;
}

// The output of a shell command, and its exit code.
std::pair<std::string, int> output_of(const std::string& command) {
  std::FILE* pipe = popen((command + " 2>&1").c_str(), "r");
  std::string text;
  char buffer[4096];
  while (const size_t size = std::fread(buffer, 1, sizeof buffer, pipe)) text.append(buffer, size);
  return {text, pclose(pipe)};
}

TEST(ResultsTsv, PandasReadsItAsUpstreamsAnalysisDoes) {
  if (output_of("python3 -c 'import pandas'").second != 0)
    GTEST_SKIP() << "no pandas here; install it: pip install pandas";
  const fs::path path = fs::temp_directory_path() / ("results_test." + std::to_string(getpid()));
  write_file(path, results_tsv(state_of({{Status::kKeep, "baseline", 2.0},
                                         {Status::kKeep, "=evil \"quoted\n\t, 'it''s'", 1.5},
                                         {Status::kCrash, "nan", 0, "x"},
                                         {Status::kDiscard, "\"unclosed", 1.8},
                                         {Status::kKeep, "\xe6\xbc\xa2\xe5\xad\x97", 1.25}})));
  const auto [said, code] =
      output_of("python3 " SOURCE_DIR "/bench/analyse.py '" + path.string() + "'");
  fs::remove(path);
  EXPECT_EQ(code, 0);
  EXPECT_EQ(said,
            "experiments 5: 3 keep, 1 discard, 1 crash\n"
            "val_bpb 2.000000 -> 1.250000 (-37.50 %)\n"
            "running best: #0 2.000000, #1 1.500000, #4 1.250000\n"
            "largest improvements:\n"
            "  #1 -0.500000 (67 % of all)  '=evil 'quoted , 'it''s'\n"
            "  #4 -0.250000 (33 % of all)  \xe6\xbc\xa2\xe5\xad\x97\n");
}

TEST(Report, TellsWhichOperationsAreNotFused) {
  RunState state = a_night();
  EXPECT_EQ(closing_lines(state, "done", {"/run"}).find("plain ATen"), std::string::npos);
  state.experiments[0].measured->fused_operations = "plain ATen computes <b>";
  EXPECT_NE(closing_lines(state, "done", {"/run"}).find("\nplain ATen computes <b>\n"),
            std::string::npos);
}

TEST(ExperimentLine, ShowsStatusFigureChangeMinutesAndRunningBest) {
  RunState state = a_night();
  EXPECT_EQ(experiment_line(state, 0),
            "#0   keep     1.877330          -    0.4 min  best 1.877330  baseline");
  EXPECT_EQ(experiment_line(state, 1),
            "#1   keep     1.874210  -0.003120    0.4 min  best 1.874210  "
            "matrix learning rate 0.04 -> 0.05");
  EXPECT_TRUE(experiment_line(state, 1, "by speed").ends_with(" -> 0.05 [won by speed]"));
  EXPECT_EQ(experiment_line(state, 2, "by speed"),
            "#2   discard  1.880000  +0.005790    0.4 min  best 1.874210  wider");
  EXPECT_EQ(experiment_line(state, 3),
            "#3   crash           -          -    1.5 min  best 1.874210  deeper "
            "[out of memory: not even one row fits]");
  EXPECT_EQ(experiment_line(state, 5),
            "#5   open            -          -          -  best 1.874210  under way");
  state.experiments[2].candidate.proposer = "replay:first-night";
  EXPECT_NE(experiment_line(state, 2).find("  recorded: wider"), std::string::npos);
}

TEST(ExperimentLine, StaysBelowItsHeader) {
  const std::string header = experiment_header(), line = experiment_line(a_night(), 1);
  EXPECT_EQ(header.find("status"), line.find("keep"));
  EXPECT_EQ(header.find("val_bpb") + 7, line.find("1.874210") + 8);
  EXPECT_EQ(header.find("change") + 6, line.find("-0.003120") + 9);
  EXPECT_EQ(header.find("time") + 4, line.find("0.4 min") + 7);
  EXPECT_EQ(header.find("best so far"), line.find("best "));
  EXPECT_EQ(header.find("idea"), line.find("matrix"));
}

TEST(ClosingLines, NameGainReasonProposersFilesAndTheCommand) {
  EXPECT_EQ(
      closing_lines(a_night(), "8 hours are over", {"/data/runs/t"}),
      "val_bpb 1.877330 -> 1.874210 (-0.003120, -0.17 %) after 4 experiments: 1 kept, 1 "
      "discarded, 2 crashed\n"
      "noise of one measurement: not known: nothing was measured twice yet\n"
      "not verified yet: the gain rests on the measurements that it was chosen by; build/agent "
      "verify --tag  measures it anew\n"
      "stopped: 8 hours are over\n"
      "proposed by: builtin 2 (1 kept, 50 %), openai 2 (0 kept, 0 %)\n"
      "time: 21 % training, 79 % waiting for an idea\n"
      "files: /data/runs/t (results.tsv, report.html, experiments/, champion/)\n"
      "to put the best train.cpp (#1) into the checkout, type there:\n"
      "  git restore --source=bbbbbbbbbbbb -- train.cpp\n");
}

TEST(ClosingLines, WarnOfAGainThatComesWithMoreSteps) {
  RunState state = a_night();
  state.experiments[0].measured->steps = 71;
  state.experiments[1].measured->steps = 76;
  EXPECT_EQ(closing_lines(state, "x", {"/d"}).find("steps"), std::string::npos);
  state.experiments[1].measured->steps = 168;
  EXPECT_NE(
      closing_lines(state, "x", {"/d"}).find("#1 made 168 steps in its time, the baseline 71."),
      std::string::npos);
  state.experiments[1].measured->steps = 40;
  EXPECT_EQ(closing_lines(state, "x", {"/d"}).find("steps"), std::string::npos) << "no help";
  state.experiments[1].measured->steps = 168;
  state.verified = event::Verified{};
  state.verified->tip = state.champion;
  state.verified->verified = true;
  EXPECT_EQ(closing_lines(state, "x", {"/d"}).find("steps"), std::string::npos) << "side by side";
}

TEST(ClosingLines, SayWhenNothingWasGained) {
  const std::string none = closing_lines(state_of({{Status::kKeep, "baseline", 2.0}}), "x", {"/d"});
  EXPECT_NE(none.find("2.000000: the baseline is still the best"), std::string::npos) << none;
  EXPECT_EQ(none.find("restore"), std::string::npos) << "the checkout has it already";
  const std::string empty = closing_lines(RunState{}, "x", {"/d"});
  EXPECT_NE(empty.find("no baseline was measured"), std::string::npos) << empty;
}

class Link : public ::testing::Test {
 protected:
  Link() {
    char name[] = "/tmp/report_test.XXXXXX";
    root_ = mkdtemp(name);
  }
  ~Link() override { fs::remove_all(root_); }
  size_t files() const { return std::distance(fs::directory_iterator(root_), {}); }
  fs::path root_;
};

TEST_F(Link, IsMadeAndMovedAndLeavesNothingBeside) {
  const fs::path link = root_ / "results.tsv";
  EXPECT_EQ(point_link(link, "/data/a"), "");
  EXPECT_EQ(fs::read_symlink(link), "/data/a");
  EXPECT_EQ(point_link(link, "/data/b"), "") << "a dangling link is replaced too";
  EXPECT_EQ(point_link(link, "/data/b"), "");
  EXPECT_EQ(fs::read_symlink(link), "/data/b");
  fs::create_directories(root_ / "runs.real");
  fs::create_directory_symlink(root_ / "runs.real", root_ / "runs");
  EXPECT_EQ(point_link(root_ / "runs", "/data/runs"), "") << "a link to a folder is not entered";
  EXPECT_EQ(fs::read_symlink(root_ / "runs"), "/data/runs");
  EXPECT_EQ(files(), 3u);
}

TEST_F(Link, NeverReplacesAFileOrAFolder) {
  std::ofstream(root_ / "results.tsv") << "mine";
  fs::create_directories(root_ / "runs" / "old");
  for (const char* name : {"results.tsv", "runs"}) {
    const std::string line = point_link(root_ / name, "/data/x");
    EXPECT_NE(line.find("left alone"), std::string::npos);
    EXPECT_NE(line.find("/data/x"), std::string::npos);
    EXPECT_EQ(line.find('\n'), std::string::npos);
  }
  EXPECT_EQ(read_file(root_ / "results.tsv"), "mine");
  EXPECT_TRUE(fs::is_directory(root_ / "runs" / "old"));
  EXPECT_EQ(files(), 2u);
}

TEST_F(Link, AFolderThatCantBeWrittenIsALineAndNoError) {
  EXPECT_NE(point_link(root_ / "missing" / "results.tsv", "/data/x").find("no link"),
            std::string::npos);
}

}  // namespace
}  // namespace autoresearch
