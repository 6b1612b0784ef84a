#include "common/landlock.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <cerrno>
#include <cstring>

#include "common/error.h"

namespace autoresearch {
namespace {

// <linux/landlock.h> of the machine that builds may be older than the kernel that runs.
constexpr uint64_t kExecute = 1 << 0, kWriteFile = 1 << 1, kReadFile = 1 << 2, kReadDir = 1 << 3;
constexpr uint64_t kMakeChar = 1 << 6, kMakeSocket = 1 << 9, kMakeBlock = 1 << 11;
constexpr uint64_t kTruncate = 1 << 14, kIoctlDevice = 1 << 15;
constexpr int kFileRights[] = {0,  13, 14,
                               15, 15, 16};  // how many an ABI knows; later ones: the last
constexpr uint64_t kBindAndConnectTcp = 3;
constexpr uint64_t kAbstractSocketsAndSignals = 3;

constexpr uint32_t kVersion = 1;  // a flag: asks for the ABI
constexpr int kPathBeneath = 1;   // a kind of rule
struct [[gnu::packed]] PathBeneath {
  uint64_t rights;
  int32_t fd;
};

}  // namespace

int landlock_abi() {
  const long abi = syscall(SYS_landlock_create_ruleset, nullptr, 0, kVersion);
  return abi > 0 ? static_cast<int>(abi) : 0;
}

Closed closed_by(int abi) {
  constexpr int kLast = std::size(kFileRights) - 1;
  return {.files = (uint64_t{1} << kFileRights[std::min(abi, kLast)]) - 1,
          .network = abi >= 4 ? kBindAndConnectTcp : 0,
          .scopes = abi >= 6 ? kAbstractSocketsAndSignals : 0};
}

uint64_t rights_of(Access access, bool folder, int abi) {
  constexpr uint64_t kOfFiles = kExecute | kWriteFile | kReadFile | kTruncate | kIoctlDevice;
  uint64_t rights = kExecute | kReadFile | kReadDir;
  if (access == Access::kWrite) rights = ~(kMakeChar | kMakeBlock | kMakeSocket | kIoctlDevice);
  if (access == Access::kDevice) rights = kReadFile | kWriteFile | kIoctlDevice;
  return rights & closed_by(abi).files & (folder ? ~uint64_t{0} : kOfFiles);
}

Descriptor make_fence(const std::vector<Opening>& openings, int abi) {
  const auto refused = [](const std::string& what) {
    return Error("the kernel refuses " + what + " of Landlock: " + std::strerror(errno));
  };
  const Closed closed = closed_by(abi);
  // An older kernel refuses a longer struct than it knows, unless the rest is zero.
  Descriptor fence(
      static_cast<int>(syscall(SYS_landlock_create_ruleset, &closed, sizeof closed, /*flags=*/0)));
  if (fence < 0) throw refused("a ruleset");
  for (const Opening& opening : openings) {
    const Descriptor place(open(opening.path.c_str(), O_PATH | O_CLOEXEC));
    if (place < 0) continue;
    const PathBeneath rule{rights_of(opening.access, fs::is_directory(opening.path), abi), place};
    if (syscall(SYS_landlock_add_rule, fence.get(), kPathBeneath, &rule, 0) != 0)
      throw refused("the rule for " + opening.path.string());
  }
  return fence;
}

bool go_behind(int fence, std::string_view filter) {
  __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, /*pid=*/0};
  const __user_cap_data_struct none[2] = {};
  const sock_fprog program = {static_cast<unsigned short>(filter.size() / sizeof(sock_filter)),
                              reinterpret_cast<sock_filter*>(const_cast<char*>(filter.data()))};
  // Without new privileges a program of root's gets back none of the capabilities at exec.
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && syscall(SYS_capset, &header, none) == 0 &&
         syscall(SYS_landlock_restrict_self, fence, 0) == 0 &&
         prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

}  // namespace autoresearch
