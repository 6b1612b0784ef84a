#include "agent/edit/diff.h"

#include <algorithm>
#include <cstdint>
#include <utility>

#include "common/text.h"

namespace autoresearch {
namespace {

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

std::vector<Hunk> hunks(const std::string& before, const std::string& after) {
  const std::vector<std::string> a = diff_lines(before), b = diff_lines(after);
  std::vector<Hunk> all;
  size_t in_a = 0, in_b = 0;
  bool open = false;
  for (const Step& step : edit_script(a, b)) {
    const bool changes = step.kind != ' ';
    if (changes && !open) all.push_back({{}, {}, in_a, in_b});
    open = changes;
    if (changes)
      (step.kind == '-' ? all.back().gone : all.back().added)
          .push_back(step.line->substr(0, step.line->find('\n')));
    in_a += step.kind != '+';
    in_b += step.kind != '-';
  }
  return all;
}

std::string unified_diff(const std::string& before, const std::string& after,
                         const std::string& name) {
  constexpr size_t kContext = 3;
  const std::vector<std::string> a = diff_lines(before), b = diff_lines(after);
  const std::vector<Hunk> all = hunks(before, after);
  std::string diff, body;
  const auto add = [&](char sign, const std::vector<std::string>& lines, size_t first,
                       size_t last) {
    for (; first < last; ++first) body += sign + lines[first];
  };
  for (size_t i = 0; i < all.size();) {
    const size_t context = std::min(all[i].before, kContext);
    const size_t first_a = all[i].before - context, first_b = all[i].after - context;
    size_t in_a = first_a, in_b = first_b;
    for (bool near = true; near; near = i < all.size() && all[i].before <= in_a + 2 * kContext) {
      const Hunk& hunk = all[i++];
      add(' ', a, in_a, hunk.before);
      in_a = hunk.before + hunk.gone.size();
      in_b = hunk.after + hunk.added.size();
      add('-', a, hunk.before, in_a);
      add('+', b, hunk.after, in_b);
    }
    const size_t behind = std::min(a.size() - in_a, kContext);
    add(' ', a, in_a, in_a + behind);
    diff += "@@ -" + hunk_range(first_a, in_a + behind - first_a) + " +" +
            hunk_range(first_b, in_b + behind - first_b) + " @@\n" + std::exchange(body, "");
  }
  return diff.empty() ? "" : "--- a/" + name + "\n+++ b/" + name + "\n" + diff;
}

}  // namespace autoresearch
