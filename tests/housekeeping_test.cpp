#include "agent/loop/housekeeping.h"

#include <unistd.h>

#include "agent/record/history.h"
#include "agent/record/journal.h"
#include "common/process.h"
#include "tests/support.h"

namespace autoresearch {
namespace {

const std::string kKit(64, 'a'), kOtherKit(64, 'b');

// A data folder and a checkout, in which runs are made as the agent makes them.
class HousekeepingTest : public FolderTest {
 protected:
  HousekeepingTest() {
    fs::create_directories(data_ / "runs");
    file("checkout/train.cpp", "int main() {}\n");
    git("init -q && git add . && git -c user.name=a -c user.email=b commit -q -m start");
  }

  std::string git(const std::string& command) const {
    Exit exit = run(
        {.argv = {"sh", "-c", "git " + command}, .env = scrubbed_environment(), .cwd = checkout_});
    EXPECT_EQ(exit.code, 0) << exit.output;
    return exit.output;
  }

  fs::path run_dir(const std::string& tag) const { return data_ / "runs" / tag; }

  // A journal with a baseline, a discarded and a crashed experiment; `why`: how it stopped.
  // `first`: the baseline's commit.
  void make_run(const std::string& tag, const std::string& kit, const std::string& why,
                const std::string& first = "0") const {
    fs::create_directories(run_dir(tag));
    Journal journal(run_dir(tag) / "journal.jsonl");
    event::Start start;
    start.tag = tag;
    start.task_name = "demo";
    start.kit = kit;
    start.machine = "here";
    journal.append(start);
    const Status statuses[] = {Status::kKeep, Status::kDiscard, Status::kCrash};
    for (int64_t n = 0; n < 3; ++n) {
      event::Candidate candidate;
      candidate.n = n;
      candidate.commit = n == 0 ? first : std::to_string(n);
      Measured measured;
      measured.bpb = 2.5 + static_cast<double>(n);
      journal.append(candidate);
      journal.append(event::RunStarted{n, 1, 1, 1});
      journal.append(event::Measurement{n, 1, measured});
      journal.append(event::Verdict{n, statuses[n], "", "", false});
    }
    if (!why.empty()) journal.append(event::Stop{why});
  }

  // The commits of a run in the checkout's repository, its branch at the last of them.
  // Returns the first.
  std::string make_commits(const std::string& tag) const {
    History history(checkout_, run_dir(tag) / "git", tag, "train.cpp");
    const std::string first = history.commit_start("int main() {}\n", "baseline");
    const std::string second = history.commit(first, "int main() { return 0; }\n", "idea");
    history.set_ref("0000", first);
    history.set_ref("0001", second);
    history.move_branch(second, "");
    return first;
  }

  std::string refs() const { return git("for-each-ref --format='%(refname)' | sort"); }
  std::vector<std::string> pruned(std::time_t later = 0) const {
    std::vector<std::string> names;
    for (const Leftover& each : leftovers(data_, all_runs(data_), std::time(nullptr) + later))
      names.push_back(each.path.lexically_relative(data_));
    return names;
  }

  const fs::path data_ = dir_ / "data", checkout_ = dir_ / "checkout";
};

TEST_F(HousekeepingTest, ASummaryIsWhatTheJournalAndTheLockSay) {
  make_run("monday", kKit, "--max-hours 9 reached");
  file("data/runs/monday/big", std::string(1'000'000, 'x'));
  const RunSummary run = summary_of(run_dir("monday"));
  EXPECT_EQ(run.tag, "monday");
  EXPECT_EQ(run.task, "demo");
  EXPECT_EQ(run.kit, kKit);
  EXPECT_EQ(run.best, 2.5);
  EXPECT_EQ(run.experiments, 2);
  EXPECT_EQ(run.discarded, (std::vector<int64_t>{1, 2}));
  EXPECT_GE(run.bytes, 1'000'000);
  EXPECT_LE(std::abs(std::difftime(run.last_activity, std::time(nullptr))), 3600);
}

TEST_F(HousekeepingTest, AStateIsOneOfSix) {
  make_run("done", kKit, "--max-experiments 2 reached");
  make_run("interrupted", kKit, "interrupted; the same command goes on");
  make_run("killed", kKit, "");
  EXPECT_EQ(state_of(summary_of(run_dir("done"))), "finished");
  EXPECT_EQ(state_of(summary_of(run_dir("interrupted"))), "stopped");
  EXPECT_EQ(state_of(summary_of(run_dir("killed"))), "stopped");
  file("data/runs/killed/paused", "");
  EXPECT_EQ(state_of(summary_of(run_dir("killed"))), "stopped, paused");
  fs::create_directories(run_dir("empty"));
  EXPECT_EQ(state_of(summary_of(run_dir("empty"))), "not started");
  file("data/runs/bad/journal.jsonl", "{}\n");
  EXPECT_EQ(state_of(summary_of(run_dir("bad"))), "damaged");
  const Journal alive(run_dir("killed") / "journal.jsonl");
  EXPECT_EQ(state_of(summary_of(run_dir("killed"))), "paused");
  const Journal begins(run_dir("empty") / "journal.jsonl");
  EXPECT_EQ(state_of(summary_of(run_dir("empty"))), "running");
}

TEST_F(HousekeepingTest, RunsAreListedLatestFirst) {
  make_run("older", kKit, "");
  make_run("a-much-longer-tag", kKit, "");
  fs::last_write_time(run_dir("older") / "journal.jsonl",
                      fs::file_time_type::clock::now() - std::chrono::hours(48));
  file("data/runs/.deleted-gone/journal.jsonl", "");
  file("data/runs/a-plain-file", "");
  const std::string table = runs_table(all_runs(data_));
  EXPECT_EQ(std::count(table.begin(), table.end(), '\n'), 3) << table;
  EXPECT_LT(table.find("a-much-longer-tag  demo  stopped"), table.find("\nolder "));
  EXPECT_NE(table.find("2.500000            2"), std::string::npos) << table;
}

TEST_F(HousekeepingTest, TheListNamesTheProcessOfARunThatIsAlive) {
  make_run("alive", kKit, "");
  const Journal journal(run_dir("alive") / "journal.jsonl");
  EXPECT_NE(runs_table(all_runs(data_)).find("running (" + std::to_string(getpid()) + ")"),
            std::string::npos);
}

TEST_F(HousekeepingTest, ARunIsDeletedWithItsRefsAndItsBranchAndNothingElse) {
  make_run("gone", kKit, "", make_commits("gone"));
  make_run("gone2", kKit, "", make_commits("gone2"));
  fs::create_symlink(run_dir("gone") / "results.tsv", checkout_ / "results.tsv");
  const std::string head = git("rev-parse HEAD") + git("status --porcelain -uno");
  const Remains remains = remains_of(data_, "gone", checkout_);
  EXPECT_NE(describe(remains).find("refs/autoresearch/gone/*  2 refs"), std::string::npos);
  EXPECT_NE(describe(remains).find("branch autoresearch/gone\n"), std::string::npos);
  remove(remains);
  EXPECT_EQ(refs(),
            "refs/autoresearch/gone2/0000\nrefs/autoresearch/gone2/0001\n"
            "refs/heads/autoresearch/gone2\n" +
                git("symbolic-ref HEAD"));
  EXPECT_EQ(all_runs(data_).size(), 1u);
  EXPECT_EQ(std::distance(fs::directory_iterator(data_ / "runs"), {}), 1);
  EXPECT_FALSE(fs::is_symlink(checkout_ / "results.tsv"));
  EXPECT_EQ(git("rev-parse HEAD") + git("status --porcelain -uno"), head);
}

TEST_F(HousekeepingTest, ARunThatIsAliveIsNotDeleted) {
  make_run("alive", kKit, "");
  const Journal journal(run_dir("alive") / "journal.jsonl");
  const std::string problem = error_of([&] { remains_of(data_, "alive", checkout_); });
  EXPECT_NE(problem.find("stop it first: kill -INT " + std::to_string(getpid())), std::string::npos)
      << problem;
}

TEST_F(HousekeepingTest, ARunThatStartsAfterTheQuestionIsNotDeleted) {
  make_run("alive", kKit, "");
  const Remains remains = remains_of(data_, "alive", checkout_);
  const Journal journal(run_dir("alive") / "journal.jsonl");
  EXPECT_THROW(remove(remains), Error);
  EXPECT_TRUE(fs::exists(run_dir("alive") / "journal.jsonl"));
}

TEST_F(HousekeepingTest, RefsOfARunWhoseFolderIsGoneCanBeDeleted) {
  make_commits("bad");
  fs::remove_all(run_dir("bad"));
  remove(remains_of(data_, "bad", checkout_));
  EXPECT_EQ(refs(), git("symbolic-ref HEAD"));
  EXPECT_NE(error_of([&] { remains_of(data_, "bad", checkout_); }).find("see: build/agent runs"),
            std::string::npos);
}

TEST_F(HousekeepingTest, ABranchThatIsCheckedOutStopsADeletionBeforeItBegins) {
  make_run("used", kKit, "", make_commits("used"));
  git("checkout -q autoresearch/used");
  const std::string before = refs();
  const std::string problem = error_of([&] { remove(remains_of(data_, "used", checkout_)); });
  EXPECT_NE(problem.find("so this run stays"), std::string::npos) << problem;
  EXPECT_EQ(refs(), before);
  EXPECT_TRUE(fs::exists(run_dir("used") / "journal.jsonl"));
}

TEST_F(HousekeepingTest, CommitsOfAnotherRunOfThatNameStay) {
  make_run("mine", kKit, "", "of-another-data-folder");
  make_commits("mine");
  const std::string before = refs();
  const Remains remains = remains_of(data_, "mine", checkout_);
  EXPECT_HAS(describe(remains), "are of another run of that name, and stay");
  remove(remains);
  EXPECT_EQ(refs(), before);
  EXPECT_FALSE(fs::exists(run_dir("mine")));
}

TEST_F(HousekeepingTest, ABranchThatTheUserMovedStays) {
  make_run("mine", kKit, "", make_commits("mine"));
  git("update-ref refs/heads/autoresearch/mine HEAD");
  const Remains remains = remains_of(data_, "mine", checkout_);
  EXPECT_NE(describe(remains).find("branch autoresearch/mine stays"), std::string::npos);
  remove(remains);
  EXPECT_EQ(refs(), "refs/heads/autoresearch/mine\n" + git("symbolic-ref HEAD"));
}

TEST_F(HousekeepingTest, WithoutARepositoryTheFolderGoesAndTheUserIsTold) {
  make_run("far", kKit, "");
  const Remains remains = remains_of(data_, "far", data_);
  EXPECT_NE(describe(remains).find("type there: build/agent delete --tag "), std::string::npos);
  remove(remains);
  EXPECT_FALSE(fs::exists(run_dir("far")));
}

TEST_F(HousekeepingTest, ATagCannotLeadOutOfTheRuns) {
  for (const char* tag : {"../x", "", ".", "a/b"})
    EXPECT_THROW(remains_of(data_, tag, checkout_), Error) << tag;
}

TEST_F(HousekeepingTest, KitsThatNoRunNamesCanGo) {
  make_run("monday", kKit, "");
  file("data/kits/" + kKit + "/kit.json", "");
  file("data/kits/" + kOtherKit + "/kit.json", "");
  file("data/kits/a file of the user", "");
  EXPECT_EQ(pruned(), (std::vector<std::string>{"kits/" + kOtherKit}));
  remove(leftovers(data_, all_runs(data_), 0));
  EXPECT_TRUE(fs::exists(data_ / "kits" / kKit / "kit.json"));
  EXPECT_FALSE(fs::exists(data_ / "kits" / kOtherKit));
}

TEST_F(HousekeepingTest, NoKitGoesWhileARunMayUseAnyOfThem) {
  file("data/kits/" + kKit + "/kit.json", "");
  fs::create_directories(run_dir("starting"));
  {
    const Journal begins(run_dir("starting") / "journal.jsonl");
    EXPECT_TRUE(pruned().empty());
  }
  EXPECT_EQ(pruned().size(), 1u) << "it died before it began";
  EXPECT_EQ(why_kits_stay(all_runs(data_)), "");
  file("data/runs/damaged/journal.jsonl", "{}\n");
  EXPECT_TRUE(pruned().empty());
  EXPECT_NE(why_kits_stay(all_runs(data_)).find("build/agent delete --tag damaged"),
            std::string::npos);
  EXPECT_NE(runs_table(all_runs(data_)).find("run damaged is damaged: "), std::string::npos);
}

TEST_F(HousekeepingTest, PartialFoldersGoWhenNobodyCanBeAtWorkInThem) {
  file("data/kits/.partial-1-2/score", "");
  EXPECT_TRUE(pruned().empty());
  EXPECT_EQ(pruned(/*later=*/3600), (std::vector<std::string>{"kits/.partial-1-2"}));
  file("data/runs/.deleted-x/journal.jsonl", "");
  EXPECT_EQ(pruned(), (std::vector<std::string>{"runs/.deleted-x"}));
}

TEST_F(HousekeepingTest, ModelsOfDiscardedExperimentsGoAndThoseOfOthersStay) {
  make_run("m", kKit, "");
  for (const char* n : {"0000", "0001", "0002", "0003"})
    file(std::string("data/runs/m/experiments/") + n + "/model.safetensors", "x");
  file("data/runs/m/champion/0/model.safetensors", "x");
  file("data/runs/m/champion/.1/model.safetensors", "x");
  const std::vector<std::string> expected = {"runs/m/champion/.1",
                                             "runs/m/experiments/0001/model.safetensors",
                                             "runs/m/experiments/0002/model.safetensors"};
  EXPECT_EQ(pruned(), expected);
  const Journal alive(run_dir("m") / "journal.jsonl");
  EXPECT_TRUE(pruned().empty());
}

TEST_F(HousekeepingTest, WhatWouldGoIsShownWithItsSize) {
  file("data/runs/.deleted-x/big", std::string(2'000'000, 'x'));
  const std::string text = describe(leftovers(data_, {}, std::time(nullptr)));
  EXPECT_NE(text.find("2.0 MB  " + (data_ / "runs/.deleted-x").string() +
                      "  (the rest of a deleted run)\n"),
            std::string::npos)
      << text;
  EXPECT_NE(text.find("2.0 MB  in all\n"), std::string::npos);
}

TEST(HumanBytes, HaveOneDigitMoreThanNeeded) {
  EXPECT_EQ(human_bytes(0), "0 kB");
  EXPECT_EQ(human_bytes(999'000), "999 kB");
  EXPECT_EQ(human_bytes(513'962'300), "514.0 MB");
  EXPECT_EQ(human_bytes(5'000'000'000), "5.0 GB");
}

}  // namespace
}  // namespace autoresearch
