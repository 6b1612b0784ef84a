// The documents of one file, streamed: a corpus may be larger than memory, and so may a file.
//
// By name: .parquet holds a document in each row, .jsonl and .ndjson in each line, everything else
// is plain text or source code. Text and JSON lines may be compressed (.gz, .zst), and may come
// from stdin (prepare/bytes.h).
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

#include "common/files.h"

namespace autoresearch {

constexpr size_t kLargestDocument = size_t{16} << 20;  // bytes; a longer row or line is an Error

struct ReadOptions {
  std::string column = "text";              // of a parquet file, and the key in a line of JSON
  std::string doc_separator = {};           // in plain text; empty: a file is a document
  int64_t part_bytes = 256 << 10;           // plain text without separator: a longer file is cut;
                                            // 0: a fortieth of what came before, 4 to 64 KB
  const std::atomic<bool>* stop = nullptr;  // ends a wait for stdin (prepare/bytes.h)
};

// The documents of a file from front to back, in memory of at most a few of the largest one. What
// is no value (null, a blank line of JSON lines) is passed over; a document may be blank.
//
// Text is handed on as it is, valid UTF-8 or not, without the separators. Where there are none, a
// file of more than `part_bytes` is cut at line ends, or, where a line is that long itself, at a
// character: each part is a document of at most twice as many bytes. In JSON, escaped surrogates
// without a partner, which are no characters, become U+FFFD, as tiktoken does with them.
class DocumentReader {
 public:
  virtual ~DocumentReader() = default;

  // The next document; false at the end. Throws Error, naming the file and the line or row group,
  // for data that is damaged, cut short, binary, or of another form than the name says.
  virtual bool next(std::string& document) = 0;

  // Bytes of the file that were consumed so far, out of its size; for progress.
  virtual int64_t position() const = 0;

  // Whether the document returned last was the last of its row group in a parquet file.
  virtual bool group_ended() const { return false; }
};

std::unique_ptr<DocumentReader> open_documents(const fs::path& file, const ReadOptions& options);

// What a file holds, by its name.
enum class Form { kText, kJsonLines, kParquet };
Form form_of(const fs::path& file);

}  // namespace autoresearch
