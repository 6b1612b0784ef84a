// From documents to token files: which are held out, how rows of them are packed, and how the
// others are written.
//
// Two kinds of corpus. Of files of one's own, documents are in the order of a hash
// (prepare/shuffle.h), so a prefix of them is a fair sample: the first go to val, the next to test,
// all others to train. Before the tokenizer is trained, a prefix surely large enough is set aside
// (it must learn from training documents only); what val and test leave of it goes to train. A
// document is cut into passages of at most seq_len tokens after a BOS: the packer drops what
// overhangs a row, which would lose most of a corpus of long files.
//
// Of a corpus from the hub, figures must compare with upstream's: documents stay whole and in
// order, and one pinned file is held out.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "prepare/encode.h"
#include "task/task.h"

namespace autoresearch {

constexpr int64_t kShardTokens = 100'000'000;

// Tokens as they stand in a task's files.
std::string_view as_bytes(const std::vector<uint16_t>& tokens);

// The held-out splits, packed into rows of seq_len + 1 tokens.
struct HeldOut {
  std::vector<uint16_t> val, test;
  size_t val_documents = 0, test_documents = 0;  // documents[0, val), then [val, val + test)
  int64_t rows = 0;  // in val, and in test unless stated; 0: not even one can be filled
};

// Rows that eval_tokens ask for, at least one.
int64_t rows_wanted(int64_t eval_tokens, int64_t seq_len);

// `wanted` rows, unless val and test would take more than a tenth of the corpus: then what a
// twentieth of it gives each, at least one.
int64_t rows_affordable(int64_t wanted, int64_t seq_len, int64_t corpus_tokens);

// Tokens of documents that `rows` are drawn from: where few rows are wanted, eight times as many as
// they hold, within a twentieth of the corpus, or the score would hang on a dozen documents.
int64_t tokens_drawn_from(int64_t rows, int64_t seq_len, int64_t corpus_tokens);

// How many of the first documents of a corpus to set aside: enough for `rows` in both splits at
// eight bytes a token, at most three twentieths of the corpus, at least two documents. `reader`
// yields the corpus, of `documents` documents and `bytes` of text. Throws Error for fewer than
// three documents.
int64_t documents_to_set_aside(DocumentReader& reader, int64_t documents, int64_t bytes,
                               int64_t rows, int64_t seq_len);

// Packs val and test from the documents that were set aside, with as many of `rows` as those can
// fill: passages in a random order that depends on nothing but their number.
HeldOut hold_out(const TokenSequences& documents, int64_t rows, int64_t seq_len, int64_t bos,
                 int64_t corpus_tokens);

// As upstream evaluates: val is the first `rows` rows that its loader packs from the documents
// in order, test is packed likewise from those after the last one drawn for val. `group_ends` are
// the numbers of documents at which a row group ends. Where the documents can't fill so many, test
// gets fewer rows than val, or both do.
HeldOut hold_out_in_order(const TokenSequences& documents, const std::vector<size_t>& group_ends,
                          int64_t rows, int64_t seq_len);

// Writes training shards of at most `shard_tokens` into `folder` (one longer document apart).
class ShardWriter {
 public:
  enum Order {
    kShuffledPassages,  // cut; those of a shard shuffled, so that neighbours in a batch are not
                        // from one file
    kAsTheyCome         // whole
  };
  ShardWriter(fs::path folder, Order order, int64_t seq_len, int64_t bos,
              int64_t shard_tokens = kShardTokens);
  void add(std::span<const uint16_t> document);  // without BOS
  // Writes what is left. `tokens` and `sha256` of the result are filled in.
  SplitInfo finish();

 private:
  void append(std::span<const uint16_t> ids);
  void flush();
  fs::path folder_;
  Order order_;
  int64_t seq_len_, bos_;
  size_t shard_tokens_;
  TokenSequences shard_;
  std::vector<fs::path> files_;
  int64_t tokens_ = 0;
};

}  // namespace autoresearch
