// C++ as a sequence of tokens: what code is once white space and comments are gone. No parser, only
// as much of a lexer as equality of code needs. Any bytes are taken, in linear time.
#pragma once

#include <string>
#include <vector>

namespace autoresearch {

struct Token {
  std::string text;
  size_t first_line, last_line;  // 0-based lines of the source
};

// The tokens of a source. Continued lines are joined, digit separators dropped (1'000 equals 1000),
// and the end of a preprocessor line is a token of its own, "\n", because it means something.
std::vector<Token> lex(const std::string& source);

// Their texts alone.
std::vector<std::string> code_tokens(const std::string& source);

}  // namespace autoresearch
