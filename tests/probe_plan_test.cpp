// What each runner gets to see: no token twice, every row scored once, versions that can't be told
// apart by where they stand.
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "common/error.h"
#include "referee/plan.h"

namespace autoresearch {
namespace {

struct Split {
  std::vector<uint16_t> tokens;
  Rows rows;

  Split(int64_t count, int64_t seq_len, int64_t vocab = 1000) {
    std::mt19937 random(7);
    for (int64_t i = 0; i < count * (seq_len + 1); i++)
      tokens.push_back(static_cast<uint16_t>(random() % static_cast<uint64_t>(vocab)));
    rows = {tokens, count, seq_len + 1, seq_len, vocab};
  }
};

Wave wave_of(const Split& split, int64_t batch, const Effort& effort) {
  Entropy entropy;
  CutDeck deck(split.rows.seq_len, entropy);
  return plan_wave(split.rows, batch, effort, deck, entropy);
}

TEST(Plan, ATenthOfTheRowsIsProbedAndAtLeastSoManyCutsAreMade) {
  for (const int64_t rows : {1, 2, 59, 64, 256, 1023, 1024, 10240, 300000}) {
    const Effort light = light_effort(rows), full = full_effort(rows);
    EXPECT_GE(light.cuts * light.waves, std::max<int64_t>(64, rows / 10)) << rows;
    EXPECT_GE(full.cuts * full.waves, std::max<int64_t>(rows < 256 ? 700 : 1024, rows / 10))
        << rows;
    EXPECT_TRUE(full.runners == 2 || full.cuts == rows * (full.runners - 1)) << rows;
    EXPECT_LE(full.runners, 5) << rows;
  }
  EXPECT_EQ(light_effort(256).waves, 1);
  EXPECT_EQ(light_effort(256).runners, 2);
}

// agent/lab/measurement.cpp tells by the time of a light probe how long a full one may take.
TEST(Plan, AFullProbeOfAFewRowsIsBounded) {
  for (int64_t rows = 1; rows < 20000; rows++) {
    EXPECT_GE(rows_computed(rows, light_effort(rows)), rows + 64) << rows;
    EXPECT_LE(rows_computed(rows, full_effort(rows)), rows < 256 ? 1400 : 2 * rows + 1400) << rows;
  }
}

TEST(Plan, EveryRowIsScoredOnceAndItsVersionsStandInOnePlace) {
  for (const int64_t rows : {1, 3, 59, 256})
    for (const Effort& effort : {light_effort(rows), full_effort(rows)}) {
      const Split split(rows, 16);
      const Wave wave = wave_of(split, 8, effort);
      std::map<int64_t, int> originals;
      int64_t cuts = 0;
      for (const PlannedBatch& batch : wave.batches)
        for (size_t place = 0; place < 8; place++) {
          std::set<int64_t> compared;
          for (const auto& versions : batch) {
            const Version& version = versions[place];
            if (version.filler()) continue;
            EXPECT_EQ(version.row % 8, static_cast<int64_t>(place));
            if (version.original()) originals[version.row]++;
            if (version.cut > 0) compared.insert(version.row), cuts++;
          }
          for (const int64_t row : compared)
            EXPECT_EQ(originals[row], 1) << "the original stands beside its versions";
        }
      EXPECT_EQ(cuts, wave.cuts);
      EXPECT_EQ(cuts, effort.cuts);
      EXPECT_EQ(originals.size(), static_cast<size_t>(rows));
      for (const auto& [row, times] : originals) EXPECT_EQ(times, 1) << row;
    }
}

TEST(Plan, NoRunnerSeesATokenTwice) {
  for (const int64_t rows : {1, 2, 59, 256})
    for (const Effort& effort : {light_effort(rows), full_effort(rows)}) {
      const Split split(rows, 16);
      const Wave wave = wave_of(split, 8, effort);
      for (size_t k = 0; k < static_cast<size_t>(wave.runners); k++) {
        std::set<std::pair<int64_t, int64_t>> seen;
        for (const PlannedBatch& batch : wave.batches)
          for (const Version& version : batch[k])
            for (int64_t t = 0; t < 16; t++) {
              const bool own = version.original() || t < version.cut;
              const int64_t row = own ? version.row : version.donor;
              EXPECT_TRUE(row < 0 || seen.emplace(row, t).second) << row << ", " << t;
            }
      }
    }
}

TEST(Plan, AnAlteredVersionKeepsWhatIsBeforeItsCutAndChangesTheTokenThere) {
  const Split split(256, 16);
  Entropy entropy;
  const Wave wave = wave_of(split, 8, full_effort(256));
  int64_t same = 0, altered = 0;
  for (const PlannedBatch& batch : wave.batches)
    for (const auto& versions : batch)
      for (const Version& version : versions) {
        if (version.cut == 0) continue;
        const auto ids = ids_of(version, split.rows, entropy);
        for (int64_t t = 0; t < version.cut; t++)
          EXPECT_EQ(ids[static_cast<size_t>(t)], split.rows.at(version.row, t));
        same += ids[static_cast<size_t>(version.cut)] == split.rows.at(version.row, version.cut);
        altered++;
      }
  EXPECT_LT(same, altered / 100 + 1);
}

TEST(Plan, ARowOfOneTokenRepeatedIsAlteredAllTheSame) {
  Split split(1, 16);
  std::fill(split.tokens.begin(), split.tokens.end(), 5);
  Entropy entropy;
  const Version version{.row = 0, .cut = 4};
  const auto ids = ids_of(version, split.rows, entropy);
  EXPECT_EQ(ids[3], 5);
  EXPECT_NE(ids[4], 5);
}

// Both versions come to each runner equally often, in every batch: nothing tells which it has.
TEST(Plan, EachRunnerHasHalfOfTheOriginals) {
  const Split split(1024, 16);
  const Wave wave = wave_of(split, 8, full_effort(1024));
  for (size_t k = 0; k < 2; k++) {
    int64_t originals = 0;
    for (const PlannedBatch& batch : wave.batches)
      for (const Version& version : batch[k]) originals += version.original();
    EXPECT_NEAR(static_cast<double>(originals), 512, 130);  // 8 standard deviations
  }
}

TEST(Plan, RowsOfOneTokenAreRefused) {
  Entropy entropy;
  EXPECT_THROW(CutDeck(1, entropy), Error);
}

}  // namespace
}  // namespace autoresearch
