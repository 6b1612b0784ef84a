#include "agent/edit/diff.h"

#include <algorithm>
#include <cstdint>

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

ChangedLines changed_lines(const std::string& before, const std::string& after) {
  const std::vector<std::string> a = diff_lines(before), b = diff_lines(after);
  ChangedLines changed;
  size_t in_a = 0, in_b = 0;
  for (const Step& step : edit_script(a, b)) {
    if (step.kind == '-') changed.gone.push_back(in_a);
    if (step.kind == '+') changed.added.push_back(in_b);
    in_a += step.kind != '+';
    in_b += step.kind != '-';
  }
  return changed;
}

}  // namespace autoresearch
