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

void Workplace::publish() {
  for (const char* folder : {"train", "heldout", ""}) sync_path(path_ / folder);
  const unsigned flags = fs::exists(task_) ? RENAME_EXCHANGE : RENAME_NOREPLACE;
  int failed = renameat2(AT_FDCWD, path_.c_str(), AT_FDCWD, task_.c_str(), flags);
  if (failed && errno == EINVAL) {  // a file system that knows neither, such as some network ones
    if (flags == RENAME_EXCHANGE) fs::remove_all(task_);
    failed = ::rename(path_.c_str(), task_.c_str());
  }
  check(!failed, "can't put the task into " + task_.string() + ": " + std::strerror(errno));
  sync_path(task_.parent_path());
}

}  // namespace autoresearch
