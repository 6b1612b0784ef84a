// What only a GPU can show. Skipped, visibly, where CUDA can't be used; never run on one so far.

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "common/files.h"
#include "harness/device.h"
#include "harness/loader.h"
#include "kernels/cuda_program.h"
#include "kernels/fused_check.h"
#include "kernels/fused_cuda.h"
#include "kernels/kernels.h"
#include "task/task.h"
#include "tests/fused_checks.h"
#include "tests/support.h"

namespace autoresearch {
namespace {

class Gpu : public testing::Test {
 protected:
  void SetUp() override {
    if (!cuda_status().usable) GTEST_SKIP() << "no GPU that CUDA can use";
  }
  const at::Device cuda_{at::kCUDA, 0};
};

// A command run where the programs are, by itself the build folder; its exit code.
int shell(const std::string& command) {
  const char* packed = std::getenv("AUTORESEARCH_PROGRAMS");
  const std::string folder = packed ? packed : BUILD_DIR;
  return std::system(("cd '" + folder + "' && " + command + " > /dev/null 2>&1").c_str());
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

class GpuTypes : public Gpu, public testing::WithParamInterface<at::ScalarType> {
 protected:
  void SetUp() override {
    Gpu::SetUp();
    if (!IsSkipped()) fused_ = fused_cuda(cuda_);
  }
  std::unique_ptr<Fused> fused_;
};

TEST_P(GpuTypes, FusedKernelsComputeWhatATenComputesWithGradientsOverOddShapes) {
  fused_checks::check_all({*fused_, GetParam(), [&](const at::Tensor& x) { return x.to(cuda_); }});
}

TEST_P(GpuTypes, FusedKernelsComputeTheSameOnOperandsThatAreNotAlignedTo16Bytes) {
  fused_checks::check_all({*fused_, GetParam(), [&](const at::Tensor& x) {
                             const at::Tensor room =
                                 at::empty({x.numel() + 1}, x.options().device(cuda_));
                             const at::Tensor copy = room.narrow(0, 1, x.numel()).view(x.sizes());
                             copy.copy_(x);
                             return copy;
                           }});
}

// At sizes that fill the device, where blocks run side by side and in any order.
TEST_P(GpuTypes, FusedKernelsGiveEqualBits) {
  at::manual_seed(3);
  const int64_t N = 40000, C = 512;
  const fused_checks::Subject s{*fused_, GetParam(),
                                [&](const at::Tensor& x) { return x.to(cuda_); }};
  const at::Tensor x = s.random({N, C}), x0 = s.random({N, C}), a = s.scalar(1);
  const auto out = fused_->mix_norm(x, x0, a, a);
  const auto [ids, order] = at::sort(s.place(at::randint(C, {N})), /*stable=*/true, 0, false);
  const auto once = [&, &ids = ids, &order = order] {
    at::Tensor logits = x.clone();
    const auto grads = fused_->mix_norm_backward(x, x0, x, x0, out.normed, out.rstd, a, a, x0);
    const at::Tensor loss = fused_->softcap_cross_entropy(logits, ids, 15, 1);
    return std::vector<at::Tensor>{
        grads.x, grads.a, grads.b,
        loss,    logits,  fused_->embedding_backward(x, ids, order, C, at::kFloat)};
  };
  const auto first = once(), second = once();
  for (size_t i = 0; i < first.size(); ++i) EXPECT_TRUE(at::equal(first[i], second[i])) << i;
}

INSTANTIATE_TEST_SUITE_P(Types, GpuTypes, testing::Values(at::kFloat, at::kBFloat16),
                         [](const auto& info) { return at::toString(info.param); });

TEST_F(Gpu, TheCheckAtStartUpFindsNothing) {
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
    const Trusted& here = trusted_on(cuda_, type);
    EXPECT_NE(here.ways.fused, nullptr);
    EXPECT_TRUE(here.ways.twins.none());
    EXPECT_EQ(here.warning, "");
  }
}

TEST_F(Gpu, AKernelOfOnesOwnRunsAndItsMistakesAreTold) {
  const CudaKernel scale(R"(
    KERNEL scale(float* x, long n, float factor) {
      const long i = blockIdx.x * 256L + threadIdx.x;
      if (i < n) x[i] *= factor;
    })",
                         "scale");
  const at::Tensor x = at::arange(1000, at::device(cuda_).dtype(at::kFloat)), before = x.clone();
  scale.launch((x.numel() + 255) / 256, 256, {x, x.numel(), 0.5});
  EXPECT_TRUE(at::equal(x, before * 0.5));
  EXPECT_NE(error_of([&] {
              scale.launch(4, 256, {x, x.numel()});
            }).find("takes 3 arguments"),
            std::string::npos);
  EXPECT_NE(error_of([&] {
              scale.launch(4, 2048, {x, x.numel(), 0.5});
            }).find("2048 threads"),
            std::string::npos);
  const CudaKernel broken("KERNEL broken(float* x) { *x = banana; }", "broken");
  EXPECT_NE(error_of([&] { broken.launch(1, 1, {x}); }).find("\"banana\" is undefined"),
            std::string::npos);
}

TEST_F(Gpu, CodeThatCannotBeLoadedIsAnErrorThatATenDoesNotSeeAgain) {
  const std::string error = error_of([&] {
    CudaProgram(CompiledCuda{"no machine code", ""}, "nonsense", cuda_);
  });
  EXPECT_NE(error.find("the CUDA source nonsense can't be loaded"), std::string::npos) << error;
  EXPECT_NO_THROW(at::ones({4}, at::device(cuda_)) + 1);
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
  EXPECT_EQ(shell("./score '" + sealed + "' --task tiny --device cuda"), 0);
  fs::remove(sealed);
  EXPECT_EQ(shell("./train --task tiny --device cuda --steps 20"), 0);
}

TEST_F(Gpu, ARunRecordsItsPhasesAndAProfiledOneItsKernelsToo) {
  const std::string json = fs::temp_directory_path() / ("gpu_test." + std::to_string(getpid()));
  const std::string train = "./train --task tiny --device cuda --steps 20 --json '" + json + "'";
  for (const bool profiled : {true, false}) {
    ASSERT_EQ(shell(train + (profiled ? " --profile" : "")), 0);
    const auto record = nlohmann::json::parse(read_file(json));
    fs::remove(json);
    double sum = 0;
    for (const auto& [name, ms] : record.at("phases").items()) sum += ms.get<double>();
    EXPECT_GT(record.at("phases").at("ms_backward"), 0);
    EXPECT_LE(19 * sum, 1000 * record.at("training_seconds").get<double>());
    ASSERT_EQ(record.contains("profile"), profiled);
    if (!profiled) continue;
    const auto& profile = record.at("profile");
    EXPECT_EQ(profile.at("on"), "GPU") << "no kernel was seen";
    EXPECT_EQ(profile.at("steps"), 5);
    double percent = 0;
    for (const auto& row : profile.at("operators")) percent += row.at("percent").get<double>();
    EXPECT_NEAR(percent, 100, 1);
  }
}

TEST_F(Gpu, TheDeviceIsKnown) {
  const Device device = describe_device(cuda_);
  EXPECT_FALSE(device.name.empty());
  EXPECT_GT(device.memory_gb, 1);
  EXPECT_GT(peak_memory(cuda_), 0);
}

}  // namespace
}  // namespace autoresearch
