#include "prepare/splits.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <numeric>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <utility>

#include "common/error.h"
#include "task/packing.h"

namespace autoresearch {
namespace {

constexpr int64_t kEnoughToDrawFrom = 4'000'000;  // tokens: of thousands of documents

// Calls `on_passage` for each passage of a document.
template <typename OnPassage>
void cut(std::span<const uint16_t> document, int64_t seq_len, OnPassage on_passage) {
  while (!document.empty()) {
    const size_t length = std::min(document.size(), static_cast<size_t>(seq_len));
    on_passage(document.first(length));
    document = document.subspan(length);
  }
}

// The numbers below `count` in an order that depends on nothing but `seed`: Fisher and Yates by
// hand, since what std::shuffle does with a generator differs between libraries.
std::vector<size_t> shuffled(size_t count, uint64_t seed) {
  std::vector<size_t> order(count);
  std::iota(order.begin(), order.end(), 0);
  std::mt19937_64 random(seed);
  for (size_t i = count; i > 1; --i) std::swap(order[i - 1], order[random() % i]);
  return order;
}

// The next `rows` rows of `packer`, if it has as many.
std::optional<std::vector<uint16_t>> pack(Packer& packer, int64_t rows, int64_t row_tokens) {
  std::vector<uint16_t> packed(static_cast<size_t>(rows * row_tokens));
  for (auto rest = std::span(packed); !rest.empty();) {
    if (!packer.next_row(rest.first(static_cast<size_t>(row_tokens)))) return {};
    rest = rest.subspan(static_cast<size_t>(row_tokens));
  }
  return packed;
}

// Rows packed from passages in `order`, all of which may be used.
std::optional<std::vector<uint16_t>> pack_passages(const TokenSequences& passages,
                                                   std::span<const size_t> order, int64_t rows,
                                                   int64_t row_tokens) {
  Packer packer(row_tokens, [&](std::vector<Packer::Document>& batch) {
    const size_t count = std::min(Packer::kBatch, order.size());
    for (const size_t i : order.first(count)) batch.push_back(passages[i]);
    order = order.subspan(count);
  });
  return pack(packer, rows, row_tokens);
}

// Packs rows from a random sample of passages that is just large enough. Given more than it needs,
// the packer would leave the short ones over, and short documents would never be scored.
std::optional<std::vector<uint16_t>> sample_rows(const TokenSequences& passages, int64_t rows,
                                                 int64_t row_tokens) {
  const std::vector<size_t> order = shuffled(passages.size(), 0);
  const auto wanted = static_cast<size_t>(rows * row_tokens);
  size_t used = 0, tokens = 0;
  while (used < order.size()) {
    const size_t until = used + std::max<size_t>(1, used / 50);
    for (; used < order.size() && (used < until || tokens < wanted); ++used) {
      tokens += passages[order[used]].size();
    }
    auto packed = pack_passages(passages, std::span(order).first(used), rows, row_tokens);
    if (packed) return packed;
  }
  return {};
}

int64_t fewer(int64_t rows) { return rows - std::max<int64_t>(1, rows / 10); }

struct Split {
  std::vector<uint16_t> rows;
  size_t documents = 0;
};

// Rows from documents[begin, begin + n), with n so large that `draw_from` tokens are there, and
// more where those can't fill the rows.
std::optional<Split> take_split(const TokenSequences& documents, size_t begin, int64_t rows,
                                int64_t seq_len, int64_t bos, size_t draw_from) {
  TokenSequences passages;
  for (size_t end = begin; end < documents.size();) {
    const size_t until = end + std::max<size_t>(1, (end - begin) / 50);
    for (; end < documents.size() && (end < until || passages.tokens.size() < draw_from); ++end) {
      cut(documents[end].subspan(1), seq_len, [&](auto passage) { passages.add(passage, bos); });
    }
    auto packed = sample_rows(passages, rows, seq_len + 1);
    if (packed) return Split{std::move(*packed), end - begin};
  }
  return {};
}

// Rows as upstream's loader packs them from documents[begin, ...): drawn in batches that do not
// cross the end of a row group.
std::optional<Split> take_split_in_order(const TokenSequences& documents,
                                         const std::vector<size_t>& group_ends, size_t begin,
                                         int64_t rows, int64_t seq_len) {
  size_t next = begin;
  Packer packer(seq_len + 1, [&](std::vector<Packer::Document>& batch) {
    const auto group_end = std::upper_bound(group_ends.begin(), group_ends.end(), next);
    const size_t limit = group_end == group_ends.end() ? documents.size() : *group_end;
    const size_t end = std::min(next + Packer::kBatch, limit);
    for (; next < end; ++next) batch.push_back(documents[next]);
  });
  auto packed = pack(packer, rows, seq_len + 1);
  if (!packed) return {};
  return Split{std::move(*packed), static_cast<size_t>(packer.drawn())};
}

}  // namespace

std::string_view as_bytes(const std::vector<uint16_t>& tokens) {
  return {reinterpret_cast<const char*>(tokens.data()), 2 * tokens.size()};
}

int64_t rows_wanted(int64_t eval_tokens, int64_t seq_len) {
  return std::max<int64_t>(1, eval_tokens / seq_len);
}

int64_t rows_affordable(int64_t wanted, int64_t seq_len, int64_t corpus_tokens) {
  const int64_t twentieth = corpus_tokens / 20 / (seq_len + 1);
  return std::clamp<int64_t>(twentieth, 1, wanted);
}

int64_t tokens_drawn_from(int64_t rows, int64_t seq_len, int64_t corpus_tokens) {
  const int64_t needed = rows * (seq_len + 1);
  return std::max(needed, std::min({8 * needed, kEnoughToDrawFrom, corpus_tokens / 20}));
}

int64_t documents_to_set_aside(DocumentReader& reader, int64_t documents, int64_t bytes,
                               int64_t rows, int64_t seq_len) {
  check(documents >= 3,
        fmt::format("the corpus has only {} different document(s), and val, test and train need "
                    "one each; give more text with --source",
                    documents));
  const int64_t tokens = 2 * tokens_drawn_from(rows, seq_len, std::numeric_limits<int64_t>::max());
  const int64_t wanted = std::min(8 * tokens, bytes * 3 / 20);
  int64_t used = 0, taken = 0;
  for (std::string document; used < documents - 1 && (used < 2 || taken < wanted); ++used) {
    if (!reader.next(document)) break;
    taken += static_cast<int64_t>(document.size());
  }
  return used;
}

HeldOut hold_out(const TokenSequences& documents, int64_t rows, int64_t seq_len, int64_t bos,
                 int64_t corpus_tokens) {
  for (; rows > 0; rows = fewer(rows)) {
    // Documents are lumps: where few were set aside, val must leave some for test.
    const size_t draw_from =
        std::min(static_cast<size_t>(tokens_drawn_from(rows, seq_len, corpus_tokens)),
                 (documents.tokens.size() - documents.size()) / 2);
    auto val = take_split(documents, 0, rows, seq_len, bos, draw_from);
    if (!val) continue;
    auto test = take_split(documents, val->documents, rows, seq_len, bos, draw_from);
    if (!test) continue;
    return {std::move(val->rows), std::move(test->rows), val->documents, test->documents, rows};
  }
  return {};
}

HeldOut hold_out_in_order(const TokenSequences& documents, const std::vector<size_t>& group_ends,
                          int64_t rows, int64_t seq_len) {
  for (; rows > 0; rows = fewer(rows)) {
    auto val = take_split_in_order(documents, group_ends, 0, rows, seq_len);
    if (!val) continue;
    for (int64_t test_rows = rows; test_rows > rows / 4; test_rows = fewer(test_rows)) {
      auto test = take_split_in_order(documents, group_ends, val->documents, test_rows, seq_len);
      if (!test) continue;
      return {std::move(val->rows), std::move(test->rows), val->documents, test->documents, rows};
    }
  }
  return {};
}

ShardWriter::ShardWriter(fs::path folder, Order order, int64_t seq_len, int64_t bos,
                         int64_t shard_tokens)
    : folder_(std::move(folder)),
      order_(order),
      seq_len_(seq_len),
      bos_(bos),
      shard_tokens_(static_cast<size_t>(shard_tokens)) {}

void ShardWriter::add(std::span<const uint16_t> document) {
  if (order_ == kAsTheyCome) return append(document);
  cut(document, seq_len_, [&](std::span<const uint16_t> passage) { append(passage); });
}

void ShardWriter::append(std::span<const uint16_t> ids) {
  if (shard_.tokens.size() + ids.size() + 1 > shard_tokens_) flush();
  shard_.add(ids, bos_);
}

void ShardWriter::flush() {
  if (shard_.size() == 0) return;
  if (order_ == kShuffledPassages) {
    std::vector<uint16_t> tokens;
    tokens.reserve(shard_.tokens.size());
    for (const size_t i : shuffled(shard_.size(), files_.size())) {
      tokens.insert(tokens.end(), shard_[i].begin(), shard_[i].end());
    }
    shard_.tokens = std::move(tokens);
  }
  files_.push_back(folder_ / fmt::format("{:05}.bin", files_.size()));
  write_file(files_.back(), as_bytes(shard_.tokens));
  tokens_ += static_cast<int64_t>(shard_.tokens.size());
  shard_.tokens.clear();
  shard_.ends.clear();
}

SplitInfo ShardWriter::finish() {
  flush();
  SplitInfo info;
  info.tokens = tokens_;
  info.sha256 = split_sha256(files_);
  return info;
}

}  // namespace autoresearch
