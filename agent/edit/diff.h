// The difference of two texts, line by line.
#pragma once

#include <string>
#include <vector>

namespace autoresearch {

// A unified diff with three lines of context, for candidate.diff; git applies it.
std::string unified_diff(const std::string& before, const std::string& after,
                         const std::string& name);

// Neighbouring lines of which all have changed, and where they begin, 0-based.
struct Hunk {
  std::vector<std::string> gone, added;
  size_t before = 0, after = 0;
};
std::vector<Hunk> hunks(const std::string& before, const std::string& after);

}  // namespace autoresearch
