// What kernels rely on in their arguments, checked on the values of every call.
#pragma once

#include <ATen/core/function_schema.h>
#include <ATen/core/stack.h>

namespace autoresearch {

// Whether a value is of this type of a schema; for a list or an optional, also what is in it.
bool fits(const c10::IValue& value, const c10::Type& type);

// The arguments of one call, by the names that the operator's schema gives them.
class Arguments {
 public:
  // Both must outlive this.
  Arguments(const c10::FunctionSchema& schema, at::ArrayRef<c10::IValue> values)
      : schema_(schema), values_(values) {}

  const c10::IValue& operator[](const char* name) const;  // the schema must have it
  const c10::IValue* find(const char* name) const;        // null if the schema hasn't it
  at::Tensor tensor(const char* name) const;              // undefined if it is None

  // Throws Error unless every argument has its type and is in use as a functional, deterministic
  // operator allows: plain dtypes and layouts, sizes whose products don't overflow, nothing random.
  void check_each() const;

 private:
  const c10::FunctionSchema& schema_;
  at::ArrayRef<c10::IValue> values_;
};

// What one operator, or a family, asks of its arguments together. Throws Error.
using Rule = void (*)(const Arguments&);

void attention_rule(const Arguments& call);         // scaled_dot_product_attention
void flash_attention_rule(const Arguments& call);   // _flash_attention_forward
void scaled_mm_rule(const Arguments& call);         // _scaled_mm
void mixed_mm_rule(const Arguments& call);          // mm.dtype and its kin
void convolution_rule(const Arguments& call);       // _convolution, _convolution_mode
void normalized_shape_rule(const Arguments& call);  // layer_norm, rms_norm
void group_norm_rule(const Arguments& call);
void pad_rule(const Arguments& call);

}  // namespace autoresearch
