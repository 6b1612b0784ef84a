#include "agent/edit/markers.h"

#include <algorithm>

#include "common/text.h"

namespace autoresearch {
namespace {

constexpr size_t kLeast = 5, kMost = 12;  // characters of a marker's arrows or rule

// Whether `text`, what follows the arrows, is `word`, perhaps with the arrow's other end or a
// file's name behind it.
bool is_word_of_marker(const std::string& text, std::string_view word) {
  if (!text.starts_with(word)) return false;
  std::string rest = text.substr(word.size());
  rest.erase(0, std::min(rest.find_first_not_of("<>: "), rest.size()));
  const auto in_path = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) || std::string_view("_-./").find(c) < 4;
  };
  const bool path = rest.find('.') != std::string::npos;
  return rest.empty() || (path && std::all_of(rest.begin(), rest.end(), in_path));
}

bool is_escaped(const std::string& text) {
  for (const std::string_view start :
       {"&lt;&lt;&lt;", "&gt;&gt;&gt;", "\\<<<<", "\\>>>>", "\\=====", "\\<\\<\\<", "\\>\\>\\>"})
    if (text.starts_with(start)) return true;
  return false;
}

// A line, read by the characters that a keyboard has for it.
class TypedLine {
 public:
  explicit TypedLine(std::string_view line) : rest_(line) {}

  // The next character: '\0' at the end, '\x7f' for one without an ASCII form, as a picture is.
  char peek() const {
    const Character c = first_character(rest_);
    const char ascii = ascii_of(c.code);
    return c.bytes > 0 && ascii == 0 ? '\x7f' : ascii;
  }
  void next() { rest_.remove_prefix(first_character(rest_).bytes); }
  std::string_view rest() const { return rest_; }

  // Passes over characters of `set`; whether any was more than a blank.
  bool skip(std::string_view set) {
    bool any = false;
    for (; !rest_.empty() && set.find(peek()) != std::string_view::npos; next())
      any = any || (peek() != ' ' && peek() != '\t');
    return any;
  }

 private:
  std::string_view rest_;
};

}  // namespace

Marker marker_of(const std::string& line) {
  const std::string text = trim(line);
  if (text.empty()) return Marker::kNone;
  if (is_escaped(text)) return Marker::kEscaped;
  const char c = text[0];
  const size_t run = std::min(text.find_first_not_of(c), text.size());
  if (run < kLeast) return Marker::kNone;
  const std::string word = lower(trim(text.substr(run)));
  const bool search = is_word_of_marker(word, "search");
  const bool replace = is_word_of_marker(word, "replace");
  switch (c) {
    case '=':
      if (word.find_first_not_of("= ") != std::string::npos || run > kMost) return Marker::kNone;
      return word.empty() ? Marker::kDivider : Marker::kMangled;
    case '<':
      return search && run <= kMost ? Marker::kSearch : Marker::kMangled;
    case '>':
      return replace && run <= kMost ? Marker::kReplace : Marker::kMangled;
    case '-':
    case '+':
      if (search || replace)
        return c == '-' && search    ? Marker::kSearch
               : c == '+' && replace ? Marker::kReplace
                                     : Marker::kMangled;
      return Marker::kNone;
    default:
      return Marker::kNone;
  }
}

std::string quotation_of(const std::string& line) {
  size_t end = 0;
  for (size_t at = 0; at + 1 < line.size() && (line[at] == ' ' || line[at] == '>'); ++at)
    if (line[at] == '>' && line[at + 1] == ' ') end = at + 2;
  return line.substr(0, end);
}

bool is_fence(const std::string& line) {
  const std::string text = trim(line);
  return text.starts_with("```") || text.starts_with("~~~");
}

std::optional<std::string> labelled(std::string_view line, std::string_view label) {
  TypedLine typed(line);
  bool dressed = typed.skip(" \t*#_>-+|/\\`'\"()[]0123456789.\x7f");
  bool capitals = true;
  for (const char c : label) {
    capitals = capitals && typed.peek() == c;
    if (lower(std::string(1, typed.peek())) != lower(std::string(1, c))) return std::nullopt;
    typed.next();
  }
  const bool gap = typed.peek() == ' ';
  dressed = typed.skip(" \t*_`'\"()[]#0123456789") || dressed;
  const char separator = typed.peek();
  typed.next();
  // A dash without a blank behind it joins words; a word alone in small letters is prose.
  const bool dash = separator == '-' && (typed.peek() == ' ' || (gap && typed.rest().empty()));
  const bool alone = separator == '\0' && (dressed || capitals);
  if (separator != ':' && separator != '=' && !dash && !alone) return std::nullopt;
  std::string text = trim(typed.rest());
  // Of Markdown around the label its second half is left: "**IDEA:** text".
  if (std::count(text.begin(), text.end(), '`') % 2 == 1 && text[0] == '`') text.erase(0, 1);
  const size_t begin = text.find_first_not_of("*_ ");
  if (begin == std::string::npos) return "";
  return text.substr(begin, text.find_last_not_of("*_ ") - begin + 1);
}

}  // namespace autoresearch
