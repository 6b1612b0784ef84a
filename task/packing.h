// Best-fit packing of documents into rows, as upstream's loader does it: no padding, nearly no
// cropping. Used for the held-out rows (once, by prepare) and the training rows (by the loader).
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <utility>
#include <vector>

namespace autoresearch {

// Documents wait in a pool, refilled by batches while it holds fewer than `kPool`. A row takes the
// longest document that fits what is left (the earliest in the pool on ties); where none fits, the
// shortest (again the earliest) is cropped and its rest dropped. Which documents meet in the pool
// depends on where batches end, and so does every row.
class Packer {
 public:
  static constexpr size_t kPool = 1000, kBatch = 128;  // documents

  // Tokens of a document, BOS first, so never empty; valid until the packer is gone.
  using Document = std::span<const uint16_t>;

  // Appends the next batch, 1 to `kBatch` documents, to `batch`; none ends the supply for good.
  using Supply = std::function<void(std::vector<Document>& batch)>;

  Packer(int64_t row_tokens, Supply next_batch);

  // Fills `row` (row_tokens long). False when the supply has ended and what is left can't fill it;
  // the row's content is then unspecified.
  bool next_row(std::span<uint16_t> row);

  // Documents taken from the supply so far: those in rows, those dropped and those in the pool.
  int64_t drawn() const { return drawn_; }

 private:
  void refill();
  Document take(size_t left);

  Supply next_batch_;
  size_t row_tokens_;
  bool ended_ = false;
  int64_t drawn_ = 0;
  std::vector<Document> batch_;
  // By length, then by order of arrival: the longest that fits and the shortest are both one
  // search.
  std::map<std::pair<size_t, int64_t>, Document> pool_;
};

}  // namespace autoresearch
