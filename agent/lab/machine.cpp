#include "agent/lab/machine.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <ctime>
#include <fstream>
#include <optional>
#include <utility>

#include "common/limits.h"
#include "common/nvidia.h"
#include "common/text.h"

namespace autoresearch {
namespace {

const auto kPage = static_cast<size_t>(sysconf(_SC_PAGESIZE));
constexpr size_t kBlock = 1 << 17;  // read at a time, as the kernel reads ahead

// What stands behind the colon of the first line that begins with `key`.
std::string value_of(const fs::path& path, const std::string& key) {
  std::ifstream in(path);
  for (std::string line; std::getline(in, line);)
    if (line.starts_with(key)) return trim(line.substr(std::min(line.find(':'), line.size()) + 1));
  return "";
}

// Which pages of a file are in memory; nothing if the kernel does not say so to us.
std::optional<std::vector<unsigned char>> pages_in_memory(int file, const struct stat& status) {
  if (geteuid() != 0 && status.st_uid != geteuid()) return std::nullopt;
  const auto size = static_cast<size_t>(status.st_size);
  void* mapped = mmap(nullptr, size, PROT_READ, MAP_SHARED, file, 0);
  if (mapped == MAP_FAILED) return std::nullopt;
  std::vector<unsigned char> pages((size + kPage - 1) / kPage);
  const bool known = mincore(mapped, size, pages.data()) == 0;
  munmap(mapped, size);
  return known ? std::optional(std::move(pages)) : std::nullopt;
}

// Bytes read.
int64_t warm_file(const fs::path& path) {
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file < 0) return 0;
  int64_t bytes = 0;
  struct stat status = {};
  if (fstat(file, &status) == 0 && S_ISREG(status.st_mode) && status.st_size > 0) {
    const auto pages = pages_in_memory(file, status);
    std::vector<char> block(kBlock);
    for (int64_t at = 0; at < status.st_size; at += kBlock) {
      const auto first = static_cast<size_t>(at) / kPage, last = first + kBlock / kPage;
      bool cold = !pages;
      for (size_t page = first; pages && page < std::min(last, pages->size()); ++page)
        cold = cold || ((*pages)[page] & 1) == 0;
      if (cold) bytes += std::max<int64_t>(pread(file, block.data(), kBlock, at), 0);
    }
  }
  close(file);
  return bytes;
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

int64_t warm_files(const std::vector<fs::path>& paths) {
  int64_t bytes = 0;
  std::error_code unreadable;
  for (const fs::path& path : paths) {
    if (!fs::is_directory(path, unreadable)) bytes += warm_file(path);
    for (const auto& entry : fs::directory_iterator(path, unreadable))
      if (entry.path().filename().string().find(".so") != std::string::npos)
        bytes += warm_file(entry.path());
  }
  return bytes;
}

}  // namespace autoresearch
