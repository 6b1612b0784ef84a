// Whole runs of the real agent with real builds and trainings on the tiny task, driven by a
// scripted model. The edited file is tests/cheats/honest.cpp, a model that builds and trains in
// seconds. Runs whose point is the loop and not the candidate are in loop_run_test.cpp.
#include "common/sandbox.h"
#include "task/task.h"
#include "tests/agent_runs.h"
#include "tests/loopback_server.h"

namespace autoresearch {
namespace {

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

class AgentRun : public AgentRuns {
 protected:
  AgentRun() : AgentRuns(AGENT_PROGRAM) {
    fs::create_directories(dir_ / "data");
    fs::create_directory_symlink(fs::path(TEST_DATA) / "tiny", dir_ / "data" / "tiny");
    // A learning rate that leaves room above and below.
    file("checkout/train.cpp", replaced(read_file(SOURCE_DIR "/tests/cheats/honest.cpp"),
                                        "grad(), 2.0)", "grad(), 0.05)"));
    file("checkout/program.md", "Lower val_bpb.\n");
    file("checkout/.gitignore", "/results.tsv\n/runs\n");
    file("checkout/notes.txt", "committed\n");
    commit_checkout();
    file("checkout/notes.txt", "not committed yet\n");
  }
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
    score.argv = {SCORE_PROGRAM, run_.champion(e.candidate.commit).sealed(),
                  "--task",      "tiny",
                  "--device",    "cpu",
                  "--json",      dir_ / "again.json"};
    const Exit again = run(score);
    ASSERT_EQ(again.code, 0) << again.output;
    EXPECT_NEAR(nlohmann::json::parse(read_file(dir_ / "again.json")).at("val_bpb").get<double>(),
                *e.measured->bpb, 1e-6);
  }
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
  file("checkout/program.md", std::string(2000, 'x') + "\n");
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

}  // namespace
}  // namespace autoresearch
