#include "prepare/packing.h"

#include <algorithm>

namespace autoresearch {

Packer::Packer(int64_t row_tokens, std::function<std::span<const uint16_t>()> next_document)
    : next_document_(std::move(next_document)), row_tokens_(static_cast<size_t>(row_tokens)) {}

void Packer::refill() {
  while (!ended_ && pool_.size() < kPool) {
    for (size_t i = 0; i < kRefill && !ended_; ++i) {
      const std::span<const uint16_t> document = next_document_();
      ended_ = document.empty();
      if (!ended_) pool_.emplace(std::pair(document.size(), arrivals_++), document);
    }
  }
}

bool Packer::next_row(std::span<uint16_t> row) {
  for (size_t filled = 0; filled < row_tokens_;) {
    refill();
    if (pool_.empty()) return false;
    const size_t left = row_tokens_ - filled;
    auto chosen = pool_.begin();  // the shortest, to be cropped where none fits
    if (const auto longer = pool_.lower_bound({left + 1, 0}); longer != pool_.begin()) {
      const size_t length = std::prev(longer)->first.first;
      chosen = pool_.lower_bound({length, 0});
    }
    const std::span<const uint16_t> document = chosen->second;
    const size_t taken = std::min(left, document.size());
    std::copy_n(document.begin(), taken, row.begin() + static_cast<ptrdiff_t>(filled));
    filled += taken;
    pool_.erase(chosen);
  }
  return true;
}

}  // namespace autoresearch
