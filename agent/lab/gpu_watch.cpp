#include "agent/lab/gpu_watch.h"

#include <dlfcn.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <sstream>
#include <vector>

#include "common/process_table.h"

namespace autoresearch {
namespace {

// NVML's own numbers and layouts, from its reference.
constexpr int kSuccess = 0;
constexpr unsigned kSmClock = 1, kCoreSensor = 0;
constexpr unsigned long long kHardware = 0x08, kSoftwareHeat = 0x20, kHardwareHeat = 0x40,
                             kPowerBrake = 0x80;
constexpr unsigned kBusyPercent = 5;  // of its cores: less is a desktop

struct Utilization {
  unsigned pid;
  unsigned long long time;
  unsigned cores, memory, encoder, decoder;  // percent
};

// The number, or the UUID, of the GPU that CUDA calls `device`.
std::string name_of(const std::string& device) {
  const size_t colon = device.find(':');
  const size_t number =
      colon == std::string::npos ? 0 : std::strtoul(device.c_str() + colon + 1, nullptr, 10);
  const char* visible = std::getenv("CUDA_VISIBLE_DEVICES");
  std::istringstream names(visible ? visible : "");
  std::string name;
  for (size_t i = 0; std::getline(names, name, ','); ++i)
    if (i == number) return name;
  return std::to_string(number);
}

// Whether a process descends from this one: the child that is watched, or another of the run.
bool is_ours(pid_t pid) {
  while (pid > 1 && pid != getpid()) {
    const auto stat = read_stat(pid);
    pid = stat ? stat->parent : 0;
  }
  return pid == getpid();
}

}  // namespace

struct GpuWatch::Library {
  Library() : file(dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL)) {
    if (!file) return;
    find(init, "nvmlInit_v2");
    find(shutdown, "nvmlShutdown");
    find(by_index, "nvmlDeviceGetHandleByIndex_v2");
    find(by_uuid, "nvmlDeviceGetHandleByUUID");
    find(clock, "nvmlDeviceGetClockInfo");
    find(temperature, "nvmlDeviceGetTemperature");
    find(reasons, "nvmlDeviceGetCurrentClocksThrottleReasons");
    find(utilization, "nvmlDeviceGetProcessUtilization");
    works = whole && init() == kSuccess;
  }
  ~Library() {
    if (works) shutdown();
    if (file) dlclose(file);
  }
  template <typename Function>
  void find(Function& function, const char* name) {
    function = reinterpret_cast<Function>(dlsym(file, name));
    whole = whole && function != nullptr;
  }

  void* file;
  bool whole = true, works = false;
  int (*init)() = nullptr;
  int (*shutdown)() = nullptr;
  int (*by_index)(unsigned, void**) = nullptr;
  int (*by_uuid)(const char*, void**) = nullptr;
  int (*clock)(void*, unsigned, unsigned*) = nullptr;
  int (*temperature)(void*, unsigned, unsigned*) = nullptr;
  int (*reasons)(void*, unsigned long long*) = nullptr;
  int (*utilization)(void*, Utilization*, unsigned*, unsigned long long) = nullptr;
};

GpuWatch::GpuWatch(const std::string& device) {
  if (device.empty() || device == "cpu") return;
  auto library = std::make_unique<Library>();
  if (!library->works) return;
  const std::string name = name_of(device);
  const bool found =
      name.find('-') != std::string::npos
          ? library->by_uuid(name.c_str(), &handle_) == kSuccess
          : library->by_index(static_cast<unsigned>(std::atoi(name.c_str())), &handle_) == kSuccess;
  if (found) library_ = std::move(library);
}

GpuWatch::~GpuWatch() = default;

std::optional<GpuWatch::Look> GpuWatch::look() {
  if (!library_) return std::nullopt;
  unsigned megahertz = 0, celsius = 0;
  unsigned long long reasons = 0;
  library_->clock(handle_, kSmClock, &megahertz);  // what a GPU can't tell stays 0
  library_->temperature(handle_, kCoreSensor, &celsius);
  library_->reasons(handle_, &reasons);
  constexpr auto kSlow = kHardware | kSoftwareHeat | kHardwareHeat | kPowerBrake;
  return Look{static_cast<double>(megahertz), static_cast<double>(celsius), (reasons & kSlow) != 0,
              foreign()};
}

// In a container NVML may number processes otherwise than we do: only where our own was among them
// can a number be trusted to be somebody else's.
bool GpuWatch::foreign() {
  unsigned count = 0;
  library_->utilization(handle_, nullptr, &count, seen_);  // asks how many there are
  std::vector<Utilization> samples(count);
  if (count == 0 || library_->utilization(handle_, samples.data(), &count, seen_) != kSuccess)
    return false;
  bool found = false;
  for (const Utilization& sample : samples) {
    seen_ = std::max(seen_, sample.time);
    const auto pid = static_cast<pid_t>(sample.pid);
    const bool ours = is_ours(pid);
    sees_ours_ = sees_ours_ || ours;
    found = found || (!ours && sample.cores >= kBusyPercent && read_stat(pid).has_value());
  }
  return found && sees_ours_;
}

}  // namespace autoresearch
