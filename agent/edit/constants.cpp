#include "agent/edit/constants.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
#include <string_view>

#include "agent/edit/cpp_tokens.h"
#include "common/files.h"

namespace autoresearch {
namespace {

// ------------------------------------------------------------------------------------------------
// Values

// The order is that of C++'s usual arithmetic conversions.
enum class Kind { kInt, kLong, kFloat, kDouble };

static_assert(std::numeric_limits<long double>::digits >= 64, "it holds every int64_t");

struct Value {
  Kind kind;
  long double number;
  bool integer() const { return kind <= Kind::kLong; }
};

// A number as a variable of this kind has it; nothing if it has no place there.
std::optional<Value> value_of(Kind kind, long double number) {
  using Int = std::numeric_limits<int32_t>;
  using Long = std::numeric_limits<int64_t>;
  if (kind == Kind::kFloat) number = static_cast<float>(number);
  if (kind == Kind::kDouble) number = static_cast<double>(number);
  const bool fits = kind == Kind::kInt    ? number >= Int::min() && number <= Int::max()
                    : kind == Kind::kLong ? number >= Long::min() && number <= Long::max()
                                          : std::isfinite(number);
  return fits ? std::optional(Value{kind, number}) : std::nullopt;
}

std::string written(const Value& value) {
  if (value.integer()) return std::to_string(static_cast<int64_t>(value.number));
  std::array<char, 32> text;
  const auto number = static_cast<double>(value.number);
  return {text.data(), std::to_chars(text.data(), text.data() + text.size(), number).ptr};
}

// A literal without its suffix, as a T.
template <typename T, typename... Base>
std::optional<long double> parsed(std::string_view digits, Base... base) {
  T number = 0;
  const char* end = digits.data() + digits.size();
  const auto [rest, problem] = std::from_chars(digits.data(), end, number, base...);
  return problem == std::errc() && rest == end ? std::optional<long double>(number) : std::nullopt;
}

std::optional<Value> whole_literal(std::string_view digits, bool is_long) {
  const bool hex = digits.starts_with("0x") || digits.starts_with("0X");
  const bool binary = digits.starts_with("0b") || digits.starts_with("0B");
  const bool octal = !hex && !binary && digits.size() > 1 && digits[0] == '0';
  if (hex || binary) digits.remove_prefix(2);
  const int base = hex ? 16 : binary ? 2 : octal ? 8 : 10;
  const auto whole = parsed<int64_t>(digits, base);
  if (!whole) return std::nullopt;
  if (auto value = value_of(is_long ? Kind::kLong : Kind::kInt, *whole)) return value;
  // Too large for int: long in decimal, perhaps unsigned in another base.
  return base == 10 ? value_of(Kind::kLong, *whole) : std::nullopt;
}

std::optional<Value> literal(std::string_view token) {
  const bool plain = !token.empty() && token.find_first_of("xXbB") == std::string_view::npos;
  if (plain && token.find_first_of(".eE") != std::string_view::npos) {
    const bool is_float = token.back() == 'f' || token.back() == 'F';
    if (is_float) token.remove_suffix(1);
    // A float from the digits themselves: rounding twice could differ.
    const auto number = is_float ? parsed<float>(token) : parsed<double>(token);
    return number ? value_of(is_float ? Kind::kFloat : Kind::kDouble, *number) : std::nullopt;
  }
  bool is_long = false;
  for (int i = 0; i < 2 && !token.empty() && (token.back() == 'l' || token.back() == 'L'); ++i) {
    token.remove_suffix(1);
    is_long = true;
  }
  return whole_literal(token, is_long);
}

using Tokens = std::vector<std::string>;

// `4`, `-4` or `1 << 19`; nothing for what takes a compiler.
std::optional<Value> value_of(const Tokens& tokens) {
  if (tokens.size() == 1) return literal(tokens[0]);
  const bool negative = tokens.size() == 2 && tokens[0] == "-";
  const bool shift = tokens.size() == 3 && tokens[1] == "<<";
  const auto first = negative ? literal(tokens[1]) : shift ? literal(tokens[0]) : std::nullopt;
  if (!first || negative) return first ? value_of(first->kind, -first->number) : std::nullopt;
  const auto by = literal(tokens[2]);
  if (!by || !first->integer() || !by->integer() || by->number > 62) return std::nullopt;
  return value_of(first->kind, std::ldexp(first->number, static_cast<int>(by->number)));
}

// What a variable of `type` holds that is initialized with `value`.
std::optional<Value> converted(const Value& value, const std::string& type) {
  static const std::map<std::string, Kind> kKinds = {
      {"int", Kind::kInt},        {"int32_t", Kind::kInt}, {"long", Kind::kLong},
      {"int64_t", Kind::kLong},   {"size_t", Kind::kLong}, {"ptrdiff_t", Kind::kLong},
      {"long long", Kind::kLong}, {"float", Kind::kFloat}, {"double", Kind::kDouble}};
  const auto kind = kKinds.find(type.starts_with("std::") ? type.substr(5) : type);
  if (kind == kKinds.end()) return std::nullopt;
  const bool cut = kind->second <= Kind::kLong && !value.integer();
  if (cut && std::fabs(value.number) > 1e15L) return std::nullopt;
  return value_of(kind->second, cut ? std::trunc(value.number) : value.number);
}

// ------------------------------------------------------------------------------------------------
// Definitions

struct Definition {
  size_t first, last;  // tokens [first, last) of the source, the semicolon included
  std::string name, type;
  Tokens value;
  size_t line;
};

bool is_name(const std::string& token) {
  return std::isalpha(static_cast<unsigned char>(token[0])) || token[0] == '_';
}

// `double`, `std::string_view`, `long long`
std::string joined_type(const std::vector<Token>& tokens, size_t first, size_t last) {
  std::string type;
  for (size_t i = first; i < last; ++i) {
    const bool apart = !type.empty() && type.back() != ':' && is_name(tokens[i].text);
    type += (apart ? " " : "") + tokens[i].text;
  }
  return type;
}

// The definition whose first token is `first`, if there is one.
std::optional<Definition> definition_at(const std::vector<Token>& tokens, size_t first) {
  size_t at = first;
  while (at < tokens.size() && (tokens[at].text == "static" || tokens[at].text == "inline")) ++at;
  if (at == tokens.size() || tokens[at].text != "constexpr") return std::nullopt;
  const size_t type = ++at;
  while (at < tokens.size() && (is_name(tokens[at].text) || tokens[at].text == "::")) ++at;
  if (at == tokens.size() || tokens[at].text != "=" || at < type + 2) return std::nullopt;
  Definition definition{
      first, 0, tokens[at - 1].text, joined_type(tokens, type, at - 1), {}, tokens[at].first_line};
  for (++at; at < tokens.size() && tokens[at].text != ";"; ++at) {
    if (tokens[at].text == "{" || tokens[at].text == "\n") return std::nullopt;
    definition.value.push_back(tokens[at].text);
  }
  definition.last = at + 1;
  return at < tokens.size() ? std::optional(std::move(definition)) : std::nullopt;
}

// All of them, by walking over the source with an eye on brackets and preprocessor lines.
std::vector<Definition> definitions_of(const std::vector<Token>& tokens) {
  std::vector<Definition> found;
  size_t inside = 0;        // brackets that are open and no namespace's
  size_t conditionals = 0;  // #if without #endif
  size_t namespaces = 0;
  bool opens_namespace = false, begins = true;  // begins: a statement can begin here
  for (size_t i = 0; i < tokens.size(); ++i) {
    const std::string& token = tokens[i].text;
    if (begins && inside == 0 && conditionals == 0) {
      if (auto definition = definition_at(tokens, i)) {
        i = definition->last - 1;
        found.push_back(std::move(*definition));
        continue;
      }
    }
    begins = token == ";" || token == "}" || token == "\n";
    if (token == "#" && i + 1 < tokens.size()) {
      const std::string& directive = tokens[i + 1].text;
      if (directive.starts_with("if")) ++conditionals;
      if (directive == "endif" && conditionals > 0) --conditionals;
    }
    if (token == "namespace") opens_namespace = true;
    if (token == "{") {
      begins = opens_namespace;
      ++(opens_namespace && inside == 0 ? namespaces : inside);
    }
    if (token == "}" && inside + namespaces > 0) --(inside > 0 ? inside : namespaces);
    if (token == "{" || token == ";" || token == "=") opens_namespace = false;
  }
  std::map<std::string, int> times;
  for (const Definition& definition : found) ++times[definition.name];
  std::erase_if(found, [&](const Definition& d) { return times[d.name] > 1; });
  return found;
}

std::optional<Value> value_of(const Definition& definition) {
  auto value = value_of(definition.value);
  if (value) value = converted(*value, definition.type);
  const bool is_unsigned = definition.type.ends_with("size_t");
  return value && is_unsigned && value->number < 0 ? std::nullopt : value;
}

std::string join(const Tokens& tokens, const char* between) {
  std::string text;
  for (const std::string& token : tokens) text += (text.empty() ? "" : between) + token;
  return text;
}

// A number as it counts, whichever way it is written; marked by its type, since 4 and 4.0 differ.
std::string canonical(const std::string& token) {
  if (!std::isdigit(static_cast<unsigned char>(token[0])) && token[0] != '.') return token;
  const auto value = literal(token);
  return value ? "#" + std::to_string(static_cast<int>(value->kind)) + written(*value) : token;
}

}  // namespace

std::vector<Constant> find_constants(const std::string& source) {
  std::vector<Constant> constants;
  for (const Definition& d : definitions_of(lex(source))) {
    constants.push_back({d.name, d.type, join(d.value, " "), std::nullopt, d.line});
    if (const auto value = value_of(d)) constants.back().value = written(*value);
  }
  return constants;
}

std::optional<double> evaluate(const std::string& expression) {
  const auto value = value_of(code_tokens(expression));
  return value ? std::optional(static_cast<double>(value->number)) : std::nullopt;
}

std::string code_fingerprint(const std::string& source) {
  const std::vector<Token> tokens = lex(source);
  std::map<std::string, int> uses;
  for (const Token& token : tokens) ++uses[token.text];
  std::vector<std::string> constants, code;
  size_t at = 0;
  for (const Definition& d : definitions_of(tokens)) {
    const auto number = value_of(d);
    const bool is_text = d.value.size() == 1 && d.value[0][0] == '"';
    if (!number && !is_text) continue;
    for (; at < d.first; ++at) code.push_back(canonical(tokens[at].text));
    at = d.last;
    const std::string value = number ? written(*number) : d.value[0];
    if (uses[d.name] > 1) constants.push_back(d.name + " " + d.type + " " + value);
  }
  for (; at < tokens.size(); ++at) code.push_back(canonical(tokens[at].text));
  std::sort(constants.begin(), constants.end());
  std::string all;
  for (const auto* list : {&constants, &code})
    for (const std::string& text : *list) all += text + '\0';
  return sha256(all);
}

}  // namespace autoresearch
