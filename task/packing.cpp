#include "task/packing.h"

#include <algorithm>

namespace autoresearch {

Packer::Packer(int64_t row_tokens, Supply next_batch)
    : next_batch_(std::move(next_batch)), row_tokens_(static_cast<size_t>(row_tokens)) {}

void Packer::refill() {
  while (!ended_ && pool_.size() < kPool) {
    batch_.clear();
    next_batch_(batch_);
    ended_ = batch_.empty();
    for (const Document document : batch_)
      pool_.emplace(std::pair(document.size(), drawn_++), document);
  }
}

// The document that goes where `left` tokens are free. The pool must not be empty.
Packer::Document Packer::take(size_t left) {
  auto chosen = pool_.begin();  // the shortest, to be cropped where none fits
  if (const auto longer = pool_.lower_bound({left + 1, 0}); longer != pool_.begin()) {
    chosen = pool_.lower_bound({std::prev(longer)->first.first, 0});
  }
  const Document document = chosen->second;
  pool_.erase(chosen);
  return document;
}

bool Packer::next_row(std::span<uint16_t> row) {
  for (size_t filled = 0; filled < row_tokens_;) {
    refill();
    if (pool_.empty()) return false;
    const Document document = take(row_tokens_ - filled);
    const size_t taken = std::min(row_tokens_ - filled, document.size());
    std::copy_n(document.begin(), taken, row.begin() + static_cast<ptrdiff_t>(filled));
    filled += taken;
  }
  return true;
}

}  // namespace autoresearch
