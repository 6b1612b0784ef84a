#include "task/bpe_encoder.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <functional>
#include <queue>
#include <utility>

#include "common/error.h"
#include "task/mix.h"
#include "task/splitter.h"

namespace autoresearch {
namespace {

constexpr size_t kShortPiece = 64;  // bytes; up to here a scan for the lowest rank beats a heap
constexpr size_t kBatch = 128;      // pieces that are looked up together
constexpr size_t kLeastChunk = 16 << 10;  // bytes of a long piece that are merged together

constexpr uint64_t kMultiplier = 0x9E3779B97F4A7C15u;

// kMask[n] keeps n bytes of 16.
constexpr auto kMask = [] {
  std::array<std::array<uint64_t, 2>, 16> masks{};
  for (size_t n = 0; n < 16; ++n) {
    for (size_t i = 0; i < n; ++i) masks[n][i / 8] |= uint64_t{0xFF} << 8 * (i % 8);
  }
  return masks;
}();

// A piece of at most 8 * kWords - 1 bytes, followed by zeros and, in the last byte, its length.
template <size_t kWords>
struct Key {
  static constexpr size_t kMaxBytes = 8 * kWords - 1;
  uint64_t words[kWords];

  // From the piece at `at`, behind which `readable` bytes can be read.
  static Key of(const char* at, size_t bytes, size_t readable) {
    Key key;
    if (kWords == 2 && readable >= 16) {  // without a call
      std::memcpy(key.words, at, 16);
      key.words[0] &= kMask[bytes][0];
      key.words[1] &= kMask[bytes][1];
    } else {
      key = {};
      std::memcpy(key.words, at, bytes);
    }
    key.words[kWords - 1] |= uint64_t{bytes} << 56;
    return key;
  }
  bool operator==(const Key& other) const {
    uint64_t difference = 0;
    for (size_t i = 0; i < kWords; ++i) difference |= words[i] ^ other.words[i];
    return difference == 0;
  }
  // Multiplies to twice the width and folds, after Wang Yi's wyhash.
  uint64_t hash() const {
    uint64_t hash = words[0];
    for (size_t i = 1; i < kWords; ++i) hash = mix(hash ^ kMultiplier, words[i] ^ kMultiplier);
    return hash;
  }
};

// The ids of pieces that are at most kIds tokens, in sets of two of which a new one replaces the
// older. A set is known by its number, which comes from the hash of the key.
template <size_t kWords, size_t kIds, size_t kSetBits>
class PieceCache {
 public:
  using Key = autoresearch::Key<kWords>;
  static constexpr size_t kMaxIds = kIds;
  struct Entry {
    Key key;
    uint16_t ids[kIds];
    uint16_t count;
  };

  static size_t set_of(const Key& key) { return key.hash() & ((size_t{1} << kSetBits) - 1); }
  void prefetch(size_t set) const { __builtin_prefetch(&sets_[set]); }

  // The entry of a piece, or nullptr.
  const Entry* find(const Key& key, size_t set) const {
    const Entry* const entries = sets_[set].entries;
    // Which of the two it is can't be foreseen, so that is no branch.
    const Entry* const entry = &entries[entries[1].key == key];
    return entry->key == key ? entry : nullptr;
  }

  void add(const Key& key, size_t set, const uint16_t* ids, size_t count) {
    if (count > kIds) return;
    Entry* const entries = sets_[set].entries;
    entries[1] = entries[0];
    entries[0].key = key;
    entries[0].count = static_cast<uint16_t>(count);
    std::copy(ids, ids + count, entries[0].ids);
  }

 private:
  struct alignas(2 * sizeof(Entry)) Set {
    Entry entries[2];
  };
  std::vector<Set> sets_ = std::vector<Set>(size_t{1} << kSetBits);
};

}  // namespace

class BpeEncoder::Scratch {
 public:
  PieceCache<2, 7, 16> small;
  PieceCache<8, 31, 12> large;
  std::array<Key<2>, kBatch> keys;
  std::array<uint32_t, kBatch> sets;
};

void BpeEncoder::ScratchDeleter::operator()(Scratch* scratch) const { delete scratch; }
BpeEncoder::ScratchPointer BpeEncoder::make_scratch() { return ScratchPointer(new Scratch); }

BpeEncoder::BpeEncoder(const std::vector<std::string>& tokens)
    : tokens_(tokens), chunk_(kLeastChunk), byte_pair_ranks_(1 << 16, kNoRank) {
  std::unordered_map<std::string_view, uint16_t> ranks;
  for (size_t i = 0; i < tokens.size(); ++i) {
    ranks.emplace(tokens[i], static_cast<uint16_t>(i));
    chunk_ = std::max(chunk_, 8 * tokens[i].size());
  }
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
  // Half of the table stays empty, so that a look-up ends soon.
  const size_t slots = std::bit_ceil(2 * pairs.size() + 2);
  pair_shift_ = 32 - std::countr_zero(slots);
  pair_ranks_.assign(slots, {0, kNoRank});
  for (const PairRank& pair : pairs) add_pair(pair);
  // Tokens that merging does not reach from their own bytes are found as a whole: tiktoken does so.
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
  const uint32_t bit = (added.pair * 0x9E3779B1u) >> 15;
  filter_[bit >> 6] |= uint64_t{1} << (bit & 63);
}

// The rank of two tokens' joined bytes.
inline uint16_t BpeEncoder::pair_rank(uint16_t left, uint16_t right) const {
  const uint32_t pair = uint32_t{left} << 16 | right;
  const uint32_t hash = pair * 0x9E3779B1u;
  if (!(filter_[hash >> 21] >> (hash >> 15 & 63) & 1)) return kNoRank;
  uint32_t slot = hash >> pair_shift_;
  while (pair_ranks_[slot].pair != pair && pair_ranks_[slot].rank != kNoRank) {
    slot = (slot + 1) & (pair_ranks_.size() - 1);
  }
  return pair_ranks_[slot].rank;
}

// A part is named by the place of its first byte. wanted[i] holds the rank of the part at i joined
// with the next, and i itself, so that the least of them says what to merge and where.
size_t BpeEncoder::merge_short(std::string_view piece, uint16_t* ids) const {
  constexpr uint32_t kNone = UINT32_MAX;
  uint16_t parts[kShortPiece];
  uint32_t wanted[kShortPiece];
  const size_t n = piece.size();
  for (size_t i = 0; i < n; ++i) parts[i] = static_cast<unsigned char>(piece[i]);
  for (size_t i = 0; i + 1 < n; ++i) {
    wanted[i] = uint32_t{byte_pair_ranks_[size_t{parts[i]} << 8 | parts[i + 1]]} << 16 | i;
  }
  const size_t rows = (n + 7) / 8;
  for (size_t i = n - 1; i < 8 * rows; ++i) wanted[i] = kNone;
  uint64_t alive = n == 64 ? ~uint64_t{0} : (uint64_t{1} << n) - 1;
  while (true) {
    uint32_t lowest = kNone;
    for (const uint32_t* w = wanted; w != wanted + 8 * rows; w += 8) {
      const uint32_t a = std::min(std::min(w[0], w[1]), std::min(w[2], w[3]));
      const uint32_t b = std::min(std::min(w[4], w[5]), std::min(w[6], w[7]));
      lowest = std::min(lowest, std::min(a, b));
    }
    const auto id = static_cast<uint16_t>(lowest >> 16);
    if (id == kNoRank) break;
    const uint32_t i = lowest & 0xFFFF;
    uint64_t after = alive & (~uint64_t{1} << i);
    // The pair has a right part, so this is below 64 without the remainder, as a compiler can't
    // see.
    const size_t gone = static_cast<size_t>(std::countr_zero(after)) % kShortPiece;
    after &= after - 1;
    alive &= ~(uint64_t{1} << gone);
    wanted[gone] = kNone;
    parts[i] = id;
    wanted[i] = after ? uint32_t{pair_rank(id, parts[std::countr_zero(after)])} << 16 | i : kNone;
    if (const uint64_t before = alive & ((uint64_t{1} << i) - 1)) {
      const uint32_t left = 63 - static_cast<uint32_t>(std::countl_zero(before));
      wanted[left] = uint32_t{pair_rank(parts[left], id)} << 16 | left;
    }
  }
  size_t count = 0;
  for (; alive; alive &= alive - 1) ids[count++] = parts[std::countr_zero(alive)];
  return count;
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
  std::vector<uint64_t> room;  // that grows in place: a copy would take as much again
  room.reserve(n + n / 2);
  std::priority_queue<uint64_t, std::vector<uint64_t>, std::greater<>> heap({}, std::move(room));
  const auto offer = [&](uint32_t part) {  // the heap holds rank, part
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

// Appends the ids of a piece of any length, in time that grows as it does: it is merged in chunks
// that overlap. A chunk's ids are kept up to a token that the next chunk, which is cut off right
// before that token, begins with as well. That changes nothing: ids are those of the whole if any
// two neighbours are what merging their own bytes gives, because the first merge across their
// border would also be the first in these bytes alone; and neighbours within a chunk are that.
void BpeEncoder::encode_long(std::string_view piece, std::vector<uint16_t>& ids) const {
  constexpr int kCuts = 8;  // that are tried before the chunks get longer
  const auto merged = [&](size_t begin, size_t bytes) {
    const std::string_view part = piece.substr(begin, bytes);
    std::vector<uint16_t> part_ids(part.size());
    part_ids.resize(encode_piece(part, part_ids.data()));
    return part_ids;
  };
  size_t chunk = chunk_;
  std::vector<uint16_t> now = merged(0, chunk);
  while (piece.size() > chunk) {
    size_t count = 0, bytes = 0;  // of `now` that are kept
    while (bytes < chunk - chunk / 4) bytes += tokens_[now[count++]].size();
    std::vector<uint16_t> next = merged(bytes, chunk);
    for (int cut = 1; cut < kCuts && count > 1 && next[0] != now[count]; ++cut) {
      bytes -= tokens_[now[--count]].size();
      next = merged(bytes, chunk);
    }
    if (next[0] != now[count]) {
      chunk *= 2;
      now = merged(0, chunk);
      continue;
    }
    ids.insert(ids.end(), now.begin(), now.begin() + static_cast<ptrdiff_t>(count));
    piece.remove_prefix(bytes);
    now = std::move(next);
  }
  ids.insert(ids.end(), now.begin(), now.end());
}

void BpeEncoder::encode(std::string_view text, Scratch& scratch, std::vector<uint16_t>& ids) const {
  std::array<const char*, kBatch> ends;
  const char* begin = text.data();
  Splitter splitter(text);
  while (const size_t count = splitter.next(ends)) {
    encode_pieces(begin, {ends.data(), count}, text.data() + text.size(), scratch, ids);
    begin = ends[count - 1];
  }
}

void BpeEncoder::encode_pieces(const char* begin, std::span<const char* const> ends,
                               const char* end, Scratch& scratch,
                               std::vector<uint16_t>& ids) const {
  // So that the cache's lines are on their way before they are needed.
  const char* at = begin;
  for (size_t i = 0; i < ends.size(); at = ends[i++]) {
    const size_t bytes = static_cast<size_t>(ends[i] - at);
    if (bytes > Key<2>::kMaxBytes) continue;
    scratch.keys[i] = Key<2>::of(at, bytes, static_cast<size_t>(end - at));
    scratch.sets[i] = static_cast<uint32_t>(scratch.small.set_of(scratch.keys[i]));
    scratch.small.prefetch(scratch.sets[i]);
  }
  uint16_t block[kBatch * kShortPiece];
  uint16_t* out = block;
  const auto look_up = [&](auto& cache, const auto& key, size_t set, std::string_view piece) {
    if (const auto* entry = cache.find(key, set)) {
      std::memcpy(out, entry->ids, sizeof entry->ids);
      out += entry->count;
      return;
    }
    const size_t count = encode_piece(piece, out);
    cache.add(key, set, out, count);
    out += count;
  };
  for (size_t i = 0; i < ends.size(); begin = ends[i++]) {
    const std::string_view piece(begin, ends[i]);
    if (piece.size() <= Key<2>::kMaxBytes) {
      look_up(scratch.small, scratch.keys[i], scratch.sets[i], piece);
    } else if (piece.size() <= Key<8>::kMaxBytes) {
      const Key<8> key = Key<8>::of(begin, piece.size(), 0);
      look_up(scratch.large, key, scratch.large.set_of(key), piece);
    } else {
      ids.insert(ids.end(), block, out);
      out = block;
      encode_long(piece, ids);
    }
  }
  ids.insert(ids.end(), block, out);
}

}  // namespace autoresearch
