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

// Whether there is nothing but these in `text`.
bool is_blank(std::string_view text);

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

// One code point of a text and the bytes it takes there; a byte that is not UTF-8 is '?'.
struct Character {
  char32_t code = 0;
  size_t bytes = 0;  // 0: the text is empty
};
Character first_character(std::string_view text);

// The ASCII character that a keyboard in another language, a word processor or a web page made `c`
// from: of full-width forms, blanks, dashes, minus signs, quotes, brackets, colons. 0: none.
char ascii_of(char32_t c);

// What came from a model or a candidate, made safe to show: UTF-8 without escape sequences of
// terminals, control characters, and characters that nobody sees or that turn the order of others.
// Line breaks (Unicode's own become '\n'), carriage returns and tabs stay.
std::string plain_text(std::string_view text);

// plain_text on one line, runs of blanks as one, then cut: for a user, a terminal, a table, a
// log.
std::string one_line(std::string_view text, size_t max_chars);

// one_line that no spreadsheet takes for a formula: one that would be begins with an apostrophe.
std::string description(std::string_view text, size_t max_chars);

// HTML's entities for characters that code has, as those characters: "&lt;" becomes "<".
std::string unescaped_html(std::string_view text);

// `text` between fences that it can't close, whatever it contains: longer than any in it.
std::string fenced(const std::string& text, const std::string& language);

}  // namespace autoresearch
