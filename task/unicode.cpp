#include "task/unicode.h"

#include <algorithm>
#include <cstring>

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

Character non_ascii_character(const char* at, const char* end) {
  const auto byte = [at](size_t i) { return static_cast<unsigned char>(at[i]); };
  const size_t left = static_cast<size_t>(end - at);
  const uint32_t lead = byte(0);
  if (lead < 0xC2 || lead > 0xF4) return {kInvalid, 1};
  const size_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  // The second byte's range excludes overlong forms, surrogates and what is above U+10FFFF.
  unsigned char low = 0x80, high = 0xBF;
  if (lead == 0xE0) low = 0xA0;
  if (lead == 0xED) high = 0x9F;
  if (lead == 0xF0) low = 0x90;
  if (lead == 0xF4) high = 0x8F;
  uint32_t code_point = lead & (0xFFu >> (length + 1));
  for (uint8_t i = 1; i < length; ++i, low = 0x80, high = 0xBF) {
    if (i >= left || byte(i) < low || byte(i) > high) return {kInvalid, i};
    code_point = code_point << 6 | (byte(i) & 0x3F);
  }
  return {class_of(code_point), static_cast<uint8_t>(length)};
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
      const Character character = character_at(at, end);
      if (character.kind == kInvalid) invalid += character.length;
      const bool ascii = static_cast<unsigned char>(*at) < 0x80;
      at += character.length;
      if (ascii && end - at >= 8) break;
    }
  }
  return invalid;
}

}  // namespace autoresearch
