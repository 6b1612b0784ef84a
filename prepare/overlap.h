// How much of the validation text a model can have learned by heart.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

namespace autoresearch {

// The share of a held-out split's runs of 50 tokens that also occur in training documents, as Lee
// et al. count what is memorized (arXiv 2107.06499). Of many runs, a sample is looked for: those
// whose hash ends in enough zeros, which are the same ones in every text.
class Overlap {
 public:
  static constexpr size_t kRun = 50;  // tokens

  // `tokens` of the split; no run goes across `bos`. At most `most` runs are looked for, roughly.
  Overlap(std::span<const uint16_t> tokens, int64_t bos, size_t most = 1 << 14);

  // Takes a training document in, without BOS.
  void add(std::span<const uint16_t> document);

  // From 0 to 1; none if the split has no run that long.
  std::optional<double> share() const;

 private:
  struct Run {
    int64_t times = 0;  // in the split
    bool found = false;
  };
  std::unordered_map<uint64_t, Run> runs_;  // by hash
  uint64_t mask_ = 0;                       // bits that are zero in the hash of one looked for
};

}  // namespace autoresearch
