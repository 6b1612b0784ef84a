// How far a training may overrun its budget. One rule for who trains and who judges.
#pragma once

#include <algorithm>

namespace autoresearch {

// Seconds that training on a budget of so many may last: 1 % more, and on a short budget half a
// second more, since the last step ends after the budget does.
inline double longest_training(double budget) { return budget + std::max(0.01 * budget, 0.5); }

// Names the descriptor to which the harness tells when training begins (kBegins) and ends (kEnds).
constexpr const char* kClockVariable = "AUTORESEARCH_CLOCK_FD";
constexpr char kBegins = 'b', kEnds = 'e';

}  // namespace autoresearch
