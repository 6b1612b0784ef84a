// Our declarations of CUDA's functions against NVIDIA's headers.
#include "kernels/cuda_api.h"

#include <gtest/gtest.h>

#include <map>

#include "tests/signature.h"

namespace autoresearch {

std::map<std::string, std::string> nvidia_signatures();
std::map<std::string, size_t> nvidia_layout();

namespace {

TEST(CudaApi, FunctionsAreDeclaredAsNvidiaDeclaresThem) {
  std::map<std::string, std::string> ours;
#define ADD(name) ours[#name] = signature(&name);
  FOR_EACH_CUDA_FUNCTION(ADD)
#undef ADD
  EXPECT_EQ(ours, nvidia_signatures());
}

TEST(CudaApi, StructsAndConstantsAreNvidias) {
  const std::map<std::string, size_t> ours = {
      {"name", offsetof(cudaDeviceProp, name)},
      {"name's size", sizeof(cudaDeviceProp::name)},
      {"memory", offsetof(cudaDeviceProp, total_global_memory)},
      {"launch", sizeof(CudaLaunch)},
      {"grid", offsetof(CudaLaunch, grid)},
      {"block", offsetof(CudaLaunch, block)},
      {"shared", offsetof(CudaLaunch, shared_memory_bytes)},
      {"stream", offsetof(CudaLaunch, stream)},
      {"attributes", offsetof(CudaLaunch, attributes)},
      {"attribute count", offsetof(CudaLaunch, attribute_count)},
      {"major", kCudaCapabilityMajor},
      {"minor", kCudaCapabilityMinor}};
  EXPECT_EQ(ours, nvidia_layout());
}

}  // namespace
}  // namespace autoresearch
