#include "harness/seal.h"

#include <c10/core/InferenceMode.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/csrc/jit/frontend/tracer.h>
#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/ir/ir.h>
#include <torch/csrc/jit/ir/irparser.h>
#include <torch/csrc/jit/runtime/operator.h>

#include <algorithm>
#include <bit>
#include <charconv>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string_view>
#include <tuple>
#include <unordered_map>
#include <unordered_set>

#include "common/error.h"

namespace autoresearch {
namespace {

namespace jit = torch::jit;
using nlohmann::json;

// The tensor bytes are copied as they lie in memory, and safetensors is little-endian.
static_assert(std::endian::native == std::endian::little);

constexpr char kFormat[] = "autoresearch-sealed-1";
constexpr size_t kMaxGraph = 8 << 20;    // bytes of IR text; a 64-layer model has about 0.5 MB
constexpr size_t kMaxHeader = 32 << 20;  // the graph, escaped, and an entry for every tensor
constexpr size_t kMaxTensors = 16384;
constexpr int kMaxJsonDepth = 3;     // header, entry, shape
constexpr int kMaxTextNesting = 32;  // brackets in the IR text: its parser recurses

[[noreturn]] void refuse(const std::string& what) { throw Error(what, kCannotSeal); }

// The first line of an exception that came out of libtorch, without its C++ stack.
std::string first_line(const std::exception& e) {
  const auto* error = dynamic_cast<const c10::Error*>(&e);
  std::string text = error ? error->what_without_backtrace() : e.what();
  text.erase(0, text.find_first_not_of("\n "));
  text = text.substr(0, text.find('\n'));
  return text.size() > 300 ? text.substr(0, 300) + "..." : text;
}

// ------------------------------------------------------------------------------------------------
// Operators that a sealed graph may hold: name.overload

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

bool contains_any(std::string_view text, std::initializer_list<std::string_view> words) {
  return std::any_of(words.begin(), words.end(),
                     [&](auto word) { return text.find(word) != text.npos; });
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

[[noreturn]] void refuse_operator(const std::string& name) {
  refuse(name + " can't be sealed: it " + advice(name));
}

// ------------------------------------------------------------------------------------------------
// Tracing

// What the tracer can't do, told in terms of the function that was handed over.
[[noreturn]] void explain_trace_failure(const std::exception& e) {
  const std::string what = first_line(e);
  if (what.find("requires grad as a constant") != what.npos)
    refuse(
        "the model can't be traced: the logits function reads a tensor that requires gradients "
        "(at::NoGradGuard doesn't change that); read parameter.variable_data() there, or call "
        "parameter.set_requires_grad(false) before and (true) after");
  if (contains_any(what, {"We don't have an op for"}) && contains_any(what, {"bool"}))
    refuse("the model can't be traced: a bool stands where a number belongs (write 1 for true); " +
           what.substr(what.find("We don't have")));
  refuse("the model can't be traced: " + what);
}

void check_shape(const at::Tensor& logits, at::IntArrayRef wanted) {
  if (!logits.defined() || logits.sizes() != wanted) {
    std::ostringstream text;
    text << "the model's logits have the shape "
         << (logits.defined() ? logits.sizes() : at::IntArrayRef{}) << "; the task needs " << wanted
         << " (rows, seq_len, vocab_size)";
    refuse(text.str());
  }
}

std::shared_ptr<jit::Graph> record(const Logits& logits, const at::Tensor& ids,
                                   at::IntArrayRef wanted) try {
  const auto checked = [&](jit::Stack in) -> jit::Stack {
    at::Tensor result = logits(in.at(0).toTensor());
    check_shape(result, wanted);
    return {result};
  };
  const auto no_name = [](const at::Tensor&) { return std::string(); };
  auto [state, _] = jit::tracer::trace({ids}, checked, no_name, /*strict=*/false);
  return state->graph;
} catch (const c10::OutOfMemoryError&) {
  throw;
} catch (const Error&) {
  throw;
} catch (const std::exception& e) {
  explain_trace_failure(e);
}

const std::map<std::string, at::ScalarType>& dtypes() {
  static const std::map<std::string, at::ScalarType> names = {
      {"F32", at::kFloat}, {"F16", at::kHalf}, {"BF16", at::kBFloat16}, {"F64", at::kDouble},
      {"I64", at::kLong},  {"I32", at::kInt},  {"U8", at::kByte},       {"BOOL", at::kBool}};
  return names;
}

std::string dtype_name(const at::Tensor& tensor) {
  for (const auto& [name, type] : dtypes())
    if (tensor.scalar_type() == type && tensor.layout() == at::kStrided) return name;
  refuse(
      std::string("the model holds a constant of type ") + at::toString(tensor.scalar_type()) +
      "; a sealed model holds float32, float16, bfloat16, float64, int64, int32, uint8 and bool");
}

// IR text holds every other double bit for bit, with 17 digits.
void check_number(double value) {
  const int kind = std::fpclassify(value);
  if (kind == FP_NAN || kind == FP_SUBNORMAL)
    refuse("the model uses " + std::string(kind == FP_NAN ? "NaN" : "a subnormal number") +
           " as a constant; a sealed model can't hold it");
}

// Every tensor constant becomes an input of the graph: IR text can't hold one. The same memory read
// through two handles (tied weights) becomes one input.
std::vector<at::Tensor> lift_constants(jit::Graph& graph) {
  using Key = std::tuple<const void*, std::vector<int64_t>, std::vector<int64_t>, at::ScalarType>;
  std::map<Key, jit::Value*> inputs;
  std::vector<at::Tensor> tensors;
  for (auto it = graph.nodes().begin(); it != graph.nodes().end(); ++it) {
    if (it->kind() != jit::prim::Constant || !it->hasAttribute(jit::attr::value)) continue;
    if (it->kindOf(jit::attr::value) == jit::AttributeKind::f)
      check_number(it->f(jit::attr::value));
    if (it->kindOf(jit::attr::value) != jit::AttributeKind::t) continue;
    const at::Tensor tensor = it->t(jit::attr::value).detach();
    dtype_name(tensor);
    jit::Value*& input =
        inputs[{tensor.numel() ? tensor.const_data_ptr() : nullptr, tensor.sizes().vec(),
                tensor.strides().vec(), tensor.scalar_type()}];
    if (!input) {
      input = graph.addInput("c" + std::to_string(tensors.size()));
      tensors.push_back(tensor);
    }
    it->output()->replaceAllUsesWith(input);
    it.destroyCurrent();
  }
  return tensors;
}

// IR text without shapes, strides and devices of intermediate values: nothing reads them.
std::string graph_text(jit::Graph& graph) {
  for (jit::Value* input : graph.inputs()) input->setType(c10::TensorType::get());
  for (jit::Node* node : graph.nodes())
    for (jit::Value* output : node->outputs()) output->setType(c10::unshapedType(output->type()));
  return graph.toString(/*print_source_locations=*/false);
}

}  // namespace

SealedModel trace(const Logits& logits, int64_t rows, int64_t seq_len, int64_t vocab_size,
                  at::Device device) {
  const at::NoGradGuard no_grad;
  const at::Tensor ids =
      at::arange(rows * seq_len, at::kLong).remainder(vocab_size).view({rows, seq_len}).to(device);
  const auto graph = record(logits, ids, {rows, seq_len, vocab_size});
  graph->inputs().at(0)->setDebugName("ids");
  SealedModel model{"", lift_constants(*graph), rows, seq_len, vocab_size, device};
  model.graph = graph_text(*graph);
  if (model.graph.size() > kMaxGraph || model.tensors.size() > kMaxTensors)
    refuse("the model's graph is too large to seal: " + std::to_string(model.graph.size()) +
           " bytes of text, " + std::to_string(model.tensors.size()) + " tensors");
  return model;
}

// ------------------------------------------------------------------------------------------------
// The file. There is no C++ safetensors library in Debian or on PyPI; the format is this simple:
// 8 bytes of header size, a JSON header, the tensors' bytes.

void save_sealed(const SealedModel& model, const fs::path& path) {
  json header = {{"__metadata__",
                  {{"format", kFormat},
                   {"graph", model.graph},
                   {"rows", std::to_string(model.rows)},
                   {"seq_len", std::to_string(model.seq_len)},
                   {"vocab_size", std::to_string(model.vocab_size)},
                   {"device", model.device.is_cuda() ? "cuda" : "cpu"}}}};
  size_t offset = 0;
  for (size_t i = 0; i < model.tensors.size(); i++) {
    const at::Tensor& t = model.tensors[i];
    header["c" + std::to_string(i)] = {{"dtype", dtype_name(t)},
                                       {"shape", t.sizes().vec()},
                                       {"data_offsets", {offset, offset + t.nbytes()}}};
    offset += t.nbytes();
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const uint64_t size = text.size();
  std::string bytes(reinterpret_cast<const char*>(&size), sizeof size);
  bytes.reserve(sizeof size + size + offset);
  bytes += text;
  for (const at::Tensor& t : model.tensors) {
    const at::Tensor data = t.to(at::kCPU).contiguous();
    bytes.append(static_cast<const char*>(data.const_data_ptr()), data.nbytes());
  }
  write_file(path, bytes);
}

namespace {

struct Entry {
  at::ScalarType dtype;
  std::vector<int64_t> shape;
  size_t begin, end;
};

// All numbers of a hostile header pass through here: a whole number in [0, limit].
int64_t number(const json& value, int64_t limit) {
  const bool whole = value.is_number_unsigned() && value.get<uint64_t>() <= uint64_t(limit);
  if (!whole) throw std::runtime_error("a number is out of range");
  return value.get<int64_t>();
}

int64_t metadata_number(const json& metadata, const char* key, int64_t limit) {
  const std::string text = metadata.at(key);
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool whole = error == std::errc() && end == text.data() + text.size();
  if (!whole || value < 1 || value > limit)
    throw std::runtime_error(std::string(key) + " is out of range");
  return value;
}

Entry parse_entry(const json& entry, size_t data_size) {
  const auto dtype = dtypes().find(entry.at("dtype").get<std::string>());
  if (dtype == dtypes().end()) throw std::runtime_error("a tensor has an unknown dtype");
  if (entry.size() != 3) throw std::runtime_error("a tensor has unknown fields");
  Entry result{dtype->second, {}, 0, 0};
  int64_t bytes = int64_t(c10::elementSize(result.dtype));
  for (const json& dimension : entry.at("shape")) {
    result.shape.push_back(number(dimension, int64_t(data_size)));
    if (__builtin_mul_overflow(bytes, result.shape.back(), &bytes))
      throw std::runtime_error("a tensor is too large");
  }
  const json& offsets = entry.at("data_offsets");
  if (offsets.size() != 2 || result.shape.size() > 16)
    throw std::runtime_error("a bad tensor entry");
  result.begin = size_t(number(offsets.at(0), int64_t(data_size)));
  result.end = size_t(number(offsets.at(1), int64_t(data_size)));
  if (result.end < result.begin || result.end - result.begin != size_t(bytes))
    throw std::runtime_error("a tensor's shape and its bytes don't agree");
  return result;
}

json parse_header(std::string_view text) {
  return json::parse(text, [](int depth, json::parse_event_t, json&) {
    if (depth > kMaxJsonDepth) throw std::runtime_error("the header is nested too deeply");
    return true;
  });
}

// c0, c1, ... and nothing else; the tensors fill the data without a hole or an overlap.
std::vector<Entry> parse_entries(const json& header, size_t data_size) {
  if (header.size() - 1 > kMaxTensors) throw std::runtime_error("there are too many tensors");
  std::vector<Entry> entries;
  for (size_t i = 0; i + 1 < header.size(); i++)
    entries.push_back(parse_entry(header.at("c" + std::to_string(i)), data_size));
  std::vector<std::pair<size_t, size_t>> ranges;
  for (const Entry& entry : entries) ranges.emplace_back(entry.begin, entry.end);
  std::sort(ranges.begin(), ranges.end());
  size_t end = 0;
  for (const auto& [begin, next] : ranges) {
    if (begin != end) throw std::runtime_error("the tensors overlap or leave a hole");
    end = next;
  }
  if (end != data_size) throw std::runtime_error("the file is longer or shorter than its tensors");
  return entries;
}

at::Tensor read_tensor(const Entry& entry, std::string_view data, at::Device device) {
  const std::string_view bytes = data.substr(entry.begin, entry.end - entry.begin);
  const bool bad_bool = entry.dtype == at::kBool &&
                        std::any_of(bytes.begin(), bytes.end(), [](char b) { return b & ~1; });
  if (bad_bool) throw std::runtime_error("a bool is neither 0 nor 1");
  at::Tensor tensor = at::empty(entry.shape, entry.dtype);
  if (!bytes.empty()) std::memcpy(tensor.mutable_data_ptr(), bytes.data(), bytes.size());
  return tensor.to(device);
}

SealedModel parse_sealed(std::string_view file, at::Device device) {
  uint64_t size = 0;
  if (file.size() < sizeof size) throw std::runtime_error("it is too short");
  std::memcpy(&size, file.data(), sizeof size);
  file.remove_prefix(sizeof size);
  if (size > std::min(file.size(), kMaxHeader)) throw std::runtime_error("its header is too large");
  const json header = parse_header(file.substr(0, size));
  const std::string_view data = file.substr(size);
  const json& metadata = header.at("__metadata__");
  if (metadata.at("format") != kFormat) throw std::runtime_error("it is of another format");
  SealedModel model;
  model.graph = metadata.at("graph");
  model.rows = metadata_number(metadata, "rows", 1 << 20);
  model.seq_len = metadata_number(metadata, "seq_len", 1 << 20);
  model.vocab_size = metadata_number(metadata, "vocab_size", 1 << 20);
  model.device = device;
  const std::string sealed_on = metadata.at("device");
  if (sealed_on != (device.is_cuda() ? "cuda" : "cpu"))
    throw std::runtime_error("it was sealed for another device: type --device " +
                             std::string(sealed_on == "cuda" ? "cuda" : "cpu"));
  for (const Entry& entry : parse_entries(header, data.size()))
    model.tensors.push_back(read_tensor(entry, data, device));
  return model;
}

}  // namespace

SealedModel load_sealed(const fs::path& path, at::Device device) try {
  const at::NoGradGuard no_grad;
  check(fs::is_regular_file(path), "there is no such file");
  const std::string file = read_file(path);
  return parse_sealed(file, device);
} catch (const c10::OutOfMemoryError&) {
  throw;
} catch (const std::exception& e) {
  throw Error(path.string() + " is not a sealed model: " + first_line(e) +
              "; build/train --seal writes one");
}

// ------------------------------------------------------------------------------------------------
// The graph, checked and run

namespace {

struct Step {
  enum Kind { kOperator, kList, kUnpack } kind = kOperator;
  std::string name;
  std::function<void(jit::Stack&)> run;  // kOperator
  c10::TypePtr element;                  // kList: what it is a list of
  std::vector<size_t> in;                // slots
  std::vector<size_t> out;               // slots, or kUnused
  std::vector<size_t> dead;              // slots that nothing reads after this step
};

constexpr size_t kUnused = SIZE_MAX;

// libtorch's parser of IR text recurses on brackets and sub-blocks, and its types on [] and ?: none
// of them may be deep.
void check_text(const std::string& text) {
  if (text.size() > kMaxGraph) refuse("the sealed graph is too large");
  int depth = 0, suffixes = 0;
  for (const char c : text) {
    depth += (c == '(' || c == '[' || c == '{') - (c == ')' || c == ']' || c == '}');
    if (c == '[' || c == ']' || c == '?')
      suffixes++;
    else if (c != ' ' && c != '\n')
      suffixes = 0;
    if (depth > kMaxTextNesting || depth < 0 || suffixes > kMaxTextNesting)
      refuse("the sealed graph is nested too deeply");
    if (c != '\n' && (c < ' ' || c > '~')) refuse("the sealed graph is not plain text");
  }
  for (const char* name : {"prim::If", "prim::Loop"})
    if (contains_any(text, {name})) refuse_operator(name);
  if (contains_any(text, {"block"}))
    refuse("the sealed graph has a sub-block; it must be straight");
}

std::shared_ptr<jit::Graph> parse(const std::string& text) try {
  check_text(text);
  auto graph = std::make_shared<jit::Graph>();
  jit::parseIR(text, graph.get(), /*parse_tensor_constants=*/false);
  return graph;
} catch (const Error&) {
  throw;
} catch (const std::exception& e) {
  refuse("the sealed graph can't be read: " + first_line(e));
}

// A constant of plain data. Devices of the kind that was traced become the device that is used now.
c10::IValue constant(const jit::Node& node, at::Device device) {
  const auto value = jit::toIValue(node.output());
  if (!value) refuse("the sealed graph holds a constant of another kind than plain data");
  if (value->isDevice()) {
    const at::Device wanted = value->toDevice();
    if (wanted.type() == device.type()) return device;
    if (wanted.is_cpu()) return wanted;
    refuse("the sealed graph asks for the device " + wanted.str() + " while it runs on " +
           device.str());
  }
  const bool plain = value->isInt() || value->isDouble() || value->isBool() || value->isNone() ||
                     value->isString() || value->isIntList() || value->isDoubleList();
  if (!plain) refuse("the sealed graph holds a constant of type " + value->tagKind());
  return *value;
}

// Arguments that would make an allowed operator random, racy, or read memory by offsets in a
// tensor.
void check_arguments(const jit::Node& node, const c10::FunctionSchema& schema,
                     const std::function<const c10::IValue*(const jit::Value*)>& known) {
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

const jit::Operator& check_operator(const jit::Node& node) {
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
  return *found;
}

bool fits(const c10::IValue& value, const c10::Type& element) {
  switch (element.kind()) {
    case c10::TypeKind::TensorType:
      return value.isTensor();
    case c10::TypeKind::OptionalType:
      return value.isNone() ||
             fits(value, *element.expectRef<c10::OptionalType>().getElementType());
    case c10::TypeKind::IntType:
      return value.isInt();
    case c10::TypeKind::FloatType:
      return value.isDouble();
    case c10::TypeKind::BoolType:
      return value.isBool();
    default:
      return false;
  }
}

void run_list(const Step& step, jit::Stack& stack) {
  c10::impl::GenericList list(step.element);
  for (c10::IValue& value : stack) {
    if (!fits(value, *step.element))
      throw std::runtime_error("a list holds a value of another type");
    list.push_back(std::move(value));
  }
  stack.assign(1, c10::IValue(std::move(list)));
}

void run_step(const Step& step, std::vector<c10::IValue>& slots) try {
  jit::Stack stack;
  for (const size_t slot : step.in) stack.push_back(slots[slot]);
  for (const size_t slot : step.dead) slots[slot] = {};  // the operator drops its inputs itself
  if (step.kind == Step::kOperator) step.run(stack);
  if (step.kind == Step::kList) run_list(step, stack);
  if (step.kind == Step::kUnpack) {
    const auto parts = stack.at(0).toListRef().vec();
    stack.assign(parts.begin(), parts.end());
  }
  if (stack.size() != step.out.size()) throw std::runtime_error("another number of results");
  for (size_t i = 0; i < stack.size(); i++)
    if (step.out[i] != kUnused) slots[step.out[i]] = std::move(stack[i]);
} catch (const c10::OutOfMemoryError&) {
  throw;
} catch (const std::exception& e) {
  refuse(step.name + " failed in the sealed graph: " + first_line(e));
}

void check_logits(const at::Tensor& logits, const at::Tensor& ids, int64_t vocab_size) {
  check_shape(logits, {ids.size(0), ids.size(1), vocab_size});
  if (logits.layout() != at::kStrided || logits.is_quantized() || !logits.is_floating_point() ||
      logits.device() != ids.device())
    refuse("the model's logits must be a dense floating point tensor on the run's device");
  const auto [low, high] = at::aminmax(logits);  // NaN anywhere makes both NaN
  if (!std::isfinite(low.item<double>()) || !std::isfinite(high.item<double>()))
    refuse("the model's logits are not finite");
}

}  // namespace

struct Graph::Impl {
  std::shared_ptr<jit::Graph> graph;  // an Operation may refer to its node
  std::vector<c10::IValue> slots;     // constants in place, the rest empty
  std::vector<Step> steps;
  size_t ids = 0, logits = 0;
  int64_t rows, seq_len, vocab_size;
  at::Device device;

  explicit Impl(const SealedModel& model)
      : rows(model.rows),
        seq_len(model.seq_len),
        vocab_size(model.vocab_size),
        device(model.device) {
    graph = parse(model.graph);
    if (graph->inputs().size() != 1 + model.tensors.size() || graph->outputs().size() != 1)
      refuse("the sealed graph and its tensors don't belong together");
    ids = slot_of(graph->inputs()[0]);
    for (size_t i = 0; i < model.tensors.size(); i++)
      slots[slot_of(graph->inputs()[1 + i])] = model.tensors[i];
    for (jit::Node* node : graph->nodes()) add(node);
    logits = slot_of(graph->outputs()[0]);
    find_last_uses();
  }

  size_t slot_of(const jit::Value* value) {
    const auto [it, fresh] = slot_.try_emplace(value, slots.size());
    if (fresh) slots.emplace_back();
    return it->second;
  }

  void add(jit::Node* node) {
    if (!node->blocks().empty()) refuse_operator(node->kind().toQualString());
    if (node->kind() == jit::prim::Constant) {
      slots[slot_of(node->output())] = constant(*node, device);
      constants_.insert(node->output());
      return;
    }
    if (node->hasAttributes()) refuse("the sealed graph has an attribute outside a constant");
    Step step;
    step.name = node->kind().toQualString();
    if (node->kind() == jit::prim::ListConstruct) {
      step.kind = Step::kList;
      step.element = node->output()->type()->expectRef<c10::ListType>().getElementType();
    } else if (node->kind() == jit::prim::ListUnpack) {
      step.kind = Step::kUnpack;
    } else {
      const jit::Operator& found = check_operator(*node);
      check_arguments(*node, found.schema(), [this](const jit::Value* value) {
        return constants_.contains(value) ? &slots[slot_of(value)] : nullptr;
      });
      step.run = found.getOperation(node);
    }
    for (const jit::Value* input : node->inputs()) step.in.push_back(slot_of(input));
    for (const jit::Value* output : node->outputs()) step.out.push_back(slot_of(output));
    steps.push_back(std::move(step));
  }

  // A value is let go right after its last use: the memory that counts is activations.
  void find_last_uses() {
    std::unordered_set<size_t> needed{logits};
    for (auto step = steps.rbegin(); step != steps.rend(); ++step) {
      for (size_t& slot : step->out)
        if (!needed.contains(slot)) slot = kUnused;
      for (const size_t slot : step->in)
        if (needed.insert(slot).second) step->dead.push_back(slot);
    }
  }

  std::unordered_map<const jit::Value*, size_t> slot_;
  std::unordered_set<const jit::Value*> constants_;
};

Graph::Graph(const SealedModel& model) try : impl_(std::make_unique<Impl>(model)) {
} catch (const Error&) {
  throw;
} catch (const std::exception& e) {
  refuse("the sealed graph can't be read: " + first_line(e));
}

Graph::~Graph() = default;

at::Tensor Graph::operator()(const at::Tensor& ids) const {
  if (ids.sizes() != at::IntArrayRef{impl_->rows, impl_->seq_len} || ids.scalar_type() != at::kLong)
    refuse("a sealed model takes ids at exactly the shape that it was traced at");
  const c10::InferenceMode inference;
  // Casts of the autocast that the live model ran under are in the graph already.
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
  std::vector<c10::IValue> slots = impl_->slots;
  slots[impl_->ids] = ids.clone();
  for (const Step& step : impl_->steps) run_step(step, slots);
  if (!slots[impl_->logits].isTensor()) refuse("the sealed graph doesn't return a tensor");
  const at::Tensor logits = slots[impl_->logits].toTensor();
  check_logits(logits, ids, impl_->vocab_size);
  return logits;
}

}  // namespace autoresearch
