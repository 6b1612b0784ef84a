// A task from a corpus on the hub: whole documents in order, one pinned file held out.
#pragma once

#include "prepare/request.h"

namespace autoresearch {

// Downloads what is not here yet and makes the task `wanted` in `dir` (a Workplace's), all but its
// task.json; returns what is to stand there. Throws Error for files that do not arrive or hold too
// little, and when interrupted; what has arrived is kept.
TaskInfo make_from_hub(const Request& request, const fs::path& dir, const TaskInfo& wanted);

}  // namespace autoresearch
