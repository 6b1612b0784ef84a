#include "common/progress.h"

#include <fmt/format.h>
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
  const double seconds = std::chrono::duration<double>(now - start_).count();
  if (total_ <= 0) {
    std::fprintf(stderr, "\r%s  %s\033[K", title_.c_str(), human_seconds(seconds).c_str());
    std::fflush(stderr);
    bar_on_line = true;
    return;
  }
  const double share = std::clamp(done / total_, 0.0, 1.0);
  const std::string filled(static_cast<size_t>(share * kBarWidth), '=');
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
      fmt::format("\r{} [{:<{}}] {:3.0f} %  {:.{}f}/{:.{}f} {}{}  {}{}{}\033[K", title_, filled,
                  kBarWidth, 100 * share, done / unit_size_, digits, total_ / unit_size_, digits,
                  unit_, speed, time, note.empty() ? "" : "  ", note)
          .c_str(),
      stderr);
  std::fflush(stderr);
  bar_on_line = true;
}

std::string human_seconds(double seconds) {
  if (!std::isfinite(seconds)) return "?";
  const long total = std::lround(std::max(0.0, seconds));
  if (total < 60) return fmt::format("{} s", total);
  if (total < 3600) return fmt::format("{} min {:02} s", total / 60, total % 60);
  return fmt::format("{} h {:02} min", total / 3600, total % 3600 / 60);
}

}  // namespace autoresearch
