// What NVIDIA's own headers say, for tests/cuda_api_test.cpp.
#include <cuda_runtime_api.h>
#include <nvrtc.h>

#include <cstddef>
#include <map>

#include "tests/signature.h"

namespace autoresearch {

std::map<std::string, std::string> nvidia_signatures() {
  std::map<std::string, std::string> result;
#define ADD(name) result[#name] = signature(&name);
  FOR_EACH_CUDA_FUNCTION(ADD)
#undef ADD
  return result;
}

std::map<std::string, size_t> nvidia_layout() {
  return {{"name", offsetof(cudaDeviceProp, name)},
          {"name's size", sizeof(cudaDeviceProp::name)},
          {"memory", offsetof(cudaDeviceProp, totalGlobalMem)},
          {"launch", sizeof(cudaLaunchConfig_t)},
          {"grid", offsetof(cudaLaunchConfig_t, gridDim)},
          {"block", offsetof(cudaLaunchConfig_t, blockDim)},
          {"shared", offsetof(cudaLaunchConfig_t, dynamicSmemBytes)},
          {"stream", offsetof(cudaLaunchConfig_t, stream)},
          {"attributes", offsetof(cudaLaunchConfig_t, attrs)},
          {"attribute count", offsetof(cudaLaunchConfig_t, numAttrs)},
          {"major", cudaDevAttrComputeCapabilityMajor},
          {"minor", cudaDevAttrComputeCapabilityMinor}};
}

}  // namespace autoresearch
