#include "referee/operators.h"

#include <algorithm>
#include <map>
#include <sstream>
#include <string_view>

#include "referee/arguments.h"
#include "referee/refusal.h"

namespace autoresearch {

namespace jit = torch::jit;

namespace {

// Operators of one rule; each is written by the tracer, and tests/operators_test.cpp shows by which
// function. Left out on purpose, besides the obvious: what leaves memory uninitialized (empty,
// resize), addresses it freely (as_strided, _reshape_alias, the _unsafe_index family, varlen
// attention), trusts its caller's shapes (the backends of attention, _weight_norm), adds up in a
// random order on CUDA (index_add, scatter_add, index_put), or mixes rows (batch_norm).
struct Family {
  Rule rule;  // null if libtorch checks all that the kernels rely on
  std::string_view names;
};

constexpr Family kFamilies[] = {
    // Shapes: metadata, or a copy by it, whose sizes and dimensions libtorch checks.
    {nullptr, R"(
  detach clone contiguous view reshape view_as expand expand_as permute transpose.int t mT
  movedim.int unsqueeze squeeze squeeze.dim flatten.using_ints unflatten.int select.int
  slice.Tensor narrow chunk split.Tensor split_with_sizes unbind.int unfold diagonal flip roll
  repeat repeat_interleave.self_int cat stack constant_pad_nd select_scatter slice_scatter)"},
    // Types and constants.
    {nullptr, R"(
  to.dtype to.device to.other to.dtype_layout type_as zeros ones full zeros_like ones_like
  full_like new_zeros new_ones new_full scalar_tensor arange arange.start arange.start_step
  linspace eye tril triu one_hot)"},
    // Elementwise: one iterator broadcasts the operands and finds their common type.
    {nullptr, R"(
  add.Tensor add.Scalar sub.Tensor sub.Scalar rsub.Scalar mul.Tensor mul.Scalar div.Tensor
  div.Scalar div.Tensor_mode div.Scalar_mode floor_divide floor_divide.Scalar remainder.Tensor
  remainder.Scalar abs neg sign floor ceil round trunc reciprocal square sqrt rsqrt exp exp2
  expm1 log log2 log1p pow.Tensor_Tensor pow.Tensor_Scalar pow.Scalar sin cos tanh asinh atan
  erf lerp.Scalar lerp.Tensor addcmul addcdiv logaddexp nan_to_num clamp clamp.Tensor clamp_min
  clamp_min.Tensor clamp_max clamp_max.Tensor maximum minimum max.other min.other relu relu6
  leaky_relu elu selu celu gelu silu mish sigmoid log_sigmoid hardtanh hardsigmoid hardswish
  softplus prelu glu)"},
    {nullptr, R"(
  eq.Tensor eq.Scalar ne.Tensor ne.Scalar lt.Tensor lt.Scalar le.Tensor le.Scalar gt.Tensor
  gt.Scalar ge.Tensor ge.Scalar logical_and logical_or logical_xor logical_not
  bitwise_and.Tensor bitwise_and.Scalar bitwise_or.Tensor bitwise_or.Scalar bitwise_xor.Tensor
  bitwise_xor.Scalar bitwise_not bitwise_left_shift.Tensor_Scalar
  bitwise_right_shift.Tensor_Scalar isfinite where.self where.Scalar where.ScalarSelf
  where.ScalarOther masked_fill.Scalar masked_fill.Tensor)"},
    // Along a dimension.
    {nullptr, R"(
  sum sum.dim_IntList mean mean.dim prod.dim_int max max.dim min min.dim amax amin argmax argmin
  any any.dim all all.dim norm.Scalar norm.ScalarOpt_dim linalg_vector_norm var.dim
  var.correction std.dim std.correction logsumexp softmax.int log_softmax.int cumsum cumprod
  cummax logcumsumexp topk sort argsort)"},
    // Products: libtorch checks that the sizes agree.
    {nullptr, "matmul mm bmm mv addmm baddbmm outer linear einsum"},
    {mixed_mm_rule, "mm.dtype bmm.dtype addmm.dtype baddbmm.dtype"},
    {scaled_mm_rule, "_scaled_mm"},
    {convolution_rule, "_convolution _convolution_mode"},
    {nullptr, "avg_pool1d max_pool1d"},
    {normalized_shape_rule, "layer_norm rms_norm"},
    {group_norm_rule, "group_norm"},
    {attention_rule, "scaled_dot_product_attention"},
    {flash_attention_rule, "_flash_attention_forward"},
    {pad_rule, "pad"},
    // Look-ups: libtorch checks indices on a CPU, the kernels themselves do on a GPU.
    {nullptr, R"(
  embedding index_select index.Tensor gather take_along_dim scatter.src scatter.value
  bucketize.Tensor)"}};

const std::map<std::string, Rule>& rules() {
  static const auto all = [] {
    std::map<std::string, Rule> rules;
    for (const Family& family : kFamilies) {
      std::istringstream names{std::string(family.names)};
      for (std::string name; names >> name;) rules["aten::" + name] = family.rule;
    }
    return rules;
  }();
  return all;
}

// Why operators of a kind are outside the list and what to write instead, for the user and the
// model; the first row with a word that is in the operator's name counts.
struct Advice {
  std::vector<std::string_view> words;
  const char* text;
};

const Advice kAdvice[] = {
    {{"dropout"}, "is random: leave dropout out while gradients are off"},
    {{"::rand", "::normal", "bernoulli", "multinomial", "::poisson", "rrelu", "exponential"},
     "is random: a model must be a function of its token ids"},
    {{"empty", "resize"}, "leaves memory uninitialized: use at::zeros or at::full"},
    {{"as_strided", "_reshape_alias", "::set"},
     "addresses memory freely: use view, slice, permute or unfold"},
    {{"from_file", "::save", "::load"}, "reaches files"},
    {{"prim::If", "prim::Loop"}, "is control flow: compute both sides and choose with at::where"},
    {{"batch_norm", "instance_norm"},
     "mixes rows or keeps statistics: use at::rms_norm or at::layer_norm"},
    {{"index_put", "index_add", "scatter_add", "scatter_reduce"},
     "adds up in an order that varies: use at::one_hot with at::matmul, or at::scatter"},
    {{"attention"}, "trusts its caller's shapes: use at::scaled_dot_product_attention"},
    {{"complex", "polar"}, "is complex: keep cosine and sine apart"},
    {{""},
     "is not on the scorer's list of functional, deterministic operators: compose it of others"}};

std::string advice(const std::string& name) {
  const std::string base = name.substr(0, name.find('.'));
  const std::string plain = base.substr(base.rfind(':') + 1);
  if (plain.ends_with("_") && !plain.ends_with("__"))
    return "works in place: write x = at::" + plain.substr(0, plain.size() - 1) + "(x, ...)";
  if (name != base && name.ends_with("out"))
    return "writes into its argument: use the form that returns its result";
  const auto fits = [&](const Advice& advice) {
    return std::any_of(advice.words.begin(), advice.words.end(),
                       [&](auto word) { return base.find(word) != base.npos; });
  };
  return std::find_if(std::begin(kAdvice), std::end(kAdvice), fits)->text;
}

}  // namespace

[[noreturn]] void refuse_operator(const std::string& name) {
  refuse(name + " can't be sealed: it " + advice(name));
}

namespace {

std::string name_of(const c10::FunctionSchema& schema) {
  return schema.name() + (schema.overload_name().empty() ? "" : "." + schema.overload_name());
}

// Whether the list has some overload of an operator.
bool familiar(const std::string& kind) {
  const auto next = rules().lower_bound(kind);
  return next != rules().end() && (next->first == kind || next->first.starts_with(kind + "."));
}

// Attention operators return seeds and masks beside their result, some of them uninitialized.
void check_outputs(const jit::Node& node, const std::string& name) {
  if (name.find("attention") == name.npos) return;
  for (size_t i = 1; i < node.outputs().size(); i++)
    if (node.outputs()[i]->hasUses())
      refuse(name + " can't be sealed with more than its first result in use");
}

}  // namespace

std::vector<std::string> operator_names() {
  std::vector<std::string> names;
  for (const auto& [name, rule] : rules()) names.push_back(name);
  return names;
}

void check_call(const c10::FunctionSchema& schema, at::ArrayRef<c10::IValue> values) {
  const auto rule = rules().find(name_of(schema));
  if (rule == rules().end()) refuse_operator(name_of(schema));
  const Arguments arguments(schema, values);
  arguments.check_each();
  if (rule->second) rule->second(arguments);
}

jit::Operation checked_operation(const jit::Node& node) {
  const std::string kind = node.kind().toQualString();
  const jit::Operator* found = node.maybeOperator();
  if (!found) {
    if (!familiar(kind)) refuse_operator(kind);
    refuse(kind + " is called in the sealed graph with arguments that it doesn't take");
  }
  const c10::FunctionSchema& schema = found->schema();
  if (!rules().contains(name_of(schema)) || schema.is_mutable() || schema.is_vararg())
    refuse_operator(name_of(schema));
  check_outputs(node, schema.name());
  return [&schema, operation = found->getOperation(&node)](jit::Stack& stack) mutable {
    check_call(schema, stack);
    operation(stack);
  };
}

}  // namespace autoresearch
