// The operations of harness/kernels.h with the implementation as an argument: each an autograd
// function around a Fused, or where that is null the *twin*: ATen operators, with ATen's gradients,
// in whatever floating type the operands have.
#pragma once

#include <ATen/ATen.h>

#include <string>

#include "harness/fused.h"
#include "harness/kernels.h"

namespace autoresearch {

// Shapes and meaning as in kernels.h.
struct FusedOps {
  const Fused* fused;

  at::Tensor rms_norm(const at::Tensor& x) const;
  Mixed mix_norm(const at::Tensor& x, const at::Tensor& x0, const at::Tensor& a,
                 const at::Tensor& b) const;
  QueriesKeysValues rope_norm_gate(const at::Tensor& qkv, const Rope& rope,
                                   const ValueEmbedding& embedding) const;
  at::Tensor relu_squared(const at::Tensor& x) const;
  at::Tensor softcap_cross_entropy(const at::Tensor& x, const at::Tensor& head,
                                   const at::Tensor& targets, double cap) const;
  at::Tensor embedding(const at::Tensor& table, const Ids& ids, at::ScalarType type) const;
  Momentum nesterov(const at::Tensor& grad, const at::Tensor& momentum, double mu,
                    at::ScalarType type) const;
  SecondMoment normalize_update(const at::Tensor& update, const at::Tensor& second, int64_t dim,
                                double beta2) const;
  void cautious_step(const std::vector<CautiousStep>& steps) const;
};

// Runs every operation and its gradient on `device`, fused and as its twin, over small odd shapes
// (some 50 ms). Returns the name of the first operation in which they disagree, or that failed,
// with what was found; empty where all agree.
std::string disagreement(const Fused& fused, at::Device device);

// `fused` where nothing disagrees, else null after a warning.
const Fused* trusted(const Fused& fused, at::Device device);

// What kernels.h uses on this device: an implementation that is trusted, or null. The first call
// checks, so it is made at start-up.
const Fused* fused_on(at::Device device);

}  // namespace autoresearch
