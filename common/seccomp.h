// Filters of system calls: what a program in the sandbox may not ask of the kernel, and the little
// that a process which has all it needs still may.
#pragma once

#include <string>

namespace autoresearch {

struct FilterOptions {
  // Modes, owners and times of files: the nodes in /dev are the machine's own, and would carry
  // notes from sandbox to sandbox.
  bool may_mark_files = false;
  // No namespaces keep the program apart from other processes. Then it may make no socket, and
  // leave neither its session nor its group, so that a signal to the group ends all of it.
  bool among_others = false;
  bool may_signal = true;  // anybody, itself included
};

// A filter of system calls for this machine's architecture (x86_64, aarch64), as `bwrap --seccomp`
// reads it: an array of struct sock_filter. What it refuses fails with EPERM, and a call in
// another architecture's numbers ends the process. It leaves what libtorch, CUDA's driver, gcc and
// ld need.
std::string seccomp_filter(const FilterOptions& options);

// From here on this process may compute, take memory, start threads and speak over the descriptors
// that it has open, and nothing else: it opens no file, makes no socket, starts no program, and
// signals nobody. What it tries all the same fails with EPERM. There is no way back, and it holds
// for every thread. Throws Error if the kernel has no seccomp (Linux before 3.17).
void lock_down();

}  // namespace autoresearch
