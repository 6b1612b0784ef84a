#include "prepare/splitter.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "prepare/unicode.h"

namespace autoresearch {
namespace {

constexpr ptrdiff_t kWindow = 16;  // bytes that are looked at together

bool is_ascii(char c) { return static_cast<unsigned char>(c) < 0x80; }

// Bit i is set where at[i] is an ASCII letter, for i in [0, kWindow).
uint32_t ascii_letters(const char* at) {
#ifdef __SSE2__
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(at));
  // Lower case, shifted so that 'a' to 'z' are the 26 smallest signed values.
  const __m128i shifted = _mm_add_epi8(_mm_or_si128(bytes, _mm_set1_epi8(0x20)),
                                       _mm_set1_epi8(static_cast<char>(0x80 - 'a')));
  const __m128i letters = _mm_cmplt_epi8(shifted, _mm_set1_epi8(-0x80 + 26));
  return static_cast<uint32_t>(_mm_movemask_epi8(letters));
#else
  uint32_t letters = 0;
  for (ptrdiff_t i = 0; i < kWindow; ++i) {
    letters |= uint32_t{static_cast<unsigned char>((at[i] | 0x20) - 'a') < 26} << i;
  }
  return letters;
#endif
}

// The functions below return the end of a run of characters of some kind that begins at `at`.

const char* letters_end(const char* at, const char* end) {
  while (end - at >= kWindow) {
    const int length = std::countr_one(ascii_letters(at));
    at += length;
    if (length < kWindow) break;
  }
  for (Character c; (c = character_at(at, end)).kind == kLetter;) at += c.length;
  return at;
}

const char* others_end(const char* at, const char* end) {
  for (Character c; (c = character_at(at, end)).kind == kOther;) at += c.length;
  return at;
}

const char* invalid_end(const char* at, const char* end) {
  for (Character c; (c = character_at(at, end)).kind == kInvalid;) at += c.length;
  return at;
}

// \s*[\r\n]|\s+(?!\S)|\s+ : up to the last line end; without one, all white space at the end of the
// text, else all but its last character, unless it has no other.
const char* white_space_end(const char* at, const char* end) {
  const char *last_line_end = nullptr, *last = at;
  const char* p = at;
  for (Character c; (c = character_at(p, end)).kind == kSpace || c.kind == kNewline;) {
    last = p;
    p += c.length;
    if (c.kind == kNewline) last_line_end = p;
  }
  if (last_line_end) return last_line_end;
  const CharacterClass follows = character_at(p, end).kind;
  return follows == kEnd || follows == kInvalid || last == at ? p : last;
}

// '(?i:[sdmt]|ll|ve|re) after the apostrophe; nullptr where it does not match.
const char* contraction_end(const char* at, const char* end) {
  const auto lower = [&](ptrdiff_t i) {
    return i < end - at ? static_cast<char>(at[i] | 0x20) : 0;
  };
  switch (lower(0)) {
    case 's':
    case 'd':
    case 'm':
    case 't':
      return at + 1;
    case 'l':
      return lower(1) == 'l' ? at + 2 : nullptr;
    case 'v':
    case 'r':
      return lower(1) == 'e' ? at + 2 : nullptr;
  }
  return std::string_view(at, end).starts_with("\u017f") ? at + 2 : nullptr;
}

// The end of the piece that begins at `at`, which is not the end of the text.
const char* piece_end(const char* at, const char* end) {
  const Character first = character_at(at, end);
  const char* const second = at + first.length;
  if (first.kind == kLetter) return letters_end(second, end);
  if (first.kind == kInvalid) return invalid_end(second, end);
  const Character next = character_at(second, end);
  if (first.kind == kNumber) return next.kind == kNumber ? second + next.length : second;
  if (*at == '\'') {
    if (const char* contraction = contraction_end(second, end)) return contraction;
  }
  if (first.kind != kNewline && next.kind == kLetter) return letters_end(second + next.length, end);
  if (first.kind == kOther || (*at == ' ' && next.kind == kOther)) {
    at = others_end(second, end);
    while (at != end && (*at == '\r' || *at == '\n')) ++at;
    return at;
  }
  return white_space_end(at, end);
}

// What the byte that a piece begins with says of a word of ASCII letters.
enum Role : uint8_t { kNoWord, kInWord, kBeforeWord };
constexpr std::array<Role, 256> kRoles = [] {
  std::array<Role, 256> roles{};
  for (size_t c = 0; c < 0x80; ++c) {
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    const bool apart = (c >= '0' && c <= '9') || c == '\r' || c == '\n';
    // An apostrophe may also begin a contraction.
    roles[c] = letter ? kInWord : apart || c == '\'' ? kNoWord : kBeforeWord;
  }
  return roles;
}();

}  // namespace

size_t Splitter::next(std::span<const char*> ends) {
  size_t count = 0;
  for (; count < ends.size() && at_ != end_; ++count) {
    // Most pieces are a word of ASCII letters with or without one character before it.
    if (end_ - at_ > kWindow + 1) {
      const Role role = kRoles[static_cast<unsigned char>(*at_)];
      const uint32_t letters = ascii_letters(at_ + 1);
      const int length = std::countr_one(letters);
      if ((role == kInWord || (role == kBeforeWord && length > 0)) && length < kWindow &&
          is_ascii(at_[1 + length])) {
        ends[count] = at_ += 1 + length;
        continue;
      }
    }
    ends[count] = at_ = piece_end(at_, end_);
  }
  return count;
}

std::vector<std::string_view> split(std::string_view text) {
  std::vector<std::string_view> pieces;
  const char* begin = text.data();
  std::array<const char*, 64> ends;
  Splitter splitter(text);
  while (const size_t count = splitter.next(ends)) {
    for (size_t i = 0; i < count; begin = ends[i++]) pieces.emplace_back(begin, ends[i]);
  }
  return pieces;
}

size_t safe_prefix(std::string_view text) { return text.size(); }

}  // namespace autoresearch
