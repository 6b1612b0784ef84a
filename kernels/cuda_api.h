// The few functions of CUDA's runtime and of NVRTC that this project calls, declared here.
//
// CUDA's own headers are not included: a torch wheel brings only some of them, and which ones
// differs from version to version. What is declared here has been the same since CUDA 12.8, and
// tests/cuda_api_test.cpp compares it with NVIDIA's headers on machines that have them. Sources:
// CUDA Runtime API and NVRTC reference manuals, versions 12.8 and 13.0.
//
// Status codes are enumerations in NVIDIA's headers and plain ints here; 0 is success for both
// libraries. Include this file only if AUTORESEARCH_CUDA is defined; what NVRTC has needs
// AUTORESEARCH_NVRTC.
#pragma once

#include <c10/core/Device.h>

#include <cstddef>

// The first fields of CUDA's struct, which later versions only extend at its end.
struct cudaDeviceProp {
  char name[256];
  char uuid[16];
  char luid[8];
  unsigned luid_device_node_mask;
  size_t total_global_memory;  // bytes
};

namespace at::cuda {
cudaDeviceProp* getDeviceProperties(c10::DeviceIndex device);  // of libtorch_cuda; not to be freed
}

namespace autoresearch {

struct CudaDim {
  unsigned x = 1, y = 1, z = 1;
};

// CUDA's cudaLaunchConfig_t.
struct CudaLaunch {
  CudaDim grid, block;
  size_t shared_memory_bytes = 0;
  void* stream = nullptr;
  void* attributes = nullptr;
  unsigned attribute_count = 0;
};

// Values of CUDA's cudaDeviceAttr.
constexpr int kCudaCapabilityMajor = 75, kCudaCapabilityMinor = 76;

extern "C" {

int cudaRuntimeGetVersion(int* version);  // 13000 for CUDA 13.0
int cudaDeviceGetAttribute(int* value, int attribute, int device);
int cudaGetLastError();
const char* cudaGetErrorString(int error);
int cudaLibraryLoadData(void** library, const void* code, void* jit_options,
                        void** jit_option_values, unsigned jit_options_count, void* options,
                        void** option_values, unsigned options_count);
int cudaLibraryGetKernel(void** kernel, void* library, const char* name);
int cudaLaunchKernelExC(const CudaLaunch* launch, const void* kernel, void** arguments);

int nvrtcCreateProgram(void** program, const char* source, const char* name, int headers_count,
                       const char* const* headers, const char* const* include_names);
int nvrtcDestroyProgram(void** program);
int nvrtcCompileProgram(void* program, int options_count, const char* const* options);
int nvrtcGetNumSupportedArchs(int* count);
int nvrtcGetSupportedArchs(int* archs);
int nvrtcGetPTXSize(void* program, size_t* size);
int nvrtcGetPTX(void* program, char* ptx);
int nvrtcGetCUBINSize(void* program, size_t* size);
int nvrtcGetCUBIN(void* program, char* cubin);
int nvrtcGetProgramLogSize(void* program, size_t* size);
int nvrtcGetProgramLog(void* program, char* log);
const char* nvrtcGetErrorString(int result);

}  // extern "C"

}  // namespace autoresearch
