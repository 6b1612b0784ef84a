// Operations that deserve more than a line of ATen. Every one works on CPU and CUDA, under autocast
// and without, has a gradient, and is traced as plain ATen operators when gradients are off.
#pragma once

#include <ATen/ATen.h>

namespace autoresearch {

// Causal self-attention in a sliding window, softmax(q k^T / sqrt(D)) v.
// q: (B, T, H, D); k, v: (B, T, H_kv, D) with H a multiple of H_kv; contiguous or not, one dtype.
// Query i sees keys j with i - window <= j <= i; window >= T - 1 is full causal attention.
// Returns (B, T, H, D) contiguous, in q's dtype.
//
// CUDA from sm_80 on: FlashAttention-2 (arXiv 2307.08691) in bfloat16, whatever the dtype of q;
// other devices: masked attention in float32 (bfloat16 stays bfloat16 on CPU).
at::Tensor windowed_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                              int64_t window);

}  // namespace autoresearch
