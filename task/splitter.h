// Cuts text into the pieces of upstream's split pattern, GPT-4's with \p{N}{1,2}:
//
//   '(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,2}| ?[^\s\p{L}\p{N}]++[\r\n]*|
//   \s*[\r\n]|\s+(?!\S)|\s+
//
// by hand, without a regular expression: what a piece is follows from the class of its first
// character or two, and the rest is runs of a class. Exactly as tiktoken 0.14 and rustbpe 0.1.0 cut
// it (Unicode 16; under (?i) the long s, U+017F, is an s). The pattern speaks of characters only:
// bytes that are not UTF-8 become pieces of their own, one for each maximal run, and what is before
// and after them is cut as a text of its own.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>

namespace autoresearch {

class Splitter {
 public:
  explicit Splitter(std::string_view text) : at_(text.data()), end_(at_ + text.size()) {}

  // Fills `ends` with the ends of the next pieces, each of which begins where the one before it
  // ends, and returns how many there are: fewer than fit at the end of the text only, then none.
  size_t next(std::span<const char *> ends);

 private:
  const char *at_, *end_;
};

// For text that arrives in parts: how many bytes of `text`, which begins where a piece does, can be
// cut into pieces now, as a text of their own, with the pieces that they have in the whole,
// whatever follows. 0 where it is all one piece so far: read more, best as much again as there is.
size_t safe_prefix(std::string_view text);

}  // namespace autoresearch
