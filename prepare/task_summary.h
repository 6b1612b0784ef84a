// A task at a glance: what `prepare` prints when it has made one, and `prepare info`.
#pragma once

#include <string>
#include <string_view>

#include "task/task.h"
#include "task/tokenizer.h"

namespace autoresearch {

// Text in double quotes, with line ends and what is not UTF-8 made visible.
std::string in_quotes(std::string_view text);

// One line a split: documents, tokens, bytes, bytes a token, rows.
std::string summary_of_splits(const TaskInfo& info);

// The longest tokens, and the beginning of each split, decoded.
std::string summary_of_samples(const fs::path& dir, const TaskInfo& info,
                               const Tokenizer& tokenizer);

}  // namespace autoresearch
