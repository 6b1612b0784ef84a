// CUDA source that is compiled while the program runs, with NVRTC, loaded through the CUDA runtime
// and launched on ATen's current stream. Needs neither nvcc nor any header at run time. Nothing is
// cached on disk: compiling takes some tenths of a second, and a cache would be a way for one
// candidate to reach the next.
//
// With a libtorch for CPUs alone, or for CUDA before 12.8, everything here throws Error.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "kernels/kernels.h"

namespace autoresearch {

// True if this build has NVRTC and a CUDA runtime that loads what it compiles.
bool can_compile_cuda();

// Compute capability of a CUDA device, 90 for sm_90; 0 if this build knows no CUDA.
int cuda_capability(at::Device device);

struct CompiledCuda {
  std::string cubin;  // machine code; PTX if NVRTC is older than the device
  std::string ptx;    // assembly, from which the kernels' parameters are read
};

// Compiles `source`, after kernels/device_prelude.cuh, for a compute capability (90 = sm_90).
// `name` stands for the file in messages. Throws Error whose first line is the compiler's first
// error, followed by its whole log. Works without a GPU.
CompiledCuda compile_cuda(const std::string& source, const std::string& name, int capability,
                          const std::vector<std::string>& defines = {});

// What a kernel takes, in order.
enum class ParameterKind { kInteger, kFloat, kDouble, kOther };  // a pointer is an integer here
std::vector<ParameterKind> kernel_parameters(const std::string& ptx, const std::string& kernel);

// The values of a launch in the form that the driver reads: eight bytes each, least significant
// first, so that an integer fits every width. Throws Error if number or kind differ from what
// the kernel takes, and for tensors that are not contiguous.
std::vector<uint64_t> pack_arguments(const std::string& kernel,
                                     const std::vector<ParameterKind>& kinds,
                                     const std::vector<CudaKernel::Argument>& arguments);

// The device of the tensors among a launch's arguments; none if all are undefined. Throws Error if
// they are on several.
std::optional<at::Device> device_of(const std::string& kernel,
                                    const std::vector<CudaKernel::Argument>& arguments);

// Kernels that were compiled together, loaded on one device. They stay loaded until the process
// ends, because launches may be under way whenever an object dies.
class CudaProgram {
 public:
  // Compiled for this device's capability; `name` stands for the source in messages.
  CudaProgram(const CompiledCuda& compiled, const std::string& name, at::Device device);
  ~CudaProgram();
  CudaProgram(const CudaProgram&) = delete;
  CudaProgram& operator=(const CudaProgram&) = delete;

  // Blocks and threads along x. No block is no launch.
  void launch(const std::string& kernel, int64_t blocks, int64_t threads,
              const std::vector<CudaKernel::Argument>& arguments);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace autoresearch
