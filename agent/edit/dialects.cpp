#include "agent/edit/dialects.h"

#include <algorithm>
#include <array>
#include <optional>
#include <string_view>
#include <utility>

#include "common/text.h"

namespace autoresearch {
namespace {

using Lines = std::vector<std::string>;
using Reading = std::optional<Block>;

std::string join(const Lines& lines) {
  std::string text;
  for (const std::string& line : lines) text += line + "\n";
  return text;
}

// ------------------------------------------------------------------------------------------------
// "57: code", "57 | code", "57<tab>code"

struct Numbered {
  size_t number;
  std::string sign, code;
};

std::optional<Numbered> numbered(const std::string& line) {
  const size_t begin = std::min(line.find_first_not_of(' '), line.size());
  const size_t end = std::min(line.find_first_not_of("0123456789", begin), line.size());
  if (end == begin || end - begin > 5) return std::nullopt;
  std::string_view rest = std::string_view(line).substr(end);
  if (rest.starts_with(" |")) rest.remove_prefix(1);
  for (const std::string sign : {":", "|", "\t", "\u2192"}) {
    if (!rest.starts_with(sign)) continue;
    const bool blank = sign.find_first_of(":|") == 0 && rest.substr(1).starts_with(' ');
    return Numbered{std::stoul(line.substr(begin, end - begin)), sign,
                    std::string(rest.substr(sign.size() + blank))};
  }
  return std::nullopt;
}

Reading without_numbers(const Block& block) {
  Lines search = split_lines(block.search), replace = split_lines(block.replace);
  std::optional<Numbered> first;
  for (size_t i = 0; i < search.size(); ++i) {
    const auto line = numbered(search[i]);
    if (i == 0) first = line;
    if (!line || line->sign != first->sign || line->number != first->number + i)
      return std::nullopt;
    search[i] = line->code;
  }
  if (!first) return std::nullopt;
  for (std::string& text : replace) {  // what is new there may have no number
    const auto line = numbered(text);
    if (line && line->sign == first->sign) text = line->code;
  }
  return Block{join(search), join(replace)};
}

// ------------------------------------------------------------------------------------------------
// "-old" in SEARCH, "+new" in REPLACE, and " both" in either

// Whether each line has a sign or a blank before it, and at least one the sign.
bool has_signs(const Lines& lines, char sign) {
  bool any = false;
  for (const std::string& line : lines) {
    if (is_blank(line)) continue;
    if (line[0] != sign && line[0] != ' ') return false;
    any = any || line[0] == sign;
  }
  return any;
}

void remove_signs(Lines& lines) {
  for (std::string& line : lines)
    if (!line.empty()) line.erase(0, 1);
}

Reading without_signs(const Block& block) {
  Lines search = split_lines(block.search), replace = split_lines(block.replace);
  if (!has_signs(search, '-')) return std::nullopt;
  remove_signs(search);
  // Without a sign, its blanks may be indentation: then it is no part of the diff.
  if (has_signs(replace, '+')) remove_signs(replace);
  return Block{join(search), join(replace)};
}

// ------------------------------------------------------------------------------------------------
// Characters

Reading without_entities(const Block& block) {
  const std::string both = block.search + block.replace;
  if (both.find_first_of("<>") != std::string::npos) return std::nullopt;
  Block plain{unescaped_html(block.search), unescaped_html(block.replace)};
  return plain.search + plain.replace == both ? std::nullopt : Reading(std::move(plain));
}

// The line in ASCII, its strings as they are and its comments but for blanks. Of a long dash nobody
// knows whether it was one hyphen or two. Quotes are read as such where the line has no others.
std::string ascii_code(const std::string& line) {
  const size_t comment = std::min(line.find("//"), line.size());
  const bool quotes = line.find_first_of("\"'") < comment;
  std::string code;
  char open = 0;  // the quote that a string began with
  for (std::string_view rest = line; !rest.empty();) {
    const Character c = first_character(rest);
    const char ascii = ascii_of(c.code);
    const bool is_quote = ascii == '"' || ascii == '\'';
    const bool dash = c.code == 0x2014 || c.code == 0x2015;
    const bool in_comment = line.size() - rest.size() >= comment;
    const bool in_code = !in_comment && (open == 0 || ascii == open);
    const bool code_or_blank = in_code || (in_comment && ascii == ' ');
    const bool replace = code_or_blank && ascii != 0 && !dash && !(is_quote && quotes);
    code += replace ? std::string(1, ascii) : std::string(rest.substr(0, c.bytes));
    if (in_code && is_quote && (replace || c.bytes == 1)) open = open == 0 ? ascii : 0;
    rest.remove_prefix(c.bytes);
    if (open != 0 && c.code == '\\' && !rest.empty()) {  // whatever it escapes ends nothing
      code += rest[0];
      rest.remove_prefix(1);
    }
  }
  return code;
}

Reading in_ascii(const Block& block) {
  const auto plain = [](const std::string& text) {
    Lines lines = split_lines(text);
    std::transform(lines.begin(), lines.end(), lines.begin(), ascii_code);
    return join(lines);
  };
  Block ascii{plain(block.search), plain(block.replace)};
  return ascii.search == block.search ? std::nullopt : Reading(std::move(ascii));
}

}  // namespace

std::vector<Block> readings(const Block& block) {
  std::vector<Block> all = {block};
  for (const auto& read : {without_numbers, without_signs, without_entities, in_ascii})
    if (Reading reading = read(block)) all.push_back(std::move(*reading));
  return all;
}

}  // namespace autoresearch
