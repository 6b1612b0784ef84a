// The operations of kernels/kernels.h with the implementation as an argument: each an autograd
// function around a Fused, or where that is null the *twin*: ATen operators, with ATen's gradients,
// in whatever floating type the operands have.
#pragma once

#include <ATen/ATen.h>

#include <bitset>
#include <map>
#include <string>

#include "kernels/fused.h"
#include "kernels/kernels.h"

namespace autoresearch {

enum class Operation {
#define CHECKED(enumerator, function) enumerator,
#define PLAIN(function)
#include "kernels/operations.def"
  kCount
};
const char* name_of(Operation operation);  // as in kernels.h
using Operations = std::bitset<static_cast<size_t>(Operation::kCount)>;

// Shapes and meaning as in kernels.h.
struct FusedOps {
  const Fused* fused;     // null: twins only, but for attention, which is not among a Fused
  Operations twins = {};  // by their twins, whatever `fused` is

  at::Tensor windowed_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                int64_t window) const;
  at::Tensor rms_norm(const at::Tensor& x) const;
  Mixed mix_norm(const at::Tensor& x, const at::Tensor& x0, const at::Tensor& a,
                 const at::Tensor& b) const;
  Summed add_norm(at::Tensor x, const at::Tensor& h, const at::Tensor& w) const;
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

  const Fused* implementation(Operation operation) const {  // null: by its twin
    return twins[static_cast<size_t>(operation)] ? nullptr : fused;
  }
};

// Runs every operation and its gradient on `device`, fused and as its twin, over small odd shapes
// (some 25 ms on a CPU), on activations of `type`, float32 or bfloat16. Returns what was found of
// the operations in which they disagree, or that failed.
std::map<Operation, std::string> disagreements(const FusedOps& ops, at::Device device,
                                               at::ScalarType type);

// What kernels.h uses on a device.
struct Trusted {
  FusedOps ops;
  std::string warning;  // what is computed by twins though it ought to be fused, and why; or empty
};

// `fused`, or null for attention alone, without what disagrees with its twin.
Trusted trusted(const Fused* fused, at::Device device, at::ScalarType type);

// What this process found of `device` for activations of `type`; of others than float32 and
// bfloat16 it is what was found for float32. The first call compiles and checks, and warns on
// stderr, so it is made at start-up for the type that the run will compute in; for the other one at
// its first use.
const Trusted& trusted_on(at::Device device, at::ScalarType type);

}  // namespace autoresearch
