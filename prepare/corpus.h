// Where text comes from: files and folders of text, source code and JSON lines, and the demo's
// headers.
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

// Files to read, sorted: what is named is taken, folders are searched for text and source code (by
// extension; hidden folders, links to folders and binary files are passed over). Throws Error for a
// path that can't be read, a named file that is binary, and where nothing is found.
std::vector<fs::path> find_files(const std::vector<fs::path>& paths);

// C and C++ headers below `roots` (those that exist), of at most 200,000 bytes each, in the order
// of a hash of their names, until `max_bytes` are reached. libtorch's generated ATen/ops are left
// out.
std::vector<fs::path> find_demo_files(const std::vector<fs::path>& roots, int64_t max_bytes);

// Indexes files. A line of a .jsonl file is a document (its "text"), any other file is one; a file
// that is more than a fortieth of the corpus is cut at line ends into parts, each a document, or
// nothing could be held out of a single book. `on_bytes` hears how many bytes have been read; what
// it throws ends the indexing.
Corpus index_corpus(const std::vector<fs::path>& files,
                    const std::function<void(int64_t bytes)>& on_bytes = {});

}  // namespace autoresearch
