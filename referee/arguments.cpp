#include "referee/arguments.h"

#include <algorithm>
#include <string_view>

#include "referee/refusal.h"

namespace autoresearch {
namespace {

// Kernels multiply sizes, strides and dilations of at most this in 64 bits.
constexpr int64_t kMaxInteger = INT32_MAX;
constexpr int64_t kMaxRank = 16;
constexpr int64_t kMaxElements = int64_t{1} << 40;  // expanded tensors cost no memory but time

constexpr at::ScalarType kTypes[] = {at::kFloat, at::kHalf, at::kBFloat16,      at::kDouble,
                                     at::kLong,  at::kInt,  at::kShort,         at::kChar,
                                     at::kByte,  at::kBool, at::kFloat8_e4m3fn, at::kFloat8_e5m2};

void require(bool holds, const std::string& what) {
  if (!holds) refuse("it needs " + what);
}

template <typename T>
bool one_of(T value, std::initializer_list<T> all) {
  return std::find(all.begin(), all.end(), value) != all.end();
}

}  // namespace

bool fits(const c10::IValue& value, const c10::Type& type) {
  switch (type.kind()) {
    case c10::TypeKind::TensorType:
      return value.isTensor();
    case c10::TypeKind::OptionalType:
      return value.isNone() || fits(value, *type.expectRef<c10::OptionalType>().getElementType());
    case c10::TypeKind::ListType: {
      const c10::Type& element = *type.expectRef<c10::ListType>().getElementType();
      if (!value.isList()) return false;
      const auto all = value.toListRef();
      return std::all_of(all.begin(), all.end(), [&](auto& one) { return fits(one, element); });
    }
    case c10::TypeKind::IntType:
    case c10::TypeKind::SymIntType:
      return value.isInt();
    case c10::TypeKind::FloatType:
      return value.isDouble();
    case c10::TypeKind::BoolType:
      return value.isBool();
    case c10::TypeKind::NumberType:  // a Scalar, which may hold any of the three
      return value.isInt() || value.isDouble() || value.isBool();
    case c10::TypeKind::StringType:
      return value.isString();
    case c10::TypeKind::DeviceObjType:
      return value.isDevice();
    default:  // no operator of the list takes anything else
      return false;
  }
}

const c10::IValue* Arguments::find(const char* name) const {
  const auto index = schema_.argumentIndexWithName(name);
  return index ? &values_[*index] : nullptr;
}

const c10::IValue& Arguments::operator[](const char* name) const {
  return values_[schema_.argumentIndexWithName(name).value()];
}

at::Tensor Arguments::tensor(const char* name) const {
  const c10::IValue& value = (*this)[name];
  return value.isNone() ? at::Tensor() : value.toTensor();
}

namespace {

void check_tensor(const at::Tensor& tensor) {
  if (!tensor.defined()) return;
  require(tensor.layout() == at::kStrided, "dense tensors");
  require(std::find(std::begin(kTypes), std::end(kTypes), tensor.scalar_type()) != std::end(kTypes),
          "tensors of plain types");
  require(tensor.dim() <= kMaxRank && tensor.numel() <= kMaxElements,
          "tensors of at most 16 dimensions and 2^40 elements");
}

void check_integer(int64_t value) {
  require(value >= -kMaxInteger && value <= kMaxInteger, "sizes and positions below 2^31");
}

// Constants that stand for an enumeration: libtorch indexes tables by some of them unchecked.
void check_enumeration(c10::TypeKind kind, int64_t value) {
  if (kind == c10::TypeKind::ScalarTypeType)
    require(std::any_of(std::begin(kTypes), std::end(kTypes),
                        [&](at::ScalarType type) { return int64_t(type) == value; }),
            "a plain dtype");
  if (kind == c10::TypeKind::LayoutType) require(value == int64_t(at::kStrided), "a dense layout");
  if (kind == c10::TypeKind::MemoryFormatType)
    require(
        one_of(value, {int64_t(at::MemoryFormat::Contiguous), int64_t(at::MemoryFormat::Preserve)}),
        "a contiguous memory format");
}

void check_value(const c10::Argument& argument, const c10::IValue& value) {
  if (value.isTensor()) return check_tensor(value.toTensor());
  if (value.isList())
    for (const c10::IValue& element : value.toListRef()) check_value(argument, element);
  if (!value.isInt()) return;
  c10::TypePtr type = argument.real_type();
  if (const auto optional = type->cast<c10::OptionalType>()) type = optional->getElementType();
  if (one_of(type->kind(), {c10::TypeKind::ScalarTypeType, c10::TypeKind::LayoutType,
                            c10::TypeKind::MemoryFormatType}))
    return check_enumeration(type->kind(), value.toInt());
  // A slice clamps its ends; a number is an operand, not a size.
  const bool clamped = argument.name() == "start" || argument.name() == "end";
  if (type->kind() != c10::TypeKind::NumberType && !clamped) check_integer(value.toInt());
}

// What must not be in use whatever the operator, and why.
struct Off {
  std::string_view name;
  const char* why;
};
constexpr Off kOff[] = {{"dropout_p", "is random"},
                        {"generator", "is random"},
                        {"non_blocking", "returns before the data is there"},
                        {"pin_memory", "pins host memory"},
                        {"benchmark", "chooses an algorithm by the clock"},
                        {"return_debug_mask", "returns dropout's mask"},
                        {"cum_seq_q", "reads by offsets"},
                        {"cum_seq_k", "reads by offsets"},
                        {"seqused_k", "reads by offsets"},
                        {"alibi_slopes", "trusts their shape"},
                        {"scale_result", "trusts its shape"},
                        {"output_size", "is trusted by the kernel"},
                        {"path", "has no effect on the result"}};

bool is_off(const c10::IValue& value) {
  return value.isNone() || (value.isBool() && !value.toBool()) ||
         (value.isDouble() && value.toDouble() == 0);
}

}  // namespace

void Arguments::check_each() const {
  require(values_.size() == schema_.arguments().size(), "all of its arguments");
  for (size_t i = 0; i < values_.size(); i++) {
    const c10::Argument& argument = schema_.arguments()[i];
    if (!fits(values_[i], *argument.type()))
      refuse("its argument " + argument.name() + " has another type than " +
             argument.type()->str());
    for (const Off& off : kOff)
      if (argument.name() == off.name && !is_off(values_[i]))
        refuse("its argument " + argument.name() + " is in use, which " + off.why);
    check_value(argument, values_[i]);
  }
}

// ------------------------------------------------------------------------------------------------
// Rules

namespace {

bool broadcasts_to(at::IntArrayRef from, at::IntArrayRef to) {
  if (from.size() > to.size()) return false;
  const size_t missing = to.size() - from.size();
  for (size_t i = 0; i < from.size(); i++)
    if (from[i] != 1 && from[i] != to[missing + i]) return false;
  return true;
}

bool same_kind(const at::Tensor& a, const at::Tensor& b) {
  return a.scalar_type() == b.scalar_type() && a.device() == b.device();
}

bool has_shape_or_is_none(const at::Tensor& tensor, at::IntArrayRef shape) {
  return !tensor.defined() || tensor.sizes() == shape;
}

// The heads of the queries are those of the keys, or a multiple of them if they may be grouped.
bool heads_agree(int64_t queries, int64_t keys, bool grouped) {
  return queries == keys || (grouped && keys > 0 && queries % keys == 0);
}

}  // namespace

// The CPU's flash kernel takes the number of keys from `value` and the size of a head from `query`,
// and divides by the number of rows and heads.
void attention_rule(const Arguments& call) {
  const at::Tensor q = call.tensor("query"), k = call.tensor("key"), v = call.tensor("value");
  const at::Tensor mask = call.tensor("attn_mask");
  const int64_t rank = q.dim();
  require(rank >= 2 && k.dim() == rank && v.dim() == rank, "query, key and value of one rank");
  require(same_kind(q, k) && same_kind(q, v), "query, key and value of one type and device");
  require(k.size(-2) == v.size(-2), "as many keys as values");
  require(k.size(-1) == q.size(-1), "keys and queries of one size");
  require(q.numel() > 0 && v.numel() > 0, "a row, a head, a query and a key at least");
  for (int64_t i = 0; i < rank - 2; i++) {
    const bool grouped = call["enable_gqa"].toBool() && i == rank - 3;
    require(k.size(i) == v.size(i) && heads_agree(q.size(i), k.size(i), grouped),
            "query, key and value of one batch and as many heads");
  }
  if (!mask.defined()) return;
  std::vector<int64_t> scores = q.sizes().vec();
  scores.back() = k.size(-2);
  require(broadcasts_to(mask.sizes(), scores) && mask.device() == q.device() &&
              (mask.scalar_type() == at::kBool || mask.scalar_type() == q.scalar_type()),
          "a mask that broadcasts to (..., queries, keys)");
}

// FlashAttention-2 reads raw pointers: (batch, length, heads, size), adjacent in a head, lengths as
// it is told.
void flash_attention_rule(const Arguments& call) {
  const at::Tensor q = call.tensor("query"), k = call.tensor("key"), v = call.tensor("value");
  require(q.is_cuda() && same_kind(q, k) && same_kind(q, v) &&
              (q.scalar_type() == at::kHalf || q.scalar_type() == at::kBFloat16),
          "half precision on a GPU");
  require(q.dim() == 4 && k.dim() == 4 && k.sizes() == v.sizes(),
          "query, key and value as (batch, length, heads, size)");
  require(q.size(0) == k.size(0) && q.size(3) == k.size(3) &&
              heads_agree(q.size(2), k.size(2), /*grouped=*/true),
          "query and key of one batch and size of heads");
  require(q.size(3) > 0 && q.size(3) % 8 == 0 && q.size(3) <= 256,
          "heads of at most 256 channels, a multiple of 8");
  require(q.is_contiguous() && k.is_contiguous() && v.is_contiguous() && q.numel() && k.numel(),
          "contiguous operands");
  require(call["max_q"].toInt() == q.size(1) && call["max_k"].toInt() == k.size(1),
          "its operands' lengths");
  for (const char* side : {"window_size_left", "window_size_right"})
    require(call[side].isNone() || call[side].toInt() >= -1, "a window of -1 or more");
}

// Matrices of float8, the second one transposed; a scale for each matrix, or one for each row of
// the first and each column of the second.
void scaled_mm_rule(const Arguments& call) {
  const at::Tensor a = call.tensor("self"), b = call.tensor("mat2"), bias = call.tensor("bias");
  const at::Tensor scale_a = call.tensor("scale_a"), scale_b = call.tensor("scale_b");
  for (const at::Tensor& operand : {a, b})
    require(operand.dim() == 2 && (operand.scalar_type() == at::kFloat8_e4m3fn ||
                                   operand.scalar_type() == at::kFloat8_e5m2),
            "matrices of float8");
  require(a.size(1) == b.size(0) && a.size(1) % 16 == 0 && b.size(1) % 16 == 0 && a.numel() > 0 &&
              b.numel() > 0,
          "sizes that agree and are multiples of 16");
  require(a.is_contiguous() && b.t().is_contiguous(), "its second matrix, and only it, transposed");
  const bool whole = scale_a.numel() == 1 && scale_b.numel() == 1;
  const bool rows = scale_a.sizes() == at::IntArrayRef{a.size(0), 1} &&
                    scale_b.sizes() == at::IntArrayRef{1, b.size(1)} && scale_a.is_contiguous() &&
                    scale_b.is_contiguous();
  require(
      (whole || rows) && scale_a.scalar_type() == at::kFloat && scale_b.scalar_type() == at::kFloat,
      "float32 scales, one a matrix or one a row and a column");
  require(has_shape_or_is_none(bias, {b.size(1)}) && (!bias.defined() || bias.is_contiguous()),
          "one bias a column");
  for (const at::Tensor& other : {b, scale_a, scale_b, bias})
    require(!other.defined() || other.device() == a.device(), "one device");
}

void mixed_mm_rule(const Arguments& call) {
  require(call["out_dtype"].toInt() == int64_t(at::kFloat), "float32 as its result's type");
}

// The implementation is chosen among several, each with checks of its own or none.
void convolution_rule(const Arguments& call) {
  const at::Tensor x = call.tensor("input"), w = call.tensor("weight"), bias = call.tensor("bias");
  const int64_t groups = call["groups"].toInt();
  require((x.dim() == 3 || x.dim() == 4) && w.dim() == x.dim() && same_kind(x, w),
          "input and weight of one type and rank, 3 or 4");
  require(groups > 0 && w.size(0) > 0 && w.size(0) % groups == 0, "groups that divide channels");
  const c10::IValue* transposed = call.find("transposed");
  const bool backwards = transposed && transposed->toBool();
  require(x.size(1) == (backwards ? w.size(0) : w.size(1) * groups), "a weight for its channels");
  require(has_shape_or_is_none(bias, {backwards ? w.size(1) * groups : w.size(0)}),
          "one bias a channel");
  for (const char* name : {"stride", "dilation"})
    for (const int64_t value : call[name].toIntVector())
      require(value > 0, "a stride and a dilation of 1 or more");
}

void normalized_shape_rule(const Arguments& call) {
  const std::vector<int64_t> shape = call["normalized_shape"].toIntVector();
  const at::IntArrayRef sizes = call.tensor("input").sizes();
  require(!shape.empty() && shape.size() <= sizes.size() &&
              sizes.slice(sizes.size() - shape.size()) == at::IntArrayRef(shape),
          "an input that ends in normalized_shape");
  for (const char* name : {"weight", "bias"})
    require(!call.find(name) || has_shape_or_is_none(call.tensor(name), shape),
            "a weight and a bias of normalized_shape");
}

void group_norm_rule(const Arguments& call) {
  const at::Tensor x = call.tensor("input");
  const int64_t groups = call["num_groups"].toInt();
  require(x.dim() >= 2 && groups > 0 && x.size(1) % groups == 0, "groups that divide channels");
  for (const char* name : {"weight", "bias"})
    require(has_shape_or_is_none(call.tensor(name), {x.size(1)}), "a weight and a bias a channel");
}

// "circular" leaves memory unfilled if a pad is negative; the other modes are as well left to
// slices and at::cat.
void pad_rule(const Arguments& call) {
  require(call["mode"].toStringRef() == "constant",
          "the mode \"constant\" (put other borders together with at::cat)");
}

}  // namespace autoresearch
