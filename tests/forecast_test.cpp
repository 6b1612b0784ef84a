#include "prepare/forecast.h"

#include <algorithm>

#include "task/effort.h"
#include "tests/support.h"

namespace autoresearch {
namespace {

TaskInfo task(int64_t vocab, int64_t seq_len, int64_t rows, double budget) {
  TaskInfo info;
  info.name = "mine";
  info.vocab_size = vocab;
  info.seq_len = seq_len;
  info.val.rows = rows;
  info.time_budget = budget;
  return info;
}

constexpr double kFast = 1e15, kSlow = 31e9;  // operations a second

// As measured on the machine of docs/performance.md: 100 steps, 3.2 s and 9.7 s.
TEST(Forecast, OfTheDemoIsNearTheTruth) {
  const Forecast demo = forecast(task(1024, 256, 256, 11), kSlow);
  EXPECT_NEAR(demo.steps, 100, 20);
  EXPECT_NEAR(demo.light, 3.2, 1);
  EXPECT_NEAR(demo.full, 9.7, 3);
  EXPECT_DOUBLE_EQ(forecast(task(1024, 256, 256, 22), kSlow).steps, 2 * demo.steps);
}

// 59 rows of 2,048 tokens, as a new user had them: 885 rows are computed.
TEST(Forecast, AFullScoringOfFewRowsIsThatOfSevenHundredCuts) {
  EXPECT_EQ(rows_computed(59, full_effort(59)), 885);
  EXPECT_EQ(rows_computed(59, light_effort(59)), 177);
  const Forecast few = forecast(task(8192, 2048, 59, 5), kSlow);
  EXPECT_NEAR(few.full / few.light, 885.0 / 177, 0.7);
}

TEST(Forecast, SizesThatSuitStayAndOthersAreHalvedUntilTheyDo) {
  const TaskInfo large = task(8192, 2048, 59, 5);
  EXPECT_EQ(suitable(large, kFast).seq_len, 2048);
  const TaskInfo smaller = suitable(large, 2 * kSlow);
  EXPECT_LT(smaller.seq_len, 2048);
  const Forecast then = forecast(smaller, 2 * kSlow);
  EXPECT_GE(then.steps, 50);
  EXPECT_LE(then.light, 5);
  EXPECT_EQ(suitable(task(8192, 2048, 59, 0.001), kSlow).seq_len, 256) << "no endless search";
}

TEST(Forecast, NoSizeIsHalvedBelowTheDemos) {
  const TaskInfo odd = suitable(task(1500, 300, 300, 0.001), kSlow);
  EXPECT_EQ(odd.vocab_size, 1500);
  EXPECT_EQ(odd.seq_len, 300);
  EXPECT_EQ(odd.val.rows, 300) << "half of 90,000 tokens would be less than the demo's";
  EXPECT_EQ(suitable(task(1500, 300, 600, 0.001), kSlow).val.rows, 300);
}

TEST(Forecast, TokensOfRowsThatNoLongerFillThemAreNotCalledCut) {
  const TaskInfo odd = task(1024, 1027, 100, 0.001);
  EXPECT_EQ(suitable(odd, kSlow).seq_len, 256);
  const std::string words = forecast_in_words(odd, kSlow);
  EXPECT_NE(words.find("--seq-len 256 --force"), std::string::npos) << words;
}

// As a damaged task.json may say.
TEST(Forecast, NoRowsAreNoWork) {
  EXPECT_EQ(rows_computed(0, full_effort(0)), 0);
  EXPECT_EQ(forecast(task(1024, 256, 0, 11), kSlow).light,
            forecast(task(1024, 256, 0, 11), kSlow).full);
}

TEST(Forecast, TheWordsNameFlagsIfOtherSizesSuitBetter) {
  const std::string slow = forecast_in_words(task(8192, 2048, 59, 5), kSlow);
  EXPECT_NE(slow.find("--seq-len 256"), std::string::npos) << slow;
  EXPECT_NE(slow.find("--force"), std::string::npos) << slow;
  EXPECT_EQ(forecast_in_words(task(8192, 2048, 59, 5), kFast).find("--"), std::string::npos);
  const std::string gpu = forecast_in_words(task(8192, 2048, 59, 5), std::nullopt);
  EXPECT_NE(gpu.find("GPU"), std::string::npos) << gpu;
  EXPECT_EQ(std::count(gpu.begin(), gpu.end(), '\n'), 1) << gpu;
}

TEST(Forecast, TheTrialTellsASpeed) { EXPECT_GT(trial_speed(), 1e8); }

// What is counted is the train.cpp of today.
TEST(Forecast, CountsWhatTrainCppComputesOnACpu) {
  const std::string source = read_file(fs::path(SOURCE_DIR) / "train.cpp");
  for (const char* line : {"kCpuDepth = 2;", "kCpuAspect = 32;", "kCpuTotalBatch = 1024;",
                           "kMlpRatio = 4;", "kWindowPattern = \"SSSL\";", "kShortWindow = 0.5;"})
    EXPECT_NE(source.find(line), std::string::npos)
        << line << " has changed: adapt prepare/forecast.cpp";
}

}  // namespace
}  // namespace autoresearch
