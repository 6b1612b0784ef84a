#include "referee/sample.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "common/error.h"

namespace autoresearch {
namespace {

constexpr int64_t kVocab = 10;
constexpr int64_t kEnd = 8;  // ids 8 and 9 end a sample

using Samples = std::vector<std::vector<uint16_t>>;

// How often each id is drawn from `logits` in 20,000 draws.
std::map<int64_t, int> draws(const std::vector<float>& logits, const SampleOptions& options) {
  std::mt19937_64 random(1);
  std::map<int64_t, int> counts;
  for (int i = 0; i < 20'000; ++i) ++counts[pick_token(logits, options, random)];
  return counts;
}

// A model that always says "the id after the last one", seen at its position alone.
at::Tensor counting_model(const at::Tensor& ids) {
  return 20 * at::one_hot((ids + 1) % kVocab, kVocab).to(at::kFloat);
}

at::Tensor even_model(const at::Tensor& ids) {
  at::Tensor logits = at::zeros({ids.size(0), ids.size(1), kVocab});
  logits.slice(2, kEnd).fill_(-1e9);
  return logits;
}

TEST(PickToken, TemperatureZeroIsTheLikeliestAndTheFirstOnTies) {
  EXPECT_EQ(draws({0, 3, 2, 3}, {.temperature = 0}), (std::map<int64_t, int>{{1, 20'000}}));
  EXPECT_EQ(draws({0, 3, 2, 4}, {.top_k = 1}), (std::map<int64_t, int>{{3, 20'000}}));
}

TEST(PickToken, OnlyTheTopKAreDrawn) {
  const auto counts = draws({1, 5, 4, 3, 0}, {.temperature = 100, .top_k = 3});
  EXPECT_EQ(counts.size(), 3u);
  EXPECT_TRUE(counts.contains(1) && counts.contains(2) && counts.contains(3));
}

TEST(PickToken, FollowsTheProbabilities) {
  const float log3 = std::log(3.0f);
  const auto even = draws({0, log3}, {.temperature = 1, .top_k = 0});
  EXPECT_NEAR(even.at(1) / 20'000.0, 0.75, 0.02);
  const auto sharp = draws({0, log3}, {.temperature = 0.5, .top_k = 50});
  EXPECT_NEAR(sharp.at(1) / 20'000.0, 0.9, 0.02);
}

TEST(PickToken, HugeLogitsDoNotOverflow) {
  EXPECT_EQ(draws({1e30f, -1e30f}, {.top_k = 0}), (std::map<int64_t, int>{{0, 20'000}}));
}

TEST(Sample, ContinuesThePromptUntilAnEndId) {
  const SampleOptions options{.samples = 2, .tokens = 20, .temperature = 0};
  EXPECT_EQ(sample(counting_model, 4, 6, {3, 4}, kEnd, options), (Samples{{5, 6, 7}, {5, 6, 7}}));
}

TEST(Sample, StopsAfterTheTokensAskedFor) {
  const SampleOptions options{.samples = 1, .tokens = 2, .temperature = 0};
  EXPECT_EQ(sample(counting_model, 1, 6, {3}, kEnd, options), (Samples{{4, 5}}));
}

TEST(Sample, SlidesAWindowOverWhatIsLongerThanARow) {
  const SampleOptions options{.samples = 1, .tokens = 5, .temperature = 0};
  EXPECT_EQ(sample(counting_model, 1, 2, {5, 1, 2}, kEnd, options), (Samples{{3, 4, 5, 6, 7}}));
}

TEST(Sample, ASampleDependsOnItsSeedAndNumberOnly) {
  SampleOptions options{.samples = 5, .tokens = 12, .seed = 3};
  const Samples five = sample(even_model, 2, 8, {1}, kEnd, options);
  ASSERT_EQ(five.size(), 5u);
  EXPECT_NE(five[0], five[1]);
  EXPECT_EQ(sample(even_model, 4, 8, {1}, kEnd, options), five);
  options.samples = 1;
  EXPECT_EQ(sample(even_model, 2, 8, {1}, kEnd, options)[0], five[0]);
  options.seed = 4;
  EXPECT_NE(sample(even_model, 2, 8, {1}, kEnd, options)[0], five[0]);
}

TEST(Sample, TheModelAlwaysSeesItsOwnShape) {
  const auto model = [](const at::Tensor& ids) {
    EXPECT_EQ(ids.sizes(), (at::IntArrayRef{4, 8}));
    return even_model(ids);
  };
  EXPECT_EQ(sample(model, 4, 8, {1}, kEnd, {.samples = 5, .tokens = 3}).size(), 5u);
  EXPECT_THROW(sample(model, 4, 8, {}, kEnd, {}), Error);
}

}  // namespace
}  // namespace autoresearch
