// Whole runs of the real agent on the tiny task: a scripted model, interruptions, mistakes.
// The edited file is tests/cheats/honest.cpp, a model that builds and trains in seconds.

#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <fstream>
#include <sstream>

#include "agent/record/journal.h"
#include "common/error.h"
#include "common/process.h"
#include "common/run_folder.h"
#include "common/sandbox.h"
#include "task/task.h"
#include "tests/loopback_server.h"
#include "tests/support.h"

namespace autoresearch {
namespace {

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const size_t at = text.find(from);
  if (at == std::string::npos) throw Error("not found: " + from);
  return text.replace(at, from.size(), to);
}

// A reply that replaces the line with the learning rate by another one.
std::string edit(const std::string& idea, const std::string& from, const std::string& to) {
  const std::string before = "    for (Tensor* parameter : {&embed, &head}) {\n",
                    after = "      parameter->mutable_grad().reset();\n";
  auto line = [](const std::string& rate) {
    return "      parameter->sub_(parameter->grad(), " + rate + ");\n";
  };
  return "IDEA: " + idea + "\nWHY: a test.\n<<<<<<< SEARCH\n" + before + line(from) + after +
         "=======\n" + before + line(to) + after + ">>>>>>> REPLACE\n";
}

// The same program with a number that the builtin proposer can find.
std::string with_a_knob(std::string source) {
  const std::string rule = "// " + std::string(90, '-') + "\n";
  source = replaced(source, "// @globals",
                    rule + "// Hyperparameters\nconstexpr double kInit = 1.0;\n" + rule +
                        "// The program\n// @globals");
  return replaced(source, "at::randn({vocab, width})", "at::randn({vocab, width}).mul(kInit)");
}

class AgentRun : public testing::Test {
 protected:
  void SetUp() override {
    fs::remove_all(dir_);
    fs::create_directories(checkout_);
    fs::create_directories(dir_ / "data");
    fs::create_directory_symlink(fs::path(TEST_DATA) / "tiny", dir_ / "data" / "tiny");
    // A learning rate that leaves room above and below.
    write(checkout_ / "train.cpp", replaced(read_file(SOURCE_DIR "/tests/cheats/honest.cpp"),
                                            "grad(), 2.0)", "grad(), 0.05)"));
    write(checkout_ / "program.md", "Lower val_bpb.\n");
    write(checkout_ / ".gitignore", "/results.tsv\n/runs\n");
    write(checkout_ / "notes.txt", "committed\n");
    git({"init", "-q"});
    git({"add", "."});
    git({"-c", "user.name=u", "-c", "user.email=u@x", "commit", "-qm", "start"});
    write(checkout_ / "notes.txt", "not committed yet\n");
  }
  void TearDown() override { fs::remove_all(dir_); }

  static void write(const fs::path& path, const std::string& text) {
    std::ofstream(path, std::ios::binary) << text;
  }

  std::string git(std::vector<std::string> args) {
    args.insert(args.begin(), {"git", "-C", checkout_.string()});
    const Exit exit = run({.argv = args, .env = scrubbed_environment()});
    EXPECT_EQ(exit.code, 0) << exit.output;
    return exit.output;
  }

  Command agent(const std::vector<std::string>& more) {
    Command command;
    // One thing after the other, as the scripts are written; the greedy rule measures no champion
    // again, which would take minutes in all; and the machine that runs tests is busy.
    command.argv = {AGENT_PROGRAM, "run",      "--tag",       "t",      "--task",
                    "tiny",        "--device", "cpu",         "--keep", "greedy",
                    "--overlap",   "off",      "--disturbed", "count"};
    if (std::count(more.begin(), more.end(), "--verify") == 0)
      command.argv.insert(command.argv.end(), {"--verify", "off"});
    command.argv.insert(command.argv.end(), more.begin(), more.end());
    command.env = scrubbed_environment();
    command.env.push_back("AUTORESEARCH_DATA=" + (dir_ / "data").string());
    command.env.push_back("OPENAI_API_KEY=sk-secret-for-tests");
    command.cwd = checkout_;
    command.limit = 300;
    return command;
  }

  std::vector<std::string> statuses() {
    std::istringstream in(read_file(run_.results()));
    std::vector<std::string> result;
    std::string line;
    std::getline(in, line);
    EXPECT_EQ(line, "commit\tval_bpb\tmemory_gb\tstatus\tdescription");
    while (std::getline(in, line)) {
      std::vector<std::string> columns;
      std::istringstream row(line);
      for (std::string column; std::getline(row, column, '\t');) columns.push_back(column);
      EXPECT_EQ(columns.size(), 5u) << line;
      result.push_back(columns.at(3));
    }
    return result;
  }

  // Until the journal has such an event.
  template <typename T>
  void wait_for(const std::function<bool(const T& event)>& wanted) const {
    for (int i = 0; i < 900; ++i) {
      usleep(100'000);
      std::error_code missing;
      if (!fs::exists(run_.journal(), missing)) continue;
      for (const Entry& entry : read_journal(run_.journal()))
        if (const T* event = std::get_if<T>(&entry.event); event && wanted(*event)) return;
    }
  }

  // Until training of experiment `n` was started.
  void wait_until_it_trains(int64_t n = 0) const {
    wait_for<event::RunStarted>([n](const auto& event) { return event.n == n; });
  }

  // How many events of a kind the journal has.
  template <typename T>
  int count() const {
    int found = 0;
    for (const Entry& entry : read_journal(run_.journal()))
      found += std::holds_alternative<T>(entry.event);
    return found;
  }

  RunState state() const { return replay(read_journal(run_.journal())); }

  // Starts the agent and kills it, and nothing else, as a power cut would.
  void kill_while_training(Command command, int n) const {
    command.before_exec = [&, n](pid_t pid, uint64_t) {
      std::thread([pid, n, this] {
        wait_until_it_trains(n);
        usleep(500'000);
        kill(pid, SIGKILL);
      }).detach();
    };
    EXPECT_EQ(run(command).code, 128 + SIGKILL);
  }

  const fs::path dir_ = fs::temp_directory_path() / ("agent_run_test." + std::to_string(getpid()));
  const fs::path checkout_ = dir_ / "checkout";
  const RunFolder run_{dir_ / "data/runs/t"};
};

TEST_F(AgentRun, AScriptedModelDrivesAFullRun) {
  if (auto problem = sandbox_problem()) GTEST_SKIP() << *problem;
  const std::string mangled =
      replaced(edit("mangled", "2.0", "3.0"), "Tensor* parameter", "Tensor * x");
  const std::string broken = edit("does not compile", "2.0", "undeclared_name");
  const std::string empty = edit("changes nothing", "2.0", "2.0  /* the same */");
  LoopbackServer server({chat_answer("ready"), chat_answer(edit("higher rate", "0.05", "2.0")),
                         chat_answer(edit("rate of nearly nothing", "2.0", "1e-6")),
                         chat_answer(broken), chat_answer(edit("repaired", "2.0", "1e-5")),
                         chat_answer(mangled), chat_answer(mangled), chat_answer(empty),
                         chat_answer(empty), chat_answer(edit("too high", "2.0", "1e9"))});
  const std::string status = git({"status", "--porcelain"});
  const std::string head = git({"rev-parse", "HEAD"});

  const Exit exit = run(agent({"--provider", "openai", "--model", "scripted", "--base-url",
                               server.url(), "--max-experiments", "4"}));
  ASSERT_EQ(exit.code, 0) << exit.output;
  EXPECT_EQ(statuses(), (std::vector<std::string>{"keep", "keep", "discard", "discard", "crash"}))
      << exit.output;
  EXPECT_EQ(server.requests().size(), 10u);

  // The branch holds exactly the kept commits, on top of where the user stands.
  EXPECT_EQ(git({"rev-list", "--count", "HEAD..autoresearch/t"}), "2\n");
  EXPECT_NE(git({"show", "autoresearch/t:train.cpp"}).find("grad(), 2.0)"), std::string::npos);
  EXPECT_EQ(git({"show", "autoresearch/t:notes.txt"}), "not committed yet\n");
  // The checkout is as it was, uncommitted changes included.
  EXPECT_EQ(git({"status", "--porcelain"}), status);
  EXPECT_EQ(git({"rev-parse", "HEAD"}), head);
  EXPECT_EQ(read_file(checkout_ / "notes.txt"), "not committed yet\n");
  EXPECT_NE(read_file(checkout_ / "train.cpp").find("grad(), 0.05)"), std::string::npos);
  EXPECT_EQ(fs::read_symlink(checkout_ / "results.tsv"), run_.results());

  EXPECT_NE(exit.output.find("estimate    1200 tokens in and 34 out a call"), std::string::npos)
      << exit.output;
  // What was refused is told to the model.
  EXPECT_NE(server.requests()[4].body.find("undeclared_name"), std::string::npos);
  // The key is in no file of the run.
  for (const auto& entry : fs::recursive_directory_iterator(run_.path))
    if (entry.is_regular_file() && entry.file_size() < 1 << 24) {
      EXPECT_EQ(read_file(entry.path()).find("sk-secret-for-tests"), std::string::npos) << entry;
    }

  // Every kept figure is reproduced from the champion's files.
  for (const Experiment& e : state().experiments) {
    if (e.status != Status::kKeep) continue;
    Command score = agent({});
    score.argv = {SCORE_PROGRAM, run_.champion(e.candidate.commit) / "model.safetensors",
                  "--task",      "tiny",
                  "--device",    "cpu",
                  "--json",      dir_ / "again.json"};
    const Exit again = run(score);
    ASSERT_EQ(again.code, 0) << again.output;
    EXPECT_NEAR(nlohmann::json::parse(read_file(dir_ / "again.json")).at("val_bpb").get<double>(),
                *e.measured->bpb, 1e-6);
  }
}

// One row, one experiment, whatever it took: a crash is told to the model with the run's own words.
// A third repair is not asked for, and the crash is then the experiment's result.
TEST_F(AgentRun, RunTimeCrashesAreRepairedWithinTheExperimentAtMostTwice) {
  if (auto problem = sandbox_problem()) GTEST_SKIP() << *problem;
  LoopbackServer server({chat_answer("ready"),
                         chat_answer(edit("aborts", "0.05", "2.0), std::abort(")),
                         chat_answer(edit("throws", "0.05", "2.0), embed.view({-7}")),
                         chat_answer(edit("mended", "0.05", "2.0")),
                         chat_answer(edit("one", "2.0", "2.1), std::abort(")),
                         chat_answer(edit("two", "2.0", "2.2), std::abort(")),
                         chat_answer(edit("three", "2.0", "2.3), std::abort("))});
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
  EXPECT_NE(git({"show", "autoresearch/t:train.cpp"}).find("grad(), 2.0);"), std::string::npos);
  EXPECT_NE(read_file(run_.experiment(2).source()).find("2.3"), std::string::npos);
}

TEST_F(AgentRun, KnownCodeCostsNoTrainingAndAWholeFileIsTakenAfterTwoFailedEdits) {
  if (auto problem = sandbox_problem()) GTEST_SKIP() << *problem;
  const std::string mangled =
      replaced(edit("mangled", "0.05", "3.0"), "Tensor* parameter", "Tensor * x");
  const std::string whole =
      "IDEA: a whole file\nWHY: two edits failed.\n```cpp\n" +
      replaced(read_file(checkout_ / "train.cpp"), "grad(), 0.05)", "grad(), 2.0)") + "```\n";
  const std::string broken = edit("does not compile", "0.05", "undeclared_name");
  LoopbackServer server({chat_answer("ready"), chat_answer(broken), chat_answer(broken),
                         chat_answer(edit("restated", "0.05", "5e-2  /* the same */")),
                         chat_answer(edit("less", "0.05", "1e-6")), chat_answer(whole),
                         chat_answer(mangled), chat_answer(whole)});
  const Exit exit = run(agent({"--provider", "openai", "--model", "scripted", "--base-url",
                               server.url(), "--max-experiments", "2"}));
  ASSERT_EQ(exit.code, 0) << exit.output;
  EXPECT_EQ(statuses(), (std::vector<std::string>{"keep", "discard", "keep"})) << exit.output;
  const auto requests = server.requests();
  ASSERT_EQ(requests.size(), 8u);
  EXPECT_NE(requests[2].body.find("undeclared_name' was not declared"), std::string::npos);
  EXPECT_NE(requests[3].body.find("tried before and did not build"), std::string::npos);
  EXPECT_NE(requests[4].body.find("measured already, as experiment 0"), std::string::npos);
  EXPECT_EQ(requests[6].body.find("whole file now"), std::string::npos) << "after one failed edit";
  EXPECT_NE(requests[7].body.find("whole file now"), std::string::npos);
  EXPECT_EQ(count<event::RunStarted>(), 3);
  EXPECT_EQ(count<event::Candidate>(), 3);
  const std::string log = read_file(run_.experiment(1).build_log());
  EXPECT_EQ(log.find("undeclared_name' was not"), log.rfind("undeclared_name' was not"))
      << "built once";
}

// The first model's context is too small for any prompt, the second's for the first prompt only.
TEST_F(AgentRun, APromptThatIsTooLongGetsShorterThenGoesToTheNextModelAndItsSizeIsRemembered) {
  if (auto problem = sandbox_problem()) GTEST_SKIP() << *problem;
  write(checkout_ / "program.md", std::string(2000, 'x') + "\n");
  const HttpAnswer too_long = error_answer(400, "prompt is too long: 9000 tokens > 8000 maximum");
  auto is_intro = [](const HttpRequest& request) { return request.body.size() < 1000; };
  const LoopbackServer thin([&](const HttpRequest& request, size_t) {
    return is_intro(request) ? chat_answer("ready") : too_long;
  });
  size_t first_size = 0;
  int proposals = 0;
  const std::string rates[] = {"1e-6", "1e-7"};
  const LoopbackServer wide([&](const HttpRequest& request, size_t) {
    if (is_intro(request)) return chat_answer("ready");
    if (first_size == 0) first_size = request.body.size();
    if (request.body.size() >= first_size) return too_long;
    return chat_answer(edit("a rate of nearly nothing", "0.05", rates[proposals++ % 2]));
  });
  const Exit exit = run(agent({"--model", "thin", "--base-url", thin.url(), "--fallback",
                               "openai:wide@" + wide.url(), "--max-experiments", "2"}));
  ASSERT_EQ(exit.code, 0) << exit.output;
  for (const Experiment& e : state().experiments)
    EXPECT_EQ(e.candidate.proposer, e.n == 0 ? "baseline" : "openai:wide") << exit.output;
  EXPECT_GT(thin.requests().size(), 2u);  // asked shorter and shorter
  EXPECT_EQ(wide.requests()[1].body.size(), thin.requests()[1].body.size());  // the next, in full
  EXPECT_EQ(wide.requests().size(), 4u) << "the second experiment's prompt fits at once";
}

TEST_F(AgentRun, AContextTooSmallForThePromptIsAnErrorThatNamesTheFlag) {
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
    const bool ours = text_of("cmdline").find("agent_run_test") != std::string::npos;
    if (pid == agent || !ours) continue;  // the agent was given the key in its environment
    ++glance.children;
    if (text_of("environ").find(key) != std::string::npos) glance.leaks += entry.path().string();
  }
  return glance;
}

TEST_F(AgentRun, AKeyInTheEnvironmentIsFoundNowhereAfterAFullRun) {
  if (auto problem = sandbox_problem()) GTEST_SKIP() << *problem;
  write(checkout_ / "train.cpp", with_a_knob(read_file(checkout_ / "train.cpp")));
  const std::string key = "sk-secret-for-tests";
  // An endpoint that repeats the key in errors and in its reply.
  const std::string echoing = edit("rate for " + key, "0.05", "2.0");
  LoopbackServer server({chat_answer("ready"), error_answer(500, "you said Bearer " + key),
                         chat_answer(echoing), error_answer(403, "refused: " + key)});
  Command command =
      agent({"--model", "scripted", "--base-url", server.url(), "--max-experiments", "2"});
  Glance glance;
  std::thread looking;
  command.before_exec = [&](pid_t pid, uint64_t) {
    looking = std::thread([&, pid] {
      wait_until_it_trains(1);
      usleep(1'000'000);
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

// Down from minute one, up while experiment 1 trains, gone again while experiment 3 does.
TEST_F(AgentRun, TheBuiltinProposerKeepsTheDeviceBusyWhileAnEndpointIsDown) {
  if (auto problem = sandbox_problem()) GTEST_SKIP() << *problem;
  write(checkout_ / "train.cpp", with_a_knob(read_file(checkout_ / "train.cpp")));
  const uint16_t port = unused_port();
  Command command = agent({"--model", "scripted", "--base-url",
                           "http://127.0.0.1:" + std::to_string(port) + "/v1", "--retry-minutes",
                           "0.01", "--max-experiments", "4"});
  std::thread endpoint;
  command.before_exec = [&](pid_t, uint64_t) {
    endpoint = std::thread([&] {
      wait_until_it_trains(1);
      const std::vector<HttpAnswer> script = {chat_answer(edit("a", "0.05", "1e-6")),
                                              chat_answer(edit("b", "0.05", "1e-7"))};
      const LoopbackServer server([&](const HttpRequest&, size_t i) { return script.at(i % 2); },
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

TEST_F(AgentRun, BeyondItsBudgetNoModelIsAskedAndARunCanBeReplayed) {
  if (auto problem = sandbox_problem()) GTEST_SKIP() << *problem;
  write(checkout_ / "train.cpp", with_a_knob(read_file(checkout_ / "train.cpp")));
  const LoopbackServer server([&](const HttpRequest&, size_t i) {
    return chat_answer(i == 0 ? "ready" : edit("higher rate", "0.05", "2.0"));
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

// An error that no part of the agent throws itself: where experiment 2's folder belongs lies a
// file.
TEST_F(AgentRun, AnErrorOfTheFileSystemCostsAnExperimentAndNotTheNight) {
  write(checkout_ / "train.cpp", with_a_knob(read_file(checkout_ / "train.cpp")));
  const fs::path in_the_way = run_.experiment(1).path;
  Command command = agent({"--provider", "builtin", "--max-experiments", "1"});
  std::thread user;
  command.before_exec = [&](pid_t, uint64_t) {
    user = std::thread([&] {
      wait_until_it_trains(0);
      write(in_the_way, "");
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
TEST_F(AgentRun, AFailedFsyncEndsTheRunAndIsNotTriedAgain) {
  if (auto problem = sandbox_problem()) GTEST_SKIP() << *problem;
  if (!kMemoryIsMeasured) GTEST_SKIP() << "AddressSanitizer wants to be preloaded itself";
  const LoopbackServer server({chat_answer("ready"), chat_answer(edit("a", "0.05", "2.0"))});
  Command command =
      agent({"--model", "scripted", "--base-url", server.url(), "--max-experiments", "1"});
  command.env.push_back("LD_PRELOAD=" FAILING_FSYNC);
  command.env.push_back("FAIL_FSYNC_OF=.reply.md");
  const Exit exit = run(command);
  EXPECT_EQ(exit.code, 1) << exit.output;
  EXPECT_NE(exit.output.find("can't sync"), std::string::npos) << exit.output;
  EXPECT_EQ(server.requests().size(), 2u);
  EXPECT_EQ(count<event::Refused>() + count<event::Trouble>(), 0);
}

// Also the one that only asks whether a model is there: it may cost something.
TEST_F(AgentRun, TheFirstCallIsOnRecordBeforeItIsSent) {
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

TEST_F(AgentRun, AKilledBaselineGoesOnWithNothingLost) {
  const std::vector<std::string> options = {"--provider", "builtin", "--max-experiments", "1"};
  kill_while_training(agent(options), 0);
  const Exit exit = run(agent(options));
  EXPECT_NE(exit.output.find("going on with experiment 0"), std::string::npos) << exit.output;
  EXPECT_EQ(statuses(), std::vector<std::string>{"keep"}) << exit.output;
  EXPECT_EQ(state().at(0).attempts, 2);
}

// A start-up longer than the clock's slack: whoever forgets the baseline's own overhead calls the
// resumed experiment void.
TEST_F(AgentRun, AKilledExperimentGoesOnAndIsJudgedLikeAnyOther) {
  if (auto problem = sandbox_problem()) GTEST_SKIP() << *problem;
  write(checkout_ / "train.cpp", replaced(read_file(checkout_ / "train.cpp"), "// @before_training",
                                          "std::this_thread::sleep_for(std::chrono::seconds(5));"));
  write(dir_ / "reply", edit("higher rate", "0.05", "2.0"));
  const std::vector<std::string> options = {"--provider",        "command",
                                            "--command",         "cat " + (dir_ / "reply").string(),
                                            "--max-experiments", "1"};
  kill_while_training(agent(options), 1);
  const Exit exit = run(agent(options));
  EXPECT_NE(exit.output.find("going on with experiment 1"), std::string::npos) << exit.output;
  EXPECT_EQ(statuses(), (std::vector<std::string>{"keep", "keep"})) << exit.output;
}

TEST_F(AgentRun, InterruptingLetsTheMeasurementEndAndTheSameCommandGoesOn) {
  write(checkout_ / "train.cpp", with_a_knob(read_file(checkout_ / "train.cpp")));
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

TEST_F(AgentRun, InterruptingTwiceOrTerminatingStopsAtOnceWithoutAMark) {
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

TEST_F(AgentRun, AnotherTaskOrSeedAsksForANewTag) {
  ASSERT_FALSE(fs::exists(run_.results()));
  const Exit over = run(agent({"--provider", "builtin", "--max-hours", "0.0001"}));
  EXPECT_FALSE(over.timed_out) << over.output;
  const Exit exit = run(agent({"--provider", "builtin", "--seed", "7"}));
  EXPECT_EQ(exit.code, 1);
  EXPECT_NE(exit.output.find("new --tag"), std::string::npos) << exit.output;
}

TEST_F(AgentRun, MistakesGetOneLineAndTheNextCommand) {
  LoopbackServer refuses({error_answer(401, "Incorrect API key provided")});
  struct Mistake {
    std::vector<std::string> args;
    std::string expected;
  };
  const Mistake mistakes[] = {
      {{"--task", "no-such-task"}, "prepare"},
      {{"--no-such-flag"}, "--no-such-flag"},
      {{"--max-experiments", "0"}, "--max-experiments"},
      {{"--verify", "7"}, "'7' is not off, a share such as 0.33"},
      {{"--provider", "openai", "--base-url", refuses.url(), "--model", "m", "--sandbox", "off"},
       "OPENAI_API_KEY"},
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

TEST_F(AgentRun, AMissingProgramIsNamedWithTheCommandThatInstallsIt) {
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

TEST_F(AgentRun, DoctorLooksAtAllThatARunNeedsAndAsksNoModelWithoutATerminal) {
  const LoopbackServer server({chat_answer("ready")});
  Command command = agent({});
  command.argv = {AGENT_PROGRAM, "doctor",  "--task",   "tiny",       "--device",
                  "cpu",         "--model", "scripted", "--base-url", server.url()};
  if (sandbox_problem()) command.argv.insert(command.argv.end(), {"--sandbox", "off"});
  const Exit well = run(command);
  EXPECT_EQ(well.code, 0) << well.output;
  for (const char* line : {"checkout  ok", "task      ok", "compiler  ok", "libtorch  ok",
                           "git       ok", "was not asked", "a run can begin"})
    EXPECT_NE(well.output.find(line), std::string::npos) << well.output;
  EXPECT_TRUE(server.requests().empty());

  command.argv[3] = "no-such-task";
  const Exit ill = run(command);
  EXPECT_EQ(ill.code, 1);
  EXPECT_NE(ill.output.find("task      FIX   "), std::string::npos) << ill.output;
  EXPECT_NE(ill.output.find("1 to mend"), std::string::npos) << ill.output;
}

TEST_F(AgentRun, OutsideACheckoutItSaysWhereToGo) {
  Command command = agent({});
  command.cwd = dir_;
  const Exit exit = run(command);
  EXPECT_EQ(exit.code, 1);
  EXPECT_NE(exit.output.find("top folder of the checkout"), std::string::npos) << exit.output;
}

}  // namespace
}  // namespace autoresearch
