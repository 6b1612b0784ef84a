// Status lines for a user: spdlog behind a door without templates, because libtorch's headers
// bring a newer fmt than the system's spdlog is made for.
#pragma once

#include <string>

namespace autoresearch {

// printf into a string. (std::format does not exist before GCC 13.)
std::string format(const char* pattern, ...) __attribute__((format(printf, 1, 2)));

// Where status lines go: stderr, as they are, if it is open. Called once, first thing in main.
void set_up_log(const std::string& program);

void log_info(const std::string& line);
void log_warning(const std::string& line);  // prefixed with "<program>: warning: "

}  // namespace autoresearch
