// The referee: the figure is right, cheats are void, honest models are never accused.
#include "referee/score.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <cstring>

#include "common/error.h"
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
  // Through real runners; without their sandbox, which is not what is tested here.
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

TEST(Holes, AGraphWithoutThemIsScored) {
  EXPECT_EQ(void_because("  %x : Tensor = aten::mul(%c0, %zero)\n", {at::ones({3})}), "");
}

}  // namespace
}  // namespace autoresearch
