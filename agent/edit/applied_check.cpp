#include "agent/edit/applied_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <set>
#include <span>
#include <string_view>
#include <vector>

#include "agent/edit/cpp_tokens.h"
#include "agent/edit/diff.h"
#include "agent/edit/nearest_lines.h"
#include "common/text.h"

namespace autoresearch {
namespace {

std::optional<Feedback> refuse_size(const std::string& source, const std::string& result) {
  const size_t before = split_lines(source).size(), after = split_lines(result).size();
  if (after * 2 < before) {
    return Feedback{fmt::format(
        "The edit would delete more than half of the file ({} lines to {}). Make a smaller change.",
        before, after)};
  }
  if (after > kMaxLines || result.size() > kMaxBytes) {
    return Feedback{fmt::format(
        "The edited file would have {} lines and {} bytes; the limits are {} lines and {} bytes. "
        "Remove code, or do the same with less.",
        after, result.size(), kMaxLines, kMaxBytes)};
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
    for (std::string_view rest = token; !rest.empty();) {
      const Character c = first_character(rest);
      const bool punctuation = c.code >= 0x2000 && c.code < 0x2070;
      if (c.code >= 0x80 && (punctuation || ascii_of(c.code) != 0)) return true;
      rest.remove_prefix(c.bytes);
    }
  }
  return has_any(line, {"&lt;", "&gt;", "&amp;", "&quot;", "&#"});
}

// How many more brackets of each kind are opened than closed.
std::array<int, 3> open_brackets(const std::string& source) {
  constexpr std::string_view kOpen = "({[", kClose = ")}]";
  std::array<int, 3> count{};
  for (const std::string& token : code_tokens(source))
    for (size_t kind = 0; kind < count.size(); ++kind)
      count[kind] += (token == kOpen.substr(kind, 1)) - (token == kClose.substr(kind, 1));
  return count;
}

// The words of a line that is one comment, in small letters and without brackets before them;
// nothing for any other line.
std::optional<std::string> comment_words(const std::string& line) {
  std::string text = trim(line);
  if (!text.starts_with("//") && !text.starts_with("/*")) return std::nullopt;
  text = trim(text.substr(2));
  text.erase(0, std::min(text.find_first_not_of("([<-"), text.size()));
  return lower(text);
}

// A longer comment says something.
bool is_short(const std::string& comment) { return comment.size() <= 60; }

// How many of these lines are code, and which are short comments.
struct Parts {
  explicit Parts(std::span<const std::string> lines) {
    for (const std::string& line : lines) {
      code += !code_tokens(line).empty();
      const auto words = comment_words(line);
      if (words && is_short(*words)) comments.push_back(line);
    }
  }
  size_t code = 0;
  std::vector<std::string> comments;
};

// Where the lines of code are among some lines.
std::vector<size_t> places_of_code(const std::vector<std::string>& lines) {
  std::vector<size_t> places;
  for (size_t i = 0; i < lines.size(); ++i)
    if (!code_tokens(lines[i]).empty()) places.push_back(i);
  return places;
}

// Whether a comment is where a hunk's code was. One that speaks of new code stands above it; this
// one has none below it, and between lines that only became other versions more code is gone.
bool comment_in_place_of_code(const Hunk& hunk) {
  const auto alike = [](const std::string& a, const std::string& b) {
    return likeness(code_tokens(a), code_tokens(b)) >= 0.5;
  };
  const std::vector<size_t> gone = places_of_code(hunk.gone), added = places_of_code(hunk.added);
  const size_t most = std::min(gone.size(), added.size());
  size_t head = 0, tail = 0;
  while (head < most && alike(hunk.gone[gone[head]], hunk.added[added[head]])) ++head;
  while (head + tail < most &&
         alike(hunk.gone[gone.rbegin()[tail]], hunk.added[added.rbegin()[tail]]))
    ++tail;
  if (head + tail == gone.size()) return false;
  const size_t begin = head == 0 ? 0 : added[head - 1] + 1;
  const size_t end = tail == 0 ? hunk.added.size() : added.rbegin()[tail - 1];
  std::span<const std::string> came(hunk.added.begin() + static_cast<ptrdiff_t>(begin),
                                    hunk.added.begin() + static_cast<ptrdiff_t>(end));
  while (!came.empty() && trim(came.back()).empty()) came = came.first(came.size() - 1);
  return !came.empty() && code_tokens(came.back()).empty() && !Parts(came).comments.empty();
}

// Code that gave way to a comment, or, if less of it came back, to one that speaks of what was
// there. The comment, if there is one: no list of phrases is as long as the models' own.
std::optional<std::string> comment_for_code(const std::string& source, const std::string& result) {
  for (const Hunk& hunk : hunks(source, result)) {
    const Parts gone(hunk.gone), added(hunk.added);
    const bool in_place = comment_in_place_of_code(hunk);
    const bool fewer = gone.code > added.code || added.code == 0;
    const bool no_more = gone.code >= added.code && added.comments.size() > gone.comments.size();
    for (const std::string& comment : added.comments) {
      const std::string words = *comment_words(comment);
      // Words that may be about code that was left out, and words that hardly are about anything
      // else.
      if (in_place ||
          (fewer &&
           has_any(words, {"...", "\xe2\x80\xa6", "existing", "original", "keep", "rest of",
                           "remaining", "other lines", "etc", "no change", "previous code"})) ||
          (no_more && has_any(words, {"unchanged", "same as", "as before", "as above", "as it was",
                                      "omitted", "not shown", "snip", "etc."})))
        return one_line(comment, 80);
    }
  }
  return std::nullopt;
}

}  // namespace

bool stands_for_code(const std::string& line) {
  const std::string kEllipsis = "\xe2\x80\xa6";  // the three dots in one character
  const std::optional<std::string> comment = comment_words(line);
  const std::string text = comment.value_or(trim(line));
  if (text.starts_with("...") || text.starts_with(kEllipsis))
    return comment || text.find_first_not_of('.') == std::string::npos || text == kEllipsis;
  return comment && is_short(*comment) &&
         has_any("\n" + text,
                 {"\nrest of", "\nthe rest of", "\nexisting code", "\nremaining", "\nunchanged",
                  "\nsame as before", "\nkeep the rest", "\nno changes", "\ncode omitted"});
}

std::optional<Feedback> implausible(const std::string& source, const std::string& result) {
  if (auto feedback = refuse_size(source, result)) return feedback;
  if (const auto line = new_line(source, result, stands_for_code)) {
    return Feedback{"The line '" + *line +
                    "' stands for code that was left out, and that code would be deleted. "
                    "Write every line out, or choose smaller blocks."};
  }
  if (const auto line = comment_for_code(source, result)) {
    return Feedback{"The comment '" + *line +
                    "' stands where code is deleted. To keep that code, write every line out; to "
                    "delete it, leave the comment out."};
  }
  if (const auto line = new_line(source, result, is_typographic)) {
    return Feedback{"The line '" + *line +
                    "' has typographic quotes, dashes or spaces, or HTML entities, in code. Write "
                    "plain ASCII characters."};
  }
  const auto open = open_brackets(result);
  if (open != open_brackets(source) && open != std::array<int, 3>{}) {
    return Feedback{
        "After the edit the brackets of the file don't match: there is one too many or too few. "
        "Compare SEARCH and REPLACE at their first and last lines."};
  }
  return std::nullopt;
}

}  // namespace autoresearch
