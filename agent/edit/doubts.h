// Words by which a model takes an edit back, or offers another in its place, in the languages that
// models answer in. No list of them is complete; what they cost in vain is one more question.
#pragma once

#include <string>

namespace autoresearch {

// Whether a line of prose takes back the edit above it.
bool withdraws(const std::string& line);

// Whether a line between two blocks takes back the one above it, or makes the one below it another
// choice or a new version. Such prose speaks less freely than what stands behind an edit.
bool replaces(const std::string& line);

// Whether a line above a block that is not the first leads on to it: it says "and" or the like, or
// speaks of what the block holds. Others may be the heading of another choice: "B:", "Take 2".
bool introduces(const std::string& line, const std::string& block);

}  // namespace autoresearch
