#include "prepare/memory.h"

#include <algorithm>
#include <fstream>
#include <string>

#include "common/files.h"

namespace autoresearch {
namespace {

// A number in a file; `otherwise` if there is none ("max").
int64_t number_in(const fs::path& file, int64_t otherwise) {
  int64_t number = 0;
  return std::ifstream(file) >> number ? number : otherwise;
}

int64_t available_in_system() {
  std::ifstream in("/proc/meminfo");
  for (std::string line; std::getline(in, line);) {
    constexpr std::string_view kKey = "MemAvailable:";
    if (line.starts_with(kKey)) return std::atoll(line.c_str() + kKey.size()) * 1024;
  }
  return INT64_MAX;
}

// "/user.slice/..." of the line "0::/user.slice/...".
fs::path own_group() {
  std::ifstream in("/proc/self/cgroup");
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with("0::")) return line.substr(3);
  }
  return "/";
}

}  // namespace

int64_t available_memory() {
  int64_t available = available_in_system();
  const fs::path root = "/sys/fs/cgroup";
  for (fs::path group = own_group();; group = group.parent_path()) {
    const fs::path folder = root / group.relative_path();
    for (const char* limit : {"memory.max", "memory.high"}) {
      const int64_t most = number_in(folder / limit, INT64_MAX);
      const int64_t left = most - number_in(folder / "memory.current", 0);
      available = std::min(available, std::max<int64_t>(left, 0));
    }
    if (!group.has_relative_path()) return available;
  }
}

}  // namespace autoresearch
