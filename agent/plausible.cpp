#include "agent/plausible.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <set>
#include <string_view>
#include <vector>

#include "agent/cpp_tokens.h"
#include "agent/text.h"

namespace autoresearch {
namespace {

std::optional<Feedback> refuse_size(const std::string& source, const std::string& result) {
  const size_t before = split_lines(source).size(), after = split_lines(result).size();
  if (after * 2 < before) {
    return Feedback{"The edit would delete more than half of the file (" + std::to_string(before) +
                    " lines to " + std::to_string(after) + "). Make a smaller change."};
  }
  if (after > kMaxLines || result.size() > kMaxBytes) {
    return Feedback{"The edited file would have " + std::to_string(after) + " lines and " +
                    std::to_string(result.size()) + " bytes; the limits are " +
                    std::to_string(kMaxLines) + " lines and " + std::to_string(kMaxBytes) +
                    " bytes. Take code away, or do the same with less."};
  }
  return std::nullopt;
}

// The first line of `result` that is new and fulfils `test`.
template <typename Test>
std::optional<std::string> new_line(const std::string& source, const std::string& result,
                                    Test test) {
  const std::vector<std::string> lines = split_lines(source);
  const std::set<std::string> old(lines.begin(), lines.end());
  for (const std::string& line : split_lines(result)) {
    if (!old.contains(line) && test(line)) return one_line(line, 80);
  }
  return std::nullopt;
}

// What a word processor or a web page makes of code, outside of strings and comments.
bool is_typographic(const std::string& line) {
  for (const std::string& token : code_tokens(line)) {
    if (token.find('"') != std::string::npos) continue;
    // U+00A0 and the block from U+2000 on: blanks, dashes, quotes; no name contains them.
    if (token.find("\xe2\x80") != std::string::npos || token.find("\xc2\xa0") != std::string::npos)
      return true;
  }
  constexpr std::array<std::string_view, 5> kEntities = {"&lt;", "&gt;", "&amp;", "&quot;", "&#"};
  return std::any_of(kEntities.begin(), kEntities.end(), [&](std::string_view entity) {
    return line.find(entity) != std::string::npos;
  });
}

// How many more brackets of each kind are opened than closed.
std::array<int, 3> open_brackets(const std::string& source) {
  constexpr std::string_view kOpen = "({[", kClose = ")}]";
  std::array<int, 3> count{};
  for (const std::string& token : code_tokens(source)) {
    if (token.size() != 1) continue;
    if (const size_t kind = kOpen.find(token[0]); kind != kOpen.npos) ++count[kind];
    if (const size_t kind = kClose.find(token[0]); kind != kClose.npos) --count[kind];
  }
  return count;
}

}  // namespace

bool stands_for_code(const std::string& line) {
  constexpr std::string_view kEllipsis = "\xe2\x80\xa6";  // the three dots in one character
  constexpr std::array<std::string_view, 9> kOpenings = {
      "rest of",        "the rest of",   "existing code", "remaining",   "unchanged",
      "same as before", "keep the rest", "no changes",    "code omitted"};
  constexpr size_t kLongest = 60;  // a longer comment says something
  std::string text = trim(line);
  const bool comment = text.starts_with("//") || text.starts_with("/*");
  if (comment) text = trim(text.substr(2));
  if (text.starts_with("...") || text.starts_with(kEllipsis))
    return comment || text.find_first_not_of('.') == std::string::npos || text == kEllipsis;
  if (!comment || text.size() > kLongest) return false;
  text.erase(0, std::min(text.find_first_not_of("([<"), text.size()));
  for (char& c : text) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return std::any_of(kOpenings.begin(), kOpenings.end(),
                     [&](std::string_view opening) { return text.starts_with(opening); });
}

std::optional<Feedback> implausible(const std::string& source, const std::string& result) {
  if (auto feedback = refuse_size(source, result)) return feedback;
  if (const auto line = new_line(source, result, stands_for_code)) {
    return Feedback{"The line '" + *line +
                    "' stands for code that was left out, and what it stands for would be deleted. "
                    "Write every line out, or choose smaller blocks."};
  }
  if (const auto line = new_line(source, result, is_typographic)) {
    return Feedback{"The line '" + *line +
                    "' has typographic quotes, dashes or blanks, or HTML entities, in code. Write "
                    "plain ASCII characters."};
  }
  const auto open = open_brackets(result);
  if (open != open_brackets(source) && open != std::array<int, 3>{}) {
    return Feedback{
        "After the edit the brackets of the file don't match: one is opened or closed too much. "
        "Compare SEARCH and REPLACE at their first and last lines."};
  }
  return std::nullopt;
}

}  // namespace autoresearch
