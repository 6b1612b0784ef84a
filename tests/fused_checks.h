// The claims of kernels/fused.h as checks that any implementation must pass: every operation
// against its definition in ATen and float64, gradients by autograd, over odd shapes.
#pragma once

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>

#include "kernels/fused.h"

namespace autoresearch::fused_checks {

using at::Tensor;

// One implementation under test: how an operand reaches its device, and the activations' type.
struct Subject {
  const Fused& fused;
  at::ScalarType type;
  std::function<Tensor(const Tensor&)> place;

  Tensor random(at::IntArrayRef sizes) const { return place(at::randn(sizes).to(type)); }
  Tensor floats(at::IntArrayRef sizes) const { return place(at::randn(sizes)); }
  Tensor scalar(double x) const { return place(at::full({}, x, at::kFloat)); }
};

inline Tensor exact(const Tensor& x) { return x.detach().cpu().to(at::kDouble); }
inline Tensor leaf(const Tensor& x) { return exact(x).requires_grad_(); }

// Within rounding: a few units in the last place of what is stored, and of a sum's largest terms.
inline void expect_close(const Tensor& actual, const Tensor& expected, const char* what,
                         double magnitude = 1) {
  const bool half = actual.scalar_type() == at::kBFloat16;
  ASSERT_EQ(actual.sizes(), expected.sizes()) << what;
  const Tensor error = (exact(actual) - expected).abs();
  const Tensor allowed = expected.abs() * (half ? 8e-3 : 2e-5) + magnitude * (half ? 1e-2 : 2e-5);
  EXPECT_TRUE(error.le(allowed).all().item<bool>())
      << what << " is off by up to " << error.max().item<double>();
}

inline Tensor norm_of(const Tensor& x) {
  return at::rms_norm(x, {x.size(-1)}, {}, std::numeric_limits<float>::epsilon());
}

// The gradient through a norm starts at its result, which has been rounded to the activation's
// type.
inline double rounding(const Subject& s) { return s.type == at::kBFloat16 ? 4 : 1; }

inline void rms_norm(const Subject& s, int64_t N, int64_t C) {
  const Tensor x = s.random({N, C}), grad = s.random({N, C}), leaf_x = leaf(x);
  const auto [normed, rstd] = s.fused.rms_norm(x);
  const Tensor expected = norm_of(leaf_x);
  expect_close(normed, expected.detach(), "normed");
  expect_close(rstd, expected.detach().div(exact(x)).select(1, 0), "rstd", C > 1 ? 20 : 1000);
  expected.backward(exact(grad));
  const double magnitude = rounding(s) * exact(rstd).max().item<double>();
  expect_close(s.fused.rms_norm_backward(grad, normed, rstd, {}), leaf_x.grad(), "grad", magnitude);
  const Tensor others = s.random({N, C});
  expect_close(s.fused.rms_norm_backward(grad, normed, rstd, others), leaf_x.grad() + exact(others),
               "grad with that of others", magnitude);
}

inline void mix_norm(const Subject& s, int64_t N, int64_t C) {
  const Tensor x = s.random({N, C}), x0 = s.random({N, C}), a = s.scalar(0.9), b = s.scalar(-0.3);
  const Tensor grad_y = s.random({N, C}), grad_normed = s.random({N, C});
  const Tensor leaf_x = leaf(x), leaf_x0 = leaf(x0), leaf_a = leaf(a), leaf_b = leaf(b);
  const auto out = s.fused.mix_norm(x, x0, a, b);
  const Tensor y = leaf_a * leaf_x + leaf_b * leaf_x0, normed = norm_of(y);
  expect_close(out.y, y.detach(), "y");
  expect_close(out.normed, normed.detach(), "normed");
  (y * exact(grad_y) + normed * exact(grad_normed)).sum().backward();
  const auto backward = [&](const Tensor& others) {
    return s.fused.mix_norm_backward(grad_y, grad_normed, x, x0, out.normed, out.rstd, a, b,
                                     others);
  };
  const auto grads = backward({});
  const double steep = 1 + exact(out.rstd).max().item<double>();
  expect_close(grads.x, leaf_x.grad(), "grad of x", rounding(s) * steep);
  expect_close(grads.x0, leaf_x0.grad(), "grad of x0", rounding(s) * steep);
  const Tensor others = s.random({N, C});
  const auto summed = backward(others);
  expect_close(summed.x0, leaf_x0.grad() + exact(others), "grad of x0 with that of others",
               rounding(s) * steep);
  EXPECT_TRUE(at::equal(summed.x, grads.x));
  // The sums are stored as float32, but their terms know the rounded `normed`.
  const double terms = (s.type == at::kBFloat16 ? 200 : 2) * steep * std::sqrt(N * C);
  expect_close(grads.a, leaf_a.grad(), "grad of a", terms);
  expect_close(grads.b, leaf_b.grad(), "grad of b", terms);
}

struct HeadsCase {
  int64_t B, T, H, D, V;
  bool embedding;
};

inline Tensor rotated(const Tensor& x, const Tensor& cos, const Tensor& sin) {
  const auto halves = x.chunk(2, -1);
  return at::cat({halves[0] * cos + halves[1] * sin, halves[1] * cos - halves[0] * sin}, -1);
}

inline void heads(const Subject& s, HeadsCase c, at::ScalarType table_type) {
  const Tensor qkv = s.random({c.B, c.T, 3, c.H, c.D}), angle = at::randn({c.T + 2, c.D / 2});
  const Rope rope{s.place(angle.cos().to(s.type)), s.place(angle.sin().to(s.type))};
  Fused::ValueEmbedding embedding;
  if (c.embedding) {
    embedding = {s.place(at::randn({c.V, c.H * c.D}).to(table_type)),
                 s.place(at::randint(c.V, {c.B, c.T})), s.random({c.B, c.T, c.H})};
  }
  const auto rope_row = [&](const Tensor& t) { return exact(t).narrow(0, 0, c.T).unsqueeze(1); };
  const Tensor leaf_qkv = leaf(qkv), cos = rope_row(rope.cos), sin = rope_row(rope.sin);
  const auto part = [&](int64_t i) { return leaf_qkv.select(2, i); };
  const Tensor q = norm_of(rotated(part(0), cos, sin)), k = norm_of(rotated(part(1), cos, sin));
  Tensor v = part(2), embedded, gate;
  if (c.embedding) {
    embedded = leaf(at::embedding(exact(embedding.table), embedding.ids.cpu()));
    gate = leaf(embedding.gate);
    v = v + 2 * gate.sigmoid().unsqueeze(-1) * embedded.view({c.B, c.T, c.H, c.D});
  }
  const auto out = s.fused.rope_norm_gate(qkv, rope, embedding);
  expect_close(out.q, q.detach(), "q");
  expect_close(out.k, k.detach(), "k");
  expect_close(out.v, v.detach(), "v");

  const auto grad = [&] { return s.random({c.B, c.T, c.H, c.D}); };
  const Tensor grad_q = grad(), grad_k = grad(), grad_v = grad();
  (q * exact(grad_q) + k * exact(grad_k) + v * exact(grad_v)).sum().backward();
  const auto grads = s.fused.rope_norm_gate_backward(grad_q, grad_k, grad_v, out.q, out.k, out.rstd,
                                                     rope, embedding);
  expect_close(grads.qkv, leaf_qkv.grad(), "grad of qkv",
               rounding(s) * (1 + exact(out.rstd).max().item<double>()));
  EXPECT_EQ(grads.embedded.defined(), c.embedding);
  EXPECT_EQ(grads.gate.defined(), c.embedding);
  if (!c.embedding) return;
  expect_close(grads.embedded, embedded.grad(), "grad of the embedding");
  expect_close(grads.gate, gate.grad(), "grad of the gate", 2 * std::sqrt(c.D));
}

inline void relu_squared(const Subject& s, at::IntArrayRef sizes) {
  const Tensor x = s.random(sizes), grad = s.random(sizes), leaf_x = leaf(x);
  const Tensor y = s.fused.relu_squared(x), expected = leaf_x.relu().square();
  expect_close(y, expected.detach(), "y");
  expected.backward(exact(grad));
  expect_close(s.fused.relu_squared_backward(grad, y), leaf_x.grad(), "grad");
}

inline void cross_entropy(const Subject& s, int64_t N, int64_t V, double cap, double spread) {
  Tensor logits = s.place((at::randn({N, V}) * spread).to(s.type));
  const Tensor targets = s.place(at::randint(V, {N})), z = leaf(logits);
  const Tensor loss =
      at::cross_entropy_loss(cap * at::tanh(z / cap), targets.cpu(), {}, at::Reduction::None);
  const double scale = 0.75;
  loss.backward(at::full({N}, scale, at::kDouble));
  expect_close(s.fused.softcap_cross_entropy(logits, targets, cap, scale), loss.detach(), "loss");
  // Most gradients are small, and their sum over a row is 0: the bound is tighter than elsewhere.
  const Tensor error = (exact(logits) - z.grad()).abs();
  const double unit = s.type == at::kBFloat16 ? 4e-3 : 1e-4;
  EXPECT_TRUE(error.le(z.grad().abs() * unit + 1e-7).all().item<bool>()) << error.max();
}

inline void embedding_backward(const Subject& s, int64_t N, int64_t C, int64_t V,
                               const Tensor& ids) {
  const Tensor grad = s.random({N, C});
  const auto [sorted, order] = at::sort(ids, /*stable=*/true, 0, false);
  const Tensor expected = at::zeros({V, C}, at::kDouble).index_add(0, ids, exact(grad));
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
    const Tensor got = s.fused.embedding_backward(grad, s.place(sorted), s.place(order), V, type);
    ASSERT_EQ(got.scalar_type(), type);
    expect_close(got, expected, "grad of the table");
  }
}

inline void nesterov(const Subject& s, at::IntArrayRef sizes) {
  const Tensor grad = s.floats(sizes), momentum = s.floats(sizes);
  const double mu = 0.9;
  const auto out = s.fused.nesterov(grad, momentum, mu, s.type);
  const Tensor expected = exact(momentum).lerp(exact(grad), 1 - mu);
  expect_close(out.momentum, expected, "momentum");
  ASSERT_EQ(out.update.scalar_type(), s.type);
  expect_close(out.update, exact(grad).lerp(expected, mu), "update");
}

inline void normalize_update(const Subject& s, int64_t S, int64_t R, int64_t C, int64_t dim) {
  const Tensor update = s.random({S, R, C});
  const Tensor second = s.place(at::rand({S, dim == 1 ? 1 : R, dim == 2 ? 1 : C}));
  const auto out = s.fused.normalize_update(update, second, dim, 0.95);
  const Tensor mean = exact(update).square().mean(dim, true);
  const Tensor moment = exact(second).lerp(mean, 1 - 0.95);
  const Tensor scale = moment.clamp_min(1e-10).rsqrt();
  const auto norm = [](const Tensor& x) { return x.sum({1, 2}, true).sqrt(); };
  expect_close(out.second, moment, "second moment");
  expect_close(out.scale, scale * norm(mean) / norm(mean * scale.square()).clamp_min(1e-10),
               "scale");
}

inline void cautious_step(const Subject& s, int64_t S, int64_t R, int64_t C, int64_t dim) {
  const Tensor update = s.random({S + 2, R, C});
  const Tensor scale = s.place(at::rand({S + 2, dim == 1 ? 1 : R, dim == 2 ? 1 : C}) + 0.5);
  const std::vector<Tensor> weights{s.floats({R, C}), s.floats({S, R, C}), s.floats({R, C})};
  std::vector<Tensor> flat;
  for (const Tensor& w : weights) flat.push_back(exact(w).view({-1, R, C}));
  const Tensor w = at::cat(flat), u = exact(update) * exact(scale);
  const Tensor expected = w - (0.1 * u + 0.02 * w * (u * w).ge(0));
  s.fused.cautious_step(weights, update, scale, 0.1, 0.02);
  int64_t first = 0;
  for (const Tensor& weight : weights) {
    const int64_t n = weight.numel() / (R * C);
    expect_close(weight.view({n, R, C}), expected.narrow(0, first, n), "weight");
    first += n;
  }
}

// ------------------------------------------------------------------------------------------------
// All of it

inline void check_norms(const Subject& s) {
  // The last shape has more rows than a GPU's blocks take at a time.
  for (const auto& [N, C] : std::vector<std::pair<int64_t, int64_t>>{
           {1, 1}, {1, 7}, {3, 8}, {9, 64}, {17, 100}, {5, 512}, {2, 1030}, {70, 24}, {8200, 4}}) {
    SCOPED_TRACE(std::to_string(N) + " rows of " + std::to_string(C));
    rms_norm(s, N, C);
    mix_norm(s, N, C);
  }
}

inline void check_heads(const Subject& s) {
  for (const HeadsCase& c : {HeadsCase{1, 1, 1, 2, 1, true}, HeadsCase{2, 3, 3, 6, 5, true},
                             HeadsCase{1, 5, 2, 32, 7, true}, HeadsCase{2, 4, 2, 128, 9, true},
                             HeadsCase{1, 3, 1, 1040, 3, true}, HeadsCase{2, 5, 3, 64, 5, false},
                             HeadsCase{1, 2, 1, 14, 1, false}})
    for (const at::ScalarType table : {at::kFloat, at::kBFloat16}) {
      SCOPED_TRACE("heads of " + std::to_string(c.D) + ", table of " + at::toString(table));
      heads(s, c, table);
    }
}

inline void check_relu_squared(const Subject& s) {
  for (const std::vector<int64_t>& sizes :
       std::vector<std::vector<int64_t>>{{1}, {7}, {8}, {3, 5, 7}, {4, 1024}, {0}})
    relu_squared(s, sizes);
}

inline void check_cross_entropy(const Subject& s) {
  for (const auto& [N, V] : std::vector<std::pair<int64_t, int64_t>>{
           {1, 1}, {1, 2}, {3, 37}, {2, 256}, {5, 1000}, {2, 8192}, {1, 5003}, {1, 40000}})
    for (const double cap : {15.0, 100.0})
      for (const double spread : {0.01, 2.0, 40.0}) {
        SCOPED_TRACE(std::to_string(V) + " ids, cap " + std::to_string(cap) + ", spread " +
                     std::to_string(spread));
        cross_entropy(s, N, V, cap, spread);
      }
}

inline void check_embedding_backward(const Subject& s) {
  for (const int64_t C : {1, 7, 8, 64, 300})
    for (const int64_t N : {1, 2, 33, 200}) {
      SCOPED_TRACE(std::to_string(N) + " rows of " + std::to_string(C));
      embedding_backward(s, N, C, 11, at::randint(11, {N}));
      embedding_backward(s, N, C, 5, at::full({N}, 2, at::kLong));  // one id, first and last absent
      embedding_backward(s, N, C, 1, at::zeros({N}, at::kLong));
    }
  // Ids that fill chunks of 64 rows to the end, begin with one, or go on for several.
  const auto ids = [](std::initializer_list<int64_t> counts) {
    return at::arange(static_cast<int64_t>(counts.size()))
        .repeat_interleave(at::tensor(std::vector<int64_t>(counts)));
  };
  for (const Tensor& sorted : {ids({64, 64, 1}), ids({63, 2, 63}), ids({1, 300, 0, 19, 64}),
                               ids({128, 0, 129}), ids({65})})
    embedding_backward(s, sorted.numel(), 24, 6,
                       sorted.index_select(0, at::randperm(sorted.numel())));
}

inline void check_muon(const Subject& s) {
  nesterov(s, {1, 1, 1});
  nesterov(s, {2, 5, 7});
  nesterov(s, {3, 16, 24});
  for (const int64_t dim : {1, 2})
    for (const auto& [R, C] : std::vector<std::pair<int64_t, int64_t>>{
             {1, 1}, {1, 9}, {9, 1}, {4, 32}, {32, 4}, {40, 72}, {130, 33}}) {
      SCOPED_TRACE(std::to_string(R) + " x " + std::to_string(C) + ", over " + std::to_string(dim));
      normalize_update(s, 3, R, C, dim);
      cautious_step(s, 3, R, C, dim);
    }
}

inline void check_all(const Subject& s) {
  at::manual_seed(5);
  check_norms(s);
  check_heads(s);
  check_relu_squared(s);
  check_cross_entropy(s);
  check_embedding_backward(s);
  check_muon(s);
}

}  // namespace autoresearch::fused_checks
