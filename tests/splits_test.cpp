#include "prepare/splits.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <set>

#include "common/error.h"

namespace autoresearch {
namespace {

constexpr int64_t kBos = 60000;
constexpr int64_t kSeqLen = 32;

using Documents = std::vector<std::vector<uint16_t>>;

// `count` documents of which every id names its document.
Documents numbered_documents(size_t count, size_t tokens) {
  Documents documents;
  for (size_t i = 0; i < count; ++i) documents.emplace_back(tokens, static_cast<uint16_t>(i));
  return documents;
}

std::set<uint16_t> ids_of(const std::vector<uint16_t>& rows) {
  std::set<uint16_t> ids(rows.begin(), rows.end());
  ids.erase(kBos);
  return ids;
}

class SplitsTest : public testing::Test {
 protected:
  SplitsTest() {
    char pattern[] = "/tmp/splits_test.XXXXXX";
    dir_ = mkdtemp(pattern);
  }
  ~SplitsTest() override { fs::remove_all(dir_); }

  std::vector<uint16_t> shard(const std::string& name) const {
    const std::string bytes = read_file(dir_ / name);
    std::vector<uint16_t> tokens(bytes.size() / 2);
    std::memcpy(tokens.data(), bytes.data(), bytes.size());
    return tokens;
  }

  fs::path dir_;
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
  Corpus corpus;
  EXPECT_THROW(documents_to_set_aside(corpus, 1, 16), Error);
  for (int i = 0; i < 1000; ++i) corpus.documents.push_back({{}, 0, 0, 100, 100});
  corpus.bytes = 100'000;
  EXPECT_EQ(documents_to_set_aside(corpus, 1, 16), 22u);  // 2 * 8 * 17 tokens of 8 bytes
  EXPECT_EQ(documents_to_set_aside(corpus, 1000, 16), 150u);
  corpus.documents.resize(3);
  corpus.bytes = 300;
  EXPECT_EQ(documents_to_set_aside(corpus, 1000, 16), 2u);
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
  Documents documents = numbered_documents(200, 100);
  for (size_t i = 0; i < documents.size(); i += 2) documents[i].resize(6);
  const HeldOut held = hold_out(documents, 20, kSeqLen, kBos, 1'000'000);
  size_t of_short = 0;
  for (const uint16_t id : held.val) of_short += id != kBos && id % 2 == 0;
  EXPECT_GT(of_short, 0u);
}

TEST_F(SplitsTest, ShardsHoldEveryTokenOnceInPassages) {
  ShardWriter writer(dir_, kSeqLen, kBos);
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
    ShardWriter writer(dir_, kSeqLen, kBos);
    for (const auto& document : numbered_documents(100, 10)) writer.add(document);
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
  ShardWriter writer(dir_, kSeqLen, kBos, /*shard_tokens=*/100);
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

TEST_F(SplitsTest, EncodingDoesNotDependOnTheNumberOfThreads) {
  std::vector<fs::path> files;
  for (int i = 0; i < 60; ++i) {
    files.push_back(dir_ / (std::to_string(i) + ".txt"));
    write_file(files.back(), "text number " + std::to_string(i) + std::string(i, 'x'));
  }
  const Corpus corpus = index_corpus(files);
  const Tokenizer tokenizer = Tokenizer::train({"text number text number"}, 270);
  std::vector<Documents> results;
  for (const int64_t workers : {1, 3}) {
    Documents& encoded = results.emplace_back();
    encode_documents(corpus, tokenizer, 5, 60, workers,
                     [&](size_t i, std::span<const uint16_t> ids) {
                       EXPECT_EQ(i, encoded.size() + 5);
                       encoded.emplace_back(ids.begin(), ids.end());
                     });
  }
  ASSERT_EQ(results[0].size(), 55u);
  EXPECT_EQ(results[0], results[1]);
  EXPECT_EQ(tokenizer.decode(results[0][7]), corpus.text(corpus.documents[12]));
}

TEST_F(SplitsTest, WhatAThreadThrowsIsThrown) {
  write_file(dir_ / "a.txt", "text");
  const Corpus corpus = index_corpus({dir_ / "a.txt"});
  write_file(dir_ / "a.txt", "gone");
  const Tokenizer tokenizer = Tokenizer::train({"text"}, 260);
  EXPECT_THROW(encode_documents(corpus, tokenizer, 0, 1, 4, [](size_t, auto) {}), Error);
}

}  // namespace
}  // namespace autoresearch
