// train.cpp against upstream's own results (tests/data/golden.json, made by bench/golden.py),
// and its behaviour when memory runs out. The harness is replaced by a Run that hands out fixed
// rows.
#include <ATen/Parallel.h>
#include <c10/core/CPUAllocator.h>
#include <gtest/gtest.h>

#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>

#include "harness/harness.h"
#include "kernels/fused_check.h"

// ------------------------------------------------------------------------------------------------
// A Run without files, clock or threads, which takes the real one's place in train.cpp

namespace autoresearch {

class FakeRun {
 public:
  const Task& task() const { return task_; }
  const Device& device() const { return device_; }
  void describe(std::vector<Fact> facts) {
    for (auto& [key, value] : facts) record[key] = std::move(value);
  }
  void model(std::function<at::Tensor(at::Tensor)> logits) { handed_over = std::move(logits); }
  bool next_step() {
    step_row_ = next_row_;
    return ++step_ < budget_steps;
  }
  Batch batch(int64_t rows) {
    const at::Tensor all = rows_of_step ? rows_of_step(step_).narrow(0, next_row_ - step_row_, rows)
                                        : regular_rows(rows);
    next_row_ += rows;
    return {all.narrow(1, 0, seq_len), all.narrow(1, 1, seq_len), 1};
  }
  void phase(const char* name) { phases.push_back(name); }
  void rewind_step() {
    next_row_ = step_row_;
    rewound.push_back(step_);
  }
  double progress() const { return static_cast<double>(step_) / budget_steps; }
  int64_t step() const { return step_; }
  void log_loss(at::Tensor loss) { losses.push_back(loss.item<double>()); }
  int finish() { return kept(*this); }
  static bool out_of_memory(const std::exception& error) {
    return autoresearch::Run::out_of_memory(error);
  }

  int64_t handed_out() const { return next_row_; }  // rows

  std::vector<std::string> phases;
  std::vector<int64_t> rewound;  // steps
  std::vector<double> losses;
  std::map<std::string, decltype(Fact::second)> record;
  std::function<at::Tensor(at::Tensor)> handed_over;

  static inline int64_t seq_len = 8, budget_steps = 3;
  static inline std::function<at::Tensor(int64_t step)> rows_of_step;  // all that it may ask for
  static inline std::function<int(const FakeRun&)> kept;               // sees the finished run

 private:
  at::Tensor regular_rows(int64_t rows) const {
    const at::Tensor start = at::arange(next_row_, next_row_ + rows).unsqueeze(1) * 1009;
    return (start + at::arange(seq_len + 1)).mul(31).remainder(48);
  }

  int64_t step_ = -1, next_row_ = 0, step_row_ = 0;
  Task task_{"test", 48, seq_len, 1.0};
  Device device_;
};

int run_fake(int, char**, int (*program)(FakeRun&)) {
  FakeRun run;
  return program(run);
}

}  // namespace autoresearch

#define Run FakeRun
#define run_main run_fake
#define main train_main
#include "train.cpp"  // NOLINT: all of it is local to the file
#undef main
#undef run_main
#undef Run

namespace {

// Everything here is small: threads would only wait for each other.
const bool single_threaded = (at::set_num_threads(1), true);

// ------------------------------------------------------------------------------------------------
// Upstream's results

const nlohmann::json& golden() {
  static const auto json =
      nlohmann::json::parse(std::ifstream(SOURCE_DIR "/tests/data/golden.json"));
  return json;
}

// The same numbers as `hashed` in bench/golden.py: uniform in [-bound, bound).
Tensor hashed(at::IntArrayRef shape, int64_t seed, double bound) {
  Tensor values = at::empty(shape);
  for (int64_t i = 0; i < values.numel(); ++i) {
    uint32_t x = static_cast<uint32_t>(i + 1000003 * (seed + 1)) * 2654435761u;
    x ^= x >> 16;
    x *= 2246822519u;
    x ^= x >> 13;
    values.mutable_data_ptr<float>()[i] = static_cast<float>((x / 2147483648.0 - 1) * bound);
  }
  return values;
}

Tensor golden_tensor(const nlohmann::json& numbers) {
  const auto values = numbers.get<std::vector<double>>();
  return at::tensor(values, at::kDouble);
}

double relative_difference(const Tensor& actual, const Tensor& expected) {
  const Tensor a = actual.detach().to(at::kDouble).flatten(), e = expected.to(at::kDouble);
  return ((a - e).norm() / e.norm()).item<double>();
}

struct Named {
  std::string name;
  Tensor weight;
  std::function<Tensor()> grad;
};

// Parameters named and in order as in bench/golden.py.
std::vector<Named> named_parameters(const Gpt& gpt) {
  std::vector<Named> named;
  const auto add = [&](const std::string& name, const Tensor& w) {
    if (w.defined()) named.push_back({name, w, [w] { return w.grad(); }});
  };
  add("token_table", gpt.token_table);
  add("head", gpt.head);
  add("resid_scale", gpt.resid_scale);
  add("x0_scale", gpt.x0_scale);
  for (size_t i = 0; i < gpt.layers.size(); ++i) {
    const Layer& l = gpt.layers[i];
    const std::string layer = std::to_string(i) + ".";
    for (int64_t part = 0; part < 3; ++part) {
      named.push_back({layer + "qkv"[part], l.qkv.detach()[part],
                       [w = l.qkv, part] { return w.grad()[part]; }});
    }
    add(layer + "attn_out", l.attn_out);
    add(layer + "mlp_in", l.mlp_in);
    add(layer + "mlp_out", l.mlp_out);
    add(layer + "value_table", l.value_table);
    add(layer + "gate", l.gate);
  }
  return named;
}

// Hashed weights are within these, as in bench/golden.py: one set for a single pass, one to train.
using Bounds = std::map<std::string, double>;
const Bounds kBounds{{"token_table", 1.0}, {"head", 0.2},        {"resid_scale", 1.0},
                     {"x0_scale", 1.0},    {"q", 0.2},           {"k", 0.2},
                     {"v", 0.2},           {"attn_out", 0.2},    {"mlp_in", 0.2},
                     {"mlp_out", 0.2},     {"value_table", 0.5}, {"gate", 1.0}};
const double kInitial = std::sqrt(3.0 / 64);
const Bounds kTrainingBounds{{"token_table", std::sqrt(3.0)},
                             {"head", 0.1},
                             {"attn_out", 0.05},
                             {"mlp_out", 0.05},
                             {"gate", 0.1},
                             {"q", kInitial},
                             {"k", kInitial},
                             {"v", kInitial},
                             {"mlp_in", kInitial},
                             {"value_table", kInitial}};

// What has no bound keeps its initial weights.
void fill(const Gpt& gpt, const Bounds& bounds = kBounds) {
  at::NoGradGuard no_grad;
  const auto named = named_parameters(gpt);
  for (size_t i = 0; i < named.size(); ++i) {
    const auto& [name, weight, grad] = named[i];
    const auto bound = bounds.find(name.substr(name.find('.') + 1));
    if (bound == bounds.end()) continue;
    Tensor(weight).copy_(hashed(weight.sizes(), static_cast<int64_t>(i), bound->second));
  }
}

// The tables in float32, as what they are in bfloat16.
void widen_tables(Gpt& gpt) {
  const auto widen = [](Tensor& t) {
    if (t.defined()) t = t.detach().to(at::kFloat).requires_grad_();
  };
  widen(gpt.token_table);
  for (Layer& layer : gpt.layers) widen(layer.value_table);
}

Config golden_config() {
  Config c;
  c.vocab_size = 48;
  c.seq_len = 24;
  c.depth = 3;
  c.heads = 2;
  c.head_dim = 32;
  c.width = 64;
  c.total_rows = c.micro_rows = 2;
  return c;
}

Tensor golden_ids() { return at::arange(2 * 25).mul(31).remainder(48).view({2, 25}); }

double fact(const std::vector<Fact>& facts, const std::string& key) {
  for (const auto& [name, value] : facts) {
    if (name != key) continue;
    const auto* whole = std::get_if<int64_t>(&value);
    return whole ? static_cast<double>(*whole) : std::get<double>(value);
  }
  ADD_FAILURE() << "no fact " << key;
  return 0;
}

TEST(Model, TheGpuPresetHasUpstreamsSizeAndArithmetic) {
  const Task task{"climbmix", 8192, 2048, 300};
  const Device device{at::Device(at::kCUDA, 0), "NVIDIA H100", 80, 989.5e12, true};
  const Config config = configure(task, device);
  const Gpt gpt(config, at::kMeta);
  const auto record = facts(gpt);
  EXPECT_EQ(fact(record, "parameters"), golden()["parameters"].get<double>());
  EXPECT_EQ(fact(record, "parameters"), 50332176);
  EXPECT_EQ(fact(record, "flops_per_token"), golden()["flops_per_token"].get<double>());
  EXPECT_NEAR(fact(record, "flops_per_token"), 239.08e6, 5e3);
  EXPECT_EQ(config.total_rows, 256);
  EXPECT_EQ(config.micro_rows, 128);
  EXPECT_NEAR(fact(record, "lr_head"), 0.004 / std::sqrt(512 / 768.0), 1e-12);
}

Config config_on(const char* name, double memory_gb, double peak_tflops, int capability,
                 const Task& task = {"climbmix", 8192, 2048, 300}) {
  return configure(
      task, {at::Device(at::kCUDA, 0), name, memory_gb, peak_tflops * 1e12, capability >= 80});
}

TEST(Model, SmallerGpusGetSmallerPieces) {
  const Config large = config_on("NVIDIA A100", 42, 312, 80);
  const Config medium = config_on("RTX 4090", 25, 165, 89);
  const Config small = config_on("RTX 3060 Ti", 8, 32, 86);
  EXPECT_EQ(large.total_rows, 256);
  for (const auto& [more, less] : {std::pair{large, medium}, std::pair{medium, small}}) {
    EXPECT_GT(more.depth, less.depth);
    EXPECT_GT(more.width, less.width);
    EXPECT_GT(more.total_rows, less.total_rows);
    EXPECT_GT(more.micro_rows, less.micro_rows);
  }
}

struct Card {
  const char* name;
  double memory_gb, peak_tflops;
  int capability;
  double reached;  // TFLOP/s: half of the data sheet's, more than such small models reach
};
const Card kCards[] = {
    {"NVIDIA H200", 151, 989.5, 90, 495}, {"NVIDIA H100", 85, 989.5, 90, 495},
    {"NVIDIA A100", 42, 312, 80, 156},    {"NVIDIA A40", 48, 149.7, 86, 75},
    {"RTX 4090", 25, 165, 89, 83},        {"RTX 3090", 25, 71, 86, 36},
    {"RTX 4060 Ti", 17, 44.1, 89, 22},    {"RTX 3060", 12.6, 25.5, 86, 13},
    {"RTX 3060 Ti", 8, 32.4, 86, 16},     {"Tesla T4", 15.8, 65, 75, 4}};  // in float32: 8.1

TEST(Model, EveryGpuTrainsHundredsOfStepsInEveryBudget) {
  for (const double budget : {5, 11, 60, 300, 3600})
    for (const auto& [vocab, T] : {std::pair{1024, 256}, {8192, 2048}, {32768, 1024}})
      for (const Card& card : kCards) {
        const Config c = config_on(card.name, card.memory_gb, card.peak_tflops, card.capability,
                                   {"task", vocab, T, budget});
        const double flops =
            flops_per_token(Gpt(c, at::kMeta)) * static_cast<double>(c.total_rows * c.seq_len);
        EXPECT_GT(budget * 1e12 * card.reached / flops, 150)
            << card.name << ", " << budget << " s, T " << T << ": " << c.total_rows << " rows";
        EXPECT_LE(c.micro_rows, c.total_rows);
      }
}

TEST(Model, AShortBudgetGetsFewerTokensAStepAndNoneGetsMoreThanFiveMinutes) {
  const auto rows = [](double budget) {
    return config_on("NVIDIA H100", 85, 989.5, 90, {"demo", 1024, 256, budget}).total_rows;
  };
  EXPECT_EQ(rows(3600), 2048);
  EXPECT_EQ(rows(300), 2048);
  EXPECT_EQ(rows(150), 1024);
  EXPECT_EQ(rows(11), 75);
  EXPECT_EQ(rows(5), 34);
  EXPECT_EQ(rows(0.01), 1);
}

TEST(Model, AMicroBatchHasAsManyTokensWhateverTheRowsLength) {
  for (const int64_t T : {64, 256, 2048, 8192}) {
    const Config c = config_on("NVIDIA H100", 85, 989.5, 90, {"task", 8192, T, 300});
    EXPECT_EQ(c.micro_rows * T, 262144);
    EXPECT_EQ(c.total_rows * T, 524288);
  }
  const Config long_rows = config_on("NVIDIA H100", 85, 989.5, 90, {"task", 8192, 1 << 20, 300});
  EXPECT_EQ(long_rows.micro_rows, 1);
}

TEST(Model, TheBudgetChangesNothingOnACpu) {
  for (const double budget : {5, 11, 3600}) {
    const Config c = configure({"demo", 1024, 256, budget}, Device());
    EXPECT_EQ(c.total_rows, 4);
    EXPECT_EQ(c.micro_rows, 4);
  }
}

TEST(Model, AnUnknownGpuIsJudgedByItsMemory) {
  EXPECT_EQ(config_on("GPU", 80, 0, 120).depth, config_on("NVIDIA H100", 80, 989.5, 90).depth);
  EXPECT_EQ(config_on("GPU", 24, 0, 120).depth, config_on("RTX 4090", 25, 165, 89).depth);
  EXPECT_EQ(config_on("GPU", 8, 0, 120).depth, config_on("RTX 3060 Ti", 8, 32, 86).depth);
}

TEST(Model, ComputesInBfloat16OnlyWhereThatIsNative) {
  EXPECT_EQ(config_on("NVIDIA A100", 42, 312, 80).compute_type, at::kBFloat16);
  EXPECT_EQ(config_on("Tesla T4", 15.8, 65, 75).compute_type, at::kFloat);
  Device cpu;
  EXPECT_EQ(configure({"demo", 1024, 256, 11}, cpu).compute_type, at::kFloat);
  cpu.bfloat16 = true;
  EXPECT_EQ(configure({"demo", 1024, 256, 11}, cpu).compute_type, at::kBFloat16);
}

// Averages over models of several seeds, as in bench/golden.py's `initial_case`. By chance two such
// deviations differ by 0.6 %, the extremes by 4 % where numbers are normal, 0.1 % where uniform.
TEST(Model, InitialWeightsAreDistributedAsUpstreams) {
  std::map<std::string, std::vector<Tensor>> samples;
  for (uint64_t seed = 0; seed < 8; ++seed) {
    at::manual_seed(seed);
    for (const auto& [name, weight, grad] : named_parameters(Gpt(golden_config(), at::kCPU))) {
      samples[name].push_back(weight.detach().to(at::kDouble).flatten());
    }
  }
  ASSERT_EQ(samples.size(), golden()["initial"].size());
  for (const auto& [name, weights] : samples) {
    const auto expect = [&](const char* key, const Tensor& actual, double tolerance) {
      const double expected = golden()["initial"][name][key];
      EXPECT_NEAR(actual.mean().item<double>(), expected, tolerance * std::abs(expected))
          << key << " of " << name;
    };
    const bool is_constant = golden()["initial"][name]["std"] == 0.0;
    const bool is_normal = name == "token_table" || name == "head";
    const double extremes = is_constant ? 0 : is_normal ? 0.25 : 0.01;
    const Tensor w = at::stack(weights);
    expect("std", w.std({1}, /*unbiased=*/false), 0.04);
    expect("smallest", w.amin({1}), extremes);
    expect("largest", w.amax({1}), extremes);
  }
}

void expect_upstreams_pass(const Gpt& gpt, double table_tolerance) {
  const auto& expected = golden()["model"];
  const Tensor ids = golden_ids();
  const Tensor logits = gpt.logits(ids.narrow(1, 0, 24));
  EXPECT_LT((logits.flatten() - golden_tensor(expected["logits"])).abs().max().item<double>(),
            1e-4);
  const Tensor loss = gpt.loss(gpt.features(ids.narrow(1, 0, 24)), ids.narrow(1, 1, 24));
  EXPECT_NEAR(loss.item<double>(), expected["loss"].get<double>(), 1e-5);
  loss.backward();
  const auto named = named_parameters(gpt);
  for (size_t i = 0; i < named.size(); ++i) {
    const auto& [name, weight, grad_of] = named[i];
    const Tensor grad = grad_of().to(at::kFloat);
    const double norm = expected["gradients"][name]["norm"];
    const double tolerance = name.ends_with("table") ? table_tolerance : 1e-3;
    EXPECT_NEAR(grad.norm().item<double>(), norm, tolerance * norm) << name;
    const Tensor products = grad * hashed(weight.sizes(), 100 + i, 1.0);
    const Tensor rows = weight.dim() > 1 ? products.sum(-1) : products;
    const Tensor expected_rows = golden_tensor(expected["gradients"][name]["rows"]);
    EXPECT_LT(relative_difference(rows, expected_rows), tolerance) << name;
    EXPECT_LT((rows - expected_rows).abs().max().item<double>(),
              tolerance * expected_rows.abs().max().item<double>())
        << name;
  }
}

TEST(Model, LogitsLossAndGradientsAreUpstreams) {
  Gpt gpt(golden_config(), at::kCPU);
  fill(gpt);
  expect_upstreams_pass(gpt, 1e-2);  // tables in bfloat16, and so are their gradients
}

TEST(Model, TheTablesGradientsAreUpstreamsWhereNothingIsRounded) {
  Gpt gpt(golden_config(), at::kCPU);
  fill(gpt);
  widen_tables(gpt);
  expect_upstreams_pass(gpt, 1e-3);
}

TEST(Model, RunsInBfloat16UnderAutocastAsOnAGpu) {
  Config config = golden_config();
  config.compute_type = at::kBFloat16;
  Gpt gpt(config, at::kCPU);
  fill(gpt);
  Tensor logits;
  {
    Autocast autocast(at::kCPU, config.compute_type);
    logits = gpt.logits(golden_ids().narrow(1, 0, 24));
  }
  EXPECT_EQ(logits.scalar_type(), at::kFloat);
  EXPECT_LT(relative_difference(logits, golden_tensor(golden()["model"]["logits"])), 0.03);
}

// By name, of a model of hashed weights that computes in `type`.
std::map<std::string, Tensor> gradients_in(at::ScalarType type) {
  Config config = golden_config();
  config.compute_type = type;
  Gpt gpt(config, at::kCPU);
  fill(gpt);
  const Tensor ids = golden_ids();
  Tensor loss;
  {
    Autocast autocast(at::kCPU, type);
    loss = gpt.loss(gpt.features(ids.narrow(1, 0, 24)), ids.narrow(1, 1, 24));
  }
  loss.backward();
  std::map<std::string, Tensor> grads;
  for (const auto& [name, weight, grad] : named_parameters(gpt)) grads[name] = grad().flatten();
  return grads;
}

TEST(Model, GradientsInBfloat16AreThoseInFloat32ButForRoundings) {
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16})
    EXPECT_EQ(trusted_on(at::kCPU, type).warning, "");  // else twins would hide what is wrong
  const auto exact = gradients_in(at::kFloat), rounded = gradients_in(at::kBFloat16);
  for (const auto& [name, grad] : rounded) {
    // Each of resid_scale's is a sum over the whole stream whose terms cancel.
    const double tolerance = name == "resid_scale" ? 0.3 : 0.05;
    EXPECT_LT(relative_difference(grad, exact.at(name)), tolerance) << name;
  }
}

TEST(Model, TheFrozenModelSharesMemoryAndFollowsTraining) {
  Gpt gpt(golden_config(), at::kCPU);
  fill(gpt);
  const Gpt frozen = gpt.frozen();
  {
    at::NoGradGuard no_grad;
    gpt.head.mul_(0.5);
  }
  EXPECT_FALSE(frozen.head.requires_grad());
  EXPECT_TRUE(gpt.head.requires_grad());
  const Tensor ids = golden_ids().narrow(1, 0, 24);
  EXPECT_TRUE(at::equal(frozen.logits(ids), gpt.logits(ids)));
}

// ------------------------------------------------------------------------------------------------
// The parts of the model, each by what it does to the logits

// A model of `depth` layers with hashed weights, without attention and MLPs: the tests add those.
Gpt bare_model(int64_t depth) {
  Config config = golden_config();
  config.depth = depth;
  Gpt gpt = Gpt(config, at::kCPU).frozen();
  fill(gpt);
  for (Layer& layer : gpt.layers) {
    layer.attn_out.zero_();
    layer.mlp_out.zero_();
  }
  return gpt;
}

Tensor normed(const Tensor& x) {
  return x / (x.square().mean(-1, /*keepdim=*/true) + std::numeric_limits<float>::epsilon()).sqrt();
}

Tensor embedded(const Gpt& gpt, const Tensor& ids) {
  return normed(gpt.token_table.index({ids}).to(at::kFloat));
}

// What the head makes of the last layer's output.
Tensor capped(const Gpt& gpt, const Tensor& x) {
  return 15 * at::tanh(at::matmul(normed(x), gpt.head.t()) / 15);
}

void expect_close(const Tensor& actual, const Tensor& expected) {
  EXPECT_LT((actual - expected).abs().max().item<double>(), 1e-4);
}

// With gradients, as in training, and without, as sealed: two paths through train.cpp, one result.
Tensor logits_of(const Gpt& gpt, const Tensor& ids) {
  Gpt trained = gpt;
  for (Tensor* p : trained.parameters()) *p = p->detach().requires_grad_();
  const Tensor logits = trained.logits(ids).detach();
  expect_close(gpt.logits(ids), logits);
  return logits;
}

// The last position whose logits change with the token at `position`.
int64_t reach(const Gpt& gpt, int64_t position) {
  const Tensor ids = golden_ids().narrow(1, 0, 24), other = ids.clone();
  other.select(1, position).add_(1).remainder_(48);
  const Tensor moved = (logits_of(gpt, ids) != logits_of(gpt, other)).any(-1).any(0);
  EXPECT_EQ(moved.narrow(0, 0, position).sum().item<int64_t>(), 0) << "the future is seen";
  return moved.nonzero().max().item<int64_t>();
}

TEST(Parts, ThreeLayersInFourSeeHalfTheSequenceAndTheLastOneAllOfIt) {
  const int64_t windows[] = {12, 12, 12, 24, 12, 24};
  for (int64_t i = 0; i < 6; ++i) {
    Gpt gpt = bare_model(6);
    Layer& layer = gpt.layers[static_cast<size_t>(i)];
    layer.attn_out = hashed(layer.attn_out.sizes(), 1, 0.2);
    for (const int64_t position : {0, 3, 20}) {
      EXPECT_EQ(reach(gpt, position), std::min<int64_t>(23, position + windows[i]))
          << "layer " << i << ", token " << position;
    }
  }
}

TEST(Parts, WithoutAttentionNoTokenSeesAnother) { EXPECT_EQ(reach(bare_model(3), 5), 5); }

TEST(Parts, EverySecondLayerEndingWithTheLastHasAValueEmbedding) {
  for (const int64_t depth : {1, 2, 3, 8}) {
    Config config = golden_config();
    config.depth = depth;
    const Gpt gpt(config, at::kMeta);
    for (int64_t i = 0; i < depth; ++i) {
      EXPECT_EQ(gpt.layers[static_cast<size_t>(i)].gate.defined(), (depth - 1 - i) % 2 == 0)
          << "layer " << i << " of " << depth;
    }
  }
}

// One token attends to itself alone, so attention returns its values, here the embedding's share.
TEST(Parts, AGateOf0AddsTheValueEmbeddingOnceAndOpenAndShutTwiceAndNot) {
  Gpt gpt = bare_model(1);
  Layer& layer = gpt.layers[0];
  layer.qkv.select(0, 2).zero_();
  layer.attn_out = at::eye(64);
  const Tensor ids = at::full({1, 1}, 7, at::kLong);
  const Tensor x = (gpt.resid_scale[0] + gpt.x0_scale[0]) * embedded(gpt, ids);
  const Tensor value = layer.value_table.index({ids}).to(at::kFloat);

  layer.gate.zero_();
  expect_close(logits_of(gpt, ids), capped(gpt, x + value));

  const Tensor steering = normed(x).flatten().narrow(0, 0, kGateChannels);
  layer.gate = at::stack({100 * steering, -100 * steering});  // of the two heads
  const Tensor open_and_shut = at::cat({at::full({32}, 2.0f), at::zeros({32})});
  expect_close(logits_of(gpt, ids), capped(gpt, x + open_and_shut * value));
}

TEST(Parts, EveryLayerWeighsTheStreamAndTheTokenEmbedding) {
  Gpt gpt = bare_model(3);
  gpt.resid_scale.copy_(at::tensor({0.7f, -0.4f, 1.3f}));
  gpt.x0_scale.copy_(at::tensor({0.5f, 0.9f, -0.2f}));
  const Tensor ids = golden_ids().narrow(1, 0, 24), x0 = embedded(gpt, ids);
  Tensor x = x0;
  for (size_t i = 0; i < 3; ++i) {
    Layer& layer = gpt.layers[i];
    layer.mlp_out = hashed(layer.mlp_out.sizes(), static_cast<int64_t>(i), 0.2);
    const auto n = static_cast<int64_t>(i);
    x = gpt.resid_scale[n] * x + gpt.x0_scale[n] * x0;
    const Tensor hidden = at::matmul(normed(x), layer.mlp_in.t()).clamp_min(0).square();
    x = x + at::matmul(hidden, layer.mlp_out.t());
  }
  expect_close(logits_of(gpt, ids), capped(gpt, x));

  gpt.resid_scale.select(0, 2).zero_();  // the last layer forgets what the others did
  const Tensor before = logits_of(gpt, ids);
  gpt.layers[0].mlp_out.zero_();
  EXPECT_TRUE(at::equal(before, logits_of(gpt, ids)));
}

TEST(Parts, LogitsStayWithinTheSoftcapAndSmallOnesPassUnchanged) {
  Gpt gpt = bare_model(1);
  const Tensor ids = golden_ids().narrow(1, 0, 24);
  gpt.head.mul_(1000);
  const Tensor large = logits_of(gpt, ids).abs();
  EXPECT_LE(large.max().item<double>(), 15);
  EXPECT_GT(large.mean().item<double>(), 14);
  gpt.head.mul_(1e-5);
  const Tensor small = logits_of(gpt, ids);
  gpt.head.mul_(2);
  EXPECT_LT(relative_difference(logits_of(gpt, ids), 2 * small.flatten()), 1e-4);
}

// ------------------------------------------------------------------------------------------------
// Optimizer

TEST(Optimizer, SchedulesAreUpstreams) {
  const std::vector<std::pair<double, int64_t>> points{
      {0.0, 0}, {0.3, 50}, {0.5, 299}, {0.75, 300}, {1.0, 1000}};
  for (size_t i = 0; i < points.size(); ++i) {
    const Schedule s = schedule(points[i].first, points[i].second);
    const auto& expected = golden()["schedule"][i];
    EXPECT_NEAR(s.lr_scale, expected[0].get<double>(), 1e-12) << i;
    EXPECT_NEAR(s.momentum, expected[1].get<double>(), 1e-12) << i;
    EXPECT_NEAR(s.weight_decay, expected[2].get<double>(), 1e-12) << i;
  }
}

// Three steps of Muon on two matrices, as in bench/golden.py's `muon_case`.
Tensor muon_case(int64_t rows, int64_t cols, at::ScalarType type) {
  std::vector<Tensor> weights;
  for (int64_t i = 0; i < 2; ++i) weights.push_back(hashed({rows, cols}, 200 + i, 0.1));
  Muon muon(weights, type);
  for (int64_t step = 0; step < 3; ++step) {
    for (int64_t i = 0; i < 2; ++i) {
      weights[i].mutable_grad() = hashed({rows, cols}, 300 + 10 * step + i, 0.01);
    }
    const auto update = muon.prepare(schedule(0.2 + 0.3 * step, step));
    cautious_step({update.step});
    muon.keep_moments(update);
  }
  return at::stack(weights);
}

TEST(Optimizer, MuonStepsAreUpstreams) {
  const std::vector<std::pair<int64_t, int64_t>> shapes{{16, 16}, {32, 8}, {8, 32}, {2, 32}};
  for (const auto& [rows, cols] : shapes) {
    const std::string key = std::to_string(rows) + "x" + std::to_string(cols);
    const Tensor start =
        at::stack({hashed({rows, cols}, 200, 0.1), hashed({rows, cols}, 201, 0.1)});
    const auto change = [&](const char* precision) {
      return golden_tensor(golden()[precision][key]) - start.flatten();
    };
    const Tensor exact = change("muon_float32");
    EXPECT_LT(relative_difference(muon_case(rows, cols, at::kFloat) - start, exact), 1e-5) << key;
    // In bfloat16 the order of roundings differs; it may not cost more than upstream's does.
    const double error = relative_difference(change("muon_bfloat16"), exact);
    const Tensor coarse = muon_case(rows, cols, at::kBFloat16) - start;
    EXPECT_LT(relative_difference(coarse, exact), 1.2 * error) << key;
  }
}

// Three steps of AdamW on one vector, as in bench/golden.py's `adamw_case`.
Tensor adamw_case(at::ScalarType type) {
  const Tensor weight = hashed({64}, 400, 1.0).to(type);
  AdamW adamw({weight}, {.lr = 0.05});
  for (int64_t step = 0; step < 3; ++step) {
    weight.mutable_grad() = hashed({64}, 500 + step, 0.01).to(type);
    adamw.step(schedule(0, step));
  }
  return weight;
}

TEST(Optimizer, AdamWStepsAreUpstreamsInFloat32AndForTablesInBfloat16) {
  EXPECT_LT(relative_difference(adamw_case(at::kFloat), golden_tensor(golden()["adamw_float32"])),
            1e-6);
  // A value on the edge between two bfloat16 numbers may fall to either side.
  EXPECT_LT(
      relative_difference(adamw_case(at::kBFloat16), golden_tensor(golden()["adamw_bfloat16"])),
      1e-3);
}

// The fact that names a parameter's learning rate.
std::string lr_fact(const std::string& parameter) {
  if (parameter.ends_with("table")) return "lr_embeddings";
  if (parameter == "head") return "lr_head";
  if (parameter == "resid_scale") return "lr_resid";
  return parameter == "x0_scale" ? "lr_x0" : "lr_matrices";
}

TEST(Optimizer, RecordsAndHasUpstreamsSettingsOfEveryParameter) {
  const Gpt gpt(golden_config(), at::kCPU);
  const auto record = facts(gpt);
  for (const auto& [name, weight, grad] : named_parameters(gpt)) {
    const auto& expected = golden()["settings"][name];
    EXPECT_NEAR(fact(record, lr_fact(name)), expected["lr"].get<double>(), 1e-12) << name;
    if (expected["kind"] == "muon") {
      EXPECT_EQ(kMuonBeta2, expected["beta2"].get<double>()) << name;
      EXPECT_EQ(kWeightDecay, expected["weight_decay"].get<double>()) << name;
    } else {
      EXPECT_EQ(name == "x0_scale" ? kX0Beta1 : kAdamBeta1, expected["betas"][0].get<double>());
      EXPECT_EQ(kAdamBeta2, expected["betas"][1].get<double>());
      EXPECT_EQ(kAdamEps, expected["eps"].get<double>());
    }
  }
}

// AdamW's `n`th step for gradients of 1 in the first step and of 0 from then on.
double adamw_change(const nlohmann::json& settings, int n) {
  const auto weight_of_first = [n](double beta) {
    return std::pow(beta, n - 1) * (1 - beta) / (1 - std::pow(beta, n));
  };
  return settings["lr"].get<double>() * weight_of_first(settings["betas"][0]) /
         std::sqrt(weight_of_first(settings["betas"][1]));
}

// Three steps tell rate and betas apart, whatever the record says of them.
TEST(Optimizer, StepsEveryParameterByUpstreamsSettings) {
  Gpt gpt(golden_config(), at::kCPU);
  fill(gpt);
  widen_tables(gpt);
  Optimizer optimizer(gpt);
  FakeRun run;
  const auto named = named_parameters(gpt);
  for (int n = 1; n <= 3; ++n) {
    std::vector<Tensor> before;
    for (const Named& p : named) before.push_back(p.weight.detach().clone());
    for (Tensor* p : gpt.parameters()) p->mutable_grad() = at::full_like(p->detach(), n == 1);
    optimizer.step(run, schedule(0, 0));
    for (size_t i = 0; i < named.size(); ++i) {
      const auto& settings = golden()["settings"][named[i].name];
      const Tensor change = before[i] - named[i].weight.detach();
      if (settings["kind"] == "muon") {  // spreads the rate over a matrix
        EXPECT_LT(change.abs().max().item<double>(), 0.5 * settings["lr"].get<double>())
            << named[i].name << ", step " << n;
      } else {
        const Tensor error = change - adamw_change(settings, n);
        EXPECT_LT(error.abs().max().item<double>(), 1e-6) << named[i].name << ", step " << n;
      }
    }
  }
}

// ------------------------------------------------------------------------------------------------
// Training

// The rows of a step, three tokens in four of them predictable, as `ids_of` in bench/golden.py.
Tensor ids_of(int64_t step) {
  const int64_t n = 16 * 25;
  const Tensor regular = at::arange(n).mul(31).add(17 * step).remainder(48);
  const Tensor noise = ((hashed({n}, 2000 + step, 1.0) + 1) * 24).to(at::kLong);
  const Tensor is_noise = hashed({n}, 1000 + step, 1.0).gt(0.5);
  return at::where(is_noise, noise, regular).view({16, 25});
}

class Training : public testing::Test {
 protected:
  void SetUp() override {
    FakeRun::seq_len = 24;
    FakeRun::budget_steps = static_cast<int64_t>(golden()["training"].size());
    FakeRun::rows_of_step = ids_of;
  }
  void TearDown() override {
    FakeRun::seq_len = 8;
    FakeRun::budget_steps = 3;
    FakeRun::rows_of_step = nullptr;
  }
};

TEST_F(Training, FiftyStepsHaveUpstreamsLosses) {
  for (const int64_t micro_rows : {16, 5}) {
    Config config = golden_config();
    config.total_rows = 16;
    config.micro_rows = micro_rows;
    Gpt gpt(config, at::kCPU);
    fill(gpt, kTrainingBounds);
    widen_tables(gpt);
    Optimizer optimizer(gpt);
    FakeRun run;
    while (run.next_step()) run.log_loss(train_step(run, gpt, optimizer));
    ASSERT_EQ(run.losses.size(), 50);
    for (size_t step = 0; step < 50; ++step) {
      EXPECT_NEAR(run.losses[step], golden()["training"][step].get<double>(), 1e-3)
          << "step " << step << " in micro-batches of " << micro_rows;
    }
  }
}

// ------------------------------------------------------------------------------------------------
// Memory

// Stands before ATen's CPU allocator; counts, and fails where it is told to.
class FailingAllocator : public c10::Allocator {
 public:
  FailingAllocator() : real_(c10::GetCPUAllocator()) { c10::SetCPUAllocator(this, 100); }
  ~FailingAllocator() override { c10::SetCPUAllocator(real_, 100); }

  c10::DataPtr allocate(size_t bytes) override {
    ++allocations_;
    if (fail_from_ <= allocations_ && allocations_ < fail_until_) {
      TORCH_CHECK(!as_cuda_, "CUDA error: out of memory (a test)");
      TORCH_CHECK_WITH(OutOfMemoryError, false, "no memory for ", bytes, " bytes (a test)");
    }
    return real_->allocate(bytes);
  }
  c10::DeleterFnPtr raw_deleter() const override { return real_->raw_deleter(); }
  void copy_data(void* to, const void* from, size_t bytes) const override {
    real_->copy_data(to, from, bytes);
  }

  // The `n`th allocation from now on fails, and `times` - 1 after it; `as_cuda`, as where CUDA gets
  // no memory for itself.
  void fail_at(int64_t n, int64_t times = 1, bool as_cuda = false) {
    as_cuda_ = as_cuda;
    allocations_ = 0;
    fail_from_ = n;
    fail_until_ = n + times;
  }

 private:
  c10::Allocator* real_;
  int64_t allocations_ = 0, fail_from_ = 0, fail_until_ = 0;
  bool as_cuda_ = false;
};

Config small_config() {
  Config config = golden_config();
  config.seq_len = FakeRun::seq_len;
  config.depth = 1;
  config.width = 32;
  config.head_dim = 16;
  return config;
}

// Three steps of two rows; before the second `arm` may change the model or make memory fail.
// Updates of `update_type`: of float64 they are ATen's matter, not the fused operations'.
std::vector<Tensor> train_three_steps(FakeRun& run, const std::function<void(Gpt&)>& arm,
                                      at::ScalarType update_type = at::kFloat) {
  const Config config = small_config();
  Gpt gpt(config, at::kCPU);
  fill(gpt);
  gpt.config.compute_type = update_type;
  Optimizer optimizer(gpt);
  gpt.config.compute_type = config.compute_type;
  while (run.next_step()) {
    if (run.step() == 1) arm(gpt);
    train_step(run, gpt, optimizer);
  }
  std::vector<Tensor> weights;
  for (Tensor* p : gpt.parameters()) weights.push_back(p->detach());
  return weights;
}

class Memory : public testing::TestWithParam<at::ScalarType> {};

TEST_P(Memory, AStepThatRunsOutAnywhereIsRepeatedWholeInHalfTheRows) {
  FakeRun halved_run;
  const auto halved = train_three_steps(
      halved_run, [](Gpt& gpt) { gpt.config.micro_rows = 1; }, GetParam());
  FailingAllocator allocator;
  int64_t failures = 0;
  for (int64_t at = 1;; ++at) {
    FakeRun run;
    const auto weights = train_three_steps(
        run, [&](Gpt&) { allocator.fail_at(at); }, GetParam());
    if (run.rewound != std::vector<int64_t>{1}) break;  // the second step fits, the third fails
    ++failures;
    EXPECT_EQ(std::get<int64_t>(run.record.at("micro_batch")), 1);
    for (size_t i = 0; i < weights.size(); ++i) {
      ASSERT_TRUE(at::equal(weights[i], halved[i])) << "allocation " << at << ", weight " << i;
    }
  }
  EXPECT_GT(failures, 150);  // forward pass, backward pass and optimizer
}

INSTANTIATE_TEST_SUITE_P(FusedAndATens, Memory, testing::Values(at::kFloat, at::kDouble),
                         [](const auto& info) { return at::toString(info.param); });

TEST(Memory, WhatCudaLacksForItselfIsAStepInHalfTheRowsToo) {
  FailingAllocator allocator;
  FakeRun run;
  train_three_steps(run, [&](Gpt&) { allocator.fail_at(40, 1, /*as_cuda=*/true); });
  EXPECT_EQ(run.rewound, std::vector<int64_t>{1});
}

TEST(WarmUp, FindsTheMicroBatchThatFitsAndLeavesTheModelAsItWas) {
  FailingAllocator allocator;
  for (const bool fits : {true, false}) {
    FakeRun run;
    Gpt gpt(small_config(), at::kCPU);
    Optimizer optimizer(gpt);
    std::vector<Tensor> before;
    for (Tensor* p : gpt.parameters()) before.push_back(p->detach().clone());
    if (!fits) allocator.fail_at(100);
    warm_up(run, gpt, optimizer);
    EXPECT_EQ(gpt.config.micro_rows, fits ? 2 : 1);
    EXPECT_EQ(run.record.contains("micro_batch"), !fits);
    const auto after = gpt.parameters();
    for (size_t i = 0; i < before.size(); ++i) {
      EXPECT_TRUE(at::equal(*after[i], before[i])) << i;
      EXPECT_FALSE(after[i]->grad().defined()) << i;
    }
    EXPECT_EQ(run.handed_out(), 0) << "made-up ids are none of the task's rows";
  }
}

TEST(MemoryOfOneRow, ASingleRowThatDoesNotFitEndsTheRun) {
  FailingAllocator allocator;
  FakeRun run;
  EXPECT_THROW(train_three_steps(run, [&](Gpt&) { allocator.fail_at(1, 1 << 30); }),
               c10::OutOfMemoryError);
  EXPECT_EQ(run.rewound.size(), 1);  // from two rows to one
}

// ------------------------------------------------------------------------------------------------
// The program

TEST(Program, TrainsAndHandsOverAModelThatHasLearned) {
  FakeRun::seq_len = 128;  // few rows, whatever the preset's batch is
  FakeRun::budget_steps = 6;
  bool finished = false;
  FakeRun::kept = [&](const FakeRun& run) {
    EXPECT_EQ(run.losses.size(), 6);
    const std::vector<std::string> step{"forward", "loss", "backward", "optimizer_matrices",
                                        "optimizer_tables"};
    EXPECT_TRUE(std::equal(step.begin(), step.end(), run.phases.end() - 5));
    EXPECT_NEAR(run.losses.front(), std::log(48.0), 0.05);
    EXPECT_LT(run.losses.back(), 0.8 * run.losses.front());
    const Tensor row = at::arange(129).mul(31).remainder(48).unsqueeze(0);
    const Tensor logits = run.handed_over(row.narrow(1, 0, 128));
    EXPECT_FALSE(logits.requires_grad());
    const Tensor targets = row.narrow(1, 1, 128).flatten();
    const Tensor loss = at::cross_entropy_loss(logits.flatten(0, 1), targets);
    EXPECT_LT(loss.item<double>(), 0.8 * run.losses.front());
    finished = true;
    return 0;
  };
  EXPECT_EQ(train_main(0, nullptr), 0);
  EXPECT_TRUE(finished);
}

}  // namespace
