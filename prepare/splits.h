// From an index of documents to token files: which documents are held out, and how each is cut.
//
// Documents are in the order of a hash, so a prefix of them is a fair sample: the first go to val,
// the next to test, all others to train. Before the tokenizer is trained, a prefix surely large
// enough is set aside (it must learn from training documents only); what val and test leave of it
// goes to train.
//
// A document is cut into passages of at most seq_len tokens after a BOS: the packer drops what
// overhangs a row, which would lose most of a corpus of long files.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "prepare/corpus.h"
#include "prepare/task.h"
#include "prepare/tokenizer.h"

namespace autoresearch {

constexpr int64_t kShardTokens = 100'000'000;

// Passages one after the other, each beginning with BOS.
struct Passages {
  std::vector<uint16_t> tokens;
  std::vector<size_t> ends;  // offset in `tokens` at which each passage ends

  void add(std::span<const uint16_t> passage, int64_t bos);
  std::span<const uint16_t> operator[](size_t i) const;
};

// The held-out splits, packed into rows of seq_len + 1 tokens.
struct HeldOut {
  std::vector<uint16_t> val, test;
  size_t val_documents = 0, test_documents = 0;  // documents[0, val), then [val, val + test)
  int64_t rows = 0;                              // in each; 0: not even one can be filled
};

// Rows that eval_tokens ask for, at least one.
int64_t rows_wanted(int64_t eval_tokens, int64_t seq_len);

// `wanted` rows, unless val and test would take more than a tenth of the corpus: then what a
// twentieth of it gives each, at least one.
int64_t rows_affordable(int64_t wanted, int64_t seq_len, int64_t corpus_tokens);

// Tokens of documents that `rows` are drawn from: where few rows are wanted, eight times as many as
// they hold, within a twentieth of the corpus, or the score would hang on a dozen documents.
int64_t tokens_drawn_from(int64_t rows, int64_t seq_len, int64_t corpus_tokens);

// How many documents to set aside: enough for `rows` in both splits at eight bytes a token, at most
// three twentieths of the corpus, at least two documents. Throws Error for fewer than three
// documents.
size_t documents_to_set_aside(const Corpus& corpus, int64_t rows, int64_t seq_len);

// Encodes documents[begin, end) with `workers` threads; `on_document` gets them in order, in this
// thread. The result does not depend on the number of threads.
void encode_documents(const Corpus& corpus, const Tokenizer& tokenizer, size_t begin, size_t end,
                      int64_t workers,
                      const std::function<void(size_t i, std::span<const uint16_t>)>& on_document);

// Packs val and test from the encoded documents that were set aside, with as many of `rows` as
// those can fill.
HeldOut hold_out(const std::vector<std::vector<uint16_t>>& documents, int64_t rows, int64_t seq_len,
                 int64_t bos, int64_t corpus_tokens);

// Writes training shards of at most `shard_tokens` into `folder`, the passages of each shuffled, so
// that neighbours in a batch are not from one file.
class ShardWriter {
 public:
  ShardWriter(fs::path folder, int64_t seq_len, int64_t bos, int64_t shard_tokens = kShardTokens);
  void add(std::span<const uint16_t> document);
  // Writes what is left. `tokens` and `sha256` of the result are filled in.
  SplitInfo finish();

 private:
  void flush();
  fs::path folder_;
  int64_t seq_len_, bos_;
  size_t shard_tokens_;
  Passages passages_;
  std::vector<fs::path> files_;
  int64_t tokens_ = 0;
};

}  // namespace autoresearch
