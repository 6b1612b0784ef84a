// What cmake/libtorch.cmake compiles and links before anything else.
#include <ATen/core/TensorBase.h>
#ifdef AUTORESEARCH_CUDA
#include "kernels/cuda_api.h"
#endif

int main() {
  int status = at::TensorBase().defined();
#ifdef AUTORESEARCH_CUDA
  status += autoresearch::cudaRuntimeGetVersion(&status);
#endif
#ifdef AUTORESEARCH_NVRTC
  status += autoresearch::nvrtcGetNumSupportedArchs(&status);
#endif
  return status;
}
