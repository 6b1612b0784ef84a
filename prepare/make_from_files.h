// A task from the user's own files: shuffled by content, exact duplicates left out.
#pragma once

#include "prepare/request.h"

namespace autoresearch {

// Makes the task `wanted` in `dir` (a Workplace's), all but its task.json, and returns what is to
// stand there. Throws Error for a corpus that is empty or too small, and when interrupted.
TaskInfo make_from_files(const Request& request, const fs::path& dir, const TaskInfo& wanted);

}  // namespace autoresearch
