// Status lines for a user: spdlog behind a door without templates, because libtorch's headers
// bring a newer fmt than the system's spdlog is made for.
#pragma once

#include <atomic>
#include <string>

namespace autoresearch {

// printf into a string, only for files that include torch: its headers bring another fmt.
std::string format(const char* pattern, ...) __attribute__((format(printf, 1, 2)));

// Where status lines go: stderr, as they are, if it is open. Called once, first thing in main.
void set_up_log(const std::string& program);

// From any thread. A progress bar that stands on the line is wiped away first.
void log_info(const std::string& line);
void log_warning(const std::string& line);  // prefixed with "<program>: warning: "

// True while a bar without a line end stands on the terminal: common/progress.h sets it.
extern std::atomic<bool> bar_on_line;

}  // namespace autoresearch
