// Which row each runner sees in which version: the plan of a scoring, pure and without torch.
//
// A *runner* is a process that runs the sealed graph on batches of token ids. A graph may try to
// use what it must not know: tokens that it is yet to predict, other rows, or what an earlier batch
// left in memory. Two runners therefore see a probed row in two versions: the original, which is
// scored, and one whose tokens from a random cut on are those of another row. Logits before the
// cut have to agree. Neither runner can tell which version it has, and no token of the split comes
// to the same runner twice.
#pragma once

#include <cstdint>
#include <random>
#include <span>
#include <vector>

#include "task/effort.h"

namespace autoresearch {

// The system's entropy, never a seed: a candidate must not be able to tell which rows are probed.
using Entropy = std::random_device;

// What one runner gets in one place of one batch: tokens [0, cut) of `row`, the others of `donor`.
struct Version {
  int64_t row = -1;    // -1: a filler of random tokens, which is neither scored nor compared
  int64_t cut = 0;     // 0: the original
  int64_t donor = -1;  // -1: single tokens from all over the split

  bool filler() const { return row < 0; }
  bool original() const { return row >= 0 && cut == 0; }
};

// Indexed by runner and place. All versions of a row stand in the same place of the same batch,
// for a matrix product may round differently in another place.
using PlannedBatch = std::vector<std::vector<Version>>;

// Fresh runners go through all batches once. Every row is scored once; `cuts` versions are altered.
struct Wave {
  int64_t runners = 0, cuts = 0;
  std::vector<PlannedBatch> batches;
};

// The plan of one wave over rows of `seq_len` tokens, `tokens[row * stride + t]`. A row's place is
// its number modulo `batch`, so that its logits, and so the score, are the same in every scoring.
// Everything else is drawn from `entropy`. `cuts` deals cuts 1 ... seq_len - 1 and is shared by the
// waves of a scoring, so that they cover what positions they can.
class CutDeck {
 public:
  CutDeck(int64_t seq_len, Entropy& entropy);  // throws Error unless seq_len > 1
  int64_t next();

 private:
  Entropy& entropy_;
  std::vector<int64_t> deck_;
  size_t next_ = 0;
};

struct Rows {
  std::span<const uint16_t> tokens;
  int64_t count = 0, stride = 0, seq_len = 0, vocab_size = 0;

  uint16_t at(int64_t row, int64_t t) const {
    return tokens[static_cast<size_t>(row * stride + t)];
  }
};

Wave plan_wave(const Rows& rows, int64_t batch, const Effort& effort, CutDeck& cuts,
               Entropy& entropy);

// The token ids of a version.
std::vector<uint16_t> ids_of(const Version& version, const Rows& rows, Entropy& entropy);

}  // namespace autoresearch
