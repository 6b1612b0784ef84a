#include "common/text.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <utility>

#include "common/utf8.h"

namespace autoresearch {
namespace {

constexpr std::string_view kBlanks = " \t\r\n\v\f";

}  // namespace

size_t utf8_length(std::string_view text, size_t i) {
  if (i >= text.size()) return 1;
  const Utf8Character character = decode_utf8(text.data() + i, text.data() + text.size());
  return character.valid ? character.bytes : 0;
}

namespace {

bool is_blank(char32_t c) {
  return c == ' ' || (c >= '\t' && c <= '\r') || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x202F || c == 0x205F || c == 0x3000;
}

bool breaks_line(char32_t c) { return c == 0x85 || c == 0x2028 || c == 0x2029; }

// Controls, and what Unicode calls formats, fillers, variation selectors and tags.
bool is_unseen(char32_t c) {
  constexpr std::array<std::pair<char32_t, char32_t>, 19> kRanges = {{{0x00, 0x1F},
                                                                      {0x7F, 0x9F},
                                                                      {0xAD, 0xAD},
                                                                      {0x34F, 0x34F},
                                                                      {0x61C, 0x61C},
                                                                      {0x115F, 0x1160},
                                                                      {0x17B4, 0x17B5},
                                                                      {0x180B, 0x180F},
                                                                      {0x200B, 0x200F},
                                                                      {0x202A, 0x202E},
                                                                      {0x2060, 0x206F},
                                                                      {0x3164, 0x3164},
                                                                      {0xFE00, 0xFE0F},
                                                                      {0xFEFF, 0xFEFF},
                                                                      {0xFFA0, 0xFFA0},
                                                                      {0xFFF0, 0xFFFB},
                                                                      {0x1BCA0, 0x1BCA3},
                                                                      {0x1D173, 0x1D17A},
                                                                      {0xE0000, 0xE0FFF}}};
  return std::any_of(kRanges.begin(), kRanges.end(),
                     [&](const auto& range) { return c >= range.first && c <= range.second; });
}

// The bytes of the escape sequence that `text` begins with, if it does: ESC or its C1 form, then a
// command, or a text such as a window's title. A text ends with BEL or ST, at the latest with its
// line.
size_t escape_length(std::string_view text) {
  const Character first = first_character(text);
  const bool c1 = first.code >= 0x80 && first.code <= 0x9F;
  if ((first.code != 0x1B && !c1) || first.code == 0x85) return 0;
  size_t at = first.bytes;
  // The C1 form of "ESC [" is U+009B, and so on.
  const char kind = c1 ? static_cast<char>(first.code - 0x40) : at < text.size() ? text[at++] : 0;
  if (kind == '[' || (kind >= ' ' && kind < '0')) {
    while (at < text.size() && text[at] >= ' ' && text[at] < (kind == '[' ? '@' : '0')) ++at;
    return at < text.size() && text[at] >= '0' && text[at] <= '~' ? at + 1 : at;
  }
  if (std::string_view("]PX^_").find(kind) == std::string_view::npos) {
    const bool alone =
        kind == '\n' || kind == '\r' || kind == 0 || static_cast<uint8_t>(kind) > '~';
    return alone ? first.bytes : at;
  }
  for (; at < text.size() && text[at] != '\n'; ++at) {
    const std::string_view rest = text.substr(at);
    if (rest[0] == '\a') return at + 1;
    if (rest.starts_with("\x1b\\") || rest.starts_with("\xc2\x9c")) return at + 2;
  }
  return at;
}

}  // namespace

std::vector<std::string> split_lines(std::string_view text) {
  std::vector<std::string> lines;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    lines.emplace_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return lines;
}

bool is_blank(std::string_view text) { return text.find_first_not_of(kBlanks) == text.npos; }

std::string trim(std::string_view text) {
  const size_t begin = text.find_first_not_of(kBlanks);
  if (begin == std::string_view::npos) return "";
  return std::string(text.substr(begin, text.find_last_not_of(kBlanks) - begin + 1));
}

bool has_any(std::string_view text, std::initializer_list<std::string_view> parts) {
  return std::any_of(parts.begin(), parts.end(), [&](std::string_view part) {
    return text.find(part) != std::string_view::npos;
  });
}

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  return text;
}

std::string valid_utf8(std::string_view text, std::string_view other) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    const size_t length = utf8_length(text, i);
    if (length == 0) {
      out += other;
      ++i;
      continue;
    }
    out += text.substr(i, length);
    i += length;
  }
  return out;
}

std::string first_chars(const std::string& text, size_t max_chars) {
  size_t chars = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool starts_character = (static_cast<uint8_t>(text[i]) & 0xC0) != 0x80;
    if (starts_character && ++chars > max_chars) return text.substr(0, i);
  }
  return text;
}

Character first_character(std::string_view text) {
  if (text.empty()) return {};
  const Utf8Character character = decode_utf8(text.data(), text.data() + text.size());
  if (!character.valid) return {'?', 1};
  return {character.code, character.bytes};
}

char ascii_of(char32_t c) {
  constexpr std::array<std::pair<char32_t, char>, 17> kOthers = {{{0x2032, '\''},
                                                                  {0x2033, '"'},
                                                                  {0x2212, '-'},
                                                                  {0xFE63, '-'},
                                                                  {0x2500, '-'},
                                                                  {0x2501, '-'},
                                                                  {0x2502, '|'},
                                                                  {0x2503, '|'},
                                                                  {0x2550, '='},
                                                                  {0x2236, ':'},
                                                                  {0xFE55, ':'},
                                                                  {0xFE13, ':'},
                                                                  {0xA789, ':'},
                                                                  {0xAB, '<'},
                                                                  {0x2039, '<'},
                                                                  {0xBB, '>'},
                                                                  {0x203A, '>'}}};
  if (c < 0x80) return static_cast<char>(c);
  if (is_blank(c)) return ' ';
  if (c >= 0xFF01 && c <= 0xFF5E) return static_cast<char>(c - 0xFF01 + '!');
  if (c >= 0x2010 && c <= 0x2015) return '-';
  if (c >= 0x2018 && c <= 0x201F) return c < 0x201C ? '\'' : '"';
  if (c >= 0x3008 && c <= 0x301B && c != 0x3012 && c != 0x3013) return c % 2 == 0 ? '[' : ']';
  if (c >= 0x1D400 && c < 0x1D6A4) {  // mathematical letters, alphabet after alphabet
    const auto letter = static_cast<char>((c - 0x1D400) % 52);
    return static_cast<char>(letter < 26 ? 'A' + letter : 'a' + letter - 26);
  }
  for (const auto& [other, ascii] : kOthers)
    if (c == other) return ascii;
  return 0;
}

std::string plain_text(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    if (text[0] >= ' ' && text[0] <= '~') {  // most of what there is
      out += text[0];
      text.remove_prefix(1);
      continue;
    }
    if (const size_t escape = escape_length(text)) {
      text.remove_prefix(escape);
      continue;
    }
    const Character c = first_character(text);
    const bool stays = c.code == '\n' || c.code == '\r' || c.code == '\t' || !is_unseen(c.code);
    const bool valid = c.bytes > 1 || static_cast<uint8_t>(text[0]) < 0x80;
    if (breaks_line(c.code)) {
      out += '\n';
    } else if (!valid) {
      out += '?';
    } else if (stays) {
      out += text.substr(0, c.bytes);
    }
    text.remove_prefix(c.bytes);
  }
  return out;
}

std::string one_line(std::string_view text, size_t max_chars) {
  const std::string plain = plain_text(text);
  std::string out;
  for (std::string_view rest = plain; !rest.empty();) {
    const Character c = first_character(rest);
    const bool blank = is_blank(c.code);
    if (!blank) out += rest.substr(0, c.bytes);
    if (blank && !out.empty() && out.back() != ' ') out += ' ';
    rest.remove_prefix(c.bytes);
  }
  return trim(first_chars(out, max_chars));
}

std::string description(std::string_view text, size_t max_chars) {
  const std::string line = one_line(text, max_chars);
  const char first = ascii_of(first_character(line).code);
  const bool formula = !line.empty() && std::string_view("=+-@").find(first) != std::string::npos;
  return formula ? first_chars("'" + line, max_chars) : line;
}

std::string unescaped_html(std::string_view text) {
  constexpr std::array<std::pair<std::string_view, char>, 5> kNames = {
      {{"lt", '<'}, {"gt", '>'}, {"amp", '&'}, {"quot", '"'}, {"apos", '\''}}};
  constexpr size_t kLongest = 8;  // of an entity: "&#x0027;"
  // What stands between & and ; as a character; 0: it is no entity of one in ASCII.
  const auto character = [&](std::string_view name) {
    for (const auto& [known, c] : kNames)
      if (name == known) return c;
    if (!name.starts_with("#")) return '\0';
    const bool hex = name.size() > 1 && (name[1] == 'x' || name[1] == 'X');
    name.remove_prefix(hex ? 2 : 1);
    unsigned code = 0;
    const auto [end, error] =
        std::from_chars(name.data(), name.data() + name.size(), code, hex ? 16 : 10);
    const bool whole = error == std::errc() && end == name.data() + name.size();
    return whole && code >= ' ' && code <= '~' ? static_cast<char>(code) : '\0';
  };
  std::string out;
  while (!text.empty()) {
    const size_t end = text[0] == '&' ? text.substr(0, kLongest).find(';') : std::string::npos;
    const char c = end == std::string::npos ? '\0' : character(text.substr(1, end - 1));
    out += c == '\0' ? text[0] : c;
    text.remove_prefix(c == '\0' ? 1 : end + 1);
  }
  return out;
}

std::string fenced(const std::string& text, const std::string& language) {
  size_t longest = 2, run = 0;
  for (const char c : text) {
    run = c == '`' ? run + 1 : 0;
    longest = std::max(longest, run);
  }
  const std::string fence(longest + 1, '`');
  return fence + language + "\n" + text + (text.ends_with("\n") ? "" : "\n") + fence + "\n";
}

}  // namespace autoresearch
