#include "common/files.h"

#include <fcntl.h>
#include <fmt/ranges.h>
#include <linux/fs.h>  // FICLONE
#include <openssl/evp.h>
#include <pwd.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <utility>

#include "common/descriptor.h"
#include "common/error.h"
#include "common/log.h"

namespace autoresearch {
namespace {

// Throws Error("can't <what> <path>: <the system's reason>"); called right after a failed system
// call.
template <typename Kind = Error>
[[noreturn]] void fail(const std::string& what, const fs::path& path) {
  const int reason = errno;
  throw Kind("can't " + what + " " + path.string() + ": " + std::strerror(reason) +
             (reason == ENOSPC ? "; free some space and run the command again"
              : reason == EROFS || reason == EACCES
                  ? "; make it and its folder readable and writable for you"
                  : ""));
}

// The descriptor of a file to read, or -1. NFS calls a name stale that it has cached for too long,
// and finds the file when it is asked again.
int open_to_read(const fs::path& path) {
  constexpr int kTries = 3;
  int fd = -1;
  for (int i = 0; i < kTries && fd < 0 && (i == 0 || errno == ESTALE); ++i) {
    fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  }
  return fd;
}

// Whether a call failed because the file system has none of its kind: shares, FUSE, cluster disks.
bool is_unknown_call(int reason) {
  return reason == EINVAL || reason == ENOSYS || reason == ENOTSUP || reason == ENOLCK ||
         reason == EPERM || reason == ENOTTY;
}

// The next bytes of `fd` into `buffer`; 0 at the end.
size_t read_some(int fd, char* buffer, size_t size, const fs::path& path) {
  for (;;) {
    const ssize_t count = ::read(fd, buffer, size);
    if (count >= 0) return static_cast<size_t>(count);
    if (errno != EINTR) fail("read", path);
  }
}

void write_or_fail(int fd, std::string_view bytes, const fs::path& path) {
  if (!write_all(fd, bytes)) fail("write", path);
}

// A path that was given by the environment; an empty variable counts as unset.
fs::path from_environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? fs::path() : fs::path(value);
}

std::string hex(const Digest& digest) { return fmt::format("{:02x}", fmt::join(digest, "")); }

bool is_same_file(int fd, const fs::path& path) {
  struct stat open = {}, named = {};
  return ::fstat(fd, &open) == 0 && ::stat(path.c_str(), &named) == 0 &&
         open.st_dev == named.st_dev && open.st_ino == named.st_ino;
}

// Looking the algorithm up costs more than hashing a short text, so each thread does it once.
EVP_MD_CTX* begin_digest() {
  thread_local const std::unique_ptr<EVP_MD, decltype(&EVP_MD_free)> algorithm(
      EVP_MD_fetch(nullptr, "SHA256", nullptr), &EVP_MD_free);
  thread_local const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(
      EVP_MD_CTX_new(), &EVP_MD_CTX_free);
  check(algorithm && context && EVP_DigestInit_ex2(context.get(), algorithm.get(), nullptr) == 1,
        "libcrypto has no SHA-256");
  return context.get();
}

Digest end_digest(EVP_MD_CTX* context) {
  Digest digest;
  check(EVP_DigestFinal_ex(context, digest.data(), nullptr) == 1, "SHA-256 failed in libcrypto");
  return digest;
}

}  // namespace

fs::path data_dir() {
  if (const fs::path dir = from_environment("AUTORESEARCH_DATA"); !dir.empty()) {
    return fs::absolute(dir);
  }
  // The XDG specification wants a relative path here to be ignored.
  const fs::path cache = from_environment("XDG_CACHE_HOME");
  if (cache.is_absolute()) return cache / "autoresearch";
  fs::path home = from_environment("HOME");
  if (home.empty()) {
    const passwd* user = ::getpwuid(::getuid());
    check(user != nullptr && user->pw_dir != nullptr,
          "no home folder is known; set AUTORESEARCH_DATA to the folder for data");
    home = user->pw_dir;
  }
  return home / ".cache" / "autoresearch";
}

std::string read_file(const fs::path& path) {
  const Descriptor fd(open_to_read(path));
  if (fd < 0) fail("open", path);
  struct stat status;
  if (::fstat(fd, &status) != 0) fail("read", path);
  // Reads to the end whatever the stated size: it is 0 for files in /proc and may grow meanwhile.
  std::string bytes(static_cast<size_t>(status.st_size) + 1, '\0');
  size_t done = 0;
  while (const size_t count = read_some(fd, bytes.data() + done, bytes.size() - done, path)) {
    done += count;
    if (done == bytes.size()) bytes.resize(2 * bytes.size() + 4096);
  }
  bytes.resize(done);
  return bytes;
}

void write_file(const fs::path& path, std::string_view bytes) {
  static std::atomic<unsigned> counter{0};
  const fs::path folder = path.has_parent_path() ? path.parent_path() : fs::path(".");
  const fs::path temporary = folder / fmt::format(".{}.tmp-{}-{}-{}", path.filename().native(),
                                                  ::getpid(), counter++, std::random_device()());
  // Never through a link, and never a file that is there: the folder may be a candidate's.
  Descriptor fd(
      ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666));
  if (fd < 0) fail("write", path);
  try {
    write_or_fail(fd, bytes, path);
    if (::fsync(fd) != 0) fail<DurabilityError>("sync", path);
    if (!fd.close()) fail("write", path);
    if (::rename(temporary.c_str(), path.c_str()) != 0) fail("write", path);
  } catch (const Error&) {
    ::unlink(temporary.c_str());
    throw;
  }
  sync_path(folder);
}

void sync_path(const fs::path& path) {
  const Descriptor fd(open_to_read(path));
  if (fd < 0) fail("open", path);
  if (::fsync(fd) == 0) return;
  const int reason = errno;
  struct stat status;
  const bool folder = ::fstat(fd, &status) == 0 && S_ISDIR(status.st_mode);
  if (folder && is_unknown_call(reason)) return;
  errno = reason;
  fail<DurabilityError>("sync", path);
}

Digest sha256_digest(std::string_view bytes) {
  EVP_MD_CTX* const context = begin_digest();
  EVP_DigestUpdate(context, bytes.data(), bytes.size());
  return end_digest(context);
}

std::string sha256(std::string_view bytes) { return hex(sha256_digest(bytes)); }

std::string sha256_of_file(const fs::path& path) {
  const Descriptor fd(open_to_read(path));
  if (fd < 0) fail("open", path);
  EVP_MD_CTX* const context = begin_digest();
  std::string buffer(1 << 18, '\0');
  while (const size_t count = read_some(fd, buffer.data(), buffer.size(), path)) {
    EVP_DigestUpdate(context, buffer.data(), count);
  }
  return hex(end_digest(context));
}

void copy_file_cheaply(const fs::path& from, const fs::path& to) {
  const Descriptor source(open_to_read(from));
  if (source < 0) fail("open", from);
  struct stat status;
  if (::fstat(source, &status) != 0) fail("read", from);
  if (!S_ISREG(status.st_mode)) throw Error("can't copy " + from.string() + ": not a file");
  // Made with its mode, which a file system that can't change it may keep: programs are copied too.
  Descriptor target(::open(to.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC,
                           (status.st_mode & 0777) | S_IWUSR));
  if (target < 0) fail("write", to);
  if (::ioctl(target, FICLONE, static_cast<int>(source)) != 0) {
    std::string buffer(1 << 20, '\0');
    while (const size_t count = read_some(source, buffer.data(), buffer.size(), from)) {
      write_or_fail(target, std::string_view(buffer).substr(0, count), to);
    }
  }
  ::fchmod(target, status.st_mode & 07777);  // FAT and many shares have no modes to change
  if (!target.close()) fail("write", to);
}

// ------------------------------------------------------------------------------------------------
// FileLock

namespace {

Error in_use(const fs::path& path, const std::string& holder) {
  return Error(path.string() + " is in use by process " + (holder.empty() ? "(unknown)" : holder) +
               "; wait until it has ended, or end it");
}

// "4711 on HOST": what the file says that stands for a lock.
std::string own_process() {
  char host[256] = "";
  ::gethostname(host, sizeof host - 1);
  return fmt::format("{} on {}", ::getpid(), host);
}

// Whether the process of such a file is one of this machine that is no more.
bool has_ended(const std::string& process) {
  const std::string own = own_process();
  const size_t host = process.find(' ');
  return host != std::string::npos && process.substr(host) == own.substr(own.find(' ')) &&
         ::kill(std::atoi(process.c_str()), 0) != 0 && errno == ESRCH;
}

}  // namespace

FileLock::FileLock(const fs::path& path) {
  do {  // again if its last holder has removed the file meanwhile
    fd_ = Descriptor(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666));
    check(fd_ >= 0, "can't write " + path.string() + ": " + std::strerror(errno) +
                        "; make its folder writable, or give AUTORESEARCH_DATA another");
    lock(path);
  } while (!is_same_file(fd_, path));
}

void FileLock::lock(const fs::path& path) {
  if (::flock(fd_, LOCK_EX | LOCK_NB) != 0) {
    if (is_unknown_call(errno)) return lock_by_file(path);
    if (errno != EWOULDBLOCK) fail("lock", path);
    char pid[32] = "";
    const ssize_t size = ::pread(fd_, pid, sizeof pid - 1, 0);
    throw in_use(path, std::string(pid, static_cast<size_t>(std::max<ssize_t>(size, 0))));
  }
  // The holder's number is for the message above only: the lock itself ends with its process.
  if (::ftruncate(fd_, 0) != 0) fail("write", path);
  write_or_fail(fd_, std::to_string(::getpid()), path);
}

// Whoever makes the file holds the lock. One that a dead process has left is taken over; what a
// process of another machine has left is the user's to judge.
void FileLock::lock_by_file(const fs::path& path) {
  const fs::path file = path.string() + ".holder";
  Descriptor made;
  for (;;) {
    made = Descriptor(::open(file.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
    if (made >= 0) break;
    if (errno != EEXIST) fail("write", file);
    const std::string holder = read_file(file);
    if (!has_ended(holder)) {
      throw Error(std::string(in_use(path, holder).what()) + "; if it has, remove " +
                  file.string());
    }
    if (::unlink(file.c_str()) != 0 && errno != ENOENT) fail("remove", file);
  }
  write_or_fail(made, own_process(), file);
  file_ = file;
  static std::atomic_flag warned;
  if (!warned.test_and_set()) {
    log_warning("the file system of " + path.string() + " has no locks; " + file.string() +
                " stands for one");
  }
}

std::optional<std::string> holder_of(const fs::path& lock) {
  const Descriptor fd(open_to_read(lock));
  if (fd < 0 && errno == ENOENT) return std::nullopt;
  if (fd < 0) fail("open", lock);
  // A shared lock for this moment: others that look can have one too.
  if (::flock(fd, LOCK_SH | LOCK_NB) == 0) return std::nullopt;
  if (errno == EWOULDBLOCK) return read_file(lock);
  if (!is_unknown_call(errno)) fail("lock", lock);
  const fs::path file = lock.string() + ".holder";
  if (!fs::exists(file)) return std::nullopt;
  const std::string holder = read_file(file);
  return has_ended(holder) ? std::nullopt : std::optional(holder);
}

FileLock::~FileLock() {
  if (!file_.empty()) ::unlink(file_.c_str());
}

}  // namespace autoresearch
