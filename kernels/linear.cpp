#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/custom_function.h>

#include "common/error.h"
#include "kernels/kernels.h"
#include "kernels/operands.h"

namespace autoresearch {
namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

Tensor as_rows(const Tensor& x) { return x.reshape({-1, x.size(-1)}); }

struct AddLinear : Function<AddLinear> {
  static Tensor forward(AutogradContext* ctx, Tensor x, const Tensor& h, const Tensor& w) {
    ctx->save_for_backward({h, w});
    ctx->mark_dirty({x});
    as_rows(x).addmm_(as_rows(h), w.t());
    return x;
  }
  // x, grad: (..., C); h: (..., K); w: (C, K). y = x + h w^T, so x gets grad, h gets grad w, and w
  // gets grad^T h.
  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    const Tensor &h = saved[0], &w = saved[1], rows = as_rows(grads[0]);
    return {grads[0], at::mm(rows, w).view_as(h), at::mm(rows.t(), as_rows(h))};
  }
};

struct LinearPair : Function<LinearPair> {
  static variable_list forward(AutogradContext* ctx, const Tensor& x, const Tensor& w,
                               const Tensor& first) {
    ctx->save_for_backward({x, w, first});
    const Tensor rows = as_rows(x);
    const auto product = [&](const Tensor& seen, const Tensor& weight) {
      std::vector<int64_t> sizes = x.sizes().vec();
      sizes.back() = weight.size(0);
      return at::_unsafe_view(at::mm(seen, weight.t()), sizes);
    };
    return {product(rows, w), product(rows.narrow(1, 0, first.size(1)), first)};
  }
  // x: (..., C); w, grad: (N, C), (..., N); first, grad_first: (M, K), (..., M). x gets grad w, to
  // which its first K channels add grad_first first; w gets grad^T x, first gets grad_first^T of
  // the K channels that it saw.
  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    const Tensor &w = saved[1], &first = saved[2], x = as_rows(saved[0]);
    const Tensor grad = as_rows(grads[0]), grad_first = as_rows(grads[1]);
    const Tensor grad_x = at::mm(grad, w), seen = x.narrow(1, 0, first.size(1));
    grad_x.narrow(1, 0, first.size(1)).addmm_(grad_first, first);
    return {grad_x.view_as(saved[0]), at::mm(grad.t(), x), at::mm(grad_first.t(), seen)};
  }
};

}  // namespace

Tensor add_linear(Tensor x, const Tensor& h, const Tensor& w) {
  check_given(x, "add_linear");
  const auto type = product_type(x);
  if (x.scalar_type() != type) return x + at::linear(h, w);  // in x's type, which is the wider one
  if (is_given_up(x)) return AddLinear::apply(std::move(x), h.to(type), w.to(type));
  return at::addmm(as_rows(x), as_rows(h.to(type)), w.to(type).t()).view_as(x);
}

TwoMaps linear_pair(const Tensor& x, const Tensor& w, const Tensor& first) {
  check_given(x, "linear_pair");
  if (!first.defined()) return {at::linear(x, w), {}};
  check(first.dim() == 2 && first.size(1) <= x.size(-1),
        "linear_pair: the second weight must be (M, K) with K at most the channels of x, " +
            std::to_string(x.size(-1)));
  if (!at::GradMode::is_enabled())
    return {at::linear(x, w), at::linear(x.narrow(-1, 0, first.size(1)), first)};
  const auto type = product_type(x);
  const auto maps = LinearPair::apply(x.to(type), w.to(type), first.to(type));
  return {maps[0], maps[1]};
}

}  // namespace autoresearch
