#include "prepare/workplace.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

#include "tests/support.h"

namespace {
int refusal = 0;  // errno of renameat2; 0: none
}

// In place of libc's: a file system that can't exchange.
extern "C" int renameat2(int from_folder, const char* from, int to_folder, const char* to,
                         unsigned flags) noexcept {
  if (refusal == 0) {
    return static_cast<int>(syscall(SYS_renameat2, from_folder, from, to_folder, to, flags));
  }
  errno = refusal;
  return -1;
}

namespace autoresearch {
namespace {

using WorkplaceTest = FolderTest;

TEST_F(WorkplaceTest, ATaskTakesItsPlaceAndAnOlderOneGoesOnAnyFileSystem) {
  for (const int reason : {0, EINVAL, ENOSYS, ENOTSUP, EPERM, EXDEV}) {
    refusal = reason;
    const fs::path task = dir_ / std::to_string(reason) / "task";
    fs::create_directories(task.parent_path());
    for (const char* content : {"first", "second"}) {
      Workplace workplace(task);
      write_file(workplace.path() / "task.json", content);
      workplace.publish();
      EXPECT_EQ(read_file(task / "task.json"), content);
    }
    EXPECT_EQ(std::distance(fs::directory_iterator(task.parent_path()), {}), 1) << reason;
  }
}

TEST_F(WorkplaceTest, WhatCannotTakeItsPlaceLeavesTheOlderTask) {
  refusal = EPERM;
  const fs::path task = dir_ / "task";
  file("task/task.json", "old");
  Workplace workplace(task);
  fs::rename(workplace.path(), dir_ / "gone");
  fs::create_directories(dir_ / "gone");
  EXPECT_NE(error_of([&] { workplace.publish(); }), "");
  EXPECT_EQ(read_file(task / "task.json"), "old");
}

}  // namespace
}  // namespace autoresearch
