// Whether honest models pass the probe: twenty variants of a small GPT, of sizes, windows, learning
// rates and precisions, each trained for three steps, sealed once and scored many times by
// build/score's own parts, lightly and fully. Prints every model's false alarms; none is expected.
// An argument is the number of scorings in all (default 1,000, some ten minutes on two idle cores).
//
//   build/bench/honest [SCORINGS]

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <random>

#include "common/error.h"
#include "harness/trace.h"
#include "referee/score.h"
#include "task/task.h"
#include "task/tokenizer.h"
#include "tests/toy_gpt.h"
#include "tests/train_on.h"

namespace autoresearch {
namespace {

struct Variant {
  int64_t seq_len, width, heads, depth, window;
  double rate;
  bool bfloat16;
};

std::vector<Variant> variants() {
  const std::vector<Variant> shapes = {
      {64, 32, 2, 1, 32, 0.01, false},   {64, 64, 4, 2, 64, 1, false},
      {100, 48, 3, 1, 7, 0.01, false},   {128, 64, 2, 2, 32, 1, false},
      {256, 32, 1, 1, 256, 0.01, false}, {256, 64, 4, 2, 1, 1, false},
      {33, 96, 6, 3, 16, 0.01, false},   {512, 64, 2, 1, 128, 1, false},
      {96, 128, 8, 2, 48, 0.01, false},  {2048, 32, 2, 1, 512, 1, false}};
  std::vector<Variant> result = shapes;
  for (Variant variant : shapes) {
    variant.bfloat16 = true;
    result.push_back(variant);
  }
  return result;
}

// Plain descent on random tokens: enough for weights that no generator drew.
void train(ToyGpt& model, double rate) {
  std::vector<at::Tensor> weights = {model.head};
  for (const auto& layer : model.layers) weights.insert(weights.end(), layer.begin(), layer.end());
  for (at::Tensor& weight : weights) weight.set_requires_grad(true);
  for (int step = 0; step < 3; step++) {
    const at::Tensor tokens = at::randint(0, model.vocab, {2, model.seq_len + 1}, at::kLong);
    const at::Tensor logits = model(tokens.narrow(1, 0, model.seq_len)).flatten(0, 1);
    at::cross_entropy_loss(logits, tokens.narrow(1, 1, model.seq_len).flatten()).backward();
    for (at::Tensor& weight : weights) {
      weight.set_requires_grad(false).sub_(weight.grad(), rate);
      weight.mutable_grad().reset();
      weight.set_requires_grad(step < 2);
    }
  }
}

// A task of random tokens with 72 rows.
fs::path make_task(const fs::path& dir, int64_t seq_len) {
  constexpr int64_t kRows = 72;
  const Tokenizer tokenizer = train_on({"abab abab ababab"}, Tokenizer::kMinVocab + 2);
  fs::create_directories(dir / "heldout");
  tokenizer.save(dir / "tokenizer.tiktoken");
  TaskInfo info;
  info.name = "honest", info.vocab_size = tokenizer.vocab_size(), info.bos = tokenizer.bos();
  info.seq_len = seq_len, info.val.rows = kRows, info.test.rows = kRows;
  std::mt19937 random(5);
  std::string tokens;
  for (int64_t i = 0; i < kRows * (seq_len + 1); i++) {
    const auto token = static_cast<uint16_t>(random() % static_cast<uint64_t>(info.vocab_size));
    tokens.append(reinterpret_cast<const char*>(&token), sizeof token);
  }
  for (const char* split : {"val.bin", "test.bin"}) write_file(dir / "heldout" / split, tokens);
  write_file(dir / "task.json", to_json(info));
  return dir;
}

// False alarms in so many scorings.
int alarms_of(const Variant& variant, int64_t scorings, const fs::path& dir) {
  const fs::path task = make_task(dir, variant.seq_len);
  ToyGpt model(Tokenizer::kMinVocab + 2, variant.seq_len, variant.width, variant.heads,
               variant.depth);
  model.window = variant.window;
  model.autocast = variant.bfloat16;
  train(model, variant.rate);
  save_sealed(trace([&](at::Tensor ids) { return model(ids); },
                    scoring_rows_on_cpu(variant.seq_len), variant.seq_len, model.vocab, at::kCPU),
              dir / "model");
  int alarms = 0;
  for (int64_t i = 0; i < scorings; i++) try {
      score(dir / "model", task,
            {.program = BUILD_DIR "/score", .sandboxed = false, .full = i % 5 == 4});
    } catch (const Error& error) {
      std::printf("  %s\n", error.what());
      alarms++;
    }
  return alarms;
}

}  // namespace
}  // namespace autoresearch

int main(int argc, char** argv) {
  using namespace autoresearch;
  const int64_t scorings = argc > 1 ? std::atoll(argv[1]) : 1000;
  char name[] = "/tmp/honest_XXXXXX";
  const fs::path dir = mkdtemp(name);
  int64_t done = 0, alarms = 0;
  std::printf("   T  width  heads  depth  window  rate  precision  scorings  false alarms\n");
  for (const Variant& variant : variants()) {
    const int64_t each = std::max<int64_t>(1, scorings / 20);
    const int found = alarms_of(variant, each, dir);
    std::printf("%4lld  %5lld  %5lld  %5lld  %6lld  %4g  %-9s  %8lld  %12d\n",
                static_cast<long long>(variant.seq_len), static_cast<long long>(variant.width),
                static_cast<long long>(variant.heads), static_cast<long long>(variant.depth),
                static_cast<long long>(variant.window), variant.rate,
                variant.bfloat16 ? "bfloat16" : "float32", static_cast<long long>(each), found);
    std::fflush(stdout);
    done += each, alarms += found;
  }
  fs::remove_all(dir);
  std::printf("---\n%lld scorings, %lld false alarms\n", static_cast<long long>(done),
              static_cast<long long>(alarms));
  return alarms == 0 ? 0 : 1;
}
