#include "prepare/workplace.h"

#include <fcntl.h>
#include <stdio.h>  // renameat2
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include "common/error.h"

namespace autoresearch {

TaskLock::TaskLock(const fs::path& task)
    : task_(task), file_(task.parent_path() / ("." + task.filename().string() + ".lock")) {
  const fs::path folder = task.parent_path();
  std::error_code error;
  fs::create_directories(folder, error);
  if (!error && access(folder.c_str(), R_OK | W_OK | X_OK) != 0) {
    error = {errno, std::generic_category()};
  }
  check(!error, "can't use " + folder.string() + " as data folder (" + error.message() +
                    "); give --data or AUTORESEARCH_DATA another");
  lock_.emplace(file_);
}

TaskLock::~TaskLock() {
  std::error_code ignored;
  if (!fs::exists(task_, ignored)) fs::remove(file_, ignored);
}

Workplace::Workplace(const fs::path& task) : task_(task) {
  const std::string prefix = "." + task.filename().string() + ".partial-";
  path_ = task.parent_path() / (prefix + std::to_string(getpid()));
  std::vector<fs::path> stale;
  for (const auto& entry : fs::directory_iterator(task.parent_path())) {
    if (entry.path().filename().string().starts_with(prefix)) stale.push_back(entry.path());
  }
  for (const fs::path& path : stale) fs::remove_all(path);
  fs::create_directories(path_ / "train");
  fs::create_directories(path_ / "heldout");
}

Workplace::~Workplace() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

// In two steps, for file systems that can't exchange folders (shares, FUSE, FAT). What came with a
// container's image can't be renamed at all there, so it goes first.
bool Workplace::publish_by_renames() {
  const fs::path aside = path_.string() + "-old";
  const bool replaces = fs::exists(task_);
  if (replaces && ::rename(task_.c_str(), aside.c_str()) != 0) {
    if (errno != EXDEV) return false;
    fs::remove_all(task_);
  }
  const bool renamed = ::rename(path_.c_str(), task_.c_str()) == 0;
  const int reason = errno;
  if (renamed) {
    fs::remove_all(aside);
  } else if (replaces) {
    ::rename(aside.c_str(), task_.c_str());
  }
  errno = reason;
  return renamed;
}

void Workplace::publish() {
  for (const char* folder : {"train", "heldout", ""}) sync_path(path_ / folder);
  const unsigned flags = fs::exists(task_) ? RENAME_EXCHANGE : RENAME_NOREPLACE;
  const bool done = renameat2(AT_FDCWD, path_.c_str(), AT_FDCWD, task_.c_str(), flags) == 0 ||
                    ((errno == EINVAL || errno == ENOSYS || errno == ENOTSUP || errno == EPERM ||
                      errno == EXDEV) &&
                     publish_by_renames());
  check(done, "can't put the task into " + task_.string() + ": " + std::strerror(errno) +
                  "; give --data or AUTORESEARCH_DATA another folder");
  sync_path(task_.parent_path());
}

}  // namespace autoresearch
