#include "referee/graph.h"

#include <c10/core/InferenceMode.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/ir/ir.h>
#include <torch/csrc/jit/ir/irparser.h>

#include <algorithm>
#include <cmath>
#include <sstream>
#include <unordered_map>
#include <unordered_set>

#include "referee/arguments.h"
#include "referee/operators.h"
#include "referee/refusal.h"

namespace autoresearch {

namespace jit = torch::jit;

void check_shape(const at::Tensor& logits, at::IntArrayRef wanted) {
  if (!logits.defined() || logits.sizes() != wanted) {
    std::ostringstream text;
    text << "the model's logits have the shape "
         << (logits.defined() ? logits.sizes() : at::IntArrayRef{}) << "; the task needs " << wanted
         << " (rows, seq_len, vocab_size)";
    refuse(text.str());
  }
}

int64_t scoring_rows_on_cpu(int64_t seq_len) {
  // 2,048 tokens a batch keep a small model's activations in the cache.
  return std::clamp<int64_t>(2048 / seq_len, 1, kMostScoringRows);
}

void set_precision(at::Device device) {
  at::globalContext().setFloat32MatmulPrecision(device.is_cuda() ? "high" : "highest");
}

namespace {

constexpr int kMaxTextNesting = 32;  // brackets in the IR text: its parser recurses

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
    if (text.find(name) != text.npos) refuse_operator(name);
  if (text.find("block") != text.npos)
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
      step.run = checked_operation(*node);
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
  // What the caller writes to its logits must not reach the next call by a tensor of the model.
  const bool shared = std::any_of(impl_->slots.begin(), impl_->slots.end(), [&](auto& slot) {
    return slot.isTensor() && slot.toTensor().is_alias_of(logits);
  });
  return shared ? logits.clone() : logits;
}

}  // namespace autoresearch
