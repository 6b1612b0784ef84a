#include "common/progress.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

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
  if (drawn_) std::fputc('\n', stderr);
}

void Progress::update(double done, const std::string& note) {
  if (!visible_) return;
  const auto now = std::chrono::steady_clock::now();
  const bool complete = done >= total_;
  if (drawn_ && !complete && now - last_ < kRedraw) return;
  last_ = now;
  drawn_ = true;
  const double share = total_ > 0 ? std::clamp(done / total_, 0.0, 1.0) : 0;
  const int filled = static_cast<int>(share * kBarWidth);
  const std::string bar = std::string(filled, '=') + std::string(kBarWidth - filled, ' ');
  const double seconds = std::chrono::duration<double>(now - start_).count();
  const double rate = seconds > 0 ? done / unit_size_ / seconds : 0;
  std::string time = complete ? human_seconds(seconds) : "";
  // The first moments, with caches cold and threads starting, foretell nothing.
  if (!complete && share > 0 && seconds > 0.5)
    time = human_seconds(seconds / share - seconds) + " left";
  // A clock that counts seconds has a rate of one second a second, which tells nobody anything.
  char speed[48] = "";
  if (unit_ != "s")
    std::snprintf(speed, sizeof speed, "  %.*f %s/s", rate < 10, rate, unit_.c_str());
  const int digits = unit_size_ == 1 ? 0 : 1;  // what is counted one by one has no fractions
  std::fprintf(stderr, "\r%s [%s] %3.0f %%  %.*f/%.*f %s%s  %s%s%s\033[K", title_.c_str(),
               bar.c_str(), 100 * share, digits, done / unit_size_, digits, total_ / unit_size_,
               unit_.c_str(), speed, time.c_str(), note.empty() ? "" : "  ", note.c_str());
  std::fflush(stderr);
}

std::string human_seconds(double seconds) {
  if (!std::isfinite(seconds)) return "?";
  const long long total = std::llround(std::max(0.0, seconds));
  char text[48];
  if (total < 60) {
    std::snprintf(text, sizeof text, "%lld s", total);
  } else if (total < 3600) {
    std::snprintf(text, sizeof text, "%lld min %02lld s", total / 60, total % 60);
  } else {
    std::snprintf(text, sizeof text, "%lld h %02lld min", total / 3600, total % 3600 / 60);
  }
  return text;
}

}  // namespace autoresearch
