#include "agent/edit/edit_summary.h"

#include <algorithm>
#include <map>

#include "agent/edit/constants.h"
#include "agent/edit/cpp_tokens.h"
#include "agent/edit/diff.h"
#include "common/text.h"

namespace autoresearch {
namespace {

bool is_rule(const std::string& line) { return line.starts_with("// -----"); }

// The text of a line that holds a comment and nothing else; empty for any other line.
std::string comment_of(const std::string& line) {
  const std::string text = trim(line);
  return text.starts_with("//") && !is_rule(text) ? trim(text.substr(2)) : "";
}

std::string up_to(const std::string& text, const char* ends) {
  return one_line(text.substr(0, text.find_first_of(ends)), 60);
}

using ByName = std::map<std::string, Constant>;

ByName constants_by_name(const std::string& source) {
  ByName constants;
  for (const Constant& constant : find_constants(source)) constants[constant.name] = constant;
  return constants;
}

bool same_value(const Constant& a, const Constant& b) {
  return a.value && b.value ? *a.value == *b.value : a.written == b.written;
}

std::vector<std::string> changed_constants(const std::string& before, const std::string& after) {
  const ByName old = constants_by_name(before), now = constants_by_name(after);
  std::vector<std::string> words;
  for (const auto& [name, constant] : now) {
    const auto was = old.find(name);
    if (was == old.end()) {
      words.push_back(name + " = " + constant.written);
    } else if (!same_value(was->second, constant)) {
      words.push_back(name + " " + constant.written + " (was " + was->second.written + ")");
    }
  }
  for (const auto& [name, constant] : old) {
    if (!now.contains(name)) words.push_back(name + " removed");
  }
  return words;
}

// Counts the changed lines that hold code, by their areas; `change` tells a hunk's first one and
// how many there are.
template <typename OfHunk>
void count_areas(const std::string& source, const std::vector<Hunk>& hunks, OfHunk change,
                 std::map<std::string, size_t>& counts) {
  const std::vector<std::string> area = areas_of_lines(source);
  std::vector<bool> has_code(area.size());
  for (const Token& token : lex(source)) {
    for (size_t i = token.first_line; i <= token.last_line; ++i) has_code[i] = true;
  }
  for (const Hunk& hunk : hunks) {
    const auto [first, count] = change(hunk);
    for (size_t i = first; i < first + count; ++i)
      if (has_code[i] && !area[i].empty()) ++counts[area[i]];
  }
}

}  // namespace

std::vector<std::string> areas_of_lines(const std::string& source) {
  const std::vector<std::string> lines = split_lines(source);
  std::vector<bool> defines(lines.size());
  for (const Constant& constant : find_constants(source)) defines[constant.line] = true;
  std::vector<std::string> areas(lines.size());
  std::string section, paragraph;
  for (size_t i = 0; i < lines.size(); ++i) {
    const std::string comment = comment_of(lines[i]);
    const bool after_rule = i > 0 && is_rule(lines[i - 1]);
    const bool after_blank = i > 0 && trim(lines[i - 1]).empty();
    if (after_rule) section = up_to(comment, ":");
    if (after_rule || after_blank) paragraph = after_rule ? "" : up_to(comment, ",.:");
    areas[i] = defines[i] && !paragraph.empty() ? paragraph : section;
  }
  return areas;
}

Change describe_change(const std::string& before, const std::string& after) {
  const std::vector<Hunk> all = hunks(before, after);
  std::map<std::string, size_t> changed;  // lines of code by area
  count_areas(
      before, all, [](const Hunk& h) { return std::pair(h.before, h.gone.size()); }, changed);
  count_areas(
      after, all, [](const Hunk& h) { return std::pair(h.after, h.added.size()); }, changed);
  Change change{changed_constants(before, after), {}};
  for (const auto& [area, count] : changed) change.areas.push_back(area);
  std::stable_sort(change.areas.begin(), change.areas.end(),
                   [&](const auto& a, const auto& b) { return changed[a] > changed[b]; });
  return change;
}

}  // namespace autoresearch
