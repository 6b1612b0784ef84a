// The fused operations against their ATen twins in double precision, over odd shapes, with their
// gradients; and the check that turns wrong ones off.
#include <ATen/Parallel.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/grad_mode.h>
#include <ATen/record_function.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/jit/frontend/tracer.h>
#include <torch/csrc/jit/ir/ir.h>

#include <cmath>
#include <limits>
#include <map>

#include "common/error.h"
#include "kernels/fused_check.h"
#include "tests/support.h"

namespace autoresearch {
namespace {

using at::Tensor;
using Tensors = std::vector<Tensor>;

// An operation, from its differentiable operands to its results.
using Computation = std::function<Tensors(const Tensors&)>;

// Results, then the operands' gradients of their weighted sum.
Tensors run(const Computation& operation, const Fused* fused, const Tensors& operands,
            at::ScalarType type) {
  Tensors leaves;
  for (const Tensor& x : operands) leaves.push_back(x.detach().to(type).requires_grad_());
  const UseWays use({fused});
  Tensors all = operation(leaves);
  Tensor sum = at::zeros({}, at::kDouble);
  for (size_t i = 0; i < all.size(); ++i) {
    const Tensor weights =
        at::arange(all[i].numel(), at::kDouble).add(1.0 + i).mul(0.7).cos().add(0.6);
    sum = sum + (all[i].to(at::kDouble) * weights.view_as(all[i])).sum();
  }
  sum.backward();
  for (const Tensor& x : leaves) all.push_back(x.grad());
  return all;
}

double relative_difference(const Tensor& actual, const Tensor& expected) {
  const Tensor e = expected.detach().to(at::kDouble);
  return ((actual.detach().to(at::kDouble) - e).norm() / e.norm().clamp_min(1)).item<double>();
}

// Equal to the twin in double, up to the rounding of the type that is fused.
void expect_twin(const Computation& operation, const Tensors& operands) {
  for (const auto& [type, tolerance] : {std::pair{at::kFloat, 5e-6}, {at::kBFloat16, 1e-2}}) {
    Tensors rounded;
    for (const Tensor& x : operands) rounded.push_back(x.to(type));
    const Tensors actual = run(operation, &fused_cpu(), rounded, type);
    const Tensors expected = run(operation, nullptr, rounded, at::kDouble);
    ASSERT_EQ(actual.size(), expected.size());
    for (size_t i = 0; i < actual.size(); ++i) {
      EXPECT_EQ(actual[i].sizes(), expected[i].sizes());
      EXPECT_LT(relative_difference(actual[i], expected[i]), tolerance) << type << ", tensor " << i;
    }
  }
}

// Not around 0, so that no sum is much smaller than what it is made of.
Tensor randn(at::IntArrayRef sizes) { return at::randn(sizes, at::kDouble).add(0.5); }

class Rows : public ::testing::TestWithParam<std::pair<int64_t, int64_t>> {
 protected:
  void SetUp() override { at::manual_seed(5); }
  const int64_t N = GetParam().first, C = GetParam().second;
};

TEST_P(Rows, RmsNorm) {
  expect_twin([](auto& in) { return Tensors{rms_norm(in[0])}; }, {randn({N, C})});
}

TEST_P(Rows, MixNorm) {
  expect_twin(
      [](auto& in) {
        const auto [y, normed, x0] = mix_norm(in[0], in[1], in[2], in[3]);
        return Tensors{y, normed};
      },
      {randn({N, C}), randn({N, C}), at::scalar_tensor(0.9, at::kDouble),
       at::scalar_tensor(-0.4, at::kDouble)});
}

TEST_P(Rows, ReluSquared) {
  expect_twin([](auto& in) { return Tensors{relu_squared(in[0])}; }, {randn({N, C})});
}

TEST_P(Rows, SoftcapCrossEntropy) {
  const Tensor targets = at::arange(N).mul(13).remainder(C + 2);
  expect_twin([&](auto& in) { return Tensors{softcap_cross_entropy(in[0], in[1], targets, 3)}; },
              {randn({N, 6}), randn({C + 2, 6})});
}

TEST_P(Rows, EmbeddingSumsOverEveryUseOfARow) {
  for (const int64_t used : {int64_t{1}, C + 2}) {  // one row for all, or each now and then
    const Tensor ids = at::arange(N).mul(13).remainder(used).view({1, N});
    expect_twin([&](auto& in) { return Tensors{embedding(in[0], Ids(ids), in[0].scalar_type())}; },
                {randn({C + 2, 11})});
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, Rows,
                         ::testing::Values(std::pair{1, 3}, std::pair{1, 7}, std::pair{1, 16},
                                           std::pair{3, 17}, std::pair{65, 48}, std::pair{130, 100},
                                           std::pair{300, 256}));

struct HeadShape {
  int64_t B, T, H, D;
};

class HeadsOf : public ::testing::TestWithParam<HeadShape> {};

TEST_P(HeadsOf, RopeNormGate) {
  const auto [B, T, H, D] = GetParam();
  at::manual_seed(5);
  const int64_t V = 12;
  const Tensor angle = randn({T + 3, D / 2});
  const Tensor ids = at::arange(B * T).mul(5).remainder(V).view({B, T});
  const auto results = [](const QueriesKeysValues& r) { return Tensors{r.q, r.k, r.v}; };
  const auto rope = [&](const Tensor& like) {
    return Rope{angle.cos().to(at::kBFloat16).to(like.scalar_type()),
                angle.sin().to(at::kBFloat16).to(like.scalar_type())};
  };
  const Tensor qkv = randn({B, T, 3, H, D});
  expect_twin([&](auto& in) { return results(rope_norm_gate(in[0], rope(in[0]), {})); }, {qkv});
  expect_twin(
      [&](auto& in) {
        return results(rope_norm_gate(in[0], rope(in[0]), {in[1], in[2], Ids(ids)}));
      },
      {qkv, randn({V, H * D}), randn({B, T, H})});
}

INSTANTIATE_TEST_SUITE_P(Shapes, HeadsOf,
                         ::testing::Values(HeadShape{1, 1, 1, 2}, HeadShape{2, 5, 3, 6},
                                           HeadShape{1, 9, 2, 32}, HeadShape{3, 4, 1, 50},
                                           HeadShape{2, 40, 2, 128}));

TEST(Ways, ATableKeepsItsOwnType) {
  at::manual_seed(5);
  const Tensor table = at::randn({9, 20}).to(at::kBFloat16), ids = at::arange(6).view({2, 3});
  const auto gradient = [&](const Fused* fused) {
    const Tensor leaf = table.clone().requires_grad_();
    const UseWays use({fused});
    embedding(leaf, Ids(ids), at::kFloat).square().sum().backward();
    return leaf.grad();
  };
  EXPECT_EQ(gradient(&fused_cpu()).scalar_type(), at::kBFloat16);
  EXPECT_LT(relative_difference(gradient(&fused_cpu()), gradient(nullptr)), 1e-2);
}

TEST(Ways, MuonsPartsEqualTheirTwins) {
  at::manual_seed(5);
  for (const auto& [rows, cols] : {std::pair{1, 1}, {7, 1}, {5, 33}, {48, 16}}) {
    const Tensor grad = at::randn({3, rows, cols}), momentum = at::randn({3, rows, cols});
    const Tensor one = at::randn({rows, cols}), two = at::randn({2, rows, cols});
    for (const int64_t dim : {1, 2}) {
      const Tensor second = at::rand({3, dim == 1 ? 1 : rows, dim == 2 ? 1 : cols});
      const auto results = [&](const Fused* fused) {
        const UseWays use({fused});
        const auto [next, update] = nesterov(grad, momentum, 0.9, at::kFloat);
        const auto [moment, scale] = normalize_update(grad, second, dim, 0.95);
        const Tensors weights{one.clone(), two.clone()};
        cautious_step({{weights, grad, second, 0.1, 0.02}});
        return Tensors{next, update, moment, scale, weights[0], weights[1]};
      };
      const Tensors actual = results(&fused_cpu()), expected = results(nullptr);
      for (size_t i = 0; i < actual.size(); ++i)
        EXPECT_LT(relative_difference(actual[i], expected[i]), 1e-6) << i;
      EXPECT_FALSE(at::equal(actual[4], one));
    }
  }
}

TEST(Ways, SoftcapHoldsForLogitsFarBeyondTheCap) {
  const Tensor x = at::tensor({-1e4, 3e3, 0.0, 1e-3}).view({4, 1}), head = at::ones({5, 1});
  const Tensor wide = head * at::arange(5).view({5, 1}).sub(2),
               targets = at::tensor({0, 4, 1, 2}, at::kLong);
  const auto loss = [&](const Fused* fused, at::ScalarType type) {
    const Tensor leaf = x.to(type).requires_grad_();
    const UseWays use({fused});
    return softcap_cross_entropy(leaf, wide.to(type), targets, 15).item<double>();
  };
  EXPECT_NEAR(loss(&fused_cpu(), at::kFloat), loss(nullptr, at::kDouble), 1e-5);
}

TEST(Ways, ThreadsDoNotChangeABit) {
  at::manual_seed(5);
  const Tensor x = at::randn({1000, 96}), x0 = at::randn({1000, 96}), g = at::randn({1000, 96});
  const auto gradients = [&](int threads) {
    at::set_num_threads(threads);
    const Tensors leaves{x.clone().requires_grad_(), x0.clone().requires_grad_(),
                         at::scalar_tensor(0.9).requires_grad_(),
                         at::scalar_tensor(0.1).requires_grad_()};
    const auto [y, n, x0] = mix_norm(leaves[0], leaves[1], leaves[2], leaves[3]);
    ((y + n) * g).sum().backward();
    at::set_num_threads(1);
    return Tensors{leaves[0].grad(), leaves[1].grad(), leaves[2].grad(), leaves[3].grad()};
  };
  const Tensors one = gradients(1), two = gradients(2);
  for (size_t i = 0; i < one.size(); ++i) EXPECT_TRUE(at::equal(one[i], two[i])) << i;
}

// ------------------------------------------------------------------------------------------------
// What is not a number

// One element of each operand in turn is spoilt: what becomes of the results, and of the gradients,
// is what becomes of the twin's.
void expect_spoilt_like_twin(const Computation& operation, const Tensors& operands) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  for (const Loops* loops : usable_loops()) {
    const auto fused = fused_cpu_with(*loops);
    for (const double bad : {std::nan(""), kInfinity, -kInfinity}) {
      for (size_t spoilt = 0; spoilt < operands.size(); ++spoilt) {
        Tensors in;
        for (const Tensor& x : operands) in.push_back(x.clone());
        in[spoilt].view({-1})[0].fill_(bad);
        const Tensors actual = run(operation, fused.get(), in, at::kFloat);
        const Tensors expected = run(operation, nullptr, in, at::kFloat);
        for (size_t i = 0; i < expected.size(); ++i)
          EXPECT_TRUE(at::equal(actual[i].isfinite(), expected[i].isfinite()))
              << bad << " in operand " << spoilt << ", tensor " << i;
      }
    }
  }
}

TEST(NotANumber, PassesThroughEveryOperationAsThroughItsTwin) {
  at::manual_seed(5);
  const Tensor a = at::scalar_tensor(0.9, at::kDouble), angle = randn({4, 9});
  const Tensor ids = at::arange(8).remainder(5).view({2, 4});
  expect_spoilt_like_twin([](auto& in) { return Tensors{rms_norm(in[0])}; }, {randn({3, 37})});
  expect_spoilt_like_twin(
      [](auto& in) {
        const auto [y, normed, x0] = mix_norm(in[0], in[1], in[2], in[3]);
        return Tensors{y, normed};
      },
      {randn({3, 37}), randn({3, 37}), a, a});
  expect_spoilt_like_twin([](auto& in) { return Tensors{relu_squared(in[0])}; }, {randn({3, 37})});
  expect_spoilt_like_twin(
      [&](auto& in) { return Tensors{softcap_cross_entropy(in[0], in[1], ids, 3)}; },
      {randn({2, 4, 6}), randn({5, 6})});
  expect_spoilt_like_twin([&](auto& in) { return Tensors{embedding(in[0], Ids(ids), at::kFloat)}; },
                          {randn({5, 11})});
  expect_spoilt_like_twin(
      [&](auto& in) {
        const Rope rope{angle.cos().to(at::kFloat), angle.sin().to(at::kFloat)};
        const auto r = rope_norm_gate(in[0], rope, {in[1], in[2], Ids(ids)});
        return Tensors{r.q, r.k, r.v};
      },
      {randn({2, 4, 3, 2, 18}), randn({5, 36}), randn({2, 4, 2})});
}

TEST(NotANumber, PassesThroughMuonsParts) {
  at::manual_seed(5);
  for (const int64_t dim : {1, 2}) {
    const Tensor good = at::randn({2, 5, 7}), bad = good.clone();
    bad.view({-1})[0].fill_(std::nan(""));
    const Tensor second = at::rand({2, dim == 1 ? 1 : 5, dim == 2 ? 1 : 7});
    const auto spoilt = [&](const Fused* fused) {
      const UseWays use({fused});
      Tensor bad_second = second.clone();
      bad_second.view({-1})[0].fill_(std::nan(""));
      const auto a = nesterov(bad, good, 0.9, at::kFloat);
      const auto b = nesterov(good, bad, 0.9, at::kFloat);
      const auto c = normalize_update(bad, second, dim, 0.95);
      const auto d = normalize_update(good, bad_second, dim, 0.95);
      Tensors all{a.momentum, a.update, b.momentum, b.update, c.second, c.scale, d.second, d.scale};
      for (const Tensor& update : {good, bad})
        for (const Tensor& weight : {good, bad})
          for (const Tensor& scale : {second, bad_second}) {
            all.push_back(weight.clone());
            cautious_step({{{all.back()}, update, scale, 0.1, 0.02}});
          }
      return all;
    };
    const Tensors expected = spoilt(nullptr);
    for (const Loops* loops : usable_loops()) {
      const Tensors actual = spoilt(fused_cpu_with(*loops).get());
      for (size_t i = 0; i < expected.size(); ++i)
        EXPECT_TRUE(at::equal(actual[i].isnan(), expected[i].isnan())) << dim << ", tensor " << i;
    }
  }
}

// ------------------------------------------------------------------------------------------------
// The check

// The CPU's, but for one operation.
class WrongFused : public Fused {
 public:
  explicit WrongFused(std::string wrong) : wrong_(std::move(wrong)) {}

  Normed rms_norm(const Tensor& x) const override {
    auto result = right_.rms_norm(x);
    if (wrong_ == "rms_norm") result.normed.mul_(1.01);
    return result;
  }
  Tensor rms_norm_backward(const Tensor& g, const Tensor& n, const Tensor& rstd,
                           const Tensor& others) const override {
    if (wrong_ == "rms_norm_backward") return g.clone();
    return right_.rms_norm_backward(g, n, rstd, wrong_ == "add_norm" ? Tensor() : others);
  }
  MixNormed mix_norm(const Tensor& x, const Tensor& x0, const Tensor& a,
                     const Tensor& b) const override {
    return right_.mix_norm(x, x0, a, b);
  }
  MixNormGrads mix_norm_backward(const Tensor& gy, const Tensor& gn, const Tensor& x,
                                 const Tensor& x0, const Tensor& n, const Tensor& rstd,
                                 const Tensor& a, const Tensor& b,
                                 const Tensor& others) const override {
    auto result =
        right_.mix_norm_backward(gy, gn, x, x0, n, rstd, a, b, wrong_ == "x0" ? Tensor() : others);
    if (wrong_ == "mix_norm") result.b.neg_();
    return result;
  }
  Heads rope_norm_gate(const Tensor& qkv, const Rope& rope,
                       const ValueEmbedding& e) const override {
    if (wrong_ == "rope_norm_gate") throw std::runtime_error("no such kernel");
    return right_.rope_norm_gate(qkv, rope, e);
  }
  HeadsGrads rope_norm_gate_backward(const Tensor& gq, const Tensor& gk, const Tensor& gv,
                                     const Tensor& q, const Tensor& k, const Tensor& rstd,
                                     const Rope& rope, const ValueEmbedding& e) const override {
    return right_.rope_norm_gate_backward(gq, gk, gv, q, k, rstd, rope, e);
  }
  Tensor relu_squared(const Tensor& x) const override {
    const Tensor y = right_.relu_squared(x);
    const bool half = x.scalar_type() == at::kBFloat16;
    return wrong_ == "relu_squared in bfloat16" && half ? y * 1.05 : y;
  }
  Tensor relu_squared_backward(const Tensor& g, const Tensor& y) const override {
    return right_.relu_squared_backward(g, y);
  }
  Tensor softcap_cross_entropy(Tensor& logits, const Tensor& targets, double cap,
                               double scale) const override {
    if (wrong_ == "softcap_cross_entropy") cap *= 1.05;
    return right_.softcap_cross_entropy(logits, targets, cap, scale);
  }
  Tensor embedding_backward(const Tensor& g, const Tensor& sorted, const Tensor& order, int64_t V,
                            at::ScalarType type) const override {
    if (wrong_ == "embedding") return right_.embedding_backward(g, sorted, sorted, V, type);
    return right_.embedding_backward(g, sorted, order, V, type);
  }
  Momentum nesterov(const Tensor& g, const Tensor& m, double mu,
                    at::ScalarType type) const override {
    return right_.nesterov(g, m, mu, type);
  }
  SecondMoment normalize_update(const Tensor& u, const Tensor& second, int64_t dim,
                                double beta2) const override {
    return right_.normalize_update(u, second, dim, beta2);
  }
  void cautious_step(at::TensorList weights, const Tensor& u, const Tensor& scale, double lr,
                     double decay) const override {
    right_.cautious_step(weights, u, scale, lr, wrong_ == "cautious_step" ? 2 * decay : decay);
  }

 private:
  const Fused& right_ = fused_cpu();
  std::string wrong_;
};

// What the check finds in both types, "name: what" a line.
std::string findings(const Ways& ways) {
  std::string text;
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16})
    for (const auto& [operation, what] : disagreements(ways, at::kCPU, type))
      text += std::string(name_of(operation)) + ": " + what + "\n";
  return text;
}

TEST(Check, TrustsTheCpusOperations) {
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
    const Trusted here = trusted_on(at::kCPU, type);
    EXPECT_EQ(here.ways.fused, &fused_cpu());
    EXPECT_TRUE(here.ways.twins.none());
    EXPECT_EQ(here.warning, "");
  }
}

TEST(Check, FindsOutAboutTheTypeInUseAlone) {
  const WrongFused fused("relu_squared in bfloat16");
  EXPECT_TRUE(trusted(&fused, at::kCPU, at::kFloat).ways.twins.none());
  EXPECT_FALSE(trusted(&fused, at::kCPU, at::kBFloat16).ways.twins.none());
  EXPECT_EQ(&trusted_on(at::kCPU, at::kDouble), &trusted_on(at::kCPU, at::kFloat));
}

TEST(Loops, OfEveryLevelAgreeWithTheTwins) {
  for (const Loops* loops : usable_loops()) {
    const std::unique_ptr<Fused> fused = fused_cpu_with(*loops);
    EXPECT_EQ(findings({fused.get()}), "");
  }
}

TEST(Loops, OfEveryLevelAttendAlike) {
  at::manual_seed(5);
  const int64_t window = 21;
  for (const int64_t D : {16, 24, 40, 64}) {
    const Tensor q = at::randn({2, 70, 4, D}), k = at::randn({2, 70, 2, D});
    const Tensor v = at::randn({2, 70, 2, D}), grad = at::randn({2, 70, 4, D});
    const auto results = [&](const Loops& loops) {
      const Attention forward = attention_cpu(q, k, v, window, loops);
      const auto grads = attention_cpu_backward(grad, q, k, v, forward, window, loops);
      return Tensors{forward.out, forward.lse, grads.q, grads.k, grads.v};
    };
    const Tensors expected = results(*usable_loops()[0]);
    for (const Loops* loops : usable_loops()) {
      const Tensors actual = results(*loops);
      for (size_t i = 0; i < actual.size(); ++i)
        EXPECT_LT(relative_difference(actual[i], expected[i]), 1e-5) << D << ", tensor " << i;
    }
  }
}

TEST(Check, LeavesEachWrongOperationToItsTwinAndNamesIt) {
  // What is wrong, and which operations show it: tables have their gradient in two of them.
  const std::vector<std::pair<std::string, std::vector<Operation>>> cases{
      {"rms_norm", {Operation::kRmsNorm}},
      {"rms_norm_backward", {Operation::kRmsNorm}},
      {"add_norm", {Operation::kRmsNorm}},
      {"mix_norm", {Operation::kMixNorm}},
      {"x0", {Operation::kMixNorm}},
      {"rope_norm_gate", {Operation::kRopeNormGate}},
      {"relu_squared in bfloat16", {Operation::kReluSquared}},
      {"softcap_cross_entropy", {Operation::kSoftcapCrossEntropy}},
      {"embedding", {Operation::kRopeNormGate, Operation::kEmbedding}},
      {"cautious_step", {Operation::kCautiousStep}}};
  for (const auto& [wrong, operations] : cases) {
    const WrongFused fused(wrong);
    Operations expected;
    for (const Operation operation : operations) {
      expected.set(static_cast<size_t>(operation));
      EXPECT_NE(findings({&fused}).find(name_of(operation)), std::string::npos);
    }
    const bool in_half = wrong.ends_with("bfloat16");
    const Trusted result = trusted(&fused, at::kCPU, in_half ? at::kBFloat16 : at::kFloat);
    EXPECT_EQ(result.ways.twins, expected) << wrong << ": " << result.warning;
    EXPECT_NE(result.warning.find(name_of(operations[0])), std::string::npos) << result.warning;
  }
}

TEST(Check, TellsWhatFailedInOneLine) {
  const WrongFused fused("rope_norm_gate");
  EXPECT_EQ(trusted(&fused, at::kCPU, at::kFloat).warning,
            "plain ATen computes rope_norm_gate on cpu, slower than fused operations, because the "
            "first of them failed: no such kernel");
}

TEST(Check, CoversAttentionInBothTypesAndItsTwinIsMaskedAttention) {
  static std::map<at::ScalarType, int> calls;
  calls.clear();
  const auto count = [](const at::RecordFunction& f) -> std::unique_ptr<at::ObserverContext> {
    if (f.name() == std::string("CpuAttention")) ++calls[f.inputs()[0].toTensor().scalar_type()];
    return nullptr;
  };
  const auto handle =
      at::addThreadLocalCallback(at::RecordFunctionCallback(count).needsInputs(true));
  EXPECT_EQ(findings({&fused_cpu()}), "");
  at::removeCallback(handle);
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16})
    EXPECT_EQ(calls[type], 6) << "three windows, two sizes";

  const Ways masked{&fused_cpu(), Operations().set(static_cast<size_t>(Operation::kAttention))};
  const Tensor q = at::ones({1, 9, 2, 8}).requires_grad_();
  const auto name = [&](const Ways& ways) {
    const UseWays use(ways);
    return windowed_attention(q, q, q, 3).grad_fn()->name();
  };
  EXPECT_NE(name({&fused_cpu()}).find("CpuAttention"), std::string::npos);
  EXPECT_EQ(name(masked).find("CpuAttention"), std::string::npos);
}

TEST(Check, IsNoPartOfATraceThatMeetsItFirst) {
  const auto [state, output] = torch::jit::tracer::trace(
      {at::ones({3})},
      [](const torch::jit::Stack& inputs) -> torch::jit::Stack {
        disagreements({&fused_cpu()}, at::kCPU, at::kFloat);
        return {inputs[0].toTensor() * 2};
      },
      [](const at::Tensor&) { return ""; });
  int nodes = 0;
  for (const auto* node : state->graph->nodes()) nodes += node->kind() != at::prim::Constant;
  EXPECT_EQ(nodes, 1) << state->graph->toString();
}

TEST(Check, LeavesTheRandomNumbersAlone) {
  at::manual_seed(5);
  const Tensor expected = at::randn({4});
  at::manual_seed(5);
  disagreements({&fused_cpu()}, at::kCPU, at::kFloat);
  EXPECT_TRUE(at::equal(at::randn({4}), expected));
}

TEST(Kernels, WithoutGradientsAreTheTwins) {
  at::manual_seed(5);
  const Tensor x = at::randn({2, 3, 20}), x0 = at::randn({2, 3, 20});
  const Tensor a = at::scalar_tensor(0.7), b = at::scalar_tensor(0.2);
  const at::NoGradGuard no_grad;
  const auto results = [&] {
    return Tensors{rms_norm(x), relu_squared(x), mix_norm(x, x0, a, b).normed};
  };
  const Tensors actual = results();
  const UseWays use({nullptr});
  const Tensors expected = results();
  for (size_t i = 0; i < actual.size(); ++i) EXPECT_TRUE(at::equal(actual[i], expected[i])) << i;
  EXPECT_FALSE(Ids(at::zeros({1, 2}, at::kLong)).sorted().defined());
}

// The loss of a residual step of operands that autograd knows, and whether it was made in place.
struct Added {
  Tensors grads;
  Tensor sum;
  bool in_place;
};
Added added(const Tensors& start, const std::function<Tensor(Tensor, Tensor, Tensor)>& add) {
  Tensors leaves;
  for (const Tensor& x : start) leaves.push_back(x.clone().requires_grad_());
  Tensor x = leaves[0] * 2;
  const void* const memory = x.data_ptr();
  Tensor sum = add(std::move(x), leaves[1].cos(), leaves[2]);
  const bool in_place = sum.data_ptr() == memory;
  (sum.to(at::kDouble) * at::arange(sum.numel()).cos().view_as(sum)).sum().backward();
  Tensors grads;
  for (const Tensor& leaf : leaves) grads.push_back(leaf.grad());
  return {grads, sum.detach(), in_place};
}

TEST(AddLinear, WritesOverAnOperandThatIsGivenUpAndHasTheGradientsOfTheSum) {
  at::manual_seed(5);
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
    const Tensors start{at::randn({2, 5, 6}).to(type), at::randn({2, 5, 9}).to(type),
                        at::randn({6, 9}).to(type)};
    const Added got =
        added(start, [](Tensor x, Tensor h, Tensor w) { return add_linear(std::move(x), h, w); });
    const Added expected =
        added(start, [](Tensor x, Tensor h, Tensor w) { return x + at::linear(h, w); });
    EXPECT_TRUE(got.in_place);
    const double tolerance = type == at::kFloat ? 1e-6 : 1e-2;
    EXPECT_LT(relative_difference(got.sum, expected.sum), tolerance);
    for (size_t i = 0; i < start.size(); ++i)
      EXPECT_LT(relative_difference(got.grads[i], expected.grads[i]), tolerance) << i;
  }
}

// x given up to add_linear by somebody who made it with `make` and kept what that returns beside
// it.
using Made = std::pair<Tensor, std::function<Tensor()>>;  // x, and what must stay as it is
void expect_kept(const char* who, const std::function<Made()>& make) {
  at::manual_seed(5);
  const Tensor w = at::randn({6, 3});
  auto [x, kept] = make();
  std::vector<int64_t> sizes = x.sizes().vec();
  sizes.back() = 3;
  const Tensor h = at::randn(sizes);
  const Tensor before = kept().detach().clone(), start = x.detach().clone();
  const Tensor sum = add_linear(std::move(x), h, w);
  EXPECT_TRUE(at::equal(kept().detach(), before)) << who;
  EXPECT_LT(relative_difference(sum, start + at::linear(h, w)), 1e-6) << who;
}

TEST(AddLinear, LeavesAnOperandAloneThatAnybodyElseHolds) {
  const Tensor leaf = at::randn({4, 6}).requires_grad_();
  expect_kept("a handle", [&]() -> Made {
    const Tensor x = leaf * 2;
    return {x, [x] { return x; }};
  });
  expect_kept("a view", [&]() -> Made {
    Tensor x = leaf * 2;
    return {x, [view = x.view({24})] { return view; }};
  });
  expect_kept("the same memory without a history", [&]() -> Made {
    Tensor x = leaf * 2;
    const Tensor detached = x.detach();
    return {std::move(x), [detached] { return detached; }};
  });
  expect_kept("a view that outlives its base", [&]() -> Made {
    Tensor x = leaf * 2, detached = x.detach().narrow(0, 1, 2);
    return {std::move(x), [detached] { return detached; }};
  });
  expect_kept("autograd, by what made it", [&]() -> Made {  // the gradient of exp is its result
    const Tensor start = at::zeros({4, 6}).requires_grad_();
    Tensor x = start.exp();
    return {std::move(x), [node = x.grad_fn(), start] { return start.exp(); }};
  });
  expect_kept("nobody, but its rows are no matrix", [&]() -> Made {
    return {at::empty_strided({2, 3, 6}, {6, 12, 1}).normal_(), [] { return at::zeros({}); }};
  });
  expect_kept("nobody, but it is strided", [&]() -> Made {
    return {at::empty_strided({4, 6}, {1, 4}).fill_(0.5), [] { return at::zeros({}); }};
  });
}

TEST(AddLinear, GradientsOfWhatMadeTheOperandAreRight) {
  at::manual_seed(5);
  const Tensor h = at::randn({4, 3}), w = at::randn({6, 3}), start = at::randn({4, 6});
  const auto gradient = [&](const std::function<Tensor(Tensor)>& add) {
    const Tensor leaf = start.clone().requires_grad_();
    Tensor x = leaf.exp();
    add(std::move(x)).square().sum().backward();
    return leaf.grad();
  };
  EXPECT_LT(relative_difference(gradient([&](Tensor x) { return add_linear(std::move(x), h, w); }),
                                gradient([&](Tensor x) { return x + at::linear(h, w); })),
            1e-6);
}

TEST(AddLinear, ALeafThatIsGivenUpStaysALeaf) {
  const Tensor h = at::randn({4, 3}), w = at::randn({6, 3});
  Tensor leaf = at::randn({4, 6}).requires_grad_();
  EXPECT_TRUE(add_linear(std::move(leaf), h, w).requires_grad());
}

TEST(AddLinear, IsFunctionalWhereGradientsAreOff) {
  const Tensor h = at::randn({4, 3}), w = at::randn({6, 3});
  const at::NoGradGuard no_grad;
  Tensor x = at::randn({4, 6});
  const void* const memory = x.data_ptr();
  EXPECT_NE(add_linear(std::move(x), h, w).data_ptr(), memory) << "a trace must not see it";
}

TEST(AddLinear, KeepsAStreamThatIsWiderThanAutocastsType) {
  at::autocast::set_autocast_dtype(at::kCPU, at::kBFloat16);
  at::autocast::set_autocast_enabled(at::kCPU, true);
  const Tensor x = at::randn({4, 6}), h = at::randn({4, 3}), w = at::randn({6, 3});
  EXPECT_EQ(add_linear(x.clone(), h, w).scalar_type(), at::kFloat);
  EXPECT_EQ(add_norm(x.clone(), h, w).sum.scalar_type(), at::kFloat);
  at::autocast::clear_cache();
  at::autocast::set_autocast_enabled(at::kCPU, false);
}

TEST(AddLinear, SaysThatAnOperandWasGivenUpBefore) {
  const Tensor h = at::randn({4, 3}), w = at::randn({6, 3});
  for (const std::string& error :
       {error_of([&] { add_linear({}, h, w); }), error_of([&] { add_norm({}, h, w); }),
        error_of([&] { linear_pair({}, w, {}); })})
    EXPECT_NE(error.find("was it given up with std::move in an earlier call?"), std::string::npos)
        << error;
}

TEST(AddLinear, ComputesInAutocastsTypeOnAResidualStreamOfThatType) {
  at::manual_seed(5);
  const Tensors start{at::randn({2, 5, 6}).to(at::kBFloat16), at::randn({2, 5, 9}),
                      at::randn({6, 9})};
  at::autocast::set_autocast_dtype(at::kCPU, at::kBFloat16);
  at::autocast::set_autocast_enabled(at::kCPU, true);
  const Added got =
      added(start, [](Tensor x, Tensor h, Tensor w) { return add_linear(std::move(x), h, w); });
  at::autocast::clear_cache();
  at::autocast::set_autocast_enabled(at::kCPU, false);
  EXPECT_TRUE(got.in_place);
  const Tensors wide{start[0].to(at::kFloat), start[1], start[2]};
  const Added expected =
      added(wide, [](Tensor x, Tensor h, Tensor w) { return x + at::linear(h, w); });
  EXPECT_LT(relative_difference(got.sum, expected.sum), 1e-2);
  for (size_t i = 0; i < start.size(); ++i) {
    EXPECT_EQ(got.grads[i].scalar_type(), start[i].scalar_type());
    EXPECT_LT(relative_difference(got.grads[i], expected.grads[i]), 1e-2) << i;
  }
}

TEST(AddNorm, HasTheGradientsOfSumAndNormWhicheverIsUsed) {
  at::manual_seed(5);
  const Tensors start{at::randn({2, 5, 6}), at::randn({2, 5, 9}), at::randn({6, 9})};
  for (const auto& [of_sum, of_norm] : {std::pair{1.0, 0.0}, {0.0, 1.0}, {0.7, 1.3}}) {
    const auto used = [&, s = of_sum, n = of_norm](const Tensor& sum, const Tensor& normed) {
      return s == 0 ? normed * n : n == 0 ? sum * s : sum * s + normed * n;
    };
    const Added got = added(start, [&](Tensor x, Tensor h, Tensor w) {
      const void* const memory = x.data_ptr();
      const auto [sum, normed] = add_norm(std::move(x), h, w);
      EXPECT_EQ(sum.data_ptr(), memory);
      return used(sum, normed);
    });
    const Added expected = added(start, [&](Tensor x, Tensor h, Tensor w) {
      const Tensor sum = x + at::linear(h, w);
      return used(sum, at::rms_norm(sum, {sum.size(-1)}, {}, kNormEpsilon));
    });
    EXPECT_LT(relative_difference(got.sum, expected.sum), 1e-6);
    for (size_t i = 0; i < start.size(); ++i)
      EXPECT_LT(relative_difference(got.grads[i], expected.grads[i]), 1e-6) << i;
  }
}

TEST(AddNorm, LeavesAnOperandAloneThatSomebodyElseHolds) {
  at::manual_seed(5);
  const Tensor x = at::randn({4, 6}), before = x.clone();
  const auto [sum, normed] = add_norm(x, at::randn({4, 3}), at::randn({6, 3}));
  EXPECT_TRUE(at::equal(x, before));
  EXPECT_TRUE(at::equal(normed, rms_norm(sum)));
}

TEST(LinearPair, IsTwoLinearMapsOfWhichTheSecondSeesTheFirstChannels) {
  at::manual_seed(5);
  const Tensors start{at::randn({2, 5, 6}), at::randn({7, 6}), at::randn({3, 4})};
  const auto both = [](const Tensor& all, const Tensor& first) {
    return at::cat({all, first.square()}, -1);
  };
  const Added got = added(start, [&](Tensor x, Tensor w, Tensor first) {
    const auto [all, some] = linear_pair(x, w, first);
    return both(all, some);
  });
  const Added expected = added(start, [&](Tensor x, Tensor w, Tensor first) {
    return both(at::linear(x, w), at::linear(x.narrow(-1, 0, 4), first));
  });
  EXPECT_LT(relative_difference(got.sum, expected.sum), 1e-6);
  for (size_t i = 0; i < start.size(); ++i)
    EXPECT_LT(relative_difference(got.grads[i], expected.grads[i]), 1e-6) << i;
  EXPECT_FALSE(linear_pair(start[0], start[1], {}).first.defined());
  EXPECT_THROW(linear_pair(start[0], start[1], at::randn({3, 7})), Error);
}

TEST(Kernels, RefuseASecondDerivativeWhichWouldBeWrong) {
  at::manual_seed(5);
  const Tensor x = at::randn({1, 4, 6}).requires_grad_(), w = at::randn({6, 6});
  const Tensor one = at::ones({}), ids = at::arange(4).view({1, 4});
  const Rope rope{at::randn({4, 1}), at::randn({4, 1})};
  const auto heads = [&] { return x.view({1, 4, 1, 3, 2}).transpose(2, 3).contiguous(); };
  const Tensor q = heads().select(2, 0);
  const std::vector<std::pair<const char*, std::function<Tensor()>>> operations{
      {"rms_norm", [&] { return rms_norm(x); }},
      {"mix_norm", [&] { return mix_norm(x, x, one, one).normed; }},
      {"add_norm", [&] { return add_norm(x * 2, x, w).normed; }},
      {"relu_squared", [&] { return relu_squared(x); }},
      {"rope_norm_gate", [&] { return rope_norm_gate(heads(), rope).q; }},
      {"windowed_attention", [&] { return windowed_attention(q, q, q, 2); }},
      {"softcap_cross_entropy", [&] { return softcap_cross_entropy(x, w, ids, 15); }}};
  for (const auto& [name, operation] : operations)
    EXPECT_NE(error_of([&, &operation = operation] {
                torch::autograd::grad({operation().sum()}, {x}, {}, /*retain_graph=*/true,
                                      /*create_graph=*/true);
              }).find("has no second derivative"),
              std::string::npos)
        << name;
}

TEST(Kernels, HaveTheGradientOfALearnedRotation) {
  at::manual_seed(5);
  const Tensor qkv = at::randn({2, 5, 3, 2, 8}), start = at::rand({4});
  const auto gradient = [&](const Fused* fused) {
    const UseWays use({fused});
    const Tensor frequency = start.clone().requires_grad_();
    const Tensor angle = at::outer(at::arange(5).to(at::kFloat), frequency);
    const auto [q, k, v] = rope_norm_gate(qkv, {angle.cos(), angle.sin()}, {});
    (q * k.cos()).sum().backward();
    return frequency.grad();
  };
  EXPECT_LT(relative_difference(gradient(&fused_cpu()), gradient(nullptr)), 1e-6);
}

TEST(Kernels, TakeOperandsThatAreNotContiguous) {
  at::manual_seed(5);
  const Tensor table = at::randn({9, 20}).requires_grad_(), qkv = at::randn({2, 4, 3, 2, 10});
  const Tensor ids = at::arange(12).remainder(9).view({2, 6}).narrow(1, 1, 4);
  const Rope rope{at::randn({5, 4}).t(), at::randn({5, 4}).t()};
  const auto run = [&](const Ways& ways) {
    const UseWays use(ways);
    const Ids all(ids);
    const Tensor x = embedding(table, all, at::kFloat).transpose(0, 1);
    const auto heads = rope_norm_gate(qkv.transpose(0, 1).contiguous().transpose(0, 1), rope,
                                      {table, at::ones({2, 4, 2}), all});
    return Tensors{rms_norm(x), relu_squared(x), heads.q, heads.k, heads.v};
  };
  const Tensors actual = run(trusted_on(at::kCPU, at::kFloat).ways), expected = run({nullptr});
  for (size_t i = 0; i < actual.size(); ++i)
    EXPECT_LT(relative_difference(actual[i], expected[i]), 1e-6) << i;
}

// What an operation makes of operands that its fused form does not take, against the twin.
void expect_left_to_aten(const char* what, const std::function<Tensors()>& f) {
  const auto results = [&](const Fused* fused) {
    const UseWays use({fused});
    return f();
  };
  const Tensors actual = results(&fused_cpu()), expected = results(nullptr);
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_EQ(actual[i].scalar_type(), expected[i].scalar_type()) << what;
    EXPECT_LT(relative_difference(actual[i], expected[i]), 1e-6) << what << ", tensor " << i;
  }
}

TEST(Kernels, LeaveOtherTypesAndBroadcastingToATen) {
  at::manual_seed(5);
  const Tensor x = at::randn({2, 5, 8}), one = at::scalar_tensor(1.0), channels = at::randn({8});
  const Tensor table = at::randn({5, 8}), targets = at::arange(10).remainder(5).view({2, 5});
  for (const at::ScalarType type : {at::kHalf, at::kDouble}) {
    const Tensor y = x.to(type), qkv = at::randn({2, 5, 3, 2, 4}).to(type), w = table.to(type);
    const Rope rope{at::randn({5, 2}).to(type), at::randn({5, 2}).to(type)};
    expect_left_to_aten("activations", [&] {
      const auto heads = rope_norm_gate(qkv, rope, {});
      return Tensors{rms_norm(y),
                     mix_norm(y, y, one, one).normed,
                     relu_squared(y),
                     embedding(w, Ids(targets), at::kFloat),
                     heads.q,
                     embedding(table, Ids(targets), type),
                     softcap_cross_entropy(y, w, targets, 3)};
    });
    expect_left_to_aten("Muon", [&] {
      const Tensor second = at::ones({2, 5, 1}, type);
      return Tensors{nesterov(y, x, 0.9, at::kFloat).update.to(at::kFloat),
                     nesterov(x, x, 0.9, type).update, normalize_update(x, second, 2, 0.9).scale};
    });
  }
  expect_left_to_aten("weights for each channel", [&] {
    return Tensors{mix_norm(x, x, channels, channels).y, mix_norm(x, channels, one, one).y};
  });
  expect_left_to_aten("a gate for all tokens", [&] {
    return Tensors{rope_norm_gate(at::ones({2, 5, 3, 2, 4}), {at::ones({5, 2}), at::ones({5, 2})},
                                  {table, at::ones({1, 1, 2}), Ids(targets)})
                       .v};
  });
}

TEST(Kernels, StepOnWeightsOfAnyTypeAndLayout) {
  at::manual_seed(5);
  const Tensor update = at::randn({2, 5, 8}), scale = at::rand({2, 5, 1});
  const Tensor start = at::randn({2, 8, 5});
  const std::vector<std::function<Tensor()>> layouts{
      [&] {
        return start.view({2, 5, 8}).to(at::kBFloat16);
      },
      [&] { return start.clone().transpose(1, 2); },
      [&] {
        return start.view({2, 5, 8}).to(at::kDouble);
      }};
  for (const auto& weight : layouts) {
    expect_left_to_aten("weights", [&] {
      const Tensor w = weight();
      cautious_step({{{w}, update, scale, 0.1, 0.02}});
      EXPECT_FALSE(at::equal(w, weight()));
      return Tensors{w};
    });
  }
  for (const Tensor& other : {at::rand({1, 1, 1}), at::rand({2, 5, 8}), scale.to(at::kDouble)}) {
    expect_left_to_aten("scale", [&] {
      const Tensor w = start.view({2, 5, 8}).clone();
      cautious_step({{{w}, update, other, 0.1, 0.02}});
      return Tensors{w};
    });
  }
  const auto strided = [](const Tensor& x) {
    return x.transpose(1, 2).contiguous().transpose(1, 2);
  };
  const Tensor rows = at::rand({2, 1, 5}).expand({2, 5, 5}).narrow(2, 0, 1);
  expect_left_to_aten("moments", [&] {
    const Tensor w = start.view({2, 5, 8}).clone();
    cautious_step({{{w}, strided(update), rows, 0.1, 0.02}});
    return Tensors{w, nesterov(strided(update), strided(update), 0.9, at::kFloat).momentum,
                   normalize_update(strided(update), rows, 2, 0.9).second};
  });
}

TEST(Kernels, TakeTablesAndIdsInAnyLayoutTypeAndMode) {
  at::manual_seed(5);
  const Tensor start = at::randn({8, 5}), tokens = at::arange(10).remainder(5).view({2, 5});
  const Tensor qkv = at::randn({2, 5, 3, 2, 4}), gate = at::randn({2, 5, 2});
  const Rope rope{at::randn({5, 2}), at::randn({5, 2})};
  Ids without_gradients;
  {
    const at::NoGradGuard no_grad;
    without_gradients = Ids(tokens);
  }
  const Ids sorted(tokens), narrow(tokens.to(at::kInt));
  for (const Ids& ids : {sorted, narrow, without_gradients}) {
    expect_left_to_aten("tables", [&] {
      const Tensor leaf = start.clone().requires_grad_(), table = leaf.t();
      const Tensor v = rope_norm_gate(qkv, rope, {table, gate, ids}).v;
      (v.sum() + embedding(table, ids, at::kFloat).square().sum()).backward();
      return Tensors{v, leaf.grad()};
    });
  }
}

TEST(Kernels, TargetsMayBeOfAnyIntegerTypeAndOneMeansThatARowDoesNotCount) {
  at::manual_seed(5);
  const Tensor x = at::randn({7, 6}), head = at::randn({5, 6});
  Tensor some = at::arange(7).remainder(5);
  some[2].fill_(kIgnoredTarget);
  some[6].fill_(kIgnoredTarget);
  for (const Tensor& targets : {at::arange(7).remainder(5).to(at::kInt), some}) {
    expect_left_to_aten("targets", [&] {
      const Tensors leaves{x.clone().requires_grad_(), head.clone().requires_grad_()};
      const Tensor loss = softcap_cross_entropy(leaves[0], leaves[1], targets, 3);
      loss.backward();
      return Tensors{loss, leaves[0].grad(), leaves[1].grad()};
    });
  }
}

TEST(Kernels, SayWhatDoesNotFit) {
  const Tensor qkv = at::ones({1, 3, 3, 2, 4}), gate = at::ones({1, 3, 2}), row = at::ones({3, 2});
  const auto heads = [](const Tensor& x, const Rope& rope, const ValueEmbedding& e = {}) {
    return error_of([&] { rope_norm_gate(x, rope, e); });
  };
  const auto ids = [](int64_t first) { return Ids(at::arange(first, first + 3).view({1, 3})); };
  EXPECT_EQ(heads(qkv.narrow(4, 0, 3), {row, row}),
            "rope_norm_gate: the head size D is 3, not even");
  EXPECT_EQ(heads(qkv, {row.narrow(0, 0, 2), row.narrow(0, 0, 2)}),
            "rope_norm_gate: cos and sin must have 3 rows or more of D / 2 = 2");
  EXPECT_EQ(heads(qkv, {row, row}, {at::ones({9, 4}), gate, ids(0)}),
            "rope_norm_gate: the table must be (V, H * D), H * D = 8");
  const std::string outside = "token ids from 7 to 9, but the table has 9 rows";
  EXPECT_EQ(heads(qkv, {row, row}, {at::ones({9, 8}), gate, ids(7)}), outside);
  EXPECT_EQ(error_of([&] { embedding(at::ones({9, 8}), ids(7), at::kFloat); }), outside);
  EXPECT_EQ(heads(qkv, {row, row}, {at::ones({9, 8}), gate, ids(6)}), "");
  const auto loss = [](int64_t target, int64_t channels) {
    return error_of([&] {
      softcap_cross_entropy(at::ones({1, 6}), at::ones({5, channels}),
                            at::full({1}, target, at::kLong), 3);
    });
  };
  EXPECT_EQ(loss(5, 6), "softcap_cross_entropy: targets from 5 to 5, but the head has 5 rows");
  EXPECT_EQ(loss(-1, 6), "softcap_cross_entropy: targets from -1 to -1, but the head has 5 rows");
  EXPECT_EQ(loss(0, 7), "softcap_cross_entropy: x must be (..., C) and head (V, C)");
  EXPECT_EQ(loss(4, 6), "");
}

}  // namespace
}  // namespace autoresearch
