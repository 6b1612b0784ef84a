// How all four programs fail. A mistake that a user can make is an Error: one line that says
// what was wrong and what to type next. `main` is the only place that catches; it prints
// "<program>: error: <what>" on stderr and returns `code`.
#pragma once

#include <stdexcept>
#include <string>

namespace autoresearch {

// Exit codes of every program, as docs/night.md lists them.
enum ExitCode : int {
  kDone = 0,
  kError = 1,
  kUsage = 2,
  kDiverged = 3,     // train: the loss is NaN or above 100
  kOutOfMemory = 4,  // train: not even one row fits
  kCannotSeal = 5,   // train: the model can't be traced, or the scorer would refuse it
  kInterrupted = 130,
};

struct Error : std::runtime_error {
  explicit Error(const std::string& what, int code = kError)
      : std::runtime_error(what), code(code) {}
  int code;
};

// Throws Error(message) unless `condition` holds.
inline void check(bool condition, const std::string& message) {
  if (!condition) throw Error(message);
}

}  // namespace autoresearch
