// The documents of a set of files.
//
// A corpus is an index of documents, not their text: it is read when it is needed, so that a corpus
// may be larger than memory. Exact duplicates are gone, and the order is that of a hash of the
// content: a shuffle that depends on nothing but the documents themselves.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "common/files.h"

namespace autoresearch {

// Where one document lies.
struct Document {
  std::array<uint64_t, 2> hash;  // of its text
  uint32_t file;                 // index into Corpus::files
  int64_t offset, length;        // bytes; of the whole line in a file of JSON lines
  int64_t bytes;                 // of its text
};

struct Corpus {
  std::vector<fs::path> files;
  std::vector<Document> documents;  // by hash
  int64_t duplicates = 0;           // documents that were left out as such
  int64_t bytes = 0;                // of all documents' text

  // The text of a document. Throws Error when its file has changed since it was indexed.
  std::string text(const Document& document) const;
};

// Indexes files. A line of a .jsonl file is a document (its "text"), any other file is one; a file
// that is more than a fortieth of the corpus is cut at line ends into parts, each a document, or
// nothing could be held out of a single book. `on_bytes` hears how many bytes have been read; what
// it throws ends the indexing.
Corpus index_corpus(const std::vector<fs::path>& files,
                    const std::function<void(int64_t bytes)>& on_bytes = {});

}  // namespace autoresearch
