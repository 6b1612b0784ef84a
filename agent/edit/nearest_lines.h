// Where a passage that is not in a file nearly is.
#pragma once

#include <string>
#include <vector>

namespace autoresearch {

struct LineRange {
  size_t first = 0, last = 0;  // lines [first, last); empty where nothing resembles the passage
};

// The lines of `file` that resemble `passage` most, with two lines around them, at most 60: a local
// alignment of lines (Smith and Waterman, 1981) that bears lines missing, added or changed, and a
// passage whose middle was left out.
LineRange nearest_lines(const std::vector<std::string>& file,
                        const std::vector<std::string>& passage);

// How much two lines of code share at their beginnings and ends, in tokens: 1 for equal ones.
double likeness(const std::vector<std::string>& a, const std::vector<std::string>& b);

}  // namespace autoresearch
