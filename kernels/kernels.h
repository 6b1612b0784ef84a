// Operations that deserve more than a line of ATen. Each works on a CPU and on CUDA, with autocast
// and without it. All but Muon's parts, which have no gradient, have a first derivative only: use
// at:: operators for what is differentiated twice. While gradients are on, those from rms_norm down
// are *fused*: one pass over memory forward and one backward, float32 inside and rounded once.
// While gradients are off they are plain ATen operators, of which a sealed model is made; only
// Muon's parts stay fused. A check at start-up replaces fused operations that compute something
// else on this device by ATen's.
#pragma once

#include <ATen/ATen.h>

#include <concepts>
#include <initializer_list>
#include <memory>
#include <string>
#include <variant>
#include <vector>

namespace autoresearch {

// Causal self-attention in a sliding window, softmax(q k^T / sqrt(D)) v.
// q: (B, T, H, D); k, v: (B, T, H_kv, D) with H a multiple of H_kv; contiguous or not, one dtype.
// Query i sees keys j with i - window <= j <= i; window >= T - 1 is full causal attention.
// Returns (B, T, H, D) contiguous, in q's dtype.
//
// CUDA from sm_80 on: FlashAttention-2 (arXiv 2307.08691) in bfloat16, whatever the dtype of q. CPU
// with gradients on: our own version of it, which skips keys outside the window. Otherwise: masked
// attention in float32, or in bfloat16 on a CPU if the operands are bfloat16.
at::Tensor windowed_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                              int64_t window);

// Two linear maps of one x: x w^T, and x[..., :K] first^T of its first K channels only. The two
// gradients of x are summed in one tensor. x: (..., C); w: (N, C); first: (M, K), or undefined.
struct TwoMaps {
  at::Tensor all, first;  // (..., N), (..., M)
};
TwoMaps linear_pair(const at::Tensor& x, const at::Tensor& w, const at::Tensor& first);

// x + h w^T as one product, in x's type: a layer's addition to the residual stream. x: (..., C);
// h: (..., K); w: (C, K). Pass x with std::move at its last use: if gradients are on and nothing
// else holds it, the sum is computed in its memory, without a copy.
at::Tensor add_linear(at::Tensor x, const at::Tensor& h, const at::Tensor& w);

// Root mean square norm over the last dimension, without weights (arXiv 1910.07467).
at::Tensor rms_norm(const at::Tensor& x);

// add_linear, and rms_norm of the sum. Afterwards use `sum` and not x: the gradients of both
// results are then computed in one pass.
struct Summed {
  at::Tensor sum, normed;
};
Summed add_norm(at::Tensor x, const at::Tensor& h, const at::Tensor& w);

// y = a x + b x0 and rms_norm(y), for 0-d float32 a and b; and x0 unchanged. Pass the returned x0
// to the next layer: the gradients of all its uses are then summed in the backward passes.
struct Mixed {
  at::Tensor y, normed, x0;
};
Mixed mix_norm(const at::Tensor& x, const at::Tensor& x0, const at::Tensor& a, const at::Tensor& b);

// Token ids, sorted once for the gradients of all tables that are read with them.
class Ids {
 public:
  Ids() = default;
  explicit Ids(const at::Tensor& ids);  // (B, T) int64
  const at::Tensor& ids() const { return ids_; }
  const at::Tensor& sorted() const { return sorted_; }  // (B * T) int64; undefined if
  const at::Tensor& order() const { return order_; }    // gradients were off

 private:
  at::Tensor ids_, sorted_, order_;
};
// Rows of a table (V, C) as (B, T, C) of `type`. The table's gradient is summed in float32.
at::Tensor embedding(const at::Tensor& table, const Ids& ids, at::ScalarType type);

// From the merged product with query, key and value weights to the operands of attention. Queries
// and keys are rotated by position (RoPE, arXiv 2104.09864; with x1, x2 the halves of a head,
// y1 = x1 cos + x2 sin, y2 = x2 cos - x1 sin), then normalized per head. Values get a value
// embedding (arXiv 2410.17897), v + 2 sigmoid(gate) * table[ids] per head, if there is a table.
struct Rope {
  at::Tensor cos, sin;  // (at least T, D / 2)
};
struct ValueEmbedding {
  at::Tensor table;  // (V, H * D), or undefined
  at::Tensor gate;   // (B, T, H), logits
  Ids ids;
};
struct QueriesKeysValues {
  at::Tensor q, k, v;  // (B, T, H, D)
};
QueriesKeysValues rope_norm_gate(const at::Tensor& qkv,  // (B, T, 3, H, D)
                                 const Rope& rope, const ValueEmbedding& embedding = {});

at::Tensor relu_squared(const at::Tensor& x);

// Mean cross-entropy of the logits cap * tanh(z / cap), z = x head^T. The call also computes both
// gradients, so that logits never outlive it. x: (..., C); head: (V, C); targets: (...)
// integers; -100 is not counted. Returns a 0-d float32.
at::Tensor softcap_cross_entropy(const at::Tensor& x, const at::Tensor& head,
                                 const at::Tensor& targets, double cap);

// Muon's elementwise parts, for stacks (S, R, C) of float32 matrices; they have no gradient.
//
// Nesterov momentum: momentum' = lerp(momentum, grad, 1 - mu), update = lerp(grad, momentum', mu).
struct Momentum {
  at::Tensor momentum, update;  // float32, `type`
};
Momentum nesterov(const at::Tensor& grad, const at::Tensor& momentum, double mu,
                  at::ScalarType type);

// NorMuon (arXiv 2510.05491): the running mean square of the update over dimension `dim`, and the
// scale that evens it out while each matrix keeps its norm. Both are (S, R, 1) or (S, 1, C).
struct SecondMoment {
  at::Tensor second, scale;
};
SecondMoment normalize_update(const at::Tensor& update, const at::Tensor& second, int64_t dim,
                              double beta2);

// With u = update * scale: w -= lr u + decay w [u w >= 0], in place (cautious weight decay,
// arXiv 2510.12402), for the weights of several stacks. If memory runs out, it does so before the
// first weight is written.
struct CautiousStep {
  std::vector<at::Tensor> weights;  // in the order of the stack; each is one or several matrices
  at::Tensor update, scale;
  double lr, decay;
};
void cautious_step(const std::vector<CautiousStep>& steps);

// A CUDA kernel of your own, compiled by NVRTC at its first launch (about 0.1 s). If it does not
// compile, the run ends with the compiler's message. Keep one object for the whole run:
//
//   const CudaKernel scale(R"(
//     extern "C" __global__ void scale(bf16* x, long n, float factor) {
//       const long i = blockIdx.x * 256L + threadIdx.x;
//       if (i < n) x[i] = to_bf16(to_float(x[i]) * factor);
//     })", "scale");
//   scale.launch((x.numel() + 255) / 256, 256, {x, x.numel(), 0.5});
//
// Predefined: the type bf16, to_float(bf16 or float), to_bf16(float); float* for float32, long* for
// int64 tensors. No #include. It has no gradient (write a torch::autograd::Function around it)
// and can't be sealed: with gradients off, or on a CPU, compute the same with ATen.
class CudaKernel {
 public:
  // A contiguous tensor on the GPU (undefined: a null pointer), an integer or a floating number.
  struct Argument {
    Argument(const at::Tensor& tensor) : value(tensor) {}
    Argument(std::integral auto number) : value(static_cast<int64_t>(number)) {}
    Argument(std::floating_point auto number) : value(static_cast<double>(number)) {}
    std::variant<at::Tensor, int64_t, double> value;
  };
  CudaKernel(std::string source, std::string name);
  // Along x only, on the current stream of the first tensor's device.
  void launch(int64_t blocks, int64_t threads, std::initializer_list<Argument> arguments) const;

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace autoresearch
