// What no edited file may be, whichever way it was made: too large, mostly deleted, or with the
// traces of a slip that nobody means and a compiler may let pass.
#pragma once

#include <optional>
#include <string>

#include "agent/edit/reply.h"

namespace autoresearch {

constexpr size_t kMaxLines = 700, kMaxBytes = 32 * 1024;  // of the edited file

// Why `result`, edited from `source`, can't be meant; nothing where it can. What the source itself
// holds is never held against the result.
std::optional<Feedback> implausible(const std::string& source, const std::string& result);

// "// ... rest unchanged", "...", "/* existing code */": a line that stands for code.
bool stands_for_code(const std::string& line);

}  // namespace autoresearch
