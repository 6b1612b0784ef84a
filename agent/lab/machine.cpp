#include "agent/lab/machine.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
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

// The kernel reads what of a mapping it does not have in memory yet.
void warm_file(const fs::path& path) {
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file < 0) return;
  struct stat status = {};
  if (fstat(file, &status) == 0 && S_ISREG(status.st_mode)) {
    const auto size = static_cast<size_t>(status.st_size);
    void* mapped = mmap(nullptr, size, PROT_READ, MAP_SHARED | MAP_POPULATE, file, 0);
    if (mapped != MAP_FAILED) munmap(mapped, size);
  }
  close(file);
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

void warm_files(const std::vector<fs::path>& paths) {
  std::error_code unreadable;
  for (const fs::path& path : paths) {
    if (!fs::is_directory(path, unreadable)) warm_file(path);
    for (const auto& entry : fs::directory_iterator(path, unreadable))
      if (entry.path().filename().string().find(".so") != std::string::npos)
        warm_file(entry.path());
  }
}

}  // namespace autoresearch
