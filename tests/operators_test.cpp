// The list of operators: every entry can be traced, and no call of one reads what isn't its own.
#include "referee/operators.h"

#include <gtest/gtest.h>
#include <torch/csrc/jit/frontend/tracer.h>
#include <torch/csrc/jit/ir/irparser.h>

#include <set>

#include "tests/operator_examples.h"

namespace autoresearch {
namespace {

namespace jit = torch::jit;

void add_names(const jit::Graph& graph, std::set<std::string>& names) {
  for (const jit::Node* node : graph.nodes())
    if (const jit::Operator* found = node->maybeOperator())
      names.insert(found->schema().name() + (found->schema().overload_name().empty() ? "" : ".") +
                   found->schema().overload_name());
}

// The operators that the tracer writes for an example: as they are read from a sealed file.
std::set<std::string> traced(const Example& example) {
  std::shared_ptr<jit::tracer::TracingState> state;
  const auto watched = [&](const Operands& operands) {
    state = jit::tracer::getTracingState();
    return example.call(operands);
  };
  std::set<std::string> names;
  try {
    jit::Graph graph;
    jit::parseIR(sealed_call(watched).graph, &graph);
    add_names(graph, names);
  } catch (const Error&) {  // only a GPU can compute it; it is recorded before it fails
    add_names(*state->graph, names);
  }
  return names;
}

bool needs_gpu(const std::string& name) {
  return name.ends_with(".dtype") || name == "_flash_attention_forward";
}

TEST(Operators, EveryEntryOfTheListIsWrittenByTheTracerAndNothingElseIsOnIt) {
  std::set<std::string> written;
  for (const Example& example : kOperatorExamples) {
    const auto names = traced(example);
    EXPECT_TRUE(names.contains(std::string("aten::") + example.name))
        << example.name << " -> " << testing::PrintToString(names);
    written.insert(std::string("aten::") + example.name);
  }
  const std::vector<std::string> list = operator_names();
  EXPECT_EQ(written, std::set<std::string>(list.begin(), list.end()));
}

TEST(Operators, EveryExampleRunsSealed) {
  for (const Example& example : kOperatorExamples) {
    if (needs_gpu(example.name)) continue;
    EXPECT_NO_THROW(Graph(sealed_call(example.call))(at::zeros({1, 1}, at::kLong))) << example.name;
  }
}

}  // namespace
}  // namespace autoresearch
