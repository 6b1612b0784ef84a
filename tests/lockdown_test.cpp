// What a locked process can still do, and what it can't.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <functional>
#include <thread>
#include <vector>

#include "common/seccomp.h"

namespace autoresearch {
namespace {

// The exit code of a locked child: 0 if `works` is true there.
int locked(const std::function<bool()>& works) {
  const pid_t child = fork();
  if (child == 0) {
    lock_down();
    _exit(works() ? 0 : 1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

bool refused(long result) { return result == -1 && errno == EPERM; }

TEST(LockDown, ComputingMemoryThreadsAndOpenDescriptorsGoOn) {
  int ends[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
  EXPECT_EQ(locked([&] {
              std::vector<char> memory(64 << 20, 1);
              std::atomic<int> sum = 0;
              std::vector<std::thread> threads;
              for (int i = 0; i < 4; ++i) threads.emplace_back([&sum, i] { sum |= 1 << i; });
              for (std::thread& thread : threads) thread.join();
              void* code = mmap(nullptr, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS,
                                -1, 0);  // libtorch compiles kernels while it runs
              return sum == 15 && code != MAP_FAILED && send(ends[1], "x", 1, 0) == 1;
            }),
            0);
  char byte = 0;
  EXPECT_EQ(recv(ends[0], &byte, 1, 0), 1);
  close(ends[0]), close(ends[1]);
}

TEST(LockDown, NothingElseIsReached) {
  EXPECT_EQ(locked([] { return refused(open("/etc/hostname", O_RDONLY)); }), 0);
  EXPECT_EQ(locked([] { return refused(socket(AF_UNIX, SOCK_STREAM, 0)); }), 0);
  EXPECT_EQ(locked([] { return refused(memfd_create("x", 0)); }), 0);
  EXPECT_EQ(locked([] { return refused(kill(getppid(), 0)); }), 0);
  EXPECT_EQ(locked([] { return refused(fork()); }), 0);
  EXPECT_EQ(locked([] { return refused(unlink("/tmp/no-such-file")); }), 0);
  EXPECT_EQ(locked([] { return refused(execl("/bin/true", "true", nullptr)); }), 0);
}

}  // namespace
}  // namespace autoresearch
