#include "common/nvidia.h"

#include <fstream>
#include <regex>

namespace autoresearch {
namespace {

bool is_there(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

// Windows hands the libraries of its NVIDIA driver to WSL in the first folder. Containers under WSL
// have them where Linux has its own.
bool has_libcuda(const fs::path& root) {
  for (const char* folder :
       {"usr/lib/wsl/lib", "usr/lib/x86_64-linux-gnu", "usr/lib/aarch64-linux-gnu", "usr/lib64"})
    if (is_there(root / folder / "libcuda.so.1")) return true;
  return false;
}

}  // namespace

bool has_nvidia_device(const fs::path& root) {
  return is_there(root / "dev/nvidiactl") || (is_there(root / "dev/dxg") && has_libcuda(root));
}

std::string nvidia_driver(const fs::path& root) {
  std::ifstream in(root / "proc/driver/nvidia/version");
  std::string line;
  if (std::getline(in, line)) {
    std::smatch match;
    return std::regex_search(line, match, std::regex(R"(\d+\.\d+(\.\d+)?)")) ? match.str()
                                                                             : "unknown";
  }
  return has_nvidia_device(root) ? "unknown" : "";
}

bool lacks_nvidia_uvm(const fs::path& root) {
  return is_there(root / "dev/nvidiactl") && !is_there(root / "dev/nvidia-uvm");
}

}  // namespace autoresearch
