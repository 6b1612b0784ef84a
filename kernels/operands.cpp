#include "kernels/operands.h"

#include <ATen/autocast_mode.h>
#include <ATen/core/grad_mode.h>

#include "common/error.h"

namespace autoresearch {

using at::Tensor;

at::ScalarType product_type(const Tensor& x) {
  const auto device = x.device().type();
  return at::autocast::is_autocast_enabled(device) ? at::autocast::get_autocast_dtype(device)
                                                   : x.scalar_type();
}

bool is_given_up(const Tensor& x) {
  return at::GradMode::is_enabled() && x.use_count() == 1 && x.storage().use_count() == 1 &&
         x.is_contiguous() && !(x.is_leaf() && x.requires_grad());
}

void check_given(const Tensor& x, const char* operation) {
  check(x.defined(), std::string(operation) +
                         ": x is undefined; was it given up with std::move in an earlier call?");
}

void check_first_derivative() {
  check(!at::GradMode::is_enabled(),
        "an operation of kernels.h has no second derivative; compute what is differentiated twice "
        "with at:: operators");
}

}  // namespace autoresearch
