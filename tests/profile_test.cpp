// The table of operators: its arithmetic, its names, and which steps of a run it is made of.
#include "harness/profile.h"

#include <ATen/ATen.h>
#include <ATen/record_function.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/autograd/profiler_kineto.h>

#include <algorithm>
#include <sstream>

namespace autoresearch {
namespace {

constexpr uint64_t kMs = 1'000'000;

Span span(const std::string& name, double begin_ms, double end_ms, uint64_t lane = 0) {
  return {name, lane, static_cast<uint64_t>(begin_ms * kMs), static_cast<uint64_t>(end_ms * kMs)};
}

Profile::Row row_of(const Profile& profile, const std::string& name) {
  for (const Profile::Row& row : profile.rows)
    if (row.name == name) return row;
  ADD_FAILURE() << name << " is not in\n" << profile.table();
  return {};
}

double percent_in_all(const Profile& profile) {
  double sum = 0;
  for (const Profile::Row& row : profile.rows) sum += profile.percent(row);
  return sum;
}

TEST(Summary, TellsMillisecondsPerStepOfWhatAnOperatorDoesItself) {
  // Two steps of 50 ms. "linear" calls "mm", which copies; later "mm" is called alone, twice.
  const Profile profile =
      summarize({span("copy", 14, 15), span("linear", 10, 30), span("mm", 10, 26),
                 span("copy", 20, 21), span("mm", 30, 40), span("mm", 60, 70)},
                2, 0.1, false);
  EXPECT_EQ(profile.steps, 2);
  EXPECT_DOUBLE_EQ(profile.ms_per_step, 50);
  ASSERT_EQ(profile.rows.size(), 5u);
  EXPECT_EQ(profile.rows[0].name, "mm");
  EXPECT_DOUBLE_EQ(profile.rows[0].ms, (14 + 10 + 10) / 2.0);
  EXPECT_DOUBLE_EQ(profile.rows[0].calls, 1.5);
  EXPECT_EQ(profile.rows[1].name, "linear");
  EXPECT_DOUBLE_EQ(profile.rows[1].ms, (2 + 2) / 2.0);
  EXPECT_EQ(profile.rows[2].name, "copy");
  EXPECT_DOUBLE_EQ(profile.rows[2].ms, 1);
  EXPECT_EQ(profile.rows[3].name, "(all others)");
  EXPECT_EQ(profile.rows[3].ms, 0);
  EXPECT_EQ(profile.rows[4].name, "(outside of operators)");
  EXPECT_DOUBLE_EQ(profile.rows[4].ms, 50 - (30 + 10) / 2.0);
  EXPECT_NEAR(percent_in_all(profile), 100, 1e-9);
}

TEST(Summary, ASpanOnAnotherLaneIsNoneWithin) {
  const Profile profile =
      summarize({span("backward", 0, 40, 1), span("forward", 0, 50, 2)}, 1, 0.05, false);
  EXPECT_DOUBLE_EQ(row_of(profile, "backward").ms, 40);
  EXPECT_DOUBLE_EQ(row_of(profile, "forward").ms, 50);
  EXPECT_EQ(row_of(profile, "(outside of operators)").ms, 0);
}

TEST(Summary, KernelsThatOverlapOrLeaveGaps) {
  // The second starts before the first one ends; copying on another stream hides in the gap.
  const Profile profile = summarize(
      {span("gemm", 10, 30), span("norm", 29, 35), span("copy", 38, 42, 7), span("gemm", 40, 45)},
      1, 0.05, true);
  EXPECT_DOUBLE_EQ(row_of(profile, "gemm").ms, 19 + 5);
  EXPECT_DOUBLE_EQ(row_of(profile, "norm").ms, 6);
  EXPECT_DOUBLE_EQ(row_of(profile, "copy").ms, 4);
  EXPECT_DOUBLE_EQ(row_of(profile, "(idle: no kernel runs)").ms, 10 + 3 + 5);
  EXPECT_NE(profile.table().find("by self time on the GPU"), std::string::npos);
}

TEST(Summary, OfManyOperatorsTheLongestAreNamedAndTheOthersCountTogether) {
  std::vector<Span> spans;
  for (int i = 0; i < 100; ++i)
    spans.push_back(span("operator " + std::to_string(i), 100 * i, 100 * i + i));
  const Profile profile = summarize(spans, 1, 10, false);
  ASSERT_EQ(profile.rows.size(), Profile::kMostRows);
  EXPECT_EQ(profile.rows[0].name, "operator 99");
  EXPECT_EQ(profile.rows[Profile::kMostRows - 3].name, "operator 77");
  EXPECT_DOUBLE_EQ(row_of(profile, "(all others)").ms, 76 * 77 / 2);
  EXPECT_DOUBLE_EQ(row_of(profile, "(all others)").calls, 77);
  EXPECT_NEAR(percent_in_all(profile), 100, 1e-9);
}

TEST(Summary, OfNoSpanAllIsIdle) {
  const Profile profile = summarize({}, 1, 0.01, false);
  EXPECT_DOUBLE_EQ(row_of(profile, "(outside of operators)").ms, 10);
}

TEST(Names, AreWhatAUserReads) {
  const auto named = [](const std::string& name) {
    return summarize({span(name, 0, 1)}, 1, 0.001, true).rows[0].name;
  };
  EXPECT_EQ(named("aten::mm"), "aten::mm");
  EXPECT_EQ(named("autograd::engine::evaluate_function: MmBackward0"), "autograd::engine");
  EXPECT_EQ(named("torch::autograd::CppNode<autoresearch::(anonymous namespace)::RmsNorm>"),
            "RmsNormBackward");
  EXPECT_EQ(named("void at::native::(anonymous namespace)::softmax_warp_forward<float>(float*)"),
            "softmax_warp_forward<float>(float*)");
  EXPECT_EQ(named("split\nin \xc3\xbcwo"), "split?in ??wo");
  const std::string kernel = "elementwise_kernel<" + std::string(2000, 'x') + ">";
  EXPECT_EQ(named(kernel).substr(0, 24), kernel.substr(0, 24));
  EXPECT_TRUE(named(kernel).ends_with("..."));
}

TEST(Table, HasLinesOfAtMost100Columns) {
  const std::string name(500, 'k');
  const Profile profile =
      summarize({span("a" + name, 0, 54321), span("b" + name, 54321, 54322)}, 1, 60, true);
  std::istringstream lines(profile.table());
  int count = 0;
  for (std::string line; std::getline(lines, line); ++count) EXPECT_LE(line.size(), 100u) << line;
  EXPECT_EQ(count, 1 + 4);
}

// ------------------------------------------------------------------------------------------------
// The profiler in a run

// Makes a run whose steps say their numbers; which of them the profile knows.
std::vector<int> profiled(Profiler& profiler, int64_t steps) {
  for (int64_t step = 0; step <= steps; ++step) {
    profiler.between_steps(step, static_cast<double>(step) / static_cast<double>(steps));
    if (step == steps) break;
    RECORD_FUNCTION("step " + std::to_string(step), {});
  }
  std::vector<int> found;
  if (profiler.profile())
    for (const auto& row : profiler.profile()->rows)
      if (row.name.starts_with("step ")) found.push_back(std::stoi(row.name.substr(5)));
  std::sort(found.begin(), found.end());
  return found;
}

TEST(Profiler, LooksAtFiveStepsFromTheTenthOnOrAtTheLastOnes) {
  const auto steps_of = [](int64_t steps) {
    Profiler profiler(false);
    return profiled(profiler, steps);
  };
  EXPECT_EQ(steps_of(1000), (std::vector{10, 11, 12, 13, 14}));
  EXPECT_EQ(steps_of(15), (std::vector{10, 11, 12, 13, 14}));
  EXPECT_EQ(steps_of(9), (std::vector{4, 5, 6, 7, 8}));
  EXPECT_EQ(steps_of(4), (std::vector{1, 2, 3}));
  EXPECT_EQ(steps_of(2), (std::vector{1}));
  EXPECT_EQ(steps_of(1), (std::vector<int>{}));
}

TEST(Profiler, OfASingleStepSaysThatThereWasNothing) {
  Profiler profiler(false);
  profiled(profiler, 1);
  EXPECT_TRUE(profiler.text().starts_with("profile: nothing to profile")) << profiler.text();
  EXPECT_EQ(profiler.text().find('\n'), profiler.text().size() - 1);
}

struct Twice : torch::autograd::Function<Twice> {
  static at::Tensor forward(torch::autograd::AutogradContext*, const at::Tensor& x) {
    return x * 2;
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext*,
                                                 const torch::autograd::variable_list& grads) {
    return {grads[0] * 2};
  }
};

TEST(Profiler, SeesForwardAndBackward) {
  Profiler profiler(false);
  const at::Tensor w = at::randn({64, 64}).requires_grad_();
  for (int step = 0; step < 3; ++step) {
    profiler.between_steps(step, step / 3.0);
    Twice::apply(at::mm(at::ones({64, 64}), w)).sum().backward();
  }
  profiler.between_steps(3, 1);
  ASSERT_TRUE(profiler.profile().has_value()) << profiler.text();
  const Profile& profile = *profiler.profile();
  EXPECT_EQ(profile.steps, 2);
  EXPECT_DOUBLE_EQ(row_of(profile, "aten::mm").calls, 2);  // forward, and for w
  EXPECT_DOUBLE_EQ(row_of(profile, "TwiceBackward").calls, 1);
  EXPECT_NEAR(percent_in_all(profile), 100, 0.1);
}

TEST(Profiler, EndsWithARunThatEndsInTheMidstAndCanStartAgain) {
  for (int run = 0; run < 2; ++run) {
    Profiler profiler(false);
    profiler.between_steps(1, 0.5);
    EXPECT_TRUE(at::isRecordFunctionEnabled() && at::hasThreadLocalCallbacks());
  }
  EXPECT_FALSE(at::hasThreadLocalCallbacks());
  Profiler profiler(false);
  EXPECT_EQ(profiled(profiler, 3), (std::vector{1, 2}));
}

TEST(Profiler, ThatFailsSaysSoAndEndsNothing) {
  Profiler profiler(false);
  profiler.between_steps(1, 0.5);
  torch::autograd::profiler::disableProfiler();  // as a candidate might
  EXPECT_NO_THROW(profiler.between_steps(2, 1));
  EXPECT_TRUE(profiler.text().starts_with("profile: none, for the profiler failed: "))
      << profiler.text();
  EXPECT_EQ(profiler.text().find('\n'), profiler.text().size() - 1);
}

}  // namespace
}  // namespace autoresearch
