#include "common/progress.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <utility>

#include "common/log.h"

namespace autoresearch {
namespace {

constexpr int kBarWidth = 24;
constexpr std::chrono::milliseconds kRedraw{100};

double share_of(double done, double total) {
  return total > 0 ? std::clamp(done / total, 0.0, 1.0) : 0;
}

// "[=====     ]", the two brackets not counted in `width`.
std::string bar_of(double share, int width) {
  const int filled = static_cast<int>(share * width);
  return "[" + std::string(filled, '=') + std::string(width - filled, ' ') + "]";
}

}  // namespace

Progress::Progress(std::string title, double total, std::string unit, double unit_size)
    : title_(std::move(title)),
      unit_(std::move(unit)),
      total_(total),
      unit_size_(unit_size),
      visible_(::isatty(STDERR_FILENO) == 1),
      start_(std::chrono::steady_clock::now()),
      last_(start_) {}

Progress::~Progress() {
  if (drawn_ && bar_on_line.exchange(false)) std::fputc('\n', stderr);
}

void Progress::update(double done, const std::string& note) {
  if (!visible_) return;
  const auto now = std::chrono::steady_clock::now();
  const bool complete = total_ > 0 && done >= total_;
  if (drawn_ && !complete && now - last_ < kRedraw) return;
  last_ = now;
  drawn_ = true;
  const double share = share_of(done, total_);
  const double seconds = std::chrono::duration<double>(now - start_).count();
  if (total_ <= 0) {
    std::fprintf(stderr, "\r%s  %s\033[K", title_.c_str(), human_seconds(seconds).c_str());
    std::fflush(stderr);
    bar_on_line = true;
    return;
  }
  const double rate = seconds > 0 ? done / unit_size_ / seconds : 0;
  std::string time = complete ? human_seconds(seconds) : "";
  // The first moments, with caches cold and threads starting, foretell nothing.
  if (!complete && share > 0 && seconds > 0.5)
    time = human_seconds(seconds / share - seconds) + " left";
  // A clock that counts seconds has a rate of one second a second, which tells nobody anything.
  const std::string speed =
      unit_ == "s" ? "" : fmt::format("  {:.{}f} {}/s", rate, rate < 10 ? 1 : 0, unit_);
  const int digits = unit_size_ == 1 ? 0 : 1;  // what is counted one by one has no fractions
  std::fputs(
      fmt::format("\r{} {} {:3.0f} %  {:.{}f}/{:.{}f} {}{}  {}{}{}\033[K", title_,
                  bar_of(share, kBarWidth), 100 * share, done / unit_size_, digits,
                  total_ / unit_size_, digits, unit_, speed, time, note.empty() ? "" : "  ", note)
          .c_str(),
      stderr);
  std::fflush(stderr);
  bar_on_line = true;
}

ProgressTable::ProgressTable(std::string unit, double unit_size)
    : unit_(std::move(unit)), unit_size_(unit_size), visible_(::isatty(STDERR_FILENO) == 1) {}

ProgressTable::~ProgressTable() {
  if (drawn_ > 0) std::fputc('\n', stderr);
}

bool ProgressTable::due() const {
  return visible_ && std::chrono::steady_clock::now() - last_ >= kRedraw;
}

void ProgressTable::draw(const std::vector<Row>& rows, const Row& sum) {
  if (!visible_) return;
  winsize size = {};
  const bool known = ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
  const std::vector<std::string> lines =
      table_lines(rows, sum, sum_note(sum), unit_, unit_size_, known ? size.ws_col : 80,
                  known ? size.ws_row : 24);
  // Up to the first line, each line anew, and away with what a longer table left below.
  std::string text = "\r";
  if (drawn_ > 1) text += fmt::format("\033[{}A", drawn_ - 1);
  for (size_t i = 0; i < lines.size(); ++i) text += (i > 0 ? "\n" : "") + lines[i] + "\033[K";
  std::fputs((text + "\033[J").c_str(), stderr);
  std::fflush(stderr);
  drawn_ = lines.size();
  last_ = std::chrono::steady_clock::now();
}

void ProgressTable::clear() {
  if (drawn_ == 0) return;
  std::fputc('\r', stderr);
  if (drawn_ > 1) std::fputs(fmt::format("\033[{}A", drawn_ - 1).c_str(), stderr);
  std::fputs("\033[J", stderr);
  std::fflush(stderr);
  drawn_ = 0;
  last_ = {};
}

std::string ProgressTable::sum_note(const Row& sum) {
  const auto now = std::chrono::steady_clock::now();
  if (done_before_ < 0) {
    done_before_ = sum.done;
    start_ = now;
  }
  const double seconds = std::chrono::duration<double>(now - start_).count();
  const double fresh = sum.done - done_before_;
  if (seconds <= 0.5 || fresh <= 0) return "";  // too early to tell
  const double rate = fresh / seconds;
  const std::string time = sum.done < sum.total
                               ? human_seconds((sum.total - sum.done) / rate) + " left"
                               : human_seconds(seconds);
  const double shown = rate / unit_size_;
  return fmt::format("{:.{}f} {}/s  {}", shown, shown < 10 ? 1 : 0, unit_, time);
}

std::vector<std::string> table_lines(std::vector<ProgressTable::Row> rows,
                                     const ProgressTable::Row& sum, const std::string& sum_note,
                                     const std::string& unit, double unit_size, size_t columns,
                                     size_t lines) {
  // A line that filled the last column, or a table as high as the terminal, could not be redrawn.
  const size_t width = std::max<size_t>(columns, 2) - 1, height = std::max<size_t>(lines, 2) - 1;
  rows.resize(std::min(rows.size(), height - 1));
  rows.push_back(sum);
  size_t title_width = 0;
  for (const auto& row : rows) title_width = std::max(title_width, row.title.size());
  title_width = std::min(title_width, std::max<size_t>(8, width / 3));
  std::vector<std::string> tails;
  size_t tail_width = 0;
  for (size_t i = 0; i < rows.size(); ++i) {
    const auto& [title, done, total] = rows[i];
    const bool is_sum = i + 1 == rows.size();
    const std::string whole = total > 0 ? fmt::format("{:.1f}", total / unit_size) : "?";
    tails.push_back(fmt::format(" {:3.0f} %  {:.1f}/{} {}{}", 100 * share_of(done, total),
                                done / unit_size, whole, unit,
                                is_sum && !sum_note.empty() ? "  " + sum_note : ""));
    tail_width = std::max(tail_width, tails.back().size());
  }
  // What is left of the width is the bar's: " [" and "]".
  const long room = static_cast<long>(width) - static_cast<long>(title_width + tail_width + 3);
  const int bar_width = static_cast<int>(std::clamp<long>(room, 0, kBarWidth));
  std::vector<std::string> result;
  for (size_t i = 0; i < rows.size(); ++i) {
    std::string line = rows[i].title.substr(0, title_width);
    line.resize(title_width, ' ');
    if (bar_width >= 4) line += " " + bar_of(share_of(rows[i].done, rows[i].total), bar_width);
    result.push_back((line + tails[i]).substr(0, width));
  }
  return result;
}

std::string human_seconds(double seconds) {
  if (!std::isfinite(seconds)) return "?";
  const long total = std::lround(std::max(0.0, seconds));
  if (total < 60) return fmt::format("{} s", total);
  if (total < 3600) return fmt::format("{} min {:02} s", total / 60, total % 60);
  return fmt::format("{} h {:02} min", total / 3600, total % 3600 / 60);
}

}  // namespace autoresearch
