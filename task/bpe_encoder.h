// Byte-pair encoding of pieces (Sennrich et al., arXiv 1508.07909) with tiktoken's rules: a piece
// that is a token is that token; in any other, the adjacent parts whose joined bytes have the
// lowest rank are merged, the leftmost on ties, until no two make a token.
//
// Parts are always tokens, so that ranks are looked up by a pair of ids and never by bytes. Pieces
// that were met before are found in a cache: two hashed lookups of a few dozen bytes, where one
// merge after the other would take a hundred times as long.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace autoresearch {

class BpeEncoder {
 public:
  // What one thread needs: the cache, which outlives a call.
  class Scratch;
  struct ScratchDeleter {
    void operator()(Scratch* scratch) const;
  };
  using ScratchPointer = std::unique_ptr<Scratch, ScratchDeleter>;
  static ScratchPointer make_scratch();

  // `tokens` by rank, the 256 bytes first; it must outlive the encoder. If two tokens are the same
  // bytes, the first is the one that is used.
  explicit BpeEncoder(const std::vector<std::string>& tokens);

  // Cuts text into pieces (task/splitter.h) and appends the ids of each.
  void encode(std::string_view text, Scratch& scratch, std::vector<uint16_t>& ids) const;

 private:
  static constexpr uint16_t kNoRank = 0xFFFF;
  struct PairRank {
    uint32_t pair;
    uint16_t rank;
  };

  uint16_t pair_rank(uint16_t left, uint16_t right) const;
  void add_pair(PairRank added);
  void encode_pieces(const char* begin, std::span<const char* const> ends, const char* text_end,
                     Scratch& scratch, std::vector<uint16_t>& ids) const;
  size_t encode_piece(std::string_view piece, uint16_t* ids) const;
  size_t merge_short(std::string_view piece, uint16_t* ids) const;
  size_t merge_long(std::string_view piece, uint16_t* ids) const;
  void encode_long(std::string_view piece, std::vector<uint16_t>& ids) const;

  const std::vector<std::string>& tokens_;
  size_t chunk_;  // bytes of a long piece that are merged together: several of the longest token
  // Tokens that merging their bytes does not lead to; the text is the token list's.
  std::unordered_map<std::string_view, uint16_t> unmerged_;
  std::vector<uint16_t> byte_pair_ranks_;  // by first byte, then second
  std::vector<PairRank> pair_ranks_;       // a hash table with open addressing
  std::array<uint64_t, 2048> filter_{};
  int pair_shift_ = 0;  // its size is 2^(32 - pair_shift_)
};

}  // namespace autoresearch
