// A task with another time budget, without making it anew.
#pragma once

#include <string>

#include "common/files.h"

namespace autoresearch {

// Makes the task `name` under data_dir(): what the task in `from` holds, with another budget. Its
// files are hard links if the file system can, because nothing ever writes them again. It is a task
// of its own: no figure compares with one of `from`. Throws Error if there is a task `name`, if
// that can't be a name, and if `from` is damaged.
void copy_task(const fs::path& from, const std::string& name, double time_budget);

}  // namespace autoresearch
