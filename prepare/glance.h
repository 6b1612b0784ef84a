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
std::string splits_at_a_glance(const TaskInfo& info);

// The longest tokens, and the beginning of each split, decoded.
std::string samples_at_a_glance(const fs::path& dir, const TaskInfo& info,
                                const Tokenizer& tokenizer);

// How many tokens one training budget takes in, and how many epochs that is: by the latest run on
// this task, else by upstream's throughput on an H100 in proportion to `peak_flops` of the GPU
// at hand; where that is 0 (no GPU, or one that is not known), what to type to find out.
std::string budget_at_a_glance(const fs::path& dir, const TaskInfo& info, double peak_flops);

}  // namespace autoresearch
