#include "task/splitter.h"

#include <emmintrin.h>  // SSE2, which all x86-64 machines have

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <cstring>

#include "task/unicode.h"

namespace autoresearch {
namespace {

constexpr ptrdiff_t kWindow = 16;  // bytes that are looked at together

// Bit i is set where at[i] is an ASCII letter, for i in [0, kWindow).
uint32_t ascii_letters(const char* at) {
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(at));
  // Lower case, shifted so that 'a' to 'z' are the 26 smallest signed values.
  const __m128i shifted = _mm_add_epi8(_mm_or_si128(bytes, _mm_set1_epi8(0x20)),
                                       _mm_set1_epi8(static_cast<char>(0x80 - 'a')));
  const __m128i letters = _mm_cmplt_epi8(shifted, _mm_set1_epi8(-0x80 + 26));
  return static_cast<uint32_t>(_mm_movemask_epi8(letters));
}

// The functions below return the end of a run of characters of some kind that begins at `at`.

const char* letters_end(const char* at, const char* end) {
  while (end - at >= kWindow) {
    const int length = std::countr_one(ascii_letters(at));
    at += length;
    if (length < kWindow) break;
  }
  for (ClassedCharacter c; (c = character_at(at, end)).kind == kLetter;) at += c.length;
  return at;
}

const char* others_end(const char* at, const char* end) {
  for (ClassedCharacter c; (c = character_at(at, end)).kind == kOther;) at += c.length;
  return at;
}

const char* invalid_end(const char* at, const char* end) {
  for (ClassedCharacter c; (c = character_at(at, end)).kind == kInvalid;) at += c.length;
  return at;
}

// \s*[\r\n]|\s+(?!\S)|\s+ : up to the last line end; without one, all white space at the end of the
// text, else all but its last character, unless it has no other.
const char* white_space_end(const char* at, const char* end) {
  const char *last_line_end = nullptr, *last = at;
  const char* p = at;
  for (ClassedCharacter c; (c = character_at(p, end)).kind == kSpace || c.kind == kNewline;) {
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
  const ClassedCharacter first = character_at(at, end);
  const char* const second = at + first.length;
  if (first.kind == kLetter) return letters_end(second, end);
  if (first.kind == kInvalid) return invalid_end(second, end);
  const ClassedCharacter next = character_at(second, end);
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

// ------------------------------------------------------------------------------------------------
// ASCII text, 64 characters at a time. Bit i of a bitmap speaks of the character at[i]; `x << 1`
// tells each character whether x holds for the one before it, `x >> 1` for the one after it. (Text
// as bitmaps: Langdale and Lemire, simdjson, arXiv 1902.08318.)

constexpr ptrdiff_t kBlock = 64;

struct Bitmaps {
  uint64_t letters = 0, digits = 0, white = 0, line_ends = 0, spaces = 0, apostrophes = 0;
  uint64_t non_ascii = 0;
};

Bitmaps bitmaps_of(const char* at) {
  Bitmaps bits;
  const auto equals = [](__m128i bytes, char c) { return _mm_cmpeq_epi8(bytes, _mm_set1_epi8(c)); };
  const auto in_range = [](__m128i bytes, char first, int count) {  // as the smallest signed values
    const __m128i shifted = _mm_add_epi8(bytes, _mm_set1_epi8(static_cast<char>(0x80 - first)));
    return _mm_cmplt_epi8(shifted, _mm_set1_epi8(static_cast<char>(-0x80 + count)));
  };
  for (int i = 0; i < kBlock; i += 16) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(at + i));
    const __m128i lower = _mm_or_si128(bytes, _mm_set1_epi8(0x20));
    const __m128i space = equals(bytes, ' ');
    const auto add = [i](uint64_t& bitmap, __m128i mask) {
      bitmap |= uint64_t{static_cast<uint32_t>(_mm_movemask_epi8(mask))} << i;
    };
    add(bits.letters, in_range(lower, 'a', 26));
    add(bits.digits, in_range(bytes, '0', 10));
    add(bits.white, _mm_or_si128(space, in_range(bytes, '\t', 5)));
    add(bits.line_ends, _mm_or_si128(equals(bytes, '\n'), equals(bytes, '\r')));
    add(bits.spaces, space);
    add(bits.apostrophes, equals(bytes, '\''));
    add(bits.non_ascii, bytes);
  }
  return bits;
}

// The runs of `bits` that begin with one of `starts`: the sum carries through them.
uint64_t runs_from(uint64_t starts, uint64_t bits) { return bits & ~(bits + starts); }

// The bits from which there are only bits of `bits` up to one of `ends`, which are some of them.
uint64_t runs_to(uint64_t ends, uint64_t bits) {
  for (int step = 1; step < kBlock; step *= 2) {
    ends |= bits & (ends >> step);
    bits &= bits >> step;
  }
  return ends;
}

// Where pieces begin in the block at `at`, where one does, up to the last place at which one is
// sure to begin whatever follows the block; 0 where there is no such place after the first.
uint64_t piece_starts(const char* at, const char* end) {
  const Bitmaps bits = bitmaps_of(at);
  const uint64_t letters = bits.letters, digits = bits.digits, white = bits.white;
  const uint64_t line_ends = bits.line_ends, others = ~(letters | digits | white);
  const uint64_t blanks = white & ~line_ends;

  // A letter is followed by nothing else in its piece, nor is a digit, which nothing precedes.
  const uint64_t number_edges = digits ^ (digits << 1);
  uint64_t sure =
      (letters << 1 & ~letters) | number_edges | (line_ends << 1 & ~white) | (others << 1 & blanks);
  sure &= ~uint64_t{1};
  if (bits.non_ascii) sure &= (bits.non_ascii & -bits.non_ascii) - 1;
  if (sure == 0) return 0;

  // \p{N}{1,2}: every second digit of a run.
  constexpr uint64_t kEven = 0x5555555555555555u;
  const uint64_t even_runs = runs_from(digits & ~(digits << 1) & kEven, digits);
  uint64_t starts = (even_runs & kEven) | (digits & ~even_runs & ~kEven);
  // A blank joins the letters after it, and so does a single character that no space precedes.
  const uint64_t single = others & ~(others << 1) & ~(others >> 1) & ~(bits.spaces << 1);
  starts |= letters & ~(letters << 1) & ~((single | blanks) << 1);
  starts |= others & ~(others << 1) & ~(bits.spaces << 1);
  // Line ends right after others are theirs. What is left of the white space begins a piece, and
  // so do its last blank and the blanks after its last line end.
  const uint64_t left = white & ~runs_from(line_ends & (others << 1), line_ends);
  starts |= left & ~(left << 1);
  starts |= blanks & ~(white >> 1);
  uint64_t before_line_end = blanks & (line_ends >> 1);
  if (before_line_end) before_line_end = runs_to(before_line_end, blanks);
  starts |= blanks & (line_ends << 1) & ~before_line_end;
  // What follows a contraction begins a piece.
  uint64_t contractions = single & bits.apostrophes & (letters >> 1);
  for (; contractions; contractions &= contractions - 1) {
    const char* const apostrophe = at + std::countr_zero(contractions);
    const char* const after = contraction_end(apostrophe + 1, end);
    if (after && after - at < kBlock) starts |= uint64_t{1} << (after - at);
  }
  return starts & (std::bit_floor(sure) * 2 - 1) & ~uint64_t{1};
}

bool begins_with_ascii(const char* at) {
  uint64_t word;
  std::memcpy(&word, at, sizeof word);
  return (word & 0x8080808080808080u) == 0;
}

}  // namespace

size_t Splitter::next(std::span<const char*> ends) {
  size_t count = 0;
  while (count < ends.size() && at_ != end_) {
    uint64_t starts = 0;
    if (end_ - at_ >= kBlock && ends.size() - count >= kBlock && begins_with_ascii(at_)) {
      starts = piece_starts(at_, end_);
    }
    if (starts == 0) {
      ends[count++] = at_ = piece_end(at_, end_);
      continue;
    }
    for (; starts; starts &= starts - 1) ends[count++] = at_ + std::countr_zero(starts);
    at_ = ends[count - 1];
  }
  return count;
}

namespace {

// The last character or byte that is none before `at`, which is not the begin of the text.
ClassedCharacter character_before(const char* begin, const char* at) {
  for (uint8_t length = 1; length <= 4 && length <= at - begin; ++length) {
    const ClassedCharacter character = character_at(at - length, at);
    if (character.kind != kInvalid && character.length == length) return character;
  }
  return {kInvalid, 1};
}

// Whether a piece begins between two characters wherever they are, and the pieces before it are the
// same as if the text ended there, as they would not be where blanks are followed by a digit.
bool surely_parted(CharacterClass before, CharacterClass after) {
  if ((before == kInvalid) != (after == kInvalid)) return true;
  if (before == kSpace) return false;
  if (before == kNewline) return after != kNewline && after != kSpace;
  if (before == kOther) return after == kSpace || after == kNumber;
  return before != after;  // letters, numbers
}

// Where the bytes at the end begin that may be the begin of a character.
const char* whole_characters_end(const char* begin, const char* end) {
  for (ptrdiff_t length = std::min<ptrdiff_t>(3, end - begin); length > 0; --length) {
    const ClassedCharacter character = character_at(end - length, end);
    const bool begins = static_cast<unsigned char>(end[-length]) >= 0xC0;
    if (begins && character.kind == kInvalid && character.length == length) return end - length;
  }
  return end;
}

}  // namespace

size_t safe_prefix(std::string_view text) {
  const char* const begin = text.data();
  const char* const end = whole_characters_end(begin, begin + text.size());
  CharacterClass after = kEnd;
  size_t count = 0, last_length = 0;
  for (const char* at = end; at != begin; ++count) {
    const ClassedCharacter before = character_before(begin, at);
    if (after == kEnd) {
      last_length = before.length;
    } else if (surely_parted(before.kind, after)) {
      return static_cast<size_t>(at - begin);
    }
    after = before.kind;
    at -= before.length;
  }
  if (after != kNumber) return 0;
  return static_cast<size_t>(end - begin) - (count % 2) * last_length;  // numbers only, in twos
}

}  // namespace autoresearch
