// Windowed attention against its definition, written as a plain softmax over an explicit mask.
#include "kernels/kernels.h"

#include <ATen/autocast_mode.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "common/error.h"

namespace autoresearch {
namespace {

using at::Tensor;

struct Inputs {
  Tensor q, k, v;
};

Inputs random_inputs(int64_t B, int64_t T, int64_t H, int64_t H_kv, int64_t D) {
  at::manual_seed(7);
  return {at::randn({B, T, H, D}), at::randn({B, T, H_kv, D}), at::randn({B, T, H_kv, D})};
}

Tensor reference(const Inputs& in, int64_t window) {
  const int64_t T = in.q.size(1), group = in.q.size(2) / in.k.size(2);
  const Tensor k = in.k.repeat_interleave(group, 2), v = in.v.repeat_interleave(group, 2);
  const Tensor distance = at::arange(T).unsqueeze(1) - at::arange(T).unsqueeze(0);
  const Tensor hidden = distance.lt(0).logical_or(distance.gt(window));
  const Tensor scores = at::einsum("bihd,bjhd->bhij", {in.q, k}) / std::sqrt(in.q.size(3));
  const Tensor weights =
      scores.masked_fill(hidden, -std::numeric_limits<double>::infinity()).softmax(-1);
  return at::einsum("bhij,bjhd->bihd", {weights, v});
}

double max_difference(const Tensor& a, const Tensor& b) {
  return (a - b).abs().max().item<double>();
}

struct Case {
  int64_t B, T, H, H_kv, D, window;
};

class WindowedAttention : public ::testing::TestWithParam<Case> {};

TEST_P(WindowedAttention, EqualsTheDefinition) {
  const Case c = GetParam();
  const Inputs in = random_inputs(c.B, c.T, c.H, c.H_kv, c.D);
  const Tensor out = windowed_attention(in.q, in.k, in.v, c.window);
  EXPECT_EQ(out.sizes(), in.q.sizes());
  EXPECT_TRUE(out.is_contiguous());
  EXPECT_LT(max_difference(out, reference(in, c.window)), 1e-5);
}

TEST_P(WindowedAttention, HasTheGradientOfTheDefinition) {
  const Case c = GetParam();
  const auto gradients = [&](bool tested) {
    Inputs in = random_inputs(c.B, c.T, c.H, c.H_kv, c.D);
    for (Tensor* x : {&in.q, &in.k, &in.v}) x->requires_grad_();
    const Tensor out =
        tested ? windowed_attention(in.q, in.k, in.v, c.window) : reference(in, c.window);
    (out * at::arange(out.numel()).remainder(7).view_as(out)).sum().backward();
    return std::vector<Tensor>{in.q.grad(), in.k.grad(), in.v.grad()};
  };
  const auto actual = gradients(true), expected = gradients(false);
  for (size_t i = 0; i < actual.size(); ++i) {
    EXPECT_GT(expected[2].abs().max().item<double>(), 0.1);
    EXPECT_LT(max_difference(actual[i], expected[i]), 1e-4) << "operand " << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, WindowedAttention,
                         ::testing::Values(Case{2, 32, 2, 2, 16, 16},   // half the sequence
                                           Case{2, 32, 2, 2, 16, 32},   // all of it
                                           Case{1, 33, 3, 1, 8, 31},    // all but one pair
                                           Case{1, 33, 3, 1, 8, 32},    // exactly full
                                           Case{3, 37, 4, 2, 24, 5},    // odd length, shared heads
                                           Case{1, 130, 2, 2, 64, 64},  // over a kernel's block
                                           Case{1, 7, 1, 1, 8, 0},      // only itself
                                           Case{1, 1, 1, 1, 8, 1}));

TEST_P(WindowedAttention, IsTheSameWithoutGradients) {
  const Case c = GetParam();
  const Inputs in = random_inputs(c.B, c.T, c.H, c.H_kv, c.D);
  const Tensor with = windowed_attention(in.q, in.k, in.v, c.window);
  const at::NoGradGuard no_grad;
  EXPECT_LT(max_difference(windowed_attention(in.q, in.k, in.v, c.window), with), 1e-5);
}

TEST(WindowedAttention, HasGradientsInBfloat16) {
  const auto gradients = [](at::ScalarType type) {
    Inputs in = random_inputs(2, 40, 2, 1, 24);
    for (Tensor* x : {&in.q, &in.k, &in.v}) *x = x->to(type).requires_grad_();
    windowed_attention(in.q, in.k, in.v, 9).to(at::kFloat).cos().sum().backward();
    return std::vector<Tensor>{in.q.grad(), in.k.grad(), in.v.grad()};
  };
  const auto coarse = gradients(at::kBFloat16), fine = gradients(at::kFloat);
  for (size_t i = 0; i < fine.size(); ++i)
    EXPECT_LT(max_difference(coarse[i], fine[i]), 0.05 * fine[i].abs().max().item<double>()) << i;
}

TEST(WindowedAttention, AQuerySeesTheKeyAtTheWindowsEdgeAndNoneBeyond) {
  const int64_t T = 20, window = 6, edited = 5;
  Inputs in = random_inputs(1, T, 1, 1, 8);
  const Tensor before = windowed_attention(in.q, in.k, in.v, window);
  in.v.select(1, edited).add_(1);
  const Tensor moved =
      (windowed_attention(in.q, in.k, in.v, window) - before).abs().amax({0, 2, 3});
  for (int64_t i = 0; i < T; ++i) {
    const bool sees = edited <= i && i <= edited + window;
    EXPECT_EQ(moved[i].item<float>() > 0, sees) << "query " << i;
  }
}

TEST(WindowedAttention, TakesOperandsThatAreNotContiguous) {
  const Inputs in = random_inputs(2, 12, 2, 2, 8);
  const auto strided = [](const Tensor& x) {
    return x.transpose(1, 2).contiguous().transpose(1, 2);
  };
  ASSERT_FALSE(strided(in.q).is_contiguous());
  const Tensor out = windowed_attention(strided(in.q), strided(in.k), strided(in.v), 4);
  EXPECT_LT(max_difference(out, reference(in, 4)), 1e-5);
}

TEST(WindowedAttention, KeepsItsOperandsTypeUnderAutocastAndWithout) {
  const Inputs in = random_inputs(2, 16, 2, 2, 8);
  const Tensor plain = windowed_attention(in.q, in.k, in.v, 8);
  at::autocast::set_autocast_enabled(at::kCPU, true);
  const Tensor cast = windowed_attention(in.q, in.k, in.v, 8);
  at::autocast::set_autocast_enabled(at::kCPU, false);
  EXPECT_EQ(cast.scalar_type(), at::kFloat);
  EXPECT_TRUE(at::equal(cast, plain));
  const auto half = [](const Tensor& x) { return x.to(at::kBFloat16); };
  const Tensor coarse = windowed_attention(half(in.q), half(in.k), half(in.v), 8);
  EXPECT_EQ(coarse.scalar_type(), at::kBFloat16);
  EXPECT_LT(max_difference(coarse, plain), 0.05);
}

TEST(WindowedAttention, WhatIsNotANumberReachesEveryQueryThatSeesIt) {
  const int64_t T = 40, window = 6, spoilt = 5;
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  for (const double bad : {std::nan(""), kInfinity, -kInfinity}) {
    for (Tensor Inputs::*operand : {&Inputs::q, &Inputs::k, &Inputs::v}) {
      Inputs in = random_inputs(1, T, 1, 1, 8);
      for (Tensor* x : {&in.q, &in.k}) x->abs_();  // an infinite key wins over all others
      (in.*operand).select(1, spoilt).fill_(bad);
      const Tensor finite = windowed_attention(in.q, in.k, in.v, window).isfinite();
      for (int64_t i = spoilt; i <= spoilt + window; ++i) {
        const bool sees = operand != &Inputs::q || i == spoilt;
        const bool beaten = operand == &Inputs::k && bad < 0 && i > 0;  // weighs nothing
        EXPECT_EQ(finite[0][i].any().item<bool>(), !sees || beaten) << bad << ", query " << i;
      }
    }
  }
  const Tensor one = at::ones({1, 1, 1, 8});  // nothing is seen but a key that weighs nothing
  EXPECT_TRUE(windowed_attention(one, one * -kInfinity, one, 0).isnan().all().item<bool>());
}

TEST(WindowedAttention, RefusesShapesThatDoNotFit) {
  const Inputs in = random_inputs(1, 8, 3, 2, 8);
  EXPECT_THROW(windowed_attention(in.q, in.k, in.v, 8), Error);
  EXPECT_THROW(windowed_attention(in.k, in.k, in.v, -1), Error);
  EXPECT_THROW(windowed_attention(in.k, in.k.narrow(1, 0, 4), in.v.narrow(1, 0, 4), 8), Error);
  EXPECT_THROW(windowed_attention(in.q, in.k.narrow(2, 0, 0), in.v.narrow(2, 0, 0), 8), Error);
  EXPECT_THROW(windowed_attention(in.k, in.k.to(at::kMeta), in.v.to(at::kMeta), 8), Error);
}

}  // namespace
}  // namespace autoresearch
