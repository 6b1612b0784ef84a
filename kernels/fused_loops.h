// The loops of the CPU's fused operations (kernels/fused.h says what they compute) over plain
// memory, on one thread. fused_loops.cpp is compiled once a level of vector instructions, with
// other flags; it includes no header with inline code, so nothing that was compiled for a newer
// processor can be linked in elsewhere.
//
// T is float, or Bf16 for bfloat16. Pointers may not overlap unless they are equal.
#pragma once

#include <cstdint>

namespace autoresearch {

struct Bf16 {
  uint16_t bits;
};

// Attention's operands lie as (T, heads, D) and (T, D), `stride` elements from token to token.
struct AttentionShape {
  int64_t T, heads, D, window, q_stride, k_stride;
};
constexpr int64_t kAttentionBlock = 32;  // queries that are worked on together
constexpr int64_t attention_scratch(int64_t T, int64_t D) {
  const int64_t rows = (T + kAttentionBlock - 1) / kAttentionBlock * kAttentionBlock;
  const int64_t columns = (D + 15) / 16 * 16;
  return 9 * rows * columns + 2 * kAttentionBlock * rows;
}

// Matrices (rows, C), row after row; rstd one a row.
template <class T>
struct RowLoops {
  void (*rms_norm)(const T* x, T* normed, float* rstd, int64_t rows, int64_t C);
  // others: null, or what is added to grad_x.
  void (*rms_norm_backward)(const T* grad, const T* normed, const float* rstd, const T* others,
                            T* grad_x, int64_t rows, int64_t C);
  void (*mix_norm)(const T* x, const T* x0, float a, float b, T* y, T* normed, float* rstd,
                   int64_t rows, int64_t C);
  // others: null, or what is added to grad_x0. sums: grad_a and grad_b of these rows.
  void (*mix_norm_backward)(const T* grad_y, const T* grad_normed, const T* x, const T* x0,
                            const T* normed, const float* rstd, float a, float b, const T* others,
                            T* grad_x, T* grad_x0, float* sums, int64_t rows, int64_t C);

  // One token's H heads of D channels; cos and sin are its position's, D / 2 each.
  void (*rotate_norm)(const T* x, const T* cos, const T* sin, T* y, float* rstd, int64_t H,
                      int64_t D);
  void (*rotate_norm_backward)(const T* grad, const T* y, const float* rstd, const T* cos,
                               const T* sin, T* grad_x, int64_t H, int64_t D);
  // embedded: the token's row of the table, in the activation's type.
  void (*gate)(const T* v, const T* gate, const T* embedded, T* y, int64_t H, int64_t D);
  void (*gate_backward)(const T* grad, const T* gate, const T* embedded, T* grad_embedded,
                        T* grad_gate, int64_t H, int64_t D);

  void (*relu_squared)(const T* x, T* y, int64_t n);
  void (*relu_squared_backward)(const T* grad, const T* y, T* grad_x, int64_t n);

  // scratch: 2 V floats.
  void (*softcap_cross_entropy)(T* logits, const int64_t* targets, float cap, float scale,
                                float* loss, float* scratch, int64_t rows, int64_t V);

  // Causal attention in a sliding window for one batch entry and one key head (kernels.h), with the
  // `heads` query heads that read it. lse: (heads, T), the logarithm of each row's sum.
  // scratch: attention_scratch(T, D) floats.
  void (*attention)(const AttentionShape& shape, const T* q, const T* k, const T* v, T* out,
                    float* lse, float* scratch);
  void (*attention_backward)(const AttentionShape& shape, const T* grad, const T* q, const T* k,
                             const T* v, const T* out, const float* lse, T* grad_q, T* grad_k,
                             T* grad_v, float* scratch);

  // to += from, to = from
  void (*add)(const T* from, float* to, int64_t n);
  void (*widen)(const T* from, float* to, int64_t n);
  void (*narrow)(const float* from, T* to, int64_t n);

  // Muon; T is the type of the update. `scale` belongs to one matrix: one a row where by_row, else
  // one a column.
  void (*nesterov)(const float* grad, const float* momentum, float mu, float* new_momentum,
                   T* update, int64_t n);
  void (*mean_square)(const T* update, float* mean, bool by_row, int64_t R, int64_t C);
  void (*cautious_step)(float* weight, const T* update, const float* scale, bool by_row, float lr,
                        float decay, int64_t R, int64_t C);
};

struct Loops {
  RowLoops<float> float32;
  RowLoops<Bf16> bfloat16;
};

// One a set of flags; which of them exist is the build's choice (CMakeLists.txt).
extern const Loops loops_portable, loops_avx2, loops_avx512;

}  // namespace autoresearch
