#include "kernels/kernels.h"

#include <ATen/core/grad_mode.h>

#include <map>
#include <mutex>
#include <optional>
#include <tuple>

#include "common/log.h"
#include "kernels/cuda_program.h"
#include "kernels/fused_cuda.h"
#include "kernels/fused_ops.h"
#include "kernels/operands.h"

namespace autoresearch {

using at::Tensor;

namespace {

// The fused operations of a device; null if this libtorch compiles none for it.
const Fused* fused_on(at::Device device) {
  if (device.is_cpu()) return &fused_cpu();
  if (!device.is_cuda() || !can_compile_cuda()) return nullptr;
  static std::map<at::DeviceIndex, std::unique_ptr<Fused>> gpus;
  auto& fused = gpus[device.index()];
  if (!fused) fused = fused_cuda(device);
  return fused.get();
}

}  // namespace

const Trusted& trusted_on(at::Device device, at::ScalarType type) {
  static std::mutex mutex;
  static std::map<std::tuple<at::DeviceType, at::DeviceIndex, at::ScalarType>, Trusted> known;
  const std::lock_guard lock(mutex);
  const auto checked = type == at::kBFloat16 ? at::kBFloat16 : at::kFloat;
  const auto key = std::tuple(device.type(), device.index(), checked);
  if (const auto found = known.find(key); found != known.end()) return found->second;
  const Fused* fused = fused_on(device);
  Trusted result = trusted(fused, device, checked);
  if (!fused)
    result.warning = "plain ATen computes on " + device.str() +
                     ": this libtorch can't compile CUDA; use one for CUDA 12.8 or later";
  if (!result.warning.empty()) log_warning(result.warning);
  return known[key] = result;
}

namespace {

// Of operations on activations of `type`, by itself that of x. Gradients off: a trace must see ATen
// operators.
FusedOps ops(const Tensor& x, std::optional<at::ScalarType> type = std::nullopt) {
  check_given(x, "an operation of kernels.h");
  const FusedOps& trusted = trusted_on(x.device(), type.value_or(x.scalar_type())).ops;
  return {at::GradMode::is_enabled() ? trusted.fused : nullptr, trusted.twins};
}

// The optimizer's are never traced.
const FusedOps& optimizer_ops(const Tensor& x, at::ScalarType type) {
  return trusted_on(x.device(), type).ops;
}

}  // namespace

Tensor windowed_attention(const Tensor& q, const Tensor& k, const Tensor& v, int64_t window) {
  return ops(q).windowed_attention(q, k, v, window);
}

// ------------------------------------------------------------------------------------------------
// Fused operations

Ids::Ids(const Tensor& token_ids) : ids_(token_ids) {
  if (!at::GradMode::is_enabled()) return;
  ids_ = token_ids.to(at::kLong).contiguous();
  std::tie(sorted_, order_) = at::sort(ids_.flatten(), /*stable=*/std::optional(true), /*dim=*/0);
}

Tensor rms_norm(const Tensor& x) { return ops(x).rms_norm(x); }

Mixed mix_norm(const Tensor& x, const Tensor& x0, const Tensor& a, const Tensor& b) {
  return ops(x).mix_norm(x, x0, a, b);
}

Summed add_norm(Tensor x, const Tensor& h, const Tensor& w) {
  const FusedOps all = ops(x);
  return all.add_norm(std::move(x), h, w);
}

Tensor embedding(const Tensor& table, const Ids& ids, at::ScalarType type) {
  return ops(table, type).embedding(table, ids, type);
}

QueriesKeysValues rope_norm_gate(const Tensor& qkv, const Rope& rope,
                                 const ValueEmbedding& embedding) {
  return ops(qkv).rope_norm_gate(qkv, rope, embedding);
}

Tensor relu_squared(const Tensor& x) { return ops(x).relu_squared(x); }

Tensor softcap_cross_entropy(const Tensor& x, const Tensor& head, const Tensor& targets,
                             double cap) {
  return ops(x).softcap_cross_entropy(x, head, targets, cap);
}

Momentum nesterov(const Tensor& grad, const Tensor& momentum, double mu, at::ScalarType type) {
  return optimizer_ops(grad, type).nesterov(grad, momentum, mu, type);
}

SecondMoment normalize_update(const Tensor& update, const Tensor& second, int64_t dim,
                              double beta2) {
  return optimizer_ops(update, update.scalar_type()).normalize_update(update, second, dim, beta2);
}

void cautious_step(const std::vector<CautiousStep>& steps) {
  if (steps.empty()) return;
  const Tensor& update = steps[0].update;
  optimizer_ops(update, update.scalar_type()).cautious_step(steps);
}

}  // namespace autoresearch
