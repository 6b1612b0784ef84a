// What other programs printed, made fit for a prompt: short, plain, and only what is of use.
#pragma once

#include <string>

namespace autoresearch {

constexpr size_t kMaxProblem = 8000;  // bytes of a log that a model is shown

// Terminal escapes and control characters removed, the middle cut to `limit` bytes.
std::string clean_log(const std::string& log, size_t limit);

// A compiler's output for the model: the first five errors, paths shortened, template noise
// removed.
std::string clean_compiler_output(const std::string& log);

}  // namespace autoresearch
