// Which files a --source names.
#pragma once

#include <cstdint>
#include <vector>

#include "common/files.h"
#include "prepare/reader.h"

namespace autoresearch {

// Files to read, sorted, each once. What is named is taken, stdin included (prepare/bytes.h).
// Folders are searched by extension for text, source code, .jsonl, .ndjson, their .gz and .zst, and
// .parquet; and by their first bytes for other files with lines of JSON or rows that have
// `options.column`. Whatever else is there is left out, and counted in `options.findings`: hidden
// folders, links to folders and binary files too. Throws Error for a path that can't be read, a
// named file that is binary, and if nothing is found.
std::vector<fs::path> find_files(const std::vector<fs::path>& paths, const ReadOptions& options);

// C and C++ headers below `roots` (those that exist), of at most 200,000 bytes each, in the order
// of a hash of their names, until `max_bytes` are reached. libtorch's generated ATen/ops are left
// out.
std::vector<fs::path> find_demo_files(const std::vector<fs::path>& roots, int64_t max_bytes);

}  // namespace autoresearch
