// Preloaded into a program, a bad night for its machine: every call of these fails once in
// $FAIL_ONE_IN, by chance ($FAIL_SEED).
#include <dlfcn.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

namespace {

// By a counter and not by the clock, so that a seed gives the same failures to the same calls.
bool fails() {
  static const char* one_in = std::getenv("FAIL_ONE_IN");
  static const char* seed = std::getenv("FAIL_SEED");
  static std::atomic<uint64_t> calls = 0;
  if (one_in == nullptr) return false;
  uint64_t x = ++calls * 0x9E3779B97F4A7C15u + (seed ? std::strtoull(seed, nullptr, 10) : 0);
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return (x ^ (x >> 31)) % std::strtoull(one_in, nullptr, 10) == 0;
}

template <typename Function>
Function next(const char* name) {
  return reinterpret_cast<Function>(dlsym(RTLD_NEXT, name));
}

}  // namespace

extern "C" int fsync(int fd) {
  if (!fails()) return next<int (*)(int)>("fsync")(fd);
  errno = EIO;
  return -1;
}

extern "C" int rename(const char* from, const char* to) {
  if (!fails()) return next<int (*)(const char*, const char*)>("rename")(from, to);
  errno = ENOSPC;
  return -1;
}

extern "C" ssize_t write(int fd, const void* bytes, size_t size) {
  struct stat status;
  const bool file = fstat(fd, &status) == 0 && S_ISREG(status.st_mode);
  if (!file || !fails())
    return next<ssize_t (*)(int, const void*, size_t)>("write")(fd, bytes, size);
  errno = ENOSPC;
  return -1;
}

extern "C" pid_t fork() {
  if (!fails()) return next<pid_t (*)()>("fork")();
  errno = EAGAIN;
  return -1;
}
