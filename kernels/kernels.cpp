#include "kernels/kernels.h"

#include <ATen/core/grad_mode.h>
#include <ATen/record_function.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <optional>
#include <tuple>
#include <vector>

#include "common/error.h"
#include "kernels/attention.h"
#include "kernels/fused_check.h"
#include "kernels/operands.h"

namespace autoresearch {
namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

// ------------------------------------------------------------------------------------------------
// Autograd functions. `forward` is called with gradients off, `backward` perhaps on another thread
// and never under autocast: every operand is cast before `apply`, by an operator that has a
// gradient. RECORD_FUNCTION names them to the profiler, as autograd names the gradients.

void keep(AutogradContext* ctx, const Fused* fused) {
  ctx->saved_data["fused"] = reinterpret_cast<int64_t>(fused);
}
const Fused& kept(AutogradContext* ctx) {
  check_first_derivative();
  return *reinterpret_cast<const Fused*>(ctx->saved_data["fused"].toInt());
}

bool is_float(const Tensor& x) { return x.scalar_type() == at::kFloat; }

Tensor as_rows(const Tensor& x) { return x.contiguous().view({-1, x.size(-1)}); }

// Not a view to autograd, so that the result may be changed in place.
Tensor shaped_as(const Tensor& rows, const Tensor& x) { return at::_unsafe_view(rows, x.sizes()); }

struct RmsNorm : Function<RmsNorm> {
  static Tensor forward(AutogradContext* ctx, const Fused* fused, const Tensor& x) {
    RECORD_FUNCTION("RmsNorm", {});
    const auto [rows, rstd] = fused->rms_norm(as_rows(x));
    const Tensor normed = shaped_as(rows, x);
    keep(ctx, fused);
    ctx->save_for_backward({normed, rstd});
    return normed;
  }
  // x, y, grad: (..., C). y = r x with r = 1 / sqrt(mean(x^2) + eps) of each row, so x gets
  // r (grad - y mean(grad y)).
  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    const Tensor grad =
        kept(ctx).rms_norm_backward(as_rows(grads[0]), as_rows(saved[0]), saved[1], {});
    return {{}, shaped_as(grad, grads[0])};
  }
};

struct MixNorm : Function<MixNorm> {
  static variable_list forward(AutogradContext* ctx, const Fused* fused, const Tensor& x,
                               const Tensor& x0, const Tensor& a, const Tensor& b) {
    RECORD_FUNCTION("MixNorm", {});
    const auto [y, rows, rstd] = fused->mix_norm(as_rows(x), as_rows(x0), a, b);
    const Tensor normed = shaped_as(rows, x);
    keep(ctx, fused);
    ctx->save_for_backward({x, x0, a, b, normed, rstd});
    ctx->set_materialize_grads(false);  // x0 has no other use in the last layer
    return {shaped_as(y, x), normed, x0};
  }
  // x, x0, grads of y, normed and the x0 handed on: (..., C); a, b: 0-d. y = a x + b x0 gets
  // g = grad_y + (grad_normed through the norm, see RmsNorm). So x gets a g, x0 grad_x0 + b g,
  // a sum(g x), b sum(g x0).
  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    const Tensor &x = saved[0], &x0 = saved[1];
    const auto rows_or_0 = [&](const Tensor& grad) {
      return as_rows(grad.defined() ? grad : at::zeros_like(x));
    };
    const auto grad = kept(ctx).mix_norm_backward(
        rows_or_0(grads[0]), rows_or_0(grads[1]), as_rows(x), as_rows(x0), as_rows(saved[4]),
        saved[5], saved[2], saved[3], grads[2].defined() ? as_rows(grads[2]) : Tensor());
    return {{}, shaped_as(grad.x, x), shaped_as(grad.x0, x), grad.a, grad.b};
  }
};

// A residual sum in x's own memory, and its norm.
struct AddNorm : Function<AddNorm> {
  static variable_list forward(AutogradContext* ctx, const Fused* fused, Tensor x, const Tensor& h,
                               const Tensor& w) {
    RECORD_FUNCTION("AddNorm", {});
    as_rows(x).addmm_(as_rows(h), w.t());
    const auto [rows, rstd] = fused->rms_norm(as_rows(x));
    const Tensor normed = shaped_as(rows, x);
    keep(ctx, fused);
    ctx->save_for_backward({h, w, normed, rstd});
    ctx->mark_dirty({x});
    ctx->set_materialize_grads(false);
    return {x, normed};
  }
  // x, grads: (..., C); h: (..., K); w: (C, K). The sum x + h w^T gets g = grad_sum + (grad_normed
  // through the norm, see RmsNorm). So x gets g, h gets g w, and w gets g^T h.
  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    const Tensor &h = saved[0], &w = saved[1], &normed = saved[2];
    Tensor grad = grads[0];
    if (!grad.defined() && !grads[1].defined()) return variable_list(4);
    if (grads[1].defined()) {
      const Tensor others = grad.defined() ? as_rows(grad) : Tensor();
      grad = shaped_as(
          kept(ctx).rms_norm_backward(as_rows(grads[1]), as_rows(normed), saved[3], others),
          normed);
    }
    const Tensor rows = as_rows(grad);
    return {{}, grad, at::mm(rows, w).view_as(h), at::mm(rows.t(), as_rows(h))};
  }
};

Fused::ValueEmbedding operand(const std::optional<Tensor>& table, const std::optional<Tensor>& gate,
                              const Ids& ids) {
  return {table.value_or(Tensor()), ids.ids(), gate.value_or(Tensor())};
}

struct RopeNormGate : Function<RopeNormGate> {
  static variable_list forward(AutogradContext* ctx, const Fused* fused, const Tensor& qkv,
                               const Rope& rope, const std::optional<Tensor>& table,
                               const std::optional<Tensor>& gate, const Ids& ids) {
    RECORD_FUNCTION("RopeNormGate", {});
    const auto embedding = operand(table, gate, ids);
    const auto [q, k, v, rstd] = fused->rope_norm_gate(qkv, rope, embedding);
    keep(ctx, fused);
    ctx->save_for_backward({q, k, rstd, rope.cos, rope.sin, embedding.table, embedding.gate,
                            ids.ids(), ids.sorted(), ids.order()});
    return {q, k, v};
  }
  // grads: (B, T, H, D). Through the norm of a head g = r (grad - y mean(grad y)); through the
  // rotation x1 gets g1 cos - g2 sin and x2 g1 sin + g2 cos. v = x + 2 s e for s = sigmoid(gate)
  // and e = table[ids]: e gets 2 s grad, gate 2 s (1 - s) sum(grad e), the table the sums over ids.
  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    const Tensor &q = saved[0], &k = saved[1], &rstd = saved[2], &table = saved[5];
    const auto grad = kept(ctx).rope_norm_gate_backward(
        grads[0].contiguous(), grads[1].contiguous(), grads[2].contiguous(), q, k, rstd,
        {saved[3], saved[4]}, {table, saved[7], saved[6]});
    Tensor grad_table;
    if (table.defined()) {
      grad_table = kept(ctx).embedding_backward(as_rows(grad.embedded), saved[8], saved[9],
                                                table.size(0), table.scalar_type());
    }
    return {{}, grad.qkv, {}, grad_table, grad.gate, {}};
  }
};

struct ReluSquared : Function<ReluSquared> {
  static Tensor forward(AutogradContext* ctx, const Fused* fused, const Tensor& x) {
    RECORD_FUNCTION("ReluSquared", {});
    const Tensor y = fused->relu_squared(x);
    keep(ctx, fused);
    ctx->save_for_backward({y});
    return y;
  }
  // grad, y: any shape. y = max(x, 0)^2 grows by 2 max(x, 0) = 2 sqrt(y), so x gets 2 sqrt(y) grad.
  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    return {{}, kept(ctx).relu_squared_backward(grads[0].contiguous(), saved[0])};
  }
};

// Rows whose logits are worked off together. On a CPU they stay in the cache; on a GPU the products
// want to be large, and the gradient of the head is summed in one of them.
int64_t rows_at_once(const Tensor& x, int64_t V) {
  constexpr int64_t kCpuLogits = 1 << 18;
  return x.is_cpu() ? std::max<int64_t>(16, kCpuLogits / V) : std::max<int64_t>(1, x.size(0));
}

struct SoftcapCrossEntropy : Function<SoftcapCrossEntropy> {
  static Tensor forward(AutogradContext* ctx, const Fused* fused, const Tensor& x,
                        const Tensor& head, const Tensor& targets, double cap) {
    RECORD_FUNCTION("SoftcapCrossEntropy", {});
    const int64_t N = x.size(0), rows = rows_at_once(x, head.size(0));
    Tensor grad_x = at::empty_like(x), grad_head = at::zeros_like(head, at::kFloat);
    std::vector<Tensor> losses;
    for (int64_t i = 0; i < N; i += rows) {
      const int64_t n = std::min(rows, N - i);
      const Tensor part = x.narrow(0, i, n);
      Tensor logits = at::mm(part, head.t());
      losses.push_back(fused->softcap_cross_entropy(logits, targets.narrow(0, i, n), cap,
                                                    1 / static_cast<double>(N)));
      Tensor grad_part = grad_x.narrow(0, i, n);
      at::mm_out(grad_part, logits, head);
      if (is_float(part)) {
        grad_head.addmm_(logits.t(), part);
      } else {
        grad_head.add_(at::mm(logits.t(), part));
      }
    }
    // The mean is over the targets that count: 1 if all do.
    const Tensor weight = static_cast<double>(N) / targets.ne(kIgnoredTarget).sum().to(at::kFloat);
    ctx->save_for_backward({grad_x, grad_head, weight});
    return at::cat(losses).mean() * weight;
  }
  // grad: 0-d; x: (N, C); head: (V, C). With z = x head^T, the logits' gradient g of the loss
  // (Fused::softcap_cross_entropy) was known in forward, and with it g head of x and g^T x of head:
  // both only want the factor grad * weight.
  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    check_first_derivative();
    const auto saved = ctx->get_saved_variables();
    const Tensor grad = grads[0] * saved[2];
    return {{}, saved[0] * grad, (saved[1] * grad).to(saved[0].scalar_type()), {}, {}};
  }
};

struct Embedding : Function<Embedding> {
  static Tensor forward(AutogradContext* ctx, const Fused* fused, const Tensor& table,
                        const Tensor& ids, const Tensor& sorted, const Tensor& order,
                        at::ScalarType type) {
    RECORD_FUNCTION("Embedding", {});
    keep(ctx, fused);
    ctx->save_for_backward({sorted, order});
    ctx->saved_data["rows"] = table.size(0);
    ctx->saved_data["type"] = table.scalar_type();
    return at::embedding(table, ids).to(type);
  }
  // grad: (B, T, C); table: (V, C). y[n] = table[ids[n]], so row v gets the sum of grad[n] over all
  // n with ids[n] = v.
  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    const Tensor grad = kept(ctx).embedding_backward(as_rows(grads[0]), saved[0], saved[1],
                                                     ctx->saved_data["rows"].toInt(),
                                                     ctx->saved_data["type"].toScalarType());
    return {{}, grad, {}, {}, {}, {}};
  }
};

// ------------------------------------------------------------------------------------------------
// Twins

Tensor aten_rms_norm(const Tensor& x) {
  return at::rms_norm(x, {x.size(-1)}, /*weight=*/{}, kNormEpsilon).to(x.scalar_type());
}

Tensor rotate(const Tensor& x, const Tensor& cos, const Tensor& sin) {
  const auto halves = x.chunk(2, -1);
  const Tensor &x1 = halves[0], &x2 = halves[1];
  return at::cat({x1 * cos + x2 * sin, x2 * cos - x1 * sin}, -1);
}

QueriesKeysValues aten_rope_norm_gate(const Tensor& qkv, const Rope& rope,
                                      const ValueEmbedding& e) {
  const auto parts = qkv.unbind(2);
  const int64_t T = qkv.size(1);
  const Tensor cos = rope.cos.narrow(0, 0, T).unsqueeze(1);
  const Tensor sin = rope.sin.narrow(0, 0, T).unsqueeze(1);
  Tensor v = parts[2];
  if (e.table.defined()) {
    const Tensor embedded = at::embedding(e.table, e.ids.ids()).to(v.scalar_type()).view_as(v);
    v = v + 2 * at::sigmoid(e.gate).unsqueeze(-1) * embedded;
  }
  return {aten_rms_norm(rotate(parts[0], cos, sin)), aten_rms_norm(rotate(parts[1], cos, sin)), v};
}

Tensor aten_softcap_cross_entropy(const Tensor& x, const Tensor& head, const Tensor& targets,
                                  double cap) {
  Tensor logits = at::linear(x, head);
  if (at::isReducedFloatingType(logits.scalar_type())) logits = logits.to(at::kFloat);
  return at::cross_entropy_loss(cap * at::tanh(logits / cap), targets);
}

std::vector<Tensor> aten_changes(const CautiousStep& step) {
  const auto& [weights, update, scale, lr, decay] = step;
  const Tensor u = update * scale;
  std::vector<Tensor> changes;
  int64_t first = 0;
  for (const Tensor& w : weights) {
    const int64_t n = w.numel() / (u.size(1) * u.size(2));
    const Tensor part = u.narrow(0, first, n).view_as(w);
    changes.push_back((lr * part + decay * w * (part * w).ge(0)).to(w.scalar_type()));
    first += n;
  }
  return changes;
}

// ------------------------------------------------------------------------------------------------
// What the fused operations take: they read raw memory. All else is for the twins, which broadcast,
// compute in any type and tell what is wrong.

bool has_rows(const Tensor& x) {
  return is_activation(x.scalar_type()) && x.dim() > 0 && x.numel() > 0;
}
bool beside(const Tensor& x, std::initializer_list<Tensor> others) {
  return std::all_of(others.begin(), others.end(),
                     [&](const Tensor& other) { return other.device() == x.device(); });
}

// (S, R, 1) for dim 2, (S, 1, C) for dim 1.
bool is_statistic(const Tensor& x, const Tensor& stack, int64_t dim) {
  return x.dim() == 3 && x.size(0) == stack.size(0) && x.size(dim) == 1 &&
         x.size(3 - dim) == stack.size(3 - dim) && stack.numel() > 0;
}

void check_heads(const Tensor& qkv, const Rope& rope, const ValueEmbedding& e) {
  check(qkv.dim() == 5 && qkv.size(2) == 3, "rope_norm_gate: qkv must be (B, T, 3, H, D)");
  const int64_t B = qkv.size(0), T = qkv.size(1), H = qkv.size(3), D = qkv.size(4);
  check(D % 2 == 0, "rope_norm_gate: the head size D is " + std::to_string(D) + ", not even");
  const auto fits = [&](const Tensor& x) {
    return x.dim() == 2 && x.size(0) >= T && x.size(1) == D / 2;
  };
  check(fits(rope.cos) && fits(rope.sin), "rope_norm_gate: cos and sin must have " +
                                              std::to_string(T) +
                                              " rows or more of D / 2 = " + std::to_string(D / 2));
  if (!e.table.defined()) return;
  check(e.table.dim() == 2 && e.table.size(1) == H * D,
        "rope_norm_gate: the table must be (V, H * D), H * D = " + std::to_string(H * D));
  check(e.ids.ids().defined() && e.ids.ids().numel() == B * T && e.gate.defined(),
        "rope_norm_gate: a table needs the ids of all B * T tokens, and a gate");
}

// After check_heads.
bool can_fuse(const Tensor& qkv, const Rope& rope, const ValueEmbedding& e) {
  if (!has_rows(qkv) || !beside(qkv, {rope.cos, rope.sin})) return false;
  if (rope.cos.requires_grad() || rope.sin.requires_grad()) return false;
  if (!e.table.defined()) return true;
  return is_activation(e.table.scalar_type()) && beside(qkv, {e.table, e.ids.ids(), e.gate}) &&
         e.gate.sizes() == at::IntArrayRef({qkv.size(0), qkv.size(1), qkv.size(3)});
}

bool can_fuse(const CautiousStep& step) {
  const auto& [weights, update, scale, lr, decay] = step;
  if (update.dim() != 3 || !is_activation(update.scalar_type()) || !is_float(scale)) return false;
  if (!is_statistic(scale, update, 1) && !is_statistic(scale, update, 2)) return false;
  int64_t n = 0;
  for (const Tensor& w : weights) {
    if (!is_float(w) || !w.is_contiguous() || !beside(update, {w})) return false;
    if (w.numel() % (update.size(1) * update.size(2)) != 0) return false;
    n += w.numel();
  }
  return n == update.numel() && beside(update, {scale});
}

// Ids that were made with gradients off and are used with them on.
Ids sorted(const Ids& ids) {
  return ids.sorted().defined() || !at::GradMode::is_enabled() ? ids : Ids(ids.ids());
}

// On a GPU the kernels look after themselves: reading the ids here would wait for it.
void check_range(const Ids& ids, int64_t V) {
  if (!ids.ids().is_cpu() || ids.ids().numel() == 0) return;
  const Tensor least = ids.sorted().defined() ? ids.sorted()[0] : ids.ids().min();
  const Tensor most = ids.sorted().defined() ? ids.sorted()[-1] : ids.ids().max();
  check(least.item<int64_t>() >= 0 && most.item<int64_t>() < V,
        "token ids from " + std::to_string(least.item<int64_t>()) + " to " +
            std::to_string(most.item<int64_t>()) + ", but the table has " + std::to_string(V) +
            " rows");
}

void check_targets(const Tensor& targets, int64_t V) {
  if (!targets.is_cpu() || targets.numel() == 0) return;
  const auto [least, most] = at::aminmax(targets.masked_fill(targets.eq(kIgnoredTarget), 0));
  check(least.item<int64_t>() >= 0 && most.item<int64_t>() < V,
        "softcap_cross_entropy: targets from " + std::to_string(least.item<int64_t>()) + " to " +
            std::to_string(most.item<int64_t>()) + ", but the head has " + std::to_string(V) +
            " rows");
}

}  // namespace

// ------------------------------------------------------------------------------------------------
// Operations

Ids::Ids(const Tensor& token_ids) : ids_(token_ids) {
  if (!at::GradMode::is_enabled()) return;
  ids_ = token_ids.to(at::kLong).contiguous();
  std::tie(sorted_, order_) = at::sort(ids_.flatten(), /*stable=*/std::optional(true), /*dim=*/0);
}

Tensor windowed_attention(const Tensor& q, const Tensor& k, const Tensor& v, int64_t window) {
  const bool twin = ways_for(q).twins[static_cast<size_t>(Operation::kAttention)];
  check_attention(q, k, v, window);
  return twin ? masked_attention(q, k, v, window) : fast_attention(q, k, v, window);
}

Tensor rms_norm(const Tensor& x) {
  const Fused* const fast = ways_for(x).fast(Operation::kRmsNorm);
  if (!fast || !has_rows(x)) return aten_rms_norm(x);
  return RmsNorm::apply(fast, x.contiguous());
}

Mixed mix_norm(const Tensor& x, const Tensor& x0, const Tensor& a, const Tensor& b) {
  const Fused* const fast = ways_for(x).fast(Operation::kMixNorm);
  const bool alike = x0.sizes() == x.sizes() && a.dim() == 0 && b.dim() == 0;
  if (!fast || !has_rows(x) || !alike || !beside(x, {x0, a, b})) {
    const Tensor y = a * x + b * x0;
    return {y, aten_rms_norm(y), x0};
  }
  const auto out = MixNorm::apply(fast, x.contiguous(), x0.to(x.scalar_type()).contiguous(),
                                  a.to(at::kFloat), b.to(at::kFloat));
  return {out[0], out[1], out[2]};
}

Summed add_norm(Tensor x, const Tensor& h, const Tensor& w) {
  const Fused* const fast = ways_for(x).fast(Operation::kRmsNorm);
  const auto type = product_type(x);
  if (fast && has_rows(x) && x.scalar_type() == type && beside(x, {h, w}) && is_given_up(x)) {
    const auto out =
        AddNorm::apply(fast, std::move(x), h.to(type).contiguous(), w.to(type).contiguous());
    return {out[0], out[1]};
  }
  const Tensor sum = add_linear(std::move(x), h, w);
  return {sum, rms_norm(sum)};
}

QueriesKeysValues rope_norm_gate(const Tensor& qkv, const Rope& rope, const ValueEmbedding& e) {
  const Fused* const fast = ways_for(qkv).fast(Operation::kRopeNormGate);
  check_heads(qkv, rope, e);
  if (!fast || !can_fuse(qkv, rope, e)) return aten_rope_norm_gate(qkv, rope, e);
  const auto type = qkv.scalar_type();
  const auto cast = [&](const Tensor& x) { return x.to(type).contiguous(); };
  std::optional<Tensor> table, gate;
  Ids ids;
  if (e.table.defined()) {
    table = e.table.contiguous();
    gate = cast(e.gate);
    ids = sorted(e.ids);
    check_range(ids, table->size(0));
  }
  const auto out = RopeNormGate::apply(fast, qkv.contiguous(), Rope{cast(rope.cos), cast(rope.sin)},
                                       table, gate, ids);
  return {out[0], out[1], out[2]};
}

Tensor relu_squared(const Tensor& x) {
  const Fused* const fast = ways_for(x).fast(Operation::kReluSquared);
  if (!fast || !is_activation(x.scalar_type())) return at::relu(x).square();
  return ReluSquared::apply(fast, x.contiguous());
}

Tensor softcap_cross_entropy(const Tensor& x, const Tensor& head, const Tensor& targets,
                             double cap) {
  const Fused* const fast = ways_for(x).fast(Operation::kSoftcapCrossEntropy);
  check(head.dim() == 2 && x.dim() > 0 && head.size(1) == x.size(-1),
        "softcap_cross_entropy: x must be (..., C) and head (V, C)");
  check(targets.numel() * x.size(-1) == x.numel() && !targets.is_floating_point(),
        "softcap_cross_entropy: there must be one target, an id, for each row of x");
  const Tensor rows = x.reshape({-1, x.size(-1)}), aims = targets.reshape({-1}).to(at::kLong);
  check_targets(aims, head.size(0));
  const auto type = product_type(x);
  if (!fast || !is_activation(type) || x.numel() == 0 || !beside(x, {head, targets}))
    return aten_softcap_cross_entropy(rows, head, aims, cap);
  return SoftcapCrossEntropy::apply(fast, rows.to(type).contiguous(), head.to(type).contiguous(),
                                    aims, cap);
}

Tensor embedding(const Tensor& table, const Ids& ids, at::ScalarType type) {
  const Fused* const fast = ways_for(table, type).fast(Operation::kEmbedding);
  const bool fits = table.dim() == 2 && is_activation(table.scalar_type()) && is_activation(type);
  if (!fast || !fits || table.numel() == 0 || ids.ids().numel() == 0 || !beside(table, {ids.ids()}))
    return at::embedding(table, ids.ids()).to(type);
  const Ids all = sorted(ids);
  check_range(all, table.size(0));
  return Embedding::apply(fast, table, all.ids(), all.sorted(), all.order(), type);
}

Momentum nesterov(const Tensor& grad, const Tensor& momentum, double mu, at::ScalarType type) {
  RECORD_FUNCTION("nesterov", {});
  const Fused* const fast = optimizer_ways(grad, type).fast(Operation::kNesterov);
  const bool fits = is_float(grad) && is_float(momentum) && grad.sizes() == momentum.sizes();
  if (fast && fits && is_activation(type) && beside(grad, {momentum}))
    return fast->nesterov(grad.contiguous(), momentum.contiguous(), mu, type);
  const Tensor g = grad.to(momentum.scalar_type()), next = momentum.lerp(g, 1 - mu);
  return {next, g.lerp(next, mu).to(type)};
}

SecondMoment normalize_update(const Tensor& update, const Tensor& second, int64_t dim,
                              double beta2) {
  RECORD_FUNCTION("normalize_update", {});
  const Fused* const fast =
      optimizer_ways(update, update.scalar_type()).fast(Operation::kNormalizeUpdate);
  check(update.dim() == 3 && (dim == 1 || dim == 2),
        "normalize_update: the update must be (S, R, C), and dim 1 or 2");
  const bool fits = is_float(second) && is_statistic(second, update, dim);
  if (fast && fits && is_activation(update.scalar_type()) && beside(update, {second}))
    return fast->normalize_update(update.contiguous(), second.contiguous(), dim, beta2);
  const Tensor mean_square = update.to(second.scalar_type()).square().mean(dim, /*keepdim=*/true);
  const Tensor next = second.lerp(mean_square, 1 - beta2);
  const Tensor scale = next.clamp_min(kLeastMoment).rsqrt();
  const Tensor norm = mean_square.sum({1, 2}, /*keepdim=*/true).sqrt();
  const Tensor new_norm = (mean_square * scale.square()).sum({1, 2}, /*keepdim=*/true).sqrt();
  return {next, scale * (norm / new_norm.clamp_min(kLeastMoment))};
}

void cautious_step(const std::vector<CautiousStep>& steps) {
  if (steps.empty()) return;
  RECORD_FUNCTION("cautious_step", {});
  const Tensor& first = steps[0].update;
  const Fused* const fast =
      optimizer_ways(first, first.scalar_type()).fast(Operation::kCautiousStep);
  // Everything is allocated before the first weight is written, as kernels.h promises.
  std::vector<CautiousStep> ready;
  std::vector<std::vector<Tensor>> changes(steps.size());
  for (size_t i = 0; i < steps.size(); ++i) {
    ready.push_back(steps[i]);
    ready[i].update = steps[i].update.contiguous();
    ready[i].scale = steps[i].scale.contiguous();
    if (!fast || !can_fuse(ready[i])) changes[i] = aten_changes(steps[i]);
  }
  for (size_t i = 0; i < steps.size(); ++i) {
    const auto& [weights, update, scale, lr, decay] = ready[i];
    if (changes[i].empty()) {
      fast->cautious_step(weights, update, scale, lr, decay);
    } else {
      for (size_t j = 0; j < weights.size(); ++j) weights[j].sub_(changes[i][j]);
    }
  }
}

}  // namespace autoresearch
