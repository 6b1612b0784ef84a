#include "harness/device.h"

#include <c10/core/AllocatorConfig.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <gtest/gtest.h>

#include <utility>

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

TEST(ChooseDevice, ADriverThatIsTooOldIsToldWithTheVersionThatIsNeededAndTheCommand) {
  const auto told = [](const char* driver, const char* library) {
    return error_of("auto", {.driver = driver, .library = library});
  };
  const std::string old = told("550.54.14", "13.0");
  for (const char* words : {"too old", "driver 550.54.14", "CUDA 13.0", "580 or later",
                            "pip install 'torch==2.11.*' --index-url", "cu128", "--device cpu"})
    EXPECT_NE(old.find(words), std::string::npos) << words << " is not in: " << old;
  EXPECT_EQ(old.find('\n'), std::string::npos);

  const std::string oldest = told("470.57", "12.8");
  EXPECT_NE(oldest.find("525 or later"), std::string::npos) << oldest;
  EXPECT_EQ(oldest.find("pip"), std::string::npos) << "no libtorch 2.11 runs on it: " << oldest;

  for (const std::string& other : {told("580.65.06", "13.0"), told("550.54.14", "12.8"),
                                   told("unknown", "13.0"), told("999.1", "14.0")}) {
    EXPECT_EQ(other.find("too old"), std::string::npos) << other;
    EXPECT_NE(other.find("nvidia-smi"), std::string::npos) << other;
  }
}

TEST(ChooseDevice, AMistakeIsNamedWithWhatToTypeInstead) {
  EXPECT_NE(error_of("gpu", kTwoGpus).find("--device auto, cpu, cuda or cuda:N"),
            std::string::npos);
  EXPECT_NE(error_of("cuda:2", kTwoGpus).find("has 2"), std::string::npos);
  EXPECT_NE(error_of("cuda", kNoNvidia).find("--device cpu"), std::string::npos);
  EXPECT_NE(error_of("cuda:", kTwoGpus), "");
}

TEST(PeakFlops, TheLongestNameThatIsWholeCounts) {
  const std::pair<const char*, double> cards[] = {
      {"NVIDIA A100-SXM4-80GB", 312e12},
      {"NVIDIA H100 80GB HBM3", 989.5e12},
      {"NVIDIA H100 PCIe", 756e12},
      {"NVIDIA H200", 989.5e12},
      {"NVIDIA H200 NVL", 835.5e12},
      {"NVIDIA GH200 480GB", 989.5e12},
      {"NVIDIA H20", 148e12},
      {"NVIDIA B200", 2250e12},
      {"NVIDIA GB200", 2500e12},
      {"NVIDIA RTX PRO 6000 Blackwell Workstation Edition", 503.8e12},
      {"NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation "
       "Edition",
       438.9e12},
      {"NVIDIA RTX A5000", 111.1e12},
      {"NVIDIA RTX 5000 Ada Generation", 261.1e12},
      {"NVIDIA RTX 4000 SFF Ada Generation", 76.7e12},
      {"Quadro RTX 6000", 130.5e12},
      {"NVIDIA RTX 6000 Ada Generation", 364.2e12},
      {"NVIDIA GeForce RTX 2080 Ti", 53.8e12},
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
  for (const char* name : {"Matrox G200", "NVIDIA RTX A1000", "NVIDIA RTX A400", "NVIDIA T400 4GB",
                           "NVIDIA GeForce RTX 4090 Laptop GPU", "NVIDIA RTX A5000 Laptop GPU",
                           "NVIDIA H100 80GB HBM3 MIG 3g.40gb", "NVIDIA A100-SXM4-40GB MIG 1g.5gb"})
    EXPECT_EQ(peak_flops(name), 0) << name;
}

Device with_memory(at::Device device, double memory_gb) {
  Device result;
  result.device = device;
  result.memory_gb = memory_gb;
  return result;
}

Device gpu(double memory_gb) { return with_memory(at::Device(at::kCUDA, 0), memory_gb); }

// The logits, of which there are three copies, beside the activations of a model of the preset: a
// few values of its MLP's width.
TEST(ScoringRows, ABatchFitsOnEveryCard) {
  for (const double memory_gb : {6.0, 8.0, 10.5, 12.0, 16.0, 25.0, 42.0, 85.0, 141.0})
    for (const auto& [vocab, T] : {std::pair{1024, 256}, {8192, 2048}, {32768, 1024}}) {
      const int64_t rows = scoring_rows(gpu(memory_gb), T, vocab);
      const double tokens = static_cast<double>(rows * T);
      const double used = 1e-9 * tokens * (3 * 4.0 * vocab + 4 * 4.0 * 2048);
      EXPECT_LT(used + 0.5, 0.5 * memory_gb) << memory_gb << " GB, T " << T << ", rows " << rows;
      EXPECT_GE(tokens, 2048) << memory_gb << " GB: a GPU has nothing to do with less";
    }
}

TEST(ScoringRows, AreFewerOnASmallCardAndAsManyOnEveryLargeOne) {
  EXPECT_EQ(scoring_rows(gpu(6), 2048, 8192), 4);
  EXPECT_EQ(scoring_rows(gpu(8), 2048, 8192), 5);
  for (const double memory_gb : {12.0, 80.0, 141.0})
    EXPECT_EQ(scoring_rows(gpu(memory_gb), 2048, 8192), 8);
  EXPECT_EQ(scoring_rows(gpu(80), 8192, 65536), 1) << "one row is the least";
  EXPECT_EQ(scoring_rows(gpu(80), 64, 512), 256);
}

TEST(ScoringRows, OnACpuDependOnTheRowsLengthAlone) {
  for (const double memory_gb : {1.0, 1000.0}) {
    const Device cpu = with_memory(at::kCPU, memory_gb);
    EXPECT_EQ(scoring_rows(cpu, 256, 1024), 8);
    EXPECT_EQ(scoring_rows(cpu, 2048, 8192), 1);
    EXPECT_EQ(scoring_rows(cpu, 4096, 8192), 1);
  }
}

// Stands where CUDA's own would.
struct FakeGuard : c10::impl::DeviceGuardImplInterface {
  static inline c10::Device current{at::kPrivateUse1, 0};
  c10::DeviceType type() const override { return at::kPrivateUse1; }
  c10::Device exchangeDevice(c10::Device d) const override { return std::exchange(current, d); }
  c10::Device getDevice() const override { return current; }
  void setDevice(c10::Device d) const override { current = d; }
  void uncheckedSetDevice(c10::Device d) const noexcept override { current = d; }
  c10::Stream getStream(c10::Device d) const override {
    return c10::Stream(c10::Stream::DEFAULT, d);
  }
  c10::Stream exchangeStream(c10::Stream s) const override { return s; }
  c10::DeviceIndex deviceCount() const noexcept override { return 2; }
};
C10_REGISTER_GUARD_IMPL(PrivateUse1, FakeGuard)

TEST(UseDevice, TheSecondDeviceBecomesTheCurrentOne) {
  use_device(at::Device(at::kPrivateUse1, 1));
  EXPECT_EQ(FakeGuard::current.index(), 1);
  use_device(at::kCPU);
  EXPECT_EQ(FakeGuard::current.index(), 1);
}

TEST(ExpandSegments, LeavesWhatTheUserHasSet) {
  using Settings = c10::CachingAllocator::AcceleratorAllocatorConfig;
  for (const char* name : {"PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"}) {
    setenv(name, "expandable_segments:False", 1);
    expand_segments();
    unsetenv(name);
    EXPECT_FALSE(Settings::use_expandable_segments()) << name;
  }
  expand_segments();
  EXPECT_TRUE(Settings::use_expandable_segments());
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
