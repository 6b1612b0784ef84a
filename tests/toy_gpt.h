// A GPT in miniature of upstream's shape, and ways to spoil it, for the tests of seal and
// score.
#pragma once

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/autocast_mode.h>

#include <array>
#include <vector>

namespace autoresearch {

// These models are too small for two threads: on a busy machine they mostly wait for each other.
inline const bool one_thread = (at::set_num_threads(1), true);

struct ToyGpt {
  int64_t vocab, seq_len, width, heads;
  int64_t window = seq_len / 2;  // how far back a position looks
  bool autocast = false;         // bfloat16 on CPU, as train.cpp does it
  at::Tensor wte, head, cos, sin;
  std::vector<std::array<at::Tensor, 4>> layers;

  ToyGpt(int64_t vocab, int64_t seq_len, int64_t width, int64_t heads, int64_t depth)
      : vocab(vocab), seq_len(seq_len), width(width), heads(heads) {
    at::manual_seed(1);
    wte = at::randn({vocab, width}).to(at::kBFloat16);
    head = at::randn({vocab, width}) * 0.2;
    for (int64_t i = 0; i < depth; i++)
      layers.push_back({at::randn({3 * width, width}) * 0.1, at::randn({width, width}) * 0.1,
                        at::randn({4 * width, width}) * 0.1, at::randn({width, 4 * width}) * 0.1});
    const int64_t half = width / heads / 2;
    const at::Tensor base = at::pow(10000.0, -at::arange(0, half).to(at::kFloat) / half);
    const at::Tensor angle = at::outer(at::arange(seq_len).to(at::kFloat), base);
    cos = angle.cos().to(at::kBFloat16).view({1, seq_len, 1, half});
    sin = angle.sin().to(at::kBFloat16).view({1, seq_len, 1, half});
  }

  at::Tensor operator()(const at::Tensor& ids) const {
    const bool before = at::autocast::is_autocast_enabled(at::kCPU);
    at::autocast::set_autocast_enabled(at::kCPU, autocast);
    const at::Tensor logits = forward(ids);
    at::autocast::clear_cache();
    at::autocast::set_autocast_enabled(at::kCPU, before);
    return logits;
  }

 private:
  at::Tensor rope(const at::Tensor& x) const {
    const auto half = x.chunk(2, 3);
    return at::cat({half[0] * cos + half[1] * sin, half[1] * cos - half[0] * sin}, 3);
  }

  at::Tensor attention(const at::Tensor& x, const at::Tensor& weight) const {
    const int64_t B = x.size(0), T = x.size(1), D = width / heads;
    const auto qkv = at::linear(x, weight).view({B, T, 3, heads, D}).unbind(2);
    const at::Tensor q = at::rms_norm(rope(qkv[0]), {D}), k = at::rms_norm(rope(qkv[1]), {D});
    const at::Tensor i = at::arange(T).unsqueeze(1), j = at::arange(T).unsqueeze(0);
    const at::Tensor mask = (j <= i).logical_and(j >= i - window);
    return at::scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2),
                                            qkv[2].to(q.scalar_type()).transpose(1, 2), mask)
        .transpose(1, 2)
        .contiguous()
        .view({B, T, width});
  }

  at::Tensor forward(const at::Tensor& ids) const {
    at::Tensor x = at::rms_norm(at::embedding(wte, ids).to(at::kFloat), {width});
    for (const auto& [qkv, out, up, down] : layers) {
      x = x + at::linear(attention(at::rms_norm(x, {width}), qkv), out);
      x = x + at::linear(at::relu(at::linear(at::rms_norm(x, {width}), up)).square(), down);
    }
    const at::Tensor logits = at::linear(at::rms_norm(x, {width}), head).to(at::kFloat);
    return 15 * at::tanh(logits / 15);
  }
};

}  // namespace autoresearch
