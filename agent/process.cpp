#include "agent/process.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/keyctl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <map>
#include <optional>
#include <sstream>
#include <thread>
#include <utility>

#include "common/error.h"

namespace autoresearch {
namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kOutputKept = 1 << 20;     // bytes of output that Exit::output may hold
constexpr size_t kReadSize = 1 << 16;       // a pipe's default capacity
constexpr int kPollMilliseconds = 50;       // the longest wait between two looks at the child
constexpr double kSampleSeconds = 0.2;      // between two samples of memory and two ticks
constexpr double kGraceSeconds = 2;         // from SIGTERM to SIGKILL after an interrupt
constexpr int64_t kDoubleInterrupt = 2000;  // milliseconds

[[noreturn]] void fail(const std::string& what) {
  throw Error("cannot start a process: " + what + ": " + strerror(errno));
}

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

class Fd {
 public:
  // Moves the descriptor above 2, so that the child's dup2 to 0, 1, 2 can't overwrite it even where
  // the agent was started with a standard stream closed.
  Fd(int fd, const char* what) : fd_(fd) {
    if (fd_ < 0) fail(what);
    if (fd_ > STDERR_FILENO) return;
    fd_ = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    ::close(fd);
    if (fd_ < 0) fail(what);
  }
  Fd() = default;
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Fd() { close(); }
  void close() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }
  int get() const { return fd_; }

 private:
  int fd_ = -1;
};

struct Pipe {
  Fd read, write;
};

Pipe make_pipe() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) fail("pipe");
  return {Fd(ends[0], "pipe"), Fd(ends[1], "pipe")};
}

// All of the input in an anonymous file: unlike a pipe it can't fill up and block.
Fd open_input(const std::string& input) {
  if (input.empty()) return Fd(open("/dev/null", O_RDONLY | O_CLOEXEC), "/dev/null");
  Fd file(memfd_create("stdin", MFD_CLOEXEC), "memfd_create");
  for (size_t done = 0; done < input.size();) {
    ssize_t n = write(file.get(), input.data() + done, input.size() - done);
    if (n < 0 && errno != EINTR) fail("memory for its input");
    if (n > 0) done += static_cast<size_t>(n);
  }
  if (lseek(file.get(), 0, SEEK_SET) != 0) fail("rewinding its input");
  return file;
}

// Never through a link: an earlier child may have had the folder to itself and left one there.
Fd open_log(const fs::path& log) {
  int fd = open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0644);
  if (fd < 0) throw Error("cannot write the log " + log.string() + ": " + strerror(errno));
  return Fd(fd, "log");
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
  int nice = 0, input = -1, output = -1, go = -1, go_write = -1;
  uint64_t max_file_bytes = 0;
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

void close_all_but_standard() {
  if (syscall(SYS_close_range, 3U, ~0U, 0U) == 0) return;
  for (int fd = 3; fd < 65536; ++fd) close(fd);  // kernels before 5.9
}

[[noreturn]] void child_main(const Launch& launch) {
  // A session of its own is also a process group of its own, and takes away the terminal: a child
  // that could open /dev/tty could type commands into it (TIOCSTI).
  setsid();
  close(launch.go_write);
  char byte;
  ssize_t n;
  do n = read(launch.go, &byte, 1);
  while (n < 0 && errno == EINTR);
  if (n != 1) _exit(127);
  reset_signals();
  // A keyring of its own: the user's could be read, and would carry notes from child to child.
  syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, 0);
  const rlimit no_core = {0, 0};
  setrlimit(RLIMIT_CORE, &no_core);
  if (launch.max_file_bytes > 0) {
    const rlimit size = {launch.max_file_bytes, launch.max_file_bytes};
    setrlimit(RLIMIT_FSIZE, &size);
  }
  if (launch.nice != 0) {
    [[maybe_unused]] int priority = nice(launch.nice);
  }
  dup2(launch.input, STDIN_FILENO);
  dup2(launch.output, STDOUT_FILENO);
  dup2(launch.output, STDERR_FILENO);
  close_all_but_standard();
  if (!launch.cwd.empty() && chdir(launch.cwd.c_str()) != 0) give_up(launch, "no such folder");
  execve(launch.program.c_str(), launch.argv.data(), launch.env.data());
  give_up(launch, errno == ENOENT ? "not found" : strerrordesc_np(errno));
}

// The fields of /proc/<pid>/stat that matter here.
struct Stat {
  char state = 0;
  pid_t parent = 0, group = 0;
  uint64_t start_time = 0;
  int64_t rss_bytes = 0;
};

std::optional<Stat> read_stat(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  // getline and not a stream iterator, which throws where the process has just ended.
  std::string text;
  std::getline(file, text, '\0');
  size_t name_end = text.rfind(')');  // the name itself may hold spaces and brackets
  if (name_end == std::string::npos) return std::nullopt;
  std::istringstream rest(text.substr(name_end + 1));
  Stat stat;
  rest >> stat.state >> stat.parent >> stat.group;
  std::string skipped;
  for (int field = 6; field < 22; ++field) rest >> skipped;
  rest >> stat.start_time >> skipped >> stat.rss_bytes;
  if (!rest) return std::nullopt;
  stat.rss_bytes *= sysconf(_SC_PAGESIZE);
  return stat;
}

int64_t peak_rss_of(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/status");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("VmHWM:")) return std::atoll(line.c_str() + 6) * 1024;
  }
  return 0;
}

std::map<pid_t, Stat> all_processes() {
  std::map<pid_t, Stat> result;
  DIR* proc = opendir("/proc");
  if (proc == nullptr) return result;
  while (const dirent* entry = readdir(proc)) {
    pid_t pid = std::atoi(entry->d_name);
    if (pid <= 0) continue;
    if (auto stat = read_stat(pid)) result[pid] = *stat;
  }
  closedir(proc);
  return result;
}

struct Memory {
  int64_t sum = 0, largest_peak = 0;
};

// Of the leader's group and of all its descendants: a process that left the group still counts.
Memory sample_memory(pid_t leader) {
  auto processes = all_processes();
  auto belongs = [&](pid_t pid) {
    for (int depth = 0; depth < 64 && pid > 1; ++depth) {  // bounded: the snapshot isn't atomic
      auto found = processes.find(pid);
      if (found == processes.end()) return false;
      if (pid == leader || found->second.group == leader) return true;
      pid = found->second.parent;
    }
    return false;
  };
  Memory memory;
  for (const auto& [pid, stat] : processes) {
    if (!belongs(pid)) continue;
    memory.sum += stat.rss_bytes;
    memory.largest_peak = std::max(memory.largest_peak, peak_rss_of(pid));
  }
  return memory;
}

volatile sig_atomic_t interrupt_flag = 0;
std::atomic<int64_t> last_interrupt_ms = -kDoubleInterrupt - 1;

void on_interrupt(int signal) {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  int64_t ms = int64_t{now.tv_sec} * 1000 + now.tv_nsec / 1000000;
  if (signal == SIGINT) {
    int64_t last = last_interrupt_ms.exchange(ms);
    if (interrupt_flag && last >= 0 && ms - last <= kDoubleInterrupt) _exit(kInterrupted);
  }
  interrupt_flag = 1;
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
  void read_output(int rounds);
  void look_after(const Command& command, Exit& exit);
  void sample(const Command& command, Exit& exit);
  bool ended() const;
  void reap(Exit& exit);

  Launch launch_;
  Fd input_, output_, pidfd_;
  Pipe go_, out_;
  pid_t pid_ = -1;
  bool reaped_ = false, killed_ = false;
  Clock::time_point start_, last_sample_, asked_to_end_;
  int64_t sampled_peak_ = 0;
  std::string kept_;
};

// Opens what the child will have as its standard streams and fills in launch_.
void Child::prepare(const Command& command) {
  check(!command.argv.empty(), "cannot start a process: its argument list is empty");
  input_ = open_input(command.input);
  go_ = make_pipe();
  if (command.log.empty()) {
    out_ = make_pipe();
    fcntl(out_.read.get(), F_SETFL, O_NONBLOCK);
  } else {
    output_ = open_log(command.log);
  }
  const std::string folder = command.cwd.empty() ? "" : " in " + command.cwd.string();
  launch_ = {.program = find_program(command.argv[0], command.env),
             .cwd = command.cwd.string(),
             .complaint = "cannot run " + command.argv[0] + folder + ": ",
             .argv = pointers(command.argv),
             .env = pointers(command.env),
             .nice = command.nice,
             .input = input_.get(),
             .output = command.log.empty() ? out_.write.get() : output_.get(),
             .go = go_.read.get(),
             .go_write = go_.write.get(),
             .max_file_bytes = command.max_file_bytes};
}

Child::Child(const Command& command) {
  prepare(command);
  sigset_t all, before;  // the agent's handlers must not run in the child
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  pid_ = fork();
  if (pid_ == 0) child_main(launch_);
  const int error = errno;
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  errno = error;
  if (pid_ < 0) fail("fork");
  input_.close();
  output_.close();
  out_.write.close();
  go_.read.close();
  const int pidfd = static_cast<int>(syscall(SYS_pidfd_open, pid_, 0));
  if (pidfd >= 0) pidfd_ = Fd(pidfd, "pidfd");  // without one wait() polls
}

Child::~Child() {
  if (reaped_) return;
  signal_group(SIGKILL);
  while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

void Child::release(const Command& command) {
  if (command.before_exec) {
    const auto stat = read_stat(pid_);
    command.before_exec(pid_, stat ? stat->start_time : 0);
  }
  start_ = last_sample_ = Clock::now();
  ssize_t n;
  do n = write(go_.write.get(), "", 1);
  while (n < 0 && errno == EINTR);
  go_.write.close();
}

// The child itself too: it may not have come as far as setsid() yet.
void Child::signal_group(int signal) const {
  kill(-pid_, signal);
  kill(pid_, signal);
}

bool Child::ended() const {
  siginfo_t info = {};
  return waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
         info.si_pid == pid_;
}

void Child::read_output(int rounds) {
  char buffer[kReadSize];
  for (int i = 0; i < rounds && out_.read.get() >= 0; ++i) {
    ssize_t n = read(out_.read.get(), buffer, sizeof buffer);
    if (n < 0) break;
    if (n == 0) out_.read.close();
    kept_.append(buffer, static_cast<size_t>(n));
    if (kept_.size() > 2 * kOutputKept) kept_.erase(0, kept_.size() - kOutputKept);
  }
}

void Child::sample(const Command& command, Exit& exit) {
  last_sample_ = Clock::now();
  Memory memory = sample_memory(pid_);
  sampled_peak_ = std::max(sampled_peak_, memory.largest_peak);
  if (command.max_rss_bytes > 0 && memory.sum > command.max_rss_bytes && !killed_) {
    exit.over_memory = killed_ = true;
    signal_group(SIGKILL);
  }
  if (command.tick) command.tick(seconds_since(start_));
}

void Child::look_after(const Command& command, Exit& exit) {
  if (seconds_since(last_sample_) >= kSampleSeconds) sample(command, exit);
  if (!killed_ && seconds_since(start_) > command.limit) {
    exit.timed_out = killed_ = true;
    signal_group(SIGKILL);
  }
  if (!killed_ && !command.finishes && interrupt_requested()) {
    if (!exit.interrupted) {
      exit.interrupted = true;
      asked_to_end_ = Clock::now();
      signal_group(SIGTERM);
    } else if (seconds_since(asked_to_end_) > kGraceSeconds) {
      killed_ = true;
      signal_group(SIGKILL);
    }
  }
}

void Child::reap(Exit& exit) {
  signal_group(SIGKILL);  // before the wait: as long as the leader is a zombie, its number is ours
  int status = 0;
  rusage usage = {};
  while (wait4(pid_, &status, 0, &usage) < 0 && errno == EINTR) {
  }
  reaped_ = true;
  exit.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  // The kernel's figure covers what was waited for; a killed bwrap never waits for its program.
  exit.peak_rss_bytes = std::max(int64_t{usage.ru_maxrss} * 1024, sampled_peak_);
}

Exit Child::wait(const Command& command) {
  Exit exit;
  while (!ended()) {
    pollfd watched[] = {{out_.read.get(), POLLIN, 0}, {pidfd_.get(), POLLIN, 0}};
    poll(watched, 2, kPollMilliseconds);
    read_output(/*rounds=*/1);
    look_after(command, exit);
  }
  exit.seconds = seconds_since(start_);
  reap(exit);
  // A bounded number of reads: something that escaped the group could write for ever.
  read_output(/*rounds=*/32);
  if (kept_.size() > kOutputKept) kept_.erase(0, kept_.size() - kOutputKept);
  exit.output = std::move(kept_);
  return exit;
}

}  // namespace

Exit run(const Command& command) {
  Child child(command);
  child.release(command);
  return child.wait(command);
}

void kill_orphan(pid_t pid, uint64_t start_time) {
  auto still_there = [&] {
    auto stat = read_stat(pid);
    return stat && stat->start_time == start_time && stat->state != 'Z';
  };
  if (pid <= 1 || pid == getpid() || !still_there()) return;
  kill(-pid, SIGKILL);
  kill(pid, SIGKILL);
  for (int i = 0; i < 100 && still_there(); ++i) {  // its files are about to be used again
    std::this_thread::sleep_for(std::chrono::milliseconds(kPollMilliseconds));
  }
}

void watch_for_interrupt() {
  struct sigaction action = {};
  action.sa_handler = on_interrupt;
  action.sa_flags = SA_RESTART;  // poll() wakes all the same; reads and writes go on
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  action.sa_handler = SIG_IGN;
  sigaction(SIGHUP, &action, nullptr);
  sigaction(SIGPIPE, &action, nullptr);
}

bool interrupt_requested() { return interrupt_flag != 0; }

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
