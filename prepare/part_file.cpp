#include "prepare/part_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>

#include "common/error.h"

namespace autoresearch {
namespace {

using nlohmann::json;

constexpr char kPart[] = ".part", kNote[] = ".part.json";

// Called right after a failed system call.
[[noreturn]] void fail(const std::string& what, const fs::path& path) {
  const int reason = errno;
  const bool full = reason == ENOSPC || reason == EDQUOT;
  throw Error("can't " + what + " " + path.string() + ": " + std::strerror(reason) +
              (full ? "; free some space and run the same command again" : ""));
}

// Changes with every start of the machine; empty where the kernel does not tell.
std::string boot_id() {
  try {
    return read_file("/proc/sys/kernel/random/boot_id");
  } catch (const Error&) {
    return "";
  }
}

// The note beside a .part; one that is missing, torn or strange vouches for nothing.
Content read_note(const fs::path& note) try {
  const json fields = json::parse(read_file(note));
  Content content{fields.at("url"), fields.at("size"), fields.at("validator"), fields.at("sha256")};
  const bool joinable =
      !content.sha256.empty() || (!content.validator.empty() && fields.at("boot_id") == boot_id());
  return joinable ? content : Content{};
} catch (const std::exception&) {
  return {};
}

void write_note(const fs::path& note, const Content& content) {
  const json fields = {{"url", content.url},
                       {"size", content.size},
                       {"validator", content.validator},
                       {"sha256", content.sha256},
                       {"boot_id", boot_id()}};
  write_file(note, fields.dump(2, ' ', false, json::error_handler_t::replace) + "\n");
}

}  // namespace

PartFile::PartFile(const fs::path& file)
    : file_(file), part_(file.string() + kPart), note_(file.string() + kNote) {}

void PartFile::open(const std::string& url) {
  fd_ = Descriptor(::open(part_.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0666));
  if (fd_ < 0) fail("write", part_);
  size_ = ::lseek(fd_, 0, SEEK_END);
  if (size_ < 0) fail("read", part_);
  content_ = read_note(note_);
  if (content_.url != url || size_ > content_.size) {
    size_ = 0;
    content_ = {};
  }
}

void PartFile::restart(const Content& content) {
  const bool empty = ::lseek(fd_, 0, SEEK_END) == 0;
  if (!empty && (::ftruncate(fd_, 0) != 0 || ::fsync(fd_) != 0)) fail("write", part_);
  write_note(note_, content);
  content_ = content;
  size_ = 0;
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
  close();
  if (::rename(part_.c_str(), file_.c_str()) != 0) fail("write", file_);
  sync_path(file_.parent_path());
  ::unlink(note_.c_str());
}

void PartFile::discard() {
  close();
  // The note first: a .part that nothing vouches for is never used.
  for (const fs::path& path : {note_, part_}) {
    if (::unlink(path.c_str()) != 0 && errno != ENOENT) fail("remove", path);
  }
  size_ = 0;
  content_ = {};
}

void remove_torn_notes(const fs::path& folder) {
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    // The names that write_file gives to its temporary files.
    if (name.starts_with(".") && name.find(std::string(kNote) + ".tmp-") != std::string::npos) {
      fs::remove(entry.path());
    }
  }
}

}  // namespace autoresearch
