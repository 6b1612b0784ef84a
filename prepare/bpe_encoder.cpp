#include "prepare/bpe_encoder.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <functional>
#include <queue>
#include <utility>

#include "common/error.h"
#include "prepare/splitter.h"

namespace autoresearch {
namespace {

constexpr size_t kShortPiece = 256;  // bytes; up to here a scan for the lowest rank beats a heap
constexpr size_t kBlock = 4096;      // ids that are collected before they are appended

constexpr uint64_t kMultiplier = 0x9E3779B97F4A7C15u;

uint64_t mix(uint64_t a, uint64_t b) {
  const auto product = static_cast<unsigned __int128>(a) * b;
  return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

// A piece of at most 8 * kWords bytes, followed by zeros.
template <size_t kWords>
struct Key {
  uint64_t words[kWords];

  bool operator==(const Key& other) const {
    uint64_t difference = 0;
    for (size_t i = 0; i < kWords; ++i) difference |= words[i] ^ other.words[i];
    return difference == 0;
  }
  uint64_t hash() const {
    uint64_t hash = words[0];
    for (size_t i = 1; i < kWords; ++i) hash = mix(hash ^ kMultiplier, words[i] ^ kMultiplier);
    return hash * kMultiplier;
  }
};

// The ids of pieces of at most 8 * kWords bytes that are at most kIds tokens, in sets of two: a new
// one replaces the older of its set.
template <size_t kWords, size_t kIds, size_t kSetBits>
class PieceCache {
 public:
  static constexpr size_t kMaxBytes = 8 * kWords, kMaxIds = kIds;
  struct Entry {
    Key<kWords> key;
    uint16_t ids[kIds];
    uint8_t bytes, count;
  };

  // The entry of a piece, or nullptr.
  const Entry* find(const Key<kWords>& key, size_t bytes) const {
    const Entry* const set = sets_[key.hash() >> (64 - kSetBits)].entries;
    if (set[0].key == key && set[0].bytes == bytes) return &set[0];
    if (set[1].key == key && set[1].bytes == bytes) return &set[1];
    return nullptr;
  }

  void add(const Key<kWords>& key, size_t bytes, const uint16_t* ids, size_t count) {
    Entry* const set = sets_[key.hash() >> (64 - kSetBits)].entries;
    set[1] = set[0];
    set[0].key = key;
    set[0].bytes = static_cast<uint8_t>(bytes);
    set[0].count = static_cast<uint8_t>(count);
    std::copy(ids, ids + count, set[0].ids);
  }

 private:
  struct alignas(2 * sizeof(Entry)) Set {
    Entry entries[2];
  };
  std::vector<Set> sets_ = std::vector<Set>(size_t{1} << kSetBits);
};

// kMask[n] keeps n bytes of 16.
constexpr auto kMask = [] {
  std::array<std::array<uint64_t, 2>, 17> masks{};
  for (size_t n = 0; n <= 16; ++n) {
    for (size_t i = 0; i < n; ++i) masks[n][i / 8] |= uint64_t{0xFF} << 8 * (i % 8);
  }
  return masks;
}();

}  // namespace

class BpeEncoder::Scratch {
 public:
  PieceCache<2, 7, 16> small;
  PieceCache<8, 31, 12> large;
};

void BpeEncoder::ScratchDeleter::operator()(Scratch* scratch) const { delete scratch; }
BpeEncoder::ScratchPointer BpeEncoder::make_scratch() { return ScratchPointer(new Scratch); }

BpeEncoder::BpeEncoder(const std::vector<std::string>& tokens)
    : byte_pair_ranks_(1 << 16, kNoRank) {
  std::unordered_map<std::string_view, uint16_t> ranks;
  for (size_t i = 0; i < tokens.size(); ++i) ranks.emplace(tokens[i], static_cast<uint16_t>(i));
  const auto rank = [&](std::string_view bytes) {
    const auto found = ranks.find(bytes);
    return found == ranks.end() ? kNoRank : found->second;
  };
  std::vector<PairRank> pairs;
  for (const auto& [bytes, whole] : ranks) {
    for (size_t cut = 1; cut < bytes.size(); ++cut) {
      const uint16_t left = rank(bytes.substr(0, cut)), right = rank(bytes.substr(cut));
      if (left == kNoRank || right == kNoRank) continue;
      pairs.push_back({uint32_t{left} << 16 | right, whole});
      if (bytes.size() == 2) byte_pair_ranks_[size_t{left} << 8 | right] = whole;
    }
  }
  const size_t slots = std::bit_ceil(4 * pairs.size() + 4);
  pair_shift_ = 32 - std::countr_zero(slots);
  pair_ranks_.assign(slots, {0, kNoRank});
  for (const PairRank& pair : pairs) add_pair(pair);
  std::vector<uint16_t> ids;
  for (const auto& [bytes, whole] : ranks) {
    ids.resize(bytes.size());
    if (encode_piece(bytes, ids.data()) > 1) unmerged_.emplace(bytes, whole);
  }
}

void BpeEncoder::add_pair(PairRank added) {
  uint32_t slot = (added.pair * 0x9E3779B1u) >> pair_shift_;
  while (pair_ranks_[slot].rank != kNoRank) slot = (slot + 1) & (pair_ranks_.size() - 1);
  pair_ranks_[slot] = added;
}

// The rank of two tokens' joined bytes.
inline uint16_t BpeEncoder::pair_rank(uint16_t left, uint16_t right) const {
  const uint32_t pair = uint32_t{left} << 16 | right;
  uint32_t slot = (pair * 0x9E3779B1u) >> pair_shift_;
  while (pair_ranks_[slot].pair != pair && pair_ranks_[slot].rank != kNoRank) {
    slot = (slot + 1) & (pair_ranks_.size() - 1);
  }
  return pair_ranks_[slot].rank;
}

// Merges in place. wanted[i] is the rank of ids[i] joined with ids[i + 1].
size_t BpeEncoder::merge_short(std::string_view piece, uint16_t* ids) const {
  uint16_t wanted[kShortPiece];
  size_t n = piece.size();
  for (size_t i = 0; i < n; ++i) ids[i] = static_cast<unsigned char>(piece[i]);
  for (size_t i = 0; i + 1 < n; ++i) wanted[i] = byte_pair_ranks_[size_t{ids[i]} << 8 | ids[i + 1]];
  while (n > 1) {
    uint32_t lowest = UINT32_MAX;  // rank, place
    for (uint32_t i = 0; i + 1 < n; ++i) lowest = std::min(lowest, uint32_t{wanted[i]} << 16 | i);
    const auto id = static_cast<uint16_t>(lowest >> 16);
    const size_t i = lowest & 0xFFFF;
    if (id == kNoRank) break;
    --n;
    ids[i] = id;
    for (size_t j = i + 1; j < n; ++j) ids[j] = ids[j + 1], wanted[j - 1] = wanted[j];
    if (i + 1 < n) wanted[i] = pair_rank(id, ids[i + 1]);
    if (i > 0) wanted[i - 1] = pair_rank(ids[i - 1], id);
  }
  return n;
}

// The same in O(n log n), with a heap. A part is named by the offset of its first byte.
size_t BpeEncoder::merge_long(std::string_view piece, uint16_t* ids) const {
  check(piece.size() < UINT32_MAX, "a run of " + std::to_string(piece.size()) +
                                       " letters, marks or spaces is too long to encode");
  const uint32_t n = static_cast<uint32_t>(piece.size());
  std::vector<uint32_t> next(n + 1), previous(n + 1);
  std::vector<uint16_t> wanted(n + 1, kNoRank);
  for (uint32_t i = 0; i <= n; ++i) next[i] = i + 1, previous[i] = i - 1;
  for (uint32_t i = 0; i < n; ++i) ids[i] = static_cast<unsigned char>(piece[i]);
  std::priority_queue<uint64_t, std::vector<uint64_t>, std::greater<>> heap;  // rank, part
  const auto offer = [&](uint32_t part) {
    wanted[part] = next[part] >= n ? kNoRank : pair_rank(ids[part], ids[next[part]]);
    if (wanted[part] != kNoRank) heap.push(uint64_t{wanted[part]} << 32 | part);
  };
  for (uint32_t i = 0; i < n; ++i) offer(i);
  while (!heap.empty()) {
    const auto lowest = static_cast<uint16_t>(heap.top() >> 32);
    const auto part = static_cast<uint32_t>(heap.top());
    heap.pop();
    if (wanted[part] != lowest) continue;  // the part, or its next, has changed since
    const uint32_t right = next[part];
    ids[part] = lowest;
    wanted[right] = kNoRank;
    next[part] = next[right];
    previous[next[right]] = part;
    offer(part);
    if (part > 0) offer(previous[part]);
  }
  size_t count = 0;
  for (uint32_t i = 0; i < n; i = next[i]) ids[count++] = ids[i];
  return count;
}

// Writes the ids of a piece, of which there are at most as many as it has bytes.
size_t BpeEncoder::encode_piece(std::string_view piece, uint16_t* ids) const {
  const size_t count =
      piece.size() <= kShortPiece ? merge_short(piece, ids) : merge_long(piece, ids);
  if (count > 1 && !unmerged_.empty()) {
    if (const auto found = unmerged_.find(piece); found != unmerged_.end()) {
      *ids = found->second;
      return 1;
    }
  }
  return count;
}

void BpeEncoder::encode(std::string_view text, Scratch& scratch, std::vector<uint16_t>& ids) const {
  std::array<const char*, 128> ends;
  uint16_t block[kBlock + kShortPiece];
  uint16_t* out = block;
  const auto flush = [&] {
    ids.insert(ids.end(), block, out);
    out = block;
  };
  const auto cached = [&](auto& cache, const auto& key, std::string_view piece) {
    if (const auto* entry = cache.find(key, piece.size())) {
      std::memcpy(out, entry->ids, sizeof entry->ids);
      out += entry->count;
      return;
    }
    const size_t count = encode_piece(piece, out);
    if (count <= std::remove_reference_t<decltype(cache)>::kMaxIds)
      cache.add(key, piece.size(), out, count);
    out += count;
  };
  const char *begin = text.data(), *const end = begin + text.size();
  Splitter splitter(text);
  while (const size_t count = splitter.next(ends)) {
    for (size_t i = 0; i < count; begin = ends[i++]) {
      const std::string_view piece(begin, ends[i]);
      if (piece.size() <= 16) {
        Key<2> key{};
        if (end - begin >= 16) {
          std::memcpy(key.words, begin, 16);
          key.words[0] &= kMask[piece.size()][0];
          key.words[1] &= kMask[piece.size()][1];
        } else {
          std::memcpy(key.words, begin, piece.size());
        }
        cached(scratch.small, key, piece);
      } else if (piece.size() <= 64) {
        Key<8> key{};
        std::memcpy(key.words, begin, piece.size());
        cached(scratch.large, key, piece);
      } else if (piece.size() <= kShortPiece) {
        out += encode_piece(piece, out);
      } else {
        flush();
        const size_t before = ids.size();
        ids.resize(before + piece.size());
        ids.resize(before + encode_piece(piece, ids.data() + before));
      }
      if (out - block >= static_cast<ptrdiff_t>(kBlock - 32)) flush();
    }
  }
  flush();
}

}  // namespace autoresearch
