#include "referee/operators.h"

#include <algorithm>
#include <map>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "referee/refusal.h"

namespace autoresearch {

namespace jit = torch::jit;

namespace {

// Functional, deterministic, and in bounds whatever their arguments. Left out on purpose, besides
// the obvious: whatever leaves memory uninitialized (empty, resize), addresses it freely
// (as_strided, _reshape_alias, the _unsafe_index family, varlen attention), trusts its caller's
// shapes (the backends of attention), adds up in a random order on CUDA (index_add, scatter_add,
// index_put), or mixes rows (batch_norm).
constexpr std::string_view kAllowed = R"(
  alias detach detach_copy lift_fresh lift_fresh_copy clone contiguous view reshape view_as
  reshape_as _unsafe_view expand expand_as broadcast_to broadcast_tensors permute transpose.int t
  numpy_T mT swapaxes swapdims movedim.int movedim.intlist moveaxis.int moveaxis.intlist unsqueeze
  squeeze squeeze.dim squeeze.dims flatten.using_ints unflatten.int ravel select.int slice.Tensor
  narrow chunk split.Tensor split.sizes split_with_sizes tensor_split.sections
  tensor_split.indices unsafe_chunk unsafe_split.Tensor unsafe_split_with_sizes unbind.int unfold
  diagonal diag_embed flip roll tile repeat repeat_interleave.self_int cat concat concatenate
  stack hstack vstack column_stack pad constant_pad_nd select_scatter slice_scatter
  diagonal_scatter

  to.dtype to.device to.other to.dtype_layout _to_copy type_as zeros ones full zeros_like
  ones_like full_like new_zeros new_ones new_full scalar_tensor arange arange.start
  arange.start_step linspace eye eye.m tril triu tril_indices triu_indices one_hot meshgrid
  meshgrid.indexing

  add.Tensor add.Scalar sub.Tensor sub.Scalar subtract.Tensor subtract.Scalar rsub.Tensor
  rsub.Scalar mul.Tensor mul.Scalar multiply.Tensor multiply.Scalar div.Tensor div.Scalar
  div.Tensor_mode div.Scalar_mode divide.Tensor divide.Scalar true_divide.Tensor
  true_divide.Scalar floor_divide floor_divide.Scalar remainder.Tensor remainder.Scalar
  fmod.Tensor fmod.Scalar abs absolute neg negative positive sign sgn floor ceil round trunc frac
  reciprocal square sqrt rsqrt exp exp2 expm1 log log2 log10 log1p pow.Tensor_Tensor
  pow.Tensor_Scalar pow.Scalar sin cos tan sinh cosh tanh asinh atan atan2 sinc erf erfc
  lerp.Scalar lerp.Tensor addcmul addcdiv logaddexp logaddexp2 hypot xlogy.Tensor copysign.Tensor
  copysign.Scalar nan_to_num clamp clamp.Tensor clamp_min clamp_min.Tensor clamp_max
  clamp_max.Tensor clip clip.Tensor maximum minimum fmax fmin max.other min.other relu relu6
  leaky_relu elu selu celu gelu silu mish sigmoid log_sigmoid hardtanh hardsigmoid hardswish
  hardshrink softshrink softplus threshold prelu glu logit

  eq.Tensor eq.Scalar ne.Tensor ne.Scalar lt.Tensor lt.Scalar le.Tensor le.Scalar gt.Tensor
  gt.Scalar ge.Tensor ge.Scalar logical_and logical_or logical_xor logical_not bitwise_and.Tensor
  bitwise_and.Scalar bitwise_or.Tensor bitwise_or.Scalar bitwise_xor.Tensor bitwise_xor.Scalar
  bitwise_not bitwise_left_shift.Tensor_Scalar bitwise_right_shift.Tensor_Scalar __and__.Tensor
  __and__.Scalar __or__.Tensor __or__.Scalar __xor__.Tensor __xor__.Scalar isnan isinf isfinite
  where.self where.Scalar where.ScalarSelf where.ScalarOther masked_fill.Scalar masked_fill.Tensor

  sum sum.dim_IntList mean mean.dim prod prod.dim_int max max.dim min min.dim amax amin aminmax
  argmax argmin any any.dim all all.dim norm.Scalar norm.ScalarOpt_dim linalg_vector_norm var
  var.dim var.correction std std.dim std.correction var_mean.dim var_mean.correction
  std_mean.correction logsumexp softmax.int log_softmax.int _softmax _log_softmax _safe_softmax
  cumsum cumprod cummax cummin logcumsumexp topk sort sort.stable argsort argsort.stable kthvalue
  cosine_similarity

  matmul mm bmm mv dot mm.dtype bmm.dtype addmm addmm.dtype addbmm addmv addr baddbmm
  baddbmm.dtype outer linear bilinear einsum tensordot inner _scaled_mm conv1d conv1d.padding
  conv2d conv2d.padding conv_transpose1d convolution _convolution _convolution_mode avg_pool1d
  max_pool1d avg_pool2d max_pool2d

  rms_norm _fused_rms_norm layer_norm native_layer_norm group_norm _weight_norm
  scaled_dot_product_attention _flash_attention_forward

  embedding index_select index.Tensor index.Tensor_hacked_twin gather take_along_dim take
  scatter.src scatter.value index_fill.int_Scalar searchsorted.Tensor bucketize.Tensor)";

bool allowed(const std::string& operator_name) {
  static const std::unordered_set<std::string_view> names = [] {
    std::unordered_set<std::string_view> set;
    for (size_t at = 0; (at = kAllowed.find_first_not_of(" \n", at)) != kAllowed.npos;) {
      const size_t end = std::min(kAllowed.find_first_of(" \n", at), kAllowed.size());
      set.insert(kAllowed.substr(at, end - at));
      at = end;
    }
    return set;
  }();
  return operator_name.starts_with("aten::") && names.contains(operator_name.substr(6));
}

// Why operators of a kind are outside the list and what to write instead, for the person and the
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

// Arguments that would make an allowed operator random, racy, or read memory by offsets in a
// tensor.
void check_arguments(const jit::Node& node, const c10::FunctionSchema& schema,
                     const KnownValue& known) {
  static const std::map<std::string, std::string> forbidden = {
      {"dropout_p", "is random"},         {"non_blocking", "returns before the data is there"},
      {"pin_memory", "pins host memory"}, {"cum_seq_q", "reads by offsets"},
      {"cum_seq_k", "reads by offsets"},  {"seqused_k", "reads by offsets"},
      {"generator", "is random"},         {"return_debug_mask", "returns dropout's mask"}};
  for (size_t i = 0; i < node.inputs().size() && i < schema.arguments().size(); i++) {
    const auto rule = forbidden.find(schema.arguments()[i].name());
    if (rule == forbidden.end()) continue;
    const c10::IValue* value = known(node.inputs()[i]);
    const bool off = value && (value->isNone() || (value->isBool() && !value->toBool()) ||
                               (value->isScalar() && value->toScalar().toDouble() == 0));
    if (!off)
      refuse(schema.name() + " can't be sealed with " + rule->first + " in use: it " +
             rule->second);
  }
}

// Attention operators return seeds and masks beside their result, some of them uninitialized.
void check_outputs(const jit::Node& node, const std::string& name) {
  if (name.find("attention") == name.npos) return;
  for (size_t i = 1; i < node.outputs().size(); i++)
    if (node.outputs()[i]->hasUses())
      refuse(name + " can't be sealed with more than its first result in use");
}

}  // namespace

const jit::Operator& check_operator(const jit::Node& node, const KnownValue& known) {
  const std::string kind = node.kind().toQualString();
  const jit::Operator* found = node.maybeOperator();
  if (!found) {
    const bool familiar = kAllowed.find(kind.substr(kind.rfind(':') + 1)) != kAllowed.npos;
    if (!familiar) refuse_operator(kind);
    refuse(kind + " is called in the sealed graph with arguments that it doesn't take");
  }
  const c10::FunctionSchema& schema = found->schema();
  const std::string overload = schema.overload_name().empty() ? "" : "." + schema.overload_name();
  if (!allowed(schema.name() + overload) || schema.is_mutable() || schema.is_vararg())
    refuse_operator(schema.name() + overload);
  check_outputs(node, schema.name());
  check_arguments(node, schema, known);
  return *found;
}

}  // namespace autoresearch
