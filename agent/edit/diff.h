// The difference of two texts, line by line.
#pragma once

#include <string>
#include <vector>

namespace autoresearch {

// A unified diff with three lines of context, for candidate.diff; git applies it.
std::string unified_diff(const std::string& before, const std::string& after,
                         const std::string& name);

// The 0-based lines of `before` that are gone in `after`, and those of `after` that are new.
struct ChangedLines {
  std::vector<size_t> gone, added;
};
ChangedLines changed_lines(const std::string& before, const std::string& after);

}  // namespace autoresearch
