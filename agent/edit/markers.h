// What a single line of a reply is: a marker of a block, or a label, in whichever dress it comes.
// Tools differ in how they write the same marker; a line is taken for one where it has no other
// reading.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace autoresearch {

enum class Marker {
  kNone,
  kSearch,   // "<<<<<<< SEARCH", also "------- SEARCH", "**<<<<<<< SEARCH (line 57)**", full-width
  kDivider,  // "=======", of 3 to 12 characters
  kReplace,  // ">>>>>>> REPLACE", "+++++++ REPLACE"
  kEscaped,  // a marker whose characters came as "&lt;", "%3C", "=3C" or with backslashes
  kMangled,  // no line of C++ begins like this, so it was meant as a marker, but not as which
};
Marker marker_of(const std::string& line);

// What stands before the first marker of a block, and so perhaps before each of its lines: blanks,
// "> ", "// ". Nothing: the line holds no such marker.
std::optional<std::string> before_block(const std::string& line);

bool is_fence(const std::string& line);

// One sign again and again, as under a heading.
bool is_rule(const std::string& line);

// The text behind a label, "IDEA: text" and the like: in any case; with numbers, pictures,
// Markdown, brackets, tags of a page or commands of LaTeX around it; with any colon, a dash or an
// arrow behind it. Empty: the text is on the next line.
std::optional<std::string> labelled(std::string_view line, std::string_view label);

}  // namespace autoresearch
