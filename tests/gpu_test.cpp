// What only a GPU can show. Skipped, visibly, where CUDA can't be used; never run on one so far.

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>

#include "common/files.h"
#include "harness/device.h"
#include "harness/kernels.h"
#include "harness/loader.h"
#include "prepare/task.h"

namespace autoresearch {
namespace {

class Gpu : public testing::Test {
 protected:
  void SetUp() override {
    if (!cuda_status().usable) GTEST_SKIP() << "no GPU that CUDA can use";
  }
  const at::Device cuda_{at::kCUDA, 0};
};

// A command run in the build folder; its exit code.
int shell(const std::string& command) {
  return std::system(("cd '" BUILD_DIR "' && " + command + " > /dev/null 2>&1").c_str());
}

TEST_F(Gpu, FlashAttentionEqualsTheMaskedReferenceWithItsGradients) {
  for (const int64_t window : {0, 1, 31, 64, 127, 500}) {
    at::manual_seed(1);
    std::vector<at::Tensor> on_cpu, on_gpu;
    for (int i = 0; i < 3; ++i) {
      at::Tensor x = at::randn({2, 128, 2, 64});
      on_gpu.push_back(x.to(cuda_, at::kBFloat16).requires_grad_());
      on_cpu.push_back(on_gpu.back().detach().to(at::kCPU, at::kFloat).requires_grad_());
    }
    const at::Tensor expected = windowed_attention(on_cpu[0], on_cpu[1], on_cpu[2], window);
    const at::Tensor got = windowed_attention(on_gpu[0], on_gpu[1], on_gpu[2], window);
    ASSERT_EQ(got.scalar_type(), at::kBFloat16);
    EXPECT_TRUE(at::allclose(got.detach().cpu().to(at::kFloat), expected.detach(), 2e-2, 2e-2))
        << "window " << window;
    expected.square().sum().backward();
    got.square().sum().backward();
    for (int i = 0; i < 3; ++i)
      EXPECT_TRUE(at::allclose(on_gpu[i].grad().cpu().to(at::kFloat), on_cpu[i].grad(), 5e-2, 1e-1))
          << "window " << window << ", gradient " << i;
  }
}

TEST_F(Gpu, PinnedAsynchronousCopiesBringTheSameRows) {
  const fs::path dir = task_dir("tiny");
  const TaskInfo info = load_task(dir);
  Loader cpu(dir, info, at::kCPU), gpu(dir, info, cuda_);
  for (int i = 0; i < 50; ++i) {
    const Batch a = cpu.next(7), b = gpu.next(7);
    ASSERT_TRUE(at::equal(a.inputs, b.inputs.cpu()));
    ASSERT_TRUE(at::equal(a.targets, b.targets.cpu()));
  }
}

TEST_F(Gpu, AModelTrainsSealsAndScoresOnTheDevice) {
  const std::string sealed = fs::temp_directory_path() / ("gpu_test." + std::to_string(getpid()));
  EXPECT_EQ(shell("./train --task tiny --device cuda --steps 20 --seal '" + sealed + "'"), 0);
  EXPECT_EQ(shell("./prepare score '" + sealed + "' --task tiny --device cuda"), 0);
  fs::remove(sealed);
  EXPECT_EQ(shell("./train --task tiny --device cuda --steps 20"), 0);
}

TEST_F(Gpu, AProfiledRunRecordsItsPhasesAndAnotherRunNone) {
  const std::string json = fs::temp_directory_path() / ("gpu_test." + std::to_string(getpid()));
  const std::string train = "./train --task tiny --device cuda --steps 5 --json '" + json + "'";
  for (const bool profiled : {true, false}) {
    ASSERT_EQ(shell(train + (profiled ? " --profile" : "")), 0);
    EXPECT_EQ(read_file(json).find("ms_backward") != std::string::npos, profiled);
    fs::remove(json);
  }
}

TEST_F(Gpu, TheDeviceIsKnown) {
  const Device device = describe_device(cuda_);
  EXPECT_FALSE(device.name.empty());
  EXPECT_GE(device.capability, 50);
  EXPECT_GT(device.memory_gb, 1);
  EXPECT_GT(peak_memory(cuda_), 0);
}

}  // namespace
}  // namespace autoresearch
