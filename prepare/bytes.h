// Bytes of a file from front to back, decompressed on the way.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "common/files.h"
#include "prepare/findings.h"

namespace autoresearch {

// Throws Error that names the file: for what the system refuses, and for compressed data that is
// damaged or ends too early.
class ByteStream {
 public:
  virtual ~ByteStream() = default;

  // Fills `buffer` with up to `size` of the next bytes (more than 0). Returns how many; 0 at the
  // end only.
  size_t read(char* buffer, size_t size);

  // The next `size` bytes, fewer at the end, without consuming them; valid until the next call.
  std::string_view peek(size_t size);

  // Bytes of the file, as it lies on disk, that were consumed so far.
  virtual int64_t position() const = 0;

 protected:
  // read(), of what nobody has peeked at.
  virtual size_t read_some(char* buffer, size_t size) = 0;

 private:
  std::string ahead_;
};

// Opens a file, or stdin if `file` is one of its names below. What begins as gzip or zstd does is
// decompressed whatever its name (any number of members or frames, and of layers); what has such a
// name only is read as it is, if that is text. `findings` hears of such names, and of bytes behind
// the compressed data.
std::unique_ptr<ByteStream> open_bytes(const fs::path& file, Findings& findings);

// "-" is stdin; so is "-.jsonl", which says what comes.
bool is_stdin(const fs::path& file);

// Lets stdin be a file, if it is none yet, so that it can be read like any other: a pipe is copied
// to one in `folder` that has no name. `on_wait` is called while the pipe is silent, some times a
// second; what it throws ends the copying.
void make_stdin_a_file(const fs::path& folder, const std::function<void()>& on_wait);

// What the system calls the file.
fs::path system_path(const fs::path& file);

// The name without .gz or .zst.
fs::path plain_name(const fs::path& file);

// ".txt" of "NOTES.TXT".
std::string lower_extension(const fs::path& file);

// What an Error calls the file.
std::string display_name(const fs::path& file);

}  // namespace autoresearch
