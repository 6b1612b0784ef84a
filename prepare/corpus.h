// Many files as one corpus: one after the other, or all at once into a shuffle.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "common/files.h"
#include "prepare/reader.h"
#include "prepare/shuffle.h"

namespace autoresearch {

// Hears how many bytes of the files have been read; what it throws ends the reading.
using OnBytes = std::function<void(int64_t bytes)>;

// Bytes on disk.
int64_t total_bytes(const std::vector<fs::path>& files);

// The length above which a plain text is cut into parts, each a document, or nothing could be held
// out of a single book: a fortieth of all plain text, 4 to 256 KB (of a longer part, the tokenizer
// would learn from the beginning only). What counts is the text, not how the file holds it.
int64_t part_bytes(const std::vector<fs::path>& files);

// The documents of `files` in order. position() counts bytes of the files.
std::unique_ptr<DocumentReader> open_in_order(std::vector<fs::path> files, ReadOptions options);

// Reads all files into `documents`, with up to `workers` threads, which need not be in order. A
// byte order mark at the begin of a document is dropped. Throws Error if too many lines are bad.
void read_files(const std::vector<fs::path>& files, ReadOptions options, int64_t workers,
                ShuffledDocuments& documents, const OnBytes& on_bytes);

// Throws Error unless `count` documents can be passed over.
void skip(DocumentReader& reader, int64_t count);

}  // namespace autoresearch
