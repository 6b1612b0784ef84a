#include "prepare/overlap.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "prepare/near_duplicates.h"

namespace autoresearch {
namespace {

using Ids = std::vector<uint16_t>;

constexpr int64_t kBos = 60000;

Ids random_ids(size_t count, unsigned seed) {
  std::mt19937 random(seed);
  Ids ids(count);
  for (uint16_t& id : ids) id = static_cast<uint16_t>(random() % 50000);
  return ids;
}

Ids joined(Ids a, const Ids& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

TEST(OverlapTest, IsTheShareOfRunsThatOccurInTrain) {
  const Ids shared = random_ids(149, 1), own = random_ids(349, 2);  // 100 runs and 300
  Overlap overlap(joined(joined(Ids{kBos}, shared), joined(Ids{kBos}, own)), kBos);
  EXPECT_EQ(overlap.share(), 0.0);
  overlap.add(joined(random_ids(20, 3), joined(shared, random_ids(20, 4))));
  overlap.add(random_ids(1000, 5));
  EXPECT_EQ(overlap.share(), 0.25);
  overlap.add(own);
  EXPECT_EQ(overlap.share(), 1.0);
}

TEST(OverlapTest, RunsThatAreTooShortAreNone) {
  EXPECT_EQ(Overlap({}, kBos).share(), std::nullopt);
  EXPECT_EQ(Overlap(joined(joined(random_ids(49, 1), {kBos}), random_ids(49, 2)), kBos).share(),
            std::nullopt);
  Overlap overlap(random_ids(50, 1), kBos);
  overlap.add(random_ids(49, 1));
  EXPECT_EQ(overlap.share(), 0.0);
  overlap.add(random_ids(50, 1));
  EXPECT_EQ(overlap.share(), 1.0);
}

TEST(OverlapTest, ASampleTellsAboutTheWhole) {
  const Ids val = random_ids(200'000, 1);
  Overlap overlap(val, kBos, 2000);
  overlap.add(std::span(val).first(60'000));
  ASSERT_TRUE(overlap.share().has_value());
  EXPECT_NEAR(*overlap.share(), 0.3, 0.06);
}

TEST(NearDuplicatesTest, OtherFirstLinesAndSmallChangesMakeNoOtherDocument) {
  NearDuplicates known;
  for (unsigned seed = 0; seed < 50; ++seed) known.add(random_ids(400, seed));
  for (unsigned seed = 0; seed < 50; ++seed) {
    const Ids document = random_ids(400, seed);
    EXPECT_TRUE(known.resembles(document));
    EXPECT_TRUE(known.resembles(joined(random_ids(20, seed + 1000), document)));
    Ids changed = document;
    for (size_t i = 0; i < 400; i += 80) changed[i] = 1;
    EXPECT_TRUE(known.resembles(changed));
    EXPECT_FALSE(known.resembles(random_ids(400, seed + 2000)));
    EXPECT_FALSE(known.resembles(
        joined(Ids(document.begin(), document.begin() + 200), random_ids(200, seed + 3000))));
  }
}

TEST(NearDuplicatesTest, ShortAndEmptyDocumentsAreComparedToo) {
  NearDuplicates known;
  EXPECT_FALSE(known.resembles(Ids{}));
  known.add(Ids{1, 2, 3});
  EXPECT_TRUE(known.resembles(Ids{1, 2, 3}));
  EXPECT_FALSE(known.resembles(Ids{1, 2, 4}));
  EXPECT_FALSE(known.resembles(Ids{}));
}

}  // namespace
}  // namespace autoresearch
