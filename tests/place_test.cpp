#include "agent/loop/place.h"

#include <sys/sysmacros.h>

#include <limits>

#include "common/processor.h"
#include "common/run_folder.h"
#include "tests/support.h"

namespace autoresearch {
namespace {

using PlaceTest = FolderTest;

TEST_F(PlaceTest, AFolderIsTriedForRealAlsoBeforeItIsThere) {
  EXPECT_EQ(writing_problem(dir_ / "not" / "there", ""), std::nullopt);
  EXPECT_TRUE(fs::is_empty(dir_)) << "the trial left something";
  const fs::path plain = file("plain", "");
  for (const fs::path& folder : {fs::path("/proc/1/nowhere"), plain, plain / "runs"}) {
    const auto problem = writing_problem(folder, "give --data another folder");
    ASSERT_TRUE(problem) << folder;
    EXPECT_EQ(problem->find("can't write to " + folder.string() + " ("), 0u) << *problem;
    EXPECT_TRUE(problem->ends_with("; give --data another folder"));
  }
}

TEST_F(PlaceTest, RoomIsThatOfTheDiskThatAFolderWillBeOn) {
  const Room room = room_of(dir_ / "not" / "there");
  EXPECT_GT(room.bytes, 0);
  EXPECT_GT(room.files, 0);
}

TEST(Room, TooLittleIsToldWithBothFiguresAndTheFix) {
  const Room need = room_needed(/*model_bytes=*/100'000'000, /*gpu=*/true);
  EXPECT_GE(need.bytes, 1'000'000'000);
  const int64_t no_limit = std::numeric_limits<int64_t>::max();
  EXPECT_EQ(room_problem("/data", need, {need.bytes, no_limit}), std::nullopt);
  EXPECT_EQ(room_problem("/data", {1'500'000'000, 0}, {60'000'000, no_limit}),
            "a night needs about 1.5 GB in /data, where 60.0 MB are free; free some space, or give "
            "--data another folder");
  EXPECT_NE(room_problem("/data", need, {need.bytes, 10})->find("room for 10;"), std::string::npos);
}

TEST(Room, AModelThatIsNotKnownYetIsTakenForTheDevicesLargest) {
  EXPECT_GT(room_needed(0, true).bytes, room_needed(0, false).bytes);
  EXPECT_EQ(room_needed(0, true).bytes, room_needed(200'000'000, false).bytes);
}

TEST(Processor, WithoutAvx2IsToldBeforeLibtorchDies) {
  const std::string start = "processor\t: 0\nmodel name\t: Some CPU\nflags\t\t: fpu sse4_2 ";
  EXPECT_EQ(processor_problem(start + "fma avx avx2\nbugs\t\t:\n"), std::nullopt);
  EXPECT_EQ(processor_problem("processor\t: 0\nFeatures\t: fp asimd\n"), std::nullopt);
  EXPECT_HAS(processor_problem(start + "avx fma\n").value_or(""), "has no avx2,");
  EXPECT_HAS(processor_problem(start + "avx\nbugs: avx2 fma\n").value_or(""), "no avx2 and no fma");
}

TEST_F(PlaceTest, LibrariesThatComeBeforeOursAreNamed) {
  const std::string folder = dir_.string(), missing = folder + "/missing";
  EXPECT_EQ(library_problem("", {}, {}), std::nullopt);
  write_file(dir_ / "libother.so.1", "");
  EXPECT_EQ(library_problem(missing + "::" + folder, {}, {}), std::nullopt);
  write_file(dir_ / "libcrypto.so.3", "");
  EXPECT_HAS(library_problem(missing + ":" + folder, {}, {}).value_or(""),
             "/libcrypto.so.3 before");
  EXPECT_EQ(library_problem(folder + "/", {missing, dir_}, {}), std::nullopt)
      << "the loader takes the same without it";
  write_file(dir_ / "libstdc++.so.6", "");
  EXPECT_HAS(library_problem(folder, {}, {}).value_or(""), "libcrypto.so.3 and 1 more before");
}

TEST_F(PlaceTest, LibrariesThatAreTheSystemsOrComeTooLateAreNoProblem) {
  file("conda/libgomp.so.1", "");
  file("conda/libtorch_cpu.so", "another");
  const std::string conda = dir_ / "conda";
  EXPECT_HAS(library_problem(conda, {}, {}).value_or(""), "/libgomp.so.1 before");
  file("torch/lib/libgomp.so.1", "");
  EXPECT_EQ(library_problem(conda, {}, {dir_ / "torch/lib"}), std::nullopt) << "rpath comes first";
  file("system/libz.so.1", "");
  fs::create_directories(dir_ / "links");
  fs::create_symlink(dir_ / "system/libz.so.1", dir_ / "links/libz.so.1");
  EXPECT_EQ(library_problem(dir_ / "links", {dir_ / "system"}, {}), std::nullopt);
}

TEST(FileSystem, HasTheNameThatTheKernelGivesIt) {
  const std::string mounts =
      "36 25 8:1 / / rw,noatime shared:1 - ext4 /dev/sda1 rw\n"
      "40 36 8:17 / /mnt/my\\040stick rw - vfat /dev/sdb1 rw\n41 36 0:8 / /x rw\n";
  EXPECT_EQ(file_system_type(mounts, makedev(8, 17)), "vfat");
  EXPECT_EQ(file_system_type(mounts, makedev(0, 8)), "");
  EXPECT_EQ(file_system_type(mounts, makedev(9, 9)), "");
}

TEST_F(PlaceTest, ACheckoutThatCanHaveNoLinksIsToldBeforeTheNight) {
  EXPECT_EQ(link_problem(dir_, dir_ / "runs/t"), std::nullopt);
  EXPECT_TRUE(fs::is_empty(dir_)) << "the trial left something";
  const std::string problem = link_problem("/proc", "/data/runs/t").value_or("");
  EXPECT_HAS(problem, "its file system is proc)");
  EXPECT_HAS(problem, "the run's are in /data/runs/t");
}

TEST(OtherRuns, AreThoseThatMeasureOnThisMachineNow) {
  const RunSummary alive{.tag = "a", .machine = "here", .holder = "4711"};
  RunSummary stopped = alive, elsewhere = alive, paused = alive, starting = alive;
  stopped.holder = "";
  elsewhere.machine = "there";
  paused.paused = true;
  starting.tag = "b", starting.machine = "";
  EXPECT_TRUE(other_runs({stopped, elsewhere, paused}, "own", "here").empty());
  EXPECT_TRUE(other_runs({alive}, "a", "here").empty()) << "a run is no other than itself";
  const auto warnings = other_runs({alive, starting}, "own", "here");
  ASSERT_EQ(warnings.size(), 2u);
  EXPECT_EQ(warnings[0],
            "run a is running on this machine (process 4711), and measurements of both would "
            "suffer; pause it: build/agent pause --tag a");
}

TEST(RepositoryNote, SaysInPlainWordsWhereTheCommitsGo) {
  EXPECT_EQ(repository_note("fatal: not a git repository (or any of the parent directories): .git",
                            "/checkout", "/run/git/repository.git"),
            "the run's commits go to /run/git/repository.git, since /checkout is in no git "
            "repository; to have them there, type git init first");
  EXPECT_EQ(repository_note("/x/.git can't be written", "/x", "/run/r.git"),
            "the run's commits go to /run/r.git: /x/.git can't be written");
}

TEST_F(PlaceTest, TheFolderOfARunThatCantBeginIsGoneUnlessAnotherAgentIsInIt) {
  const fs::path run = dir_ / "runs/t";
  { const FreshFolder fresh(run); }
  EXPECT_FALSE(fs::exists(run));
  {
    const FreshFolder fresh(run);
    FreshFolder(run).keep();  // that of another agent, which was later
    const FileLock others(RunFolder{run}.lock());
  }
  EXPECT_FALSE(fs::exists(run)) << "the other one has ended";
  std::optional<FileLock> others;
  {
    const FreshFolder fresh(run);
    others.emplace(RunFolder{run}.lock());
  }
  EXPECT_TRUE(fs::exists(run));
}

TEST_F(PlaceTest, APauseIsAFileThatOutlivesTheAgent) {
  EXPECT_FALSE(is_paused(dir_));
  set_paused(dir_, false);
  for (int i = 0; i < 2; ++i) set_paused(dir_, true);
  EXPECT_TRUE(is_paused(dir_));
  set_paused(dir_, false);
  EXPECT_FALSE(is_paused(dir_));
  EXPECT_TRUE(fs::is_empty(dir_));
  EXPECT_THROW(set_paused(dir_ / "gone", true), Error);
}

}  // namespace
}  // namespace autoresearch
