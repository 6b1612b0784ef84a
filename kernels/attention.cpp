#include "kernels/attention.h"

#include <ATen/autocast_mode.h>
#include <ATen/record_function.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cmath>
#include <optional>

#include "common/error.h"
#include "kernels/cuda_program.h"
#include "kernels/fused.h"
#include "kernels/operands.h"

namespace autoresearch {
namespace {

using at::Tensor;

// What the flash kernel reads without checking: bfloat16, (B, T, H, D), channels adjacent.
Tensor flash_operand(const Tensor& x) { return x.to(at::kBFloat16).contiguous(); }

// FlashAttention-2 is compiled for compute capability 8.0 and later, and for these head sizes.
bool has_flash(const Tensor& q) {
  if (!q.is_cuda() || q.size(3) % 8 != 0 || q.size(3) > 256) return false;
  return cuda_capability(q.device()) >= 80;
}

// (B, T, H_kv, D) -> (B, T, heads, D): query head h reads key head h / (heads / H_kv).
Tensor repeat_heads(const Tensor& x, int64_t heads) {
  if (x.size(2) == heads) return x;
  const int64_t group = heads / x.size(2);
  return x.unsqueeze(3).expand({-1, -1, -1, group, -1}).flatten(2, 3);
}

struct CpuAttention : torch::autograd::Function<CpuAttention> {
  static Tensor forward(torch::autograd::AutogradContext* ctx, const Tensor& q, const Tensor& k,
                        const Tensor& v, int64_t window) {
    RECORD_FUNCTION("CpuAttention", std::vector<c10::IValue>{q});
    const Attention result = attention_cpu(q, k, v, window);
    ctx->save_for_backward({q, k, v, result.out, result.lse});
    ctx->saved_data["window"] = window;
    return result.out;
  }
  // grad, q: (B, T, H, D); k, v: (B, T, H_kv, D). With P = softmax(q k^T / sqrt(D)) and y = P v,
  // the scores get S = P (grad v^T - sum(grad y)); so q gets S k / sqrt(D), k gets S^T q / sqrt(D),
  // and v gets P^T grad.
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 const torch::autograd::variable_list& grads) {
    check_first_derivative();
    const auto saved = ctx->get_saved_variables();
    const auto [q, k, v] =
        attention_cpu_backward(grads[0].contiguous(), saved[0], saved[1], saved[2],
                               {saved[3], saved[4]}, ctx->saved_data["window"].toInt());
    return {q, k, v, {}};
  }
};

}  // namespace

void check_attention(const Tensor& q, const Tensor& k, const Tensor& v, int64_t window) {
  check(q.dim() == 4 && k.dim() == 4 && v.sizes() == k.sizes(),
        "windowed_attention: q must be (B, T, H, D), k and v (B, T, H_kv, D)");
  check(q.size(0) == k.size(0) && q.size(1) == k.size(1) && q.size(3) == k.size(3),
        "windowed_attention: q and k differ in batch, length or head size");
  check(k.device() == q.device() && v.device() == q.device(),
        "windowed_attention: q, k and v must be on one device");
  check(k.size(2) > 0 && q.size(2) % k.size(2) == 0,
        "windowed_attention: H must be a multiple of H_kv");
  check(window >= 0, "windowed_attention: the window must not be negative");
}

Tensor masked_attention(const Tensor& q, const Tensor& k, const Tensor& v, int64_t window) {
  // Autocast would cast the operands to its own type, float16 among them.
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
  const int64_t T = q.size(1);
  const bool full = window >= T - 1;
  const auto type = q.is_cpu() && q.scalar_type() == at::kBFloat16 ? at::kBFloat16 : at::kFloat;
  const auto operand = [&](const Tensor& x) {
    return repeat_heads(x, q.size(2)).to(type).transpose(1, 2);
  };
  std::optional<Tensor> mask;  // made anew each time: a cached one would be sealed as a weight
  if (!full) mask = at::ones({T, T}, q.options().dtype(at::kBool)).tril().triu(-window);
  const Tensor out = at::scaled_dot_product_attention(operand(q), operand(k), operand(v), mask,
                                                      /*dropout_p=*/0.0, /*is_causal=*/full);
  return out.transpose(1, 2).contiguous().to(q.scalar_type());
}

Tensor flash_attention(const Tensor& q, const Tensor& k, const Tensor& v, int64_t window) {
  const int64_t T = q.size(1);
  const double scale = 1 / std::sqrt(static_cast<double>(q.size(3)));
  const Tensor out = std::get<0>(at::_flash_attention_forward(
      flash_operand(q), flash_operand(k), flash_operand(v), /*cum_seq_q=*/{}, /*cum_seq_k=*/{}, T,
      T, /*dropout_p=*/0.0, /*is_causal=*/true, /*return_debug_mask=*/false, scale,
      /*window_size_left=*/window >= T - 1 ? -1 : window, /*window_size_right=*/0));
  return out.to(q.scalar_type());
}

Tensor fast_attention(const Tensor& q, const Tensor& k, const Tensor& v, int64_t window) {
  if (has_flash(q)) return flash_attention(q, k, v, window);
  const bool one_type = k.scalar_type() == q.scalar_type() && v.scalar_type() == q.scalar_type();
  if (at::GradMode::is_enabled() && q.is_cpu() && is_activation(q.scalar_type()) && one_type)
    return CpuAttention::apply(q.contiguous(), k.contiguous(), v.contiguous(), window);
  return masked_attention(q, k, v, window);
}

}  // namespace autoresearch
