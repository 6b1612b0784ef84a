// What a program in the sandbox may not ask of the kernel.
#pragma once

#include <string>

namespace autoresearch {

// A filter of system calls for this machine's architecture (x86_64, aarch64), as `bwrap --seccomp`
// reads it: an array of struct sock_filter. What it refuses fails with EPERM, and a call in
// another architecture's numbers ends the process. It leaves what libtorch, CUDA's driver, gcc and
// ld need. Modes, owners and times of files can be changed only if `may_mark_files`: the nodes
// in /dev are the machine's own, and would carry notes from sandbox to sandbox.
std::string seccomp_filter(bool may_mark_files);

}  // namespace autoresearch
