// What an edit touched, in the words of the edited file itself: its constants and its banners.
#pragma once

#include <string>
#include <vector>

namespace autoresearch {

struct Change {
  std::vector<std::string> constants;  // "kMatrixLr 0.05 (was 0.04)", "kNew = 2", "kOld removed"
  std::vector<std::string> areas;      // "Learning rates", "Model"; the most changed one first
};
Change describe_change(const std::string& before, const std::string& after);

// The area of every line: the title of the banner above it, up to a colon. A section of constants
// is cut finer, by the comments that stand above its paragraphs: there, an area is such a comment
// up to its first comma, colon or full stop. Empty above the first banner.
std::vector<std::string> areas_of_lines(const std::string& source);

}  // namespace autoresearch
