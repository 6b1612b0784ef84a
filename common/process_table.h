// What /proc tells of processes, and what a tree of them takes of the machine.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <vector>

namespace autoresearch {

// The fields of /proc/<pid>/stat that matter here.
struct ProcessStat {
  char state = 0;
  pid_t parent = 0, group = 0;
  int64_t major_faults = 0;  // its own and those of the children that it has waited for
  double cpu_seconds = 0;    // of the same: user and system
  int64_t threads = 0;
  uint64_t start_time = 0;
  int64_t rss_bytes = 0;
};

using ProcessTable = std::map<pid_t, ProcessStat>;

std::optional<ProcessStat> read_stat(pid_t pid);
ProcessTable all_processes();

// The children of a process, orphans that it adopted included, by the kernel's own lists
// (CONFIG_PROC_CHILDREN; without these all of /proc is read). One that is born or ends meanwhile
// can be missing.
std::vector<pid_t> children_of(pid_t pid);

// `roots` and all that descends from them, at a cost of these alone.
ProcessTable trees_of(const std::vector<pid_t>& roots);

// `root`, its group and all that descends from them, also what left the group, of all processes.
std::set<pid_t> tree_of(const ProcessTable& processes, pid_t root);

struct Usage {
  int64_t bytes = 0;         // their own resident memory, and memory files whether mapped or not
  int64_t largest_peak = 0;  // resident memory of the largest process, in bytes
  int64_t tasks = 0;         // processes and their threads
};

// Of `tree`; if `init` is not 0, the first process of a sandbox, whose /tmp and /dev/shm lie in
// memory and count as well.
Usage usage_of(const ProcessTable& tree, pid_t init);

// Whether `pid` is the first process of a namespace below ours and a child of `parent` or ours.
bool is_init_under(pid_t pid, pid_t parent);

}  // namespace autoresearch
