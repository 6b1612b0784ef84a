// The referee: the figure is right, cheats are void, honest models are never accused.
#include "referee/score.h"

#include <gtest/gtest.h>
#include <pty.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <future>
#include <map>
#include <regex>
#include <set>

#include "common/error.h"
#include "common/sandbox.h"
#include "harness/trace.h"
#include "referee/causality.h"
#include "referee/plan.h"
#include "task/task.h"
#include "task/tokenizer.h"
#include "tests/support.h"
#include "tests/toy_gpt.h"
#include "tests/train_on.h"

namespace autoresearch {
namespace {

constexpr int64_t kLen = 128, kVocab = Tokenizer::kMinVocab + 2;

// A prepared task of random tokens; every row begins with BOS, and specials are sprinkled in.
struct RandomTask {
  fs::path dir;
  TaskInfo info;
  std::vector<uint16_t> tokens;

  explicit RandomTask(int64_t rows) {
    char name[] = "/tmp/score_test_XXXXXX";
    dir = mkdtemp(name);
    const Tokenizer tokenizer = train_on({"abab abab ababab"}, kVocab);
    tokenizer.save(dir / "tokenizer.tiktoken");
    info.name = "random", info.vocab_size = tokenizer.vocab_size(), info.bos = tokenizer.bos();
    info.seq_len = kLen, info.val.rows = rows, info.test.rows = rows;
    at::manual_seed(3);
    const at::Tensor random = at::randint(0, info.vocab_size, {rows, kLen + 1}, at::kLong);
    random.select(1, 0).fill_(info.bos);
    for (int64_t i = 0; i < random.numel(); i++)
      tokens.push_back(uint16_t(random.const_data_ptr<int64_t>()[i]));
    fs::create_directories(dir / "heldout");
    for (const char* split : {"val.bin", "test.bin"})
      write_file(dir / "heldout" / split,
                 {reinterpret_cast<const char*>(tokens.data()), 2 * tokens.size()});
    write_file(dir / "task.json", to_json(info));
  }
  ~RandomTask() { fs::remove_all(dir); }

  SealedModel seal(const Logits& logits) const {
    return trace(logits, scoring_rows_on_cpu(kLen), kLen, info.vocab_size, at::kCPU);
  }
  // Through real runners; without their sandbox, which only Confinement tests.
  Score run(const SealedModel& model, ScoreOptions options = {}) const {
    const fs::path file = dir / "model";
    save_sealed(model, file);
    options.program = SCORE_PROGRAM;
    options.sandboxed = false;
    return score(file, dir, options);
  }
  Score run(const Logits& logits, const ScoreOptions& options = {}) const {
    return run(seal(logits), options);
  }
  ToyGpt toy() const { return ToyGpt(info.vocab_size, kLen, 32, 2, 1); }
};

// Calls `visit` with the position, the target and its nats, one target at a time, from the live
// model.
template <typename Visit>
void for_each_target(const RandomTask& task, const ToyGpt& model, Visit visit) {
  for (size_t row = 0; row < task.tokens.size(); row += kLen + 1) {
    const std::vector<int64_t> ids(&task.tokens[row], &task.tokens[row] + kLen);
    const at::Tensor logits = model(at::tensor(ids).view({1, kLen})).to(at::kDouble)[0];
    for (int64_t t = 0; t < kLen; t++) {
      const int64_t target = task.tokens[row + size_t(t) + 1];
      const double* l = logits[t].const_data_ptr<double>();
      double total = 0;
      for (int64_t v = 0; v < task.info.vocab_size; v++) total += std::exp(l[v]);
      visit(t, target, std::log(total) - l[target]);
    }
  }
}

// Bits per byte by the definition.
double brute_force_bpb(const RandomTask& task, const ToyGpt& model, bool upstream) {
  const Tokenizer tokenizer = Tokenizer::load(task.dir / "tokenizer.tiktoken");
  double sum = 0, bytes = 0;
  for_each_target(task, model, [&](int64_t, int64_t target, double nats) {
    if (tokenizer.token_bytes(target) == 0) return;
    sum += nats;
    bytes +=
        double(upstream ? tokenizer.token_bytes_upstream(target) : tokenizer.token_bytes(target));
  });
  return sum / std::log(2.0) / bytes;
}

TEST(Score, EqualsTheDefinitionComputedOneTargetAtATime) {
  for (const int64_t rows : {1, 37}) {  // neither fills its last batch
    const RandomTask task(rows);
    const ToyGpt model = task.toy();
    const Score score = task.run([&](at::Tensor ids) { return model(ids); });
    EXPECT_NEAR(score.bpb, brute_force_bpb(task, model, false), 1e-6);
    EXPECT_NEAR(score.bpb_upstream, brute_force_bpb(task, model, true), 1e-6);
    EXPECT_EQ(score.rows, rows);
    EXPECT_EQ(score.tokens, rows * kLen);
  }
}

TEST(Score, TellsTheLossAtBothEndsOfTheRows) {
  const RandomTask task(37);
  const ToyGpt model = task.toy();
  const Tokenizer tokenizer = Tokenizer::load(task.dir / "tokenizer.tiktoken");
  double first = 0, last = 0, of_first = 0, of_last = 0;
  for_each_target(task, model, [&](int64_t t, int64_t target, double nats) {
    if (tokenizer.token_bytes(target) == 0) return;
    if (t < kEdge) first += nats, ++of_first;
    if (t >= kLen - kEdge) last += nats, ++of_last;
  });
  const Score score = task.run([&](at::Tensor ids) { return model(ids); });
  EXPECT_NEAR(score.nats_first, first / of_first, 1e-5);
  EXPECT_NEAR(score.nats_last, last / of_last, 1e-5);
  EXPECT_NE(score.nats_first, score.nats_last);
}

TEST(Score, SpecialTargetsCountInNeitherNatsNorBytes) {
  const RandomTask task(8);
  const ToyGpt model = task.toy();
  const at::Tensor special = at::arange(task.info.vocab_size) >= task.info.bos;
  const int64_t specials = Tokenizer::kSpecialTokens;
  const auto counts = [&](double lift) {
    // Special tokens share a fixed mass; how it is divided among them must not matter.
    return task.run([&](at::Tensor ids) {
      const at::Tensor inside = at::log_softmax(
          at::arange(task.info.vocab_size).eq(task.info.bos) * lift +
              at::zeros({task.info.vocab_size}).masked_fill(special.logical_not(), -1e9),
          -1);
      const at::Tensor outside = at::log_softmax(model(ids).masked_fill(special, -1e9), -1);
      return at::where(special, inside + std::log(0.5), outside + std::log(0.5));
    });
  };
  const Score even = counts(0), uneven = counts(10);
  EXPECT_NEAR(even.bpb, uneven.bpb, 1e-6);
  int64_t bytes = 0;
  const Tokenizer tokenizer = Tokenizer::load(task.dir / "tokenizer.tiktoken");
  for (size_t i = 0; i < task.tokens.size(); i++)
    if (i % (kLen + 1) != 0 && task.tokens[i] < task.info.vocab_size - specials)
      bytes += tokenizer.token_bytes(task.tokens[i]);
  EXPECT_EQ(even.bytes, bytes);
}

TEST(Score, AModelForAnotherTaskOrBatchIsRefusedClearly) {
  const RandomTask task(4);
  const ToyGpt other(task.info.vocab_size + 1, kLen, 32, 2, 1),
      shorter(task.info.vocab_size, kLen / 2, 32, 2, 1);
  const int64_t rows = scoring_rows_on_cpu(kLen);
  const auto message = [&](const ToyGpt& model, int64_t n) {
    return error_of([&] {
      task.run(trace([&](at::Tensor ids) { return model(ids); }, n, model.seq_len, model.vocab,
                     at::kCPU));
    });
  };
  EXPECT_NE(message(other, rows).find("vocabulary of 263"), std::string::npos)
      << message(other, rows);
  EXPECT_NE(message(shorter, scoring_rows_on_cpu(kLen / 2)).find("rows of 64"), std::string::npos);
  EXPECT_NE(message(task.toy(), rows + 1).find("batches of"), std::string::npos);
  EXPECT_EQ(message(task.toy(), rows), "");
}

TEST(Score, AnInfiniteLogitInOneRowIsVoid) {
  const RandomTask task(20);
  const ToyGpt model = task.toy();
  const int64_t token = task.tokens[19 * (kLen + 1) + 99];
  const std::string message = error_of([&] {
    task.run([&](at::Tensor ids) {
      const at::Tensor here = ids.eq(token).logical_and(at::arange(kLen) == 99).unsqueeze(2);
      return at::where(here, INFINITY, model(ids));
    });
  });
  EXPECT_NE(message.find("not finite"), std::string::npos) << message;
}

// ------------------------------------------------------------------------------------------------
// The probe

// The model plus a bonus for the true next token wherever `where(ids)` is true, (rows, T) or (T).
Logits leaking(const ToyGpt& model, std::function<at::Tensor(at::Tensor)> where) {
  return [model, where](at::Tensor ids) {
    const at::Tensor next = at::roll(ids, -1, 1);
    const at::Tensor bonus = at::one_hot(next, model.vocab).to(at::kFloat) * 0.01;
    return model(ids) + bonus * where(ids).to(at::kFloat).expand_as(ids).unsqueeze(2);
  };
}

void expect_void(const RandomTask& task, const Logits& logits) {
  for (const bool keeps_logits : {false, true, false, true}) {
    const std::string message =
        error_of([&] { task.run(logits, {.full = true, .keeps_logits = keeps_logits}); });
    EXPECT_NE(message.find("not causal"), std::string::npos) << message;
  }
}

TEST(Probe, TwentyScoresOfAnHonestModelInARowPass) {
  const RandomTask task(260);
  for (const bool autocast : {false, true}) {
    ToyGpt model = task.toy();
    model.autocast = autocast;
    const SealedModel sealed = task.seal([&](at::Tensor ids) { return model(ids); });
    const double bpb = task.run(sealed).bpb;
    for (int i = 0; i < 10; i++) EXPECT_EQ(task.run(sealed, {.full = i % 2 == 0}).bpb, bpb);
  }
}

TEST(Probe, ALeakOfTheWholeRowIsVoid) {
  const RandomTask task(260);
  expect_void(task, leaking(task.toy(), [](at::Tensor) { return at::ones({kLen}); }));
}

TEST(Probe, ALeakInsideBlocksOf32IsVoid) {
  const RandomTask task(260);
  expect_void(task, leaking(task.toy(), [](at::Tensor) {
                return at::arange(1, kLen + 1).remainder(32).ne(0);
              }));
}

TEST(Probe, ALeakAtOnePercentOfThePositionsIsVoid) {
  const RandomTask task(260);
  expect_void(task, leaking(task.toy(), [](at::Tensor) { return at::arange(kLen).eq(71); }));
}

// Chosen by content, not by position: a draw finds it with probability 0.011, all miss with 1e-5.
TEST(Probe, ALeakAfterOnePercentOfTheTokensIsVoid) {
  const RandomTask task(260);
  expect_void(task, leaking(task.toy(), [](at::Tensor ids) { return ids.lt(3); }));
}

TEST(Probe, OneRowAloneIsProbedAsWell) {
  const RandomTask task(1);
  expect_void(task, leaking(task.toy(), [](at::Tensor) { return at::arange(kLen).eq(71); }));
}

TEST(Probe, ALeakThroughAttentionWithoutAMaskIsVoid) {
  const RandomTask task(260);
  const ToyGpt model = task.toy();
  expect_void(task, [&](at::Tensor ids) {
    const at::Tensor x = at::embedding(model.wte, ids).to(at::kFloat);
    return at::linear(at::scaled_dot_product_attention(x, x, x), model.head);
  });
}

TEST(Probe, AScoreThatDependsOnOtherRowsIsVoid) {
  const RandomTask task(260);
  const ToyGpt model = task.toy();
  expect_void(task, [&](at::Tensor ids) { return model(ids) - model(ids).mean(0, true); });
}

// Where a row stands says nothing about its tokens: its place is its number, whatever is drawn.
TEST(Probe, WhatDependsOnTheRowsPlaceAloneRepeats) {
  const RandomTask task(260);
  const ToyGpt model = task.toy();
  const SealedModel sealed = task.seal([&](at::Tensor ids) {
    return model(ids) + at::arange(ids.size(0)).view({-1, 1, 1}) * 0.001 * at::arange(model.vocab);
  });
  EXPECT_EQ(task.run(sealed).bpb, task.run(sealed).bpb);
}

// As a GPU's runner works: it computes the losses itself, after the batch is final.
TEST(Score, ARunnerThatKeepsItsLogitsGivesTheSameScore) {
  const RandomTask task(37);
  const ToyGpt model = task.toy();
  const SealedModel sealed = task.seal([&](at::Tensor ids) { return model(ids); });
  EXPECT_NEAR(task.run(sealed, {.full = true, .keeps_logits = true}).bpb, task.run(sealed).bpb,
              1e-7);
}

TEST(Score, WhatIsNoModelOrNoScorerIsSaidInOneLine) {
  const RandomTask task(8);
  write_file(task.dir / "model", "no model");
  const ScoreOptions options{.program = SCORE_PROGRAM, .sandboxed = false};
  EXPECT_NE(error_of([&] { score(task.dir / "model", task.dir, options); }).find("not a sealed"),
            std::string::npos);
  const std::string message = error_of(
      [&] { score(task.dir / "model", task.dir, {.program = "/nowhere", .sandboxed = false}); });
  EXPECT_NE(message.find("cannot run /nowhere"), std::string::npos) << message;
}

TEST(Score, AModelThatWouldBecomeTheChampionIsProbedFully) {
  const RandomTask task(260);
  const ToyGpt model = task.toy();
  const SealedModel sealed = task.seal([&](at::Tensor ids) { return model(ids); });
  const Score light = task.run(sealed);
  EXPECT_LT(light.cuts, kFullCuts);
  EXPECT_EQ(task.run(sealed, {.full_below = light.bpb}).cuts, light.cuts) << "not below";
  EXPECT_GE(task.run(sealed, {.full_below = light.bpb + 1}).cuts, kFullCuts);
}

// What Run::model asks: one row, few draws, before any training.
TEST(Probe, OneTrainingRowShowsAMissingMaskAndPassesAnHonestModel) {
  const ToyGpt model(50, kLen, 32, 2, 1);
  const at::Tensor ids = at::randint(0, 50, {1, kLen}, at::kLong);
  const auto probe = [&](const Logits& logits) {
    return error_of([&] { probe_causality(Graph(trace(logits, 1, kLen, 50, at::kCPU)), ids, 8); });
  };
  EXPECT_EQ(probe([&](at::Tensor x) { return model(x); }), "");
  const std::string message = probe(leaking(model, [](at::Tensor) { return at::ones({kLen}); }));
  EXPECT_NE(message.find("position"), std::string::npos) << message;
}

// ------------------------------------------------------------------------------------------------
// What is around a graph: its process is confined, and void if it misbehaves

// A number of /proc/PID/status; 0 if there is none.
int64_t status_of(const std::string& pid, const std::string& name) {
  std::ifstream file("/proc/" + pid + "/status");
  int64_t number = 0;
  for (std::string line; std::getline(file, line);)
    if (line.starts_with(name + ":")) number = std::stoll(line.substr(name.size() + 1));
  return number;
}

// The processes that `score runner MODEL` is: a nursery, and the runners that it forked.
std::set<std::string> processes_of(const fs::path& model) {
  const std::string command = std::string(SCORE_PROGRAM) + '\0' + "runner" + '\0' + model.string();
  std::set<std::string> pids;
  for (const auto& entry : fs::directory_iterator("/proc")) {
    std::ifstream file(entry.path() / "cmdline", std::ios::binary);
    const std::string line((std::istreambuf_iterator<char>(file)), {});
    if (line.starts_with(command)) pids.insert(entry.path().filename());
  }
  return pids;
}

// The filter of the sandbox stands in the nursery too; a locked runner has one more.
bool is_locked_runner(const std::string& pid, const std::set<std::string>& all) {
  const std::string parent = std::to_string(status_of(pid, "PPid"));
  return all.contains(parent) && status_of(pid, "Seccomp") == 2 &&
         status_of(pid, "NoNewPrivs") == 1 &&
         status_of(pid, "Seccomp_filters") == status_of(parent, "Seccomp_filters") + 1;
}

TEST(Confinement, EachRunnerIsLockedAndSeesOfTheTaskOnlyTheModel) {
  if (const auto problem = sandbox_problem()) GTEST_SKIP() << *problem;
  if (read_file("/proc/self/status").find("Seccomp_filters") == std::string::npos)
    GTEST_SKIP() << "this kernel does not count filters";
  const RandomTask task(260);
  const ToyGpt toy = task.toy();
  const fs::path model = task.dir / "model";
  save_sealed(task.seal([&](at::Tensor ids) { return toy(ids); }), model);
  auto scored = std::async(std::launch::async, [&] {
    return score(model, task.dir, {.program = SCORE_PROGRAM, .full = true}).bpb;
  });
  int64_t locked = 0, models = 0, answers = 0;  // at one moment
  while (locked < 5 && scored.wait_for(std::chrono::milliseconds(1)) != std::future_status::ready) {
    locked = models = answers = 0;
    const std::set<std::string> all = processes_of(model);
    for (const std::string& pid : all) {
      const auto sees = [&](const fs::path& path) {
        std::error_code unreadable;
        return fs::exists("/proc/" + pid + "/root" + path.string(), unreadable);
      };
      locked += is_locked_runner(pid, all);
      models += sees(model);
      answers += sees(task.dir / "heldout") || sees(task.dir / "task.json");
    }
  }
  EXPECT_EQ(locked, 5);
  EXPECT_GE(models, 5) << "or this test can't see what they see";
  EXPECT_EQ(answers, 0);
  EXPECT_GT(scored.get(), 0);
}

// Why a scoring is void whose runners do what tests/fake_runner.cpp has under this name.
std::string void_by_runners_that(const std::string& how, ScoreOptions options = {}) {
  const RandomTask task(260);
  const fs::path model = task.dir / "model";
  write_file(model, how + " " + std::to_string(scoring_rows_on_cpu(kLen)) + " " +
                        std::to_string(kLen) + " " + std::to_string(task.info.vocab_size));
  options.program = FAKE_RUNNER, options.device = "cpu", options.sandboxed = false;
  return error_of([&] { score(model, task.dir, options); });
}

TEST(Runners, OnesThatOnlyAnswerAreScored) {
  EXPECT_EQ(void_by_runners_that("answers", {.full_below = 1e9}), "");
}

TEST(Runners, LogitsThatAreOthersInTheFullProbeDoNotRepeat) {
  EXPECT_HAS(void_by_runners_that("changes", {.full_below = 1e9}),
             "the model's logits do not repeat");
}

TEST(Runners, LossesThatTheirLogitsDoNotHaveAreSeen) {
  EXPECT_HAS(void_by_runners_that("lies", {.full = true, .keeps_logits = true}),
             "told losses that its logits do not have");
}

TEST(Runners, WhatIsNoAnswerBreaksTheProtocol) {
  for (const char* how : {"no-hello", "short-hello", "no-rows", "more-rows", "a-million-rows",
                          "keeps-logits", "no-answer"})
    EXPECT_EQ(void_by_runners_that(how), "a runner broke the protocol") << how;
  EXPECT_EQ(void_by_runners_that("short-nats", {.full = true, .keeps_logits = true}),
            "a runner broke the protocol");
}

TEST(Runners, OneThatEndsMakesItsModelVoid) {
  for (const char* how : {"ends-at-once", "ends-in-a-batch"})
    EXPECT_HAS(void_by_runners_that(how), "broke the process that ran it");
}

// ------------------------------------------------------------------------------------------------
// Sealed files that once copied the answers, remembered, or broke the scorer: the red team's holes
// A, B, D and K, through the real scorer

// Why a graph is void that computes %x, which is added to constant logits. Tensors are %c0 and on;
// the last one is the logits'.
std::string void_because(const std::string& body, std::vector<at::Tensor> tensors) {
  const RandomTask task(8);
  const int64_t rows = scoring_rows_on_cpu(kLen), vocab = task.info.vocab_size;
  tensors.push_back(at::ones({rows, kLen, vocab}));
  std::string inputs = "%ids : Tensor";
  for (size_t i = 0; i < tensors.size(); i++) inputs += ", %c" + std::to_string(i) + " : Tensor";
  const std::string logits = "%c" + std::to_string(tensors.size() - 1);
  const SealedModel model{"graph(" + inputs +
                              "):\n"
                              "  %none : NoneType = prim::Constant()\n"
                              "  %zero : int = prim::Constant[value=0]()\n"
                              "  %one : int = prim::Constant[value=1]()\n" +
                              body + "  %sum : Tensor = aten::sum(%x, %none)\n" +
                              "  %all : Tensor = aten::add(" + logits +
                              ", %sum, %one)\n  return (%all)\n",
                          tensors,
                          rows,
                          kLen,
                          vocab,
                          at::kCPU};
  return error_of([&] { task.run(model); });
}

TEST(Holes, AttentionWithMoreValuesThanKeysReadsNothing) {
  const std::string message = void_because(
      "  %p : float = prim::Constant[value=0.]()\n"
      "  %no : bool = prim::Constant[value=0]()\n"
      "  %x : Tensor = aten::scaled_dot_product_attention(%c0, %c1, %c2, %none, %p, %no, %none, "
      "%no)\n",
      {at::ones({1, 1, 4, 1}), at::ones({1, 4, 1, 1}), at::ones({1, 4, 2, 1})});
  EXPECT_NE(message.find("scaled_dot_product_attention"), std::string::npos) << message;
}

TEST(Holes, CircularPaddingReadsNoUninitializedMemory) {
  const std::string message = void_because(
      "  %less : int = prim::Constant[value=-4]()\n  %more : int = prim::Constant[value=4]()\n"
      "  %sizes : int[] = prim::ListConstruct(%less, %more)\n"
      "  %mode : str = prim::Constant[value=\"circular\"]()\n"
      "  %x : Tensor = aten::pad(%c0, %sizes, %mode, %none)\n",
      {at::ones({1, 1, 8})});
  EXPECT_NE(message.find("pad"), std::string::npos) << message;
}

TEST(Holes, WeightNormIsNoOperatorOfOurs) {
  const std::string message = void_because("  %x : Tensor = aten::_weight_norm(%c0, %c1, %zero)\n",
                                           {at::ones({1000, 4}), at::ones({1})});
  EXPECT_NE(message.find("_weight_norm"), std::string::npos) << message;
}

TEST(Holes, AnUnknownTypeDoesNotBreakTheScorer) {
  const std::string message = void_because(
      "  %bad : int = prim::Constant[value=-1]()\n"
      "  %sizes : int[] = prim::ListConstruct(%one)\n"
      "  %x : Tensor = aten::zeros(%sizes, %bad, %none, %none, %none)\n",
      {});
  EXPECT_NE(message.find("zeros"), std::string::npos) << message;
}

// What `command` prints on a terminal.
std::string shown_on_a_terminal(const std::string& command) {
  int terminal = -1;
  const pid_t child = forkpty(&terminal, nullptr, nullptr, nullptr);
  if (child == 0) {
    execl("/bin/sh", "sh", "-c", (command + " 2>&-").c_str(), nullptr);
    _exit(127);
  }
  std::string shown;
  char buffer[4096];
  for (ssize_t n; (n = read(terminal, buffer, sizeof buffer)) > 0;) shown.append(buffer, size_t(n));
  close(terminal);
  waitpid(child, nullptr, 0);
  return shown;
}

// A title for the terminal, a C1 control, and an override of the direction.
TEST(Sample, WhatAModelSaysCommandsNoTerminal) {
  const RandomTask task(8);
  const Tokenizer tokenizer = Tokenizer::load(task.dir / "tokenizer.tiktoken");
  std::vector<uint16_t> chain{uint16_t(task.info.bos)};
  tokenizer.encode(
      "A\x1b]0;x\x07"
      "B\xc2\x9bm\xe2\x80\xae"
      "C",
      chain);
  chain.push_back(uint16_t(task.info.bos));
  const at::Tensor table = at::zeros({task.info.vocab_size, task.info.vocab_size});
  for (size_t i = 0; i + 1 < chain.size(); i++) table[chain[i]][chain[i + 1]] = 9;
  save_sealed(task.seal([&](at::Tensor ids) { return at::embedding(table, ids); }),
              task.dir / "model");
  const std::string command = std::string(SCORE_PROGRAM) + " sample " +
                              (task.dir / "model").string() + " --task " + task.dir.string() +
                              " --temperature 0 --samples 1 --sandbox off";
  EXPECT_EQ(shown_on_a_terminal(command), "--- sample 1\r\nABC\r\n");
  EXPECT_HAS(shown_on_a_terminal(command + " | cat -v"), "^[]0;x^G");  // a pipe gets it as it is
}

// Hole B and its kin: a graph that stores what it sees, finds it again in a later call, and leaks
// the next token depending on that. `where` it finds it:
enum Where { kPadding, kNew, kInPlace, kNowhere };
enum When { kFirstCall, kEveryCall, kUnseenBatches, kSeenBatches };

SealedModel remembering(const RandomTask& task, Where where, int tensors, When when) {
  const int64_t rows = scoring_rows_on_cpu(kLen), size = rows * kLen;
  const std::vector<at::Tensor> state(size_t(tensors), at::zeros({size}, at::kLong));
  SealedModel model = task.seal([&](at::Tensor ids) {
    const at::Tensor mark = ids.flatten() + 1;
    at::Tensor used = at::zeros({}, at::kBool), again = used, stored = at::zeros({});
    for (const at::Tensor& own : state) {
      // Each is made of what a later line replaces by an operator that leaves memory as it was.
      const at::Tensor memory =
          where == kPadding   ? at::pad(at::zeros({1, 1, size}, at::kLong), {-size, size}).flatten()
          : where == kInPlace ? at::bitwise_or(own, mark)
                              : ids.new_zeros({size});
      used = at::logical_or(used, memory.ne(0).any());
      again = at::logical_or(again, memory.eq(mark).all());
      stored = stored + (mark * 1).select(0, 0) * 0;  // lies there when the call ends
    }
    const at::Tensor leaks = when == kFirstCall       ? at::logical_not(used)
                             : when == kUnseenBatches ? at::logical_not(again)
                             : when == kSeenBatches   ? again
                                                      : at::logical_or(used, at::logical_not(used));
    const at::Tensor next = at::one_hot(at::roll(ids, -1, 1), task.info.vocab_size);
    return next.to(at::kFloat) * 9 * leaks.to(at::kFloat) + stored;
  });
  const auto replace = [&](const char* before, const std::string& after) {
    model.graph = std::regex_replace(model.graph, std::regex(before), after);
  };
  if (where == kPadding) replace("\"constant\"", "\"circular\"");
  if (where == kNew) replace("aten::new_zeros", "aten::new_empty");
  if (where == kInPlace) replace("aten::bitwise_or\\(", "aten::bitwise_or_(");
  return model;
}

// AUTORESEARCH_HOLES_SCORINGS: how often each of the 32 graphs is scored, 2 if unset.
TEST(Holes, AGraphThatWouldRememberIsVoidOrGainsNothing) {
  const char* by_user = std::getenv("AUTORESEARCH_HOLES_SCORINGS");
  const RandomTask task(64);
  const double honest = task.run([&](at::Tensor ids) {
                              return at::zeros({ids.size(0), kLen, task.info.vocab_size});
                            })
                            .bpb;
  const std::map<Where, const char*> refusals = {{kPadding, "the mode \"constant\""},
                                                 {kNew, "leaves memory uninitialized"},
                                                 {kInPlace, "works in place"},
                                                 {kNowhere, "not causal"}};
  for (const auto& [where, refusal] : refusals)
    for (const int tensors : {1, 60})
      for (const When when : {kFirstCall, kEveryCall, kUnseenBatches, kSeenBatches}) {
        const SealedModel model = remembering(task, where, tensors, when);
        for (int i = 0; i < (by_user ? std::atoi(by_user) : 2); i++) {
          double bpb = honest;
          const std::string message = error_of([&] { bpb = task.run(model).bpb; });
          if (where == kNowhere && when == kSeenBatches) {
            EXPECT_NEAR(bpb, honest, 1e-9) << message;
          } else {
            EXPECT_HAS(message, refusal);
          }
        }
      }
}

TEST(Holes, AGraphWithoutThemIsScored) {
  EXPECT_EQ(void_because("  %x : Tensor = aten::mul(%c0, %zero)\n", {at::ones({3})}), "");
}

}  // namespace
}  // namespace autoresearch
