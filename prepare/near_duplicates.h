// Documents that are nearly the same, by MinHash (Broder, "On the resemblance and containment of
// documents", 1997), as Lee et al. use it on training text (arXiv 2107.06499).
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

namespace autoresearch {

// Knows a set of documents, and whether another one resembles one of them: whether, of all the
// five-token runs in either, at least seven in ten are in both. That is estimated: the share of
// hash functions that are least at the same run in both. 128 functions err by 0.04 or so, and
// documents are compared if any of 32 groups of four functions agree, which at seven in ten
// happens 9,998 times in 10,000.
class NearDuplicates {
 public:
  void add(std::span<const uint16_t> document);
  bool resembles(std::span<const uint16_t> document) const;

 private:
  static constexpr size_t kFunctions = 128, kGroup = 4, kShingle = 5;
  static constexpr double kNear = 0.7;
  using Signature = std::array<uint32_t, kFunctions>;

  static Signature signature_of(std::span<const uint16_t> document);
  static uint64_t key_of(const Signature& signature, size_t group);

  std::vector<Signature> signatures_;
  std::unordered_multimap<uint64_t, uint32_t> by_group_;  // to an index of a signature
};

}  // namespace autoresearch
