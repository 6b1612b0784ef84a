#include "harness/device.h"

#include <gtest/gtest.h>

#include "common/error.h"

namespace autoresearch {
namespace {

std::string error_of(const std::string& wanted, const CudaStatus& status) {
  try {
    choose_device(wanted, status);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

const CudaStatus kNoNvidia{.driver = "", .library = "13.0"};
const CudaStatus kUnusable{.driver = "470.57", .library = "13.0"};
const CudaStatus kTwoGpus{.usable = true, .devices = 2, .driver = "580.1", .library = "13.0"};

TEST(ChooseDevice, AutoTakesTheGpuWhereThereIsOneAndTheCpuWhereThereIsNone) {
  EXPECT_TRUE(choose_device("auto", kNoNvidia).is_cpu());
  EXPECT_EQ(choose_device("auto", kTwoGpus).str(), "cuda:0");
  EXPECT_EQ(choose_device("cuda:1", kTwoGpus).str(), "cuda:1");
  EXPECT_TRUE(choose_device("cpu", kTwoGpus).is_cpu());
}

TEST(ChooseDevice, AutoNeverFallsBackToTheCpuSilentlyWhereCudaIsBroken) {
  const std::string error = error_of("auto", kUnusable);
  EXPECT_NE(error.find("driver 470.57"), std::string::npos) << error;
  EXPECT_NE(error.find("CUDA 13.0"), std::string::npos) << error;
  EXPECT_NE(error.find("--device cpu"), std::string::npos) << error;
  EXPECT_TRUE(choose_device("cpu", kUnusable).is_cpu());
}

TEST(ChooseDevice, AMistakeIsNamedWithWhatToTypeInstead) {
  EXPECT_NE(error_of("gpu", kTwoGpus).find("--device auto, cpu, cuda or cuda:N"),
            std::string::npos);
  EXPECT_NE(error_of("cuda:2", kTwoGpus).find("has 2"), std::string::npos);
  EXPECT_NE(error_of("cuda", kNoNvidia).find("--device cpu"), std::string::npos);
  EXPECT_NE(error_of("cuda:", kTwoGpus), "");
}

TEST(PeakFlops, TheLongestNameCounts) {
  EXPECT_EQ(peak_flops("NVIDIA H200"), 989.5e12);
  EXPECT_EQ(peak_flops("NVIDIA H100 PCIe"), 756e12);
  EXPECT_EQ(peak_flops("NVIDIA H100 80GB HBM3"), 989.5e12);
  EXPECT_EQ(peak_flops("NVIDIA L40S"), 362e12);
  EXPECT_EQ(peak_flops("NVIDIA L4"), 121e12);
  EXPECT_EQ(peak_flops("Matrox G200"), 0);
}

TEST(DescribeDevice, TheCpuHasANameAndMemory) {
  const Device device = describe_device(at::kCPU);
  EXPECT_FALSE(device.name.empty());
  EXPECT_GT(device.memory_gb, 0.5);
  EXPECT_GT(peak_memory(at::kCPU), 1 << 20);
}

}  // namespace
}  // namespace autoresearch
