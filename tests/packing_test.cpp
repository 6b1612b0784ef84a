#include "prepare/packing.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

namespace autoresearch {
namespace {

using Documents = std::vector<std::vector<uint16_t>>;
using Rows = std::vector<std::vector<uint16_t>>;

// The ancestor's loader, word for word: a list, searched from its beginning for every placement.
Rows reference_rows(const Documents& documents, size_t row_tokens) {
  Rows rows;
  Documents pool;
  size_t next = 0;
  for (;;) {
    std::vector<uint16_t> row;
    while (row.size() < row_tokens) {
      while (pool.size() < Packer::kPool && next < documents.size()) {
        for (size_t i = 0; i < Packer::kRefill && next < documents.size(); ++i) {
          pool.push_back(documents[next++]);
        }
      }
      if (pool.empty()) return rows;
      const size_t left = row_tokens - row.size();
      int best = -1;
      size_t best_length = 0;
      for (size_t i = 0; i < pool.size(); ++i) {
        if (pool[i].size() <= left && pool[i].size() > best_length) {
          best = static_cast<int>(i);
          best_length = pool[i].size();
        }
      }
      if (best < 0) {
        best = static_cast<int>(
            std::min_element(pool.begin(), pool.end(),
                             [](const auto& a, const auto& b) { return a.size() < b.size(); }) -
            pool.begin());
      }
      const std::vector<uint16_t>& document = pool[static_cast<size_t>(best)];
      row.insert(row.end(), document.begin(),
                 document.begin() + static_cast<ptrdiff_t>(std::min(left, document.size())));
      pool.erase(pool.begin() + best);
    }
    rows.push_back(row);
  }
}

Rows packed_rows(const Documents& documents, size_t row_tokens) {
  size_t next = 0;
  Packer packer(static_cast<int64_t>(row_tokens), [&]() -> std::span<const uint16_t> {
    if (next == documents.size()) return {};
    return documents[next++];
  });
  Rows rows;
  std::vector<uint16_t> row(row_tokens);
  while (packer.next_row(row)) rows.push_back(row);
  EXPECT_FALSE(packer.next_row(row));  // an ended supply stays ended
  return rows;
}

Documents random_documents(size_t count, size_t longest, uint64_t seed) {
  std::mt19937_64 random(seed);
  Documents documents(count);
  for (auto& document : documents) {
    document.resize(1 + random() % longest);
    for (uint16_t& id : document) id = static_cast<uint16_t>(random());
  }
  return documents;
}

TEST(Packing, PacksAsTheAncestorDoes) {
  uint64_t seed = 0;
  for (const size_t count : {0, 1, 5, 999, 1000, 1001, 3000}) {
    for (const size_t longest : {3, 40, 400}) {
      const Documents documents = random_documents(count, longest, ++seed);
      EXPECT_EQ(packed_rows(documents, 65), reference_rows(documents, 65))
          << count << " documents of up to " << longest;
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
