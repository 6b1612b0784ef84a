// The fused operations behind kernels/kernels.h, one implementation a kind of device. They know no
// autograd, no autocast and no fallback: that is kernels.cpp's.
//
// Every operand lies on the implementation's device and is contiguous; kernels.cpp sees to it. An
// *activation* is float32 or bfloat16, the same in one call. All arithmetic inside, every sum and
// every statistic is float32, whatever is stored; a result is rounded once, when it is written.
// Results are new tensors and operands stay as they are, except where a comment says "in place".
// Equal calls give equal bits: nothing is added up in an order that time decides.
//
// N rows, C channels, B sequences of T tokens, H heads of D channels (D even), V ids. Nothing else
// may be assumed of these sizes: N = 1, C = 7 and D = 6 are legal. eps is float32's machine
// epsilon, as in at::rms_norm.
#pragma once

#include <ATen/ATen.h>

#include <memory>
#include <vector>

#include "kernels/constants.h"
#include "kernels/kernels.h"

namespace autoresearch {

class Fused {
 public:
  using Tensor = at::Tensor;
  virtual ~Fused() = default;

  // Root mean square normalization (arXiv 1910.07467): normed = x * rstd, where rstd is
  // 1 / sqrt(mean(x^2) + eps) of each row.
  struct Normed {
    Tensor normed;  // (N, C) activation
    Tensor rstd;    // (N) float32
  };
  virtual Normed rms_norm(const Tensor& x) const = 0;  // x: (N, C) activation

  // The gradient of x, from the result and not from x:
  // others + rstd * (grad - normed * mean(grad * normed)) of each row.
  // others: (N, C) activation, what other uses of x contribute; or undefined.
  virtual Tensor rms_norm_backward(const Tensor& grad, const Tensor& normed, const Tensor& rstd,
                                   const Tensor& others) const = 0;

  // y = a x + b x0, and y normalized.
  struct MixNormed {
    Tensor y, normed;  // (N, C) activation
    Tensor rstd;       // (N) float32; of y before it is rounded
  };
  // x, x0: (N, C) activation; a, b: 0-d float32 on the device.
  virtual MixNormed mix_norm(const Tensor& x, const Tensor& x0, const Tensor& a,
                             const Tensor& b) const = 0;

  struct MixNormGrads {
    Tensor x, x0;  // (N, C) activation
    Tensor a, b;   // 0-d float32
  };
  // grad_y, grad_normed: (N, C) activation. With g = grad_y + (the gradient through the norm):
  // x: a g, x0: others + b g, a: sum(g x), b: sum(g x0).
  // others: (N, C) activation, what other uses of x0 contribute; or undefined.
  virtual MixNormGrads mix_norm_backward(const Tensor& grad_y, const Tensor& grad_normed,
                                         const Tensor& x, const Tensor& x0, const Tensor& normed,
                                         const Tensor& rstd, const Tensor& a, const Tensor& b,
                                         const Tensor& others) const = 0;

  // What lies between the product with the query, key and value weights and attention. Queries and
  // keys: the halves x1, x2 of each head are rotated by position (y1 = x1 cos + x2 sin,
  // y2 = x2 cos - x1 sin), then normalized per head as in rms_norm. Values: v + 2 sigmoid(gate) *
  // table[id], per head; plain v if table and gate are undefined. Rope's tables are activations.
  struct ValueEmbedding {
    Tensor table;  // (V, H * D) float32 or bfloat16, apart from the activation's type; or undefined
    Tensor ids;    // (B, T) int64 in [0, V); on a GPU another makes its values NaN
    Tensor gate;   // (B, T, H) activation: logits
  };
  struct Heads {
    Tensor q, k, v;  // (B, T, H, D) activation
    Tensor rstd;     // (B, T, 2, H) float32: of the queries' heads, then of the keys'
  };
  // qkv: (B, T, 3, H, D) activation.
  virtual Heads rope_norm_gate(const Tensor& qkv, const Rope& rope,
                               const ValueEmbedding& embedding) const = 0;

  struct HeadsGrads {
    Tensor qkv;       // (B, T, 3, H, D) activation
    Tensor embedded;  // (B, T, H * D) activation: of table[ids]; undefined if the table is
    Tensor gate;      // (B, T, H) activation: of the logits; undefined if the table is
  };
  // grad_q, grad_k, grad_v: (B, T, H, D) activation; q and k as they were returned.
  virtual HeadsGrads rope_norm_gate_backward(const Tensor& grad_q, const Tensor& grad_k,
                                             const Tensor& grad_v, const Tensor& q, const Tensor& k,
                                             const Tensor& rstd, const Rope& rope,
                                             const ValueEmbedding& embedding) const = 0;

  // y = max(x, 0)^2, any shape; and the gradient of x from the result, 2 sqrt(y) grad, so that x
  // need not be kept.
  virtual Tensor relu_squared(const Tensor& x) const = 0;
  virtual Tensor relu_squared_backward(const Tensor& grad, const Tensor& y) const = 0;

  // Cross-entropy of softcapped logits, cap * tanh(z / cap) for z = logits, and its gradient.
  // logits: (N, V) activation, in place: they become scale * d loss[n] / d logits[n].
  // targets: (N) int64 in [0, V), or kIgnoredTarget: loss and gradient are 0. Any other makes them
  // NaN. Returns the loss of each row, (N) float32.
  virtual Tensor softcap_cross_entropy(Tensor& logits, const Tensor& targets, double cap,
                                       double scale) const = 0;

  // Gradient of a table of V rows of which rows `ids` were taken: row v is the sum of grad[n] over
  // all n with ids[n] = v, and 0 if there is none; rounded to `type` (float32 or bfloat16).
  // grad: (N, C) activation. The ids come sorted, once for all tables: sorted_ids (N) int64
  // ascending; order (N) int64, sorted_ids[i] = ids[order[i]], ascending among equal ids. An id may
  // occur N times.
  virtual Tensor embedding_backward(const Tensor& grad, const Tensor& sorted_ids,
                                    const Tensor& order, int64_t V, at::ScalarType type) const = 0;

  // Muon's elementwise parts for a stack of S matrices (R, C).
  //
  // Before orthogonalization: momentum' = momentum + (1 - mu) (grad - momentum); the update is
  // grad + mu (momentum' - grad) (Nesterov).
  // grad, momentum: (S, R, C) float32; the update is of `type`, float32 or bfloat16.
  virtual Momentum nesterov(const Tensor& grad, const Tensor& momentum, double mu,
                            at::ScalarType type) const = 0;

  // After it, NorMuon (arXiv 2510.05491): with m the mean of update^2 over `dim` (1 or 2, kept as
  // size 1), second' = second + (1 - beta2) (m - second); s = 1 / sqrt(max(second', 1e-10)); and
  // scale = s * sqrt(sum(m)) / max(sqrt(sum(m s^2)), 1e-10) with the sums over each matrix.
  // update: (S, R, C) float32 or bfloat16; the rest (S, R, 1) for dim 2, (S, 1, C) for dim 1,
  // float32.
  virtual SecondMoment normalize_update(const Tensor& update, const Tensor& second, int64_t dim,
                                        double beta2) const = 0;

  // Cautious weight decay (arXiv 2510.12402) and the step. With u = update * scale:
  // w -= lr u + decay w [u w >= 0], in place. `weights` are float32, together S * R * C elements in
  // the order of the stack, each a whole number of matrices.
  virtual void cautious_step(at::TensorList weights, const Tensor& update, const Tensor& scale,
                             double lr, double decay) const = 0;
};

// The CPU's: vectorized for the processor in hand, on at::get_num_threads() threads.
const Fused& fused_cpu();

// The same on one set of vector instructions (kernels/fused_loops.h), to test them all.
struct Loops;
std::vector<const Loops*> usable_loops();  // on this processor, the fastest last
const Loops& best_loops();
std::unique_ptr<Fused> fused_cpu_with(const Loops& loops);

// windowed_attention of kernels.h on a CPU; GPUs have ATen's. q: (B, T, H, D), k, v: (B, T, H_kv,
// D) activation, contiguous.
struct Attention {
  at::Tensor out;  // (B, T, H, D) activation
  at::Tensor lse;  // (B, H, T) float32, the logarithm of each query's sum
};
Attention attention_cpu(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                        int64_t window, const Loops& loops = best_loops());

struct AttentionGrads {
  at::Tensor q, k, v;
};
AttentionGrads attention_cpu_backward(const at::Tensor& grad, const at::Tensor& q,
                                      const at::Tensor& k, const at::Tensor& v,
                                      const Attention& forward, int64_t window,
                                      const Loops& loops = best_loops());

}  // namespace autoresearch
