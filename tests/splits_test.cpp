#include "prepare/splits.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <random>
#include <set>

#include "tests/documents.h"
#include "tests/support.h"

namespace autoresearch {
namespace {

constexpr int64_t kBos = 60000;
constexpr int64_t kSeqLen = 32;

// `count` documents of which every id names its document.
TokenSequences numbered_documents(size_t count, size_t tokens) {
  TokenSequences documents;
  for (size_t i = 0; i < count; ++i) {
    documents.add(std::vector<uint16_t>(tokens, static_cast<uint16_t>(i)), kBos);
  }
  return documents;
}

std::set<uint16_t> ids_of(const std::vector<uint16_t>& rows) {
  std::set<uint16_t> ids(rows.begin(), rows.end());
  ids.erase(kBos);
  return ids;
}

class SplitsTest : public FolderTest {
 protected:
  std::vector<uint16_t> shard(const std::string& name) const {
    const std::string bytes = read_file(dir_ / name);
    std::vector<uint16_t> tokens(bytes.size() / 2);
    std::memcpy(tokens.data(), bytes.data(), bytes.size());
    return tokens;
  }
};

TEST(Rows, AreWhatIsWantedWithinATenthOfTheCorpus) {
  EXPECT_EQ(rows_wanted(65536, 256), 256);
  EXPECT_EQ(rows_wanted(100, 256), 1);
  EXPECT_EQ(rows_affordable(256, 255, 20 * 256 * 256), 256);
  EXPECT_EQ(rows_affordable(256, 255, 10 * 256 * 256), 128);
  EXPECT_EQ(rows_affordable(256, 255, 100), 1);
}

TEST(Rows, AFewAreDrawnFromManyDocumentsWithinATwentieth) {
  EXPECT_EQ(tokens_drawn_from(10, 99, 1'000'000), 8000);
  EXPECT_EQ(tokens_drawn_from(10, 99, 100'000), 5000);
  EXPECT_EQ(tokens_drawn_from(10, 99, 0), 1000);
  EXPECT_EQ(tokens_drawn_from(10240, 2048, INT64_MAX), 10240 * 2049);
}

TEST(SetAside, IsEnoughAtMostThreeTwentiethsAndLeavesTrain) {
  const auto set_aside = [](int64_t documents, int64_t rows) {
    ListedDocuments reader(
        std::vector<std::string>(static_cast<size_t>(documents), std::string(100, 'x')));
    return documents_to_set_aside(reader, documents, 100 * documents, rows, 16);
  };
  EXPECT_THROW(set_aside(2, 1), Error);
  EXPECT_EQ(set_aside(1000, 1), 22);  // 2 * 8 * 17 tokens of 8 bytes
  EXPECT_EQ(set_aside(1000, 1000), 150);
  EXPECT_EQ(set_aside(3, 1000), 2);
}

TEST(HoldOut, RowsAreFullBeginWithBosAndShareNoDocument) {
  const HeldOut held = hold_out(numbered_documents(100, 50), 10, kSeqLen, kBos, 20'000);
  ASSERT_EQ(held.rows, 10);
  EXPECT_EQ(held.val.size(), 10u * (kSeqLen + 1));
  EXPECT_EQ(held.test.size(), 10u * (kSeqLen + 1));
  for (size_t r = 0; r < 10; ++r) EXPECT_EQ(held.val[r * (kSeqLen + 1)], kBos);
  const std::set<uint16_t> val = ids_of(held.val), test = ids_of(held.test);
  for (const uint16_t id : val) EXPECT_LT(id, held.val_documents);
  for (const uint16_t id : test) {
    EXPECT_GE(id, held.val_documents);
    EXPECT_LT(id, held.val_documents + held.test_documents);
  }
  EXPECT_GE(val.size(), 8u);
}

TEST(HoldOut, FewerRowsWhereTheDocumentsCannotFillThem) {
  const HeldOut held = hold_out(numbered_documents(4, 100), 1000, kSeqLen, kBos, 400);
  EXPECT_GE(held.rows, 4);
  EXPECT_LE(held.rows, 6);
  EXPECT_EQ(held.val_documents, 2u);
  EXPECT_EQ(hold_out(numbered_documents(4, 5), 10, kSeqLen, kBos, 20).rows, 0);
  EXPECT_EQ(hold_out(numbered_documents(1, 5000), 10, kSeqLen, kBos, 5000).rows, 0);
}

TEST(HoldOut, ShortDocumentsAreScoredToo) {
  TokenSequences documents;
  for (uint16_t i = 0; i < 200; ++i) {
    documents.add(std::vector<uint16_t>(i % 2 ? 100 : 6, i), kBos);
  }
  const HeldOut held = hold_out(documents, 20, kSeqLen, kBos, 1'000'000);
  size_t of_short = 0;
  for (const uint16_t id : held.val) of_short += id != kBos && id % 2 == 0;
  EXPECT_GT(of_short, 0u);
}

// The rule of upstream's loader (karpathy/autoresearch, prepare.py), spelled out: a pool of
// 1000 refilled by batches of 128 within a row group.
struct UpstreamRows {
  std::vector<uint16_t> rows;
  size_t drawn = 0;
};
UpstreamRows upstream_rows(const TokenSequences& documents, const std::vector<size_t>& group_ends,
                           size_t begin, size_t rows) {
  UpstreamRows result{{}, begin};
  std::vector<std::vector<uint16_t>> pool;
  while (result.rows.size() < rows * (kSeqLen + 1)) {
    while (pool.size() < 1000 && result.drawn < documents.size()) {
      size_t end = std::min(result.drawn + 128, documents.size());
      for (const size_t group_end : group_ends) {
        if (group_end > result.drawn) end = std::min(end, group_end);
      }
      for (; result.drawn < end; ++result.drawn) {
        pool.emplace_back(documents[result.drawn].begin(), documents[result.drawn].end());
      }
    }
    const size_t left = kSeqLen + 1 - result.rows.size() % (kSeqLen + 1);
    size_t best = pool.size();
    for (size_t i = 0; i < pool.size(); ++i) {
      if (pool[i].size() <= left && (best == pool.size() || pool[i].size() > pool[best].size())) {
        best = i;
      }
    }
    if (best == pool.size()) {
      const auto shorter = [](const auto& a, const auto& b) { return a.size() < b.size(); };
      best =
          static_cast<size_t>(std::min_element(pool.begin(), pool.end(), shorter) - pool.begin());
      pool[best].resize(left);
    }
    result.rows.insert(result.rows.end(), pool[best].begin(), pool[best].end());
    pool.erase(pool.begin() + static_cast<ptrdiff_t>(best));
  }
  return result;
}

TEST(HoldOutInOrder, ValIsUpstreamsFirstRowsAndTestFollowsTheLastDocumentDrawn) {
  std::mt19937 random(1);
  TokenSequences documents;
  std::vector<size_t> group_ends;
  for (uint16_t i = 0; i < 9000; ++i) {
    documents.add(std::vector<uint16_t>(random() % 60, i), kBos);
    if (i % 301 == 300) group_ends.push_back(documents.size());
  }
  const HeldOut held = hold_out_in_order(documents, group_ends, 900, kSeqLen);
  ASSERT_EQ(held.rows, 900);
  const UpstreamRows val = upstream_rows(documents, group_ends, 0, 900);
  EXPECT_EQ(held.val, val.rows);
  EXPECT_EQ(held.val_documents, val.drawn);
  const UpstreamRows test = upstream_rows(documents, group_ends, val.drawn, 900);
  EXPECT_EQ(held.test, test.rows);
  EXPECT_EQ(held.val_documents + held.test_documents, test.drawn);
}

TEST(HoldOutInOrder, TestGetsFewerRowsBeforeValDoes) {
  const HeldOut some = hold_out_in_order(numbered_documents(3600, kSeqLen), {}, 1800, kSeqLen);
  EXPECT_EQ(some.rows, 1800);
  EXPECT_EQ(some.val.size(), 1800u * (kSeqLen + 1));
  EXPECT_LT(some.test.size(), some.val.size());
  EXPECT_GT(some.test.size(), some.val.size() / 5);
  const HeldOut few = hold_out_in_order(numbered_documents(3000, kSeqLen), {}, 100'000, kSeqLen);
  EXPECT_GT(few.rows, 500);
  EXPECT_LT(few.rows, 2000);
  EXPECT_EQ(hold_out_in_order(numbered_documents(3, 4), {}, 10, kSeqLen).rows, 0);
}

TEST_F(SplitsTest, ShardsHoldEveryTokenOnceInPassages) {
  ShardWriter writer(dir_, ShardWriter::kShuffledPassages, kSeqLen, kBos);
  std::map<uint16_t, size_t> expected;
  for (uint16_t i = 0; i < 100; ++i) {
    writer.add(std::vector<uint16_t>(i, i));
    if (i > 0) expected[i] = i;
  }
  const SplitInfo info = writer.finish();
  const std::vector<uint16_t> tokens = shard("00000.bin");
  EXPECT_EQ(info.tokens, static_cast<int64_t>(tokens.size()));
  EXPECT_EQ(info.sha256, split_sha256({dir_ / "00000.bin"}));
  std::map<uint16_t, size_t> counts;
  size_t length = 0, longest = 0;
  for (const uint16_t id : tokens) {
    length = id == kBos ? 0 : length + 1;
    longest = std::max(longest, length);
    if (id != kBos) ++counts[id];
  }
  EXPECT_EQ(tokens[0], kBos);
  EXPECT_EQ(counts, expected);
  EXPECT_EQ(longest, static_cast<size_t>(kSeqLen));
}

TEST_F(SplitsTest, ShardsAreShuffledAlikeEveryTime) {
  std::string before;
  for (int i = 0; i < 2; ++i) {
    ShardWriter writer(dir_, ShardWriter::kShuffledPassages, kSeqLen, kBos);
    for (uint16_t d = 0; d < 100; ++d) writer.add(std::vector<uint16_t>(10, d));
    writer.finish();
    const std::string bytes = read_file(dir_ / "00000.bin");
    if (i > 0) {
      EXPECT_EQ(bytes, before);
    }
    before = bytes;
  }
  const std::vector<uint16_t> tokens = shard("00000.bin");
  std::vector<uint16_t> order;
  for (size_t i = 1; i < tokens.size(); i += 11) order.push_back(tokens[i]);
  EXPECT_FALSE(std::is_sorted(order.begin(), order.end()));
}

TEST_F(SplitsTest, NoShardIsLargerThanAllowed) {
  ShardWriter writer(dir_, ShardWriter::kShuffledPassages, kSeqLen, kBos, /*shard_tokens=*/100);
  writer.add(std::vector<uint16_t>(1000, 1));  // a document that no shard can hold
  const SplitInfo info = writer.finish();
  size_t files = 0, tokens = 0;
  for (const auto& entry : fs::directory_iterator(dir_)) {
    ++files;
    tokens += entry.file_size() / 2;
    EXPECT_LE(entry.file_size(), 200u);
  }
  EXPECT_EQ(static_cast<int64_t>(tokens), info.tokens);
  EXPECT_EQ(info.tokens, 1000 + 32);
  EXPECT_EQ(files, 11u);
}

TEST_F(SplitsTest, WholeDocumentsStayWholeAndInOrder) {
  ShardWriter writer(dir_, ShardWriter::kAsTheyCome, kSeqLen, kBos, /*shard_tokens=*/100);
  std::vector<uint16_t> expected;
  for (uint16_t i = 0; i < 50; ++i) {
    writer.add(std::vector<uint16_t>(i, i));
    expected.push_back(kBos);
    expected.insert(expected.end(), i, i);
  }
  EXPECT_EQ(writer.finish().tokens, static_cast<int64_t>(expected.size()));
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(dir_)) files.push_back(entry.path().filename());
  std::sort(files.begin(), files.end());
  EXPECT_GT(files.size(), 10u);
  std::vector<uint16_t> tokens;
  for (const fs::path& file : files) {
    const std::vector<uint16_t> part = shard(file);
    EXPECT_EQ(part[0], kBos);
    tokens.insert(tokens.end(), part.begin(), part.end());
  }
  EXPECT_EQ(tokens, expected);
}

}  // namespace
}  // namespace autoresearch
