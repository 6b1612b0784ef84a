// How the operations of kernels/kernels.h are computed: by a Fused inside an autograd function, or
// by their *twins*, which are ATen operators with ATen's gradients in any floating type. A check at
// start-up compares the two on the device in hand.
#pragma once

#include <ATen/ATen.h>

#include <bitset>
#include <map>
#include <optional>
#include <string>

#include "kernels/fused.h"

namespace autoresearch {

enum class Operation {
#define CHECKED(enumerator, function) enumerator,
#define PLAIN(function)
#include "kernels/operations.def"
  kCount
};
const char* name_of(Operation operation);  // as in kernels.h
using Operations = std::bitset<static_cast<size_t>(Operation::kCount)>;

struct Ways {
  const Fused* fused;     // null: twins only, but for attention, which no Fused computes
  Operations twins = {};  // those that their twins compute, even if there is a Fused

  const Fused* fast(Operation operation) const {  // null: its twin computes
    return twins[static_cast<size_t>(operation)] ? nullptr : fused;
  }
};

// The ways of this device that the start-up check trusts, for operations on activations of `type`
// (by default x's own). If gradients are off, there is no Fused among them: a trace must see ATen
// operators. Throws Error if x is undefined.
Ways ways_for(const at::Tensor& x, std::optional<at::ScalarType> type = std::nullopt);

// The same for the optimizer, which is never traced and works with gradients off.
Ways optimizer_ways(const at::Tensor& x, at::ScalarType type);

// While it lives, both functions above return `ways` on this thread. For the check and for tests.
class UseWays {
 public:
  explicit UseWays(Ways ways);
  ~UseWays();
  UseWays(const UseWays&) = delete;
  UseWays& operator=(const UseWays&) = delete;

 private:
  Ways ways_;
  const Ways* before_;
};

// Runs every operation and its gradient on `device`, in these ways and as its twin, over small odd
// shapes (some 25 ms on a CPU), on activations of `type`, float32 or bfloat16. Returns the
// operations that failed or disagree, each with what was found.
std::map<Operation, std::string> disagreements(const Ways& ways, at::Device device,
                                               at::ScalarType type);

// What kernels.h uses on a device.
struct Trusted {
  Ways ways;
  std::string warning;  // which operations their twins compute, and why; empty if none does
};

// `fused` without what disagrees with its twin. Null checks attention alone.
Trusted trusted(const Fused* fused, at::Device device, at::ScalarType type);

// What this process found of `device` for activations of `type`; other types than float32 and
// bfloat16 get what was found for float32. The first call for a device and type compiles, checks
// and warns on stderr. So the harness calls it at start-up for the type that the run computes in.
// Safe on any thread.
const Trusted& trusted_on(at::Device device, at::ScalarType type);

}  // namespace autoresearch
