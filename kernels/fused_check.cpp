#include "kernels/fused_check.h"

#include <ATen/TracerMode.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/grad_mode.h>

#include <functional>
#include <mutex>
#include <tuple>
#include <vector>

#include "common/log.h"
#include "kernels/cuda_program.h"
#include "kernels/fused_cuda.h"
#include "kernels/kernels.h"
#include "kernels/lack_of_memory.h"
#include "kernels/operands.h"

namespace autoresearch {
namespace {

using at::Tensor;

// Numbers without a pattern, the same at every run, and not from the run's generator.
Tensor numbers(at::IntArrayRef sizes, double seed, at::TensorOptions options) {
  int64_t n = 1;
  for (const int64_t size : sizes) n *= size;
  return at::arange(n, at::kDouble)
      .mul(1.7 + seed)
      .add(seed)
      .sin()
      .mul(1.4)
      .add(0.6)
      .view(sizes)
      .to(options);
}

struct Check {
  Operation operation;
  std::vector<Tensor> inputs;  // get a gradient
  std::function<std::vector<Tensor>(const std::vector<Tensor>&)> run;
  at::ScalarType type = at::kFloat;  // what results are rounded to
};

const Ways kTwins{nullptr, Operations().set()};

// Results, and the gradients of their sum weighted by `numbers`, of inputs cast to `type`.
std::vector<Tensor> results(const Check& check, const Ways& ways,
                            std::optional<at::ScalarType> type) {
  std::vector<Tensor> inputs;
  for (const Tensor& x : check.inputs) {
    const auto cast = type.value_or(x.scalar_type());
    inputs.push_back(x.to(cast, /*non_blocking=*/false, /*copy=*/true).requires_grad_());
  }
  const UseWays use(ways);
  std::vector<Tensor> all = check.run(inputs);
  Tensor sum;
  for (size_t i = 0; i < all.size(); ++i) {
    if (!all[i].requires_grad()) continue;
    const Tensor weights = numbers(all[i].sizes(), 0.3 + i, all[i].options().dtype(at::kBFloat16));
    const Tensor part = (all[i] * weights.to(all[i].scalar_type())).sum();
    sum = sum.defined() ? sum + part : part;
  }
  if (!sum.defined()) return all;
  sum.backward();
  for (const Tensor& x : inputs) {
    if (x.grad().defined()) all.push_back(x.grad());
  }
  return all;
}

// Over sizes that no vector register divides, or (`even`) that every one does.
std::vector<Check> checks(at::Device device, at::ScalarType type, bool even) {
  const auto options = at::device(device).dtype(type);
  const auto floats = at::device(device).dtype(at::kFloat);
  const int64_t B = 3, T = 11, H = 3, D = even ? 128 : 42, C = H * D, V = even ? 48 : 37;
  const auto x = [&](double seed) { return numbers({B, T, C}, seed, options); };
  const auto scalar = [&](double seed) { return numbers({}, seed, floats); };
  const Tensor ids = at::arange(B * T, at::device(device).dtype(at::kLong))
                         .mul(7)
                         .remainder(19)
                         .add(2)
                         .view({B, T});
  const int64_t columns = even ? 32 : 18;
  const Tensor stack = numbers({3, 5, columns}, 0.1, floats);
  const auto moment = [=](at::IntArrayRef sizes) { return numbers(sizes, 0.2, floats).abs(); };
  const auto half = [=](double seed) { return numbers({T + 2, D / 2}, seed, options); };
  using Tensors = std::vector<Tensor>;
  std::vector<Check> all{
      {Operation::kRmsNorm, {x(0.1)}, [](auto& in) { return Tensors{rms_norm(in[0])}; }},
      {Operation::kRmsNorm,
       {x(0.1), x(0.2), numbers({C, C}, 0.3, options) * 0.1},
       [](auto& in) {
         const auto [sum, normed] = add_norm(in[0] * 2, in[1], in[2]);
         return Tensors{sum, normed};
       }},
      {Operation::kMixNorm,
       {x(0.1), x(0.2), scalar(0.3), scalar(0.4)},
       [](auto& in) {
         const auto [y, normed, x0] = mix_norm(in[0], in[1], in[2], in[3]);
         return Tensors{y, normed, x0};
       }},
      {Operation::kRopeNormGate,
       {numbers({B, T, 3, H, D}, 0.1, options)},
       [=](auto& in) {
         const auto [q, k, v] = rope_norm_gate(in[0], {half(0.2), half(0.3)}, {});
         return Tensors{q, k, v};
       }},
      {Operation::kRopeNormGate,
       {numbers({B, T, 3, H, D}, 0.1, options), numbers({V, C}, 0.2, options.dtype(at::kBFloat16)),
        numbers({B, T, H}, 0.3, options)},
       [=](auto& in) {
         const auto [q, k, v] =
             rope_norm_gate(in[0], {half(0.4), half(0.5)}, {in[1], in[2], Ids(ids)});
         return Tensors{q, k, v};
       }},
      {Operation::kReluSquared, {x(0.1)}, [](auto& in) { return Tensors{relu_squared(in[0])}; }},
      {Operation::kSoftcapCrossEntropy,
       {x(0.1), numbers({V, C}, 0.2, options) * 0.1},
       [=](auto& in) { return Tensors{softcap_cross_entropy(in[0], in[1], ids, 5)}; }},
      {Operation::kEmbedding,
       {numbers({V, C}, 0.1, options)},
       [=](auto& in) { return Tensors{embedding(in[0], Ids(ids), at::kFloat)}; }},
      {Operation::kEmbedding,  // with ids that occur often
       {numbers({V, C}, 0.1, options)},
       [=](auto& in) {
         const Tensor often = ids.remainder(2).repeat({1, 9});
         return Tensors{embedding(in[0], Ids(often), at::kFloat)};
       }},
      {Operation::kNesterov,
       {},
       [=](auto&) {
         const auto [momentum, update] = nesterov(stack, stack.cos(), 0.9, type);
         return Tensors{momentum, update};
       }},
      {Operation::kNormalizeUpdate,
       {},
       [=](auto&) {
         const Tensor update = stack.to(type);
         const auto rows = normalize_update(update, moment({3, 5, 1}), 2, 0.9);
         const auto cols = normalize_update(update, moment({3, 1, columns}), 1, 0.9);
         return Tensors{rows.second, rows.scale, cols.second, cols.scale};
       }},
      {Operation::kCautiousStep,
       {},
       [=](auto&) {
         const Tensor one = stack[0].cos(), two = stack.narrow(0, 1, 2).cos();
         for (const Tensor& scale : {moment({3, 5, 1}), moment({3, 1, columns})})
           cautious_step({{{one, two}, stack.to(type), scale, 0.1, 0.03}});
         return Tensors{one, two};
       }},
  };
  for (Check& check : all) check.type = type;
  // FlashAttention is bfloat16 inside, whatever it is given.
  const auto inside = device.is_cuda() ? at::kBFloat16 : type;
  const auto x4 = [&](int64_t heads, double seed) {
    return numbers({B, T, heads, D}, seed, options.dtype(inside));
  };
  for (const int64_t window : {int64_t{1}, T / 2, T}) {  // of 0 the gradients would be 0
    all.push_back(
        {Operation::kAttention,
         {x4(2 * H, 0.1), x4(H, 0.2), x4(H, 0.3)},
         [=](auto& in) { return Tensors{windowed_attention(in[0], in[1], in[2], window)}; },
         inside});
  }
  return all;
}

double relative_difference(const Tensor& a, const Tensor& b) {
  const Tensor expected = b.detach().to(at::kDouble);
  const Tensor difference = a.detach().to(at::kDouble) - expected;
  return (difference.norm() / expected.norm().clamp_min(1e-6)).item<double>();
}

// Empty if both agree. The twin computes in float32.
std::string disagreement(const Check& check, const Ways& ways) {
  // Float32 products may be TF32's; bfloat16 rounds each result, and what follows from it.
  const double tolerance = check.type == at::kBFloat16 ? 2e-2 : 2e-3;
  try {
    const auto actual = results(check, ways, std::nullopt);
    const auto expected = results(check, kTwins, at::kFloat);
    for (size_t i = 0; i < expected.size(); ++i) {
      const double difference = relative_difference(actual.at(i), expected[i]);
      if (!(difference <= tolerance))
        return "result " + std::to_string(i) + " differs by " + std::to_string(difference);
    }
  } catch (const std::exception& error) {
    if (is_lack_of_memory(error)) throw;
    return error.what();
  }
  return "";
}

// The fused operations of a device; null if this libtorch compiles none for it.
const Fused* fused_on(at::Device device) {
  if (device.is_cpu()) return &fused_cpu();
  if (!device.is_cuda() || !can_compile_cuda()) return nullptr;
  static std::map<at::DeviceIndex, std::unique_ptr<Fused>> gpus;
  auto& fused = gpus[device.index()];
  if (!fused) fused = fused_cuda(device);
  return fused.get();
}

thread_local const Ways* ways_in_use = nullptr;

}  // namespace

const char* name_of(Operation operation) {
  static constexpr const char* kNames[] = {
#define CHECKED(enumerator, function) #function,
#define PLAIN(function)
#include "kernels/operations.def"
  };
  return kNames[static_cast<size_t>(operation)];
}

UseWays::UseWays(Ways ways) : ways_(ways), before_(ways_in_use) { ways_in_use = &ways_; }
UseWays::~UseWays() { ways_in_use = before_; }

Ways ways_for(const Tensor& x, std::optional<at::ScalarType> type) {
  check_given(x, "an operation of kernels.h");
  Ways ways = optimizer_ways(x, type.value_or(x.scalar_type()));
  if (!ways_in_use && !at::GradMode::is_enabled()) ways.fused = nullptr;
  return ways;
}

Ways optimizer_ways(const Tensor& x, at::ScalarType type) {
  return ways_in_use ? *ways_in_use : trusted_on(x.device(), type).ways;
}

std::map<Operation, std::string> disagreements(const Ways& ways, at::Device device,
                                               at::ScalarType type) {
  const at::AutoGradMode gradients(true);
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
  const at::tracer::impl::NoTracerDispatchMode no_trace;
  std::map<Operation, std::string> found;
  Operations checked;
  for (const bool even : {false, true}) {
    for (const Check& check : checks(device, type, even)) {
      checked.set(static_cast<size_t>(check.operation));
      if (found.contains(check.operation)) continue;
      const std::string what = disagreement(check, ways);
      if (!what.empty()) found[check.operation] = what;
    }
  }
  TORCH_INTERNAL_ASSERT(checked.all(), "an operation of kernels/operations.def has no check");
  return found;
}

Trusted trusted(const Fused* fused, at::Device device, at::ScalarType type) {
  Trusted result{{fused}, ""};
  std::string names, first;
  for (const auto& [operation, what] : disagreements(result.ways, device, type)) {
    result.ways.twins.set(static_cast<size_t>(operation));
    names += (names.empty() ? "" : ", ") + std::string(name_of(operation));
    if (first.empty()) first = what.substr(0, what.find('\n'));
  }
  if (!names.empty())
    result.warning = "plain ATen computes " + names + " on " + device.str() +
                     ", slower than fused operations, because the first of them failed: " + first;
  return result;
}

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

}  // namespace autoresearch
