// Parquet files, by Arrow's C++ library (https://arrow.apache.org). The only place that knows it:
// its headers cost seconds to compile.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "common/error.h"
#include "prepare/reader.h"

namespace autoresearch {

// Of a file that is no parquet, or damaged.
struct DamagedParquet : Error {
  DamagedParquet(const fs::path& file, const std::string& what) : Error(what), file(file) {}
  fs::path file;
};

// The values of one column, a document each, row group by row group; a page of the column is in
// memory at a time, and the dictionary if it has one, within `options.memory`. A nested field is
// named by its path ("meta.text"); the strings of a list, joined by line ends, by "[]"
// ("paragraphs[]", "messages[].content"). Throws Error, listing the columns of text that there are,
// if `options.column` is none of them, and DamagedParquet.
std::unique_ptr<DocumentReader> open_parquet(const fs::path& file, const ReadOptions& options);

// What shows of damage in a file's footer, which describes all that is in it; or nothing. A file
// that is cut off fails it, changed bytes inside do not.
std::optional<std::string> parquet_problem(const fs::path& file);

}  // namespace autoresearch
