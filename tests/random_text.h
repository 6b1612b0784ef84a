// Strings that try a splitter: characters of all planes, and what the pattern's alternatives, UTF-8
// and runs of a class turn on.
#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "tests/reference_splitter.h"

namespace autoresearch {

class RandomText {
 public:
  // Without characters on whose class the reference differs.
  RandomText(const ReferenceSplitter& reference, uint64_t seed)
      : reference_(reference), random_(seed) {}

  // Of at most about `size` characters, in one of several manners.
  std::string operator()(size_t size) {
    std::string text;
    const uint64_t manner = below(8);
    for (size_t left = 1 + below(size); left > 0;) {
      const size_t run = std::min<size_t>(left, below(4) ? 1 : 1 + below(manner == 7 ? 200 : 5));
      const std::string unit = manner < 2   ? any_character()
                               : manner < 4 ? characters_that_matter()
                               : manner < 6 ? ascii()
                                            : (below(3) ? characters_that_matter() : invalid());
      for (size_t i = 0; i < run; ++i) text += unit;
      left -= run;
    }
    return text;
  }

  // One run of the same bytes, many thousand long, between two others.
  std::string long_run(size_t size) {
    std::string run;
    for (const std::string unit = characters_that_matter(); run.size() < size;) run += unit;
    return characters_that_matter() + run + characters_that_matter() + any_character();
  }

 private:
  uint64_t below(uint64_t bound) { return random_() % bound; }

  std::string character(uint32_t code_point) {
    return is_surrogate(code_point) || reference_.differs(code_point) ? "?" : utf8(code_point);
  }

  // Of any plane, more often of a low one.
  std::string any_character() {
    constexpr uint32_t kBounds[] = {0x80, 0x250, 0x3000, 0x10000, 0x20000, 0x110000};
    return character(static_cast<uint32_t>(below(kBounds[below(std::size(kBounds))])));
  }

  std::string ascii() { return {static_cast<char>(below(5) ? ' ' + below(95) : below(128))}; }

  std::string characters_that_matter() {
    static const std::vector<std::string> kUnits{"\n",
                                                 "\r",
                                                 "\r\n",
                                                 "\n\n",
                                                 " ",
                                                 "  ",
                                                 "\t",
                                                 "\v",
                                                 "\f",
                                                 "\u0085",
                                                 "\u00a0",
                                                 "\u1680",
                                                 "\u180e",
                                                 "\u2003",
                                                 "\u2028",
                                                 "\u3000",
                                                 "\u200b",
                                                 "\ufeff",  // white or not
                                                 "'",
                                                 "'s",
                                                 "'S",
                                                 "'\u017f",
                                                 "'t",
                                                 "'D",
                                                 "'m",
                                                 "'ll",
                                                 "'lL",
                                                 "'ve",
                                                 "'VE",
                                                 "'re",
                                                 "'r",
                                                 "'l",
                                                 "s",
                                                 "\u017f",
                                                 "\u212a",
                                                 "a",
                                                 "Z",
                                                 "\u00e9",
                                                 "\u0434",
                                                 "\u65e5",
                                                 "\U00020000",
                                                 "\u01c5",
                                                 "0",
                                                 "7",
                                                 "12",
                                                 "\u0663",
                                                 "\u2167",
                                                 "\u00b2",
                                                 "\U0001d7ce",  // numbers
                                                 "\u0301",
                                                 "\u0940",
                                                 "\u20dd",
                                                 "e\u0301",
                                                 "\u0e33",  // marks
                                                 "-",
                                                 "_",
                                                 "!",
                                                 "...",
                                                 "\u2014",
                                                 "\u20ac",
                                                 "\U0001f44d\U0001f3fd",
                                                 "\u200d",
                                                 "\U0001f600",
                                                 std::string(1, '\0'),
                                                 "\x7f",
                                                 "\U0010ffff",
                                                 "\ue000",
                                                 "\ufffd"};
    return kUnits[below(kUnits.size())];
  }

  std::string invalid() {
    static const std::vector<std::string> kUnits{"\x80",
                                                 "\xbf",
                                                 "\xc0",
                                                 "\xc1\xbf",
                                                 "\xc3",
                                                 "\xe2\x82",
                                                 "\xe2",
                                                 "\xed\xa0\x80",
                                                 "\xed\x9f",
                                                 "\xe0\x80\x80",
                                                 "\xf0\x9f\x98",
                                                 "\xf0\x80\x80\x80",
                                                 "\xf4\x90\x80\x80",
                                                 "\xf5",
                                                 "\xff",
                                                 "\xfe\xff",
                                                 "\xe2\x28\xa1"};
    if (below(2)) return kUnits[below(kUnits.size())];
    return {static_cast<char>(below(256))};
  }

  const ReferenceSplitter& reference_;
  std::mt19937_64 random_;
};

}  // namespace autoresearch
