#include "agent/lab/compiler_log.h"

#include <algorithm>
#include <cstdint>
#include <set>
#include <string_view>

#include "common/text.h"

namespace autoresearch {
namespace {

// ------------------------------------------------------------------------------------------------
// Logs

// Text as a terminal would have left it standing: of a line that a progress bar drew over and over
// only the last state.
std::string last_state(const std::string& log) {
  const std::string text = plain_text(log);
  std::string out;
  size_t line = 0;  // where the current line begins in `out`
  for (size_t i = 0; i < text.size(); ++i) {
    const bool overdrawn =
        text[i] == '\r' && i + 1 < text.size() && text[i + 1] != '\n' && text[i + 1] != '\r';
    if (overdrawn) out.resize(line);
    if (text[i] != '\r') out += text[i];
    if (text[i] == '\n') line = out.size();
  }
  return out;
}

bool continues_character(char c) { return (static_cast<uint8_t>(c) & 0xC0) == 0x80; }

// ------------------------------------------------------------------------------------------------
// Compilers and linkers

constexpr size_t kMaxErrors = 5, kMaxDiagnosticLine = 300, kLinesPerError = 9;
constexpr size_t kMaxRawLine = 4000;  // bytes of a line that are looked at

std::string replace_all(std::string text, std::string_view from, std::string_view to) {
  for (size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size()) {
    text.replace(at, from.size(), to);
  }
  return text;
}

// "/long/way/to/kit/train.cpp:12:3: error: ..." -> "train.cpp:12:3: error: ..."
std::string shorten_paths(const std::string& line) {
  constexpr std::string_view kBefore = " '\"(:`", kAfter = " :'\"),`";
  std::string out;
  for (size_t i = 0; i < line.size();) {
    const bool begins = i == 0 || kBefore.find(line[i - 1]) != std::string_view::npos;
    if (!begins || line[i] != '/' || line[i + 1] == '/') {
      out += line[i++];
      continue;
    }
    const size_t end = std::min(line.find_first_of(kAfter, i + 1), line.size());
    const size_t last_slash = line.rfind('/', end - 1);
    const size_t from = last_slash > i ? last_slash + 1 : i;
    out += line.substr(from, end - from);
    i = end;
  }
  return out;
}

// The names that a user would have written.
std::string plain_types(std::string line) {
  line = replace_all(std::move(line), "std::__cxx11::", "std::");
  line = replace_all(std::move(line), "std::basic_string<char>", "std::string");
  line = replace_all(std::move(line), "std::basic_string_view<char>", "std::string_view");
  line = replace_all(std::move(line), "\xe2\x80\x98", "'");  // typographic quotes
  return replace_all(std::move(line), "\xe2\x80\x99", "'");
}

// "... [with T = std::vector<...>; U = ...]" says nothing that a repair needs.
std::string without_with(const std::string& line) {
  const size_t begin = line.find(" [with ");
  return begin == std::string::npos ? line
                                    : line.substr(0, begin) + (line.ends_with("'") ? "'" : "");
}

bool is_error(const std::string& line) {
  return has_any(
      line, {": error: ", ": fatal error: ", "undefined reference to", "multiple definition of",
             "undefined symbol", "duplicate symbol", "internal compiler error"});
}

// Lines between an error and the next one that explain how the compiler came there.
bool is_noise(const std::string& line) {
  return has_any(line,
                 {"In file included from", "                 from ", ": In instantiation of",
                  ": In substitution of", "In function", "In member function", "collect2: error",
                  ": note:   template argument deduction", "[ skipping", "required from "});
}

}  // namespace

std::string clean_log(const std::string& log, size_t limit) {
  const std::string text = last_state(log);
  if (text.size() <= limit) return text;
  // Room for the sentence in the middle; where there is none, the end says most.
  constexpr size_t kSentence = 48;
  const size_t room = limit > kSentence ? limit - kSentence : 0;
  size_t head = room / 2, tail = text.size() - (room > 0 ? room - head : limit);
  while (head > 0 && continues_character(text[head])) --head;
  while (tail < text.size() && continues_character(text[tail])) ++tail;
  if (room == 0) return text.substr(tail);
  return text.substr(0, head) + "\n[... " + std::to_string(tail - head) + " bytes left out ...]\n" +
         text.substr(tail);
}

std::string clean_compiler_output(const std::string& log) {
  std::string out, origin;  // origin: the edited line whose templates led to the next error
  std::set<std::string> origins;
  size_t errors = 0, shown = kLinesPerError;
  for (const std::string& whole : split_lines(last_state(log))) {
    const std::string raw = whole.substr(0, kMaxRawLine);
    const bool error = is_error(raw), warning = !error && has_any(raw, {": warning: "});
    if (warning) shown = kLinesPerError;  // its source lines are of no use either
    if (has_any(raw, {"required from here"})) origin = raw;
    if (warning || is_noise(raw)) continue;
    if (!error && shown == kLinesPerError) continue;
    std::string line = plain_types(shorten_paths(without_with(raw)));
    if (line.size() > kMaxDiagnosticLine) line = first_chars(line, kMaxDiagnosticLine) + " ...";
    if (error) {
      // One wrong call fails in many templates; the first of them says it all.
      const bool repeated = !origin.empty() && !origins.insert(origin).second;
      shown = repeated || ++errors > kMaxErrors ? kLinesPerError : 0;
      if (shown == 0 && !origin.empty()) out += shorten_paths(origin) + "\n";
      origin.clear();
    }
    if (shown < kLinesPerError) out += line + "\n";
    shown = std::min(shown + 1, kLinesPerError);
  }
  if (errors == 0) return clean_log(log, kMaxProblem);
  if (errors > kMaxErrors) out += "(" + std::to_string(errors - kMaxErrors) + " more errors)\n";
  return out;
}

}  // namespace autoresearch
