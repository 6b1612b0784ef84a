// Bytes of a file from front to back, decompressed on the way.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "common/files.h"

namespace autoresearch {

// Throws Error that names the file: for what the system refuses, and for compressed data that is
// damaged or ends too early.
class ByteStream {
 public:
  virtual ~ByteStream() = default;

  // Fills `buffer` with up to `size` of the next bytes (more than 0). Returns how many; 0 at the
  // end only.
  virtual size_t read(char* buffer, size_t size) = 0;

  // Bytes of the file, as it lies on disk, that were consumed so far.
  virtual int64_t position() const = 0;
};

// Opens a file, or stdin where `file` is one of its names below. A name that ends in .gz or .zst is
// decompressed (any number of gzip members or zstd frames); whether stdin is compressed is told by
// its first bytes. Once `*stop` is true, whoever waits for stdin gets an Error: the other side of a
// pipe may stay silent for ever.
std::unique_ptr<ByteStream> open_bytes(const fs::path& file,
                                       const std::atomic<bool>* stop = nullptr);

// "-" is stdin; so is "-.jsonl", which says what comes: a pipe has no other way to have a name. It
// can be opened once, since what was read is gone.
bool is_stdin(const fs::path& file);

// The name without .gz or .zst.
fs::path plain_name(const fs::path& file);

// ".txt" of "NOTES.TXT".
std::string lower_extension(const fs::path& file);

// What an Error calls the file.
std::string display_name(const fs::path& file);

// Whether a file that starts so holds no text: there is a NUL in its first 8 KB, as git tells it.
constexpr size_t kBinaryProbe = 8192;
bool is_binary(std::string_view start);

// Throws Error when it does not.
void check_is_text(const fs::path& file, std::string_view start);

}  // namespace autoresearch
