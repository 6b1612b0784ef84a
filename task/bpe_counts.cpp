#include "task/bpe_counts.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "task/mix.h"
#include "task/splitter.h"

namespace autoresearch {
namespace {

constexpr size_t kLocalPieces = 1 << 15;  // distinct ones, of a table that stays in the cache
constexpr int kPartBits = std::countr_zero(PieceCounts::kParts);

uint64_t load(const char* at, size_t size) {
  uint64_t word = 0;
  std::memcpy(&word, at, size);
  return word;
}

// 16 bytes at a time.
uint32_t hash_of(std::string_view piece) {
  constexpr uint64_t kFirst = 0x9E3779B97F4A7C15u, kSecond = 0xD1B54A32D192ED03u;
  const char* at = piece.data();
  size_t left = piece.size();
  uint64_t hash = left * kSecond;
  for (; left > 16; at += 16, left -= 16) hash = mix(load(at, 8) ^ hash, load(at + 8, 8) ^ kFirst);
  uint64_t low, high = 0;
  if (left >= 8) {
    low = load(at, 8), high = load(at + left - 8, 8);
  } else if (left >= 4) {
    low = load(at, 4), high = load(at + left - 4, 4);
  } else {
    low = left == 0 ? 0 : load(at, 1) | load(at + left / 2, 1) << 8 | load(at + left - 1, 1) << 16;
  }
  return static_cast<uint32_t>(mix(mix(low ^ hash, high ^ kFirst), kSecond) >> 32);
}

// Whether two runs of `size` bytes are the same; without a call for the usual ones.
bool same_bytes(const char* a, const char* b, size_t size) {
  if (size > 16) return std::memcmp(a, b, size) == 0;
  if (size >= 8) {
    return ((load(a, 8) ^ load(b, 8)) | (load(a + size - 8, 8) ^ load(b + size - 8, 8))) == 0;
  }
  if (size >= 4) {
    return ((load(a, 4) ^ load(b, 4)) | (load(a + size - 4, 4) ^ load(b + size - 4, 4))) == 0;
  }
  for (size_t i = 0; i < size; ++i) {
    if (a[i] != b[i]) return false;
  }
  return true;
}

}  // namespace

// The slot of a piece, or the free one that it would take.
size_t PieceTable::find(std::string_view piece, uint32_t hash) const {
  size_t i = uint64_t{hash} * slots_.size() >> 32;
  for (;; i = i + 1 == slots_.size() ? 0 : i + 1) {
    const Slot& slot = slots_[i];
    if (slot.count == 0) return i;
    if (slot.hash == hash && slot.length == piece.size() &&
        same_bytes(&bytes_[slot.begin], piece.data(), piece.size())) {
      return i;
    }
  }
}

void PieceTable::add(std::string_view piece, uint32_t hash, uint32_t count) {
  if (4 * size_ >= 3 * slots_.size()) grow();
  Slot& slot = slots_[find(piece, hash)];
  if (slot.count == 0) {
    ++size_;
    slot.hash = hash;
    slot.begin = bytes_.size();
    slot.length = piece.size();
    bytes_.insert(bytes_.end(), piece.begin(), piece.end());
  }
  slot.count += count;
}

void PieceTable::grow() {
  std::vector<Slot> old(std::max<size_t>(64, slots_.size() * 3 / 2));
  old.swap(slots_);
  for (const Slot& slot : old) {
    if (slot.count > 0) slots_[find(text(slot), slot.hash)] = slot;
  }
}

void PieceCounts::add(const std::vector<std::string>& documents) {
  PieceTable table;
  std::array<const char*, 256> ends;
  for (const std::string& document : documents) {
    Splitter splitter(document);
    const char* begin = document.data();
    while (const size_t count = splitter.next(ends)) {
      for (size_t i = 0; i < count; begin = ends[i++]) {
        const std::string_view piece(begin, ends[i]);
        table.add(piece, hash_of(piece), 1);
      }
    }
    if (table.size() > kLocalPieces) {
      add(table);
      table = {};
    }
  }
  add(table);
}

size_t PieceCounts::memory() const {
  size_t bytes = 0;
  for (const Part& part : parts_) bytes += part.table.memory();
  return bytes;
}

void PieceCounts::add(const PieceTable& pieces) {
  std::unique_lock<std::mutex> lock;
  Part* locked = nullptr;
  pieces.for_each([&](std::string_view piece, uint32_t hash, uint32_t count) {
    Part* const part = &parts_[hash >> (32 - kPartBits)];
    if (part != locked) {  // seldom: the pieces come in the order of their hashes
      lock = {};
      lock = std::unique_lock(part->mutex);
      locked = part;
    }
    part->table.add(piece, hash << kPartBits, count);
  });
}

}  // namespace autoresearch
