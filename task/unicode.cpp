#include "task/unicode.h"

#include <algorithm>
#include <cstring>

#include "common/utf8.h"

namespace autoresearch {
namespace {

struct ClassChange {
  uint32_t code_point;
  CharacterClass kind;  // from here to the next change
};
constexpr ClassChange kChanges[] = {
#include "task/unicode_classes.inc"
};

constexpr CharacterClasses make_classes() {
  CharacterClasses classes{};
  uint8_t used = 0;
  int uniform[kEnd] = {-1, -1, -1, -1, -1};  // the block of nothing but one class
  const ClassChange* change = kChanges;
  const auto next_change = [&] {
    return change + 1 == std::end(kChanges) ? 0x110000 : change[1].code_point;
  };
  for (uint32_t block = 0; block < 0x1100; ++block) {
    const uint32_t begin = block << 8, end = begin + 256;
    if (next_change() == begin) ++change;
    const bool is_uniform = next_change() >= end;
    if (is_uniform && uniform[change->kind] >= 0) {
      classes.block_of[block] = static_cast<uint8_t>(uniform[change->kind]);
      continue;
    }
    if (is_uniform) uniform[change->kind] = used;
    for (uint32_t i = begin; i < end; ++i) {
      if (next_change() == i) ++change;
      classes.blocks[used][i - begin] = change->kind;
    }
    classes.block_of[block] = used++;
  }
  return classes;
}

}  // namespace

constexpr CharacterClasses kCharacterClasses = make_classes();

ClassedCharacter non_ascii_character(const char* at, const char* end) {
  const Utf8Character character = decode_utf8(at, end);
  return {character.valid ? class_of(character.code) : kInvalid, character.bytes};
}

int64_t invalid_utf8_bytes(std::string_view text) {
  const char *at = text.data(), *const end = at + text.size();
  int64_t invalid = 0;
  while (at != end) {
    uint64_t word = 0;
    for (; end - at >= 8; at += 8) {  // ASCII
      std::memcpy(&word, at, 8);
      if (word & 0x8080808080808080u) break;
    }
    while (at != end) {
      const ClassedCharacter character = character_at(at, end);
      if (character.kind == kInvalid) invalid += character.length;
      const bool ascii = static_cast<unsigned char>(*at) < 0x80;
      at += character.length;
      if (ascii && end - at >= 8) break;
    }
  }
  return invalid;
}

}  // namespace autoresearch
