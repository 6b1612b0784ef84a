#include "harness/device.h"

#include <gtest/gtest.h>

#include "common/error.h"
#include "common/files.h"

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

TEST(PeakFlops, TheLongestNameThatIsWholeCounts) {
  const std::pair<const char*, double> cards[] = {{"NVIDIA A100-SXM4-80GB", 312e12},
                                                  {"NVIDIA H100 80GB HBM3", 989.5e12},
                                                  {"NVIDIA H100 PCIe", 756e12},
                                                  {"NVIDIA H200", 989.5e12},
                                                  {"NVIDIA H200 NVL", 835.5e12},
                                                  {"NVIDIA GH200 480GB", 989.5e12},
                                                  {"NVIDIA H20", 148e12},
                                                  {"NVIDIA B200", 2250e12},
                                                  {"NVIDIA GB200", 2500e12},
                                                  {"NVIDIA L4", 121e12},
                                                  {"NVIDIA L40", 181e12},
                                                  {"NVIDIA L40S", 362e12},
                                                  {"NVIDIA A10G", 70e12},
                                                  {"NVIDIA A10", 125e12},
                                                  {"Tesla T4", 65e12},
                                                  {"Tesla V100-PCIE-32GB", 112e12},
                                                  {"NVIDIA GeForce RTX 3080 Ti", 68.2e12},
                                                  {"NVIDIA GeForce RTX 3080", 59.5e12},
                                                  {"NVIDIA GeForce RTX 4090", 165.2e12},
                                                  {"NVIDIA GeForce RTX 4070 Ti SUPER", 88.2e12},
                                                  {"NVIDIA GeForce RTX 5090", 209.5e12}};
  for (const auto& [name, flops] : cards) EXPECT_EQ(peak_flops(name), flops) << name;
}

TEST(PeakFlops, AnotherCardsFigureIsNeverTaken) {
  for (const char* name : {"Matrox G200", "NVIDIA RTX A1000", "NVIDIA RTX A4000", "NVIDIA T400 4GB",
                           "NVIDIA GeForce RTX 4090 Laptop GPU"})
    EXPECT_EQ(peak_flops(name), 0) << name;
}

TEST(DescribeDevice, TheCpuHasANameAndMemory) {
  const Device device = describe_device(at::kCPU);
  EXPECT_FALSE(device.name.empty());
  EXPECT_GT(device.memory_gb, 0.5);
  EXPECT_GT(peak_memory(at::kCPU), 1 << 20);
}

// As the kernel tells it, which knows what the processor has.
TEST(DescribeDevice, TheCpuHasBfloat16WhereItsFlagsSaySo) {
  const std::string flags = read_file("/proc/cpuinfo");
  EXPECT_EQ(describe_device(at::kCPU).bfloat16, flags.find("avx512_bf16") != std::string::npos);
}

}  // namespace
}  // namespace autoresearch
