// What a file is, by its first bytes.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "prepare/bytes.h"

namespace autoresearch {

constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";  // of UTF-8

enum class Form { kText, kJsonLines, kParquet };

struct Look {
  Form form = Form::kText;
  std::string unfit = {};  // why it can't be read, and what helps: "is a zip archive; unpack it"
  std::string kind = {};   // what it is then, to be counted: "zip archive"
};

// Opens a file as UTF-8 without byte order mark, after a look at its first bytes, decompressed;
// `findings` hears of what was changed, and of what the name does not say. If `is_text` (the user
// has said how documents are separated), lines of JSON are text like any other.
struct OpenedFile {
  Look look;
  std::unique_ptr<ByteStream> bytes;
};
OpenedFile open_file(const fs::path& file, Findings& findings, bool is_text = false);

}  // namespace autoresearch
