#include "common/files.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

#include "common/error.h"
#include "common/progress.h"
#include "tests/support.h"

namespace autoresearch {
namespace {

// The errno with which a call is refused, as odd file systems do; 0: it isn't.
struct Refusals {
  int fsync = 0, flock = 0, fchmod = 0;
} refused;

int refuse(int reason) {
  errno = reason;
  return -1;
}

}  // namespace
}  // namespace autoresearch

// In place of libc's.
extern "C" int fsync(int fd) {
  using autoresearch::refused;
  return refused.fsync ? autoresearch::refuse(refused.fsync)
                       : static_cast<int>(syscall(SYS_fsync, fd));
}
extern "C" int flock(int fd, int operation) noexcept {
  using autoresearch::refused;
  return refused.flock ? autoresearch::refuse(refused.flock)
                       : static_cast<int>(syscall(SYS_flock, fd, operation));
}
extern "C" int fchmod(int fd, mode_t mode) noexcept {
  using autoresearch::refused;
  return refused.fchmod ? autoresearch::refuse(refused.fchmod)
                        : static_cast<int>(syscall(SYS_fchmod, fd, mode));
}

namespace autoresearch {
namespace {

class FilesTest : public FolderTest {
 protected:
  FilesTest() { refused = {}; }
  size_t entries() const {
    return static_cast<size_t>(std::distance(fs::directory_iterator(dir_), {}));
  }
};

TEST_F(FilesTest, WrittenBytesAreReadBack) {
  const std::string bytes("a\0b\r\n\xff", 6);
  write_file(dir_ / "f", bytes);
  EXPECT_EQ(read_file(dir_ / "f"), bytes);
  write_file(dir_ / "f", "");
  EXPECT_EQ(read_file(dir_ / "f"), "");
  EXPECT_EQ(entries(), 1u);  // no temporary file is left
}

TEST_F(FilesTest, FilesWithoutStatedSizeAreReadWhole) {
  EXPECT_NE(read_file("/proc/self/status").find("VmRSS"), std::string::npos);
}

TEST_F(FilesTest, AFailedWriteLeavesTheOldFileAndNothingElse) {
  write_file(dir_ / "f", "old");
  fs::create_directory(dir_ / "folder");
  write_file(dir_ / "folder" / "inside", "x");
  EXPECT_NE(error_of([&] { write_file(dir_ / "folder", "new"); }).find("folder"),
            std::string::npos);
  EXPECT_NE(error_of([&] { write_file(dir_ / "none" / "f", "new"); }).find("No such file"),
            std::string::npos);
  EXPECT_EQ(read_file(dir_ / "f"), "old");
  EXPECT_EQ(entries(), 2u);
}

TEST_F(FilesTest, ALinkIsReplacedNotFollowed) {
  write_file(dir_ / "target", "old");
  fs::create_symlink("target", dir_ / "link");
  write_file(dir_ / "link", "new");
  EXPECT_EQ(read_file(dir_ / "target"), "old");
  EXPECT_FALSE(fs::is_symlink(dir_ / "link"));
}

TEST_F(FilesTest, ErrorsNameThePathAndTheReason) {
  EXPECT_EQ(error_of([&] { read_file("/no/such"); }),
            "can't open /no/such: No such file or directory");
  EXPECT_EQ(error_of([&] { read_file(dir_); }), "can't read " + dir_.string() + ": Is a directory");
  EXPECT_EQ(error_of([&] { sync_path("/no/such"); }),
            "can't open /no/such: No such file or directory");
}

TEST_F(FilesTest, AFailedFsyncIsAnErrorOfItsOwn) {
  EXPECT_THROW(sync_path("/proc/version"), DurabilityError);  // which can't be synced
}

TEST_F(FilesTest, AFolderWithoutFsyncIsNoBrokenDisk) {
  for (const int reason : {EINVAL, ENOSYS, ENOTSUP, EPERM, ENOTTY}) {
    refused.fsync = reason;
    EXPECT_EQ(error_of([&] { sync_path(dir_); }), "");
    EXPECT_THROW(write_file(dir_ / "f", "x"), DurabilityError);  // of a file it is
  }
  for (const int reason : {EIO, ENOSPC}) {
    refused.fsync = reason;
    EXPECT_THROW(sync_path(dir_), DurabilityError);
  }
}

TEST_F(FilesTest, Sha256IsThatOfTheStandard) {
  EXPECT_EQ(sha256("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha256(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  const std::string big(3'000'001, 'x');  // more than one buffer of reading
  write_file(dir_ / "big", big);
  EXPECT_EQ(sha256_of_file(dir_ / "big"), sha256(big));
}

TEST_F(FilesTest, ACopyHasTheBytesAndTheMode) {
  write_file(dir_ / "program", std::string(3'000'000, 'p'));
  chmod((dir_ / "program").c_str(), 0750);
  write_file(dir_ / "copy", "longer than nothing, to be replaced");
  copy_file_cheaply(dir_ / "program", dir_ / "copy");
  EXPECT_EQ(read_file(dir_ / "copy"), read_file(dir_ / "program"));
  struct stat status;
  ASSERT_EQ(stat((dir_ / "copy").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0750u);
  EXPECT_NE(error_of([&] { copy_file_cheaply(dir_, dir_ / "x"); }), "");
}

TEST_F(FilesTest, AFileSystemWithoutModesCopiesTheBytes) {
  write_file(dir_ / "program", "bytes");
  refused.fchmod = EPERM;
  copy_file_cheaply(dir_ / "program", dir_ / "copy");
  EXPECT_EQ(read_file(dir_ / "copy"), "bytes");
}

TEST_F(FilesTest, WithoutLocksAFileStandsForOne) {
  for (const int reason : {ENOSYS, ENOLCK, ENOTSUP}) {
    refused.flock = reason;
    const fs::path path = dir_ / "lock", holder = dir_ / "lock.holder";
    {
      const FileLock lock(path);
      const std::string message = error_of([&] { FileLock second(path); });
      EXPECT_NE(message.find("in use by process " + std::to_string(getpid())), std::string::npos);
      EXPECT_NE(message.find("remove " + holder.string()), std::string::npos) << message;
    }
    EXPECT_FALSE(fs::exists(holder));
    const pid_t child = fork();
    if (child == 0) {
      new FileLock(path);  // whose file stays behind
      _exit(0);
    }
    waitpid(child, nullptr, 0);
    EXPECT_TRUE(fs::exists(holder));
    EXPECT_EQ(error_of([&] { FileLock lock(path); }), "");
    write_file(holder, "1 on another-machine");
    EXPECT_NE(error_of([&] { FileLock lock(path); }).find("1 on another-machine"),
              std::string::npos);
    fs::remove(holder);
  }
}

TEST_F(FilesTest, ALockIsHeldByOneAndNamesItsHolder) {
  const fs::path path = dir_ / "lock";
  {
    const FileLock lock(path);
    const std::string message = error_of([&] { FileLock second(path); });
    EXPECT_NE(message.find("in use by process " + std::to_string(getpid())), std::string::npos)
        << message;
  }
  EXPECT_EQ(error_of([&] { FileLock again(path); }), "");
}

TEST_F(FilesTest, WhoHoldsALockIsSeenWithoutTakingIt) {
  for (const int refusal : {0, ENOLCK}) {  // the second: a file system without locks
    refused.flock = refusal;
    const fs::path path = dir_ / ("lock" + std::to_string(refusal));
    EXPECT_EQ(holder_of(path), std::nullopt);
    EXPECT_FALSE(fs::exists(path)) << "a look has made the file";
    {
      const FileLock lock(path);
      const std::string holder = holder_of(path).value_or("");
      EXPECT_EQ(holder.find(std::to_string(getpid())), 0u) << holder;
      EXPECT_EQ(holder_of(path), holder);
    }
    EXPECT_EQ(holder_of(path), std::nullopt);
    EXPECT_EQ(error_of([&] { FileLock again(path); }), "") << "a look has left a lock";
  }
}

TEST_F(FilesTest, ALockIsNotPassedToStartedPrograms) {
  const fs::path path = dir_ / "lock";
  auto lock = std::make_unique<FileLock>(path);
  const pid_t child = fork();
  if (child == 0) {
    execlp("sleep", "sleep", "20", nullptr);
    _exit(127);
  }
  // Until the child has become another program it shares the lock.
  while (fs::read_symlink("/proc/" + std::to_string(child) + "/exe").filename() != "sleep" &&
         fs::read_symlink("/proc/" + std::to_string(child) + "/exe").filename() != "coreutils") {
    usleep(1000);
  }
  lock.reset();
  EXPECT_EQ(error_of([&] { FileLock again(path); }), "");
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
}

TEST(DataDir, FollowsTheEnvironmentInOrder) {
  setenv("HOME", "/home/someone", 1);
  setenv("XDG_CACHE_HOME", "/cache", 1);
  setenv("AUTORESEARCH_DATA", "/data", 1);
  EXPECT_EQ(data_dir(), "/data");
  setenv("AUTORESEARCH_DATA", "", 1);
  EXPECT_EQ(data_dir(), "/cache/autoresearch");
  setenv("XDG_CACHE_HOME", "relative", 1);
  EXPECT_EQ(data_dir(), "/home/someone/.cache/autoresearch");
  setenv("AUTORESEARCH_DATA", "here", 1);
  EXPECT_EQ(data_dir(), fs::current_path() / "here");
}

TEST(Progress, DurationsReadAsAPersonSaysThem) {
  EXPECT_EQ(human_seconds(3.2), "3 s");
  EXPECT_EQ(human_seconds(59.7), "1 min 00 s");
  EXPECT_EQ(human_seconds(245), "4 min 05 s");
  EXPECT_EQ(human_seconds(7800), "2 h 10 min");
  EXPECT_EQ(human_seconds(-1), "0 s");
  EXPECT_EQ(human_seconds(1.0 / 0.0), "?");
}

TEST(Progress, PrintsNothingWhereStderrIsNoTerminal) {
  testing::internal::CaptureStderr();  // a file
  {
    Progress progress("reading", 10, "MB");
    progress.update(5);
    progress.update(10);
  }
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

}  // namespace
}  // namespace autoresearch
