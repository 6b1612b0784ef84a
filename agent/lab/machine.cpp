#include "agent/lab/machine.h"

#include <algorithm>
#include <ctime>
#include <fstream>

#include "common/limits.h"
#include "common/nvidia.h"
#include "common/text.h"

namespace autoresearch {
namespace {

// What stands behind the colon of the first line that begins with `key`.
std::string value_of(const fs::path& path, const std::string& key) {
  std::ifstream in(path);
  for (std::string line; std::getline(in, line);)
    if (line.starts_with(key)) return trim(line.substr(std::min(line.find(':'), line.size()) + 1));
  return "";
}

}  // namespace

std::string machine_name() {
  std::string name = value_of("/proc/cpuinfo", "model name");
  std::error_code ignored;
  for (const auto& gpu : fs::directory_iterator("/proc/driver/nvidia/gpus", ignored))
    name += "; " + value_of(gpu.path() / "information", "Model:");
  if (has_nvidia_device()) name += "; " + value_of("/proc/driver/nvidia/version", "NVRM");
  return name;
}

int64_t usable_memory(const fs::path& root) {
  constexpr double kShare = 0.9;
  return static_cast<int64_t>(kShare * static_cast<double>(memory_limit(root)));
}

double boot_seconds() {
  timespec time{};
  clock_gettime(CLOCK_BOOTTIME, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

std::string clock_time(double seconds_from_now) {
  const std::time_t when = std::time(nullptr) + static_cast<std::time_t>(seconds_from_now);
  char text[16];
  std::strftime(text, sizeof text, "%H:%M", std::localtime(&when));
  return text;
}

}  // namespace autoresearch
