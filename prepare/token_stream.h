// `prepare encode` and `decode`: one stream to another, in memory that does not grow with them
// (unless a single piece of the text does).
#pragma once

#include <cstdio>

#include "task/tokenizer.h"

namespace autoresearch {

// Text to ids, without BOS: the same as if all the text were encoded at once. Ids are numbers with
// spaces between them and a line end after the last, or with `binary` little-endian uint16.
void encode_stream(const Tokenizer& tokenizer, std::FILE* in, std::FILE* out, bool binary);

// Ids in either form to text. Throws Error at what is no id of the vocabulary.
void decode_stream(const Tokenizer& tokenizer, std::FILE* in, std::FILE* out, bool binary);

}  // namespace autoresearch
