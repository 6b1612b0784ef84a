#include "prepare/near_duplicates.h"

#include <algorithm>
#include <random>

namespace autoresearch {
namespace {

uint64_t mixed(uint64_t x) {
  x = (x ^ x >> 31) * 0x7FB5D329728EA185u;
  return x ^ x >> 27;
}

}  // namespace

// A document shorter than a shingle is one.
NearDuplicates::Signature NearDuplicates::signature_of(std::span<const uint16_t> document) {
  static const auto factors = [] {
    std::array<uint32_t, kFunctions> factors;
    std::mt19937 random(1);
    for (uint32_t& factor : factors) factor = static_cast<uint32_t>(random()) | 1;
    return factors;
  }();
  Signature signature;
  signature.fill(UINT32_MAX);
  const size_t length = std::min(kShingle, document.size());
  for (size_t begin = 0; begin + length <= document.size(); ++begin) {
    uint64_t hash = 0;
    for (const uint16_t id : document.subspan(begin, length)) hash = mixed(hash + id + 1);
    const auto low = static_cast<uint32_t>(hash), high = static_cast<uint32_t>(hash >> 32);
    for (size_t i = 0; i < kFunctions; ++i) {
      signature[i] = std::min(signature[i], low * factors[i] + high);
    }
    if (length == 0) break;
  }
  return signature;
}

uint64_t NearDuplicates::key_of(const Signature& signature, size_t group) {
  uint64_t key = group;
  for (size_t i = group * kGroup; i < (group + 1) * kGroup; ++i) key = mixed(key + signature[i]);
  return key;
}

void NearDuplicates::add(std::span<const uint16_t> document) {
  signatures_.push_back(signature_of(document));
  for (size_t group = 0; group < kFunctions / kGroup; ++group) {
    by_group_.emplace(key_of(signatures_.back(), group),
                      static_cast<uint32_t>(signatures_.size() - 1));
  }
}

bool NearDuplicates::resembles(std::span<const uint16_t> document) const {
  if (signatures_.empty()) return false;
  const Signature signature = signature_of(document);
  for (size_t group = 0; group < kFunctions / kGroup; ++group) {
    const auto [begin, end] = by_group_.equal_range(key_of(signature, group));
    for (auto other = begin; other != end; ++other) {
      const Signature& candidate = signatures_[other->second];
      int equal = 0;
      for (size_t i = 0; i < kFunctions; ++i) equal += signature[i] == candidate[i];
      if (equal >= kNear * kFunctions) return true;
    }
  }
  return false;
}

}  // namespace autoresearch
