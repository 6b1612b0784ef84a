// UTF-16 as UTF-8.
#pragma once

#include <memory>

#include "prepare/bytes.h"

namespace autoresearch {

// The text of `source`, which stands behind the byte order mark. What is no character (half a pair,
// half a unit at the end) becomes U+FFFD.
std::unique_ptr<ByteStream> utf8_of_utf16(std::unique_ptr<ByteStream> source, bool big_endian);

}  // namespace autoresearch
