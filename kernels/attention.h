// The ways in which windowed_attention (kernels/kernels.h) is computed. Operands as there, checked
// by check_attention.
#pragma once

#include <ATen/ATen.h>

namespace autoresearch {

// Throws Error if shapes or devices do not fit.
void check_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, int64_t window);

// By ATen operators alone, a mask for the window; float32 inside (bfloat16 stays that on a CPU).
at::Tensor masked_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                            int64_t window);

// FlashAttention-2 through ATen, which hands pointers to the kernel unchecked: operands of any
// floating type are made what it takes, bfloat16.
at::Tensor flash_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                           int64_t window);

// The fastest way for these operands: flash_attention on GPUs that have it, our own on a CPU if
// gradients are on, else masked_attention.
at::Tensor fast_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                          int64_t window);

}  // namespace autoresearch
