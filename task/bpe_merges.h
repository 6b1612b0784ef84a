// Learns the merges of a byte-pair encoding (Sennrich et al., arXiv 1508.07909) from the counts of
// distinct pieces: the most frequent pair of adjacent tokens becomes a token, over and over. Ties
// go to the smaller pair, as in rustbpe 0.1.0, whose merges these are.
//
// Where a pair occurs is kept for frequent pairs only. A pair's count never rises once all its
// occurrences are there, which is after the merge that made the younger of its tokens; so a rare
// pair can't be the next to merge while a more frequent one is left. When none is, all pairs are
// counted anew and the frequent ones among those chosen. This bounds the memory: a piece takes
// two bytes a token and eight, whatever its pairs.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "task/bpe_counts.h"

namespace autoresearch {

constexpr size_t kOccurrences = 32'000'000;  // of frequent pairs that are kept, or an eighth of all

// Tokens by rank: the 256 bytes, then the merges, `size` tokens in all, or fewer where no pair is
// left. `counts` is used up. `merged`, if given, hears how many merges are done; what it throws
// ends the work. The result does not depend on `occurrences`.
std::vector<std::string> learn_merges(PieceCounts& counts, size_t size,
                                      const std::function<void(int64_t merges)>& merged = {},
                                      size_t occurrences = kOccurrences);

}  // namespace autoresearch
