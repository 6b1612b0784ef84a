#include "harness/kernels.h"

#include <ATen/core/grad_mode.h>

#include <map>
#include <mutex>
#include <optional>

#include "common/log.h"
#include "harness/cuda_program.h"
#include "harness/fused_cuda.h"
#include "harness/fused_ops.h"
#include "harness/operands.h"

namespace autoresearch {

using at::Tensor;

const Trusted& trusted_on(at::Device device) {
  static std::mutex mutex;
  static std::map<std::pair<at::DeviceType, at::DeviceIndex>, Trusted> known;
  static std::vector<std::unique_ptr<Fused>> on_gpus;
  const std::lock_guard lock(mutex);
  const auto key = std::pair(device.type(), device.index());
  if (const auto found = known.find(key); found != known.end()) return found->second;
  const Fused* fused = device.is_cpu() ? &fused_cpu() : nullptr;
  if (device.is_cuda() && can_compile_cuda())
    fused = on_gpus.emplace_back(fused_cuda(device)).get();
  Trusted result = trusted(fused, device);
  if (!fused)
    result.warning = "plain ATen computes on " + device.str() +
                     ": this libtorch can't compile CUDA; use one for CUDA 12.8 or later";
  if (!result.warning.empty()) log_warning(result.warning);
  return known[key] = result;
}

namespace {

// Gradients off: a trace must see ATen operators.
FusedOps ops(const Tensor& x) {
  check_given(x, "an operation of kernels.h");
  if (at::GradMode::is_enabled()) return trusted_on(x.device()).ops;
  return {nullptr, trusted_on(x.device()).ops.twins};
}

// The optimizer's are never traced.
const FusedOps& optimizer_ops(const Tensor& x) { return trusted_on(x.device()).ops; }

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
  return ops(table).embedding(table, ids, type);
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
  return optimizer_ops(grad).nesterov(grad, momentum, mu, type);
}

SecondMoment normalize_update(const Tensor& update, const Tensor& second, int64_t dim,
                              double beta2) {
  return optimizer_ops(update).normalize_update(update, second, dim, beta2);
}

void cautious_step(const std::vector<CautiousStep>& steps) {
  if (!steps.empty()) optimizer_ops(steps[0].update).cautious_step(steps);
}

}  // namespace autoresearch
