// train.cpp: one GPT, one optimizer, one run of fixed length. The agent edits this file, nothing
// else.
//
//   cmake --build build --target train && build/train
//
// The model maps token ids (B, T) to logits (B, T, vocab_size); the harness scores it on rows that
// this program never sees. ATen does the arithmetic, kernels/kernels.h the fused operations; the
// harness gives data, clock and record.
#include <ATen/ATen.h>
#include <ATen/autocast_mode.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <string_view>
#include <vector>

#include "harness/harness.h"
#include "kernels/kernels.h"

namespace {

using at::Tensor;
using namespace autoresearch;

// ------------------------------------------------------------------------------------------------
// Hyperparameters

// Size on a large GPU (A100, H100) that has five minutes; preset_of shrinks it for smaller ones and
// for shorter budgets. Width is depth * aspect, rounded up to whole heads. A step's tokens are
// processed in micro-batches, which are halved when memory runs out.
constexpr int64_t kGpuDepth = 8;            // layers
constexpr int64_t kGpuAspect = 64;          // width per layer
constexpr int64_t kGpuHeadDim = 128;        // channels per attention head
constexpr int64_t kGpuTotalBatch = 524288;  // tokens per optimizer step
constexpr int64_t kGpuMicroBatch = 262144;  // tokens per forward pass

// Size on a CPU.
constexpr int64_t kCpuDepth = 2;          // layers
constexpr int64_t kCpuAspect = 32;        // width per layer
constexpr int64_t kCpuHeadDim = 32;       // channels per attention head
constexpr int64_t kCpuTotalBatch = 1024;  // tokens per optimizer step
constexpr int64_t kCpuMicroBatch = 1024;  // tokens per forward pass

// Architecture, everywhere.
constexpr std::string_view kWindowPattern = "SSSL";  // layers in turn: L all, S the nearest keys
constexpr double kShortWindow = 0.5;   // keys that an S layer sees, share of the sequence
constexpr int64_t kMlpRatio = 4;       // MLP width per model width
constexpr int64_t kGateChannels = 32;  // channels that steer the value embeddings' gate
constexpr double kRopeBase = 10000;    // longest wavelength of the rotary embedding
constexpr double kSoftcap = 15;        // logits stay within +-kSoftcap
constexpr double kHeadInit = 0.001;    // standard deviation of the output head
constexpr double kX0Init = 0.1;        // initial weight of the token embedding in each layer

// Learning rates. Those of embeddings and head are scaled by (width / 768)^-0.5.
constexpr double kMatrixLr = 0.04;    // Muon, weight matrices
constexpr double kEmbeddingLr = 0.6;  // AdamW, token and value embeddings
constexpr double kHeadLr = 0.004;     // AdamW, output head
constexpr double kResidLr = 0.005;    // AdamW, weight of the residual stream in each layer
constexpr double kX0Lr = 0.5;         // AdamW, weight of the token embedding in each layer

// Schedules, over the share of the time budget that is spent.
constexpr double kWarmup = 0.0;    // share with rising learning rates
constexpr double kWarmdown = 0.5;  // share with falling learning rates, at the end
constexpr double kFinalLr = 0.0;   // learning rates at the very end, share of the full ones

// Optimizer.
constexpr double kMomentumStart = 0.85;  // Muon, Nesterov momentum in step 0
constexpr double kMomentumEnd = 0.95;    // Muon, Nesterov momentum after the ramp
constexpr int64_t kMomentumRamp = 300;   // steps from the one to the other
constexpr double kMuonBeta2 = 0.95;      // Muon, decay of the second moment
constexpr double kWeightDecay = 0.2;     // Muon, cautious decay; falls to 0 over the budget
constexpr double kAdamBeta1 = 0.8;       // AdamW, decay of the first moment
constexpr double kAdamBeta2 = 0.95;      // AdamW, decay of the second moment
constexpr double kX0Beta1 = 0.96;        // AdamW, first moment of the weights of x0
constexpr double kAdamEps = 1e-10;       // AdamW, added to the root of the second moment

// ------------------------------------------------------------------------------------------------
// Configuration: the sizes for the device in hand

struct Config {
  int64_t vocab_size = 0, seq_len = 0;
  int64_t depth = 0, width = 0, head_dim = 0, heads = 0;
  int64_t total_rows = 0;                    // rows per optimizer step
  int64_t micro_rows = 0;                    // rows per forward pass
  at::ScalarType compute_type = at::kFloat;  // of matrix products and of the residual stream

  // Keys before its own that a query of this layer sees; the last layer always sees all.
  int64_t window(int64_t layer) const {
    const bool is_short = kWindowPattern[layer % kWindowPattern.size()] == 'S';
    return is_short && layer + 1 < depth ? std::llround(kShortWindow * seq_len) : seq_len;
  }
  // Every second layer mixes a value embedding into its values, the last one among them.
  bool has_value_embedding(int64_t layer) const { return layer % 2 == (depth - 1) % 2; }
};

struct Preset {
  int64_t depth, aspect, head_dim, total_batch, micro_batch;
};

// The best size for a budget grows with the root of the speed (Chinchilla, arXiv 2203.15556), and a
// run needs hundreds of steps, so in a shorter run a GPU uses fewer tokens per step.
Preset preset_of(const Device& device, double time_budget) {
  if (!device.is_cuda()) {
    return {kCpuDepth, kCpuAspect, kCpuHeadDim, kCpuTotalBatch, kCpuMicroBatch};
  }
  const auto has = [&](double memory_gb, double flops) {
    const bool fast = device.peak_flops == 0 || device.peak_flops >= flops;
    return device.bfloat16 && device.memory_gb >= memory_gb && fast;
  };
  constexpr double kGpuBudget = 300;  // seconds
  const double share = std::min(1.0, time_budget / kGpuBudget);
  Preset p{kGpuDepth, kGpuAspect, kGpuHeadDim, std::llround(kGpuTotalBatch * share),
           kGpuMicroBatch};
  if (has(40, 300e12)) return p;
  const bool medium = has(12, 60e12);  // RTX 3090 and 4090, A10, L4; small: RTX 3060, T4
  p.depth = medium ? (3 * p.depth + 2) / 4 : (p.depth + 1) / 2;
  p.total_batch /= medium ? 4 : 8;
  p.micro_batch /= medium ? 8 : 16;
  return p;
}

Config configure(const Task& task, const Device& device) {
  const Preset preset = preset_of(device, task.time_budget);
  Config c{.vocab_size = task.vocab_size, .seq_len = task.seq_len};
  c.depth = preset.depth;
  c.head_dim = preset.head_dim;
  c.heads = (preset.depth * preset.aspect + preset.head_dim - 1) / preset.head_dim;
  c.width = c.heads * c.head_dim;
  c.total_rows = std::max<int64_t>(1, preset.total_batch / c.seq_len);
  c.micro_rows = std::clamp<int64_t>(preset.micro_batch / c.seq_len, 1, c.total_rows);
  c.compute_type = device.bfloat16 ? at::kBFloat16 : at::kFloat;
  return c;
}

// ------------------------------------------------------------------------------------------------
// Model

// If `type` is bfloat16, matrix products run in it while this lives, on weights that stay
// float32.
class Autocast {
 public:
  Autocast(at::Device device, at::ScalarType type)
      : device_(device.type()), on_(type == at::kBFloat16) {
    if (!on_) return;
    at::autocast::set_autocast_dtype(device_, type);
    at::autocast::set_autocast_enabled(device_, true);
    at::autocast::increment_nesting();
  }
  ~Autocast() {
    if (!on_) return;
    // The cache holds bfloat16 copies of the weights, which are stale after the next update.
    if (at::autocast::decrement_nesting() == 0) at::autocast::clear_cache();
    at::autocast::set_autocast_enabled(device_, false);
  }
  Autocast(const Autocast&) = delete;
  Autocast& operator=(const Autocast&) = delete;

 private:
  at::DeviceType device_;
  bool on_;
};

struct Layer {
  Tensor qkv;              // (3, width, width): queries, keys, values, multiplied as one matrix
  Tensor attn_out;         // (width, width)
  Tensor mlp_in, mlp_out;  // (4 width, width), (width, 4 width)
  // In every second layer, else undefined:
  Tensor value_table;  // (vocab, width), bfloat16
  Tensor gate;         // (heads, kGateChannels)
};

struct Gpt {
  Config config;
  Tensor token_table;            // (vocab, width), bfloat16
  Tensor head;                   // (vocab, width)
  Tensor resid_scale, x0_scale;  // (depth)
  std::vector<Layer> layers;
  Rope rope;  // (T, head_dim / 2)

  Gpt(const Config& config, at::Device device);

  Tensor features(const Tensor& ids) const;  // (B, T) int64 -> (B, T, width)
  // Attention's heads side by side, before attn_out. x: (B, T, width), normed -> same.
  Tensor attention(const Layer& layer, const Tensor& x, const Ids& ids, int64_t window) const;

  // What is scored, and what is trained on: the mean cross-entropy of the same logits.
  Tensor logits(const Tensor& ids) const;  // (B, T) int64 -> (B, T, vocab) float32
  Tensor loss(const Tensor& features, const Tensor& targets) const;  // of features(ids)

  std::vector<Tensor*> parameters();
  std::vector<Tensor> matrices() const;  // what Muon trains: one matrix each, or several
  std::vector<Tensor> tables() const;    // token and value embeddings

  // The same weights, in the same memory, without gradients: what the harness traces and scores.
  Gpt frozen() const;
};

Gpt::Gpt(const Config& config, at::Device device) : config(config) {
  const at::TensorOptions options = at::device(device).dtype(at::kFloat);
  const int64_t V = config.vocab_size, C = config.width, hidden = kMlpRatio * C;
  const double bound = std::sqrt(3.0 / C);  // uniform in +-bound has standard deviation C^-0.5
  const auto uniform = [&](int64_t rows, int64_t cols) {
    return at::empty({rows, cols}, options).uniform_(-bound, bound);
  };

  token_table = at::randn({V, C}, options).to(at::kBFloat16);
  head = at::randn({V, C}, options) * kHeadInit;
  resid_scale = at::ones({config.depth}, options);
  x0_scale = at::full({config.depth}, kX0Init, options);
  for (int64_t i = 0; i < config.depth; ++i) {
    Layer layer;
    layer.qkv = uniform(3 * C, C).view({3, C, C});
    layer.mlp_in = uniform(hidden, C);
    // Every layer starts as the identity, every gate at 1.
    layer.attn_out = at::zeros({C, C}, options);
    layer.mlp_out = at::zeros({C, hidden}, options);
    if (config.has_value_embedding(i)) {
      layer.value_table = uniform(V, C).to(at::kBFloat16);
      layer.gate = at::zeros({config.heads, kGateChannels}, options);
    }
    layers.push_back(std::move(layer));
  }
  for (Tensor* p : parameters()) p->requires_grad_();

  const Tensor channel = at::arange(0, config.head_dim, 2, options) / config.head_dim;
  const Tensor angle = at::outer(at::arange(config.seq_len, options), at::pow(kRopeBase, -channel));
  rope.cos = angle.cos().to(at::kBFloat16).to(config.compute_type);
  rope.sin = angle.sin().to(at::kBFloat16).to(config.compute_type);
}

Tensor Gpt::features(const Tensor& token_ids) const {
  const auto resid = resid_scale.unbind(), skip = x0_scale.unbind();
  const Ids ids(token_ids);
  // Cast with the lookup: without autocast a float32 matrix refuses bfloat16 inputs.
  Tensor x0 = rms_norm(embedding(token_table, ids, rope.cos.scalar_type())), x = x0;
  for (int64_t i = 0; i < config.depth; ++i) {
    const Layer& layer = layers[i];
    Mixed mixed = mix_norm(x, x0, resid[i], skip[i]);
    const Tensor heads = attention(layer, mixed.normed, ids, config.window(i));
    Summed summed = add_norm(std::move(mixed.y), heads, layer.attn_out);
    const Tensor hidden = relu_squared(at::linear(summed.normed, layer.mlp_in));
    x = add_linear(std::move(summed.sum), hidden, layer.mlp_out);
    x0 = mixed.x0;
  }
  return rms_norm(x);
}

Tensor Gpt::attention(const Layer& layer, const Tensor& x, const Ids& ids, int64_t window) const {
  const int64_t B = x.size(0), T = x.size(1), H = config.heads, D = config.head_dim;
  const auto [qkv, gate] = linear_pair(x, layer.qkv.flatten(0, 1), layer.gate);
  ValueEmbedding value_embedding;
  if (gate.defined()) value_embedding = {layer.value_table, gate, ids};
  const auto [q, k, v] = rope_norm_gate(qkv.view({B, T, 3, H, D}), rope, value_embedding);
  return windowed_attention(q, k, v, window).view({B, T, H * D});
}

Tensor Gpt::logits(const Tensor& ids) const {
  const Tensor raw = at::linear(features(ids), head).to(at::kFloat);
  return kSoftcap * at::tanh(raw / kSoftcap);
}

Tensor Gpt::loss(const Tensor& features, const Tensor& targets) const {
  return softcap_cross_entropy(features, head, targets, kSoftcap);
}

std::vector<Tensor*> Gpt::parameters() {
  std::vector<Tensor*> all{&token_table, &head, &resid_scale, &x0_scale};
  for (Layer& l : layers) {
    all.insert(all.end(), {&l.qkv, &l.attn_out, &l.mlp_in, &l.mlp_out});
    if (l.value_table.defined()) all.insert(all.end(), {&l.value_table, &l.gate});
  }
  return all;
}

std::vector<Tensor> Gpt::matrices() const {
  std::vector<Tensor> all;
  for (const Layer& l : layers) {
    all.insert(all.end(), {l.qkv, l.attn_out, l.mlp_in, l.mlp_out});
    if (l.gate.defined()) all.push_back(l.gate);
  }
  return all;
}

std::vector<Tensor> Gpt::tables() const {
  std::vector<Tensor> all{token_table};
  for (const Layer& l : layers) {
    if (l.value_table.defined()) all.push_back(l.value_table);
  }
  return all;
}

Gpt Gpt::frozen() const {
  Gpt copy = *this;
  for (Tensor* p : copy.parameters()) *p = p->detach();
  return copy;
}

// ------------------------------------------------------------------------------------------------
// Optimizer: Muon for weight matrices, AdamW for everything else

// What changes from step to step.
struct Schedule {
  double lr_scale, momentum, weight_decay;
};

Schedule schedule(double progress, int64_t step) {
  const double ramp = std::min(1.0, static_cast<double>(step) / kMomentumRamp);
  Schedule s{.lr_scale = 1,
             .momentum = kMomentumStart + ramp * (kMomentumEnd - kMomentumStart),
             .weight_decay = kWeightDecay * (1 - progress)};
  if (progress < kWarmup) {
    s.lr_scale = progress / kWarmup;
  } else if (progress > 1 - kWarmdown) {
    s.lr_scale = kFinalLr + (1 - kFinalLr) * (1 - progress) / kWarmdown;
  }
  return s;
}

// Pulls all singular values of N matrices towards 1 (Polar Express, arXiv 2505.16932).
// G: (N, rows, cols) -> same.
Tensor orthogonalize(const Tensor& G) {
  static constexpr double kCoefficients[5][3] = {
      {8.156554524902461, -22.48329292557795, 15.878769915207462},
      {4.042929935166739, -2.808917465908714, 0.5000178451051316},
      {3.8916678022926607, -2.772484153217685, 0.5060648178503393},
      {3.285753657755655, -2.3681294933425376, 0.46449024233003106},
      {2.3465413258596377, -1.7097828382687081, 0.42323551169305323}};
  const bool tall = G.size(1) > G.size(2);  // the smaller of the two Gram matrices is cheaper
  Tensor X = G / (G.norm(2, {1, 2}, /*keepdim=*/true) * 1.02 + 1e-6);
  for (const auto& [a, b, c] : kCoefficients) {
    const Tensor A = tall ? at::bmm(X.mT(), X) : at::bmm(X, X.mT());
    const Tensor B = at::baddbmm(A, A, A, /*beta=*/b, /*alpha=*/c);
    X = tall ? at::baddbmm(X, X, B, a, 1) : at::baddbmm(X, B, X, a, 1);
  }
  return X;
}

// Muon (https://kellerjordan.github.io/posts/muon) with NorMuon's second moment (arXiv 2510.05491)
// and cautious weight decay (arXiv 2510.12402), for matrices of one shape, worked on as one stack.
class Muon {
 public:
  // `type` is what orthogonalization computes in; it bears bfloat16 well.
  Muon(std::vector<Tensor> weights, at::ScalarType type)
      : weights_(std::move(weights)), type_(type) {
    const Tensor& w = weights_[0];
    const int64_t rows = w.size(-2), cols = w.size(-1);
    reduced_ = rows >= cols ? 2 : 1;
    lr_ = kMatrixLr * std::sqrt(std::max(1.0, static_cast<double>(rows) / cols));
    momentum_ = at::zeros_like(stack(weights_));
    second_ = at::zeros_like(momentum_.select(reduced_, 0).unsqueeze(reduced_));
  }

  struct Update {
    CautiousStep step;        // what the weights lose
    Tensor momentum, second;  // the next moments
  };

  Update prepare(const Schedule& s) const {
    std::vector<Tensor> grads;
    for (const Tensor& w : weights_) grads.push_back(w.grad());
    const auto [momentum, update] = nesterov(stack(grads), momentum_, s.momentum, type_);
    const Tensor change = orthogonalize(update);
    // Rows (or columns) are evened out by their running mean square.
    const auto [second, scale] = normalize_update(change, second_, reduced_, rounded(kMuonBeta2));
    const double lr = rounded(lr_ * s.lr_scale);
    const double decay = rounded(lr * rounded(s.weight_decay));
    return {{weights_, change, scale, lr, decay}, momentum, second};
  }

  void keep_moments(const Update& update) {
    momentum_ = update.momentum;
    second_ = update.second;
  }

 private:
  // Scalars enter in the precision of the update, as in upstream.
  double rounded(double x) const {
    return type_ == at::kBFloat16 ? static_cast<float>(at::BFloat16(static_cast<float>(x))) : x;
  }

  // (rows, cols) and (n, rows, cols) -> (N, rows, cols)
  static Tensor stack(std::vector<Tensor> matrices) {
    for (Tensor& m : matrices) m = m.view({-1, m.size(-2), m.size(-1)});
    return at::cat(matrices);
  }

  std::vector<Tensor> weights_;  // (rows, cols), or several such
  at::ScalarType type_;
  int64_t reduced_;  // the dimension that second_ has lost
  double lr_;
  Tensor momentum_;  // (N, rows, cols)
  Tensor second_;    // (N, rows, 1), or (N, 1, cols) for wide matrices
};

// AdamW without decay for parameters of one dtype, which their moments share; the kernel computes
// in float32 whatever they are stored in, and needs no memory of its own.
class AdamW {
 public:
  struct Options {
    double lr, beta1 = kAdamBeta1, beta2 = kAdamBeta2;
  };

  AdamW(std::vector<Tensor> weights, Options options)
      : weights_(std::move(weights)), options_(options) {
    for (const Tensor& w : weights_) {
      first_.push_back(at::zeros_like(w));
      second_.push_back(at::zeros_like(w));
    }
    time_ = at::zeros({}, first_[0].options().dtype(at::kFloat));
  }

  void step(const Schedule& s) {
    std::vector<Tensor> grads;
    for (const Tensor& w : weights_) grads.push_back(w.grad());
    time_.fill_(static_cast<double>(++steps_));
    at::_fused_adamw_(weights_, grads, first_, second_, /*max_exp_avg_sqs=*/{},
                      std::vector(weights_.size(), time_), options_.lr * s.lr_scale, options_.beta1,
                      options_.beta2, /*weight_decay=*/0, kAdamEps,
                      /*amsgrad=*/false, /*maximize=*/false);
  }

 private:
  std::vector<Tensor> weights_, first_, second_;
  Options options_;
  Tensor time_;  // steps_, where the kernel reads it
  int64_t steps_ = 0;
};

// Embeddings and head learn at rates that were tuned at width 768.
double width_scale(const Config& config) { return 1 / std::sqrt(config.width / 768.0); }

class Optimizer {
 public:
  explicit Optimizer(Gpt& gpt) {
    const double scale = width_scale(gpt.config);
    adamw_.emplace_back(gpt.tables(), AdamW::Options{.lr = kEmbeddingLr * scale});
    adamw_.emplace_back(std::vector{gpt.head}, AdamW::Options{.lr = kHeadLr * scale});
    adamw_.emplace_back(std::vector{gpt.resid_scale}, AdamW::Options{.lr = kResidLr});
    adamw_.emplace_back(std::vector{gpt.x0_scale}, AdamW::Options{.lr = kX0Lr, .beta1 = kX0Beta1});
    std::map<std::pair<int64_t, int64_t>, std::vector<Tensor>> by_shape;
    for (const Tensor& w : gpt.matrices()) by_shape[{w.size(-2), w.size(-1)}].push_back(w);
    for (auto& [shape, weights] : by_shape) muon_.emplace_back(weights, gpt.config.compute_type);
    for (Tensor* p : gpt.parameters()) weights_.push_back(*p);
  }

  // What the matrices will lose, and their next moments.
  std::vector<Muon::Update> prepare(const Schedule& s) const {
    at::NoGradGuard no_grad;
    std::vector<Muon::Update> updates;
    for (const Muon& group : muon_) updates.push_back(group.prepare(s));
    return updates;
  }

  // Everything that needs memory is computed before the first weight is written, so that a step
  // which runs out of memory leaves weights and moments as they were and can be repeated.
  void step(Run& run, const Schedule& s) {
    at::NoGradGuard no_grad;
    run.phase("optimizer_matrices");
    const std::vector<Muon::Update> updates = prepare(s);
    std::vector<CautiousStep> steps;
    for (const Muon::Update& update : updates) steps.push_back(update.step);
    cautious_step(steps);
    for (size_t i = 0; i < muon_.size(); ++i) muon_[i].keep_moments(updates[i]);
    run.phase("optimizer_tables");
    for (AdamW& group : adamw_) group.step(s);
    clear_gradients();
  }

  void clear_gradients() {
    for (Tensor& w : weights_) w.mutable_grad().reset();
  }

 private:
  std::vector<Muon> muon_;
  std::vector<AdamW> adamw_;
  std::vector<Tensor> weights_;
};

// ------------------------------------------------------------------------------------------------
// Record

int64_t count(const std::vector<Tensor>& tensors) {
  int64_t n = 0;
  for (const Tensor& t : tensors) n += t.numel();
  return n;
}

// Forward and backward: six per weight that multiplies, twelve per channel and visible key.
double flops_per_token(const Gpt& gpt) {
  const Config& c = gpt.config;
  double flops = 6.0 * (count(gpt.matrices()) + gpt.head.numel());
  for (int64_t i = 0; i < c.depth; ++i) flops += 12.0 * c.width * std::min(c.window(i), c.seq_len);
  return flops;
}

std::vector<Fact> facts(const Gpt& gpt) {
  const Config& c = gpt.config;
  const int64_t tables = count(gpt.tables()), matrices = count(gpt.matrices());
  const int64_t scalars = gpt.resid_scale.numel() + gpt.x0_scale.numel();
  const double scale = width_scale(c);
  return {{"depth", c.depth},
          {"width", c.width},
          {"heads", c.heads},
          {"head_dim", c.head_dim},
          {"window_pattern", std::string(kWindowPattern)},
          {"total_batch", c.total_rows * c.seq_len},
          {"micro_batch", c.micro_rows},
          {"precision", std::string(at::toString(c.compute_type))},
          {"parameters", tables + gpt.head.numel() + matrices + scalars},
          {"parameters_embeddings", tables},
          {"parameters_head", gpt.head.numel()},
          {"parameters_matrices", matrices},
          {"parameters_scalars", scalars},
          {"flops_per_token", flops_per_token(gpt)},
          {"lr_matrices", kMatrixLr},
          {"lr_embeddings", kEmbeddingLr * scale},
          {"lr_head", kHeadLr * scale},
          {"lr_resid", kResidLr},
          {"lr_x0", kX0Lr}};
}

// ------------------------------------------------------------------------------------------------
// Training

using Rows = std::function<Batch(int64_t rows)>;

// Adds up the gradients of one step's mean loss in micro-batches of `rows`; returns that loss.
Tensor accumulate_gradients(Run& run, const Gpt& gpt, const Rows& rows) {
  const Config& c = gpt.config;
  const at::Device device = run.device().device;
  Tensor total = at::zeros({}, at::device(device).dtype(at::kFloat));
  for (int64_t done = 0; done < c.total_rows; done += c.micro_rows) {
    const Batch batch = rows(std::min(c.micro_rows, c.total_rows - done));
    run.phase("forward");
    Tensor loss;
    {
      Autocast autocast(device, c.compute_type);
      const Tensor features = gpt.features(batch.inputs);
      run.phase("loss");
      loss = gpt.loss(features, batch.targets);
    }
    loss = loss * (static_cast<double>(batch.inputs.size(0)) / c.total_rows);
    run.phase("backward");
    loss.backward();
    total += loss.detach();
  }
  return total;
}

// Does `step`, which changes no weight before it has all the memory that it needs. If memory runs
// out, repeats the step on the same rows in micro-batches of half the size.
void in_memory(Run& run, Gpt& gpt, Optimizer& optimizer, const std::function<void()>& step) {
  for (;;) {
    try {
      return step();
    } catch (const std::exception& error) {
      if (!Run::out_of_memory(error) || gpt.config.micro_rows == 1) throw;
    }
    // Unwinding has freed the graph, and the optimizer has changed nothing.
    gpt.config.micro_rows = (gpt.config.micro_rows + 1) / 2;
    optimizer.clear_gradients();
    run.rewind_step();
    run.describe({{"micro_batch", gpt.config.micro_rows}});
  }
}

// One optimizer step; returns its loss.
Tensor train_step(Run& run, Gpt& gpt, Optimizer& optimizer) {
  Tensor loss;
  in_memory(run, gpt, optimizer, [&] {
    loss = accumulate_gradients(run, gpt, [&](int64_t rows) { return run.batch(rows); });
    optimizer.step(run, schedule(run.progress(), run.step()));
  });
  return loss;
}

// Does all of a step but its end, on made-up ids, before the clock starts: a GPU loads each kernel
// when it is first used, and micro-batches that do not fit are found now.
void warm_up(Run& run, Gpt& gpt, Optimizer& optimizer) {
  const Config& c = gpt.config;
  const auto made_up = [&](int64_t rows) {
    const auto options = at::device(run.device().device).dtype(at::kLong);
    const Tensor ids = at::arange(rows * c.seq_len, options).remainder(c.vocab_size);
    return Batch{ids.view({rows, c.seq_len}), ids.view({rows, c.seq_len}), 1};
  };
  in_memory(run, gpt, optimizer, [&] {
    accumulate_gradients(run, gpt, made_up);
    optimizer.prepare(schedule(0, 0));
  });
  optimizer.clear_gradients();
}

int train(Run& run) {
  const at::Device device = run.device().device;
  Gpt gpt(configure(run.task(), run.device()), device);
  Optimizer optimizer(gpt);
  run.describe(facts(gpt));
  run.model([frozen = gpt.frozen(), device](Tensor ids) {
    at::NoGradGuard no_grad;
    Autocast autocast(device, frozen.config.compute_type);
    return frozen.logits(ids);
  });

  if (device.is_cuda()) warm_up(run, gpt, optimizer);
  while (run.next_step()) run.log_loss(train_step(run, gpt, optimizer));
  return run.finish();
}

}  // namespace

int main(int argc, char** argv) { return autoresearch::run_main(argc, argv, train); }
