// The operators that a sealed graph may hold, and the checks of their arguments.
#pragma once

#include <torch/csrc/jit/ir/ir.h>
#include <torch/csrc/jit/runtime/operator.h>

#include <functional>
#include <string>

namespace autoresearch {

// The value of a graph's constant; null if the value is computed while the graph runs.
using KnownValue = std::function<const c10::IValue*(const torch::jit::Value*)>;

// The operator that a node calls. Throws Error (kCannotSeal) with the operator's name and what to
// write instead if it is not on the list, or if arguments that are constants would make it random,
// racy, or read memory that is not its own.
const torch::jit::Operator& check_operator(const torch::jit::Node& node, const KnownValue& known);

// Throws Error (kCannotSeal): `name` can't be sealed, and why.
[[noreturn]] void refuse_operator(const std::string& name);

}  // namespace autoresearch
