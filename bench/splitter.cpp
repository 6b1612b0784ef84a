// Compares prepare/splitter with PCRE2 on random and adversarial strings: all Unicode planes,
// combining marks, emoji, mixes of line ends, bytes that are not UTF-8, very long runs. Prints how
// many strings there were and how many were cut differently, the first ten of these in full.
//
//   ninja -C build bench_splitter && build/bench/splitter [MILLIONS, 10] [SEED, 1]

#include "task/splitter.h"

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <thread>

#include "tests/random_text.h"

using namespace autoresearch;

namespace {

struct Totals {
  std::atomic<int64_t> strings{0}, bytes{0}, pieces{0}, differing{0};
  std::atomic<int64_t> left_out{0};  // PCRE2 does not know one of their characters yet
};

void compare(const std::string& text, const ReferenceSplitter& reference, Totals& totals) {
  if (!reference.comparable(text)) {
    totals.left_out += 1;
    return;
  }
  const std::vector<std::string_view> ours = split(text);
  totals.strings += 1;
  totals.bytes += static_cast<int64_t>(text.size());
  totals.pieces += static_cast<int64_t>(ours.size());
  if (ours == reference.split(text) || ++totals.differing > 10) return;
  std::string hex;
  for (const char c : text) {
    char digits[8];
    std::snprintf(digits, sizeof digits, "\\x%02x", static_cast<unsigned char>(c));
    hex += digits;
  }
  std::printf("cut differently: \"%s\"\n", hex.c_str());
}

}  // namespace

int main(int argc, char** argv) {
  const int64_t strings = static_cast<int64_t>((argc > 1 ? std::atof(argv[1]) : 10) * 1e6);
  const uint64_t seed = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 1;
  const int64_t workers = std::max(1u, std::thread::hardware_concurrency());
  Totals totals;
  {
    std::vector<std::jthread> threads;
    for (int64_t worker = 0; worker < workers; ++worker) {
      threads.emplace_back([&, worker] {
        const ReferenceSplitter reference;
        RandomText text(reference, seed * 1000 + static_cast<uint64_t>(worker));
        for (int64_t i = worker; i < strings; i += workers) {
          // Mostly short strings, in which all orders of characters occur; few are long.
          const int64_t kind = i / workers % 10'000;
          compare(kind == 0 ? text.long_run(100'000) : text(kind % 10 == 1 ? 300 : 30), reference,
                  totals);
        }
      });
    }
  }
  std::printf(
      "%lld strings, %.1f MB, %lld pieces: %lld strings cut differently from PCRE2 %s\n"
      "%lld more strings left out: PCRE2 does not know one of their characters\n",
      static_cast<long long>(totals.strings), static_cast<double>(totals.bytes) / 1e6,
      static_cast<long long>(totals.pieces), static_cast<long long>(totals.differing),
      pcre2_version().c_str(), static_cast<long long>(totals.left_out));
  return totals.differing > 0;
}
