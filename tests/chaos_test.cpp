// Real processes that are killed at random moments, on a machine whose calls fail: nothing is lost,
// doubled or mislabelled, no process and no file is left. AUTORESEARCH_KILLS=N for more of it.
#include <gtest/gtest.h>
#include <signal.h>

#include <fstream>
#include <random>
#include <thread>

#include "agent/loop/proving.h"
#include "agent/record/history.h"
#include "agent/record/journal.h"
#include "agent/record/report.h"
#include "common/process.h"
#include "common/run_folder.h"
#include "tests/stub_kit.h"
#include "tests/support.h"

namespace autoresearch {
namespace {

double bpb_of(const std::string& source, uint64_t seed) {
  return stub_bpb(stub_value(source, "kRate"), stub_value(source, "kWidth")) + stub_noise(seed);
}

class Chaos : public FolderTest {
 protected:
  Chaos() {
    make_stub(dir_, AGENT_PROGRAM, fs::path(TEST_DATA) / "tiny", 0.2);
    file("bin/git", "#!/bin/sh\n[ $(($$ % 12)) = 0 ] && exit 128\nexec /usr/bin/git \"$@\"\n");
    fs::permissions(dir_ / "bin/git", fs::perms::owner_all);
    shell("git init -q . && git add . && git -c user.name=u -c user.email=u@x commit -qm start");
  }

  void shell(const std::string& script) {
    const Exit exit = run(
        {.argv = {"sh", "-c", script}, .env = scrubbed_environment(), .cwd = dir_ / "checkout"});
    ASSERT_EQ(exit.code, 0) << exit.output;
  }

  Command agent(const std::vector<std::string>& more, bool failing) {
    Command command;
    command.argv = {
        (dir_ / "build/agent").string(), "run", "--tag", "t", "--task", "tiny", "--device", "cpu"};
    command.argv.insert(command.argv.end(), more.begin(), more.end());
    command.env = scrubbed_environment();
    command.env.push_back("AUTORESEARCH_DATA=" + (dir_ / "data").string());
    if (failing) {
      command.env.push_back(std::string("LD_PRELOAD=") + FAILING_CALLS);
      command.env.push_back("FAIL_ONE_IN=150");
      command.env.push_back("FAIL_SEED=" + std::to_string(random_()));
      for (std::string& variable : command.env)  // a git that fails now and then
        if (variable.starts_with("PATH=")) variable.insert(5, dir_.string() + "/bin:");
    }
    command.cwd = dir_ / "checkout";
    command.limit = 120;
    return command;
  }

  // Processes that carry this test's folder in their command line.
  std::vector<pid_t> processes(const std::string& part) const {
    std::vector<pid_t> found;
    for (const auto& entry : fs::directory_iterator("/proc")) {
      const pid_t pid = std::atoi(entry.path().filename().c_str());
      if (pid <= 0 || pid == getpid()) continue;
      std::ifstream in(entry.path() / "cmdline");
      const std::string line(std::istreambuf_iterator<char>(in), {});
      if (line.find(dir_.string()) != std::string::npos && line.find(part) != std::string::npos)
        found.push_back(pid);
    }
    return found;
  }

  // One start of the agent, into which something is thrown at a random moment.
  void once(const std::vector<std::string>& more = {}) {
    std::thread chaos;
    const int what = std::uniform_int_distribution<>(0, 9)(random_);
    const double after = std::uniform_real_distribution<>(0.02, 2.5)(random_);
    Command command = agent(more, what == 9);
    command.before_exec = [&](pid_t pid, uint64_t) {
      chaos = std::thread([=, this] {
        std::this_thread::sleep_for(std::chrono::duration<double>(after));
        if (what == 6 || what == 7) {  // a child first, and then the agent
          for (const pid_t child : processes(what == 6 ? "/train" : "/score")) kill(child, SIGKILL);
          std::this_thread::sleep_for(std::chrono::milliseconds(300));
        }
        kill(pid, what == 8 ? SIGTERM : SIGKILL);
      });
    };
    const Exit exit = run(command);
    if (chaos.joinable()) chaos.join();
    EXPECT_FALSE(exit.timed_out) << "kind " << what << ":\n" << exit.output;
  }

  void expect_a_true_record();
  void expect_a_true_proof();

  std::mt19937 random_{20261128};
};

void Chaos::expect_a_true_record() {
  const RunFolder folder{dir_ / "data/runs/t"};
  const RunState state = replay(read_journal(folder.journal()));
  History history(dir_ / "checkout", folder.git(), "t", "train.cpp");
  EXPECT_TRUE(state.open.empty());
  std::set<std::string> commits;
  for (const Experiment& e : state.experiments) {
    EXPECT_TRUE(commits.insert(e.candidate.commit).second) << e.n << " is doubled";
    EXPECT_EQ(history.ref(folder.experiment(e.n).path.filename()), e.candidate.commit) << e.n;
    const std::string source = history.source_at(e.candidate.commit);
    if (e.measured && e.measured->bpb) {
      EXPECT_NEAR(*e.measured->bpb, bpb_of(source, e.measured->seed), 1e-9)
          << e.n << " is mislabelled";
    }
    EXPECT_EQ(e.status == Status::kKeep, state.tested.contains(e.candidate.commit)) << e.n;
    for (const fs::path& left : {folder.experiment(e.n).attempt(), folder.experiment(e.n).build(),
                                 folder.experiment(e.n).program(), folder.experiment(e.n).sealed()})
      EXPECT_FALSE(fs::exists(left)) << left;
  }
  EXPECT_EQ(read_file(folder.results()), results_tsv(state));
  EXPECT_EQ(history.branch(), state.champion);
  EXPECT_EQ(history.ref("champion"), state.champion);
  EXPECT_EQ(read_file(folder.champion(state.champion).source()), history.source_at(state.champion));
  for (const auto& entry : fs::directory_iterator(folder.champions()))
    EXPECT_NE(entry.path().filename().string()[0], '.') << "half a copy is left";
  for (const auto& entry : fs::recursive_directory_iterator(folder.path))
    EXPECT_FALSE(is_half_written(entry.path())) << entry.path();
  EXPECT_FALSE(fs::exists(folder.canary().path));
  EXPECT_FALSE(fs::exists(folder.proofs()));
  EXPECT_EQ(processes("").size(), 0u);
}

// Every figure is of the code that its arm names, with the seed that is on record, and none is
// there twice. What the proof says follows from these figures.
void Chaos::expect_a_true_proof() {
  const RunFolder folder{dir_ / "data/runs/t"};
  History history(dir_ / "checkout", folder.git(), "t", "train.cpp");
  RunState told;
  std::set<uint64_t> seeds;
  size_t figures = 0;
  for (const Entry& entry : read_journal(folder.journal())) {
    const auto* verified = std::get_if<event::Verified>(&entry.event);
    if (verified) {
      EXPECT_EQ(outcome_of(told).mean, verified->mean);
    }
    apply(told, entry);
    const auto* e = std::get_if<event::ProofMeasured>(&entry.event);
    if (!e || !e->measured.bpb) continue;
    const std::string source =
        history.source_at(told.proof->plan.arms.at(static_cast<size_t>(e->arm)));
    EXPECT_NEAR(*e->measured.bpb, bpb_of(source, e->measured.seed), 1e-9);
    EXPECT_TRUE(seeds.insert(e->measured.seed).second);
    ++figures;
  }
  ASSERT_TRUE(told.verified);
  EXPECT_TRUE(told.verified->verified);
  EXPECT_EQ(told.verified->tip, told.champion);
  EXPECT_GE(figures, 8u);
}

TEST_F(Chaos, KillsAndFailingCallsLoseDoubleAndMislabelNothing) {
  const char* wanted = std::getenv("AUTORESEARCH_KILLS");
  const int kills = wanted ? std::atoi(wanted) : 40;
  for (int i = 0; i < kills; ++i) once();
  // As many as the builtin proposer needs to be sure of a gain.
  const auto after =
      std::max<int64_t>(6, replay(read_journal(dir_ / "data/runs/t/journal.jsonl")).next_n() + 1);
  const std::vector<std::string> to_the_end = {"--max-experiments", std::to_string(after),
                                               "--verify", "30"};
  for (int i = 0; i < kills / 4; ++i) once(to_the_end);
  const Exit exit = run(agent(to_the_end, false));
  EXPECT_EQ(exit.code, 0) << exit.output;
  EXPECT_NE(exit.output.find("\nverified: -"), std::string::npos) << exit.output;
  std::printf("seed 20261128, %d kills, %lld experiments\n", kills, static_cast<long long>(after));
  expect_a_true_record();
  expect_a_true_proof();

  const int64_t before = replay(read_journal(dir_ / "data/runs/t/journal.jsonl")).next_n();
  Command verify = agent({}, false);
  verify.argv = {(dir_ / "build/agent").string(), "verify", "--tag", "t", "--measurements", "12"};
  const Exit proven = run(verify);
  EXPECT_EQ(proven.code, 0) << proven.output;
  EXPECT_NE(proven.output.find("stopped: the proof has ended"), std::string::npos) << proven.output;
  EXPECT_EQ(replay(read_journal(dir_ / "data/runs/t/journal.jsonl")).next_n(), before);
  expect_a_true_record();
  expect_a_true_proof();
}

}  // namespace
}  // namespace autoresearch
