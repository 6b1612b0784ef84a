#include "agent/edit/markers.h"

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "common/text.h"

namespace autoresearch {
namespace {

// Characters of a marker's arrows or rule; a longer rule is a heading's. Arrows of five are meant
// as one whatever follows them.
constexpr size_t kLeast = 3, kLeastForCertain = 5, kMost = 12;

constexpr std::string_view kDress = "*_`~\"'";  // around a whole line

bool is_letter(char c) { return std::isalpha(static_cast<unsigned char>(c)) != 0; }

bool in(std::string_view set, char c) { return set.find(c) != std::string_view::npos; }

// A word that says which lines a marker speaks of, or nothing: "lines", "57-59", "L57", a path.
bool is_note(const std::string& token) {
  constexpr std::array<std::string_view, 14> kWords = {"line", "lines", "around", "near", "at",
                                                       "in",   "from",  "to",     "of",   "file",
                                                       "end",  "and",   "block",  "edit"};
  constexpr const char* kPath = "abcdefghijklmnopqrstuvwxyz0123456789_-./";
  return token.find_first_not_of("0123456789-l") == std::string::npos ||
         (in(token, '.') && token.find_first_not_of(kPath) == std::string::npos) ||
         std::find(kWords.begin(), kWords.end(), token) != kWords.end();
}

// Without comments and tags, such as those that end a turn: "<!-- here -->", "<|im_end|>", "[EOS]".
std::string without_tags(std::string text) {
  constexpr size_t kLongest = 200;  // bytes; what has more is no marker
  if (text.size() > kLongest) return text;
  for (const auto& [open, close] : {std::pair{'<', '>'}, std::pair{'[', ']'}})
    for (size_t begin = 0; (begin = text.find(open, begin)) != std::string::npos;) {
      const size_t end = text.find_first_of(std::string{open, close}, begin + 1);
      if (end != std::string::npos && text[end] == close && end > begin + 1)
        text.erase(begin, end + 1 - begin);
      else
        ++begin;
    }
  return text;
}

// Whether `text`, what follows the arrows, is `word`, perhaps with a file's name, the lines'
// numbers, a tag or the arrow's other end beside it.
bool is_word_of_marker(const std::string& text, std::string_view word) {
  constexpr std::string_view kBetween = " <>:()[],*`\"'#@";
  bool found = false;
  for (size_t begin = 0, end; begin < text.size(); begin = end + 1) {
    end = std::min(text.find_first_of(kBetween, begin), text.size());
    std::string token = text.substr(begin, end - begin);
    token.erase(0, token.find_first_not_of("-_/"));
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
  if (!in("<=>-+", c)) return Marker::kNone;
  const size_t solid = std::min(text.find_first_not_of(c), text.size());
  size_t run = 0, end = 0;  // characters of the arrow, which may stand apart; where they end
  for (size_t at = 0; at < text.size() && text[at] == c; at += solid == 1 && text[at] == ' ')
    ++run, end = ++at;
  const std::string word = lower(trim(without_tags(text.substr(end))));
  const bool long_enough = run >= kLeast && (run <= kMost || in("<>", c));
  const bool search = long_enough && is_word_of_marker(word, "search");
  const bool replace = long_enough && is_word_of_marker(word, "replace");
  const Marker otherwise = solid < kLeastForCertain ? Marker::kNone : Marker::kMangled;
  switch (c) {
    case '=':
      if (!long_enough || word.find_first_not_of("= ") != std::string::npos) return Marker::kNone;
      return word.empty() ? Marker::kDivider : Marker::kMangled;
    case '<':
      return search ? Marker::kSearch : otherwise;
    case '>':
      return replace ? Marker::kReplace : otherwise;
    default:
      if (otherwise == Marker::kNone || (!search && !replace)) return Marker::kNone;
      return search == (c == '-') ? (search ? Marker::kSearch : Marker::kReplace) : otherwise;
  }
}

// Whether a line is a marker with backslashes in it, or begins with what pages, addresses, mails or
// strings have for <, = or >, again and again: "&lt;&lt;&lt;", "%3C", "=3D", "\u003c", "\074".
bool is_escaped(const std::string& text) {
  constexpr size_t kLongest = 9;  // of one: "&amp;lt;"
  std::string line = lower(text);
  const auto names_sign = [](std::string_view one) {
    return has_any(one,
                   {"3c", "3d", "3e", "74", "75", "76", "60;", "61;", "62;", "lt", "gt", "eq"});
  };
  for (size_t length = 2; length <= kLongest; ++length) {
    size_t end = length;
    while (end < line.size() && line[end] == line[end - length]) ++end;
    const std::string_view one = std::string_view(line).substr(0, length);
    if (end >= kLeastForCertain * length && in("&%=\\#u", line[0]) && names_sign(one)) return true;
  }
  return std::erase(line, '\\') > 0 && plain_marker(line) != Marker::kNone;
}

// The length of the tag of a page or the command of LaTeX that `text` begins with, but for one that
// is the label itself: "<b>", "</b>", "[/IDEA]", "\textbf{". 0: none.
size_t markup_length(std::string_view text, std::string_view label) {
  constexpr size_t kLongest = 16;
  const std::string begin = lower(std::string(text.substr(0, kLongest)));
  if (begin.starts_with("</") || begin.starts_with("[/")) return begin.find_first_of(">]") + 1;
  const size_t end = begin.find_first_not_of("abcdefghijklmnopqrstuvwxyz*", 1);
  if (end == std::string::npos || end == 1 || begin.substr(1, end - 1) == lower(std::string(label)))
    return 0;
  const bool closed = begin[0] == '<'    ? begin[end] == '>'
                      : begin[0] == '\\' ? begin[end] == '{' || begin[end] == ' '
                                         : false;
  return closed ? end + 1 : 0;
}

// A line, read by the characters that a keyboard has for it.
class TypedLine {
 public:
  explicit TypedLine(std::string_view line) : rest_(line) {}

  // The next character: '\0' at the end, and of those without an ASCII form '\x7f' for a picture or
  // another sign, '\x01' for a letter.
  char peek() const {
    const Character c = first_character(rest_);
    const bool sign = (c.code >= 0x2000 && c.code < 0x2E80) || c.code >= 0x1F000;
    const char ascii = ascii_of(c.code);
    return c.bytes > 0 && ascii == 0 ? (sign ? '\x7f' : '\x01') : ascii;
  }
  void next() { rest_.remove_prefix(first_character(rest_).bytes); }
  std::string_view rest() const { return rest_; }

  // Passes over markup and characters that `passes`; whether any was more than a blank.
  template <typename Test>
  bool skip(std::string_view label, Test passes) {
    bool any = false;
    while (!rest_.empty()) {
      const size_t markup = markup_length(rest_, label);
      if (markup == 0 && !passes(peek())) break;
      any = any || markup > 0 || (peek() != ' ' && peek() != '\t');
      rest_.remove_prefix(markup > 0 ? markup : first_character(rest_).bytes);
    }
    return any;
  }

 private:
  std::string_view rest_;
};

// How often a quote or a sign of Markdown stands at the begin or the end of a word.
int pair_ends(std::string_view text, char sign) {
  const auto in_word = [&](size_t at) {
    return at < text.size() && (is_letter(text[at]) || in("0123456789\x01", text[at]));
  };
  int count = 0;
  for (size_t at = 0; (at = text.find(sign, at)) != std::string_view::npos;) {
    const size_t end = std::min(text.find_first_not_of(sign, at), text.size());
    count += !(at > 0 && in_word(at - 1) && in_word(end));
    at = end;
  }
  return count;
}

// How many characters at both ends of a label's text are no part of it: halves of pairs around the
// label, or a pair around all of the text; the number or the bullet of a list; a tag.
std::pair<size_t, size_t> dress_of(std::string_view text) {
  constexpr std::string_view kOpen = "([{<", kClose = ")]}>", kBoth = "*_`\"'";
  const char first = text.front(), last = text.back();
  const auto odd = [&](char c) { return in(kBoth, c) && pair_ends(text, c) % 2 == 1; };
  const auto count = [&](char c) { return std::count(text.begin(), text.end(), c); };
  const size_t opens = kOpen.find(first), closes = kClose.find(last);
  // "1. ", "2) ", "- "
  const size_t number = std::min(text.find_first_not_of("0123456789"), text.size() - 1);
  const bool item =
      (number > 0 ? in(".)", text[number]) : in("-+", first)) && text.substr(number).find(' ') == 1;
  if (item) return {number + 1, 0};
  if (in(" \t:|", first) || in(kClose, first) || odd(first)) return {1, 0};
  if (in(" \t,|", last)) return {0, 1};
  // "text</b>", "<b>text</b>", "</b> text"
  const size_t tag = std::max(text.rfind("</") + 1, text.rfind("[/") + 1);
  if (tag > 0 && text.find_first_of(" >]", tag) == text.size() - 1) {
    const std::string opening = text[tag - 1] + std::string(text.substr(tag + 1));
    return {text.starts_with(opening) ? opening.size() : 0, text.size() - tag + 1};
  }
  if (text.starts_with("</") || text.starts_with("[/"))
    return {std::min(text.find_first_of(">]"), text.size() - 1) + 1, 0};
  const bool closes_nothing = closes < kOpen.size() && count(last) > count(kOpen[closes]);
  if (in("-/\\", last) || in(kOpen, last) || odd(last) || closes_nothing) return {0, 1};
  const bool around =
      (in(kBoth, first) && first == last && pair_ends(text, first) == 2) ||
      (in(kOpen, first) && opens == closes && count(first) == 1 && count(last) == 1);
  return {around, around};
}

// A label's text without all of that.
std::string undressed_text(const std::string& text) {
  constexpr size_t kLongest = 1000;  // characters; each step looks at all of them
  std::string all;                   // as a keyboard has them
  std::vector<size_t> places;
  for (TypedLine line(text); !line.rest().empty(); line.next()) {
    places.push_back(text.size() - line.rest().size());
    all += line.peek();
  }
  places.push_back(text.size());
  size_t begin = 0, end = all.size();
  while (all.size() <= kLongest && begin < end) {
    const auto [front, back] = dress_of(std::string_view(all).substr(begin, end - begin));
    if (front + back == 0) break;
    begin += front;
    end -= back;
  }
  const std::string_view rest = std::string_view(all).substr(begin, end - begin);
  const bool says = std::any_of(rest.begin(), rest.end(),
                                [](char c) { return is_letter(c) || in("0123456789\x01\x7f", c); });
  return says ? text.substr(places[begin], places[end] - places[begin]) : "";
}

std::optional<std::string> text_behind(std::string_view line, std::string_view label) {
  constexpr std::string_view kAround = "*_`'\")]}>~\x7f";  // \x7f: pictures
  TypedLine typed(line);
  const bool dressed = typed.skip(label, [](char c) { return !is_letter(c); });
  bool capitals = true;
  for (const char c : label) {
    capitals = capitals && typed.peek() == c;
    if (lower(std::string(1, typed.peek())) != lower(std::string(1, c))) return std::nullopt;
    typed.next();
  }
  const bool enclosed = typed.skip(label, [&](char c) { return in(kAround, c); }) && dressed;
  const bool gap = typed.peek() == ' ';
  // "IDEA #2 (one line):"
  TypedLine far = typed;
  const auto passes = [&](char c) { return in(kAround, c) || in(" \t#0123456789", c); };
  bool behind = far.skip(label, passes);
  if (const size_t close = far.rest().substr(0, 40).find(')'); far.peek() == '(' && close < 40) {
    far = TypedLine(far.rest().substr(close + 1));
    behind = far.skip(label, passes);
  }
  TypedLine first = typed;
  while (first.peek() == ' ') first.next();
  const bool points = capitals && behind && in(">\x7f", first.peek());  // an arrow of its own
  const char separator = far.peek();
  if (!points) far.next();
  // A dash without a blank behind it joins words; a word alone in small letters is prose.
  const bool dash = separator == '-' && (in(" >", far.peek()) || (gap && far.rest().empty()));
  const bool alone = separator == '\0' && (dressed || behind || capitals);
  const bool separates = points || dash || in(":=|;", separator);
  if (!separates && !alone && !enclosed) return std::nullopt;
  return undressed_text(std::string(separates ? far.rest() : typed.rest()));
}

}  // namespace

bool is_rule(const std::string& line) {
  constexpr size_t kLeastSigns = 3;
  const std::string text = trim(line);
  const size_t sign = first_character(text).bytes;
  if (text.size() < kLeastSigns * std::max<size_t>(sign, 1) ||
      std::isalnum(static_cast<unsigned char>(text[0])) != 0)
    return false;
  return text.substr(sign) == text.substr(0, text.size() - sign);
}

Marker marker_of(const std::string& line) {
  const std::string text = keyboard_text(line);
  const Marker plain = plain_marker(text);
  return plain == Marker::kNone && is_escaped(text) ? Marker::kEscaped : plain;
}

std::optional<std::string> before_block(const std::string& line) {
  constexpr size_t kLongest = 12;  // bytes
  for (size_t at = 0; at < std::min(line.size(), kLongest); ++at) {
    if (at > 0 && is_letter(line[at - 1])) break;
    const bool begins = line[at] != ' ' && (at == 0 || in(" \t>`", line[at - 1]));
    if (begins && marker_of(line.substr(at)) == Marker::kSearch) return line.substr(0, at);
  }
  return std::nullopt;
}

bool is_fence(const std::string& line) {
  const std::string_view text =
      std::string_view(line).substr(std::min(line.find_first_not_of(" \t>"), line.size()));
  return text.starts_with("```") || text.starts_with("~~~");
}

std::optional<std::string> labelled(std::string_view line, std::string_view label) {
  const auto text = text_behind(line, label);
  const auto again = text ? text_behind(*text, label) : std::nullopt;  // "<idea>IDEA: ..."
  return again ? again : text;
}

}  // namespace autoresearch
