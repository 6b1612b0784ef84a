// UTF-8, and the classes of characters that the split pattern tells apart (Unicode 16, as tiktoken
// 0.14 has it).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace autoresearch {

// \p{L}, \p{N}, \s without and with a line's end (\r and \n), and what is none of these.
enum CharacterClass : uint8_t { kOther, kLetter, kNumber, kSpace, kNewline, kInvalid, kEnd };

// Class by code point, in blocks of 256; those of a single class are kept once.
struct CharacterClasses {
  uint8_t block_of[0x1100];
  CharacterClass blocks[160][256];
};
extern const CharacterClasses kCharacterClasses;

inline CharacterClass class_of(uint32_t code_point) {
  return kCharacterClasses.blocks[kCharacterClasses.block_of[code_point >> 8]][code_point & 0xFF];
}

// What text begins with: a character, bytes that can't be one (kInvalid), or nothing (kEnd). In the
// second case `length` is what a decoder replaces by a single U+FFFD (Unicode 16, 3.9, "maximal
// subpart").
struct ClassedCharacter {
  CharacterClass kind;
  uint8_t length;  // bytes
};

ClassedCharacter non_ascii_character(const char* at, const char* end);  // *at >= 0x80

inline ClassedCharacter character_at(const char* at, const char* end) {
  if (at == end) return {kEnd, 0};
  const auto lead = static_cast<unsigned char>(*at);
  if (lead < 0x80) return {kCharacterClasses.blocks[0][lead], 1};
  return non_ascii_character(at, end);
}

// How many bytes of `text` are not part of a valid UTF-8 character.
int64_t invalid_utf8_bytes(std::string_view text);

}  // namespace autoresearch
