// Preloaded into a program, a broken disk: fsync of a file whose path holds $FAIL_FSYNC_OF fails.
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>

extern "C" int fsync(int fd) {
  char path[4096] = "";
  const std::string link = "/proc/self/fd/" + std::to_string(fd);
  if (readlink(link.c_str(), path, sizeof path - 1) < 0) return -1;
  const char* broken = std::getenv("FAIL_FSYNC_OF");
  if (broken == nullptr || std::strstr(path, broken) == nullptr)
    return static_cast<int>(syscall(SYS_fsync, fd));
  errno = EIO;
  return -1;
}
