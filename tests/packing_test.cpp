#include "task/packing.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <random>
#include <vector>

#include "common/files.h"

namespace autoresearch {
namespace {

using Documents = std::vector<std::vector<uint16_t>>;
using Rows = std::vector<std::vector<uint16_t>>;
using Batch = std::vector<Packer::Document>;

// Documents and how many of them make up each batch.
struct Corpus {
  Documents documents;
  std::vector<size_t> batches;
};

struct Packed {
  Rows rows;
  std::vector<int64_t> drawn;  // after each row
  bool operator==(const Packed&) const = default;
};

// Takes and returns what upstream's loader would: a list, searched from its beginning.
std::vector<uint16_t> reference_take(Documents& pool, size_t left) {
  int best = -1;
  size_t best_length = 0;
  for (size_t i = 0; i < pool.size(); ++i) {
    if (pool[i].size() <= left && pool[i].size() > best_length) {
      best = static_cast<int>(i);
      best_length = pool[i].size();
    }
  }
  if (best < 0) {
    const auto shorter = [](const auto& a, const auto& b) { return a.size() < b.size(); };
    best = static_cast<int>(std::min_element(pool.begin(), pool.end(), shorter) - pool.begin());
  }
  std::vector<uint16_t> document = std::move(pool[static_cast<size_t>(best)]);
  pool.erase(pool.begin() + best);
  document.resize(std::min(left, document.size()));
  return document;
}

Packed reference(const Corpus& corpus, size_t row_tokens) {
  Packed packed;
  Documents pool;
  size_t batch = 0, next = 0;
  for (;;) {
    std::vector<uint16_t> row;
    while (row.size() < row_tokens) {
      for (; pool.size() < 1000 && batch < corpus.batches.size(); ++batch) {
        for (size_t i = 0; i < corpus.batches[batch]; ++i) pool.push_back(corpus.documents[next++]);
      }
      if (pool.empty()) return packed;
      const std::vector<uint16_t> document = reference_take(pool, row_tokens - row.size());
      row.insert(row.end(), document.begin(), document.end());
    }
    packed.rows.push_back(std::move(row));
    packed.drawn.push_back(static_cast<int64_t>(next));
  }
}

Packed packed(const Corpus& corpus, size_t row_tokens) {
  size_t batch = 0, next = 0;
  Packer packer(static_cast<int64_t>(row_tokens), [&](Batch& documents) {
    if (batch == corpus.batches.size()) return;
    for (size_t i = corpus.batches[batch++]; i > 0; --i)
      documents.push_back(corpus.documents[next++]);
  });
  EXPECT_EQ(packer.drawn(), 0);
  Packed result;
  std::vector<uint16_t> row(row_tokens);
  while (packer.next_row(row)) {
    result.rows.push_back(row);
    result.drawn.push_back(packer.drawn());
  }
  EXPECT_FALSE(packer.next_row(row));  // an ended supply stays ended
  EXPECT_EQ(packer.drawn(), static_cast<int64_t>(corpus.documents.size()));
  return result;
}

Rows packed_rows(const Documents& documents, size_t row_tokens) {
  return packed({documents, {documents.size()}}, row_tokens).rows;
}

// `count` documents of up to `longest` tokens, one in 20 up to 30 times that, in batches of up to
// `batch`.
Corpus random_corpus(std::mt19937_64& random, size_t count, size_t longest, size_t batch) {
  Corpus corpus;
  corpus.documents.resize(count);
  for (auto& document : corpus.documents) {
    document.resize(1 + random() % (random() % 20 == 0 ? 30 * longest : longest));
    for (uint16_t& id : document) id = static_cast<uint16_t>(random());
  }
  for (size_t left = count; left > 0; left -= corpus.batches.back())
    corpus.batches.push_back(std::min(left, 1 + random() % batch));
  return corpus;
}

TEST(Packing, PacksAsUpstreamsRuleWrittenDown) {
  std::mt19937_64 random(1);
  size_t rows = 0;
  for (const size_t count : {0, 1, 5, 999, 1000, 1001, 1128, 2500}) {
    for (int i = 0; i < 20; ++i) {
      const size_t longest = size_t{1} << random() % 9;  // few lengths: many ties
      const size_t row_tokens = 2 + random() % (size_t{1} << (2 + random() % 11));
      const Corpus corpus = random_corpus(random, count, longest, i % 2 ? 128 : 1 + random() % 128);
      const Packed expected = reference(corpus, row_tokens);
      rows += expected.rows.size();
      EXPECT_TRUE(packed(corpus, row_tokens) == expected)
          << count << " documents of up to " << longest << " in rows of " << row_tokens;
    }
  }
  EXPECT_GT(rows, 10'000u);
}

TEST(Packing, WhereBatchesEndDecidesWhatMeetsInThePool) {
  std::mt19937_64 random(2);
  Corpus corpus = random_corpus(random, 3000, 100, 128);
  const Packed some = packed(corpus, 300);
  corpus.batches.assign(3000, 1);
  EXPECT_NE(packed(corpus, 300).rows, some.rows);
}

// The documents of tests/data/packing_golden.py, in its batches, again and again.
class GoldenSupply {
 public:
  GoldenSupply(const nlohmann::json& golden, size_t longest) : bos_(golden.at("bos")) {
    size_t end = 0;
    for (const size_t size : golden.at("row_groups")) {
      for (size_t i = 0; i < size; i += Packer::kBatch)
        batch_ends_.push_back(end + std::min(size, i + Packer::kBatch));
      end += size;
    }
    for (size_t number = 0; number < end; ++number) documents_.push_back(make(number, longest));
  }
  void operator()(Batch& batch) {
    if (batch_ == batch_ends_.size()) batch_ = 0, ++epoch;
    for (size_t i = batch_ == 0 ? 0 : batch_ends_[batch_ - 1]; i < batch_ends_[batch_]; ++i)
      batch.push_back(documents_[i]);
    ++batch_;
  }
  int epoch = 1;

 private:
  std::vector<uint16_t> make(size_t number, size_t longest) const {
    const size_t length = 1 + (number * 2654435761 % (uint64_t{1} << 32) >> 16) % longest;
    std::vector<uint16_t> document(number % 50 == 0 ? 40 * length : length, bos_);
    for (size_t i = 1; i < document.size(); ++i)
      document[i] = static_cast<uint16_t>((31 * number + 7 * i) % bos_);
    return document;
  }
  uint16_t bos_;
  Documents documents_;
  std::vector<size_t> batch_ends_;
  size_t batch_ = 0;
};

TEST(Packing, MakesTheRowsThatUpstreamsOwnLoaderMade) {
  const auto golden =
      nlohmann::json::parse(read_file(SOURCE_DIR "/tests/data/packing_golden.json"));
  ASSERT_EQ(golden.at("cases").size(), 4u);
  for (const auto& expected : golden.at("cases")) {
    const int64_t row_tokens = expected.at("seq_len").get<int64_t>() + 1;
    GoldenSupply supply(golden, expected.at("longest"));
    Packer packer(row_tokens, std::ref(supply));
    std::vector<uint16_t> row(static_cast<size_t>(row_tokens));
    for (size_t batch = 0; batch < expected.at("batches").get<size_t>(); ++batch) {
      uint32_t hash = 2166136261;  // FNV-1a, a token at a time
      for (int r = expected.at("rows"); r > 0; --r) {
        ASSERT_TRUE(packer.next_row(row));
        for (const uint16_t token : row) hash = (hash ^ token) * 16777619;
      }
      ASSERT_EQ(hash, expected.at("hashes")[batch]) << "T " << row_tokens - 1 << ", " << batch;
      ASSERT_EQ(supply.epoch, expected.at("epochs")[batch]);
      ASSERT_EQ(packer.drawn(), expected.at("drawn")[batch]);
    }
  }
}

TEST(Packing, TheLongestThatFitsComesFirstAndTheEarliestOnTies) {
  const Documents documents = {{1}, {2, 2}, {3, 3, 3}, {4, 4, 4}, {5, 5}};
  EXPECT_EQ(packed_rows(documents, 5), (Rows{{3, 3, 3, 2, 2}, {4, 4, 4, 5, 5}}));
}

TEST(Packing, WhereNoneFitsTheShortestIsCropped) {
  const Documents documents = {{1, 1, 1, 1}, {2, 2, 2}, {3, 3, 3}};
  EXPECT_EQ(packed_rows(documents, 2), (Rows{{2, 2}, {3, 3}, {1, 1}}));
}

TEST(Packing, AnUnfilledRowIsNoRow) { EXPECT_EQ(packed_rows({{1, 1}, {2}}, 4), Rows{}); }

}  // namespace
}  // namespace autoresearch
