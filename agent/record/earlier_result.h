// No device time for nothing: code that was measured already is refused before it is built.
#pragma once

#include <optional>
#include <string>

#include "agent/record/run_state.h"

namespace autoresearch {

// What came of this code before, in words for the model; nothing where it was never measured. Code
// is the same whatever its comments, white space, order of constants and ways to write a number
// (code_fingerprint). An edit without effect is the champion's code, which was measured too.
std::optional<std::string> known_result(const RunState& state, const std::string& source);

}  // namespace autoresearch
