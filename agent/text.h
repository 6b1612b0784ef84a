// Small helpers for text that came from outside: replies, logs, error lines.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

namespace autoresearch {

// Lines without their '\n'; a final line without one counts, an empty text has none.
std::vector<std::string> split_lines(std::string_view text);

// `text` without blanks, tabs and line breaks at both ends.
std::string trim(std::string_view text);

bool has_any(std::string_view text, std::initializer_list<std::string_view> parts);

// A to Z become a to z.
std::string lower(std::string text);

// Length of the UTF-8 sequence that begins at byte `i`, 0 if there is none (overlong forms,
// surrogates and values above U+10FFFF are none).
size_t utf8_length(std::string_view text, size_t i);

// Bytes that are not UTF-8 become `other`: JSON, a terminal and a model's endpoint refuse them.
std::string valid_utf8(std::string_view text, std::string_view other = "?");

// The first `max_chars` characters (code points) of text that is UTF-8.
std::string first_chars(const std::string& text, size_t max_chars);

// One line for a person: control characters and runs of blanks become one blank, then cut.
std::string one_line(std::string_view text, size_t max_chars);

// `text` between fences that it can't close, whatever it contains: longer than any in it.
std::string fenced(const std::string& text, const std::string& language);

}  // namespace autoresearch
