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
  kEscaped,  // a marker whose characters came as "&lt;", "%3C", "\u003c" or with backslashes
  kMangled,  // no line of C++ begins like this, so it was meant as a marker, but not as which
};
Marker marker_of(const std::string& line);

// What stands before a marker that a Markdown quotation holds: "> ". Empty: the line is no such
// one.
std::string quotation_of(const std::string& line);

bool is_fence(const std::string& line);

// The text behind a label, "IDEA: text" and the like: in any case, Markdown and tags of a page,
// with a number or a picture before it, any colon, a dash or an arrow behind it. Empty: the text is
// on the next line.
std::optional<std::string> labelled(std::string_view line, std::string_view label);

}  // namespace autoresearch
