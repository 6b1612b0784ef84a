// Where a task is made: beside its final place, under a hidden name, until it is whole.
#pragma once

#include <optional>
#include <string>

#include "common/files.h"

namespace autoresearch {

// The lock on a task that is being made, in the data folder: taken before any work, so that a
// folder that can't be used is noticed first. A task that isn't there in the end leaves no lock.
class TaskLock {
 public:
  explicit TaskLock(const fs::path& task);
  ~TaskLock();
  TaskLock(const TaskLock&) = delete;
  TaskLock& operator=(const TaskLock&) = delete;

 private:
  fs::path task_, file_;
  std::optional<FileLock> lock_;
};

// The folder that a task grows in; gone when the work fails. The caller holds the task's lock, so
// whatever an earlier process left there is stale, and is removed.
class Workplace {
 public:
  explicit Workplace(const fs::path& task);
  ~Workplace();
  Workplace(const Workplace&) = delete;
  Workplace& operator=(const Workplace&) = delete;

  const fs::path& path() const { return path_; }  // with train/ and heldout/ in it

  // Puts the task in its place. An older one makes way in the same moment if the file system can
  // exchange folders; if it can't, there is none for that moment.
  void publish();

 private:
  bool publish_by_renames();  // false, with the reason in errno: nothing has changed

  fs::path task_, path_;
};

}  // namespace autoresearch
