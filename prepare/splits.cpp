#include "prepare/splits.h"

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <exception>
#include <limits>
#include <numeric>
#include <optional>
#include <random>
#include <string_view>
#include <thread>
#include <utility>

#include "common/error.h"
#include "prepare/packing.h"

namespace autoresearch {
namespace {

constexpr int64_t kBatchBytes = 4 << 20;          // of text that is encoded before it is handed on
constexpr int64_t kEnoughToDrawFrom = 4'000'000;  // tokens: of thousands of documents

std::string_view as_bytes(const std::vector<uint16_t>& tokens) {
  return {reinterpret_cast<const char*>(tokens.data()), 2 * tokens.size()};
}

// Calls `on_passage` for each passage of a document.
template <typename OnPassage>
void cut(std::span<const uint16_t> document, int64_t seq_len, OnPassage on_passage) {
  while (!document.empty()) {
    const size_t length = std::min(document.size(), static_cast<size_t>(seq_len));
    on_passage(document.first(length));
    document = document.subspan(length);
  }
}

// Runs `work(i)` for i in [0, count) on `workers` threads, and throws what the first of them threw.
void in_parallel(size_t count, int64_t workers, const std::function<void(size_t)>& work) {
  std::atomic<size_t> next{0};
  std::atomic<bool> failed{false};
  std::exception_ptr failure;
  const auto loop = [&] {
    try {
      for (size_t i; !failed && (i = next++) < count;) work(i);
    } catch (...) {
      if (!failed.exchange(true)) failure = std::current_exception();
    }
  };
  {
    std::vector<std::jthread> threads;
    for (int64_t i = 1; i < workers; ++i) threads.emplace_back(loop);
    loop();
  }
  if (failure) std::rethrow_exception(failure);
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

// Rows packed from passages in `order`, all of which may be used.
std::optional<std::vector<uint16_t>> pack(const Passages& passages, std::span<const size_t> order,
                                          size_t rows, size_t row_tokens) {
  size_t next = 0;
  Packer packer(static_cast<int64_t>(row_tokens), [&](std::vector<Packer::Document>& batch) {
    while (batch.size() < Packer::kBatch && next < order.size())
      batch.push_back(passages[order[next++]]);
  });
  std::vector<uint16_t> packed(rows * row_tokens);
  for (size_t r = 0; r < rows; ++r) {
    if (!packer.next_row(std::span(packed).subspan(r * row_tokens, row_tokens))) return {};
  }
  return packed;
}

// Packs rows from a random sample of passages that is just large enough. Given more than it needs,
// the packer would leave the short ones over, and short documents would never be scored.
std::optional<std::vector<uint16_t>> sample_rows(const Passages& passages, size_t rows,
                                                 size_t row_tokens) {
  const std::vector<size_t> order = shuffled(passages.ends.size(), 0);
  size_t used = 0, tokens = 0;
  while (used < order.size()) {
    const size_t until = used + std::max<size_t>(1, used / 50);
    for (; used < order.size() && (used < until || tokens < rows * row_tokens); ++used) {
      tokens += passages[order[used]].size();
    }
    if (auto packed = pack(passages, std::span(order).first(used), rows, row_tokens)) return packed;
  }
  return {};
}

struct Split {
  std::vector<uint16_t> rows;
  size_t documents = 0;
};

// Rows from documents[0, n), with n so large that `draw_from` tokens are there, and more where
// those can't fill the rows.
std::optional<Split> take_split(std::span<const std::vector<uint16_t>> documents, int64_t rows,
                                int64_t seq_len, int64_t bos, size_t draw_from) {
  Passages passages;
  for (size_t used = 0; used < documents.size();) {
    const size_t until = used + std::max<size_t>(1, used / 50);
    for (; used < documents.size() && (used < until || passages.tokens.size() < draw_from);
         ++used) {
      cut(documents[used], seq_len, [&](auto passage) { passages.add(passage, bos); });
    }
    auto packed =
        sample_rows(passages, static_cast<size_t>(rows), static_cast<size_t>(seq_len + 1));
    if (packed) return Split{std::move(*packed), used};
  }
  return {};
}

}  // namespace

void Passages::add(std::span<const uint16_t> passage, int64_t bos) {
  tokens.push_back(static_cast<uint16_t>(bos));
  tokens.insert(tokens.end(), passage.begin(), passage.end());
  ends.push_back(tokens.size());
}

std::span<const uint16_t> Passages::operator[](size_t i) const {
  const size_t begin = i == 0 ? 0 : ends[i - 1];
  return std::span(tokens).subspan(begin, ends[i] - begin);
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

size_t documents_to_set_aside(const Corpus& corpus, int64_t rows, int64_t seq_len) {
  const size_t count = corpus.documents.size();
  check(count >= 3, "the corpus has only " + std::to_string(count) +
                        " different document(s), and val, test and train need one each; give more "
                        "text with --source");
  const int64_t tokens = 2 * tokens_drawn_from(rows, seq_len, std::numeric_limits<int64_t>::max());
  const int64_t wanted = std::min(8 * tokens, corpus.bytes * 3 / 20);
  size_t used = 0;
  for (int64_t bytes = 0; used < count - 1 && (used < 2 || bytes < wanted); ++used) {
    bytes += corpus.documents[used].bytes;
  }
  return used;
}

void encode_documents(const Corpus& corpus, const Tokenizer& tokenizer, size_t begin, size_t end,
                      int64_t workers,
                      const std::function<void(size_t, std::span<const uint16_t>)>& on_document) {
  while (begin < end) {
    size_t until = begin;
    for (int64_t bytes = 0; until < end && bytes < kBatchBytes; ++until) {
      bytes += corpus.documents[until].bytes;
    }
    std::vector<std::vector<uint16_t>> encoded(until - begin);
    in_parallel(encoded.size(), workers, [&](size_t i) {
      tokenizer.encode(corpus.text(corpus.documents[begin + i]), encoded[i]);
    });
    for (size_t i = 0; i < encoded.size(); ++i) on_document(begin + i, encoded[i]);
    begin = until;
  }
}

HeldOut hold_out(const std::vector<std::vector<uint16_t>>& documents, int64_t rows, int64_t seq_len,
                 int64_t bos, int64_t corpus_tokens) {
  const std::span<const std::vector<uint16_t>> all(documents);
  size_t set_aside = 0;
  for (const auto& document : documents) set_aside += document.size();
  for (; rows > 0; rows -= std::max<int64_t>(1, rows / 10)) {
    // Documents are lumps: where few were set aside, val must leave some for test.
    const size_t draw_from = std::min(
        static_cast<size_t>(tokens_drawn_from(rows, seq_len, corpus_tokens)), set_aside / 2);
    auto val = take_split(all, rows, seq_len, bos, draw_from);
    if (!val) continue;
    auto test = take_split(all.subspan(val->documents), rows, seq_len, bos, draw_from);
    if (!test) continue;
    return {std::move(val->rows), std::move(test->rows), val->documents, test->documents, rows};
  }
  return {};
}

ShardWriter::ShardWriter(fs::path folder, int64_t seq_len, int64_t bos, int64_t shard_tokens)
    : folder_(std::move(folder)),
      seq_len_(seq_len),
      bos_(bos),
      shard_tokens_(static_cast<size_t>(shard_tokens)) {}

void ShardWriter::add(std::span<const uint16_t> document) {
  cut(document, seq_len_, [&](std::span<const uint16_t> passage) {
    if (passages_.tokens.size() + passage.size() + 1 > shard_tokens_) flush();
    passages_.add(passage, bos_);
  });
}

void ShardWriter::flush() {
  if (passages_.ends.empty()) return;
  std::vector<uint16_t> shard;
  shard.reserve(passages_.tokens.size());
  for (const size_t i : shuffled(passages_.ends.size(), files_.size())) {
    const std::span<const uint16_t> passage = passages_[i];
    shard.insert(shard.end(), passage.begin(), passage.end());
  }
  char name[32];
  std::snprintf(name, sizeof name, "%05zu.bin", files_.size());
  files_.push_back(folder_ / name);
  write_file(files_.back(), as_bytes(shard));
  tokens_ += static_cast<int64_t>(shard.size());
  passages_ = {};
}

SplitInfo ShardWriter::finish() {
  flush();
  SplitInfo info;
  info.tokens = tokens_;
  info.sha256 = split_sha256(files_);
  return info;
}

}  // namespace autoresearch
