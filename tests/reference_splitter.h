// The split pattern as PCRE2 matches it: the reference that prepare/splitter is compared with.
//
// PCRE2's Unicode tables may be older than ours (10.42, as Debian 12 has it: Unicode 14). `differs`
// tells where; comparisons leave these characters out. tests/splitter_test.cpp shows that they are
// code points which PCRE2 takes for unassigned; what tiktoken makes of them is in tests/data.
#pragma once

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/error.h"
#include "task/unicode.h"
#include "tests/pieces.h"

namespace autoresearch {

class Pcre2 {
 public:
  // Matches where it is asked to only, unless `options` say otherwise.
  explicit Pcre2(const std::string& pattern, uint32_t options = PCRE2_ANCHORED)
      : code_(compile(pattern, options), &pcre2_code_free),
        match_(pcre2_match_data_create(1, nullptr), &pcre2_match_data_free),
        limits_(pcre2_match_context_create(nullptr), &pcre2_match_context_free) {
    pcre2_jit_compile(code_.get(), PCRE2_JIT_COMPLETE);
    // A megabyte of white space takes as many steps back, all of them wanted.
    pcre2_set_match_limit(limits_.get(), UINT32_MAX);
    pcre2_set_heap_limit(limits_.get(), UINT32_MAX);
  }

  // The length of the match at `at`; 0 where there is none. `text` is valid UTF-8.
  size_t match(std::string_view text, size_t at) const {
    const int count = pcre2_match(code_.get(), reinterpret_cast<PCRE2_SPTR>(text.data()),
                                  text.size(), at, PCRE2_NO_UTF_CHECK, match_.get(), limits_.get());
    check(count > 0 || count == PCRE2_ERROR_NOMATCH, "PCRE2 failed: " + std::to_string(count));
    return count > 0 ? pcre2_get_ovector_pointer(match_.get())[1] - at : 0;
  }

 private:
  static pcre2_code* compile(const std::string& pattern, uint32_t options) {
    int error = 0;
    size_t offset = 0;
    pcre2_code* const code =
        pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                      PCRE2_UTF | PCRE2_UCP | options, &error, &offset, nullptr);
    check(code != nullptr, pattern + " does not compile at " + std::to_string(offset));
    return code;
  }
  std::unique_ptr<pcre2_code, decltype(&pcre2_code_free)> code_;
  std::unique_ptr<pcre2_match_data, decltype(&pcre2_match_data_free)> match_;
  std::unique_ptr<pcre2_match_context, decltype(&pcre2_match_context_free)> limits_;
};

inline std::string pcre2_version() {
  char version[64];
  pcre2_config(PCRE2_CONFIG_VERSION, version);
  return version;
}

inline std::string utf8(uint32_t code_point) {
  const auto tail = [&](int shift) {
    return static_cast<char>(0x80 | (code_point >> shift & 0x3F));
  };
  if (code_point < 0x80) return {static_cast<char>(code_point)};
  if (code_point < 0x800) return {static_cast<char>(0xC0 | code_point >> 6), tail(0)};
  if (code_point < 0x10000) {
    return {static_cast<char>(0xE0 | code_point >> 12), tail(6), tail(0)};
  }
  return {static_cast<char>(0xF0 | code_point >> 18), tail(12), tail(6), tail(0)};
}

constexpr bool is_surrogate(uint32_t code_point) { return code_point >> 11 == 0x1B; }

// The number that the first bytes of `text` stand for, if they are a character.
inline uint32_t code_point_of(std::string_view text) {
  const auto lead = static_cast<unsigned char>(text[0]);
  if (lead < 0x80) return lead;
  const auto length = static_cast<size_t>(std::countl_one(lead));
  uint32_t code_point = lead & 0x7Fu >> length;
  for (size_t i = 1; i < std::min(length, text.size()); ++i) {
    code_point = code_point << 6 | (text[i] & 0x3F);
  }
  return code_point;
}

// The character that `text` begins with; empty where that is none. One is valid where encoding what
// it decodes to gives its own bytes.
inline std::string character_of(std::string_view text) {
  const uint32_t code_point = code_point_of(text);
  if (code_point >= 0x110000 || is_surrogate(code_point)) return "";
  const std::string character = utf8(code_point);
  return text.starts_with(character) ? character : "";
}

class ReferenceSplitter {
 public:
  // \s and \S are spelled out: PCRE2's take in U+180E, which is no white space in Unicode.
  ReferenceSplitter()
      : pattern_(
            "'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}{1,2}|"
            " ?[^" +
            white() + "\\p{L}\\p{N}]++[\\r\\n]*|[" + white() + "]*[\\r\\n]|[" + white() +
            "]+(?![^" + white() + "])|[" + white() + "]+"),
        letter_("\\p{L}"),
        number_("\\p{N}"),
        space_("[" + white() + "]") {
    for (uint32_t c = 0; c < 0x110000; ++c) {
      if (!is_surrogate(c) && class_of(c) != pcre2_class(c)) differing_[c] = true;
    }
  }

  std::vector<std::string_view> split(std::string_view text) const {
    std::vector<std::string_view> pieces;
    for (size_t at = 0; at < text.size();) {
      const size_t valid = run(text.substr(at), false);
      for (size_t i = 0; i < valid;) {
        const size_t length = pattern_.match(text.substr(at, valid), i);
        check(length > 0, "the pattern matches nowhere");
        pieces.push_back(text.substr(at + i, length));
        i += length;
      }
      at += valid;
      const size_t invalid = run(text.substr(at), true);
      if (invalid > 0) pieces.push_back(text.substr(at, invalid));
      at += invalid;
    }
    return pieces;
  }

  CharacterClass pcre2_class(uint32_t code_point) const {
    if (code_point == '\r' || code_point == '\n') return kNewline;
    const std::string text = utf8(code_point);
    return letter_.match(text, 0)   ? kLetter
           : number_.match(text, 0) ? kNumber
           : space_.match(text, 0)  ? kSpace
                                    : kOther;
  }
  bool differs(uint32_t code_point) const { return differing_[code_point]; }
  // Whether every character of the text has the same class for PCRE2. (Random bytes may make one.)
  bool comparable(std::string_view text) const {
    while (!text.empty()) {
      const std::string character = character_of(text);
      if (!character.empty() && differs(code_point_of(character))) return false;
      text.remove_prefix(std::max<size_t>(1, character.size()));
    }
    return true;
  }

 private:
  static std::string white() {
    return "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{"
           "202f}"
           "\\x{205f}\\x{3000}";
  }
  // How many bytes at the begin of `text` are characters, or are none.
  static size_t run(std::string_view text, bool invalid) {
    size_t length = 0;
    while (length < text.size()) {
      const std::string character = character_of(text.substr(length));
      if (character.empty() != invalid) break;
      length += invalid ? 1 : character.size();
    }
    return length;
  }

  Pcre2 pattern_, letter_, number_, space_;
  std::vector<bool> differing_ = std::vector<bool>(0x110000);
};

}  // namespace autoresearch
