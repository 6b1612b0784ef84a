// Preloaded into a program, a bad night for its machine. With $FAIL_ONE_IN, every call of these
// fails once in so many, by chance ($FAIL_SEED). With $FAIL_AT, those fail whose path holds it, and
// with $FAIL_NTH only the nth of them: a disk that is full for a moment. $FAIL_CALL names the only
// call that fails.
#include <dlfcn.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

namespace {

uint64_t number_of(const char* name) {
  const char* text = std::getenv(name);
  return text ? std::strtoull(text, nullptr, 10) : 0;
}

// By a counter and not by the clock, so that a seed gives the same failures to the same calls.
bool fails_by_chance() {
  static const uint64_t one_in = number_of("FAIL_ONE_IN"), seed = number_of("FAIL_SEED");
  static std::atomic<uint64_t> calls = 0;
  if (one_in == 0) return false;
  uint64_t x = ++calls * 0x9E3779B97F4A7C15u + seed;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return (x ^ (x >> 31)) % one_in == 0;
}

bool fails(const char* call, const std::string& path) {
  static const char* only = std::getenv("FAIL_CALL");
  if (only != nullptr && std::strcmp(only, call) != 0) return false;
  static const char* at = std::getenv("FAIL_AT");
  static const uint64_t nth = number_of("FAIL_NTH");
  static std::atomic<uint64_t> calls = 0;
  if (at == nullptr) return fails_by_chance();
  return path.find(at) != std::string::npos && (nth == 0 || ++calls == nth);
}

std::string path_of(int fd) {
  char path[4096] = "";
  const ssize_t size = readlink(("/proc/self/fd/" + std::to_string(fd)).c_str(), path, sizeof path);
  return {path, size > 0 ? static_cast<size_t>(size) : 0};
}

template <typename Function>
Function next(const char* name) {
  return reinterpret_cast<Function>(dlsym(RTLD_NEXT, name));
}

int failed(int reason) {
  errno = reason;
  return -1;
}

}  // namespace

extern "C" int fsync(int fd) {
  return fails("fsync", path_of(fd)) ? failed(EIO) : next<int (*)(int)>("fsync")(fd);
}

extern "C" int rename(const char* from, const char* to) {
  return fails("rename", to) ? failed(ENOSPC)
                             : next<int (*)(const char*, const char*)>("rename")(from, to);
}

extern "C" int mkdir(const char* path, mode_t mode) {
  return fails("mkdir", path) ? failed(ENOSPC)
                              : next<int (*)(const char*, mode_t)>("mkdir")(path, mode);
}

extern "C" ssize_t write(int fd, const void* bytes, size_t size) {
  struct stat status;
  const bool file = fstat(fd, &status) == 0 && S_ISREG(status.st_mode);
  if (file && fails("write", path_of(fd))) return failed(ENOSPC);
  return next<ssize_t (*)(int, const void*, size_t)>("write")(fd, bytes, size);
}

extern "C" pid_t fork() { return fails_by_chance() ? failed(EAGAIN) : next<pid_t (*)()>("fork")(); }
