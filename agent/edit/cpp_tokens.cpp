#include "agent/edit/cpp_tokens.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <initializer_list>
#include <string_view>

namespace autoresearch {
namespace {

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
    chars_.reserve(source.size());
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

  std::string text_since(size_t begin) const {
    std::string text(pos_ - begin, '\0');
    for (size_t i = begin; i < pos_; ++i) text[i - begin] = chars_[i].c;
    return text;
  }

  void emit(size_t begin) {
    tokens_.push_back({text_since(begin), chars_[begin].line, chars_[pos_ - 1].line});
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
    if (at() == '"' || at() == '\'') {
      const std::string prefix = text_since(begin);
      const auto among = [&](std::initializer_list<const char*> set) {
        return std::find(set.begin(), set.end(), prefix) != set.end();
      };
      if (at() == '"' && among({"R", "u8R", "uR", "UR", "LR"})) return raw_string(begin);
      if (among({"u8", "u", "U", "L"})) return quoted(begin);
    }
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
    // A delimiter has at most 16 characters; to look further would be quadratic in a hostile text.
    const size_t length = std::string_view(source_).substr(quote, 18).find('(');
    if (length == std::string_view::npos) return quoted(begin);
    const size_t open = quote + length;
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
    const bool alone = is_word(at(1)) || std::isspace(static_cast<unsigned char>(at(1)));
    for (const std::string_view op : kLong) {
      if (alone || op[0] != at()) continue;
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

}  // namespace

std::vector<Token> lex(const std::string& source) { return Lexer(source).run(); }

std::vector<std::string> code_tokens(const std::string& source) {
  std::vector<std::string> texts;
  for (Token& token : lex(source)) texts.push_back(std::move(token.text));
  return texts;
}

}  // namespace autoresearch
