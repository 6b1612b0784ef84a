#include "agent/edit/markers.h"

#include <algorithm>
#include <array>
#include <utility>

#include "common/text.h"

namespace autoresearch {
namespace {

// Characters of a marker's arrows or rule. Arrows of five are meant as one whatever follows them.
constexpr size_t kLeast = 3, kLeastForCertain = 5, kMost = 12;

constexpr std::string_view kDress = "*_`";  // Markdown around words

bool is_path(const std::string& token) {
  const auto in_path = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) || std::string_view("_-./").find(c) < 4;
  };
  return token.find('.') != std::string::npos && std::all_of(token.begin(), token.end(), in_path);
}

// A word that says which lines a marker speaks of, or nothing: "lines", "57-59", "L57".
bool is_note(const std::string& token) {
  constexpr std::array<std::string_view, 14> kWords = {"line", "lines", "around", "near", "at",
                                                       "in",   "from",  "to",     "of",   "file",
                                                       "end",  "and",   "block",  "edit"};
  return token.find_first_not_of("0123456789-l") == std::string::npos || is_path(token) ||
         std::find(kWords.begin(), kWords.end(), token) != kWords.end();
}

// Whether `text`, what follows the arrows, is `word`, perhaps with a file's name, the lines'
// numbers or the arrow's other end beside it.
bool is_word_of_marker(const std::string& text, std::string_view word) {
  constexpr std::string_view kBetween = " <>:()[],*`\"'#@";
  bool found = false;
  for (size_t begin = 0, end; begin < text.size(); begin = end + 1) {
    end = std::min(text.find_first_of(kBetween, begin), text.size());
    std::string token = text.substr(begin, end - begin);
    token.erase(0, token.find_first_not_of('-'));
    if (token == word) {
      if (std::exchange(found, true)) return false;
    } else if (!is_note(token)) {
      return false;
    }
  }
  return found;
}

// The line in the characters that a keyboard has for it, without Markdown around all of it.
std::string keyboard_text(std::string_view line) {
  std::string text;
  for (Character c; (c = first_character(line)).bytes > 0; line.remove_prefix(c.bytes)) {
    const char ascii = ascii_of(c.code);
    text += ascii == 0 ? std::string(line.substr(0, c.bytes)) : std::string(1, ascii);
  }
  text = trim(text);
  const size_t begin = text.find_first_not_of(kDress), end = text.find_last_not_of(kDress);
  const bool dressed = begin != std::string::npos && begin > 0 && begin == text.size() - 1 - end;
  return dressed ? text.substr(begin, end + 1 - begin) : text;
}

Marker plain_marker(const std::string& text) {
  const char c = text.empty() ? ' ' : text[0];
  const size_t run = std::min(text.find_first_not_of(c), text.size());
  const std::string word = lower(trim(text.substr(run)));
  const bool long_enough = run >= kLeast && run <= kMost;
  const bool search = long_enough && is_word_of_marker(word, "search");
  const bool replace = long_enough && is_word_of_marker(word, "replace");
  const bool alone = word.find_first_not_of("= ") == std::string::npos;
  switch (c) {
    case '=':
      if (!alone || !long_enough) return Marker::kNone;
      return word.empty() ? Marker::kDivider : Marker::kMangled;
    case '<':
      return search ? Marker::kSearch : run < kLeastForCertain ? Marker::kNone : Marker::kMangled;
    case '>':
      return replace ? Marker::kReplace : run < kLeastForCertain ? Marker::kNone : Marker::kMangled;
    case '-':
    case '+':
      if (run < kLeastForCertain || (!search && !replace)) return Marker::kNone;
      return c == '-' && search    ? Marker::kSearch
             : c == '+' && replace ? Marker::kReplace
                                   : Marker::kMangled;
    default:
      return Marker::kNone;
  }
}

// The <, = or > that a text begins with in a spelling of pages, addresses and strings of other
// languages, and how long that is: "&lt", "%3C", "%253C", "\u003c", "\u{3c}", "\074".
std::pair<char, size_t> escaped_sign(std::string_view text) {
  struct Sign {
    char sign;
    std::string_view hex, octal, name;
  };
  constexpr std::array<Sign, 3> kSigns = {
      {{'<', "3c", "074", "&lt"}, {'=', "3d", "075", "&equals"}, {'>', "3e", "076", "&gt"}}};
  constexpr std::array<std::string_view, 8> kPrefixes = {"%",    "%25",  "\\x",  "\\u00",
                                                         "\\u{", "\\x{", "u+00", "&#x"};
  for (const auto& [sign, hex, octal, name] : kSigns) {
    if (text.starts_with(name)) return {sign, name.size()};
    if (text.starts_with("\\" + std::string(octal))) return {sign, 1 + octal.size()};
    for (const std::string_view prefix : kPrefixes)
      if (text.starts_with(prefix) && text.substr(prefix.size()).starts_with(hex))
        return {sign, prefix.size() + hex.size()};
  }
  return {};
}

// Whether a line is a marker once such spellings and backslashes are read.
bool is_escaped(const std::string& text) {
  if (text.find_first_of("&%\\+") == std::string::npos) return false;
  const std::string plain = unescaped_html(unescaped_html(lower(text)));
  std::string read;
  for (std::string_view rest = plain; !rest.empty();) {
    const auto [sign, length] = escaped_sign(rest);
    if (sign != 0) read += sign;
    rest.remove_prefix(length);
    if (sign != 0 && !rest.empty() && (rest[0] == ';' || rest[0] == '}')) rest.remove_prefix(1);
    if (sign == 0) {
      if (rest[0] != '\\') read += rest[0];
      rest.remove_prefix(1);
    }
  }
  return read != lower(text) && plain_marker(read) != Marker::kNone;
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

// A line without the tags of a page around its label: "<b>IDEA:</b> text", "<idea>text</idea>",
// "<!-- IDEA: text -->".
std::string without_tags(std::string line, const std::string& label) {
  constexpr size_t kLongest = 12;  // characters of a tag
  constexpr int kMost = 4;         // tags
  line = trim(line);
  if (line.starts_with("<!--") && line.ends_with("-->"))
    line = trim(line.substr(4, std::max<size_t>(7, line.size()) - 7));
  for (int tags = 0; tags < kMost && line.starts_with("<"); ++tags) {
    const size_t end = std::string_view(line).substr(0, kLongest).find('>');
    if (end == std::string_view::npos) break;
    const std::string name = line.substr(1, end - 1);
    line = trim(line.substr(end + 1));
    const size_t close = line.find("</" + name + ">");
    if (close != std::string::npos) line.erase(close, name.size() + 3);
    if (lower(name) != lower(label)) continue;
    return lower(line).starts_with(lower(label)) ? line : label + ": " + line;
  }
  return line;
}

// A label's text without the second half of what is around the label or around both: "**", '"',
// "[/IDEA]", a table's "|".
std::string without_second_half(std::string text, const std::string& label) {
  if (std::count(text.begin(), text.end(), '`') % 2 == 1 && text[0] == '`') text.erase(0, 1);
  for (const std::string& tail : {std::string("|"), "[/" + label + "]"})
    if (text.ends_with(tail)) text = trim(text.substr(0, text.size() - tail.size()));
  if (text.ends_with("\",")) text.pop_back();
  const bool quoted = text.size() > 1 && text.starts_with('"') && text.ends_with('"') &&
                      std::count(text.begin(), text.end(), '"') == 2;
  if (quoted) text = text.substr(1, text.size() - 2);
  const size_t begin = text.find_first_not_of("*_ ");
  if (begin == std::string::npos) return "";
  return text.substr(begin, text.find_last_not_of("*_ ") - begin + 1);
}

}  // namespace

Marker marker_of(const std::string& line) {
  const std::string text = keyboard_text(line);
  return is_escaped(text) ? Marker::kEscaped : plain_marker(text);
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
  constexpr std::string_view kAround = "*_`'\"()[]~\x7f";  // \x7f: pictures and other brackets
  const std::string bare = without_tags(std::string(line), std::string(label));
  TypedLine typed(bare);
  bool dressed = typed.skip(" \t*#_>-+|/\\`'\"()[]~0123456789.\x7f");
  bool capitals = true;
  for (const char c : label) {
    capitals = capitals && typed.peek() == c;
    if (lower(std::string(1, typed.peek())) != lower(std::string(1, c))) return std::nullopt;
    typed.next();
  }
  const bool enclosed = typed.skip(kAround) && dressed;
  const bool gap = typed.peek() == ' ';
  dressed = typed.skip(std::string(kAround) + " \t#0123456789") || dressed;
  const char separator = typed.peek();
  const std::string_view rest = typed.rest();
  typed.next();
  // A dash without a blank behind it joins words; a word alone in small letters is prose.
  const bool arrow = separator == '-' && typed.peek() == '>';
  const bool dash =
      arrow || (separator == '-' && (typed.peek() == ' ' || (gap && typed.rest().empty())));
  const bool alone = separator == '\0' && (dressed || capitals);
  const bool separates = dash || std::string_view(":=|;").find(separator) < 4;
  if (!separates && !alone && !enclosed) return std::nullopt;
  if (arrow) typed.next();
  return without_second_half(trim(separates ? typed.rest() : rest), std::string(label));
}

}  // namespace autoresearch
