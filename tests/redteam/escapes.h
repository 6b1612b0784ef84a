// Ways to end the parent's clock and live on: put into tests/cheats/honest.cpp by
// tests/redteam_test.cpp, and run after run.finish(). The seed says which one is tried.
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <cstdlib>
#include <cstring>

enum Escape { kNone, kInit, kDoubleFork, kSession, kGroupStop, kLease, kMapping, kExec, kThreads };

// What a survivor would do: weights that go on changing, notes, the CPU. It ends by itself.
static void live_on() {
  for (int i = 0; i < 3000; ++i) {
    if (const int fd = open("model.safetensors", O_WRONLY); fd >= 0) {
      [[maybe_unused]] const ssize_t n = pwrite(fd, &i, 1, lseek(fd, 0, SEEK_END) - 1);
      close(fd);
    }
    std::ofstream("notes", std::ios::app) << i << "\n";
    usleep(10000);
  }
}

static void say(const char* what, bool done) {
  fprintf(stderr, "%s: %s\n", what, done ? "done" : strerrorname_np(errno));
}

// Init would hand over the descriptor by which it tells the exit status, and be made immortal.
static void reach_for_init() {
  const int init = static_cast<int>(syscall(SYS_pidfd_open, 1, 0));
  bool got = false;
  for (int fd = 0; fd < 16; ++fd) got = got || syscall(SYS_pidfd_getfd, init, fd, 0) >= 0;
  say("pidfd_getfd", got);
  say("ptrace", ptrace(PTRACE_ATTACH, 1, nullptr, nullptr) == 0);
  if (fork() == 0) {
    setsid();
    live_on();
    _exit(0);
  }
}

static void fork_twice() {
  if (fork() != 0) return;
  setsid();
  if (fork() != 0) _exit(0);
  live_on();
  _exit(0);
}

// Its own session, so that a signal to the trainer's group misses it.
static void leave_session() {
  if (fork() != 0) return;
  say("setsid", setsid() > 0);
  live_on();
  _exit(0);
}

// Stops all of the group, the parent's bwrap with it if it could be reached, and is woken again.
static void stop_group() {
  const pid_t me = getpid(), waker = fork();
  if (waker == 0) {
    setsid();
    for (int i = 0; i < 100; ++i, usleep(50000)) kill(me, SIGCONT);
    _exit(0);
  }
  while (getsid(waker) == getsid(0)) usleep(1000);
  say("kill", kill(0, SIGSTOP) == 0);
}

// Whoever opens the file would wait for this process.
static void hold_leases() {
  for (const char* name : {"model.safetensors", "train.json"})
    say(name, fcntl(open(name, O_RDWR), F_SETLEASE, F_WRLCK) == 0);
}

// Writes to the sealed model through memory, from a process that nobody waits for.
static void keep_mapping() {
  const int fd = open("model.safetensors", O_RDWR);
  const auto size = static_cast<size_t>(lseek(fd, 0, SEEK_END));
  auto* bytes = static_cast<char*>(mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
  say("mmap", bytes != MAP_FAILED);
  if (fork() != 0) return;
  setsid();
  for (int i = 0; i < 3000; ++i, usleep(10000)) bytes[size - 1] = static_cast<char>(i);
  _exit(0);
}

static int in_the_same_memory(void*) {
  setsid();
  live_on();
  _exit(0);
}

// A task with this process's memory that is no thread of it: it is not ended by exec.
static void survive_exec() {
  static char stack[1 << 20];
  say("clone",
      clone(in_the_same_memory, stack + sizeof stack, CLONE_VM | CLONE_FILES, nullptr) > 0);
  execl("/bin/true", "true", nullptr);
}

static void start_threads() {
  pthread_attr_t small;
  pthread_attr_init(&small);
  pthread_attr_setstacksize(&small, 1 << 20);
  pthread_t thread;
  for (int i = 0; i < 5000; ++i)
    pthread_create(
        &thread, &small, [](void*) -> void* { return pause(), nullptr; }, nullptr);
  sleep(60);
}

static int which = kNone;

// Before main; glibc gives it what main gets.
__attribute__((constructor)) static void choose(int argc, char** argv) {
  for (int i = 1; i + 1 < argc; ++i)
    if (std::strcmp(argv[i], "--seed") == 0) which = std::atoi(argv[i + 1]);
}

static void escape() {
  switch (which) {
    case kInit:
      return reach_for_init();
    case kDoubleFork:
      return fork_twice();
    case kSession:
      return leave_session();
    case kGroupStop:
      return stop_group();
    case kLease:
      return hold_leases();
    case kMapping:
      return keep_mapping();
    case kExec:
      return survive_exec();
    case kThreads:
      return start_threads();
    default:
      return;
  }
}
