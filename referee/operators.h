// The operators that a sealed graph may hold, and the checks of their arguments.
#pragma once

#include <torch/csrc/jit/ir/ir.h>
#include <torch/csrc/jit/runtime/operator.h>

#include <string>
#include <vector>

namespace autoresearch {

// The list, sorted: "aten::add.Scalar", "aten::add.Tensor", ...
std::vector<std::string> operator_names();

// Throws Error (kCannotSeal) if the operator of this schema is not on the list, or if a call with
// these values would be random or racy, or read memory that is not its own.
void check_call(const c10::FunctionSchema& schema, at::ArrayRef<c10::IValue> values);

// The operator that a node calls, which checks each call. Throws Error (kCannotSeal) with the
// operator's name and what to write instead if it is not on the list.
torch::jit::Operation checked_operation(const torch::jit::Node& node);

// Throws Error (kCannotSeal): `name` can't be sealed, and why.
[[noreturn]] void refuse_operator(const std::string& name);

}  // namespace autoresearch
