#include "common/clock.h"

#include <algorithm>
#include <chrono>
#include <ctime>

namespace autoresearch {

double wall_clock() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration<double>(now).count();
}

double boot_seconds() {
  timespec time{};
  clock_gettime(CLOCK_BOOTTIME, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

std::function<double()> steady_wall_clock(double not_before) {
  const double offset = std::max(wall_clock(), not_before) - boot_seconds();
  return [offset] { return boot_seconds() + offset; };
}

std::string clock_time(double seconds_from_now) {
  const std::time_t when = std::time(nullptr) + static_cast<std::time_t>(seconds_from_now);
  char text[16];
  std::strftime(text, sizeof text, "%H:%M", std::localtime(&when));
  return text;
}

}  // namespace autoresearch
