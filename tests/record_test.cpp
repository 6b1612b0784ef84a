#include "harness/record.h"

#include <gtest/gtest.h>

namespace autoresearch {
namespace {

TEST(LossCurve, KeepsAtMost200PointsEvenlySpread) {
  LossCurve curve;
  for (int64_t step = 0; step < 12345; ++step) curve.add(step, 0.1 * double(step), 5.0);
  const auto& points = curve.points();
  ASSERT_LE(points.size(), LossCurve::kPoints);
  ASSERT_GE(points.size(), LossCurve::kPoints / 2);
  EXPECT_EQ(points.front().step, 0);
  const int64_t stride = points[1].step - points[0].step;
  for (size_t i = 1; i < points.size(); ++i) EXPECT_EQ(points[i].step - points[i - 1].step, stride);
  EXPECT_GT(points.back().step, 12345 - 2 * stride);
}

TEST(Record, SummaryHasUpstreamsKeysFirstAndInItsOrder) {
  Record record;
  record.tokens = 2'000'000;
  record.training_seconds = 10;
  record.steps = 7;
  record.facts = {{"parameters", 50332176}, {"depth", 8}, {"flops_per_token", 239.08e6}};
  record.peak_flops = 1e15;
  record.score = Score{.bpb = 0.9979, .bpb_upstream = 0.99};
  const std::string text = record.summary();
  ASSERT_TRUE(text.starts_with("---\n"));
  size_t at = 0;
  for (const char* key :
       {"val_bpb:", "training_seconds:", "total_seconds:", "peak_vram_mb:", "mfu_percent:",
        "total_tokens_M:", "num_steps:", "num_params_M:", "depth:", "val_bpb_upstream:"}) {
    const size_t next = text.find(std::string("\n") + key, at);
    ASSERT_NE(next, std::string::npos) << key;
    at = next + 1;
  }
  EXPECT_NE(text.find("val_bpb:          0.997900\n"), std::string::npos);
  EXPECT_NE(text.find("mfu_percent:      4.78\n"), std::string::npos);  // 239.08e6 * 2e5 / 1e15
  EXPECT_NE(text.find("num_params_M:     50.3\n"), std::string::npos);
}

TEST(StepPhases, AreMillisecondsPerStepWithoutTheFirst) {
  StepPhases phases;
  EXPECT_TRUE(phases.ms_per_step().empty());
  for (const double forward : {9.0, 0.3, 0.5})
    phases.add_step(
        {{"other", 0.1}, {"forward", forward / 2}, {"backward", 0.2}, {"forward", forward / 2}});
  const auto ms = phases.ms_per_step();
  EXPECT_NEAR(ms.at("other"), 100, 1e-6);
  EXPECT_NEAR(ms.at("forward"), 400, 1e-6);
  EXPECT_NEAR(ms.at("backward"), 200, 1e-6);
}

TEST(StepPhases, OfASingleStepAreThatSteps) {
  StepPhases phases;
  phases.add_step({{"forward", 2}});
  EXPECT_NEAR(phases.ms_per_step().at("forward"), 2000, 1e-6);
}

TEST(StepPhases, OfManyNamesTheFirstAreKept) {
  StepPhases phases;
  std::vector<std::pair<std::string, double>> step;
  for (int i = 0; i < 1000; ++i) step.emplace_back("phase " + std::to_string(i), 1);
  phases.add_step(step);
  const auto ms = phases.ms_per_step();
  EXPECT_LE(ms.size(), StepPhases::kMost);
  EXPECT_NEAR(ms.at("phase 0"), 1e3, 1e-6);
  EXPECT_GT(ms.at("other"), 900e3);
}

TEST(Record, SaysWhyOperationsAreNotFusedOrThatAllAre) {
  Record record;
  EXPECT_EQ(record.json().at("fused_operations"), "all");
  record.fused = "plain ATen computes on cuda:0: this libtorch can't compile CUDA";
  EXPECT_EQ(record.json().at("fused_operations"), record.fused);
}

TEST(Record, AModelThatIsScoredElsewhereHasNoScoreInItsRecord) {
  const Record record;
  EXPECT_EQ(record.summary().find("val_bpb"), std::string::npos);
  EXPECT_FALSE(record.json().contains("val_bpb"));
}

}  // namespace
}  // namespace autoresearch
