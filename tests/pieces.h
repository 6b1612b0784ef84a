// A text's pieces, all at once.
#pragma once

#include <array>
#include <string_view>
#include <vector>

#include "task/splitter.h"

namespace autoresearch {

// In order, they are the text.
inline std::vector<std::string_view> split(std::string_view text) {
  std::vector<std::string_view> pieces;
  const char* begin = text.data();
  std::array<const char*, 256> ends;
  Splitter splitter(text);
  while (const size_t count = splitter.next(ends)) {
    for (size_t i = 0; i < count; begin = ends[i++]) pieces.emplace_back(begin, ends[i]);
  }
  return pieces;
}

}  // namespace autoresearch
