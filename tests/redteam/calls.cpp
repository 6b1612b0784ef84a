// Asks the kernel for what the sandbox's filter refuses, one line each: the call's name and "ok",
// or the error's name. With an argument it does one thing alone:
//   memfd MIB   holds so many MiB in a file in memory that is never mapped
//   int80       makes a call in another architecture's numbers
//   among PID   asks for what the filter refuses where no namespace keeps it apart from process PID
#include <fcntl.h>
#include <linux/keyctl.h>
#include <linux/perf_event.h>
#include <sched.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

static void tell(const char* name, long result) {
  std::printf("%s %s\n", name, result >= 0 ? "ok" : strerrorname_np(errno));
  std::fflush(stdout);
}

static int hold_memory(long mib) {
  const std::vector<char> block(1 << 20, 'x');
  const int fd = memfd_create("held", 0);
  for (long i = 0; i < mib; ++i)
    if (write(fd, block.data(), block.size()) != static_cast<ssize_t>(block.size())) return 1;
  pause();
  return 0;
}

static void reach_into(pid_t child) {
  static int word = 7;
  int copy = 0;
  iovec ours{&copy, sizeof copy}, theirs{&word, sizeof word};
  tell("process_vm_readv", process_vm_readv(child, &ours, 1, &theirs, 1, 0));
  const int pidfd = static_cast<int>(syscall(SYS_pidfd_open, child, 0));
  tell("pidfd_getfd", syscall(SYS_pidfd_getfd, pidfd, 1, 0));
  tell("kcmp", syscall(SYS_kcmp, getpid(), child, 0, 0, 0));
  const long attached = ptrace(PTRACE_ATTACH, child, nullptr, nullptr);
  tell("ptrace", attached);
  if (attached == 0) waitpid(child, nullptr, 0);
}

// In a child of its own, which is the leader of nothing yet.
static void leave(const char* name, long (*call)()) {
  if (fork() == 0) {
    tell(name, call());
    _exit(0);
  }
  wait(nullptr);
}

static int reach_for_others(pid_t other) {
  for (const int family : {AF_UNIX, AF_INET, AF_INET6, AF_NETLINK})
    tell("socket", socket(family, SOCK_DGRAM, 0));
  int ends[2];
  tell("socketpair", socketpair(AF_UNIX, SOCK_DGRAM, 0, ends));
  leave("setsid", [] { return static_cast<long>(setsid()); });
  leave("setpgid", [] { return static_cast<long>(setpgid(0, 0)); });
  rlimit limit;
  tell("prlimit", prlimit(other, RLIMIT_NOFILE, nullptr, &limit));
  tell("setpriority", setpriority(PRIO_PROCESS, static_cast<id_t>(other), 0));
  cpu_set_t all;
  std::memset(&all, 0xff, sizeof all);
  tell("sched_setaffinity", sched_setaffinity(other, sizeof all, &all));
  tell("inotify_add_watch", inotify_add_watch(inotify_init1(IN_CLOEXEC), "/usr", IN_CREATE));
  tell("truncate", truncate("leased", 0));
  tell("kill", kill(other, 0));
  return 0;
}

int main(int argc, char** argv) {
  if (argc > 2 && std::strcmp(argv[1], "among") == 0) return reach_for_others(std::atoi(argv[2]));
  if (argc > 2) return hold_memory(std::atol(argv[2]));
#ifdef __x86_64__
  if (argc > 1) {
    long pid = 20;  // getpid
    asm volatile("int $0x80" : "+a"(pid));
    return 0;
  }
  tell("x32", syscall(0x40000000 | SYS_getpid));
#endif
  const pid_t child = fork();
  if (child == 0) {
    pause();
    _exit(0);
  }
  reach_into(child);
  kill(child, SIGKILL);
  const int file = open("leased", O_RDWR | O_CREAT, 0600);
  tell("lease", fcntl(file, F_SETLEASE, F_WRLCK));
  long flags = 0;  // FS_IOC_SETFLAGS, whose header does not go with <sys/mount.h> everywhere
  tell("setflags", ioctl(file, _IOW('f', 2, long), &flags));
  struct {
    const char* value;
    unsigned size, flags;
  } note = {"x", 1, 0};
  tell("setxattrat", syscall(463, AT_FDCWD, "leased", 0, "user.note", &note, sizeof note));
  tell("keyctl", syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 1));
  tell("shmget", shmget(IPC_PRIVATE, 4096, 0600));
  perf_event_attr event = {};
  event.size = sizeof event;
  tell("perf_event_open", syscall(SYS_perf_event_open, &event, 0, -1, -1, 0));
  char ring[512] = {};
  tell("io_uring_setup", syscall(SYS_io_uring_setup, 1, ring));
  tell("userfaultfd", syscall(SYS_userfaultfd, 1));
  tell("bpf", syscall(SYS_bpf, 0, nullptr, 0));
  const long clone3 = syscall(SYS_clone3, ring, 0);
  tell("clone3", clone3);
  const long cloned =
      syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, nullptr, nullptr, nullptr, nullptr);
  if (cloned == 0) _exit(0);
  tell("clone", cloned);
  tell("mount", mount("none", "/no/such/folder", "tmpfs", 0, nullptr));
  tell("unshare", unshare(CLONE_NEWUSER));
}
