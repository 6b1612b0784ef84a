// Whole runs of the real agent with a stub in the trainer's and the scorer's place: the calls of a
// model, interruptions, disks and file systems that fail, mistakes.
#include <algorithm>
#include <atomic>

#include "agent/record/report.h"
#include "common/sandbox.h"
#include "tests/agent_runs.h"
#include "tests/loopback_server.h"
#include "tests/stub_kit.h"

namespace autoresearch {
namespace {

// A reply that replaces a line of the stub's train.cpp.
std::string edit(const std::string& idea, const std::string& from, const std::string& to) {
  return "IDEA: " + idea + "\nWHY: a test.\n<<<<<<< SEARCH\n" + from + "\n=======\n" + to +
         "\n>>>>>>> REPLACE\n";
}

// A reply that changes the rate. The score is best at 0.5.
std::string rate(const std::string& idea, const std::string& from, const std::string& to) {
  const std::string line = "constexpr double kRate = ";
  return edit(idea, line + from + ";", line + to + ";");
}

// The line with which the stub's training begins, and one that ends it.
const std::string kBegin = "printf b >&5", kAborts = "kill -ABRT $$\n";

class LoopRun : public AgentRuns {
 protected:
  explicit LoopRun(double budget = 0.5) : AgentRuns("build/agent") {
    make_stub(dir_, AGENT_PROGRAM, fs::path(TEST_DATA) / "tiny", budget);
    commit_checkout();
  }

  // Starts the agent and kills it, and nothing else, as a power cut would.
  void kill_while_training(Command command, int64_t n) const {
    command.before_exec = [&, n](pid_t pid, uint64_t) {
      std::thread([pid, n, this] {
        wait_until_it_trains(n);
        usleep(100'000);
        kill(pid, SIGKILL);
      }).detach();
    };
    EXPECT_EQ(run(command).code, 128 + SIGKILL);
  }
};

// With time for what happens while one trains.
class SlowLoopRun : public LoopRun {
 protected:
  SlowLoopRun() : LoopRun(3) {}
};

// One row, one experiment, whatever it took: a crash is told to the model with the run's own words.
// A third repair is not asked for, and the crash is then the experiment's result.
TEST_F(LoopRun, RunTimeCrashesAreRepairedWithinTheExperimentAtMostTwice) {
  if (auto problem = sandbox_problem()) GTEST_SKIP() << *problem;
  LoopbackServer server(
      {chat_answer("ready"), chat_answer(edit("aborts", kBegin, kAborts + kBegin)),
       chat_answer(edit("throws", kBegin, "echo 'train: error: no such view'; exit 1\n" + kBegin)),
       chat_answer(rate("mended", "0.01", "0.5")),
       chat_answer(edit("one", kBegin, kAborts + kBegin)),
       chat_answer(edit("two", kBegin, "true\n" + kAborts + kBegin)),
       chat_answer(edit("three", kBegin, "true 3\n" + kAborts + kBegin))});
  const Exit exit = run(agent({"--provider", "openai", "--model", "scripted", "--base-url",
                               server.url(), "--max-experiments", "2"}));
  ASSERT_EQ(exit.code, 0) << exit.output;
  EXPECT_EQ(statuses(), (std::vector<std::string>{"keep", "keep", "crash"})) << exit.output;
  const auto requests = server.requests();
  ASSERT_EQ(requests.size(), 7u);
  EXPECT_NE(requests[2].body.find("SIGABRT"), std::string::npos) << requests[2].body;
  EXPECT_NE(requests[3].body.find("train: error: "), std::string::npos) << requests[3].body;

  const RunState after = this->state();
  ASSERT_EQ(after.experiments.size(), 3u);
  EXPECT_EQ(after.at(1).attempts, 3);
  EXPECT_EQ(after.at(1).failed.size(), 2u);
  EXPECT_EQ(after.at(1).candidate.idea, "mended");
  EXPECT_EQ(after.at(2).candidate.idea, "three");
  EXPECT_NE(git({"show", "autoresearch/t:train.cpp"}).find("kRate = 0.5;"), std::string::npos);
  EXPECT_NE(read_file(run_.experiment(2).source()).find("true 3"), std::string::npos);
}

TEST_F(LoopRun, AContextTooSmallForThePromptIsAnErrorThatNamesTheFlag) {
  const Exit none = run(agent({"--provider", "command", "--command", "echo ready", "--sandbox",
                               "off", "--context-tokens", "2000"}));
  EXPECT_EQ(none.code, 1);
  EXPECT_NE(none.output.find("--context-tokens"), std::string::npos) << none.output;
}

// What the candidates' processes show of the key, and whether a crash of the agent would leave it
// in a core file, while experiment `n` trains.
struct Glance {
  int children = 0;
  std::string leaks, limits;
};

Glance look_at_processes(pid_t agent, const std::string& key) {
  Glance glance;
  for (const auto& entry : fs::directory_iterator("/proc")) {
    const pid_t pid = std::atoi(entry.path().filename().c_str());
    if (pid <= 0 || pid == getpid()) continue;
    auto text_of = [&](const char* name) {
      std::ifstream file(entry.path() / name);
      std::ostringstream text;
      text << file.rdbuf();
      return text.str();
    };
    if (pid == agent) glance.limits = text_of("limits");
    if (text_of("cmdline").find(key) != std::string::npos) glance.leaks += entry.path().string();
    const bool ours = text_of("cmdline").find("autoresearch_test.") != std::string::npos;
    if (pid == agent || !ours) continue;  // the agent was given the key in its environment
    ++glance.children;
    if (text_of("environ").find(key) != std::string::npos) glance.leaks += entry.path().string();
  }
  return glance;
}

TEST_F(SlowLoopRun, AKeyInTheEnvironmentIsFoundNowhereAfterAFullRun) {
  if (auto problem = sandbox_problem()) GTEST_SKIP() << *problem;
  const std::string key = "sk-secret-for-tests";
  // An endpoint that repeats the key in errors and in its reply.
  const std::string echoing = rate("rate for " + key, "0.01", "0.5");
  LoopbackServer server({chat_answer("ready"), error_answer(500, "you said Bearer " + key),
                         chat_answer(echoing), error_answer(403, "refused: " + key)});
  Command command =
      agent({"--model", "scripted", "--base-url", server.url(), "--max-experiments", "2"});
  Glance glance;
  std::thread looking;
  command.before_exec = [&](pid_t pid, uint64_t) {
    looking = std::thread([&, pid] {
      wait_until_it_trains(1);
      usleep(200'000);
      glance = look_at_processes(pid, key);
    });
  };
  const Exit exit = run(command);
  looking.join();
  ASSERT_EQ(exit.code, 0) << exit.output;
  EXPECT_EQ(server.requests().size(), 4u) << exit.output;
  EXPECT_EQ(server.requests().at(2).headers.at("authorization"), "Bearer " + key);
  EXPECT_EQ(exit.output.find(key), std::string::npos) << exit.output;
  EXPECT_NE(exit.output.find("refused: ***"), std::string::npos) << exit.output;
  EXPECT_EQ(glance.leaks, "");
  EXPECT_GE(glance.children, 1);  // something of the candidate was there to be looked at
  EXPECT_NE(glance.limits.find("Max core file size        0                    0"),
            std::string::npos)
      << glance.limits;
  for (const auto& entry : fs::recursive_directory_iterator(dir_))
    if (entry.is_regular_file() && !entry.is_symlink()) {
      EXPECT_EQ(read_file(entry.path()).find(key), std::string::npos) << entry;
    }
  // Git's objects are compressed, so they are read through git.
  EXPECT_EQ(git({"cat-file", "--batch-all-objects", "--batch"}).find(key), std::string::npos);
  EXPECT_NE(git({"log", "--all", "--format=%B"}).find("rate for"), std::string::npos)
      << exit.output;
}

// Down from minute one, which the user allows, up while experiment 1 trains, gone again while
// experiment 3 does.
TEST_F(SlowLoopRun, TheBuiltinProposerKeepsTheDeviceBusyWhileAnEndpointIsDown) {
  if (auto problem = sandbox_problem()) GTEST_SKIP() << *problem;
  const uint16_t port = unused_port();
  Command command = agent({"--model", "scripted", "--base-url",
                           "http://127.0.0.1:" + std::to_string(port) + "/v1", "--retry-minutes",
                           "0.01", "--max-experiments", "4", "--fallback", "builtin"});
  std::thread endpoint;
  command.before_exec = [&](pid_t, uint64_t) {
    endpoint = std::thread([&] {
      wait_until_it_trains(1);
      const std::string knobs[] = {"kClip = 1.0;", "kDecay = 0.1;", "kBeta = 0.9;"};
      const LoopbackServer server(
          [&](const HttpRequest&, size_t i) {
            const std::string line = "constexpr double " + knobs[i % 3];
            return chat_answer(edit("a half", line, replaced(line, "= ", "= 0.5 * ")));
          },
          port);
      wait_until_it_trains(3);
    });
  };
  const Exit exit = run(command);
  endpoint.join();
  ASSERT_EQ(exit.code, 0) << exit.output;
  std::vector<std::string> proposers;
  for (const Experiment& e : state().experiments) proposers.push_back(e.candidate.proposer);
  EXPECT_EQ(proposers, (std::vector<std::string>{"baseline", "builtin", "openai:scripted",
                                                 "openai:scripted", "builtin"}))
      << exit.output;
  auto times_said = [&](const std::string& words) {
    size_t times = 0;
    for (size_t at = 0; (at = exit.output.find(words, at)) != std::string::npos; ++at) ++times;
    return times;
  };
  EXPECT_EQ(times_said("can't reach"), 2u) << exit.output;
  EXPECT_EQ(times_said("going on with the builtin proposer"), 2u);
  EXPECT_EQ(times_said("openai:scripted answers again"), 1u);
}

TEST_F(LoopRun, BeyondItsBudgetNoModelIsAskedAndARunCanBeReplayed) {
  if (auto problem = sandbox_problem()) GTEST_SKIP() << *problem;
  const LoopbackServer server([&](const HttpRequest&, size_t i) {
    return chat_answer(i == 0 ? "ready" : rate("higher rate", "0.01", "0.5"));
  });
  // 34 tokens out cost 0.034, the 12,000 that a call may use 12: two calls fit, a third does not.
  const Exit exit =
      run(agent({"--model", "scripted", "--base-url", server.url(), "--price", "scripted=0,0,1000",
                 "--max-usd", "12.05", "--max-experiments", "2"}));
  ASSERT_EQ(exit.code, 0) << exit.output;
  EXPECT_EQ(server.requests().size(), 2u);
  const RunState after = this->state();
  ASSERT_EQ(after.experiments.size(), 3u);
  EXPECT_EQ(after.at(1).candidate.proposer, "openai:scripted");
  EXPECT_EQ(after.at(2).candidate.proposer, "builtin");
  EXPECT_NEAR(after.spending.usd, 0.068, 1e-9);
  EXPECT_NE(exit.output.find("--max-usd"), std::string::npos) << exit.output;
  EXPECT_NE(exit.output.find("$0.0340 an experiment, "), std::string::npos) << exit.output;

  // The model's one reply is given again; the builtin proposer's was none.
  Command again = agent({"--replay", "t", "--max-experiments", "2"});
  again.argv[3] = "u";
  const Exit replayed = run(again);
  ASSERT_EQ(replayed.code, 0) << replayed.output;
  const RunState second = replay(read_journal(dir_ / "data/runs/u/journal.jsonl"));
  EXPECT_EQ(second.at(1).candidate.fingerprint, after.at(1).candidate.fingerprint);
  EXPECT_EQ(second.at(1).candidate.proposer, "replay:t");
  EXPECT_EQ(second.at(2).candidate.proposer, "builtin");
  for (const char* words :
       {"all 1 recorded replies were replayed; going on with the builtin", "recorded: higher rate"})
    EXPECT_NE(replayed.output.find(words), std::string::npos) << replayed.output;

  // Started again, it does not begin with the first reply once more.
  again.argv.back() = "3";
  ASSERT_EQ(run(again).code, 0);
  const RunState third = replay(read_journal(dir_ / "data/runs/u/journal.jsonl"));
  ASSERT_EQ(third.experiments.size(), 4u);
  EXPECT_EQ(third.at(3).candidate.proposer, "builtin");
}

// A repair by another model uses up no recorded reply.
TEST_F(LoopRun, AReplayWithARepairModelGoesOnWithTheNextRecordedReply) {
  if (auto problem = sandbox_problem()) GTEST_SKIP() << *problem;
  const RunFolder recorded{dir_ / "recorded"};
  const auto record = [&](int64_t n, const std::string& reply) {
    fs::create_directories(recorded.experiment(n).path);
    write_file(recorded.experiment(n).reply(1), reply);
  };
  record(1, edit("of another file", "no such line", "none"));
  record(2, rate("recorded", "0.02", "0.5"));
  file("mended", rate("mended", "0.01", "0.02"));
  const auto start = [&](const char* experiments) {
    return run(
        agent({"--replay", recorded.path.string() + "/", "--repair-model",
               "command:cat " + (dir_ / "mended").string(), "--max-experiments", experiments}));
  };
  EXPECT_EQ(start("1").code, 0);
  const Exit exit = start("2");
  ASSERT_EQ(state().experiments.size(), 3u) << exit.output;
  EXPECT_EQ(state().at(1).candidate.idea, "mended");
  EXPECT_EQ(state().at(2).candidate.idea, "recorded") << exit.output;
}

TEST_F(LoopRun, TheEditThatANextLineNamesStandsInTheNextPrompt) {
  if (auto problem = sandbox_problem()) GTEST_SKIP() << *problem;
  const std::string next = "NEXT: #1 again, with a smaller clip\n";
  LoopbackServer server({chat_answer("ready"), chat_answer(rate("worse", "0.01", "0.002")),
                         chat_answer(rate("better", "0.01", "0.5") + next),
                         chat_answer(edit("clip", "constexpr double kClip = 1.0;",
                                          "constexpr double kClip = 0.5;"))});
  const Exit exit =
      run(agent({"--model", "scripted", "--base-url", server.url(), "--max-experiments", "3"}));
  ASSERT_EQ(exit.code, 0) << exit.output;
  const auto requests = server.requests();
  ASSERT_EQ(requests.size(), 4u) << exit.output;
  for (size_t i = 1; i < 4; ++i) {
    const bool shown =
        requests[i].body.find("+constexpr double kRate = 0.002;") != std::string::npos;
    EXPECT_EQ(shown, i == 3) << requests[i].body;
  }
}

TEST_F(LoopRun, AnotherRunBeginsWithTheChampionAndItsGainIsMeasuredAnew) {
  if (auto problem = sandbox_problem()) GTEST_SKIP() << *problem;
  file("reply", rate("higher rate", "0.01", "0.5"));
  ASSERT_EQ(run(agent({"--provider", "command", "--command", "cat " + (dir_ / "reply").string(),
                       "--max-experiments", "1"}))
                .code,
            0);
  const RunState first = state();
  ASSERT_GT(first.champion_n, 0);
  Command next = agent({"--provider", "builtin", "--max-experiments", "1", "--from", "t"});
  next.argv[3] = "u";
  ASSERT_EQ(run(next).code, 0);
  const RunState second = replay(read_journal(dir_ / "data/runs/u/journal.jsonl"));
  EXPECT_EQ(second.at(0).candidate.fingerprint, first.at(first.champion_n).candidate.fingerprint);
  EXPECT_EQ(second.start->from, "t #1 " + first.champion);
  next.argv = {program_.string(), "status", "--tag", "u"};
  EXPECT_NE(run(next).output.find("from      t #1 " + first.champion), std::string::npos);

  const std::string journal = read_file(run_.journal());
  Command again = agent({});
  again.argv = {program_.string(), "remeasure", "--tag", "t"};
  const Exit exit = run(again);
  EXPECT_EQ(exit.code, 0) << exit.output;
  EXPECT_NE(exit.output.find("the gain carries over: -"), std::string::npos) << exit.output;
  EXPECT_EQ(read_file(run_.journal()), journal);
  EXPECT_FALSE(fs::exists(run_.path / "remeasured"));

  again.argv.insert(again.argv.end(), {"--task", "no-such-task"});
  EXPECT_NE(run(again).output.find("build/prepare"), std::string::npos);
}

// An error that no part of the agent throws itself: where experiment 1's folder belongs lies a
// file.
TEST_F(SlowLoopRun, AnErrorOfTheFileSystemCostsAnExperimentAndNotTheNight) {
  const fs::path in_the_way = run_.experiment(1).path;
  Command command = agent({"--provider", "builtin", "--max-experiments", "1"});
  std::thread user;
  command.before_exec = [&](pid_t, uint64_t) {
    user = std::thread([&] {
      wait_until_it_trains(0);
      std::ofstream(in_the_way) << "";
      wait_for<event::Trouble>([](const auto&) { return true; });
      fs::remove(in_the_way);
    });
  };
  const Exit exit = run(command);
  user.join();
  ASSERT_EQ(exit.code, 0) << exit.output;
  EXPECT_NE(exit.output.find(in_the_way.string()), std::string::npos) << exit.output;
  EXPECT_EQ(statuses().size(), 2u);
}

// What fsync has refused may be lost, whatever a second one says.
TEST_F(LoopRun, AFailedFsyncEndsTheRunAndIsNotTriedAgain) {
  if (auto problem = sandbox_problem()) GTEST_SKIP() << *problem;
  if (!kMemoryIsMeasured) GTEST_SKIP() << "AddressSanitizer wants to be preloaded itself";
  const LoopbackServer server({chat_answer("ready"), chat_answer(rate("a", "0.01", "0.5"))});
  Command command =
      agent({"--model", "scripted", "--base-url", server.url(), "--max-experiments", "1"});
  command.env.push_back("LD_PRELOAD=" FAILING_CALLS);
  command.env.push_back("FAIL_AT=.reply.md");
  command.env.push_back("FAIL_CALL=fsync");
  const Exit exit = run(command);
  EXPECT_EQ(exit.code, 1) << exit.output;
  EXPECT_NE(exit.output.find("can't sync"), std::string::npos) << exit.output;
  EXPECT_EQ(server.requests().size(), 2u);
  EXPECT_EQ(count<event::Refused>() + count<event::Trouble>(), 0);
}

// Shares, FUSE mounts, cluster disks and FAT sticks, each at its worst: a run ends well on them.
TEST_F(LoopRun, AFileSystemThatLacksCallsIsGoodEnough) {
  if (!kMemoryIsMeasured) GTEST_SKIP() << "AddressSanitizer wants to be preloaded itself";
  const auto all_fail_with = [](int reason) {
    std::string calls = "stale=1";
    for (const char* call : {"fsync", "flock", "fchmod", "renameat2", "link", "symlink"})
      calls += fmt::format(",{}={}", call, reason);
    return calls;
  };
  for (const int reason : {EPERM, ENOSYS, ENOTSUP}) {
    Command command = agent({"--provider", "builtin", "--max-experiments", "2"});
    command.argv[3] = "t" + std::to_string(reason);
    command.env.push_back("LD_PRELOAD=" REFUSING_CALLS);
    command.env.push_back("REFUSED_CALLS=" + all_fail_with(reason));
    command.env.push_back("REFUSED_UNDER=" + (dir_ / "data").string());
    const Exit exit = run(command);
    EXPECT_EQ(exit.code, 0) << exit.output;
    EXPECT_NE(exit.output.find("has no locks"), std::string::npos) << exit.output;
    const fs::path journal = dir_ / "data/runs" / command.argv[3] / "journal.jsonl";
    const RunState after = replay(read_journal(journal));
    ASSERT_EQ(after.experiments.size(), 3u) << exit.output;
    for (const Experiment& e : after.experiments) EXPECT_TRUE(e.measured) << exit.output;
  }
}

// Where the champion's copy is made, a full disk meets each call in turn: one clear line, a pause,
// and then the keep. A sync that fails ends the run, and the same command goes on.
TEST_F(LoopRun, AFullDiskAtAnyWriteOfAKeepCostsAPauseAndNotTheKeep) {
  if (auto problem = sandbox_problem()) GTEST_SKIP() << *problem;
  if (!kMemoryIsMeasured) GTEST_SKIP() << "AddressSanitizer wants to be preloaded itself";
  const auto start = [&](int64_t experiments, int64_t failing) {
    Command command =
        agent({"--provider", "command", "--command", "cat " + (dir_ / "reply").string(),
               "--max-experiments", std::to_string(experiments)});
    if (failing > 0) {
      command.env.push_back("LD_PRELOAD=" FAILING_CALLS);
      command.env.push_back("FAIL_AT=/champion/");
      command.env.push_back("FAIL_NTH=" + std::to_string(failing));
    }
    return run(command);
  };
  std::string before = "0.01";
  bool met = true;
  for (int64_t n = 1; met; ++n) {
    const std::string now = fmt::format("{:.2f}", 0.01 + 0.02 * static_cast<double>(n));
    file("reply", rate("rate " + now, before, now));
    // The baseline is kept with a whole disk.
    const Exit first = start(n, n - 1);
    const bool ended = first.code != 0;
    met = n == 1 || ended || first.output.find("No space left") != std::string::npos;
    if (ended) {
      EXPECT_NE(first.output.find("can't sync"), std::string::npos) << first.output;
      EXPECT_EQ(start(n, 0).code, 0);
    } else if (met && n > 1) {
      EXPECT_HAS(first.output, "; going on in 5 s");
      EXPECT_EQ(first.output.find("; going on in 5 s"), first.output.rfind("; going on in 5 s"));
    }
    EXPECT_EQ(state().champion_n, n) << first.output;
    EXPECT_EQ(read_file(run_.champion(state().champion).source()),
              git({"show", state().champion + ":train.cpp"}));
    before = now;
  }
  EXPECT_GE(state().champion_n, 8) << "it was met at more than a few calls";
}

// Also the one that only asks whether a model is there: it may cost something.
TEST_F(LoopRun, TheFirstCallIsOnRecordBeforeItIsSent) {
  if (auto problem = sandbox_problem()) GTEST_SKIP() << *problem;
  HttpAnswer never;
  never.end = HttpAnswer::End::kHang;
  const LoopbackServer server({never});
  Command command = agent({"--provider", "ollama", "--model", "scripted", "--base-url",
                           server.url(), "--context-tokens", "40000"});
  std::thread power_cut;
  command.before_exec = [&](pid_t pid, uint64_t) {
    power_cut = std::thread([&server, pid] {
      for (int i = 0; i < 600 && server.requests().empty(); ++i) usleep(100'000);
      kill(pid, SIGKILL);
    });
  };
  EXPECT_EQ(run(command).code, 128 + SIGKILL);
  power_cut.join();
  ASSERT_TRUE(fs::exists(run_.journal()));
  EXPECT_TRUE(std::holds_alternative<CallOpened>(read_journal(run_.journal()).back().event));
  const auto body = nlohmann::json::parse(server.requests().at(0).body);
  EXPECT_EQ(body.at("options").at("num_ctx"), 40000) << "--context-tokens is ollama's too";
}

TEST_F(SlowLoopRun, AKilledBaselineGoesOnWithNothingLost) {
  const std::vector<std::string> options = {"--provider", "builtin", "--max-experiments", "1"};
  kill_while_training(agent(options), 0);
  const Exit exit = run(agent(options));
  EXPECT_NE(exit.output.find("going on with experiment 0"), std::string::npos) << exit.output;
  EXPECT_EQ(statuses().size(), 2u) << exit.output;
  EXPECT_EQ(statuses()[0], "keep") << exit.output;
  EXPECT_EQ(state().at(0).attempts, 2);
}

// A start-up longer than the clock's slack: whoever forgets the baseline's own overhead calls the
// resumed experiment void.
TEST_F(SlowLoopRun, AKilledExperimentGoesOnAndIsJudgedLikeAnyOther) {
  if (auto problem = sandbox_problem()) GTEST_SKIP() << *problem;
  file("checkout/train.cpp",
       replaced(read_file(checkout_ / "train.cpp"), kBegin, "sleep 3\n" + kBegin));
  file("reply", rate("higher rate", "0.01", "0.5"));
  const std::vector<std::string> options = {"--provider",        "command",
                                            "--command",         "cat " + (dir_ / "reply").string(),
                                            "--max-experiments", "1"};
  kill_while_training(agent(options), 1);
  const Exit exit = run(agent(options));
  EXPECT_NE(exit.output.find("going on with experiment 1"), std::string::npos) << exit.output;
  EXPECT_EQ(statuses(), (std::vector<std::string>{"keep", "keep"})) << exit.output;
}

TEST_F(SlowLoopRun, InterruptingLetsTheMeasurementEndAndTheSameCommandGoesOn) {
  Command command = agent({"--provider", "builtin", "--max-experiments", "1"});
  command.before_exec = [&](pid_t pid, uint64_t) {
    std::thread([pid, this] {
      wait_until_it_trains();
      kill(pid, SIGHUP);  // a dropped terminal does not stop it
      usleep(500'000);
      kill(pid, SIGINT);
    }).detach();
  };
  const Exit stopped = run(command);
  EXPECT_EQ(stopped.code, 130) << stopped.output;
  EXPECT_NE(stopped.output.find("the same command goes on"), std::string::npos) << stopped.output;
  EXPECT_EQ(statuses(), std::vector<std::string>{"keep"}) << stopped.output;
  EXPECT_EQ(count<event::RunStarted>(), 1);

  const Exit exit = run(agent({"--provider", "builtin", "--max-experiments", "1"}));
  EXPECT_EQ(exit.code, 0) << exit.output;
  EXPECT_EQ(statuses().size(), 2u) << exit.output;
  EXPECT_EQ(state().at(0).attempts, 1);
}

TEST_F(SlowLoopRun, InterruptingTwiceOrTerminatingStopsAtOnceWithoutAMark) {
  const std::vector<std::string> options = {"--provider", "builtin", "--max-experiments", "1"};
  int runs = 0;
  for (const auto& signals : std::vector<std::vector<int>>{{SIGINT, SIGINT}, {SIGTERM}}) {
    ++runs;
    Command command = agent(options);
    command.before_exec = [&](pid_t pid, uint64_t) {
      std::thread([pid, runs, signals, this] {
        wait_for<event::RunStarted>([runs](const auto& event) { return event.attempt == runs; });
        usleep(500'000);
        for (const int signal : signals) {
          kill(pid, signal);
          usleep(500'000);
        }
      }).detach();
    };
    const Exit stopped = run(command);
    EXPECT_EQ(stopped.code, 130) << stopped.output;
    EXPECT_NE(stopped.output.find("the same command goes on"), std::string::npos) << stopped.output;
    EXPECT_TRUE(statuses().empty()) << stopped.output;
  }
  EXPECT_EQ(state().experiments.size(), 1u);
  EXPECT_EQ(state().at(0).interrupted, 0);

  const Exit exit = run(agent(options));
  ASSERT_FALSE(statuses().empty()) << exit.output;
  EXPECT_EQ(statuses()[0], "keep") << exit.output;
}

// By default the next idea is asked for while one trains. A crash then waits with its repair until
// that call has ended.
TEST_F(LoopRun, ACrashWhileTheNextIdeaIsAskedForIsRepairedAfterwards) {
  if (auto problem = sandbox_problem()) GTEST_SKIP() << *problem;
  std::atomic<int> ideas = 0;
  const LoopbackServer server([&](const HttpRequest& request, size_t) {
    const auto has = [&](const char* text) { return request.body.find(text) != std::string::npos; };
    if (!has("kRate")) return chat_answer("ready");
    if (has("SIGABRT")) return chat_answer(rate("mended", "0.01", "0.5"));
    if (++ideas == 1) return chat_answer(edit("aborts", kBegin, kAborts + kBegin));
    usleep(1'500'000);
    return chat_answer(edit("second", kBegin, "true\n" + kBegin));
  });
  Command command =
      agent({"--model", "scripted", "--base-url", server.url(), "--max-experiments", "2"});
  *std::find(command.argv.begin(), command.argv.end(), "off") = "auto";
  command.limit = 100;
  const Exit exit = run(command);
  EXPECT_EQ(exit.code, 0) << exit.output;
  const RunState after = state();
  ASSERT_EQ(after.experiments.size(), 3u) << exit.output;
  EXPECT_EQ(after.at(1).candidate.idea, "mended");
  EXPECT_EQ(after.at(1).failed.size(), 1u);
  EXPECT_TRUE(after.at(2).measured);
}

// What a repair is at when a signal meets it.
enum class Phase { kAsking, kReplyIsThere, kBuilding, kTraining };

class InterruptedRepair : public LoopRun,
                          public testing::WithParamInterface<std::tuple<int, Phase>> {
 protected:
  // The build of what the repair proposes takes a second.
  InterruptedRepair() {
    const fs::path recipe = dir_ / "build/candidate.json";
    nlohmann::json spec = nlohmann::json::parse(read_file(recipe));
    spec["build"] = {{"/usr/bin/sh", "-c",
                      "! grep -q 'kRate = 0.5;' \"$0\" || sleep 1; install -m 755 \"$0\" \"$1\"",
                      "{source}", "{program}"}};
    write_file(recipe, spec.dump());
  }

  // Until the repair is there. `asked`: for repairs so far.
  void wait_until_it_is(Phase phase, const std::atomic<int>& asked) const {
    const ExperimentFolder folder = run_.experiment(1);
    const auto until = [](const std::function<bool()>& there) {
      for (int i = 0; i < 600'000 && !there(); ++i) usleep(100);
    };
    const auto answered = [&] {
      return fs::exists(folder.reply(2)) ||
             read_file(folder.conversation()).find("mended") != std::string::npos;
    };
    until([&] { return asked > 0; });
    if (phase == Phase::kReplyIsThere) until(answered);
    if (phase == Phase::kBuilding) until([&] { return answered() && fs::exists(folder.build()); });
    if (phase == Phase::kTraining)
      wait_for<event::RunStarted>([](const auto& event) { return event.attempt == 2; });
    if (phase != Phase::kReplyIsThere) usleep(200'000);
  }

  void expect_that_all_agree() const {
    const RunState after = state();
    EXPECT_TRUE(after.open.empty());
    EXPECT_EQ(after.champion_n, 1);
    const Experiment& e = after.at(1);
    EXPECT_EQ(e.candidate.idea, "mended");
    EXPECT_EQ(e.failed.size(), 1u);
    EXPECT_EQ(e.replies, 2);
    EXPECT_NEAR(e.measured->bpb.value(), stub_bpb(0.5, 64) + stub_noise(e.measured->seed), 1e-9);
    const ExperimentFolder folder = run_.experiment(1);
    const std::string measured = read_file(folder.source());
    EXPECT_NE(measured.find("kRate = 0.5;"), std::string::npos);
    EXPECT_NE(read_file(folder.diff()).find("+constexpr double kRate = 0.5;"), std::string::npos);
    EXPECT_EQ(git({"rev-parse", "refs/autoresearch/t/0001"}), e.candidate.commit + "\n");
    EXPECT_EQ(git({"show", "autoresearch/t:train.cpp"}), measured);
    EXPECT_EQ(read_file(run_.results()), results_tsv(after));
    EXPECT_NE(read_file(folder.reply(2)).find("mended"), std::string::npos);
    EXPECT_FALSE(fs::exists(folder.reply(3)));
  }
};

TEST_P(InterruptedRepair, TheSameCommandGoesOnWithWhatWasPaidFor) {
  if (auto problem = sandbox_problem()) GTEST_SKIP() << *problem;
  const auto [signal, phase] = GetParam();
  std::atomic<int> repairs = 0, ideas = 0;
  HttpAnswer never;
  never.end = HttpAnswer::End::kHang;
  const LoopbackServer server([&, phase = phase](const HttpRequest& request, size_t) {
    const auto has = [&](const char* text) { return request.body.find(text) != std::string::npos; };
    if (!has("kRate")) return chat_answer("ready");
    if (!has("SIGABRT")) return ++ideas, chat_answer(edit("aborts", kBegin, kAborts + kBegin));
    const bool first = repairs++ == 0;
    return first && phase == Phase::kAsking ? never : chat_answer(rate("mended", "0.01", "0.5"));
  });
  const std::vector<std::string> options = {"--model",    "scripted",          "--base-url",
                                            server.url(), "--max-experiments", "1"};
  Command command = agent(options);
  std::thread user;
  command.before_exec = [&, signal = signal, phase = phase](pid_t pid, uint64_t) {
    user = std::thread([&, pid, signal, phase] {
      wait_until_it_is(phase, repairs);
      kill(pid, signal);
    });
  };
  const Exit first = run(command);
  user.join();
  EXPECT_EQ(first.code, signal == SIGKILL ? 128 + SIGKILL : 130) << first.output;
  const Exit second = run(agent(options));
  EXPECT_EQ(second.code, 0) << second.output;
  EXPECT_EQ(statuses(), (std::vector<std::string>{"keep", "keep"}))
      << first.output << second.output;
  EXPECT_EQ(ideas, 1);
  EXPECT_EQ(repairs, phase == Phase::kAsking ? 2 : 1);  // the first call was never answered
  expect_that_all_agree();
}

INSTANTIATE_TEST_SUITE_P(LoopRun, InterruptedRepair,
                         testing::Combine(testing::Values(SIGINT, SIGTERM, SIGKILL),
                                          testing::Values(Phase::kAsking, Phase::kReplyIsThere,
                                                          Phase::kBuilding, Phase::kTraining)));

TEST_F(LoopRun, AnotherTaskOrSeedAsksForANewTag) {
  ASSERT_FALSE(fs::exists(run_.results()));
  const Exit over = run(agent({"--provider", "builtin", "--max-hours", "0.0001"}));
  EXPECT_FALSE(over.timed_out) << over.output;
  const Exit exit = run(agent({"--provider", "builtin", "--seed", "7"}));
  EXPECT_EQ(exit.code, 1);
  EXPECT_NE(exit.output.find("new --tag"), std::string::npos) << exit.output;
}

TEST_F(LoopRun, MistakesGetOneLineAndTheNextCommand) {
  LoopbackServer refuses({error_answer(401, "Incorrect API key provided")});
  const std::string nowhere = "http://127.0.0.1:" + std::to_string(unused_port()) + "/v1";
  struct Mistake {
    std::vector<std::string> args;
    std::string expected;
  };
  const Mistake mistakes[] = {
      {{"--task", "no-such-task"}, "prepare"},
      {{"--no-such-flag"}, "--no-such-flag"},
      {{"--max-experiments", "0"}, "--max-experiments"},
      {{"--max-hours", "0"}, "--max-hours"},
      {{"--tuner-share", "2"}, "--tuner-share"},
      {{"--verify", "7"}, "'7' is not off, a share such as 0.33"},
      {{"--provider", "openai", "--base-url", refuses.url(), "--model", "m", "--sandbox", "off"},
       "OPENAI_API_KEY"},
      {{"--model", "m", "--base-url", nowhere, "--sandbox", "off"}, "add --fallback builtin"},
      {{"--model", "m", "--max-usd", "3", "--sandbox", "off"}, "--price m="},
      {{"--replay", "no-such-run", "--sandbox", "off"}, "no-such-run"},
      {{"--provider", "openai", "--sandbox", "off"}, "--model"},
      {{"--provider", "command", "--sandbox", "off"}, "--command"}};
  for (const auto& [args, expected] : mistakes) {
    Command command = agent(args);
    if (args[0] == "--task") command.argv.erase(command.argv.begin() + 4, command.argv.begin() + 6);
    const Exit exit = run(command);
    EXPECT_NE(exit.code, 0) << expected;
    EXPECT_NE(exit.output.find(expected), std::string::npos) << exit.output;
    EXPECT_EQ(exit.output.find("sk-secret"), std::string::npos) << exit.output;
  }
  EXPECT_FALSE(fs::exists(run_.path)) << "something was left behind";
}

TEST_F(LoopRun, AMissingProgramIsNamedWithTheCommandThatInstallsIt) {
  for (const std::string missing : {"git", "bwrap"}) {
    const fs::path bin = dir_ / ("path_without_" + missing);
    fs::create_directories(bin);
    for (const char* program : {"git", "bwrap", "sh", "true"})
      if (program != missing) fs::create_symlink(fs::path("/usr/bin") / program, bin / program);
    Command command = agent({"--provider", "command", "--command", "echo ready"});
    for (std::string& variable : command.env)
      if (variable.starts_with("PATH=")) variable = "PATH=" + bin.string();
    const Exit exit = run(command);
    EXPECT_EQ(exit.code, 1) << exit.output;
    const std::string install =
        missing == "git" ? "apt-get install -y git" : "apt-get install bubblewrap";
    EXPECT_NE(exit.output.find(install), std::string::npos) << exit.output;
  }
}

TEST_F(LoopRun, OutsideACheckoutItSaysWhereToGo) {
  Command command = agent({});
  command.cwd = dir_;
  const Exit exit = run(command);
  EXPECT_EQ(exit.code, 1);
  EXPECT_NE(exit.output.find("top folder of the checkout"), std::string::npos) << exit.output;
}

}  // namespace
}  // namespace autoresearch
