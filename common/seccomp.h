// What a program in the sandbox may not ask of the kernel.
#pragma once

#include <string>

namespace autoresearch {

// A filter of system calls for this machine's architecture (x86_64, aarch64), as `bwrap --seccomp`
// reads it: an array of struct sock_filter. What it refuses fails with EPERM, and a call in
// another architecture's numbers ends the process. It leaves what libtorch, CUDA's driver, gcc and
// ld need.
std::string seccomp_filter();

}  // namespace autoresearch
