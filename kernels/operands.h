// What the operations of kernels/kernels.h ask before they choose how to compute.
#pragma once

#include <ATen/ATen.h>

namespace autoresearch {

// What a matrix product of x would compute in: autocast's type if that is on, else x's own.
at::ScalarType product_type(const at::Tensor& x);

// Whether fused operations take activations of this type.
inline bool is_activation(at::ScalarType type) {
  return type == at::kFloat || type == at::kBFloat16;
}

// Whether x may be overwritten without anybody noticing: gradients are on (a trace must see a
// functional operator), and no other handle, view or saved tensor has its memory.
bool is_given_up(const at::Tensor& x);

// Throws Error if x is undefined, as it is after std::move.
void check_given(const at::Tensor& x, const char* operation);

// Throws Error in a backward pass that is itself differentiated (create_graph): gradients written
// by hand would be taken for constants.
void check_first_derivative();

}  // namespace autoresearch
