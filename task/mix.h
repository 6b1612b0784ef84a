// The step of the tokenizer's hash tables.
#pragma once

#include <cstdint>

namespace autoresearch {

// Both halves of the product of 128 bits in one word, after Wang Yi's wyhash
// (https://github.com/wangyi-fudan/wyhash).
inline uint64_t mix(uint64_t a, uint64_t b) {
  const auto product = static_cast<unsigned __int128>(a) * b;
  return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

}  // namespace autoresearch
