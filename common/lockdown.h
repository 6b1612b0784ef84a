// A system-call filter for a process that has all it needs.
#pragma once

namespace autoresearch {

// From here on this process may compute, take memory, start threads and speak over the descriptors
// that it has open, and nothing else: it opens no file, makes no socket, starts no program, and
// signals nobody. What it tries all the same fails with EPERM. There is no way back, and it holds
// for every thread. Throws Error if the kernel has no seccomp (Linux before 3.17) or the processor
// is another than x86-64 or ARM64.
void lock_down();

}  // namespace autoresearch
