// The documents of one file, streamed: a corpus may be larger than memory, and so may a file.
//
// By its first bytes (prepare/form.h): a parquet file holds a document in each row, lines of JSON
// in each line, everything else is plain text or source code. Text and JSON lines may be
// compressed, and in UTF-16 (prepare/bytes.h).
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "common/files.h"
#include "prepare/findings.h"

namespace autoresearch {

constexpr size_t kLargestDocument = size_t{16} << 20;  // bytes; a longer one is cut

struct ReadOptions {
  std::string column = "text";     // of a parquet file, and in a line of JSON (prepare/json_line.h)
  std::string doc_separator = {};  // in plain text; empty: a file is a document
  int64_t part_bytes = 256 << 10;  // plain text without separator: a longer file is cut
  int64_t memory = int64_t{192} << 20;  // bytes that one reader may take for a row or a line
  std::shared_ptr<Findings> findings = std::make_shared<Findings>();
};

// The documents of a file from front to back, in memory of at most a few of the largest one. What
// is no value (null, a blank line of JSON lines) is passed over; a document may be blank.
//
// Text is handed on as it is, valid UTF-8 or not, without the separators. If there are none, a
// file of more than `part_bytes` is cut at line ends, or, if a line is that long itself, at a
// character: each part is a document of at most twice as many bytes. In JSON, escaped surrogates
// without a partner, which are no characters, become U+FFFD, as tiktoken does with them.
//
// A bad line of JSON is skipped and noted in `findings`, which the caller asks in the end whether
// they were too many; a file of which most lines are bad is an Error soon.
class DocumentReader {
 public:
  virtual ~DocumentReader() = default;

  // The next document; false at the end. Throws Error, naming the file and the line or row group,
  // for data that is damaged, cut short or binary.
  virtual bool next(std::string& document) = 0;

  // Bytes of the file that were consumed so far, out of its size; for progress.
  virtual int64_t position() const = 0;

  // Whether the document returned last was the last of its row group in a parquet file.
  virtual bool group_ended() const { return false; }
};

std::unique_ptr<DocumentReader> open_documents(const fs::path& file, const ReadOptions& options);

}  // namespace autoresearch
