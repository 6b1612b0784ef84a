#include "kernels/fused_cuda.h"

#include <bit>
#include <future>
#include <map>
#include <mutex>

#include "common/error.h"
#include "kernels/cuda_program.h"
#include "kernels/embedded.h"

namespace autoresearch {
namespace {

using at::Tensor;

constexpr int64_t kRows = kBlockWarps;  // of a block, a warp each
constexpr int64_t kChunk = 64;          // rows of a table's gradient that one block adds up at most
// Blocks that add up gradients of a scalar, each over many rows: some for every multiprocessor.
constexpr int64_t kSummingBlocks = 1024;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

bool is_bf16(at::ScalarType type) { return type == at::kBFloat16; }

// Elements that a thread moves at once: W in fused.cu.
int64_t pack(FusedVariant v) { return !v.wide ? 1 : is_bf16(v.activation) ? 8 : 4; }

// Wide if whole packs make up a row of `length` elements and every tensor begins at 16 bytes.
FusedVariant variant(at::ScalarType activation, int64_t length,
                     std::initializer_list<Tensor> tensors) {
  FusedVariant v{activation, true};
  v.wide = length % pack(v) == 0;
  for (const Tensor& t : tensors)
    v.wide &= !t.defined() || reinterpret_cast<uintptr_t>(t.data_ptr()) % 16 == 0;
  return v;
}

// Lanes that share a head: enough for one pack of each half, a power of two, at most a warp.
int64_t lanes_of(int64_t half, FusedVariant v) {
  const uint64_t packs = ceil_div(half, pack(v));
  return std::min<int64_t>(kWarp, std::bit_ceil(packs));
}

int64_t rows_of(const Tensor& table) { return table.defined() ? table.size(0) : 0; }

int64_t blocks_of_heads(int64_t heads, int64_t lanes) {
  check(heads * lanes < int64_t{1} << 32, "too many heads in one batch; use smaller micro-batches");
  return ceil_div(heads * lanes, kBlockThreads);
}

class FusedCuda : public Fused {
 public:
  explicit FusedCuda(FusedLauncher launcher) : launcher_(std::move(launcher)) {}

  // ---- RMS norm, alone and of a mixture

  Normed rms_norm(const Tensor& x) const override {
    const int64_t N = x.size(0), C = x.size(1);
    const Normed out{at::empty_like(x), at::empty({N}, x.options().dtype(at::kFloat))};
    launch(variant(x.scalar_type(), C, {x, out.normed}), "rms_norm", ceil_div(N, kRows),
           {x, out.normed, out.rstd, N, C});
    return out;
  }

  Tensor rms_norm_backward(const Tensor& grad, const Tensor& normed, const Tensor& rstd,
                           const Tensor& others) const override {
    const int64_t N = grad.size(0), C = grad.size(1);
    const Tensor grad_x = at::empty_like(grad);
    launch(variant(grad.scalar_type(), C, {grad, normed, others, grad_x}), "rms_norm_backward",
           ceil_div(N, kRows), {grad, normed, rstd, others, grad_x, N, C});
    return grad_x;
  }

  MixNormed mix_norm(const Tensor& x, const Tensor& x0, const Tensor& a,
                     const Tensor& b) const override {
    const int64_t N = x.size(0), C = x.size(1);
    const MixNormed out{at::empty_like(x), at::empty_like(x),
                        at::empty({N}, x.options().dtype(at::kFloat))};
    launch(variant(x.scalar_type(), C, {x, x0, out.y, out.normed}), "mix_norm", ceil_div(N, kRows),
           {x, x0, a, b, out.y, out.normed, out.rstd, N, C});
    return out;
  }

  MixNormGrads mix_norm_backward(const Tensor& grad_y, const Tensor& grad_normed, const Tensor& x,
                                 const Tensor& x0, const Tensor& normed, const Tensor& rstd,
                                 const Tensor& a, const Tensor& b,
                                 const Tensor& others) const override {
    const int64_t N = x.size(0), C = x.size(1);
    const at::TensorOptions floats = x.options().dtype(at::kFloat);
    const int64_t blocks = std::min(ceil_div(N, kRows), kSummingBlocks);
    const Tensor partial_a = at::empty({blocks}, floats), partial_b = at::empty({blocks}, floats);
    const MixNormGrads grads{at::empty_like(x), at::empty_like(x), at::empty({}, floats),
                             at::empty({}, floats)};
    const FusedVariant v = variant(x.scalar_type(), C,
                                   {grad_y, grad_normed, x, x0, normed, others, grads.x, grads.x0});
    launch(v, "mix_norm_backward", blocks,
           {grad_y, grad_normed, x, x0, normed, rstd, a, b, others, grads.x, grads.x0, partial_a,
            partial_b, N, C});
    launch(v, "sum_partials", 1, {partial_a, grads.a, blocks});
    launch(v, "sum_partials", 1, {partial_b, grads.b, blocks});
    return grads;
  }

  // ---- Heads

  Heads rope_norm_gate(const Tensor& qkv, const Rope& rope,
                       const ValueEmbedding& embedding) const override {
    const int64_t B = qkv.size(0), T = qkv.size(1), H = qkv.size(3), half = qkv.size(4) / 2;
    const auto heads = [&] { return at::empty({B, T, H, 2 * half}, qkv.options()); };
    const Heads out{heads(), heads(), heads(),
                    at::empty({B, T, 2, H}, qkv.options().dtype(at::kFloat))};
    const auto& [table, ids, gate] = embedding;
    const FusedVariant v =
        variant(qkv.scalar_type(), half, {qkv, rope.cos, rope.sin, table, out.q, out.k, out.v});
    const int64_t lanes = lanes_of(half, v);
    launch(v, "rope_norm_gate", blocks_of_heads(B * T * 3 * H, lanes),
           {qkv, rope.cos, rope.sin, table, table.defined() && is_bf16(table.scalar_type()),
            rows_of(table), ids, gate, out.q, out.k, out.v, out.rstd, B * T, T, H, half, lanes});
    return out;
  }

  HeadsGrads rope_norm_gate_backward(const Tensor& grad_q, const Tensor& grad_k,
                                     const Tensor& grad_v, const Tensor& q, const Tensor& k,
                                     const Tensor& rstd, const Rope& rope,
                                     const ValueEmbedding& embedding) const override {
    const int64_t B = q.size(0), T = q.size(1), H = q.size(2), half = q.size(3) / 2;
    const auto& [table, ids, gate] = embedding;
    HeadsGrads grads{at::empty({B, T, 3, H, 2 * half}, q.options()), {}, {}};
    if (table.defined()) {
      grads.embedded = at::empty({B, T, H * 2 * half}, q.options());
      grads.gate = at::empty({B, T, H}, q.options());
    }
    const FusedVariant v = variant(
        q.scalar_type(), half,
        {grad_q, grad_k, grad_v, q, k, rope.cos, rope.sin, table, grads.qkv, grads.embedded});
    const int64_t lanes = lanes_of(half, v);
    launch(v, "rope_norm_gate_backward", blocks_of_heads(B * T * 3 * H, lanes),
           {grad_q,
            grad_k,
            grad_v,
            q,
            k,
            rstd,
            rope.cos,
            rope.sin,
            table,
            table.defined() && is_bf16(table.scalar_type()),
            rows_of(table),
            ids,
            gate,
            grads.qkv,
            grads.embedded,
            grads.gate,
            B * T,
            T,
            H,
            half,
            lanes});
    return grads;
  }

  // ---- ReLU squared, loss, tables

  Tensor relu_squared(const Tensor& x) const override {
    const Tensor y = at::empty_like(x);
    const FusedVariant v = variant(x.scalar_type(), x.numel(), {x, y});
    launch(v, "relu_squared", ceil_div(x.numel(), kBlockThreads * pack(v)), {x, y, x.numel()});
    return y;
  }

  Tensor relu_squared_backward(const Tensor& grad, const Tensor& y) const override {
    const Tensor grad_x = at::empty_like(grad);
    const FusedVariant v = variant(y.scalar_type(), y.numel(), {grad, y, grad_x});
    launch(v, "relu_squared_backward", ceil_div(y.numel(), kBlockThreads * pack(v)),
           {grad, y, grad_x, y.numel()});
    return grad_x;
  }

  Tensor softcap_cross_entropy(Tensor& logits, const Tensor& targets, double cap,
                               double scale) const override {
    const int64_t N = logits.size(0), V = logits.size(1);
    const Tensor loss = at::empty({N}, logits.options().dtype(at::kFloat));
    const int64_t threads =
        std::min<int64_t>(kWarp * ceil_div(V, kLogitsInRegisters * kWarp), 1024);
    if (N > 0)
      launcher_(variant(logits.scalar_type(), V, {logits}), "softcap_cross_entropy", N, threads,
                {logits, targets, loss, V, cap, scale});
    return loss;
  }

  Tensor embedding_backward(const Tensor& grad, const Tensor& sorted_ids, const Tensor& order,
                            int64_t V, at::ScalarType type) const override {
    const int64_t N = grad.size(0), C = grad.size(1);
    const Tensor out = at::empty({V, C}, grad.options().dtype(type));
    const Tensor starts = at::empty({V + 1}, sorted_ids.options());
    const int64_t chunks = ceil_div(N, kChunk);
    const Tensor carried = at::empty({chunks, C}, grad.options().dtype(at::kFloat));
    const FusedVariant v = variant(grad.scalar_type(), C, {grad, out});
    const int64_t slabs = ceil_div(C, kWarp * pack(v));
    launch(v, "find_segments", ceil_div(N + 1, kBlockThreads), {sorted_ids, starts, N, V});
    launch(v, "carried_sums", chunks * slabs,
           {grad, sorted_ids, order, starts, carried, V, C, kChunk, slabs});
    launch(v, "embedding_backward", V * slabs,
           {grad, order, starts, carried, out, is_bf16(type), C, kChunk, slabs});
    return out;
  }

  // ---- Muon

  Momentum nesterov(const Tensor& grad, const Tensor& momentum, double mu,
                    at::ScalarType type) const override {
    const Momentum out{at::empty_like(grad), at::empty_like(grad, grad.options().dtype(type))};
    const FusedVariant v = variant(type, grad.numel(), {grad, momentum, out.momentum, out.update});
    launch(v, "nesterov", ceil_div(grad.numel(), kBlockThreads * pack(v)),
           {grad, momentum, mu, 1 - mu, out.momentum, out.update, grad.numel()});
    return out;
  }

  SecondMoment normalize_update(const Tensor& update, const Tensor& second, int64_t dim,
                                double beta2) const override {
    const int64_t S = update.size(0), R = update.size(1), C = update.size(2);
    const FusedVariant v = variant(update.scalar_type(), C, {update});
    const Tensor mean = at::empty_like(second);
    if (dim == 2) {
      launch(v, "row_mean_squares", ceil_div(S * R, kRows), {update, mean, S * R, C});
    } else {
      const int64_t slabs = ceil_div(C, kWarp);
      launch(v, "column_mean_squares", S * slabs, {update, mean, R, C, slabs});
    }
    const SecondMoment out{at::empty_like(second), at::empty_like(second)};
    launch(v, "second_moment", S,
           {mean, second, 1 - beta2, out.second, out.scale, dim == 2 ? R : C});
    return out;
  }

  void cautious_step(at::TensorList weights, const Tensor& update, const Tensor& scale, double lr,
                     double decay) const override {
    const int64_t R = update.size(1), C = update.size(2);
    const bool by_row = scale.size(1) == R && scale.size(2) == 1;
    int64_t first = 0;
    for (const Tensor& weight : weights) {
      const int64_t n = weight.numel();
      const FusedVariant v =
          variant(update.scalar_type(), C, {weight, update, by_row ? Tensor() : scale});
      launch(v, "cautious_step", ceil_div(n, kBlockThreads * pack(v)),
             {weight, update, scale, first, n, R, C, by_row, lr, decay});
      first += n;
    }
  }

 private:
  void launch(FusedVariant variant, const char* kernel, int64_t blocks,
              const std::vector<CudaKernel::Argument>& arguments) const {
    if (blocks > 0) launcher_(variant, kernel, blocks, kBlockThreads, arguments);
  }

  FusedLauncher launcher_;
};

// fused.cu in all its variants, which are compiled side by side.
class Programs {
 public:
  explicit Programs(at::Device device) : device_(device) {
    const int capability = cuda_capability(device);
    for (const FusedVariant& variant : kFusedVariants) {
      compiled_[variant] = std::async(std::launch::async, [=] {
        return compile_cuda(kFusedSource, "fused.cu", capability, variant.defines());
      });
    }
  }

  CudaProgram& get(FusedVariant variant) {
    const std::lock_guard lock(mutex_);
    std::unique_ptr<CudaProgram>& program = programs_[variant];
    if (!program) {
      program = std::make_unique<CudaProgram>(compiled_.at(variant).get(), "fused.cu", device_);
    }
    return *program;
  }

 private:
  at::Device device_;
  std::map<FusedVariant, std::shared_future<CompiledCuda>> compiled_;
  std::mutex mutex_;  // backward runs on a thread of its own
  std::map<FusedVariant, std::unique_ptr<CudaProgram>> programs_;
};

}  // namespace

std::unique_ptr<Fused> fused_cuda(FusedLauncher launcher) {
  return std::make_unique<FusedCuda>(std::move(launcher));
}

std::unique_ptr<Fused> fused_cuda(at::Device device) {
  return fused_cuda([programs = std::make_shared<Programs>(device)](
                        FusedVariant variant, const std::string& kernel, int64_t blocks,
                        int64_t threads, const std::vector<CudaKernel::Argument>& arguments) {
    programs->get(variant).launch(kernel, blocks, threads, arguments);
  });
}

std::vector<std::string> FusedVariant::defines() const {
  check(activation == at::kFloat || is_bf16(activation),
        "fused operations compute on float32 and bfloat16 only");
  return {std::string("ACTIVATION=") + (is_bf16(activation) ? "bf16" : "float"),
          "WIDE=" + std::to_string(wide)};
}

}  // namespace autoresearch
