#include "prepare/json_line.h"

#define RAPIDJSON_SSE2  // twice as fast; all x86-64 machines have it
#include <rapidjson/error/en.h>
#include <rapidjson/reader.h>

#include <algorithm>
#include <cctype>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>
#include <vector>

#include "common/text.h"

namespace autoresearch {
namespace {

constexpr size_t kDeepest = 1000;  // the parser calls itself for each level
constexpr std::string_view kWhiteSpace = " \t\r\n\v\f";

// The code unit that "\uXXXX" at `at` stands for, if it is a surrogate, else 0.
int surrogate_at(std::string_view text, size_t at) {
  if (text.size() - at < 6 || text[at] != '\\' || text[at + 1] != 'u') return 0;
  int unit = 0;
  for (const char c : text.substr(at + 2, 4)) {
    if (!std::isxdigit(static_cast<unsigned char>(c))) return 0;
    unit = 16 * unit + (c <= '9' ? c - '0' : (c | 32) - 'a' + 10);
  }
  return unit >= 0xD800 && unit <= 0xDFFF ? unit : 0;
}

// Escaped surrogates that are no pair become "\ufffd", in place.
void replace_lone_surrogates(std::span<char> line) {
  const std::string_view text(line.data(), line.size());
  for (size_t at = text.find('\\'); at < text.size(); at = text.find('\\', at)) {
    const int unit = surrogate_at(text, at);
    if (unit == 0) {
      at += 2;
    } else if (unit < 0xDC00 && at + 6 < text.size() && surrogate_at(text, at + 6) >= 0xDC00) {
      at += 12;
    } else {
      std::memcpy(line.data() + at, "\\ufffd", 6);
      at += 6;
    }
  }
}

// What RapidJSON tells of one line, of which the strings in the wanted column count: that of the
// last of equal keys, or all of a list.
//
// A value has a place in the column's name: where what is still to be found inside it begins, or
// kNowhere. In "messages[].content", what the key "messages" holds is at "[].content", each element
// at ".content", and the string in it at the end of the name.
class ColumnHandler : public rapidjson::BaseReaderHandler<rapidjson::UTF8<>, ColumnHandler> {
 public:
  enum Found { kNothing, kNull, kText, kOther };

  ColumnHandler(std::string_view column, std::string& document)
      : column_(column), joins_(column.find("[]") != column.npos), document_(document) {}

  bool Key(const char* text, unsigned size, bool) {
    const std::string_view key(text, size), rest = rest_at(open_.back().inside);
    const bool wanted = open_.back().inside != kNowhere && rest.starts_with(key) &&
                        (rest.size() == size || rest[size] == '.' || rest[size] == '[');
    place_ = wanted ? open_.back().inside + size : kNowhere;
    return true;
  }
  bool String(const char* text, unsigned size, bool) {
    if (place() != column_.size()) return true;
    if (joins_ && found_ == kText) {
      document_.append("\n").append(text, size);
    } else {
      document_.assign(text, size);
    }
    return note(kText);
  }
  bool Null() {
    if (place() != kNowhere && (!joins_ || found_ == kNothing)) found_ = kNull;
    return true;
  }
  bool Default() { return note(kOther); }  // numbers, true and false
  bool StartObject() {
    note(kOther);
    if (open_.empty()) return enter({0, false});
    return enter({rest_at(place()).starts_with('.') ? place() + 1 : kNowhere, false});
  }
  bool StartArray() {
    note(kOther);
    const bool wanted = rest_at(place()).starts_with("[]");
    if (wanted && found_ == kNothing) found_ = kNull;  // until there is something in it
    return enter({wanted ? place() + 2 : kNowhere, true});
  }
  bool EndObject(unsigned) { return leave(); }
  bool EndArray(unsigned) { return leave(); }

  Found found() const { return found_; }

 private:
  static constexpr size_t kNowhere = SIZE_MAX;
  struct Open {
    size_t inside;  // the place of a list's elements, or where an object's keys are compared
    bool list;
  };

  std::string_view rest_at(size_t place) const {
    return place == kNowhere ? std::string_view() : column_.substr(place);
  }
  // Of the value that is told now.
  size_t place() const {
    return open_.empty() ? kNowhere : open_.back().list ? open_.back().inside : place_;
  }
  bool note(Found found) {
    if (place() == column_.size() && !(joins_ && found_ == kOther)) found_ = found;
    return true;
  }
  bool enter(Open open) {
    open_.push_back(open);
    return open_.size() <= kDeepest;
  }
  bool leave() {
    open_.pop_back();
    return true;
  }

  std::string_view column_;
  bool joins_;  // the strings of a list
  std::string& document_;
  std::vector<Open> open_;
  size_t place_ = kNowhere;
  Found found_ = kNothing;
};

// Python's json writes NaN and Infinity, which JSON does not know.
constexpr unsigned kFlags = rapidjson::kParseInsituFlag | rapidjson::kParseNanAndInfFlag;

struct Parsed {
  bool good = false, cut_off = false;  // cut_off: no more than the end is missing
  std::string reason;
};

template <typename Handler>
Parsed parse_in_place(rapidjson::Reader& parser, std::span<char> text, Handler& handler) {
  text.data()[text.size()] = '\0';
  rapidjson::InsituStringStream stream(text.data());
  const rapidjson::ParseResult result = parser.Parse<kFlags>(stream, handler);
  const bool at_end = stream.Tell() == text.size();
  if (!result.IsError() && at_end) return {true, false, ""};
  if (!result.IsError()) return {false, false, "It holds a NUL."};  // which the parser stops at
  const bool too_deep = result.Code() == rapidjson::kParseErrorTermination;
  return {false, at_end && !too_deep,
          too_deep ? "It is nested too deeply." : rapidjson::GetParseError_En(result.Code())};
}

std::string padded(std::string_view text) {
  std::string copy(text);
  replace_lone_surrogates(copy);
  copy.resize(text.size() + kJsonPadding);
  return copy;
}

Parsed reads_as_json(std::string_view text) {
  std::string copy = padded(text), ignored;
  ColumnHandler handler("", ignored);
  rapidjson::Reader parser;
  return parse_in_place(parser, {copy.data(), text.size()}, handler);
}

// Counts what may be documents: objects and strings that stand alone or in a list.
class ValueCounter : public rapidjson::BaseReaderHandler<rapidjson::UTF8<>, ValueCounter> {
 public:
  bool String(const char*, unsigned, bool) { return count(); }
  bool StartObject() { return count() && enter(); }
  bool StartArray() {
    in_list_ = in_list_ || depth_ == 0;
    return enter();
  }
  bool EndObject(unsigned) { return leave(); }
  bool EndArray(unsigned) { return leave(); }
  int values() const { return values_; }

 private:
  bool count() {
    values_ += depth_ == 0 || (depth_ == 1 && in_list_);
    return true;
  }
  bool enter() { return ++depth_ <= kDeepest; }
  bool leave() {
    in_list_ = --depth_ > 0 && in_list_;
    return true;
  }

  size_t depth_ = 0;
  bool in_list_ = false;  // the outermost value is one
  int values_ = 0;
};

// What is between two delimiters, or before the end, and takes it off `text`.
std::string_view take_line(std::string_view& text) {
  const std::string_view line = text.substr(0, text.find('\n'));
  text.remove_prefix(std::min(text.size(), line.size() + 1));
  return line;
}

bool begins_as_object(std::string_view line) {
  line.remove_prefix(std::min(line.size(), line.find_first_not_of(kWhiteSpace)));
  if (!line.starts_with('{')) return false;
  line.remove_prefix(1);
  line.remove_prefix(std::min(line.size(), line.find_first_not_of(kWhiteSpace)));
  return line.starts_with('"') || line.starts_with('}');
}

void add_text_columns(const nlohmann::json& value, const std::string& name, int depth,
                      std::set<std::string>& names) {
  constexpr int kDeepestName = 6;
  if (value.is_string()) names.insert(name);
  if (depth == kDeepestName) return;
  if (value.is_array() && !value.empty()) {
    add_text_columns(value.front(), name + "[]", depth + 1, names);
  }
  if (!value.is_object()) return;
  for (const auto& [key, inner] : value.items()) {
    add_text_columns(inner, name.empty() ? key : name + "." + key, depth + 1, names);
  }
}

}  // namespace

struct JsonLineParser::Impl {
  std::string column;
  rapidjson::Reader parser;
};

JsonLineParser::JsonLineParser(std::string column) : impl_(new Impl{std::move(column), {}}) {}
JsonLineParser::~JsonLineParser() = default;

JsonLineParser::Outcome JsonLineParser::parse(std::span<char> line, std::string& document,
                                              std::string& reason) {
  replace_lone_surrogates(line);
  ColumnHandler handler(impl_->column, document);
  const Parsed parsed = parse_in_place(impl_->parser, line, handler);
  if (!parsed.good) {
    reason = "is no JSON (" + parsed.reason + ")";
    return parsed.cut_off ? kCutOff : kBad;
  }
  if (handler.found() == ColumnHandler::kText) return kDocument;
  if (handler.found() == ColumnHandler::kNull) return kNothing;
  reason = "is no object with a \"" + impl_->column + "\" of type string";
  return kBad;
}

std::string text_columns_of(std::string_view line) {
  constexpr size_t kMostBytes = 1 << 20, kShown = 10;
  if (line.size() > kMostBytes) return "";
  const nlohmann::json json = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
  std::set<std::string> names;
  if (json.is_object()) add_text_columns(json, "", 0, names);
  std::string text;
  for (const std::string& name : names) {
    if (names.size() > kShown && text.size() > kShown * kShown) return text + ", ...";
    text += (text.empty() ? "" : ", ") + name;
  }
  return text;
}

bool begins_as_json_lines(std::string_view start, int least) {
  int lines = 0, bad = 0;
  while (!start.empty()) {
    const std::string_view line = take_line(start);
    if (is_blank(line)) continue;
    const Parsed parsed = begins_as_object(line) ? reads_as_json(line) : Parsed();
    const bool last = start.empty();  // which may be cut off
    const bool good = parsed.good || (last && parsed.cut_off);
    ++lines;
    bad += !good;
  }
  return lines >= least && 10 * bad <= lines;
}

bool begins_as_json(std::string_view start, int least) {
  const size_t first = start.find_first_not_of(kWhiteSpace);
  if (first == start.npos || (start[first] != '[' && start[first] != '{')) return false;
  std::string_view rest = start.substr(first);
  if (rest[0] == '{' && reads_as_json(take_line(rest)).good) return false;  // a line of JSON
  std::string copy = padded(start);
  rapidjson::InsituStringStream stream(copy.data());
  rapidjson::Reader parser;
  ValueCounter counter;
  for (;;) {
    const auto result = parser.Parse<kFlags | rapidjson::kParseStopWhenDoneFlag>(stream, counter);
    rapidjson::SkipWhitespace(stream);
    const bool at_end = stream.Tell() >= start.size();
    if (result.Code() == rapidjson::kParseErrorTermination || (result.IsError() && !at_end)) {
      return false;
    }
    if (at_end) return counter.values() >= least;
  }
}

}  // namespace autoresearch
