// What would otherwise first show on a GPU, made visible on a CPU: the call of FlashAttention,
// whose kernel checks nothing, and gradients that are computed on another thread than the loss,
// without its autocast, as they are where CUDA is. More of this is in fused_cuda_test, model_test
// (memory) and train_cli_test (libraries).
#include <ATen/autocast_mode.h>
#include <gtest/gtest.h>
#include <torch/library.h>

#include <cmath>
#include <limits>
#include <thread>

#include "kernels/attention.h"
#include "kernels/fused_check.h"
#include "kernels/kernels.h"

namespace autoresearch {
namespace {

using at::Tensor;
using Optional = std::optional<Tensor>;

// ------------------------------------------------------------------------------------------------
// FlashAttention's operators on a CPU: they insist on what the GPU's take on trust

void expect_operand(const Tensor& x) {
  EXPECT_EQ(x.scalar_type(), at::kBFloat16);
  EXPECT_EQ(x.dim(), 4);
  EXPECT_TRUE(x.is_contiguous());
}

// (B, T, H, D) -> softmax weights (B, H, T, T).
Tensor weights(const Tensor& q, const Tensor& k, double scale, int64_t left) {
  const Tensor position = at::arange(q.size(1));
  const Tensor distance = position.unsqueeze(1) - position;
  Tensor hidden = distance.lt(0);
  if (left >= 0) hidden = hidden.logical_or(distance.gt(left));
  return at::einsum("bihd,bjhd->bhij", {q.to(at::kFloat), k.to(at::kFloat)})
      .mul(scale)
      .masked_fill(hidden, -std::numeric_limits<double>::infinity())
      .softmax(-1);
}

int64_t window_in_test = 0;  // of the call that is under way

void expect_setting(const Tensor& q, int64_t max_q, int64_t max_k, double dropout, bool causal,
                    std::optional<double> scale, std::optional<int64_t> left,
                    std::optional<int64_t> right) {
  EXPECT_EQ(max_q, q.size(1));
  EXPECT_EQ(max_k, q.size(1));
  EXPECT_EQ(dropout, 0);
  EXPECT_TRUE(causal);
  EXPECT_EQ(scale, 1 / std::sqrt(static_cast<double>(q.size(3))));
  // -1 is all keys; for T - 1, as many, FlashAttention would run its kernel for local attention.
  EXPECT_EQ(left, window_in_test >= q.size(1) - 1 ? -1 : window_in_test);
  EXPECT_EQ(right, 0);
}

int forwards = 0, backwards = 0;

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> flash_forward(
    const Tensor& q, const Tensor& k, const Tensor& v, const Optional& cum_q, const Optional& cum_k,
    int64_t max_q, int64_t max_k, double dropout, bool causal, bool, std::optional<double> scale,
    std::optional<int64_t> left, std::optional<int64_t> right, const Optional&, const Optional&) {
  ++forwards;
  for (const Tensor* x : {&q, &k, &v}) expect_operand(*x);
  EXPECT_FALSE((cum_q && cum_q->defined()) || (cum_k && cum_k->defined()));
  expect_setting(q, max_q, max_k, dropout, causal, scale, left, right);
  const Tensor out =
      at::einsum("bhij,bjhd->bihd", {weights(q, k, *scale, *left), v.to(at::kFloat)});
  const Tensor none = at::empty({0});
  return {out.to(at::kBFloat16).contiguous(), none, none, none, none};
}

std::tuple<Tensor, Tensor, Tensor> flash_backward(
    const Tensor& grad, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& out,
    const Tensor&, const Tensor&, const Tensor&, int64_t max_q, int64_t max_k, double dropout,
    bool causal, const Tensor&, const Tensor&, std::optional<double> scale,
    std::optional<int64_t> left, std::optional<int64_t> right) {
  ++backwards;
  for (const Tensor* x : {&q, &k, &v, &out}) expect_operand(*x);
  EXPECT_EQ(grad.scalar_type(), at::kBFloat16);
  expect_setting(q, max_q, max_k, dropout, causal, scale, left, right);
  const Tensor p = weights(q, k, *scale, *left), g = grad.to(at::kFloat);
  const Tensor to_p = at::einsum("bihd,bjhd->bhij", {g, v.to(at::kFloat)});
  const Tensor to_s = p * (to_p - (to_p * p).sum(-1, true)) * *scale;
  const auto half = [](const Tensor& x) { return x.to(at::kBFloat16); };
  return {half(at::einsum("bhij,bjhd->bihd", {to_s, k.to(at::kFloat)})),
          half(at::einsum("bhij,bihd->bjhd", {to_s, q.to(at::kFloat)})),
          half(at::einsum("bhij,bihd->bjhd", {p, g}))};
}

TORCH_LIBRARY_IMPL(aten, CPU, m) {
  m.impl("_flash_attention_forward", flash_forward);
  m.impl("_flash_attention_backward", flash_backward);
}

// ------------------------------------------------------------------------------------------------
// Tests

class Autocast {
 public:
  Autocast() {
    at::autocast::set_autocast_dtype(at::kCPU, at::kBFloat16);
    at::autocast::set_autocast_enabled(at::kCPU, true);
  }
  ~Autocast() {
    at::autocast::clear_cache();
    at::autocast::set_autocast_enabled(at::kCPU, false);
  }
};

TEST(FlashAttention, IsCalledWithWhatItsKernelTakesOnTrustUnderAutocastToo) {
  const int64_t T = 24;
  for (const bool autocast : {false, true})
    for (const int64_t window : {int64_t{0}, int64_t{5}, T - 2, T - 1, T, 10 * T}) {
      at::manual_seed(2);
      window_in_test = window;
      const Tensor start = at::randn({2, T, 3, 2, 16});
      const auto run = [&](const auto& attention) {
        const Tensor qkv = start.clone().requires_grad_();
        const Tensor out = attention(qkv.select(2, 0), qkv.select(2, 1), qkv.select(2, 2), window);
        EXPECT_EQ(out.scalar_type(), at::kFloat);
        out.square().sum().backward();
        return std::pair(out.detach(), qkv.grad());
      };
      std::optional<Autocast> on;
      if (autocast) on.emplace();
      const auto [out, grad] = run(flash_attention);
      const auto [expected, expected_grad] = run(windowed_attention);
      EXPECT_TRUE(at::allclose(out, expected, 2e-2, 2e-2)) << "window " << window;
      EXPECT_TRUE(at::allclose(grad, expected_grad, 5e-2, 1e-1)) << "window " << window;
    }
  EXPECT_EQ(forwards, 12);
  EXPECT_EQ(backwards, 12);
}

// A loss through every differentiable operation, of float32 weights and a bfloat16 table.
Tensor loss_of(const std::vector<Tensor>& w) {
  const int64_t B = 2, T = 9, H = 2, D = 8;
  const Tensor tokens = at::arange(B * T).mul(5).remainder(11).view({B, T});
  const Ids ids(tokens);
  const Tensor x0 = rms_norm(embedding(w[0], ids, at::kFloat));
  auto [x, normed, skip] = mix_norm(x0, x0.cos(), w[1], w[2]);
  const auto [merged, gate] = linear_pair(normed, w[3], w[4]);
  const Tensor qkv = merged.view({B, T, 3, H, D});
  const Tensor angle = at::arange(T * D / 2).view({T, D / 2}).to(at::kFloat);
  const Rope rope{angle.cos().to(qkv.scalar_type()), angle.sin().to(qkv.scalar_type())};
  const auto [q, k, v] = rope_norm_gate(qkv, rope, {w[0], gate, ids});
  const Tensor heads = windowed_attention(q, k, v, 4).view({B, T, H * D});
  auto [sum, y] = add_norm(std::move(x), heads, w[6]);
  const Tensor z = add_linear(std::move(sum), relu_squared(y), w[6]);
  return softcap_cross_entropy(z + skip, w[5], tokens, 5);
}

TEST(Backward, GivesTheSameGradientsOnAThreadWithoutTheForwardsAutocast) {
  const auto gradients = [](bool apart) {
    at::manual_seed(4);
    std::vector<Tensor> w{at::randn({11, 16}).to(at::kBFloat16),
                          at::ones({}),
                          at::ones({}),
                          at::randn({48, 16}),
                          at::randn({2, 6}),
                          at::randn({11, 16}),
                          at::randn({16, 16})};
    for (Tensor& x : w) x.requires_grad_();
    const Autocast on;
    const Tensor loss = loss_of(w);
    if (apart) {
      std::thread([&] { loss.backward(); }).join();
    } else {
      loss.backward();
    }
    std::vector<Tensor> grads;
    for (const Tensor& x : w) grads.push_back(x.grad());
    return grads;
  };
  ASSERT_NE(trusted_on(at::kCPU, at::kFloat).ways.fused, nullptr);
  const auto here = gradients(false), apart = gradients(true);
  for (size_t i = 0; i < here.size(); ++i) {
    ASSERT_TRUE(here[i].defined()) << i;
    EXPECT_EQ(here[i].scalar_type(), i == 0 ? at::kBFloat16 : at::kFloat) << i;
    EXPECT_GT(here[i].abs().max().item<float>(), 0) << i;
    EXPECT_TRUE(at::equal(here[i], apart[i])) << i;
  }
}

}  // namespace
}  // namespace autoresearch
