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
  kSearch,  // "<<<<<<< SEARCH", also "------- SEARCH", "<<<<<<< SEARCH>", with a file's name behind
  kDivider,  // "=======", of 5 to 12 characters
  kReplace,  // ">>>>>>> REPLACE", "+++++++ REPLACE"
  kEscaped,  // a marker whose characters came as "&lt;" or with backslashes
  kMangled,  // no line of C++ begins like this, so it was meant as a marker, but not as which
};
Marker marker_of(const std::string& line);

// What stands before a marker that a Markdown quotation holds: "> ". Empty: the line is no such
// one.
std::string quotation_of(const std::string& line);

bool is_fence(const std::string& line);

// The text behind a label, "IDEA: text" and the like: in any case and Markdown, with a number or a
// picture before it, any colon or a dash behind it. Empty: the text is on the next line.
std::optional<std::string> labelled(std::string_view line, std::string_view label);

}  // namespace autoresearch
