#include "agent/edit/edit.h"

#include <algorithm>
#include <functional>
#include <numeric>
#include <optional>
#include <set>
#include <string_view>
#include <vector>

#include "agent/edit/cpp_tokens.h"
#include "agent/edit/dialects.h"
#include "agent/edit/nearest_lines.h"
#include "common/text.h"

namespace autoresearch {
namespace {

constexpr size_t kMinSearchLines = 3;
constexpr size_t kMaxShown = 3;  // passages of the file that one feedback shows

using Lines = std::vector<std::string>;

struct Range {  // lines [first, last) of the source
  size_t first, last;
};

std::string join(const Lines& lines, size_t first, size_t last) {
  std::string text;
  for (size_t i = first; i < last; ++i) text += lines[i] + "\n";
  return text;
}

std::string shown(const Lines& lines, LineRange range) {
  return fenced(join(lines, range.first, range.last), "cpp");
}

// ------------------------------------------------------------------------------------------------
// Where a block's SEARCH lines are

std::vector<Range> exact_matches(const Lines& source, const Lines& search) {
  std::vector<Range> found;
  for (size_t i = 0; i + search.size() <= source.size(); ++i) {
    if (std::equal(search.begin(), search.end(), source.begin() + static_cast<ptrdiff_t>(i)))
      found.push_back({i, i + search.size()});
  }
  return found;
}

// A search for code that is equal up to comments and white space.
class TokenSearch {
 public:
  TokenSearch(const std::string& source, const Lines& lines)
      : tokens_(lex(source)), lines_(lines), has_code_(lines.size()) {
    for (const Token& token : tokens_) {
      for (size_t i = token.first_line; i <= token.last_line; ++i) has_code_[i] = true;
    }
  }

  // Whole lines of the source whose tokens are exactly those of `search`.
  std::vector<Range> matches(const Lines& search) const {
    const std::vector<Token> wanted = lex(join(search, 0, search.size()));
    std::vector<Range> found;
    if (wanted.empty()) return found;
    const size_t n = wanted.size();
    for (size_t i = 0; i + n <= tokens_.size(); ++i) {
      const bool same =
          std::equal(wanted.begin(), wanted.end(), tokens_.begin() + static_cast<ptrdiff_t>(i),
                     [](const Token& a, const Token& b) { return a.text == b.text; });
      const size_t first = tokens_[i].first_line, last = tokens_[i + n - 1].last_line;
      const bool whole_lines = (i == 0 || tokens_[i - 1].last_line < first) &&
                               (i + n == tokens_.size() || tokens_[i + n].first_line > last);
      if (same && whole_lines) found.push_back({first, last + 1});
    }
    if (found.size() != 1) return found;
    const auto range = with_comments(found[0], search, wanted);
    return range ? std::vector{*range} : std::vector<Range>{};
  }

 private:
  // Comment lines at the ends of SEARCH belong to the match where the source has comment lines in
  // the same places; otherwise the replacement would leave the old comment standing beside the new
  // one. Where the source has none, there or within, the comment may stand for lines that are not
  // in SEARCH: then it is no match.
  std::optional<Range> with_comments(Range range, const Lines& search,
                                     const std::vector<Token>& wanted) const {
    size_t i = wanted.front().first_line;
    for (; i > 0 && range.first > 0; --i, --range.first) {
      if (!alike(search[i - 1], range.first - 1)) break;
    }
    size_t k = wanted.back().last_line + 1;
    for (; k < search.size() && range.last < lines_.size(); ++k, ++range.last) {
      if (!alike(search[k], range.last)) break;
    }
    const auto is_comment = [](const std::string& line) { return !trim(line).empty(); };
    const auto begin = search.begin();
    const bool stray = std::any_of(begin, begin + static_cast<ptrdiff_t>(i), is_comment) ||
                       std::any_of(begin + static_cast<ptrdiff_t>(k), search.end(), is_comment);
    const auto comments = [](auto first, auto last) {
      return std::count_if(first, last, [](const std::string& line) {
        return trim(line).starts_with("//") || trim(line).starts_with("/*");
      });
    };
    const auto lines = lines_.begin();
    const bool more =
        comments(begin, search.end()) > comments(lines + static_cast<ptrdiff_t>(range.first),
                                                 lines + static_cast<ptrdiff_t>(range.last));
    return stray || more ? std::nullopt : std::optional(range);
  }

  bool alike(const std::string& comment, size_t line) const {
    return !has_code_[line] && trim(comment).empty() == trim(lines_[line]).empty();
  }

  std::vector<Token> tokens_;
  const Lines& lines_;
  std::vector<bool> has_code_;
};

// Where a block is found more than once: the places, with the lines above that tell them apart.
std::string places(const Lines& lines, const std::vector<Range>& found) {
  constexpr size_t kAround = 3;
  std::string text;
  for (size_t i = 0; i < std::min(found.size(), kMaxShown); ++i) {
    const size_t first = found[i].first - std::min(found[i].first, kAround);
    text += "\n\n" + shown(lines, {first, std::min(lines.size(), found[i].last + kAround)});
  }
  return text;
}

std::string not_found(const Lines& lines, const Lines& search) {
  const LineRange near = nearest_lines(lines, search);
  if (near.first == near.last)
    return "its SEARCH lines are not in the file, and nothing there resembles them.";
  return "its SEARCH lines are not in the file exactly as written. The nearest real lines are "
         "below; copy what you need from them exactly.\n\n" +
         shown(lines, near);
}

// The whole lines that a block's SEARCH lines are equal to. As text, one line is enough; as tokens,
// fewer than three prove nothing.
std::vector<Range> matches(const Lines& lines, const TokenSearch& token_search,
                           const Lines& search) {
  if (search.empty()) return {};
  const std::vector<Range> exact = exact_matches(lines, search);
  // To the tokens, such a line is a comment, and the lines that it stands for are not there.
  const bool elided = std::any_of(search.begin(), search.end(), stands_for_code);
  if (!exact.empty() || elided || search.size() < kMinSearchLines) return exact;
  return token_search.matches(search);
}

struct Placed {
  Range range;
  Block block;    // as it is meant
  size_t number;  // from 1 on, in the order of the reply
};

// The place of a block in the first of its readings that is in the file, or what is wrong with it.
// `show`: whether there is room for real lines.
std::variant<Placed, Feedback> locate(const Lines& lines, const TokenSearch& token_search,
                                      const Block& block, size_t number, bool show) {
  for (const Block& reading : readings(block)) {
    const auto found = matches(lines, token_search, split_lines(reading.search));
    if (found.size() == 1) return Placed{found[0], reading, number};
    if (found.empty()) continue;
    return Feedback{"its SEARCH lines occur " + std::to_string(found.size()) +
                    " times in the file. Add neighbouring lines until they occur once." +
                    (show ? places(lines, found) : "")};
  }
  const Lines search = split_lines(block.search);
  if (search.empty())
    return Feedback{
        "SEARCH is empty. Copy the lines next to the place of the new ones, and repeat them in "
        "REPLACE."};
  return Feedback{show ? not_found(lines, search) : "its SEARCH lines are not in the file."};
}

// ------------------------------------------------------------------------------------------------
// Blocks that were found, and yet can't be meant

std::string name_of(size_t number) { return "Block " + std::to_string(number); }

// The name that a line assigns to or defines, or the line's first word.
std::string subject(const Lines& tokens) {
  const auto equals = std::find(tokens.begin(), tokens.end(), "=");
  return equals == tokens.begin() || equals == tokens.end() ? tokens.front() : *(equals - 1);
}

bool is_version_of(const Lines& a, const Lines& b) {
  return subject(a) == subject(b) && likeness(a, b) >= 0.5;
}

// The first lines of code of a text, as tokens; the last ones where `backwards`.
std::vector<Lines> code_lines(Lines lines, bool backwards, size_t most) {
  if (backwards) std::reverse(lines.begin(), lines.end());
  std::vector<Lines> code;
  for (const std::string& line : lines) {
    if (code.size() == most) break;
    if (Lines tokens = code_tokens(line); !tokens.empty()) code.push_back(std::move(tokens));
  }
  return code;
}

// How many tokens the first `n` lines of both have, if these lines are equal; else 0.
size_t equal_tokens(const std::vector<Lines>& a, const std::vector<Lines>& b, size_t n) {
  if (n > a.size() || n > b.size()) return 0;
  size_t count = 0;
  for (size_t i = 0; i < n; ++i) {
    if (a[i] != b[i]) return 0;
    count += a[i].size();
  }
  return count;
}

// Whether REPLACE begins (ends, where `backwards`) with what stands just outside of the place and
// not in SEARCH. Then SEARCH most likely lost those lines, and the file would have them twice.
bool doubles_lines(const Placed& placed, const Lines& outside, bool backwards) {
  constexpr size_t kNear = 12, kTelling = 3;  // lines outside; tokens that are no mere bracket
  constexpr size_t kSurely = 3;               // so many lines outside, one equal line is enough
  const auto replace = code_lines(split_lines(placed.block.replace), backwards, kNear);
  const auto search = code_lines(split_lines(placed.block.search), backwards, 1);
  const auto near = code_lines(outside, !backwards, kNear);
  if (replace.empty() || near.empty()) return false;
  if (!search.empty() && replace[0] == search[0]) return false;
  for (size_t lost = 1; lost <= near.size(); ++lost) {
    // The outermost of the lost lines is where REPLACE begins.
    const std::vector<Lines> inwards(near.rend() - static_cast<ptrdiff_t>(lost), near.rend());
    const size_t alike = lost <= kSurely ? 1 : 2;
    if (equal_tokens(inwards, replace, alike) >= kTelling * alike) return true;
    if (equal_tokens(inwards, replace, lost) >= kTelling) return true;
  }
  const double inside = search.empty() ? 0 : likeness(replace[0], search[0]);
  return is_version_of(replace[0], near[0]) && likeness(replace[0], near[0]) > inside;
}

std::optional<Feedback> refuse_doubled_lines(const Lines& lines,
                                             const std::vector<Placed>& blocks) {
  for (size_t i = 0; i < blocks.size(); ++i) {
    const size_t before = i == 0 ? 0 : blocks[i - 1].range.last;
    const size_t after = i + 1 == blocks.size() ? lines.size() : blocks[i + 1].range.first;
    const auto between = [&](size_t first, size_t last) {
      return Lines(lines.begin() + static_cast<ptrdiff_t>(first),
                   lines.begin() + static_cast<ptrdiff_t>(last));
    };
    const Range range = blocks[i].range;
    const bool above = doubles_lines(blocks[i], between(before, range.first), false);
    const bool below = doubles_lines(blocks[i], between(range.last, after), true);
    if (!above && !below) continue;
    return Feedback{name_of(blocks[i].number) + ": REPLACE " + (above ? "begins" : "ends") +
                    " with a line, or a version of a line, that stands just " +
                    (above ? "above" : "below") +
                    " SEARCH in the file, so the file would have it twice. Put that line into "
                    "SEARCH as well; repeat it in REPLACE if both are meant. The real lines:\n\n" +
                    shown(lines, {range.first - std::min(range.first, size_t{4}),
                                  std::min(range.last + 4, lines.size())})};
  }
  return std::nullopt;
}

// ------------------------------------------------------------------------------------------------
// All blocks together

// The source with all blocks replaced; the parts that were put together are kept, to be compared.
struct Edited {
  std::string text;
  Lines tokens;  // of the parts, each read on its own
};

Edited replace_all(const Lines& lines, const std::vector<Placed>& blocks) {
  Edited edited;
  const auto add = [&](const std::string& part) {
    edited.text += part;
    for (std::string& token : code_tokens(part)) edited.tokens.push_back(std::move(token));
  };
  size_t at = 0;
  for (const Placed& placed : blocks) {
    add(join(lines, at, placed.range.first));
    add(placed.block.replace);
    at = placed.range.last;
  }
  add(join(lines, at, lines.size()));
  return edited;
}

// The places of all blocks in the order of the file, or all that is wrong with them.
std::variant<std::vector<Placed>, Feedback> place(const std::string& source, const Lines& lines,
                                                  const std::vector<Block>& blocks) {
  if (blocks.size() > lines.size())
    return Feedback{"There are more blocks than the file can hold."};
  const TokenSearch token_search(source, lines);
  std::vector<Placed> placed;
  std::string problems;
  size_t count = 0;
  for (size_t i = 0; i < blocks.size(); ++i) {
    auto found = locate(lines, token_search, blocks[i], i + 1, count < kMaxShown);
    if (const auto* feedback = std::get_if<Feedback>(&found)) {
      ++count;
      problems += (problems.empty() ? "" : "\n\n") + name_of(i + 1) + ": " + feedback->text;
    } else {
      placed.push_back(std::get<Placed>(std::move(found)));
    }
  }
  if (!problems.empty()) return Feedback{problems};
  std::sort(placed.begin(), placed.end(),
            [](auto& a, auto& b) { return a.range.first < b.range.first; });
  for (size_t i = 1; i < placed.size(); ++i) {
    if (placed[i].range.first < placed[i - 1].range.last)
      return Feedback{
          "Blocks " + std::to_string(placed[i - 1].number) + " and " +
          std::to_string(placed[i].number) +
          " overlap in the file. Join them into one block, or leave out the one that is "
          "not meant."};
  }
  return placed;
}

// Whether a statement is one of the file with one other token, such as a value.
bool is_new_version(const Lines& tokens, const std::set<Lines>& code) {
  constexpr size_t kTelling = 5;
  if (tokens.size() < kTelling || tokens.back() != ";") return false;
  return std::any_of(code.begin(), code.end(), [&](const Lines& old) {
    return old.size() == tokens.size() &&
           std::inner_product(old.begin(), old.end(), tokens.begin(), size_t{0}, std::plus<>(),
                              std::not_equal_to<>()) == 1;
  });
}

// A line of the file, or a new version of one, that stands outside of all blocks, as it does if a
// block has lost its markers.
std::optional<Feedback> refuse_lost_block(const std::string& source, const Proposal& proposal) {
  constexpr size_t kTelling = 3;  // tokens that are no mere bracket
  if (proposal.outside.empty()) return std::nullopt;
  std::set<Lines> code;
  for (const std::string& line : split_lines(source))
    if (Lines tokens = code_tokens(line); tokens.size() >= kTelling) code.insert(std::move(tokens));
  for (const std::string& line : proposal.outside) {
    const Lines tokens = code_tokens(line);
    if (!code.contains(tokens) && !is_new_version(tokens, code)) continue;
    return Feedback{"The line '" + one_line(line, 60) +
                    "' of the file stands outside of a block, so a block's markers seem to be "
                    "missing. Code is allowed between markers only."};
  }
  return std::nullopt;
}

std::variant<std::string, Feedback> apply_blocks(const std::string& source,
                                                 const std::vector<Block>& blocks) {
  const Lines lines = split_lines(source);
  const auto found = place(source, lines, blocks);
  if (const auto* feedback = std::get_if<Feedback>(&found)) return *feedback;
  const auto& placed = std::get<std::vector<Placed>>(found);
  if (auto feedback = refuse_doubled_lines(lines, placed)) return *feedback;
  Edited edited = replace_all(lines, placed);
  for (const Placed& block : placed) {
    if (block.block.search == block.block.replace && edited.text != source)
      return Feedback{name_of(block.number) +
                      ": SEARCH and REPLACE are the same. Leave the block out, or "
                      "add the lines that it should change to SEARCH."};
  }
  if (edited.tokens != code_tokens(edited.text)) {
    return Feedback{
        "A block begins, ends or leaves open a comment, a string or a continued line that spans "
        "several lines. Put the whole of it into one block, and close in REPLACE what you open "
        "there."};
  }
  return std::move(edited.text);
}

std::string replaced(std::string_view text, std::string_view from, std::string_view to) {
  std::string all;
  for (size_t at; (at = text.find(from)) != text.npos; text.remove_prefix(at + from.size()))
    all.append(text.substr(0, at)).append(to);
  return all.append(text);
}

}  // namespace

std::variant<std::string, Feedback> apply_proposal(const std::string& source,
                                                   const Proposal& proposal) {
  const std::string lf = replaced(source, "\r\n", "\n");
  // Every line ends as on Windows. Replies have no carriage returns; the file keeps its own.
  if (lf != source && replaced(lf, "\n", "\r\n") == source) {
    auto result = apply_proposal(lf, proposal);
    if (auto* edited = std::get_if<std::string>(&result)) *edited = replaced(*edited, "\n", "\r\n");
    return result;
  }
  if (auto feedback = refuse_lost_block(source, proposal)) return std::move(*feedback);
  std::variant<std::string, Feedback> result = proposal.whole_file;
  if (!proposal.blocks.empty()) result = apply_blocks(source, proposal.blocks);
  if (const auto* edited = std::get_if<std::string>(&result)) {
    if (auto feedback = implausible(source, *edited)) return std::move(*feedback);
  }
  return result;
}

std::variant<Edit, Feedback> apply_reply(const std::string& source, const std::string& reply,
                                         bool truncated, bool allow_whole_file) {
  auto parsed = parse_reply(reply, truncated, allow_whole_file);
  if (auto* feedback = std::get_if<Feedback>(&parsed)) return std::move(*feedback);
  auto& proposal = std::get<Proposal>(parsed);
  auto edited = apply_proposal(source, proposal);
  if (auto* feedback = std::get_if<Feedback>(&edited)) return std::move(*feedback);
  return Edit{std::move(proposal), std::get<std::string>(std::move(edited))};
}

}  // namespace autoresearch
