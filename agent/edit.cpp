#include "agent/edit.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdint>
#include <optional>
#include <string_view>

#include "agent/text.h"
#include "common/files.h"

namespace autoresearch {

const char kReplyFormat[] =
    "IDEA: one line, at most 100 characters; becomes the description in results.tsv\n"
    "WHY: at most two sentences: mechanism, expected change\n"
    "<<<<<<< SEARCH\n"
    "at least three whole lines, copied exactly, unique in the file\n"
    "=======\n"
    "new lines; empty deletes\n"
    ">>>>>>> REPLACE\n"
    "NEXT: optional, at most two lines, other ideas, no code\n";

namespace {

constexpr size_t kMinSearchLines = 3, kMaxIdea = 100, kMaxWhy = 400, kMaxNext = 200;

// ------------------------------------------------------------------------------------------------
// Code tokens

struct Token {
  std::string text;
  size_t first_line, last_line;  // 0-based lines of the source
};

bool is_word(char c) {
  const auto byte = static_cast<unsigned char>(c);
  return std::isalnum(byte) || c == '_' || byte >= 0x80;
}
bool is_digit(char c) { return c >= '0' && c <= '9'; }

// A lexer of C++ as far as equality of code needs one. It reads the source after line splicing
// (translation phase 2), except in raw strings, where the standard takes splices back.
class Lexer {
 public:
  explicit Lexer(const std::string& source) : source_(source) {
    for (size_t i = 0, line = 0; i < source.size(); ++i) {
      const size_t skip = splice_length(i);
      if (skip == 0) chars_.push_back({source[i], i, line});
      if (skip > 0 || source[i] == '\n') ++line;
      i += skip > 0 ? skip - 1 : 0;
    }
  }

  std::vector<Token> run() {
    while (pos_ < chars_.size()) step();
    end_directive();
    return std::move(tokens_);
  }

 private:
  struct Char {
    char c;
    size_t offset, line;
  };

  size_t splice_length(size_t i) const {
    if (source_[i] != '\\') return 0;
    if (source_.compare(i + 1, 1, "\n") == 0) return 2;
    return source_.compare(i + 1, 2, "\r\n") == 0 ? 3 : 0;
  }

  char at(size_t ahead = 0) const {
    return pos_ + ahead < chars_.size() ? chars_[pos_ + ahead].c : '\0';
  }

  void emit(size_t begin) {
    std::string text;
    for (size_t i = begin; i < pos_; ++i) text += chars_[i].c;
    tokens_.push_back({std::move(text), chars_[begin].line, chars_[pos_ - 1].line});
  }

  // The end of a preprocessor line means something, so it is a token of its own.
  void end_directive() {
    if (!in_directive_) return;
    in_directive_ = false;
    tokens_.push_back({"\n", tokens_.back().last_line, tokens_.back().last_line});
  }

  void step() {
    const char c = at();
    if (c == '\n') {
      end_directive();
      at_line_start_ = true;
      ++pos_;
    } else if (std::isspace(static_cast<unsigned char>(c))) {
      ++pos_;
    } else if (c == '/' && (at(1) == '/' || at(1) == '*')) {
      skip_comment();
    } else {
      if (c == '#' && at_line_start_) in_directive_ = true;
      at_line_start_ = false;
      token();
    }
  }

  void skip_comment() {
    const bool block = at(1) == '*';
    pos_ += 2;
    while (pos_ < chars_.size()) {
      if (!block && at() == '\n') return;
      if (block && at() == '*' && at(1) == '/') {
        pos_ += 2;
        return;
      }
      ++pos_;
    }
  }

  void token() {
    const char c = at();
    if (is_digit(c) || (c == '.' && is_digit(at(1)))) return number();
    if (c == '"' || c == '\'') return quoted(pos_);
    if (is_word(c)) return word();
    operator_();
  }

  // Digit separators carry no meaning: 1'000 equals 1000.
  void number() {
    const size_t begin = pos_;
    std::string text;
    while (pos_ < chars_.size()) {
      const char c = at();
      const bool sign = (c == '+' || c == '-') && pos_ > begin &&
                        std::string_view("eEpP").find(chars_[pos_ - 1].c) != std::string_view::npos;
      if (c == '\'' && is_word(at(1))) {
        ++pos_;
        continue;
      }
      if (!is_word(c) && c != '.' && !sign) break;
      text += c;
      ++pos_;
    }
    tokens_.push_back({std::move(text), chars_[begin].line, chars_[pos_ - 1].line});
  }

  void word() {
    const size_t begin = pos_;
    while (is_word(at())) ++pos_;
    std::string text;
    for (size_t i = begin; i < pos_; ++i) text += chars_[i].c;
    const auto among = [&](std::initializer_list<const char*> set) {
      return std::find(set.begin(), set.end(), text) != set.end();
    };
    if (at() == '"' && among({"R", "u8R", "uR", "UR", "LR"})) return raw_string(begin);
    if ((at() == '"' || at() == '\'') && among({"u8", "u", "U", "L"})) return quoted(begin);
    // In a #define, "f(" begins a macro with parameters and "f (" does not.
    const size_t n = tokens_.size();
    const bool defines = in_directive_ && n >= 2 && tokens_[n - 1].text == "define";
    if (defines && tokens_[n - 2].text == "#" && at() == '(') ++pos_;
    emit(begin);
  }

  void quoted(size_t begin) {
    const char quote = at();
    for (++pos_; pos_ < chars_.size() && at() != '\n'; ++pos_) {
      if (at() == '\\' && at(1) != '\n') {
        ++pos_;
      } else if (at() == quote) {
        ++pos_;
        break;
      }
    }
    pos_ = std::min(pos_, chars_.size());
    while (is_word(at())) ++pos_;  // a literal's suffix
    emit(begin);
  }

  void raw_string(size_t begin) {
    const size_t quote = chars_[pos_].offset;
    const size_t open = source_.find('(', quote);
    if (open == std::string::npos || open - quote > 17) return quoted(begin);
    const std::string close = ")" + source_.substr(quote + 1, open - quote - 1) + "\"";
    const size_t found = source_.find(close, open);
    const size_t end = found == std::string::npos ? source_.size() : found + close.size();
    const size_t start = chars_[begin].offset;
    while (pos_ < chars_.size() && (chars_[pos_].offset < end || is_word(at()))) ++pos_;
    const size_t stop = pos_ < chars_.size() ? chars_[pos_].offset : source_.size();
    tokens_.push_back(
        {source_.substr(start, stop - start), chars_[begin].line, chars_[pos_ - 1].line});
  }

  void operator_() {
    constexpr std::array<std::string_view, 30> kLong = {
        "<=>", "<<=", ">>=", "->*", "...", "::", "->", ".*", "++", "--",
        "<<",  ">>",  "<=",  ">=",  "==",  "!=", "&&", "||", "+=", "-=",
        "*=",  "/=",  "%=",  "&=",  "|=",  "^=", "##", "<:", "<%", "%>"};
    const size_t begin = pos_;
    for (const std::string_view op : kLong) {
      size_t same = 0;
      while (same < op.size() && at(same) == op[same]) ++same;
      if (same == op.size()) {
        pos_ += op.size();
        return emit(begin);
      }
    }
    ++pos_;
    emit(begin);
  }

  const std::string& source_;
  std::vector<Char> chars_;
  std::vector<Token> tokens_;
  size_t pos_ = 0;
  bool at_line_start_ = true, in_directive_ = false;
};

bool same_code(const std::string& a, const std::string& b) {
  return code_tokens(a) == code_tokens(b);
}

// ------------------------------------------------------------------------------------------------
// From a reply to a proposal

enum class Marker { kNone, kSearch, kDivider, kReplace, kMangled };

Marker marker_of(const std::string& line) {
  const std::string text = line.substr(0, line.find_last_not_of(" \t") + 1);
  if (text == "<<<<<<< SEARCH") return Marker::kSearch;
  if (text == "=======") return Marker::kDivider;
  if (text == ">>>>>>> REPLACE") return Marker::kReplace;
  // No line of C++ begins like this, so it was meant as a marker and the block can't be trusted.
  const std::string bare = trim(line);
  const bool arrows = bare.starts_with("<<<<<") || bare.starts_with(">>>>>");
  const bool rule = bare.size() >= 5 && bare.find_first_not_of('=') == std::string::npos;
  return arrows || rule ? Marker::kMangled : Marker::kNone;
}

bool is_fence(const std::string& line) { return trim(line).starts_with("```"); }

// Thoughts of reasoning models: between <think> and </think>; where a chat template has written the
// opening tag already, everything before the closing one.
std::string without_thoughts(std::string text) {
  for (const std::string tag : {"think", "thinking"}) {
    const std::string open = "<" + tag + ">", close = "</" + tag + ">";
    for (size_t end; (end = text.find(close)) != std::string::npos;) {
      const size_t begin = text.find(open);
      text.erase(begin < end ? begin : 0,
                 begin < end ? end + close.size() - begin : end + close.size());
    }
    const std::string rest = trim(text);
    if (rest.starts_with(open)) return "";  // never closed: nothing but thoughts
  }
  return text;
}

// The text after "IDEA:" and the like, whatever Markdown a model puts around the label.
std::optional<std::string> labelled(const std::string& line, std::string_view label) {
  std::string_view rest = line;
  rest.remove_prefix(std::min(rest.find_first_not_of(" \t*#_>-"), rest.size()));
  if (!rest.starts_with(label)) return std::nullopt;
  rest.remove_prefix(label.size());
  rest.remove_prefix(std::min(rest.find_first_not_of("* _"), rest.size()));
  if (!rest.starts_with(":")) return std::nullopt;
  rest.remove_prefix(1);
  const std::string text = trim(rest);
  const size_t begin = text.find_first_not_of("*_ ");
  if (begin == std::string::npos) return "";
  return text.substr(begin, text.find_last_not_of("*_ ") - begin + 1);
}

struct Section {  // what follows one IDEA line
  std::string idea, why;
  std::vector<Block> blocks;
};

const char kCutOff[] =
    "Your reply was cut off before its end, so nothing of it was applied. Send it again, whole and "
    "shorter: smaller SEARCH blocks around the lines that change, and less prose.";

// Reads a reply line by line. `problem` is set at the first line that can't be trusted.
class Reader {
 public:
  explicit Reader(const std::vector<std::string>& lines) : lines_(lines) {}

  void read() {
    while (pos_ < lines_.size() && problem.empty()) {
      const std::string& line = lines_[pos_++];
      switch (marker_of(line)) {
        case Marker::kSearch:
          read_block();
          break;
        case Marker::kNone:
          read_prose(line);
          break;
        default:
          problem = "The line '" + one_line(line, 60) +
                    "' is a marker without a block around it. Marker lines are exactly '<<<<<<< "
                    "SEARCH', '=======' and '>>>>>>> REPLACE'.";
      }
    }
  }

  std::vector<Section> sections;
  std::vector<std::string> next;
  std::string problem;

 private:
  void read_prose(const std::string& line) {
    if (const auto idea = labelled(line, "IDEA")) {
      sections.push_back({one_line(*idea, kMaxIdea), "", {}});
      label_ = 'I';
    } else if (const auto why = labelled(line, "WHY")) {
      add_why(*why);
      label_ = 'W';
    } else if (const auto text = labelled(line, "NEXT")) {
      add_next(*text);
      label_ = 'N';
    } else if (trim(line).empty() || is_fence(line)) {
      label_ = ' ';
    } else if (label_ == 'W') {
      add_why(line);
    } else if (label_ == 'N') {
      add_next(line);
    }
  }

  void add_why(const std::string& text) {
    if (sections.empty()) return;
    std::string& why = sections.back().why;
    why = one_line(why + " " + text, kMaxWhy);
  }

  // At most two lines; a list's bullet or number is dropped.
  void add_next(const std::string& text) {
    std::string line = one_line(text, kMaxNext);
    size_t begin = line.find_first_not_of("-*+ ");
    if (begin == std::string::npos) return;
    const size_t after_number = line.find_first_not_of("0123456789", begin);
    if (after_number != std::string::npos && after_number > begin &&
        (line.compare(after_number, 2, ". ") == 0 || line.compare(after_number, 2, ") ") == 0)) {
      begin = after_number + 2;
    }
    if (next.size() < 2) next.push_back(line.substr(begin));
  }

  void read_block() {
    label_ = ' ';
    if (sections.empty()) {
      problem = "There is no IDEA line before the first block.";
      return;
    }
    const size_t number = sections.back().blocks.size() + 1;
    Block block;
    if (read_part(Marker::kDivider, number, block.search) &&
        read_part(Marker::kReplace, number, block.replace)) {
      sections.back().blocks.push_back(std::move(block));
    }
  }

  // The lines up to `end`; any other marker in between makes the block ambiguous.
  bool read_part(Marker end, size_t number, std::string& part) {
    const std::string block = "Block " + std::to_string(number);
    while (pos_ < lines_.size()) {
      const std::string& line = lines_[pos_++];
      const Marker marker = marker_of(line);
      if (marker == end) return true;
      if (marker != Marker::kNone) {
        problem = block + ": the line '" + one_line(line, 60) + "' stands where '" +
                  (end == Marker::kDivider ? "=======" : ">>>>>>> REPLACE") +
                  "' should close this part. Every block has the three markers once, in order.";
        return false;
      }
      if (is_fence(line)) {
        problem = block + " has a ``` line between its markers; only code may stand there.";
        return false;
      }
      part += line + "\n";
    }
    problem = block + " has no closing '>>>>>>> REPLACE' line. " + kCutOff;
    return false;
  }

  const std::vector<std::string>& lines_;
  size_t pos_ = 0;
  char label_ = ' ';  // which label's text goes on: I, W, N or none
};

Feedback format_problem(const std::string& what) {
  return {what + "\n\nAnswer in exactly this format:\n\n" + kReplyFormat};
}

// The content of the only fence of a reply.
std::variant<std::string, Feedback> fenced_file(const std::vector<std::string>& lines) {
  std::vector<size_t> fences;
  for (size_t i = 0; i < lines.size(); ++i) {
    if (is_fence(lines[i])) fences.push_back(i);
  }
  // A fence around the whole reply is not the file's.
  if (fences.size() == 4) fences = {fences[1], fences[2]};
  if (fences.size() == 1)
    return Feedback{std::string("The file's fence is never closed. ") + kCutOff};
  if (fences.size() != 2 || trim(lines[fences[1]]) != "```") {
    return format_problem("A whole file stands in exactly one ```cpp fence, complete.");
  }
  std::string file;
  for (size_t i = fences[0] + 1; i < fences[1]; ++i) file += lines[i] + "\n";
  return file;
}

// ------------------------------------------------------------------------------------------------
// From a proposal to a source

struct Range {  // lines [first, last) of the source
  size_t first, last, block;
};

std::string join(const std::vector<std::string>& lines, size_t first, size_t last) {
  std::string text;
  for (size_t i = first; i < last; ++i) text += lines[i] + "\n";
  return text;
}

std::vector<Range> exact_matches(const std::vector<std::string>& source,
                                 const std::vector<std::string>& search) {
  std::vector<Range> found;
  for (size_t i = 0; i + search.size() <= source.size(); ++i) {
    if (std::equal(search.begin(), search.end(), source.begin() + i)) {
      found.push_back({i, i + search.size(), 0});
    }
  }
  return found;
}

// A search for code that is equal up to comments and white space.
class TokenSearch {
 public:
  TokenSearch(const std::string& source, const std::vector<std::string>& lines)
      : tokens_(Lexer(source).run()), lines_(lines), has_code_(lines.size()) {
    for (const Token& token : tokens_) {
      for (size_t i = token.first_line; i <= token.last_line; ++i) has_code_[i] = true;
    }
  }

  // Whole lines of the source whose tokens are exactly those of `search`.
  std::vector<Range> matches(const std::vector<std::string>& search) const {
    const std::vector<Token> wanted = Lexer(join(search, 0, search.size())).run();
    std::vector<Range> found;
    if (wanted.empty()) return found;
    const size_t n = wanted.size();
    for (size_t i = 0; i + n <= tokens_.size(); ++i) {
      const bool same = std::equal(wanted.begin(), wanted.end(), tokens_.begin() + i,
                                   [](const Token& a, const Token& b) { return a.text == b.text; });
      const size_t first = tokens_[i].first_line, last = tokens_[i + n - 1].last_line;
      const bool whole_lines = (i == 0 || tokens_[i - 1].last_line < first) &&
                               (i + n == tokens_.size() || tokens_[i + n].first_line > last);
      if (same && whole_lines) found.push_back(with_comments({first, last + 1, 0}, search, wanted));
    }
    return found;
  }

 private:
  // Comment lines at the ends of SEARCH belong to the match where the source has comment lines in
  // the same places; otherwise the replacement would leave the old comment standing beside the new
  // one.
  Range with_comments(Range range, const std::vector<std::string>& search,
                      const std::vector<Token>& wanted) const {
    for (size_t i = wanted.front().first_line; i > 0 && range.first > 0; --i, --range.first) {
      if (!alike(search[i - 1], range.first - 1)) break;
    }
    for (size_t i = wanted.back().last_line + 1; i < search.size(); ++i, ++range.last) {
      if (range.last >= lines_.size() || !alike(search[i], range.last)) break;
    }
    return range;
  }

  bool alike(const std::string& comment, size_t line) const {
    return !has_code_[line] && trim(comment).empty() == trim(lines_[line]).empty();
  }

  std::vector<Token> tokens_;
  const std::vector<std::string>& lines_;
  std::vector<bool> has_code_;
};

// Sorted pairs of neighbouring characters, blanks left out: what line similarity counts.
std::vector<uint16_t> bigrams(const std::string& line) {
  std::string text;
  for (const char c : line) {
    if (!std::isspace(static_cast<unsigned char>(c))) text += c;
  }
  std::vector<uint16_t> pairs;
  for (size_t i = 0; i + 1 < text.size(); ++i) {
    pairs.push_back(static_cast<uint16_t>(static_cast<uint8_t>(text[i]) << 8 |
                                          static_cast<uint8_t>(text[i + 1])));
  }
  std::sort(pairs.begin(), pairs.end());
  return pairs;
}

// Dice's coefficient: 1 for equal lines, 0 for lines with nothing in common.
double similarity(const std::vector<uint16_t>& a, const std::vector<uint16_t>& b) {
  if (a.empty() || b.empty()) return 0;
  size_t common = 0;
  for (size_t i = 0, j = 0; i < a.size() && j < b.size();) {
    common += a[i] == b[j];
    const bool step_a = a[i] <= b[j], step_b = b[j] <= a[i];
    i += step_a;
    j += step_b;
  }
  return 2.0 * common / (a.size() + b.size());
}

// The real lines that resemble SEARCH most, so that the model can copy them.
std::string nearest_lines(const std::vector<std::string>& source,
                          const std::vector<std::string>& search) {
  constexpr size_t kShown = 40, kDrift = 2;
  std::vector<std::vector<uint16_t>> have, want;
  for (const std::string& line : source) have.push_back(bigrams(line));
  for (size_t i = 0; i < std::min(search.size(), kShown); ++i) want.push_back(bigrams(search[i]));
  size_t best_at = 0;
  double best = -1;
  for (size_t i = 0; i < have.size(); ++i) {
    double score = 0;
    for (size_t k = 0; k < want.size(); ++k) {
      // Lines may be missing or added in between, hence a little room around the place.
      const size_t first = i + k < kDrift ? 0 : i + k - kDrift;
      double line = 0;
      for (size_t j = first; j <= i + k + kDrift && j < have.size(); ++j) {
        line = std::max(line, similarity(want[k], have[j]) - (j == i + k ? 0 : 0.01));
      }
      score += line;
    }
    if (score > best) {
      best = score;
      best_at = i;
    }
  }
  const size_t first = best_at < kDrift ? 0 : best_at - kDrift;
  const size_t last = std::min(source.size(), best_at + want.size() + kDrift);
  return "```cpp\n" + join(source, first, last) + "```";
}

// The place of one block, or what is wrong with it.
std::variant<Range, Feedback> locate(const std::vector<std::string>& lines,
                                     const TokenSearch& token_search, const Block& block,
                                     size_t index) {
  const std::string name = "Block " + std::to_string(index + 1);
  const std::vector<std::string> search = split_lines(block.search);
  if (search.size() < kMinSearchLines) {
    return Feedback{name +
                    ": SEARCH needs at least three whole lines, so that the place is certain. "
                    "Copy the neighbouring lines too, and repeat them in REPLACE."};
  }
  std::vector<Range> found = exact_matches(lines, search);
  if (found.empty()) found = token_search.matches(search);
  if (found.size() > 1) {
    return Feedback{name + ": its SEARCH lines occur " + std::to_string(found.size()) +
                    " times in the file. Add neighbouring lines until they occur once."};
  }
  if (found.empty()) {
    return Feedback{name +
                    ": its SEARCH lines are not in the file as they stand. The nearest real "
                    "lines are below; copy what you need from them exactly.\n\n" +
                    nearest_lines(lines, search)};
  }
  return Range{found[0].first, found[0].last, index};
}

std::variant<std::string, Feedback> apply_blocks(const std::string& source,
                                                 const std::vector<Block>& blocks) {
  const std::vector<std::string> lines = split_lines(source);
  const TokenSearch token_search(source, lines);
  std::vector<Range> ranges;
  std::string problems;
  for (size_t i = 0; i < blocks.size(); ++i) {
    const auto place = locate(lines, token_search, blocks[i], i);
    if (const auto* feedback = std::get_if<Feedback>(&place)) {
      problems += (problems.empty() ? "" : "\n\n") + feedback->text;
    } else {
      ranges.push_back(std::get<Range>(place));
    }
  }
  if (!problems.empty()) return Feedback{problems};
  std::sort(ranges.begin(), ranges.end(), [](auto& a, auto& b) { return a.first < b.first; });
  std::string result;
  size_t at = 0;
  for (size_t i = 0; i < ranges.size(); ++i) {
    if (ranges[i].first < at) {
      return Feedback{"Blocks " + std::to_string(ranges[i - 1].block + 1) + " and " +
                      std::to_string(ranges[i].block + 1) +
                      " overlap in the file. Join them into one block."};
    }
    result += join(lines, at, ranges[i].first) + blocks[ranges[i].block].replace;
    at = ranges[i].last;
  }
  return result + join(lines, at, lines.size());
}

// What no result may be, whichever way it was made.
std::optional<Feedback> refuse(const std::string& source, const std::string& result) {
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
  if (same_code(source, result)) {
    return Feedback{
        "The edit changes nothing: apart from comments and white space the code stays "
        "the same. Propose a real change."};
  }
  return std::nullopt;
}

// ------------------------------------------------------------------------------------------------
// Unified diff

// One line of an edit script: ' ' in both, '-' only before, '+' only after.
struct Step {
  char kind;
  const std::string* line;
};

// Lines as `diff` sees them: a last line without a line break differs from one that has it.
std::vector<std::string> diff_lines(const std::string& text) {
  std::vector<std::string> lines = split_lines(text);
  for (std::string& line : lines) line += '\n';
  if (!text.empty() && text.back() != '\n') lines.back() += "\\ No newline at end of file\n";
  return lines;
}

// The shortest edit script, from the table of longest common subsequences; equal ends are left out
// of the table, so it stays small for the edits that this program sees.
std::vector<Step> edit_script(const std::vector<std::string>& a,
                              const std::vector<std::string>& b) {
  size_t head = 0, tail = 0;
  while (head < a.size() && head < b.size() && a[head] == b[head]) ++head;
  while (head + tail < a.size() && head + tail < b.size() &&
         a[a.size() - 1 - tail] == b[b.size() - 1 - tail]) {
    ++tail;
  }
  const size_t n = a.size() - head - tail, m = b.size() - head - tail;
  std::vector<uint32_t> table((n + 1) * (m + 1));
  const auto common = [&](size_t i, size_t j) -> uint32_t& { return table[i * (m + 1) + j]; };
  for (size_t i = n; i-- > 0;) {
    for (size_t j = m; j-- > 0;) {
      common(i, j) = a[head + i] == b[head + j] ? common(i + 1, j + 1) + 1
                                                : std::max(common(i + 1, j), common(i, j + 1));
    }
  }
  std::vector<Step> script;
  for (size_t i = 0; i < head; ++i) script.push_back({' ', &a[i]});
  for (size_t i = 0, j = 0; i < n || j < m;) {
    if (i < n && j < m && a[head + i] == b[head + j]) {
      script.push_back({' ', &a[head + i]});
      ++i, ++j;
    } else if (i < n && (j == m || common(i + 1, j) >= common(i, j + 1))) {
      script.push_back({'-', &a[head + i++]});
    } else {
      script.push_back({'+', &b[head + j++]});
    }
  }
  for (size_t i = a.size() - tail; i < a.size(); ++i) script.push_back({' ', &a[i]});
  return script;
}

// "12,7" as a hunk header has it: an empty range names the line before it.
std::string hunk_range(size_t lines_before, size_t count) {
  const size_t start = count == 0 ? lines_before : lines_before + 1;
  return std::to_string(start) + "," + std::to_string(count);
}

}  // namespace

std::variant<Proposal, Feedback> parse_reply(const std::string& reply, bool truncated,
                                             bool allow_whole_file) {
  if (truncated) return Feedback{kCutOff};
  std::string text = reply;
  std::erase(text, '\r');
  text = without_thoughts(std::move(text));
  const std::vector<std::string> lines = split_lines(text);
  Reader reader(lines);
  reader.read();
  if (!reader.problem.empty()) return format_problem(reader.problem);
  if (reader.sections.empty() || reader.sections[0].idea.empty()) {
    return format_problem("There is no IDEA line in your reply.");
  }
  Section& first = reader.sections[0];
  Proposal proposal{first.idea, first.why, std::move(first.blocks), "", std::move(reader.next)};
  for (size_t i = 1; i < reader.sections.size(); ++i) {
    if (!reader.sections[i].idea.empty()) proposal.next.push_back(reader.sections[i].idea);
  }
  if (!proposal.blocks.empty()) return proposal;
  if (!allow_whole_file) return format_problem("There is no SEARCH/REPLACE block under your IDEA.");
  auto file = fenced_file(lines);
  if (auto* feedback = std::get_if<Feedback>(&file)) return std::move(*feedback);
  proposal.whole_file = std::move(std::get<std::string>(file));
  return proposal;
}

std::variant<std::string, Feedback> apply_proposal(const std::string& source,
                                                   const Proposal& proposal) {
  std::variant<std::string, Feedback> result = proposal.whole_file;
  if (!proposal.blocks.empty()) result = apply_blocks(source, proposal.blocks);
  if (const auto* edited = std::get_if<std::string>(&result)) {
    if (auto feedback = refuse(source, *edited)) return std::move(*feedback);
  }
  return result;
}

std::vector<std::string> code_tokens(const std::string& source) {
  std::vector<std::string> texts;
  for (Token& token : Lexer(source).run()) texts.push_back(std::move(token.text));
  return texts;
}

std::string code_fingerprint(const std::string& source) {
  std::string all;
  for (const std::string& token : code_tokens(source)) all += token + '\0';
  return sha256(all);
}

std::string unified_diff(const std::string& before, const std::string& after,
                         const std::string& name) {
  constexpr size_t kContext = 3;
  const std::vector<std::string> a = diff_lines(before), b = diff_lines(after);
  const std::vector<Step> script = edit_script(a, b);
  std::string diff;
  size_t in_a = 0, in_b = 0, done = 0;  // lines of both files before script[done]
  for (size_t i = 0; i < script.size();) {
    if (script[i].kind == ' ') {
      ++i;
      continue;
    }
    const size_t begin = std::max(done, i < kContext ? 0 : i - kContext);
    size_t end = i + 1;  // one past the last change of this hunk
    for (size_t k = end; k < script.size() && k < end + 2 * kContext + 1; ++k) {
      if (script[k].kind != ' ') end = k + 1;
    }
    end = std::min(script.size(), end + kContext);
    in_a += begin - done, in_b += begin - done;  // all lines between hunks are in both
    std::string body;
    size_t count_a = 0, count_b = 0;
    for (size_t k = begin; k < end; ++k) {
      body += script[k].kind + *script[k].line;
      count_a += script[k].kind != '+';
      count_b += script[k].kind != '-';
    }
    diff += "@@ -" + hunk_range(in_a, count_a) + " +" + hunk_range(in_b, count_b) + " @@\n" + body;
    in_a += count_a, in_b += count_b;
    done = i = end;
  }
  return diff.empty() ? "" : "--- a/" + name + "\n+++ b/" + name + "\n" + diff;
}

}  // namespace autoresearch
