// The shape of a C function's type, so that two declarations in different translation units can be
// compared: "4(p,4,s12)" returns four bytes, takes a pointer, four bytes and a struct of twelve.
#pragma once

#include <string>
#include <type_traits>

namespace autoresearch {

template <class T>
std::string shape_of() {
  if constexpr (std::is_pointer_v<T>) return "p";
  return (std::is_class_v<T> ? "s" : "") + std::to_string(sizeof(T));
}

template <class Result, class... Arguments>
std::string signature(Result (*)(Arguments...)) {
  std::string text = shape_of<Result>() + "(";
  ((text += shape_of<Arguments>() + ","), ...);
  return text + ")";
}

}  // namespace autoresearch

// The functions that kernels/cuda_api.h declares.
#define FOR_EACH_CUDA_FUNCTION(DO) \
  DO(cudaRuntimeGetVersion)        \
  DO(cudaDeviceGetAttribute)       \
  DO(cudaGetLastError)             \
  DO(cudaGetErrorString)           \
  DO(cudaLibraryLoadData)          \
  DO(cudaLibraryGetKernel)         \
  DO(cudaLaunchKernelExC)          \
  DO(nvrtcCreateProgram)           \
  DO(nvrtcDestroyProgram)          \
  DO(nvrtcCompileProgram)          \
  DO(nvrtcGetNumSupportedArchs)    \
  DO(nvrtcGetSupportedArchs)       \
  DO(nvrtcGetPTXSize)              \
  DO(nvrtcGetPTX)                  \
  DO(nvrtcGetCUBINSize)            \
  DO(nvrtcGetCUBIN)                \
  DO(nvrtcGetProgramLogSize)       \
  DO(nvrtcGetProgramLog)           \
  DO(nvrtcGetErrorString)
