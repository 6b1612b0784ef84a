#include "common/process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/keyctl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <mutex>
#include <set>
#include <sstream>
#include <thread>
#include <utility>

#include "common/cgroup.h"
#include "common/descriptor.h"
#include "common/error.h"
#include "common/landlock.h"
#include "common/process_table.h"

namespace autoresearch {
namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kOutputKept = 1 << 20;           // bytes of output that Exit::output may hold
constexpr size_t kLogKept = 4 << 20;              // bytes that one child may add to a log
constexpr size_t kReadSize = 1 << 16;             // a pipe's default capacity
constexpr int64_t kBytesKept = int64_t{1} << 30;  // that stay free on a disk
constexpr int64_t kFilesKept = 100'000;
constexpr int kPollMilliseconds = 50;        // the longest wait between two looks at the child
constexpr double kSampleSeconds = 0.2;       // between two samples of memory and two ticks
constexpr double kGraceSeconds = 2;          // from SIGTERM to SIGKILL after an interrupt
constexpr int kBwrapMilliseconds = 1000;     // to hand on the exit status of a sandbox that ended
constexpr int64_t kDoubleInterrupt = 2000;   // milliseconds
constexpr int kLowestFd = 16;                // of ours: a child's own numbers lie below
constexpr int kGoFd = kTellFd + 1;           // a child's until exec: the pipe that it waits on
constexpr int kFenceFd = kGoFd + 1;          // the same
constexpr rlim_t kMaxFiles = 4096;           // that a sandboxed process may have open
constexpr const char* kFirstToDie = "1000";  // the highest oom_score_adj
constexpr const char* kMark = "AUTORESEARCH_CHILD=";  // in the environment of what may be orphaned

[[noreturn]] void fail(const std::string& what) {
  throw Error("cannot start a process: " + what + ": " + strerror(errno));
}

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Moves a descriptor up, so that the child's dup2 to its own numbers can't overwrite it.
Descriptor moved_up(int fd, const char* what) {
  Descriptor given(fd);
  if (given >= kLowestFd) return given;
  Descriptor moved(given < 0 ? -1 : fcntl(given, F_DUPFD_CLOEXEC, kLowestFd));
  if (moved < 0) fail(what);
  return moved;
}

struct Pipe {
  Descriptor read, write;
};

Pipe make_pipe() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) fail("pipe");
  return {moved_up(ends[0], "pipe"), moved_up(ends[1], "pipe")};
}

// An anonymous file: unlike a pipe it can't fill up and block.
Descriptor memory_file() { return moved_up(memfd_create("stream", MFD_CLOEXEC), "memfd_create"); }

Descriptor open_text(const std::string& input) {
  Descriptor file = memory_file();
  if (!write_all(file, input)) fail("memory for its input");
  if (lseek(file, 0, SEEK_SET) != 0) fail("rewinding its input");
  return file;
}

size_t size_of(const Descriptor& file) {
  struct stat status;
  if (fstat(file, &status) != 0) fail("the size of its output");
  return static_cast<size_t>(status.st_size);
}

std::string text_of(const Descriptor& file) {
  std::string text(size_of(file), '\0');
  size_t done = 0;
  while (done < text.size()) {
    const ssize_t n = pread(file, text.data() + done, text.size() - done, static_cast<off_t>(done));
    if (n == 0 || (n < 0 && errno != EINTR)) break;
    if (n > 0) done += static_cast<size_t>(n);
  }
  text.resize(done);
  return text;
}

Descriptor open_input(const Command& command) {
  if (command.input_fd >= 0)
    return moved_up(fcntl(command.input_fd, F_DUPFD_CLOEXEC, kLowestFd), "its input");
  if (!command.input.empty()) return open_text(command.input);
  return moved_up(open("/dev/null", O_RDONLY | O_CLOEXEC), "/dev/null");
}

// Never through a link: an earlier child may have had the folder to itself and left one there.
Descriptor open_log(const fs::path& log) {
  int fd = open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0644);
  if (fd < 0) throw Error("cannot write the log " + log.string() + ": " + strerror(errno));
  return moved_up(fd, "log");
}

// Where PATH of `env` has `name`; empty when nowhere, which execve reports as not found.
std::string find_program(const std::string& name, const std::vector<std::string>& env) {
  if (name.find('/') != std::string::npos) return name;
  std::string path = "/usr/local/bin:/usr/bin:/bin";
  for (const auto& entry : env) {
    if (entry.starts_with("PATH=")) path = entry.substr(5);
  }
  std::istringstream folders(path);
  for (std::string folder; std::getline(folders, folder, ':');) {
    std::string file = folder + "/" + name;
    if (!folder.empty() && access(file.c_str(), X_OK) == 0 && fs::is_regular_file(file))
      return file;
  }
  return "";
}

std::vector<char*> pointers(const std::vector<std::string>& strings) {
  std::vector<char*> result;
  for (const auto& text : strings) result.push_back(const_cast<char*>(text.c_str()));
  result.push_back(nullptr);
  return result;
}

// What the child needs between fork and exec, made before the fork: another thread of the agent may
// hold the allocator's lock at that moment, so the child must not allocate.
struct Launch {
  std::string program, cwd, complaint;
  std::vector<char*> argv, env;
  int nice = 0, input = -1, output = -1, errors = -1, go = -1;
  int report = -1, filter = -1, tell = -1, fence = -1;  // -1: the child has no such descriptor
  std::string_view own_filter = {};                     // beside the fence
  uint64_t max_file_bytes = 0;
  bool expendable = false;  // the first to die when memory runs out
  bool dies_with_caller = false;
  std::vector<int> groups = {};  // control groups to join
};

// Async-signal-safe from here to the end of child_main.
void say(const char* text) {
  [[maybe_unused]] ssize_t n = write(STDERR_FILENO, text, strlen(text));
}

[[noreturn]] void give_up(const Launch& launch, const char* reason) {
  say(launch.complaint.c_str());
  say(reason);
  say("\n");
  _exit(127);
}

void reset_signals() {
  struct sigaction action = {};
  action.sa_handler = SIG_DFL;
  for (int signal = 1; signal < NSIG; ++signal) sigaction(signal, &action, nullptr);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
}

void close_range_of(unsigned first, unsigned last) {
  if (syscall(SYS_close_range, first, last, 0U) == 0) return;
  for (unsigned fd = first; fd <= std::min(last, 65536U); ++fd) close(static_cast<int>(fd));
}

// The child's descriptors get the numbers that it knows; all others are closed. Ours lie above.
// Those of a child that another thread starts just now are among them: were they kept while this
// one waits, the other would not see the end of its own pipes.
void hand_over(const Launch& launch) {
  dup2(launch.input, STDIN_FILENO);
  dup2(launch.output, STDOUT_FILENO);
  dup2(launch.errors, STDERR_FILENO);
  close_range_of(STDERR_FILENO + 1, kLowestFd - 1);
  if (launch.report >= 0) dup2(launch.report, kReportFd);
  if (launch.filter >= 0) dup2(launch.filter, kFilterFd);
  if (launch.tell >= 0) dup2(launch.tell, kTellFd);
  dup3(launch.go, kGoFd, O_CLOEXEC);
  if (launch.fence >= 0) dup3(launch.fence, kFenceFd, O_CLOEXEC);
  close_range_of(kLowestFd, ~0U);
}

void set_limits(const Launch& launch) {
  const auto limit = [](auto resource, rlim_t most) {
    const rlimit both = {most, most};
    setrlimit(resource, &both);
  };
  limit(RLIMIT_CORE, 0);
  if (launch.max_file_bytes > 0) limit(RLIMIT_FSIZE, launch.max_file_bytes);
  if (launch.filter >= 0 || launch.fence >= 0) limit(RLIMIT_NOFILE, kMaxFiles);
  if (launch.nice != 0) {
    [[maybe_unused]] int priority = nice(launch.nice);
  }
  if (!launch.expendable) return;
  const int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
  [[maybe_unused]] ssize_t n = write(fd, kFirstToDie, strlen(kFirstToDie));
}

[[noreturn]] void child_main(const Launch& launch) {
  // A session of its own is also a process group of its own, and takes away the terminal: a child
  // that could open /dev/tty could type commands into it (TIOCSTI).
  setsid();
  if (launch.dies_with_caller) prctl(PR_SET_PDEATHSIG, SIGKILL);
  // A keyring of its own: the user's could be read, and would carry notes from child to child.
  syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, 0);
  ssize_t n;
  for (const int group : launch.groups) n = write(group, "0", 1);
  set_limits(launch);
  hand_over(launch);
  reset_signals();
  char byte;
  do n = read(kGoFd, &byte, 1);
  while (n < 0 && errno == EINTR);
  if (n != 1) _exit(127);
  if (!launch.cwd.empty() && chdir(launch.cwd.c_str()) != 0) give_up(launch, "no such folder");
  if (launch.fence >= 0 && !go_behind(kFenceFd, launch.own_filter))
    give_up(launch, "the kernel refuses its sandbox");
  execve(launch.program.c_str(), launch.argv.data(), launch.env.data());
  give_up(launch, errno == ENOENT ? "not found" : strerrordesc_np(errno));
}

std::atomic<bool> interrupt_flag = false, stop_flag = false, gentle = false;  // lock-free
std::atomic<int64_t> last_interrupt_ms = -kDoubleInterrupt - 1;

void on_interrupt(int signal) {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  int64_t ms = int64_t{now.tv_sec} * 1000 + now.tv_nsec / 1000000;
  if (signal == SIGINT && gentle && !stop_flag) {
    stop_flag = true;
    return;
  }
  if (signal == SIGINT) {
    int64_t last = last_interrupt_ms.exchange(ms);
    if (interrupt_flag && last >= 0 && ms - last <= kDoubleInterrupt) _exit(kInterrupted);
  }
  stop_flag = true;
  interrupt_flag = true;
}

struct Space {
  int64_t bytes = std::numeric_limits<int64_t>::max(), files = bytes;
};

// What is free on the disk that holds `folder`; without end if no folder is named, and so many
// files on a disk that does not count them.
Space free_space(const fs::path& folder) {
  struct statvfs status = {};
  if (folder.empty() || statvfs(folder.c_str(), &status) != 0) return {};
  Space space{.bytes = static_cast<int64_t>(status.f_bavail * status.f_frsize)};
  if (status.f_files > 0) space.files = static_cast<int64_t>(status.f_favail);
  return space;
}

std::mutex children_mutex;
std::set<pid_t> children;  // forked and not reaped, of all threads
std::set<pid_t> stuck;     // of these, those that run() has given up

bool adopts_orphans() {
  int adopts = 0;
  prctl(PR_GET_CHILD_SUBREAPER, &adopts);
  return adopts != 0;
}

// Whether a process or one that it descends from was started with `mark` in its environment.
bool has_mark(pid_t pid, const std::string& mark) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/environ");
  for (std::string entry; std::getline(file, entry, '\0');)
    if (entry == mark) return true;
  return false;
}

// What was orphaned to us and has not ended. To be called under the lock; reaps what has.
std::vector<pid_t> orphans() {
  std::vector<pid_t> found = children_of(getpid());
  std::erase_if(found, [](pid_t pid) {
    return children.contains(pid) || stuck.contains(pid) || waitpid(pid, nullptr, WNOHANG) != 0;
  });
  return found;
}

// A forked child. Destroying it before wait() has seen it end (an exception) kills it.
class Child {
 public:
  explicit Child(const Command& command);
  ~Child();
  void release(const Command& command);
  Exit wait(const Command& command);

 private:
  void prepare(const Command& command);
  void signal_group(int signal) const;
  void kill_group();
  bool lost_patience() const;
  void read_output(int rounds);
  void keep(std::string_view output);
  void hear_of_init();
  void listen(const Command& command, Exit& exit);
  bool namespace_ended() const;
  bool leader_ended() const;
  bool end_namespace();
  std::vector<pid_t> orphans_of_it() const;
  pid_t end_orphans();
  void look_after(const Command& command, Exit& exit);
  void check_limits(const Command& command, const Usage& usage, Exit& exit);
  pid_t init() const;
  ProcessTable tree() const;
  void sample(const Command& command, Exit& exit);
  bool reap(Exit& exit);
  void finish(Exit& exit);

  Launch launch_;
  ControlGroup group_;
  Descriptor input_, log_, filter_, fence_, pidfd_;
  Descriptor errors_;  // an anonymous file, if stderr is kept apart
  size_t most_kept_ = kOutputKept;
  Descriptor init_;  // of a sandbox: its first process, once bwrap has told which it is
  Pipe go_, out_, report_, tell_;
  pid_t pid_ = -1, init_pid_ = 0;
  bool reaped_ = false, killed_ = false;
  bool keeps_orphans_ = false;  // they stay in the trees that start at it and at us
  bool fenced_ = false;         // they also stay in its group
  double patience_ = 0;
  Clock::time_point start_, last_sample_, asked_to_end_, killed_at_;
  int64_t sampled_peak_ = 0;
  Space reserve_;  // of the disk, which the child must leave
  size_t logged_ = 0;
  std::string kept_, reported_;
  std::string mark_;  // empty: no orphan of it can become ours
  std::vector<std::string> env_;
};

// Opens what the child will have as its standard streams and fills in launch_.
void Child::prepare(const Command& command) {
  check(!command.argv.empty(), "cannot start a process: its argument list is empty");
  input_ = open_input(command);
  go_ = make_pipe();
  out_ = make_pipe();
  fcntl(out_.read, F_SETFL, O_NONBLOCK);
  if (!command.log.empty()) log_ = open_log(command.log);
  if (command.apart) errors_ = memory_file(), most_kept_ = kMostApart;
  fenced_ = command.fence != nullptr;
  if (fenced_) fence_ = moved_up(fcntl(*command.fence, F_DUPFD_CLOEXEC, kLowestFd), "its fence");
  if (!command.filter.empty() && !fenced_) {
    filter_ = open_text(command.filter);
    report_ = make_pipe();
    fcntl(report_.read, F_SETFL, O_NONBLOCK);
  }
  if (command.max_rss_bytes > 0 || command.max_tasks > 0)
    group_ = ControlGroup(command.max_rss_bytes, command.max_tasks);
  if (command.tells) {
    tell_ = make_pipe();
    fcntl(tell_.read, F_SETFL, O_NONBLOCK);
  }
  patience_ = command.patience;
  env_ = command.env;
  keeps_orphans_ = adopts_orphans() || !command.filter.empty();
  if (command.filter.empty() && keeps_orphans_) {  // a sandbox keeps its orphans to itself
    static std::atomic<int> count{0};
    mark_ = fmt::format("{}{}-{}", kMark, getpid(), count++);
    env_.push_back(mark_);
  }
  // What is nearly full already may still be used, but not to its end: the journal must go on.
  const Space space = free_space(command.disk);
  reserve_ = {std::min(kBytesKept, space.bytes / 2), std::min(kFilesKept, space.files / 2)};
  const std::string folder = command.cwd.empty() ? "" : " in " + command.cwd.string();
  launch_ = {.program = find_program(command.argv[0], command.env),
             .cwd = command.cwd.string(),
             .complaint = "cannot run " + command.argv[0] + folder + ": ",
             .argv = pointers(command.argv),
             .env = pointers(env_),
             .nice = command.nice,
             .input = input_,
             .output = out_.write,
             .errors = command.apart ? errors_ : out_.write,
             .go = go_.read,
             .report = report_.write,
             .filter = filter_,
             .tell = tell_.write,
             .fence = fence_,
             .own_filter = command.filter,
             .max_file_bytes = command.max_file_bytes,
             .expendable = command.max_rss_bytes > 0,
             .dies_with_caller = command.dies_with_caller,
             .groups = group_.entrances()};
}

Child::Child(const Command& command) {
  prepare(command);
  sigset_t all, before;  // the agent's handlers must not run in the child
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  int error = 0;
  {
    const std::lock_guard lock(children_mutex);
    pid_ = fork();
    if (pid_ == 0) child_main(launch_);
    error = errno;
    if (pid_ > 0) children.insert(pid_);
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  errno = error;
  if (pid_ < 0) fail("fork");
  for (Descriptor* childs :
       {&input_, &filter_, &fence_, &out_.write, &go_.read, &report_.write, &tell_.write})
    childs->close();
  const int pidfd = static_cast<int>(syscall(SYS_pidfd_open, pid_, 0));
  if (pidfd >= 0) pidfd_ = moved_up(pidfd, "pidfd");  // without one wait() polls
}

Child::~Child() {
  if (reaped_) return;
  end_namespace();
  Exit ignored;
  reap(ignored);
  if (fenced_) end_orphans();  // its group has no init whose end takes them along
}

void Child::release(const Command& command) {
  if (command.before_exec) {
    const auto stat = read_stat(pid_);
    command.before_exec(pid_, stat ? stat->start_time : 0);
  }
  start_ = last_sample_ = Clock::now();
  ssize_t n;
  do n = write(go_.write, "", 1);
  while (n < 0 && errno == EINTR);
  go_.write.close();
}

// The child itself too: it may not have come as far as setsid() yet.
void Child::signal_group(int signal) const {
  kill(-pid_, signal);
  kill(pid_, signal);
}

void Child::kill_group() {
  if (!std::exchange(killed_, true)) killed_at_ = Clock::now();
  signal_group(SIGKILL);
}

bool Child::lost_patience() const { return killed_ && seconds_since(killed_at_) > patience_; }

bool Child::namespace_ended() const {
  pollfd init = {init_, POLLIN, 0};  // -1, of no sandbox, is never ready
  return poll(&init, 1, 0) > 0;
}

bool Child::leader_ended() const {
  siginfo_t info = {};
  return waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
         info.si_pid == pid_;
}

void Child::keep(std::string_view output) {
  if (log_ < 0) {
    kept_ += output;
    if (kept_.size() > 2 * most_kept_) kept_.erase(0, kept_.size() - most_kept_);
    return;
  }
  output = output.substr(0, kLogKept - logged_);
  logged_ += output.size();
  [[maybe_unused]] ssize_t n = write(log_, output.data(), output.size());
}

void Child::read_output(int rounds) {
  char buffer[kReadSize];
  for (int i = 0; i < rounds && out_.read >= 0; ++i) {
    const ssize_t n = read(out_.read, buffer, sizeof buffer);
    if (n < 0) break;
    if (n == 0) out_.read.close();
    keep({buffer, static_cast<size_t>(n)});
  }
}

// bwrap writes {"child-pid": N, ...} before anything runs in its sandbox. Until N is reaped, by
// bwrap or by us, its number is its own; who has it after that is not the init of a namespace.
void Child::hear_of_init() {
  char buffer[1024];
  ssize_t n;
  while ((n = read(report_.read, buffer, sizeof buffer)) > 0)
    reported_.append(buffer, static_cast<size_t>(n));
  if (n == 0) report_.read.close();
  constexpr std::string_view kKey = "\"child-pid\": ";
  const size_t at = reported_.find(kKey), end = reported_.find_first_of(",}\n", at);
  if (init_pid_ > 0 || at == std::string::npos || end == std::string::npos) return;
  init_pid_ = std::atoi(reported_.c_str() + at + kKey.size());
  const int pidfd = static_cast<int>(syscall(SYS_pidfd_open, init_pid_, 0));
  check(pidfd >= 0 || errno == ESRCH, "the sandbox needs Linux 5.3 or newer, or --sandbox off");
  if (pidfd < 0) return;  // it has ended, and all of its namespace with it
  Descriptor init = moved_up(pidfd, "pidfd");
  if (is_init_under(init_pid_, pid_)) init_ = std::move(init);
}

// What the child and its sandbox tell of themselves.
void Child::listen(const Command& command, Exit& exit) {
  if (report_.read >= 0) hear_of_init();
  if (tell_.read < 0) return;
  char words[kMostTold];
  const ssize_t n = read(tell_.read, words, kMostTold - exit.told.size());
  for (ssize_t i = 0; i < n; ++i) {
    exit.told.push_back({words[i], seconds_since(start_)});
    if (command.heard) command.heard(words[i]);
  }
  if (n == 0 || exit.told.size() == kMostTold) tell_.read.close();
}

// A namespace's init ends when all others in it have ended: the kernel kills them with it.
bool Child::end_namespace() {
  kill_group();
  if (report_.read >= 0) hear_of_init();
  if (init_ < 0) return true;
  syscall(SYS_pidfd_send_signal, init_.get(), SIGKILL, nullptr, 0);
  while (!namespace_ended() && !lost_patience()) {
    pollfd init = {init_, POLLIN, 0};
    poll(&init, 1, kPollMilliseconds);
  }
  return namespace_ended();
}

// What it left behind, as far as that can be told. It has lost its parents, and without a fence the
// group too. To be called under the lock.
std::vector<pid_t> Child::orphans_of_it() const {
  if (!fenced_ && mark_.empty()) return {};
  std::vector<pid_t> found = orphans();
  std::erase_if(found, [&](pid_t pid) {
    const auto stat = read_stat(pid);
    return fenced_ ? !stat || stat->group != pid_ : !has_mark(pid, mark_);
  });
  return found;
}

// Returns one that does not end; 0: there is none. The lock is not held for long: other threads
// start and reap children meanwhile.
pid_t Child::end_orphans() {
  for (;;) {
    std::vector<pid_t> found;
    {
      const std::lock_guard lock(children_mutex);
      std::erase_if(
          stuck, [](pid_t pid) { return waitpid(pid, nullptr, WNOHANG) > 0 || !read_stat(pid); });
      if (adopts_orphans()) found = children.empty() ? orphans() : orphans_of_it();
      for (const pid_t pid : found) kill(pid, SIGKILL);
      if (!found.empty() && lost_patience()) stuck.insert(found.begin(), found.end());
    }
    if (found.empty()) return 0;
    if (lost_patience()) return found.front();
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
}

void Child::check_limits(const Command& command, const Usage& usage, Exit& exit) {
  const auto over = [](int64_t used, int64_t most) { return most > 0 && used > most; };
  if (over(usage.bytes, command.max_rss_bytes) || group_.ran_out_of_memory())
    exit.over_memory = true;
  else if (over(usage.tasks, command.max_tasks) || group_.ran_out_of_tasks())
    exit.over = fmt::format("it had more than {} processes and threads", command.max_tasks);
  else if (const Space space = free_space(command.disk);
           space.bytes < reserve_.bytes || space.files < reserve_.files)
    exit.over = "it filled the disk";
  else if (errors_ >= 0 && size_of(errors_) > kMostApart)
    exit.over = "its messages filled the memory that is kept for them";
  else
    return;
  kill_group();
}

// Its init, if it is a sandbox that has one; else 0.
pid_t Child::init() const { return init_ >= 0 ? init_pid_ : 0; }

// All that runs for it.
ProcessTable Child::tree() const {
  // An orphan of its group that became nobody's of ours is found in no list of children.
  if (!keeps_orphans_) {
    ProcessTable processes = all_processes();
    const std::set<pid_t> tree = tree_of(processes, pid_);
    std::erase_if(processes, [&](const auto& process) { return !tree.contains(process.first); });
    return processes;
  }
  std::vector<pid_t> roots = group_.members();
  roots.push_back(pid_);
  if (init() > 0) roots.push_back(init());
  {
    const std::lock_guard lock(children_mutex);
    const auto left = orphans_of_it();
    roots.insert(roots.end(), left.begin(), left.end());
  }
  return trees_of(roots);
}

void Child::sample(const Command& command, Exit& exit) {
  last_sample_ = Clock::now();
  const ProcessTable processes = tree();
  const Usage usage = usage_of(processes, init());
  sampled_peak_ = std::max(sampled_peak_, usage.largest_peak);
  if (!killed_) check_limits(command, usage, exit);
  // A process of a plain user may lower this again, down to what the agent has.
  if (launch_.expendable)
    for (const auto& [pid, stat] : processes)
      std::ofstream("/proc/" + std::to_string(pid) + "/oom_score_adj") << kFirstToDie;
  if (command.tick) command.tick(seconds_since(start_));
}

void Child::look_after(const Command& command, Exit& exit) {
  if (!killed_ && seconds_since(start_) > command.limit) {  // first: a look at many may take long
    exit.timed_out = true;
    kill_group();
  }
  if (seconds_since(last_sample_) >= kSampleSeconds) sample(command, exit);
  if (!killed_ && command.stop && command.stop()) kill_group();
  if (!killed_ && !command.finishes && interrupt_requested()) {
    if (!exit.interrupted) {
      exit.interrupted = true;
      asked_to_end_ = Clock::now();
      signal_group(SIGTERM);
    } else if (seconds_since(asked_to_end_) > kGraceSeconds) {
      kill_group();
    }
  }
}

// Whether the leader has ended: if it does not, it is left to a later end_orphans().
bool Child::reap(Exit& exit) {
  kill_group();  // before the wait: as long as the leader is a zombie, its number is ours
  while (!leader_ended() && !lost_patience()) {
    pollfd leader = {pidfd_, POLLIN, 0};
    poll(&leader, 1, kPollMilliseconds);
  }
  int status = SIGKILL;  // of one that does not end
  rusage usage = {};
  const std::lock_guard lock(children_mutex);
  const bool dead = wait4(pid_, &status, WNOHANG, &usage) == pid_;
  if (init_ >= 0 && !children.contains(init_pid_)) {
    waitpid(init_pid_, nullptr, WNOHANG);  // ours, if we adopt orphans
    if (!namespace_ended()) stuck.insert(init_pid_);
  }
  if (!dead) stuck.insert(pid_);
  children.erase(pid_);
  reaped_ = true;
  exit.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  // The kernel's figures cover what was waited for; a killed bwrap never waits for its program.
  exit.peak_rss_bytes = std::max(int64_t{usage.ru_maxrss} * 1024, sampled_peak_);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
  };
  exit.cpu_seconds = seconds(usage.ru_utime) + seconds(usage.ru_stime);
  exit.involuntary_switches = usage.ru_nivcsw;
  return dead;
}

// Ends all that is left of it, and finds out whether anything stays.
void Child::finish(Exit& exit) {
  bool empty = namespace_ended();
  if (empty) {
    pollfd leader = {pidfd_, POLLIN, 0};
    poll(&leader, 1, kBwrapMilliseconds);
  } else {
    empty = end_namespace();
    exit.seconds = seconds_since(start_);
  }
  const auto call_stuck = [&](pid_t pid) {
    const auto stat = read_stat(pid);
    exit.stuck = {pid, stat ? stat->start_time : 0};
  };
  if (!reap(exit)) call_stuck(pid_);
  if (!empty) call_stuck(init_pid_);
  if (const pid_t orphan = end_orphans(); orphan > 0) call_stuck(orphan);
  if (fenced_) exit.seconds = seconds_since(start_);
}

Exit Child::wait(const Command& command) {
  Exit exit;
  // The sandbox's end counts as well: a bwrap that was stopped would not see that.
  while (!leader_ended() && !namespace_ended() && !lost_patience()) {
    listen(command, exit);
    read_output(/*rounds=*/1);
    look_after(command, exit);
    // Last, so that no look at the processes stands between the end and the clock.
    pollfd watched[] = {{out_.read, POLLIN, 0},
                        {pidfd_, POLLIN, 0},
                        {init_, POLLIN, 0},
                        {report_.read, POLLIN, 0},
                        {tell_.read, POLLIN, 0}};
    poll(watched, std::size(watched), kPollMilliseconds);
  }
  listen(command, exit);
  exit.seconds = seconds_since(start_);
  finish(exit);
  exit.over_memory = exit.over_memory || group_.ran_out_of_memory();  // since the last sample
  check(command.filter.empty() || fenced_ || init_pid_ > 0 || exit.code != 0,
        "this bwrap does not tell of its init (--info-fd); type: apt-get install bubblewrap");
  // A bounded number of reads: something that escaped the group could write for ever.
  read_output(/*rounds=*/32);
  if (kept_.size() > most_kept_) kept_.erase(0, kept_.size() - most_kept_);
  exit.output = std::move(kept_);
  if (command.apart) exit.errors = text_of(errors_);
  return exit;
}

}  // namespace

Exit run(const Command& command) {
  Child child(command);
  child.release(command);
  return child.wait(command);
}

std::string what_holds(const ProcessId& stuck) {
  const auto stat = read_stat(stuck.pid);
  const bool ended = !stat || stat->start_time != stuck.start_time ||
                     (stat->state == 'Z' && stat->threads <= 1);  // its threads may wait on
  if (ended) return "";
  std::string place;
  std::ifstream(fmt::format("/proc/{}/wchan", stuck.pid)) >> place;
  return fmt::format("process {} can't be ended (state {}{})", stuck.pid, stat->state,
                     place.empty() || place == "0" ? "" : ", waiting in " + place);
}

void adopt_orphans() { prctl(PR_SET_CHILD_SUBREAPER, 1); }

void kill_orphan(pid_t pid, uint64_t start_time) {
  const auto still_there = [](pid_t pid, uint64_t start_time) {
    const auto stat = read_stat(pid);
    return stat && stat->start_time == start_time && stat->state != 'Z';
  };
  if (pid <= 1 || pid == getpid() || !still_there(pid, start_time)) return;
  const ProcessTable processes = all_processes();
  const std::set<pid_t> tree = tree_of(processes, pid);
  kill(-pid, SIGKILL);
  for (const pid_t member : tree) kill(member, SIGKILL);
  // Their files are about to be used again.
  for (int i = 0; i < 100; ++i) {
    if (std::none_of(tree.begin(), tree.end(), [&](pid_t member) {
          const auto found = processes.find(member);
          return found != processes.end() && still_there(member, found->second.start_time);
        }))
      return;
    std::this_thread::sleep_for(std::chrono::milliseconds(kPollMilliseconds));
  }
}

void watch_for_interrupt(bool gently) {
  gentle = gently;
  struct sigaction action = {};
  action.sa_handler = on_interrupt;
  action.sa_flags = SA_RESTART;  // poll() wakes all the same; reads and writes go on
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  action.sa_handler = SIG_IGN;
  sigaction(SIGHUP, &action, nullptr);
  sigaction(SIGPIPE, &action, nullptr);
}

bool interrupt_requested() { return interrupt_flag; }
bool stop_requested() { return stop_flag; }

void request_interrupt() {
  stop_flag = true;
  interrupt_flag = true;
}

void keep_memory_private() {
  const rlimit no_core = {0, 0};
  setrlimit(RLIMIT_CORE, &no_core);
  // The limit says nothing to a crash handler that the kernel pipes the image to; this does.
  prctl(PR_SET_DUMPABLE, 0);
}

std::vector<std::string> scrubbed_environment() {
  auto value = [](const char* name, const char* otherwise) {
    const char* found = std::getenv(name);
    return std::string(found ? found : otherwise);
  };
  // Compiler messages are read by a language model and by tests: always in English.
  std::vector<std::string> env = {"PATH=" + value("PATH", "/usr/local/bin:/usr/bin:/bin"),
                                  "HOME=" + value("HOME", "/tmp"), "LANG=C.UTF-8", "TMPDIR=/tmp"};
  for (const char* name : {"CUDA_DEVICE_ORDER", "CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH",
                           "OMP_NUM_THREADS", "MKL_NUM_THREADS"}) {
    if (std::getenv(name)) env.push_back(std::string(name) + "=" + value(name, ""));
  }
  return env;
}

}  // namespace autoresearch
