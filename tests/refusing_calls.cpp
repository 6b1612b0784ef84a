// Preloaded into a program, a file system that lacks what a local disk has: shares, FUSE, cluster
// disks, FAT. $REFUSED_CALLS names the calls that fail below $REFUSED_UNDER and with which errno:
// "fsync=22,flock=38". fsync stands for that of a folder; fchmod, for every change of a mode;
// stale, for one opening in fifty.
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>

namespace {

// The errno for `call`, 0: it is not refused.
int refusal_of(std::string_view call) {
  const char* list = std::getenv("REFUSED_CALLS");
  const std::string all = "," + std::string(list ? list : "");
  const size_t at = all.find("," + std::string(call) + "=");
  return at == std::string::npos ? 0 : std::atoi(all.c_str() + at + call.size() + 2);
}

bool is_below(const char* path) {
  const char* under = std::getenv("REFUSED_UNDER");
  return under != nullptr && path != nullptr && std::strncmp(path, under, std::strlen(under)) == 0;
}

bool is_below(int fd) {
  char path[4096] = {};
  const std::string link = "/proc/self/fd/" + std::to_string(fd);
  return readlink(link.c_str(), path, sizeof path - 1) > 0 && is_below(path);
}

// Whether `call` fails at this place; errno says why.
template <typename Place>
bool refuses(std::string_view call, Place place) {
  const int reason = refusal_of(call);
  if (reason == 0 || !is_below(place)) return false;
  errno = reason;
  return true;
}

template <typename Function>
Function next(const char* name) {
  return reinterpret_cast<Function>(dlsym(RTLD_NEXT, name));
}

}  // namespace

extern "C" int fsync(int fd) {
  struct stat status = {};
  const bool folder = fstat(fd, &status) == 0 && S_ISDIR(status.st_mode);
  return folder && refuses("fsync", fd) ? -1 : next<int (*)(int)>("fsync")(fd);
}

extern "C" int flock(int fd, int operation) noexcept {
  return refuses("flock", fd) ? -1 : next<int (*)(int, int)>("flock")(fd, operation);
}

extern "C" int fchmod(int fd, mode_t mode) noexcept {
  return refuses("fchmod", fd) ? -1 : next<int (*)(int, mode_t)>("fchmod")(fd, mode);
}

extern "C" int chmod(const char* path, mode_t mode) noexcept {
  return refuses("fchmod", path) ? -1 : next<int (*)(const char*, mode_t)>("chmod")(path, mode);
}

extern "C" int fchmodat(int folder, const char* path, mode_t mode, int flags) noexcept {
  if (folder == AT_FDCWD ? refuses("fchmod", path) : refuses("fchmod", folder)) return -1;
  return next<int (*)(int, const char*, mode_t, int)>("fchmodat")(folder, path, mode, flags);
}

extern "C" int renameat2(int from, const char* old_path, int to, const char* new_path,
                         unsigned flags) noexcept {
  if (flags != 0 && refuses("renameat2", old_path)) return -1;
  return next<int (*)(int, const char*, int, const char*, unsigned)>("renameat2")(
      from, old_path, to, new_path, flags);
}

extern "C" int link(const char* from, const char* to) noexcept {
  return refuses("link", to) ? -1 : next<int (*)(const char*, const char*)>("link")(from, to);
}

extern "C" int symlink(const char* target, const char* at) noexcept {
  return refuses("symlink", at) ? -1
                                : next<int (*)(const char*, const char*)>("symlink")(target, at);
}

extern "C" int open(const char* path, int flags, ...) {
  static std::atomic<int> opened = 0;
  va_list more;
  va_start(more, flags);
  const mode_t mode = (flags & (O_CREAT | __O_TMPFILE)) != 0 ? va_arg(more, mode_t) : 0;
  va_end(more);
  const bool reads = (flags & O_ACCMODE) == O_RDONLY && is_below(path);
  if (reads && refusal_of("stale") != 0 && ++opened % 50 == 0) {
    errno = ESTALE;
    return -1;
  }
  return next<int (*)(const char*, int, ...)>("open")(path, flags, mode);
}
