#include "agent/lab/machine.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <set>

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

// The shared libraries below a folder, each once, whatever links name it. NVIDIA's stand in folders
// of folders: nvidia/cudnn/lib.
std::set<fs::path> libraries_below(const fs::path& folder) {
  constexpr int kMostEntries = 200'000;  // libtorch has 15,000; a second is spent at most
  std::set<fs::path> libraries;
  std::error_code unreadable;
  const auto options = fs::directory_options::skip_permission_denied;
  auto entry = fs::recursive_directory_iterator(folder, options, unreadable);
  for (int i = 0; !unreadable && entry != fs::end(entry) && i < kMostEntries; ++i) {
    const fs::path& path = entry->path();
    if (path.filename().string().find(".so") != std::string::npos)
      if (fs::path file = fs::canonical(path, unreadable); !unreadable) libraries.insert(file);
    unreadable.clear();  // a link that leads nowhere
    entry.increment(unreadable);
  }
  return libraries;
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
  // More than what is free would push out what was read before it.
  int64_t room = available_memory() / 2;
  std::set<fs::path> done;
  std::error_code unreadable;
  for (const fs::path& path : paths) {
    const bool folder = fs::is_directory(path, unreadable);
    for (const fs::path& file : folder ? libraries_below(path) : std::set<fs::path>{path}) {
      const auto size = static_cast<int64_t>(fs::file_size(file, unreadable));
      if (unreadable || size > room || !done.insert(file).second) continue;
      room -= size;
      warm_file(file);
    }
  }
}

}  // namespace autoresearch
