// UTF-8, one character at a time.
#pragma once

#include <cstddef>
#include <cstdint>

namespace autoresearch {

struct Utf8Character {
  char32_t code = 0;
  uint8_t bytes = 0;
  bool valid = false;
};

// What [at, end) begins with; it is not empty. If that is no character (overlong forms, surrogates,
// values above U+10FFFF, one that is cut off), `bytes` counts those that a decoder replaces by one
// U+FFFD (Unicode 16, 3.9, "maximal subpart").
inline Utf8Character decode_utf8(const char* at, const char* end) {
  const auto byte = [at](size_t i) { return static_cast<uint8_t>(at[i]); };
  const uint8_t lead = byte(0);
  if (lead < 0x80) return {lead, 1, true};
  if (lead < 0xC2 || lead > 0xF4) return {0, 1, false};
  const uint8_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  // The second byte's range excludes overlong forms, surrogates and what is above U+10FFFF.
  uint8_t low = 0x80, high = 0xBF;
  if (lead == 0xE0) low = 0xA0;
  if (lead == 0xED) high = 0x9F;
  if (lead == 0xF0) low = 0x90;
  if (lead == 0xF4) high = 0x8F;
  char32_t code = lead & (0xFFu >> (length + 1));
  for (uint8_t i = 1; i < length; ++i, low = 0x80, high = 0xBF) {
    if (i >= end - at || byte(i) < low || byte(i) > high) return {0, i, false};
    code = code << 6 | (byte(i) & 0x3F);
  }
  return {code, length, true};
}

}  // namespace autoresearch
