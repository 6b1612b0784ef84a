// Landlock: what a process gives up for itself and for all that it starts, without any right of
// its own (Linux 5.13 and newer). Each version of its interface (ABI) can close more than the last.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "common/descriptor.h"
#include "common/files.h"

namespace autoresearch {

int landlock_abi();  // of this kernel; 0: it has no Landlock, or keeps it off

// What a kernel can close: bits of <linux/landlock.h>, and in the order of its struct
// landlock_ruleset_attr.
struct Closed {
  uint64_t files = 0;    // every access to files, from 3 on emptying, from 5 on calls to devices
  uint64_t network = 0;  // TCP, from 4 on
  uint64_t scopes = 0;   // abstract sockets of other processes and signals to them, from 6 on
  bool operator==(const Closed&) const = default;
};
Closed closed_by(int abi);  // pure

enum class Access { kRead, kWrite, kDevice };

// The rights that stay open for a file, or for all in a folder, out of those that can be closed.
// Pure. What is read may be run; what is written may be no device and no socket.
uint64_t rights_of(Access access, bool folder, int abi);

struct Opening {
  fs::path path;  // one that is not there is left out
  Access access = Access::kRead;
};

// A ruleset that closes all that `abi` can, but these. Throws Error if the kernel refuses it.
Descriptor make_fence(const std::vector<Opening>& openings, int abi);

// Puts this process behind `fence` and `filter` (common/seccomp.h), without any capability, for
// good. False, with the reason in errno, if the kernel refuses. Async-signal-safe.
bool go_behind(int fence, std::string_view filter);

}  // namespace autoresearch
