#include "prepare/findings.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "common/text.h"

namespace autoresearch {
namespace {

constexpr size_t kPlaces = 3;  // that are named
constexpr size_t kKinds = 8;   // of files left out, that are named

std::string joined(const std::set<std::string>& places, int64_t count) {
  std::string text;
  for (const std::string& place : places) {
    text += (text.empty() ? "" : ", ") + one_line(place, place.size());
  }
  return static_cast<size_t>(count) > places.size() ? text + ", ..." : text;
}

}  // namespace

bool too_many_bad_lines(int64_t bad, int64_t lines) { return bad > lines / 1000; }

void Findings::add(Kind& kind, const std::string& place) {
  ++kind.count;
  kind.places.insert(place);
  if (kind.places.size() > kPlaces) kind.places.erase(std::prev(kind.places.end()));
}

void Findings::note(const std::string& kind, const std::string& place) {
  const std::lock_guard lock(mutex_);
  add(notes_[kind], place);
}

void Findings::leave_out(const std::string& kind) {
  const std::lock_guard lock(mutex_);
  ++left_out_[kind];
}

void Findings::count_lines(int64_t lines) {
  const std::lock_guard lock(mutex_);
  lines_ += lines;
}

void Findings::bad_line(const std::string& place, const std::string& reason) {
  const std::lock_guard lock(mutex_);
  add(bad_, place + " " + reason);
}

void Findings::check_lines() const {
  if (too_many_bad_lines(bad_.count, lines_)) throw bad_lines(bad_.count, lines_);
}

Error Findings::bad_lines(int64_t bad, int64_t lines) const {
  const std::lock_guard lock(mutex_);
  return Error(
      fmt::format("{}; {} of {} lines can't be used, and one in a thousand may be bad: mend "
                  "or remove them, or give --column",
                  *bad_.places.begin(), bad, lines));
}

std::string Findings::report() const {
  std::string text = left_out("  left out of folders: ", "\n");
  const std::lock_guard lock(mutex_);
  for (const auto& [kind, found] : notes_)
    text += fmt::format("  {}: {} ({})\n", kind, found.count, joined(found.places, found.count));
  if (bad_.count > 0)
    text += fmt::format("  lines skipped: {} of {} ({})\n", bad_.count, lines_,
                        joined(bad_.places, bad_.count));
  return text;
}

std::string Findings::left_out(const std::string& before, const std::string& behind) const {
  const std::lock_guard lock(mutex_);
  std::vector<std::pair<int64_t, std::string>> kinds;  // the most frequent first
  for (const auto& [kind, count] : left_out_) kinds.emplace_back(-count, kind);
  std::sort(kinds.begin(), kinds.end());
  std::string text;
  for (size_t i = 0; i < std::min(kinds.size(), kKinds); ++i) {
    text += fmt::format("{}{} {}", i == 0 ? before : ", ", -kinds[i].first, kinds[i].second);
  }
  if (kinds.size() > kKinds) text += ", and other kinds";
  return kinds.empty() ? text : text + behind;
}

}  // namespace autoresearch
