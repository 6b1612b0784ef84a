// How often each distinct piece of a text occurs (task/splitter.h): what the merges of a
// byte-pair encoding are learnt from. About 24 bytes and its own text for each distinct piece.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

namespace autoresearch {

// A hash table with open addressing; the pieces' bytes lie behind one another.
class PieceTable {
 public:
  void add(std::string_view piece, uint32_t hash, uint32_t count);
  size_t size() const { return size_; }
  size_t bytes() const { return bytes_.size(); }  // of all pieces
  size_t memory() const { return bytes() + size() * sizeof(Slot); }

  // Calls on_piece(piece, hash, count) for each, in about the order of the hashes.
  template <typename OnPiece>
  void for_each(OnPiece on_piece) const {
    for (const Slot& slot : slots_) {
      if (slot.count > 0) on_piece(text(slot), slot.hash, slot.count);
    }
  }

 private:
  struct Slot {
    uint32_t hash = 0, count = 0;  // a count of 0: the slot is free
    uint64_t begin : 40 = 0, length : 24 = 0;
  };
  std::string_view text(const Slot& slot) const {
    return {bytes_.data() + slot.begin, slot.length};
  }
  size_t find(std::string_view piece, uint32_t hash) const;
  void grow();

  std::vector<Slot> slots_;
  std::vector<char> bytes_;
  size_t size_ = 0;
};

class PieceCounts {
 public:
  static constexpr size_t kParts = 64;

  // Counts the pieces of documents. Several threads may do so at once: most pieces are the same
  // few, so they are counted in a table of the call's own first, and then added to the common one,
  // of which one part at a time is locked.
  void add(const std::vector<std::string>& documents);

  // About what all parts take: the same for the same documents, in whatever order they came. While
  // no thread adds any.
  size_t memory() const;

  // A piece is in one of the parts only. They are looked at and released when all has been added.
  const PieceTable& part(size_t i) const { return parts_[i].table; }
  void release(size_t i) { parts_[i].table = {}; }

 private:
  struct Part {
    std::mutex mutex;
    PieceTable table;
  };
  void add(const PieceTable& pieces);
  std::array<Part, kParts> parts_;
};

}  // namespace autoresearch
