// Best-fit packing of documents into rows, as the ancestor's loader does it: no padding, nearly no
// cropping. Used for the held-out rows (once, by prepare) and the training rows (by the loader).
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <utility>

namespace autoresearch {

// Documents wait in a pool of `kPool`, refilled in batches of up to `kRefill` whenever it holds
// fewer. A row takes the longest document that fits what is left (the earliest in the pool on
// ties); where none fits, the shortest (again the earliest) is cropped and its rest dropped.
class Packer {
 public:
  static constexpr size_t kPool = 1000, kRefill = 128;

  // `next_document` yields the next document's tokens, BOS first; an empty span ends the supply.
  // The span must stay valid until the packer is gone.
  Packer(int64_t row_tokens, std::function<std::span<const uint16_t>()> next_document);

  // Fills `row` (row_tokens long). False when the supply has ended and what is left can't fill it;
  // the row's content is then unspecified.
  bool next_row(std::span<uint16_t> row);

 private:
  void refill();
  std::function<std::span<const uint16_t>()> next_document_;
  size_t row_tokens_;
  bool ended_ = false;
  // By length, then by order of arrival: the longest that fits and the shortest are both one
  // search.
  std::map<std::pair<size_t, uint64_t>, std::span<const uint16_t>> pool_;
  uint64_t arrivals_ = 0;
};

}  // namespace autoresearch
