// The builtin proposer: no model, no network. It changes one or two hyperparameters at the top of
// train.cpp and never proposes a point that was measured.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "agent/propose/prompt.h"

namespace autoresearch {

// A `constexpr <type> kName = <value>;  // comment` line of the hyperparameter section.
struct Knob {
  std::string name, type, value;
  size_t line;          // 0-based
  std::string comment;  // "at most N" and "at least N" in it bound the value
};

// The knobs of a source: the lines between the banner "Hyperparameters" and the next one.
std::vector<Knob> find_knobs(const std::string& source);

// A reply in the common reply format: IDEA, WHY, one or two SEARCH/REPLACE blocks on `source`. The
// same inputs give the same reply. `device` is "cpu" or "cuda": knobs whose names say that they are
// for another device (kCpu..., kGpu...) are left alone. `measured` tells whether a source is known
// already; nothing is returned when every neighbour is. Directions that won before are followed,
// those that lost are avoided; ideas are recognized by their form "kName old -> new".
std::optional<std::string> propose_by_tuning(
    const std::string& source, const std::vector<Past>& past, uint64_t seed,
    const std::string& device, const std::function<bool(const std::string& source)>& measured);

}  // namespace autoresearch
