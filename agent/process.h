// Child processes: an argument list, an environment of its own, a process group, a deadline.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <functional>
#include <string>
#include <vector>

#include "common/files.h"

namespace autoresearch {

struct Command {
  std::vector<std::string> argv = {};  // argv[0] is looked up in PATH of `env`; no shell
  std::vector<std::string> env = {};   // "NAME=value": the whole environment, nothing is inherited
  fs::path cwd = {};                   // empty: the caller's
  fs::path log = {};          // stdout and stderr are appended here; empty: to Exit::output
  std::string input = {};     // given on stdin; empty: /dev/null
  double limit = 60;          // seconds, then the whole group is killed
  int64_t max_rss_bytes = 0;  // resident memory of the group and its descendants; 0: no limit
  int nice = 0;
  uint64_t max_file_bytes = 0;  // of one file that it writes; 0: no limit
  bool finishes = false;  // an interrupt leaves it alone: git, and what else a clean end needs
  // Called in the parent once the child exists, before it execs: the child waits on a pipe until
  // this returns, so that a journal line about it is on disk first. An exception kills the child.
  std::function<void(pid_t pid, uint64_t start_time)> before_exec = {};
  // Called about five times a second while the child runs, with the seconds since exec.
  std::function<void(double seconds)> tick = {};
};

struct Exit {
  int code = 0;                // exit status, or 128 + signal; 127: the program was not found
  bool timed_out = false;      // the limit killed it
  bool over_memory = false;    // max_rss_bytes killed it
  bool interrupted = false;    // interrupt_requested() became true; the group was killed
  double seconds = 0;          // from exec to exit, by the parent's monotonic clock
  int64_t peak_rss_bytes = 0;  // of the largest process of the group, as the kernel counts it
  std::string output;          // when no log was named: the last 1 MiB of stdout and stderr
};

// Runs a child to its end. It leads its own session and process group, so Ctrl-C at the terminal
// does not reach it; when it exits, what is left of its group is killed. Only a cage
// (agent/sandbox.h) also ends a process that left the group. Throws Error only when fork or pipe
// fails or the log can't be opened; the child is dead when an exception of before_exec or tick
// leaves here.
Exit run(const Command& command);

// Kills the group of a child that an earlier agent left behind. Does nothing unless a process with
// this pid and this start time (/proc/<pid>/stat, field 22) still exists.
void kill_orphan(pid_t pid, uint64_t start_time);

// Installs handlers: SIGINT and SIGTERM set the flag, SIGHUP and SIGPIPE are ignored. A second
// SIGINT within two seconds ends the process at once (exit 130).
void watch_for_interrupt();
bool interrupt_requested();

// No core file of this process, and no look into its memory or environment by others of the same
// user: it holds keys.
void keep_memory_private();

// PATH, HOME, LANG, TMPDIR=/tmp, and of the caller's environment only CUDA_DEVICE_ORDER,
// CUDA_VISIBLE_DEVICES, LD_LIBRARY_PATH, OMP_NUM_THREADS, MKL_NUM_THREADS: no key and no token ever
// reaches a child.
std::vector<std::string> scrubbed_environment();

}  // namespace autoresearch
