#include "common/folder.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "common/log.h"
#include "tests/support.h"

namespace autoresearch {
namespace {

using RemoveWhatever = FolderTest;
using TakeFile = FolderTest;

// Folders in each other, from `folder` on; too deep for any path.
void nest(const fs::path& folder, int depth, const std::string& name) {
  int at = open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  for (int i = 0; i < depth; ++i) {
    ASSERT_EQ(mkdirat(at, name.c_str(), 0700), 0) << i;
    const int deeper = openat(at, name.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    close(at);
    at = deeper;
  }
  const int file = openat(at, "weights", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  ASSERT_GE(file, 0);
  close(file);
  close(at);
}

TEST_F(RemoveWhatever, AFolderThatIsDeeperThanAnyPathIsGone) {
  fs::create_directory(dir_ / "attempt");
  nest(dir_ / "attempt", 3000, std::string(200, 'a'));
  EXPECT_TRUE(remove_whatever(dir_ / "attempt"));
  EXPECT_TRUE(fs::is_empty(dir_));
}

TEST_F(RemoveWhatever, ClosedFoldersAndAllKindsOfFilesAreGone) {
  file("attempt/closed/deep/file", "x");
  ASSERT_EQ(mkfifo((dir_ / "attempt/pipe").c_str(), 0600), 0);
  fs::create_symlink("nowhere", dir_ / "attempt/link");
  for (const char* name : {"attempt/closed/deep", "attempt/closed", "attempt"})
    fs::permissions(dir_ / name, fs::perms::none);
  EXPECT_TRUE(remove_whatever(dir_ / "attempt"));
  EXPECT_TRUE(fs::is_empty(dir_));
  EXPECT_TRUE(remove_whatever(dir_ / "attempt")) << "what is not there is gone";
}

TEST_F(RemoveWhatever, NoLinkIsFollowed) {
  file("precious/file", "kept");
  fs::create_directory(dir_ / "attempt");
  fs::create_directory_symlink(dir_ / "precious", dir_ / "attempt/link");
  fs::create_directory_symlink(dir_ / "precious", dir_ / "itself");
  EXPECT_TRUE(remove_whatever(dir_ / "attempt"));
  EXPECT_TRUE(remove_whatever(dir_ / "itself"));
  EXPECT_EQ(read_file(dir_ / "precious/file"), "kept");
}

TEST_F(RemoveWhatever, WhatStaysIsToldWithWhatToType) {
  set_up_log("test");
  testing::internal::CaptureStderr();
  remove_or_warn(file("gone", "x"));
  remove_or_warn("/proc/self/status");
  const std::string told = testing::internal::GetCapturedStderr();
  EXPECT_HAS(told, "rm -rf '/proc/self/status'");
  EXPECT_EQ(std::count(told.begin(), told.end(), '\n'), 1) << told;
}

TEST_F(RemoveWhatever, AFreshFolderIsEmptyWhateverWasThere) {
  file("attempt/notes", "x");
  EXPECT_TRUE(fs::is_empty(fresh_folder(dir_ / "attempt")));
  EXPECT_TRUE(fs::is_empty(fresh_folder(dir_ / "another")));
}

TEST_F(TakeFile, APlainFileIsMovedWhateverItsPermissions) {
  fs::permissions(file("attempt/model", "weights"), fs::perms::none);
  fs::permissions(dir_ / "attempt", fs::perms::none);
  EXPECT_EQ(take_file(dir_ / "attempt", "model", 7, dir_ / "taken"), 7);
  EXPECT_EQ(read_file(dir_ / "taken"), "weights");
  EXPECT_FALSE(fs::exists(dir_ / "attempt/model"));
}

TEST_F(TakeFile, TooLargeAFileStaysAndItsSizeIsTold) {
  file("attempt/model", "weights");
  EXPECT_EQ(take_file(dir_ / "attempt", "model", 6, dir_ / "taken"), 7);
  EXPECT_FALSE(fs::exists(dir_ / "taken"));
}

TEST_F(TakeFile, WhatIsNoPlainFileIsNotTaken) {
  file("secret", "key");
  fs::create_directories(dir_ / "attempt/folder");
  fs::create_symlink("../secret", dir_ / "attempt/link");
  ASSERT_EQ(mkfifo((dir_ / "attempt/pipe").c_str(), 0600), 0);
  for (const char* name : {"folder", "link", "pipe", "nothing"})
    EXPECT_EQ(take_file(dir_ / "attempt", name, 100, dir_ / "taken"), std::nullopt) << name;
  EXPECT_FALSE(fs::exists(dir_ / "taken"));
}

}  // namespace
}  // namespace autoresearch
