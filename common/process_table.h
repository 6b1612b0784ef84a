// What /proc tells of processes, and what a tree of them takes of the machine.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <optional>
#include <set>

namespace autoresearch {

// The fields of /proc/<pid>/stat that matter here.
struct ProcessStat {
  char state = 0;
  pid_t parent = 0, group = 0;
  int64_t threads = 0;
  uint64_t start_time = 0;
  int64_t rss_bytes = 0;
};

using ProcessTable = std::map<pid_t, ProcessStat>;

std::optional<ProcessStat> read_stat(pid_t pid);
ProcessTable all_processes();

// `root`, its group and all that descends from them, also what left the group.
std::set<pid_t> tree_of(const ProcessTable& processes, pid_t root);

struct Usage {
  int64_t bytes = 0;         // resident memory, and memory files whether mapped or not
  int64_t largest_peak = 0;  // resident memory of the largest process, in bytes
  int64_t tasks = 0;         // processes and their threads
};

// Of the trees of `leader` and, if it is not 0, `init`: the first process of a sandbox, whose /tmp
// and /dev/shm lie in memory and count as well.
Usage usage_of(pid_t leader, pid_t init);

// Whether `pid` is the first process of a namespace below ours and a child of `parent` or ours.
bool is_init_under(pid_t pid, pid_t parent);

}  // namespace autoresearch
