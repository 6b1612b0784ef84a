#include "prepare/overlap.h"

#include <algorithm>

namespace autoresearch {
namespace {

constexpr uint64_t kBase = 0x9E3779B97F4A7C15u;  // odd, of a polynomial in 2^64

uint64_t power(uint64_t base, size_t exponent) {
  uint64_t result = 1;
  for (; exponent > 0; --exponent) result *= base;
  return result;
}

// So that the low bits depend on all others.
uint64_t mixed(uint64_t hash) {
  hash ^= hash >> 32;
  hash *= 0xD6E8FEB86659FD93u;
  return hash ^ hash >> 32;
}

// Calls `on_run` with the hash of each run of `tokens`, rolled along (Karp and Rabin).
template <typename OnRun>
void each_run(std::span<const uint16_t> tokens, const OnRun& on_run) {
  static const uint64_t leaving = power(kBase, Overlap::kRun);
  uint64_t hash = 0;
  for (size_t i = 0; i < tokens.size(); ++i) {
    hash = hash * kBase + tokens[i] + 1;
    if (i >= Overlap::kRun) hash -= leaving * (tokens[i - Overlap::kRun] + uint64_t{1});
    if (i + 1 >= Overlap::kRun) on_run(mixed(hash));
  }
}

}  // namespace

Overlap::Overlap(std::span<const uint16_t> tokens, int64_t bos, size_t most) {
  while (tokens.size() / (mask_ + 1) > most) mask_ = 2 * mask_ + 1;
  for (auto begin = tokens.begin(); begin != tokens.end();) {
    const auto end = std::find(begin, tokens.end(), static_cast<uint16_t>(bos));
    each_run({begin, end}, [&](uint64_t hash) {
      if ((hash & mask_) == 0) ++runs_[hash].times;
    });
    begin = end == tokens.end() ? end : end + 1;
  }
}

void Overlap::add(std::span<const uint16_t> document) {
  each_run(document, [&](uint64_t hash) {
    if ((hash & mask_) != 0) return;
    if (const auto run = runs_.find(hash); run != runs_.end()) run->second.found = true;
  });
}

std::optional<double> Overlap::share() const {
  int64_t all = 0, found = 0;
  for (const auto& [hash, run] : runs_) {
    all += run.times;
    found += run.found ? run.times : 0;
  }
  if (all == 0) return {};
  return static_cast<double>(found) / static_cast<double>(all);
}

}  // namespace autoresearch
