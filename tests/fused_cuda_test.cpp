// The CUDA kernels without a GPU: NVRTC compiles them for every architecture, and an emulation runs
// their source on the CPU, launched by the very code that launches them on a GPU.
#include "kernels/fused_cuda.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <set>

#include "common/files.h"
#include "kernels/cuda_program.h"
#include "kernels/embedded.h"
#include "kernels/fused_check.h"
#include "tests/cuda_emulation.h"
#include "tests/fused_checks.h"
#include "tests/support.h"

namespace wide_float {
#define ACTIVATION float
#define WIDE 1
#include "kernels/fused.cu"
#undef ACTIVATION
#undef WIDE
}  // namespace wide_float
namespace narrow_float {
#define ACTIVATION float
#define WIDE 0
#include "kernels/fused.cu"
#undef ACTIVATION
#undef WIDE
}  // namespace narrow_float
namespace wide_bf16 {
#define ACTIVATION bf16
#define WIDE 1
#include "kernels/fused.cu"
#undef ACTIVATION
#undef WIDE
}  // namespace wide_bf16
namespace narrow_bf16 {
#define ACTIVATION bf16
#define WIDE 0
#include "kernels/fused.cu"
#undef ACTIVATION
#undef WIDE
}  // namespace narrow_bf16

namespace autoresearch {
namespace {

using at::Tensor;

// ------------------------------------------------------------------------------------------------
// The emulation as a device

#define FOR_EACH_KERNEL(X)   \
  X(rms_norm)                \
  X(rms_norm_backward)       \
  X(mix_norm)                \
  X(mix_norm_backward)       \
  X(sum_partials)            \
  X(rope_norm_gate)          \
  X(rope_norm_gate_backward) \
  X(relu_squared)            \
  X(relu_squared_backward)   \
  X(softcap_cross_entropy)   \
  X(find_segments)           \
  X(carried_sums)            \
  X(embedding_backward)      \
  X(nesterov) X(row_mean_squares) X(column_mean_squares) X(second_moment) X(cautious_step)

#define NAME(name) #name,
const char* const kKernels[] = {FOR_EACH_KERNEL(NAME)};

struct Launch {
  FusedVariant variant;
  std::string kernel;
  std::vector<CudaKernel::Argument> arguments;
};
std::vector<Launch> launches;  // the first of each kernel and variant

void remember(const Launch& launch) {
  for (const Launch& known : launches)
    if (known.kernel == launch.kernel && known.variant == launch.variant) return;
  launches.push_back(launch);
}

void launch_on_cpu(FusedVariant variant, const std::string& kernel, int64_t blocks, int64_t threads,
                   const std::vector<CudaKernel::Argument>& arguments) {
  remember({variant, kernel, arguments});
#define LAUNCH(name)                                                                            \
  if (kernel == #name) {                                                                        \
    if (variant.activation == at::kFloat)                                                       \
      return launch_emulated(variant.wide ? wide_float::name : narrow_float::name, blocks,      \
                             threads, arguments);                                               \
    return launch_emulated(variant.wide ? wide_bf16::name : narrow_bf16::name, blocks, threads, \
                           arguments);                                                          \
  }
  FOR_EACH_KERNEL(LAUNCH)
  throw std::logic_error("no kernel " + kernel);
}

// A copy that ends where memory ends, so that reading beyond it is fatal.
Tensor guarded(const Tensor& x) {
  const size_t page = sysconf(_SC_PAGESIZE), bytes = x.nbytes();
  const size_t usable = (bytes + page - 1) / page * page;
  char* const base = static_cast<char*>(
      mmap(nullptr, usable + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  mprotect(base + usable, page, PROT_NONE);
  const Tensor copy = at::from_blob(
      base + usable - bytes, x.sizes(), [=](void*) { munmap(base, usable + page); }, x.options());
  copy.copy_(x);
  return copy;
}

// A copy that begins one element after a multiple of 16 bytes.
Tensor misaligned(const Tensor& x) {
  const Tensor room = at::empty({x.numel() + 1}, x.options());
  const Tensor copy = room.narrow(0, 1, x.numel()).view(x.sizes());
  copy.copy_(x);
  return copy;
}

class EmulatedKernels : public testing::TestWithParam<at::ScalarType> {
 protected:
  const std::unique_ptr<Fused> fused_ = fused_cuda(launch_on_cpu);
};

TEST_P(EmulatedKernels, ComputeWhatATenComputesWithGradientsOverOddShapes) {
  fused_checks::check_all({*fused_, GetParam(), guarded});
}

TEST_P(EmulatedKernels, ComputeTheSameOnOperandsThatAreNotAlignedTo16Bytes) {
  fused_checks::check_all({*fused_, GetParam(), misaligned});
}

// What a GPU runs before training: autograd functions around the kernels against ATen operators.
TEST(StartUpCheck, RunsEveryKernelInEveryVariantAndFindsNothing) {
  launches.clear();
  const std::unique_ptr<Fused> fused = fused_cuda(launch_on_cpu);
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16})
    EXPECT_TRUE(disagreements({fused.get()}, at::kCPU, type).empty());
  for (const FusedVariant& variant : kFusedVariants)
    for (const char* kernel : kKernels)
      EXPECT_TRUE(std::any_of(launches.begin(), launches.end(),
                              [&](const Launch& launch) {
                                return launch.kernel == kernel && launch.variant == variant;
                              }))
          << kernel << " for " << variant.defines()[0] << ", " << variant.defines()[1];
}

TEST(StartUpCheck, FindsAKernelThatIsWrong) {
  const auto wrong = fused_cuda([](FusedVariant variant, const std::string& kernel, int64_t blocks,
                                   int64_t threads, std::vector<CudaKernel::Argument> arguments) {
    if (kernel == "nesterov") arguments[2].value = 0.5;  // another momentum
    launch_on_cpu(variant, kernel, blocks, threads, arguments);
  });
  const auto found = disagreements({wrong.get()}, at::kCPU, at::kFloat);
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found.begin()->first, Operation::kNesterov);
  EXPECT_TRUE(found.begin()->second.starts_with("result 1 differs by")) << found.begin()->second;
}

TEST_P(EmulatedKernels, ReadNothingForIdsOutsideOfTheTable) {
  at::manual_seed(3);
  const fused_checks::Subject s{*fused_, GetParam(), guarded};
  constexpr int64_t kFar = int64_t{1} << 40;
  Tensor logits = s.random({4, 8});
  const Tensor targets = s.place(at::tensor({int64_t{3}, kIgnoredTarget, -kFar, kFar}, at::kLong));
  const Tensor loss = fused_->softcap_cross_entropy(logits, targets, 15, 1);
  EXPECT_TRUE(at::equal(loss.isnan(), at::tensor({0, 0, 1, 1}).eq(1)));
  EXPECT_EQ(loss[1].item<float>(), 0);
  EXPECT_TRUE(at::equal(logits.isnan().all(1), loss.isnan()));
  EXPECT_TRUE(logits[1].eq(0).all().item<bool>());

  const Tensor ids = s.place(at::tensor({-kFar, int64_t{2}, kFar}, at::kLong).view({1, 3}));
  const Tensor qkv = s.random({1, 3, 3, 2, 8}), gate = s.random({1, 3, 2}),
               angle = s.random({3, 4});
  const Fused::ValueEmbedding embedding{s.floats({5, 16}), ids, gate};
  const auto heads = fused_->rope_norm_gate(qkv, {angle, angle}, embedding);
  EXPECT_TRUE(at::equal(heads.v.isnan().flatten(2).all(2)[0], at::tensor({1, 0, 1}).eq(1)));
  EXPECT_TRUE(heads.q.isfinite().all().item<bool>());
  fused_->rope_norm_gate_backward(heads.q, heads.k, heads.q, heads.q, heads.k, heads.rstd,
                                  {angle, angle}, embedding);

  const Tensor grad = s.random({3, 8}), order = s.place(at::arange(3));
  const Tensor table = fused_->embedding_backward(grad, ids.view({3}), order, 5, at::kFloat);
  EXPECT_TRUE(at::equal(table[2], grad[1].to(at::kFloat)));
  EXPECT_EQ(table.abs().sum().item<float>(), table[2].abs().sum().item<float>());
}

TEST_P(EmulatedKernels, MakeNoNumberOfNaN) {
  at::manual_seed(3);
  const fused_checks::Subject s{*fused_, GetParam(), guarded};
  const Tensor x = s.random({2, 4, 8}), second = s.place(at::rand({2, 4, 1}));
  x[0][1][2].fill_(std::nan(""));
  EXPECT_TRUE(at::equal(fused_->relu_squared(x).isnan(), x.isnan()));
  second[1][3][0].fill_(std::nan(""));
  EXPECT_TRUE(fused_->normalize_update(x, second, 2, 0.95).scale.isnan().all().item<bool>());
  Tensor logits = x.view({8, 8}).clone();
  const Tensor loss = fused_->softcap_cross_entropy(logits, s.place(at::arange(8)), 15, 1);
  EXPECT_TRUE(at::equal(loss.isnan(), x.view({8, 8}).isnan().any(1)));
}

TEST_P(EmulatedKernels, GiveEqualBitsInWhateverOrderThreadsRun) {
  at::manual_seed(3);
  const fused_checks::Subject s{*fused_, GetParam(), guarded};
  const Tensor x = s.random({300, 40}), x0 = s.random({300, 40}), a = s.scalar(1);
  const auto normed = fused_->mix_norm(x, x0, a, a);
  const auto [ids, order] = at::sort(at::randint(7, {300}), true, 0, false);
  const auto once = [&] {
    Tensor logits = x.clone();
    const auto grads =
        fused_->mix_norm_backward(x, x0, x, x0, normed.normed, normed.rstd, a, a, x0);
    return std::vector<Tensor>{grads.a, grads.b,
                               fused_->softcap_cross_entropy(logits, ids.fmod(40), 15, 1), logits,
                               fused_->embedding_backward(x, ids, order, 7, at::kFloat)};
  };
  const auto first = once(), second = once();
  for (size_t i = 0; i < first.size(); ++i) EXPECT_TRUE(at::equal(first[i], second[i])) << i;
}

INSTANTIATE_TEST_SUITE_P(Types, EmulatedKernels, testing::Values(at::kFloat, at::kBFloat16),
                         [](const auto& info) { return at::toString(info.param); });

TEST(DevicePrelude, RoundsToBfloat16AsATenDoes) {
  const auto expect_same = [](uint32_t bits) {
    const float x = std::bit_cast<float>(bits);
    ASSERT_EQ(to_bf16(x).bits, c10::BFloat16(x).x) << std::hex << bits;
  };
  for (uint32_t high = 0; high < 1 << 16; ++high) {  // every bfloat16, and ties around it
    for (const uint32_t low : {0x0000u, 0x0001u, 0x7fffu, 0x8000u, 0x8001u, 0xffffu})
      expect_same(high << 16 | low);
    const bf16 half{static_cast<unsigned short>(high)};
    const float value = to_float(half);
    ASSERT_EQ(std::bit_cast<uint32_t>(value), high << 16);
  }
}

// ------------------------------------------------------------------------------------------------
// The emulation itself: what it must not let pass

KERNEL reverse_without_barrier(float* x) {
  __shared__ float shared[64];
  shared[threadIdx.x] = x[threadIdx.x];
  x[threadIdx.x] = shared[63 - threadIdx.x];
}
KERNEL reverse(float* x) {
  __shared__ float shared[64];
  shared[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  x[threadIdx.x] = shared[63 - threadIdx.x];
}
KERNEL half_a_barrier(float* x) {
  if (threadIdx.x < 32) __syncthreads();
  x[threadIdx.x] = 0;
}
KERNEL half_a_shuffle(float* x) {
  if (threadIdx.x % 2) x[threadIdx.x] = __shfl_xor_sync(0xffffffffu, 1.0f, 1);
}

TEST(Emulation, RunsThreadsBlocksAndBarriers) {
  const Tensor x = at::arange(64, at::kFloat);
  launch_emulated(reverse, 1, 64, {x});
  EXPECT_TRUE(at::equal(x, at::arange(63, -1, -1, at::kFloat)));
}

TEST(Emulation, ShowsAMissingBarrier) {
  const Tensor x = at::arange(64, at::kFloat);
  launch_emulated(reverse_without_barrier, 1, 64, {x});
  EXPECT_GT(x.max().item<float>(), 1e38);
}

TEST(Emulation, RefusesABarrierOrShuffleThatSomeThreadsMissAndWrongArguments) {
  const Tensor x = at::zeros({64});
  EXPECT_THROW(launch_emulated(half_a_barrier, 1, 64, {x}), std::logic_error);
  EXPECT_THROW(launch_emulated(half_a_shuffle, 1, 64, {x}), std::logic_error);
  EXPECT_THROW(launch_emulated(reverse, 1, 48, {x}), std::logic_error);
  EXPECT_THROW(launch_emulated(reverse, 1, 64, {x, 1}), std::logic_error);
  EXPECT_THROW(launch_emulated(reverse, 1, 64, {x.to(at::kBFloat16)}), std::logic_error);
}

// ------------------------------------------------------------------------------------------------
// NVRTC

class Nvrtc : public testing::Test {
 protected:
  void SetUp() override {
    if (!can_compile_cuda()) GTEST_SKIP() << "libtorch is for CPUs alone: there is no NVRTC";
  }
};

TEST_F(Nvrtc, CompilesEveryKernelForEveryArchitecture) {
  for (const int capability : {75, 80, 86, 89, 90, 100, 120})
    for (const FusedVariant& variant : kFusedVariants) {
      const CompiledCuda compiled =
          compile_cuda(kFusedSource, "fused.cu", capability, variant.defines());
      EXPECT_EQ(compiled.cubin.substr(1, 3), "ELF");
      EXPECT_NE(compiled.ptx.find(".target sm_" + std::to_string(capability)), std::string::npos);
      EXPECT_EQ(compiled.ptx.find("st.local"), std::string::npos) << "an array in slow memory";
      EXPECT_EQ(compiled.ptx.find("ld.global.nc.v4") != std::string::npos, variant.wide);
      for (const char* kernel : kKernels)
        EXPECT_NO_THROW(kernel_parameters(compiled.ptx, kernel)) << kernel;
    }
}

TEST_F(Nvrtc, KernelsTakeTheArgumentsThatTheyAreLaunchedWith) {
  const std::unique_ptr<Fused> fused = fused_cuda(launch_on_cpu);
  launches.clear();
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
    const fused_checks::Subject s{*fused, type, guarded};
    fused_checks::rms_norm(s, 2, 8);
    fused_checks::mix_norm(s, 2, 8);
    fused_checks::heads(s, {1, 2, 1, 16, 2, true}, type);
    fused_checks::relu_squared(s, {8});
    fused_checks::cross_entropy(s, 1, 8, 15, 1);
    fused_checks::embedding_backward(s, 2, 8, 2, at::zeros({2}, at::kLong));
    fused_checks::nesterov(s, {1, 2, 8});
    for (const int64_t dim : {1, 2}) fused_checks::normalize_update(s, 1, 2, 8, dim);
    fused_checks::cautious_step(s, 1, 2, 8, 2);
  }
  std::map<FusedVariant, std::string> ptx;
  std::set<std::string> seen;
  for (const Launch& launch : launches) {
    std::string& text = ptx[launch.variant];
    if (text.empty())
      text = compile_cuda(kFusedSource, "fused.cu", 90, launch.variant.defines()).ptx;
    seen.insert(launch.kernel);
    EXPECT_NO_THROW(
        pack_arguments(launch.kernel, kernel_parameters(text, launch.kernel), launch.arguments));
  }
  EXPECT_EQ(seen, std::set<std::string>(std::begin(kKernels), std::end(kKernels)));
  EXPECT_EQ(ptx.size(), 2u) << "shapes that fit are moved 16 bytes at a time";
}

TEST_F(Nvrtc, AKernelThatDoesNotCompileIsAnErrorWithTheCompilersMessage) {
  const std::string error = error_of([] {
    compile_cuda("extern \"C\" __global__ void f(float* x) {\n  *x = banana;\n}\n", "f", 90);
  });
  const std::string first = error.substr(0, error.find('\n'));
  EXPECT_NE(first.find("does not compile for sm_90"), std::string::npos) << error;
  EXPECT_NE(first.find("f(2): error: identifier \"banana\" is undefined"), std::string::npos)
      << error;
  EXPECT_NE(error.find("*x = banana;"), std::string::npos) << error;
}

TEST_F(Nvrtc, AGpuNewerThanTheCompilerGetsCodeThatItsDriverTranslates) {
  const CompiledCuda compiled = compile_cuda("KERNEL f(float* x) { *x = 1; }", "f", 999);
  EXPECT_NE(compiled.cubin.find(".visible .entry f("), std::string::npos);
  EXPECT_NE(error_of([] { compile_cuda("KERNEL f() {}", "f", 20); }).find("sm_20"),
            std::string::npos);
}

TEST_F(Nvrtc, WrongArgumentsAreNamedBeforeTheyReachTheDevice) {
  const std::string ptx =
      compile_cuda(
          "KERNEL f(bf16* x, long n, int k, float s, double d) { if (n > k) *x = "
          "to_bf16(s + d); }",
          "f", 80)
          .ptx;
  const auto kinds = kernel_parameters(ptx, "f");
  using Kind = ParameterKind;
  EXPECT_EQ(kinds, (std::vector{Kind::kInteger, Kind::kInteger, Kind::kInteger, Kind::kFloat,
                                Kind::kDouble}));
  const Tensor x = at::ones({4, 4});
  const auto packed = pack_arguments("f", kinds, {x, -5, 7, 0.5, 0.25f});
  EXPECT_EQ(packed[0], reinterpret_cast<uint64_t>(x.data_ptr()));
  EXPECT_EQ(static_cast<int64_t>(packed[1]), -5);
  EXPECT_EQ(std::bit_cast<float>(static_cast<uint32_t>(packed[3])), 0.5f);
  EXPECT_EQ(std::bit_cast<double>(packed[4]), 0.25);
  const auto error = [&](const std::vector<CudaKernel::Argument>& arguments) {
    return error_of([&] { pack_arguments("f", kinds, arguments); });
  };
  EXPECT_NE(error({x, 5}).find("takes 5 arguments, not 2"), std::string::npos);
  EXPECT_NE(error({x, 5, 0.5, 0.5, 0.5}).find("argument 3"), std::string::npos);
  EXPECT_NE(error({x, 5, 7, 1, 0.5}).find("argument 4"), std::string::npos);
  EXPECT_NE(error({x.t(), 5, 7, 0.5, 0.5}).find("not contiguous"), std::string::npos);
  EXPECT_NE(error_of([&] { kernel_parameters(ptx, "g"); }).find("it has: f"), std::string::npos);
}

// ------------------------------------------------------------------------------------------------
// A kernel of train.cpp's own

TEST_F(Nvrtc, TheExampleInKernelsHCompiles) {
  std::string header = read_file(SOURCE_DIR "/kernels/kernels.h");
  const size_t begin = header.find("R\"(") + 3, end = header.find(")\"", begin);
  std::string source = header.substr(begin, end - begin);
  for (size_t at = 0; (at = source.find("//", at)) != std::string::npos;) source.erase(at, 2);
  const CompiledCuda compiled = compile_cuda(source, "scale", 90);
  EXPECT_EQ(kernel_parameters(compiled.ptx, "scale").size(), 3u);
}

TEST(CudaKernel, NeedsATensorOnAGpu) {
  const CudaKernel kernel("KERNEL f(float* x) {}", "f");
  const std::string error = error_of([&] { kernel.launch(1, 32, {at::ones({4})}); });
  EXPECT_NE(error.find("the CUDA kernel f needs tensors on a GPU"), std::string::npos) << error;
}

TEST(CudaKernel, RunsWhereItsDefinedTensorsAreAndThatIsOneDevice) {
  const Tensor here = at::ones({4}), elsewhere = at::empty({4}, at::device(at::kMeta));
  EXPECT_EQ(device_of("f", {Tensor(), 3, here, here}), here.device());
  EXPECT_EQ(device_of("f", {Tensor(), 3}), std::nullopt);
  EXPECT_EQ(error_of([&] {
              device_of("f", {Tensor(), here, 3, elsewhere});
            }),
            "the CUDA kernel f, argument 4: the tensor is on meta, another on cpu; move it there");
}

}  // namespace
}  // namespace autoresearch
