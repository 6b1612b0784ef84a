// Folders that a candidate had to itself: made empty, and looked into without following anything
// that was left there. Nobody else may write to them meanwhile.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "common/files.h"

namespace autoresearch {

// Removes whatever is at `path`, at any depth and without permissions, and follows no link. False
// if something is left.
bool remove_whatever(const fs::path& path);

// The same; the user is told if something is left, which a later candidate could read.
void remove_or_warn(const fs::path& path);

// An empty folder at `path`, whose parent is ours. What was there is removed or, if it can't be,
// moved aside under a name that tells nothing.
fs::path fresh_folder(const fs::path& path);

// Moves the plain file `name` of `folder` to `to`, on the same file system, if it has at most
// `max_bytes`. Returns its size; nothing if there is no plain file of that name.
std::optional<int64_t> take_file(const fs::path& folder, const std::string& name, int64_t max_bytes,
                                 const fs::path& to);

}  // namespace autoresearch
