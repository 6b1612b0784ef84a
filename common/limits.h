// What the machine lets this process have: its size, the process's affinity, and the limits of its
// control groups and of all above them, in version 1 and 2 of the interface. `root` is the system's
// root folder; tests have others.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/files.h"

namespace autoresearch {

// The control groups of a process (/proc/<process>) that `controller` (memory, pids, cpu) may
// belong to, from its own upwards. In a container the upper ones can be out of sight, or its own.
std::vector<fs::path> control_groups(const std::string& controller, const fs::path& root = "/",
                                     const std::string& process = "self");

// The most memory in bytes that this process and its children may have in sum, and what says so:
// a control group's file, or "the machine's own".
struct MemoryLimit {
  int64_t bytes = 0;
  std::string source;
};
MemoryLimit memory_limit(const fs::path& root = "/");

// Resident memory that a child may use, in bytes: most of what the machine has and our control
// groups allow, so that a greedy candidate is ended by its parent and not by the kernel, which
// might choose something else.
int64_t usable_memory(const fs::path& root = "/");

// Bytes that this process may still take without anything being swapped or killed: what the kernel
// calls available, within the limits of its control groups.
int64_t available_memory(const fs::path& root = "/");

// The CPUs that the process may run on, by number.
std::vector<int> usable_cpus();

// CPU seconds that it gets in a second: as many as it has CPUs, or what a quota leaves of them; and
// what says so: a control group's file, "affinity", or "the machine's own".
struct CoreLimit {
  double cores = 0;
  std::string source;
};
CoreLimit core_limit(const fs::path& root = "/");
double usable_cores(const fs::path& root = "/");

// Threads for work that is to end soon: one for each core that the process gets, or part of one.
int usable_threads(const fs::path& root = "/");

// Threads of a training on a CPU, if the user names no number: OMP_NUM_THREADS, or else one for
// each core that it gets, and one less if there are several. All threads of a step wait for one
// that another process pushes aside, so only on an idle machine are as many as cores the fastest
// (docs/performance.md).
int training_threads(const fs::path& root = "/");

}  // namespace autoresearch
