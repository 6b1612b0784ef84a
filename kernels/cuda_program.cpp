#include "kernels/cuda_program.h"

#include <array>
#include <bit>
#include <map>
#include <mutex>
#include <sstream>

#include "common/error.h"
#include "common/log.h"
#include "kernels/embedded.h"

#ifdef AUTORESEARCH_NVRTC  // libtorch has CUDA in it, and NVRTC is beside it
#include <c10/core/DeviceGuard.h>
#include <c10/core/Stream.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include "kernels/cuda_api.h"
#endif

#ifdef AUTORESEARCH_CUDA
#include "kernels/cuda_api.h"
#endif

namespace autoresearch {

int cuda_capability([[maybe_unused]] at::Device device) {
#ifdef AUTORESEARCH_CUDA
  int major = 0, minor = 0;
  const bool known = cudaDeviceGetAttribute(&major, kCudaCapabilityMajor, device.index()) == 0 &&
                     cudaDeviceGetAttribute(&minor, kCudaCapabilityMinor, device.index()) == 0;
  check(known, "CUDA does not tell the compute capability of " + device.str());
  return major * 10 + minor;
#else
  return 0;
#endif
}

// ------------------------------------------------------------------------------------------------
// Parameters and arguments

namespace {

ParameterKind kind_of(const std::string& declaration) {  // "u64 name_param_0"
  if (declaration.starts_with("f32")) return ParameterKind::kFloat;
  if (declaration.starts_with("f64")) return ParameterKind::kDouble;
  const bool integer = declaration[0] == 'u' || declaration[0] == 's' || declaration[0] == 'b';
  return integer ? ParameterKind::kInteger : ParameterKind::kOther;  // .align: a struct
}

std::string entries(const std::string& ptx) {
  std::string names;
  for (size_t at = 0; (at = ptx.find(".entry ", at)) != std::string::npos;) {
    at += 7;
    names += (names.empty() ? "" : ", ") + ptx.substr(at, ptx.find('(', at) - at);
  }
  return names.empty() ? "none" : names;
}

uint64_t pack(const std::string& kernel, size_t i, ParameterKind kind,
              const CudaKernel::Argument& argument) {
  const std::string where = "the CUDA kernel " + kernel + ", argument " + std::to_string(i + 1);
  if (const auto* tensor = std::get_if<at::Tensor>(&argument.value)) {
    check(kind == ParameterKind::kInteger, where + ": a tensor, but the kernel takes no pointer");
    if (!tensor->defined()) return 0;
    check(tensor->is_contiguous(), where + ": the tensor is not contiguous");
    return reinterpret_cast<uint64_t>(tensor->data_ptr());
  }
  if (const auto* number = std::get_if<double>(&argument.value)) {
    if (kind == ParameterKind::kFloat) return std::bit_cast<uint32_t>(static_cast<float>(*number));
    check(kind == ParameterKind::kDouble,
          where + ": a floating-point number, but not to the kernel");
    return std::bit_cast<uint64_t>(*number);
  }
  check(kind == ParameterKind::kInteger, where + ": an integer, but not to the kernel");
  return static_cast<uint64_t>(std::get<int64_t>(argument.value));
}

}  // namespace

std::vector<ParameterKind> kernel_parameters(const std::string& ptx, const std::string& kernel) {
  const std::string entry = ".entry " + kernel + "(";
  const size_t begin = ptx.find(entry);
  check(begin != std::string::npos, "no kernel `extern \"C\" __global__ void " + kernel +
                                        "` in the CUDA source; it has: " + entries(ptx));
  const std::string list = ptx.substr(begin, ptx.find(')', begin) - begin);
  std::vector<ParameterKind> kinds;
  for (size_t at = 0; (at = list.find(".param .", at)) != std::string::npos;) {
    at += 8;
    kinds.push_back(kind_of(list.substr(at)));
  }
  return kinds;
}

std::vector<uint64_t> pack_arguments(const std::string& kernel,
                                     const std::vector<ParameterKind>& kinds,
                                     const std::vector<CudaKernel::Argument>& arguments) {
  check(kinds.size() == arguments.size(), "the CUDA kernel " + kernel + " takes " +
                                              std::to_string(kinds.size()) + " arguments, not " +
                                              std::to_string(arguments.size()));
  std::vector<uint64_t> values;
  for (size_t i = 0; i < kinds.size(); ++i)
    values.push_back(pack(kernel, i, kinds[i], arguments[i]));
  return values;
}

std::optional<at::Device> device_of(const std::string& kernel,
                                    const std::vector<CudaKernel::Argument>& arguments) {
  std::optional<at::Device> device;
  for (size_t i = 0; i < arguments.size(); ++i) {
    const auto* tensor = std::get_if<at::Tensor>(&arguments[i].value);
    if (!tensor || !tensor->defined()) continue;
    if (!device) device = tensor->device();
    check(tensor->device() == *device, "the CUDA kernel " + kernel + ", argument " +
                                           std::to_string(i + 1) + ": the tensor is on " +
                                           tensor->device().str() + ", another on " +
                                           device->str() + "; move it there");
  }
  return device;
}

// ------------------------------------------------------------------------------------------------
// Compiling

#ifdef AUTORESEARCH_NVRTC
namespace {

void check_nvrtc(int result, const char* what) {
  check(result == 0, std::string(what) + ": " + nvrtcGetErrorString(result));
}

// The newest architecture that NVRTC can compile for and a device of this capability can run.
int best_target(int capability) {
  int count = 0;
  check_nvrtc(nvrtcGetNumSupportedArchs(&count), "nvrtcGetNumSupportedArchs");
  std::vector<int> known(count);
  check_nvrtc(nvrtcGetSupportedArchs(known.data()), "nvrtcGetSupportedArchs");
  int best = 0;
  for (const int arch : known)
    if (arch <= capability) best = std::max(best, arch);
  check(best > 0, "this NVRTC compiles for no GPU as old as sm_" + std::to_string(capability));
  return best;
}

std::string first_error(const std::string& log) {
  std::istringstream lines(log);
  for (std::string line; std::getline(lines, line);)
    if (line.find("error") != std::string::npos) return line;
  return "no message";
}

class NvrtcProgram {
 public:
  NvrtcProgram(const std::string& source, const std::string& name) {
    check_nvrtc(nvrtcCreateProgram(&program_, source.c_str(), name.c_str(), 0, nullptr, nullptr),
                "nvrtcCreateProgram");
  }
  ~NvrtcProgram() { nvrtcDestroyProgram(&program_); }

  int compile(const std::vector<std::string>& options) {
    std::vector<const char*> pointers;
    for (const std::string& option : options) pointers.push_back(option.c_str());
    return nvrtcCompileProgram(program_, static_cast<int>(pointers.size()), pointers.data());
  }
  // What a pair of NVRTC functions gives: the size, with a final zero for texts, and the bytes.
  std::string get(int (*size)(void*, size_t*), int (*bytes)(void*, char*)) {
    size_t n = 0;
    check_nvrtc(size(program_, &n), "nvrtc: size of the result");
    std::string result(n, '\0');
    check_nvrtc(bytes(program_, result.data()), "nvrtc: result");
    return result;
  }

 private:
  void* program_ = nullptr;
};

}  // namespace

bool can_compile_cuda() { return true; }

CompiledCuda compile_cuda(const std::string& source, const std::string& name, int capability,
                          const std::vector<std::string>& defines) {
  const int target = best_target(capability);
  const bool exact = target == capability;
  NvrtcProgram program(
      std::string(kConstants) + kDevicePrelude + ("\n#line 1 \"" + name + "\"\n") + source, name);
  std::vector<std::string> options{
      "--std=c++17",
      std::string("--gpu-architecture=") + (exact ? "sm_" : "compute_") + std::to_string(target)};
  for (const std::string& define : defines) options.push_back("--define-macro=" + define);
  if (const int result = program.compile(options); result != 0) {
    const std::string log = program.get(nvrtcGetProgramLogSize, nvrtcGetProgramLog);
    throw Error("the CUDA source " + name + " does not compile for sm_" +
                std::to_string(capability) + " (" + nvrtcGetErrorString(result) +
                "): " + first_error(log) + "\n" + log.c_str());
  }
  const std::string ptx = program.get(nvrtcGetPTXSize, nvrtcGetPTX);
  return {exact ? program.get(nvrtcGetCUBINSize, nvrtcGetCUBIN) : ptx, ptx};
}

// ------------------------------------------------------------------------------------------------
// Loading and launching

namespace {

void check_cuda(int result, const std::string& what) {
  if (result == 0) return;
  (void)cudaGetLastError();  // else ATen's next launch would report it as its own
  throw Error(what + ": " + cudaGetErrorString(result));
}

struct LoadedKernel {
  void* handle;
  std::vector<ParameterKind> parameters;
};

}  // namespace

struct CudaProgram::Impl {
  explicit Impl(at::Device device) : device(device) {}
  at::Device device;
  std::string ptx;
  void* library = nullptr;
  std::map<std::string, LoadedKernel> kernels;
  std::mutex mutex;  // backward runs on a thread of its own

  const LoadedKernel& find(const std::string& name) {
    const std::lock_guard lock(mutex);
    if (const auto found = kernels.find(name); found != kernels.end()) return found->second;
    LoadedKernel kernel{nullptr, kernel_parameters(ptx, name)};
    check_cuda(cudaLibraryGetKernel(&kernel.handle, library, name.c_str()),
               "the CUDA kernel " + name + " can't be loaded");
    return kernels.emplace(name, std::move(kernel)).first->second;
  }
};

CudaProgram::CudaProgram(const CompiledCuda& compiled, const std::string& name, at::Device device)
    : impl_(new Impl(device)) {
  const c10::DeviceGuard guard(device);
  check_cuda(cudaLibraryLoadData(&impl_->library, compiled.cubin.c_str(), nullptr, nullptr, 0,
                                 nullptr, nullptr, 0),
             "the CUDA source " + name + " can't be loaded");
  impl_->ptx = compiled.ptx;
}

CudaProgram::~CudaProgram() = default;

void CudaProgram::launch(const std::string& name, int64_t blocks, int64_t threads,
                         const std::vector<CudaKernel::Argument>& arguments) {
  const LoadedKernel& kernel = impl_->find(name);
  std::vector<uint64_t> values = pack_arguments(name, kernel.parameters, arguments);
  if (blocks == 0) return;
  check(blocks > 0 && blocks < int64_t{1} << 31 && threads > 0 && threads <= 1024,
        "the CUDA kernel " + name + ": " + std::to_string(blocks) + " blocks of " +
            std::to_string(threads) + " threads; at most 2147483647 of 1024");
  std::vector<void*> pointers;
  for (uint64_t& value : values) pointers.push_back(&value);
  const c10::DeviceGuard guard(impl_->device);
  CudaLaunch config;
  config.grid.x = static_cast<unsigned>(blocks);
  config.block.x = static_cast<unsigned>(threads);
  config.stream = c10::impl::VirtualGuardImpl(at::kCUDA).getStream(impl_->device).native_handle();
  check_cuda(cudaLaunchKernelExC(&config, kernel.handle, pointers.data()),
             "the CUDA kernel " + name + " can't be launched");
}

#else  // without NVRTC

bool can_compile_cuda() { return false; }

CompiledCuda compile_cuda(const std::string&, const std::string&, int,
                          const std::vector<std::string>&) {
  throw Error("this build compiles no CUDA: libtorch is for CPUs alone, or for CUDA before 12.8");
}

struct CudaProgram::Impl {};
CudaProgram::CudaProgram(const CompiledCuda&, const std::string&, at::Device) {}
CudaProgram::~CudaProgram() = default;
void CudaProgram::launch(const std::string&, int64_t, int64_t,
                         const std::vector<CudaKernel::Argument>&) {}

#endif

// ------------------------------------------------------------------------------------------------
// Kernels of train.cpp's own

struct CudaKernel::Impl {
  Impl(std::string source, std::string name) : source(std::move(source)), name(std::move(name)) {}
  std::string source, name;
  std::mutex mutex;
  std::map<at::DeviceIndex, std::unique_ptr<CudaProgram>> programs;

  CudaProgram& program(at::Device device) {
    const std::lock_guard lock(mutex);
    std::unique_ptr<CudaProgram>& compiled = programs[device.index()];
    if (compiled) return *compiled;
    try {
      compiled = std::make_unique<CudaProgram>(compile_cuda(source, name, cuda_capability(device)),
                                               name, device);
    } catch (const Error& error) {  // main prints its first line: the compiler's first error
      log_info(error.what());
      throw;
    }
    return *compiled;
  }
};

CudaKernel::CudaKernel(std::string source, std::string name)
    : impl_(std::make_shared<Impl>(std::move(source), std::move(name))) {}

void CudaKernel::launch(int64_t blocks, int64_t threads,
                        std::initializer_list<Argument> arguments) const {
  const std::optional<at::Device> device = device_of(impl_->name, arguments);
  check(device && device->is_cuda(),
        "the CUDA kernel " + impl_->name + " needs tensors on a GPU; on a CPU use ATen");
  impl_->program(*device).launch(impl_->name, blocks, threads, arguments);
}

}  // namespace autoresearch
