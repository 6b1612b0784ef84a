// Machines with GPUs of several kinds, each as the folder that its system would show.
#include "common/nvidia.h"

#include <gtest/gtest.h>
#include <unistd.h>

namespace autoresearch {
namespace {

class Nvidia : public testing::Test {
 protected:
  Nvidia() { fs::create_directories(root_); }
  ~Nvidia() override { fs::remove_all(root_); }

  void have(const std::string& path, const std::string& text = "") {
    fs::create_directories((root_ / path).parent_path());
    write_file(root_ / path, text);
  }

  const fs::path root_ = fs::temp_directory_path() / ("nvidia_test." + std::to_string(getpid()));
};

TEST_F(Nvidia, AMachineWithoutAGpuHasNoDeviceAndNoDriver) {
  EXPECT_FALSE(has_nvidia_device(root_));
  EXPECT_EQ(nvidia_driver(root_), "");
  EXPECT_FALSE(lacks_nvidia_uvm(root_));
}

TEST_F(Nvidia, TheDriversVersionIsReadFromTheKernelModulesFirstLine) {
  have("dev/nvidiactl");
  EXPECT_EQ(nvidia_driver(root_), "unknown");
  const std::pair<const char*, const char*> versions[] = {
      {"NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.14  Thu Feb 22 01:44:30 UTC 2024\n",
       "550.54.14"},
      {"NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build\n"
       "GCC version:  gcc version 12.2.0\n",
       "580.65.06"},
      {"NVRM version: NVIDIA UNIX x86_64 Kernel Module  470.57  Mon\n", "470.57"},
      {"something else\n", "unknown"}};
  for (const auto& [text, version] : versions) {
    have("proc/driver/nvidia/version", text);
    EXPECT_EQ(nvidia_driver(root_), version);
  }
  EXPECT_TRUE(has_nvidia_device(root_));
}

// There is no /dev/nvidiactl and no /proc/driver/nvidia there.
TEST_F(Nvidia, UnderWslAnNvidiaGpuIsKnownByItsDriversLibrary) {
  have("dev/dxg");
  EXPECT_FALSE(has_nvidia_device(root_)) << "a GPU of another maker";
  EXPECT_EQ(nvidia_driver(root_), "");
  have("usr/lib/wsl/lib/libcuda.so.1");
  EXPECT_TRUE(has_nvidia_device(root_));
  EXPECT_EQ(nvidia_driver(root_), "unknown");
  EXPECT_FALSE(lacks_nvidia_uvm(root_)) << "WSL has no such node";
}

TEST_F(Nvidia, ALibraryWithoutADeviceIsNoGpu) {
  have("usr/lib/x86_64-linux-gnu/libcuda.so.1");
  EXPECT_FALSE(has_nvidia_device(root_));
  have("dev/dxg");
  EXPECT_TRUE(has_nvidia_device(root_)) << "a container under WSL";
}

TEST_F(Nvidia, TheNodeForManagedMemoryMayBeMissing) {
  have("dev/nvidiactl");
  EXPECT_TRUE(lacks_nvidia_uvm(root_));
  have("dev/nvidia-uvm");
  EXPECT_FALSE(lacks_nvidia_uvm(root_));
}

}  // namespace
}  // namespace autoresearch
