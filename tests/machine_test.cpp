#include "agent/lab/machine.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <vector>

#include "common/limits.h"

namespace autoresearch {
namespace {

TEST(Machine, ItsNameIsTheProcessorsWithoutTheKeyBeforeIt) {
  const std::string cpu = machine_name().substr(0, machine_name().find("; "));
  EXPECT_NE(cpu, "");
  EXPECT_EQ(cpu.find(':'), std::string::npos) << cpu;
  EXPECT_NE(read_file("/proc/cpuinfo").find(": " + cpu + "\n"), std::string::npos) << cpu;
}

// A system's root folder of its own, with the control groups that a test needs.
class LimitsTest : public testing::Test {
 protected:
  LimitsTest() {
    char pattern[] = "/tmp/limits_test.XXXXXX";
    root_ = mkdtemp(pattern);
    put("proc/meminfo", "MemTotal: 99 kB\nMemAvailable: 2097152 kB\n");
    unsetenv("OMP_NUM_THREADS");
  }
  ~LimitsTest() override { fs::remove_all(root_); }

  void put(const std::string& file, const std::string& text) const {
    fs::create_directories((root_ / file).parent_path());
    std::ofstream(root_ / file) << text << "\n";
  }
  void version_two(const std::string& group) const {
    put("sys/fs/cgroup/cgroup.controllers", "cpu memory pids");
    put("proc/self/cgroup", "0::" + group);
  }

  fs::path root_;
  const int64_t physical_ = int64_t{sysconf(_SC_PHYS_PAGES)} * sysconf(_SC_PAGE_SIZE);
  const double cpus_ = static_cast<double>(usable_cpus().size());
};

TEST_F(LimitsTest, WithoutControlGroupsTheMachineIsTheLimit) {
  EXPECT_EQ(memory_limit(root_).bytes, physical_);
  EXPECT_EQ(memory_limit(root_).source, "the machine's own");
  EXPECT_EQ(available_memory(root_), int64_t{2} << 30);
  EXPECT_EQ(usable_cores(root_), cpus_);
}

TEST_F(LimitsTest, TheTightestOfAGroupAndItsParentsCounts) {
  version_two("/outer/inner");
  put("sys/fs/cgroup/outer/memory.max", "700000000");
  put("sys/fs/cgroup/outer/memory.current", "100000000");
  put("sys/fs/cgroup/outer/inner/memory.max", "max");
  put("sys/fs/cgroup/outer/inner/memory.high", "800000000");
  put("sys/fs/cgroup/outer/inner/memory.current", "400000000");
  put("sys/fs/cgroup/outer/cpu.max", "50000 100000");
  put("sys/fs/cgroup/outer/inner/cpu.max", "max 100000");
  EXPECT_EQ(memory_limit(root_).bytes, 700000000);
  EXPECT_EQ(memory_limit(root_).source, root_ / "sys/fs/cgroup/outer/memory.max");
  EXPECT_EQ(usable_memory(root_), 630000000) << "some is left to the agent";
  EXPECT_EQ(available_memory(root_), 400000000);
  EXPECT_EQ(usable_cores(root_), 0.5);
  EXPECT_EQ(core_limit(root_).source, root_ / "sys/fs/cgroup/outer/cpu.max");
  EXPECT_EQ(training_threads(root_), 1);
}

TEST_F(LimitsTest, VersionOneHasAPlaceForEachController) {
  put("proc/self/cgroup", "5:memory:/a/b\n3:cpu,cpuacct:/a\n1:name=systemd:/a/b\n0::/");
  put("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "600000000");
  put("sys/fs/cgroup/memory/a/memory.usage_in_bytes", "500000000");
  put("sys/fs/cgroup/memory/a/b/memory.limit_in_bytes", "9223372036854771712");
  put("sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us", "25000");
  put("sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us", "100000");
  put("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1");
  put("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000");
  EXPECT_EQ(memory_limit(root_).bytes, 600000000);
  EXPECT_EQ(available_memory(root_), 100000000);
  EXPECT_EQ(usable_cores(root_), 0.25);
  EXPECT_EQ(core_limit(root_).source, root_ / "sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us");
}

TEST_F(LimitsTest, AContainerThatCannotSeeItsOwnGroupHasItsTop) {
  version_two("/docker/0123abcd");
  put("sys/fs/cgroup/memory.max", "500000000");
  EXPECT_EQ(memory_limit(root_).bytes, 500000000);
  version_two("/../../elsewhere");
  EXPECT_EQ(memory_limit(root_).bytes, 500000000);
}

TEST_F(LimitsTest, TrainingLeavesACoreToOthersWhereThereAreSeveral) {
  EXPECT_EQ(training_threads(root_), std::max(1, static_cast<int>(cpus_) - 1));
  version_two("/");
  put("sys/fs/cgroup/cpu.max", "150000 100000");
  EXPECT_EQ(training_threads(root_), 1);
  EXPECT_EQ(usable_threads(root_), std::min(2, static_cast<int>(cpus_))) << "of 1.5 cores";
  setenv("OMP_NUM_THREADS", "7", 1);
  EXPECT_EQ(training_threads(root_), 7) << "the user's word";
  unsetenv("OMP_NUM_THREADS");
}

TEST_F(LimitsTest, AffinityIsSeen) {
  cpu_set_t before, one;
  ASSERT_EQ(sched_getaffinity(0, sizeof before, &before), 0);
  const int last = usable_cpus().back();
  CPU_ZERO(&one);
  CPU_SET(static_cast<size_t>(last), &one);
  ASSERT_EQ(sched_setaffinity(0, sizeof one, &one), 0);
  EXPECT_EQ(usable_cpus(), std::vector<int>{last});
  if (sysconf(_SC_NPROCESSORS_ONLN) > 1) {
    EXPECT_EQ(core_limit(root_).source, "affinity");
  }
  EXPECT_EQ(training_threads(root_), 1);
  sched_setaffinity(0, sizeof before, &before);
}

// Pages of a file that are in memory.
int64_t pages_in_memory(const fs::path& file) {
  const auto size = static_cast<size_t>(fs::file_size(file));
  const int opened = open(file.c_str(), O_RDONLY | O_CLOEXEC);
  void* mapped = mmap(nullptr, size, PROT_READ, MAP_SHARED, opened, 0);
  std::vector<unsigned char> pages(size / static_cast<size_t>(sysconf(_SC_PAGESIZE)));
  EXPECT_EQ(mincore(mapped, size, pages.data()), 0);
  munmap(mapped, size);
  close(opened);
  return std::count_if(pages.begin(), pages.end(), [](unsigned char page) { return page & 1; });
}

class WarmFiles : public testing::Test {
 protected:
  WarmFiles() {
    char pattern[] = "warm_test.XXXXXX";  // beside the program: /tmp can lie in memory
    folder_ = fs::absolute(mkdtemp(pattern));
  }
  ~WarmFiles() override { fs::remove_all(folder_); }

  // A file that the disk alone holds, if it can be made to.
  fs::path cold(const std::string& name) const {
    const fs::path file = folder_ / name;
    fs::create_directories(file.parent_path());
    std::ofstream(file) << std::string(512 * static_cast<size_t>(sysconf(_SC_PAGESIZE)), 'x');
    const int opened = open(file.c_str(), O_RDONLY | O_CLOEXEC);
    fsync(opened);
    EXPECT_EQ(posix_fadvise(opened, 0, 0, POSIX_FADV_DONTNEED), 0);
    close(opened);
    return file;
  }

  fs::path folder_;
};

TEST_F(WarmFiles, WhatIsColdIsReadIntoMemory) {
  const fs::path library = cold("library.so.2"), deep = cold("cudnn/lib/libcudnn.so.9"),
                 notes = cold("notes.txt");
  fs::create_symlink("nowhere", folder_ / "broken.so");
  fs::create_directory_symlink("..", folder_ / "cudnn/round");
  const int64_t before = pages_in_memory(library) + pages_in_memory(deep);
  warm_files({folder_, folder_ / "absent"});
  EXPECT_EQ(pages_in_memory(library), 512);
  EXPECT_EQ(pages_in_memory(deep), 512) << "NVIDIA's lie in folders of folders";
  const int64_t others = pages_in_memory(notes);
  warm_files({notes});
  EXPECT_EQ(pages_in_memory(notes), 512) << "a file that is named";
  if (before > 0) GTEST_SKIP() << "this disk can't be made to forget";
  EXPECT_EQ(others, 0) << "of a folder the libraries alone";
}

}  // namespace
}  // namespace autoresearch
