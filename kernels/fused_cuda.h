// The fused operations on a GPU: the kernels of kernels/fused.cu, compiled for the device in hand.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "kernels/fused.h"
#include "kernels/kernels.h"

namespace autoresearch {

// The operations on this device. Their kernels begin to be compiled here (cuda_program.h) and are
// waited for where an operation first needs them, about a second; what can't be compiled or
// launched throws Error there.
std::unique_ptr<Fused> fused_cuda(at::Device device);

// One way of compiling fused.cu: for a type of activation, and moving 16 bytes or one element at a
// time.
struct FusedVariant {
  at::ScalarType activation;
  bool wide;
  auto operator<=>(const FusedVariant&) const = default;
  std::vector<std::string> defines() const;  // "ACTIVATION=bf16", "WIDE=1"
};
constexpr FusedVariant kFusedVariants[] = {
    {at::kFloat, true}, {at::kFloat, false}, {at::kBFloat16, true}, {at::kBFloat16, false}};

// How the operations reach a device: launches a kernel of fused.cu. The tests put a CPU in the
// GPU's place here.
using FusedLauncher =
    std::function<void(FusedVariant variant, const std::string& kernel, int64_t blocks,
                       int64_t threads, const std::vector<CudaKernel::Argument>& arguments)>;
std::unique_ptr<Fused> fused_cuda(FusedLauncher launcher);

}  // namespace autoresearch
