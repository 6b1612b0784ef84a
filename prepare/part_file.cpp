#include "prepare/part_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <random>

#include "common/error.h"

namespace autoresearch {
namespace {

// Called right after a failed system call.
[[noreturn]] void fail(const std::string& what, const fs::path& path) {
  const int reason = errno;
  const bool full = reason == ENOSPC || reason == EDQUOT;
  throw Error("can't " + what + " " + path.string() + ": " + std::strerror(reason) +
              (full ? "; free some space and run the same command again" : ""));
}

// Changes with every start of the machine; empty where the kernel does not tell.
std::string boot_id() {
  std::ifstream file("/proc/sys/kernel/random/boot_id");
  std::string id;
  std::getline(file, id);
  return id;
}

// What could not be known again gets a key that comes no second time.
std::string key_of(const Content& content) {
  if (!content.sha256.empty()) return content.sha256;
  const std::string validator =
      content.is_known() ? content.validator : std::to_string(std::random_device()());
  return sha256(content.url + "\n" + std::to_string(content.size) + "\n" + validator + "\n" +
                boot_id());
}

}  // namespace

PartFile::PartFile(const fs::path& file) : file_(file), folder_(file.string() + ".part") {}

void PartFile::open(const std::string& key, int flags) {
  part_ = folder_ / key;
  fd_ = Descriptor(::open(part_.c_str(), O_WRONLY | O_CLOEXEC | flags, 0666));
  if (fd_ < 0) fail("write", part_);
}

void PartFile::open() {
  std::error_code none;
  const fs::directory_iterator left(folder_, none);
  if (left == fs::directory_iterator()) return;
  open(left->path().filename(), 0);
  const int64_t size = ::lseek(fd_, 0, SEEK_END);
  if (size < 0) fail("read", part_);
  size_ = std::max<int64_t>(0, size - 1);
}

void PartFile::expect(const Content& content) {
  whole_ = content.size;
  sha256_ = content.sha256;
}

bool PartFile::goes_on(const Content& content) {
  expect(content);
  return part_.filename() == key_of(content);
}

void PartFile::restart(const Content& content) {
  discard();
  fs::create_directory(folder_);
  open(key_of(content), O_CREAT | O_EXCL);
  expect(content);
}

void PartFile::append(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t count = ::pwrite(fd_, bytes.data(), bytes.size(), size_);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail("write", part_);
    bytes.remove_prefix(static_cast<size_t>(count));
    size_ += count;
  }
}

void PartFile::publish() {
  if (::fsync(fd_) != 0) fail("write", part_);
  fd_.close();
  if (::rename(part_.c_str(), file_.c_str()) != 0) fail("write", file_);
  sync_path(file_.parent_path());
  fs::remove_all(folder_);
}

void PartFile::discard() {
  fd_.close();
  fs::remove_all(folder_);
  part_.clear();
  size_ = 0;
}

}  // namespace autoresearch
