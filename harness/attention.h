// The GPU's half of windowed_attention (harness/kernels.h), apart so that a test can call it where
// no GPU is.
#pragma once

#include <ATen/ATen.h>

namespace autoresearch {

// FlashAttention-2 through ATen, which hands pointers to the kernel unchecked. Operands as
// windowed_attention has checked them, of any floating type; computes in bfloat16.
at::Tensor flash_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                           int64_t window);

}  // namespace autoresearch
