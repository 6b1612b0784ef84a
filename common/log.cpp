#include "common/log.h"

#include <fcntl.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <cstdarg>
#include <cstdio>

namespace autoresearch {

namespace {

// Descriptors 0 to 2 that the caller has closed would go to the next files that are opened, and
// what is meant for a user into those. Reading and writing what O_PATH opens fails as before.
void take_standard_descriptors() {
  int fd;
  do fd = ::open("/dev/null", O_PATH);
  while (fd >= 0 && fd <= STDERR_FILENO);
  if (fd >= 0) ::close(fd);
}

}  // namespace

std::string format(const char* pattern, ...) {
  va_list arguments, again;
  va_start(arguments, pattern);
  va_copy(again, arguments);
  const int length = std::vsnprintf(nullptr, 0, pattern, arguments);
  std::string text(static_cast<size_t>(length), '\0');
  std::vsnprintf(text.data(), text.size() + 1, pattern, again);
  va_end(again);
  va_end(arguments);
  return text;
}

void set_up_log(const std::string& program) {
  take_standard_descriptors();
  auto logger = spdlog::stderr_logger_mt(program);
  logger->set_pattern("%v");
  spdlog::set_default_logger(logger);
}

std::atomic<bool> bar_on_line = false;

namespace {

void wipe_bar() {
  if (bar_on_line.exchange(false)) std::fputs("\r\033[K", stderr);
}

}  // namespace

void log_info(const std::string& line) {
  wipe_bar();
  spdlog::info("{}", line);
}

void log_warning(const std::string& line) {
  wipe_bar();
  spdlog::warn("{}: warning: {}", spdlog::default_logger()->name(), line);
}

}  // namespace autoresearch
