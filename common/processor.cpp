#include "common/processor.h"

#include <unistd.h>

#include "common/files.h"
#include "common/log.h"

namespace autoresearch {

std::optional<std::string> processor_problem(const std::string& cpuinfo) {
  const size_t flags = cpuinfo.find("\nflags");
  if (flags == std::string::npos) return std::nullopt;
  const std::string words = cpuinfo.substr(flags, cpuinfo.find('\n', flags + 1) - flags) + " ";
  std::string missing;
  for (const std::string flag : {"avx2", "fma"})
    if (words.find(" " + flag + " ") == std::string::npos)
      missing += (missing.empty() ? "" : " and no ") + flag;
  if (missing.empty()) return std::nullopt;
  return "this processor has no " + missing +
         ", and libtorch may end with an illegal instruction (SIGILL) without it; give a virtual "
         "machine the host's processor (QEMU: -cpu host), or take another machine";
}

void warn_of_processor() {
  const fs::path cpuinfo = "/proc/cpuinfo";
  if (access(cpuinfo.c_str(), R_OK) != 0) return;  // as in some sandboxes
  if (const auto problem = processor_problem(read_file(cpuinfo))) log_warning(*problem);
}

}  // namespace autoresearch
