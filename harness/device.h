// Which device a run computes on, what it is called and what it can do at best.
#pragma once

#include <optional>
#include <string>

#include "harness/harness.h"

namespace autoresearch {

// What the machine has, as far as choosing needs it.
struct CudaStatus {
  bool usable = false;  // libtorch sees at least one CUDA device
  int devices = 0;
  std::string driver;   // nvidia_driver() of common/nvidia.h; empty: no NVIDIA device here
  std::string library;  // CUDA version libtorch was built for
};
CudaStatus cuda_status();

// Resolves "auto", "cpu", "cuda" or "cuda:N" to a device. Throws Error if it can't be had. "auto"
// on a machine with an NVIDIA device that CUDA can't use is an error too, never a silent night on
// the CPU.
at::Device choose_device(const std::string& wanted, const CudaStatus& status);

// Name, memory, peak FLOP/s and arithmetic of a device that was chosen.
Device describe_device(at::Device device);

// Dense bf16 FLOP/s (fp16 on cards without bf16) by the data sheet of the GPU with this name; 0 if
// it is not in the table, and for those that share the name of a faster one: laptops, MIG slices.
double peak_flops(const std::string& gpu_name);

// Rows of a batch when a model is scored, which is fixed when the model is sealed. It depends on
// the memory that the device has, not on what is free, so that it is the same for every candidate.
int64_t scoring_rows(const Device& device, int64_t seq_len, int64_t vocab_size);

// Makes `device` the current one of this thread. Otherwise whatever CUDA does without naming a
// device would take memory on the first one. To be called before anything is computed.
void use_device(at::Device device);

// From here on a lack of main memory throws c10::OutOfMemoryError, as that of a GPU's memory does,
// and not the plain c10::Error of ATen's allocator: a step can then be repeated in smaller pieces.
void tell_lack_of_memory();

// From here on a GPU's memory is taken in segments that grow, so that what a large step has left
// can serve smaller ones of any size. What the user has set in PYTORCH_ALLOC_CONF stays as it is.
void expand_segments();

// Keeps freed memory for the next step. To get the same pages from the kernel in every step took a
// tenth of a step's time on a CPU.
void keep_memory();

void synchronize(at::Device device);

// Most memory in use so far, in bytes: the allocator's on a GPU, resident memory on a CPU.
int64_t peak_memory(at::Device device);

}  // namespace autoresearch
