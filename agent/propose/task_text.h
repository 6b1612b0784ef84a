// What a proposer is told of the task, which is the same all night: sizes, and what the text that
// is learned looks like.
#pragma once

#include <string>
#include <vector>

#include "agent/lab/measurement.h"
#include "task/task.h"

namespace autoresearch {

// At most 1,300 bytes in about a dozen lines. `passages`: of the training text; the first few are
// shown, cut and as data. Pure.
std::string task_text(const TaskInfo& info, const Slot& slot,
                      const std::vector<std::string>& passages);

// The beginnings of some documents of the training split, from all over its first file, as the
// tokenizer decodes them. Throws Error if the task is damaged.
std::vector<std::string> training_passages(const fs::path& task);

}  // namespace autoresearch
