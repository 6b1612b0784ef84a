#include "harness/trace.h"

#include <ATen/core/grad_mode.h>
#include <torch/csrc/jit/frontend/tracer.h>
#include <torch/csrc/jit/ir/ir.h>

#include <cmath>
#include <map>
#include <tuple>

#include "referee/refusal.h"

namespace autoresearch {
namespace {

namespace jit = torch::jit;

bool contains(std::string_view text, std::string_view word) { return text.find(word) != text.npos; }

// What the tracer can't do, told in terms of the function that was handed over.
[[noreturn]] void explain_trace_failure(const std::exception& e) {
  const std::string what = first_line(e);
  if (what.find("requires grad as a constant") != what.npos)
    refuse(
        "the model can't be traced: the logits function reads a tensor that requires gradients "
        "(at::NoGradGuard doesn't change that); read parameter.variable_data() there, or call "
        "parameter.set_requires_grad(false) before and (true) after");
  if (contains(what, "We don't have an op for") && contains(what, "bool"))
    refuse("the model can't be traced: a bool stands where a number belongs (write 1 for true); " +
           what.substr(what.find("We don't have")));
  refuse("the model can't be traced: " + what);
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

}  // namespace autoresearch
