#include "harness/device.h"

#include <ATen/Context.h>
#include <c10/core/AllocatorConfig.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <malloc.h>
#include <sys/resource.h>
#include <unistd.h>

#include <fstream>
#include <regex>

#include "common/error.h"
#include "common/nvidia.h"
#include "kernels/cuda_program.h"
#include "referee/graph.h"

#ifdef AUTORESEARCH_CUDA  // libtorch has CUDA in it; a libtorch for CPUs alone serves as well
#include "kernels/cuda_api.h"
#endif

namespace autoresearch {
namespace {

// One entry a card: a part of its name and dense FLOP/s with float32 accumulation, from NVIDIA's
// data sheets and architecture white papers: bf16, or fp16 on the cards before Ampere, which have
// no bf16. The first match of whole words counts, so longer names stand before their prefixes.
struct Card {
  const char* name;
  double flops;
};
constexpr Card kCards[] = {
    // Data centres
    {"GB300", 2500e12},
    {"GB200", 2500e12},
    {"B300", 2250e12},
    {"B200", 2250e12},
    {"H200 NVL", 835.5e12},
    {"H200", 989.5e12},
    {"GH200", 989.5e12},
    {"H100 PCIe", 756e12},
    {"H100 NVL", 835.5e12},
    {"H100", 989.5e12},
    {"H800", 989.5e12},
    {"H20", 148e12},
    {"A100", 312e12},
    {"A800", 312e12},
    {"A40", 149.7e12},
    {"A30", 165e12},
    {"A10G", 70e12},
    {"A10", 125e12},
    {"L40S", 362e12},
    {"L40", 181e12},
    {"L20", 119.5e12},
    {"L4", 121e12},
    {"A2", 18e12},
    {"V100S", 130e12},
    {"V100-PCIE", 112e12},
    {"V100", 125e12},
    {"T4", 65e12},
    // Workstations
    {"RTX PRO 6000 Blackwell Max-Q", 438.9e12},
    {"RTX PRO 6000 Blackwell Server", 480e12},
    {"RTX PRO 6000", 503.8e12},
    {"RTX 6000 Ada", 364.2e12},
    {"RTX 5000 Ada", 261.1e12},
    {"RTX 4500 Ada", 158.5e12},
    {"RTX 4000 SFF Ada", 76.7e12},
    {"RTX 4000 Ada", 106.9e12},
    {"RTX 2000 Ada", 48e12},
    {"RTX A6000", 154.8e12},
    {"RTX A5500", 136.4e12},
    {"RTX A5000", 111.1e12},
    {"RTX A4500", 94.6e12},
    {"RTX A4000", 76.7e12},
    {"RTX A2000", 31.9e12},
    {"Quadro RTX 8000", 130.5e12},
    {"Quadro RTX 6000", 130.5e12},
    {"Quadro RTX 5000", 89.2e12},
    // Desktops: twice the shaders' float32 rate
    {"RTX 5090", 209.5e12},
    {"RTX 5080", 112.6e12},
    {"RTX 5070 Ti", 87.9e12},
    {"RTX 5070", 61.7e12},
    {"RTX 5060 Ti", 47.4e12},
    {"RTX 5060", 38.4e12},
    {"RTX 4090 D", 147.1e12},
    {"RTX 4090", 165.2e12},
    {"RTX 4080 SUPER", 104.4e12},
    {"RTX 4080", 97.5e12},
    {"RTX 4070 Ti SUPER", 88.2e12},
    {"RTX 4070 Ti", 80.2e12},
    {"RTX 4070 SUPER", 70.9e12},
    {"RTX 4070", 58.3e12},
    {"RTX 4060 Ti", 44.1e12},
    {"RTX 4060", 30.2e12},
    {"RTX 3090 Ti", 80e12},
    {"RTX 3090", 71e12},
    {"RTX 3080 Ti", 68.2e12},
    {"RTX 3080", 59.5e12},
    {"RTX 3070 Ti", 43.5e12},
    {"RTX 3070", 40.6e12},
    {"RTX 3060 Ti", 32.4e12},
    {"RTX 3060", 25.5e12},
    {"RTX 3050", 18.2e12},
    {"TITAN RTX", 130.5e12},
    {"RTX 2080 Ti", 53.8e12},
    {"RTX 2080 SUPER", 44.6e12},
    {"RTX 2080", 40.3e12},
    {"RTX 2070 SUPER", 36.2e12},
    {"RTX 2070", 29.9e12},
    {"RTX 2060 SUPER", 28.7e12},
    {"RTX 2060", 25.8e12},
};

// Whether `word` stands in `text`, not as a part of a longer word: "RTX A1000" is no A100.
bool has_word(const std::string& text, const std::string& word) {
  for (size_t at = 0; (at = text.find(word, at)) != std::string::npos; ++at) {
    const size_t end = at + word.size();
    const bool begins = at == 0 || !std::isalnum(static_cast<unsigned char>(text[at - 1]));
    const bool ends = end == text.size() || !std::isalnum(static_cast<unsigned char>(text[end]));
    if (begins && ends) return true;
  }
  return false;
}

class CpuAllocator : public c10::Allocator {
 public:
  explicit CpuAllocator(c10::Allocator* real) : real_(real) {}

  c10::DataPtr allocate(size_t bytes) override {
    try {
      return real_->allocate(bytes);
    } catch (const c10::Error& error) {
      TORCH_CHECK_WITH(OutOfMemoryError, false, error.what_without_backtrace());
    }
  }
  c10::DeleterFnPtr raw_deleter() const override { return real_->raw_deleter(); }
  void copy_data(void* to, const void* from, size_t bytes) const override {
    real_->copy_data(to, from, bytes);
  }

 private:
  c10::Allocator* real_;
};

std::string cpu_name() {
  std::ifstream in("/proc/cpuinfo");
  for (std::string line; std::getline(in, line);)
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
  return "CPU";
}

// The oldest driver that runs programs of this CUDA version; 0 if that is not known.
int oldest_driver(const std::string& cuda) {
  return cuda.starts_with("13.") ? 580 : cuda.starts_with("12.") ? 525 : 0;
}

// Of a status that is not usable: what is wrong, and what to type.
std::string why_unusable(const CudaStatus& status) {
  if (status.driver.empty()) return "no NVIDIA device here; check the driver with nvidia-smi";
  if (status.library == "none")
    return "an NVIDIA device is here, but this libtorch is for CPUs alone; use --device cpu, or "
           "fetch one with CUDA: cmake --fresh --preset demo, in a shell that has no other torch";
  const std::string facts = "driver " + status.driver + ", libtorch is for CUDA " + status.library;
  const int needed = oldest_driver(status.library), found = std::atoi(status.driver.c_str());
  if (found == 0 || found >= needed)
    return "an NVIDIA device is here, but CUDA can't use it (" + facts +
           "); see what nvidia-smi says of it";
  const std::string update = "update the driver to " + std::to_string(needed) + " or later";
  const std::string old = "the NVIDIA driver is too old for this libtorch (" + facts + "); ";
  if (found < oldest_driver("12.8")) return old + update;
  return old + update +
         ", or type: python3 -m venv ~/cu128 && ~/cu128/bin/pip install 'torch==2.11.*' "
         "--index-url https://download.pytorch.org/whl/cu128 && cmake --fresh --preset demo "
         "-DCMAKE_PREFIX_PATH=$(echo ~/cu128/lib/python3*/site-packages) && cmake --build build";
}

}  // namespace

CudaStatus cuda_status() {
  CudaStatus status;
  status.driver = nvidia_driver();
  status.library = "none";
#ifdef AUTORESEARCH_CUDA
  int version = 0;
  if (cudaRuntimeGetVersion(&version) == 0)
    status.library = std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
#endif
  if (at::globalContext().hasCUDA()) {
    status.devices = static_cast<int>(at::getNumGPUs());
    status.usable = status.devices > 0;
  }
  return status;
}

at::Device choose_device(const std::string& wanted, const CudaStatus& status) {
  if (wanted == "cpu") return at::kCPU;
  const bool any = wanted == "auto" || wanted == "cuda";
  check(any || std::regex_match(wanted, std::regex("cuda:[0-9]{1,2}")),
        "unknown device '" + wanted + "'; use --device auto, cpu, cuda or cuda:N");
  if (!status.usable) {
    if (wanted == "auto" && status.driver.empty()) return at::kCPU;
    throw Error(why_unusable(status) + ", or use --device cpu");
  }
  const int index = any ? 0 : std::stoi(wanted.substr(5));
  check(index < status.devices, "no device " + wanted + "; this machine has " +
                                    std::to_string(status.devices) + ", counted from cuda:0");
  return at::Device(at::kCUDA, static_cast<at::DeviceIndex>(index));
}

Device describe_device(at::Device device) {
  Device result;
  result.device = device;
  if (device.is_cpu()) {
    result.name = cpu_name();
    result.memory_gb = static_cast<double>(sysconf(_SC_PHYS_PAGES)) *
                       static_cast<double>(sysconf(_SC_PAGE_SIZE)) / 1e9;
#ifdef __x86_64__
    result.bfloat16 = __builtin_cpu_supports("avx512bf16");
#endif
    return result;
  }
#ifdef AUTORESEARCH_CUDA
  const cudaDeviceProp& properties = *at::cuda::getDeviceProperties(device.index());
  result.name = properties.name;
  result.memory_gb = static_cast<double>(properties.total_global_memory) / 1e9;
#endif
  result.bfloat16 = cuda_capability(device) >= 80;
  result.peak_flops = peak_flops(result.name);
  return result;
}

double peak_flops(const std::string& gpu_name) {
  for (const char* slower : {"Laptop", "MIG"})
    if (has_word(gpu_name, slower)) return 0;
  for (const Card& card : kCards)
    if (has_word(gpu_name, card.name)) return card.flops;
  return 0;
}

int64_t scoring_rows(const Device& device, int64_t seq_len, int64_t vocab_size) {
  if (!device.is_cuda()) return scoring_rows_on_cpu(seq_len);
  // CUDA: float32 logits, of which three copies live at a time, and activations that may take as
  // much as 2,048 logits more, beside the weights and half a GB of CUDA's own. 640 MiB a copy keep
  // a large GPU busy; a small one spares a sixteenth of its memory.
  constexpr double kEnough = 640 << 20, kActivations = 2048;
  const double token = 4 * (static_cast<double>(vocab_size) + kActivations);
  const double copy = std::min(kEnough, device.memory_gb * 1e9 / 16);
  const auto rows = static_cast<int64_t>(copy / (token * static_cast<double>(seq_len)));
  return std::clamp<int64_t>(rows, 1, kMostScoringRows);
}

void use_device(at::Device device) {
  if (!device.is_cpu()) c10::impl::VirtualGuardImpl(device.type()).setDevice(device);
}

void tell_lack_of_memory() {
  static CpuAllocator allocator(c10::GetCPUAllocator());
  constexpr uint8_t kPriority = 50;  // above ATen's own
  c10::SetCPUAllocator(&allocator, kPriority);
}

void expand_segments() {
  if (std::getenv("PYTORCH_ALLOC_CONF") || std::getenv("PYTORCH_CUDA_ALLOC_CONF")) return;
  c10::CachingAllocator::setAllocatorSettings("expandable_segments:True");
}

void keep_memory() {
#ifdef __GLIBC__
  constexpr int kBlock = 32 << 20, kKept = 1 << 30;  // bytes; glibc takes no larger block
  mallopt(M_MMAP_THRESHOLD, kBlock);
  mallopt(M_TRIM_THRESHOLD, kKept);
#endif
}

void synchronize(at::Device device) {
  if (device.is_cpu()) return;
  c10::impl::VirtualGuardImpl(device.type()).synchronizeDevice(device.index());
}

int64_t peak_memory(at::Device device) {
  if (device.is_cpu()) {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    return int64_t{usage.ru_maxrss} * 1024;
  }
  const auto stats = at::getDeviceAllocator(device.type())->getDeviceStats(device.index());
  return stats.allocated_bytes[0].peak;
}

}  // namespace autoresearch
