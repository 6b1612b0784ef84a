// Child processes: an argument list, an environment of its own, limits, a deadline, a whole end.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/descriptor.h"
#include "common/files.h"

namespace autoresearch {

struct Command {
  std::vector<std::string> argv = {};  // argv[0] is looked up in PATH of `env`; no shell
  std::vector<std::string> env = {};   // "NAME=value": the whole environment, nothing is inherited
  fs::path cwd = {};                   // empty: the caller's
  fs::path log = {};  // stdout and stderr are appended here; empty: to Exit::output
  // stderr goes to Exit::errors, stdout to Exit::output, each whole up to kMostApart: of a longer
  // stdout the end is kept, and a program with a longer stderr is ended.
  bool apart = false;
  std::string input = {};  // given on stdin; empty: /dev/null
  int input_fd = -1;       // given as stdin instead, such as one end of a socket; the caller's
  double limit = 60;       // seconds, then the whole group is killed
  // Memory of the group and its descendants in sum, memory files included, pages of files on disk
  // not; 0: no limit. A child that has one is also the first that the kernel ends when memory runs
  // out.
  int64_t max_rss_bytes = 0;
  int64_t max_tasks = 0;  // their processes and threads in sum; 0: no limit
  fs::path disk = {};     // a folder of a disk that the child must not fill; empty: no limit
  int nice = 0;
  uint64_t max_file_bytes = 0;    // of one file that it writes; 0: no limit
  bool dies_with_caller = false;  // SIGKILL if the thread that called run() ends first
  bool finishes = false;  // an interrupt leaves it alone: git, and what else a clean end needs
  double patience = 60;   // seconds that it may take to end after SIGKILL: Exit::stuck
  // Called in the parent once the child exists, before it execs: the child waits on a pipe until
  // this returns, so that a journal line about it is on disk first. An exception kills the child.
  std::function<void(pid_t pid, uint64_t start_time)> before_exec = {};
  // confine()'s (common/sandbox.h). Without a fence argv is bwrap's, which reads this filter from
  // kFilterFd and tells of its init on kReportFd. With one the child goes behind both
  // (common/landlock.h) before it execs; the filter keeps all that it starts in its group.
  std::string filter = {};
  std::shared_ptr<const Descriptor> fence = {};
  bool tells = false;  // the child has kTellFd: a pipe, and what comes is kept in Exit::told
  std::function<void(char word)> heard = {};  // called for each byte of it, when it comes
  std::function<bool()> stop = {};  // asked about 20 times a second; true: the child is killed
  // Called about five times a second while the child runs, with the seconds since exec.
  std::function<void(double seconds)> tick = {};
};

constexpr size_t kMostApart = size_t{256} << 20;

// Descriptors of a child beside the standard streams. All others are closed.
constexpr int kReportFd = 3, kFilterFd = 4, kTellFd = 5;

// A byte that the child wrote to kTellFd, and when it came, in seconds since exec.
struct Told {
  char word = 0;
  double seconds = 0;
};
constexpr size_t kMostTold = 16;  // what comes after so many is not read

// A process, whoever has its number later.
struct ProcessId {
  pid_t pid = 0;
  uint64_t start_time = 0;  // field 22 of /proc/<pid>/stat
};

struct Exit {
  int code = 0;                      // exit status, or 128 + signal; 127: the program was not found
  bool timed_out = false;            // the limit killed it
  bool over_memory = false;          // max_rss_bytes killed it
  std::string over;                  // another limit that killed it, as a sentence; empty: none did
  bool interrupted = false;          // interrupt_requested() became true; the group was killed
  double seconds = 0;                // from exec to the end of all, by the parent's monotonic clock
  int64_t peak_rss_bytes = 0;        // of the largest process of the group, as the kernel counts it
  double cpu_seconds = 0;            // user and system, of the child and of what it waited for
  int64_t involuntary_switches = 0;  // of the same: how often another process was let before them
  std::string output;                // when no log was named: the last 1 MiB of stdout and stderr
  std::string errors;                // stderr, if the two are apart
  std::vector<Told> told;            // in the order in which it came
  // A process of the child's that SIGKILL has not ended: it waits in the kernel for a disk or a
  // driver that does not answer. Whatever it uses (its folder, its device, its memory) stays in
  // use. The caller says what_holds() it, lets nothing else use the same, and looks again later.
  std::optional<ProcessId> stuck;
};

// Runs a child to its end. It leads its own session and process group, so Ctrl-C at the terminal
// does not reach it; when it exits, what is left of its group is killed. A sandbox ends whole: its
// init is killed, or behind a fence its group, and run() returns only when its process namespace,
// or its group, is empty, so that nobody writes to what the child wrote, or runs beside the next
// one. It does not wait for ever: see Exit::stuck. May be called from several threads at once;
// callbacks come on the caller's. Throws Error only when fork or pipe fails or the log can't be
// opened; the child is dead when an exception of a callback leaves here.
Exit run(const Command& command);

// "process 123 can't be ended (state D, waiting in nfs_wait_bit_killable)"; empty once it has.
std::string what_holds(const ProcessId& stuck);

// From now on a process that a child left behind becomes ours. run() kills it when that child has
// ended, or if it hides whose it is (no AUTORESEARCH_CHILD in its environment any more), when no
// other child runs.
void adopt_orphans();

// Kills a child that an earlier agent left behind, with its group and all that descends from it,
// and waits for their end. Does nothing unless a process with this pid and this start time
// (/proc/<pid>/stat, field 22) still exists.
void kill_orphan(pid_t pid, uint64_t start_time);

// Installs handlers: SIGINT and SIGTERM set the flag, SIGHUP and SIGPIPE are ignored. A second
// SIGINT within two seconds ends the process at once (exit 130).
// With `gently` the first SIGINT only asks to stop soon, the second interrupts, and the third ends
// the process.
void watch_for_interrupt(bool gently = false);
bool interrupt_requested();
bool stop_requested();     // or interrupted
void request_interrupt();  // as a signal would

// No core file of this process, and no look into its memory or environment by others of the same
// user: it holds keys.
void keep_memory_private();

// PATH, HOME, LANG, TMPDIR=/tmp, and of the caller's environment only CUDA_DEVICE_ORDER,
// CUDA_VISIBLE_DEVICES, LD_LIBRARY_PATH, OMP_NUM_THREADS, MKL_NUM_THREADS: no key and no token ever
// reaches a child.
std::vector<std::string> scrubbed_environment();

}  // namespace autoresearch
