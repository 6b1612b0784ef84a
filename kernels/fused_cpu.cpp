#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>
#include <vector>

#include "kernels/fused.h"
#include "kernels/fused_loops.h"

namespace autoresearch {
namespace {

using at::Tensor;

// f(loops, type) with the loops of `type` and a value of their element type.
template <class F>
auto dispatch(const Loops& loops, at::ScalarType type, F f) {
  TORCH_CHECK(type == at::kFloat || type == at::kBFloat16, "fused operations take no ", type);
  return type == at::kFloat ? f(loops.float32, float{}) : f(loops.bfloat16, Bf16{});
}

template <class T>
const T* in(const Tensor& x) {
  return static_cast<const T*>(x.const_data_ptr());
}
template <class T>
const T* in_any(const Tensor& x, int64_t i) {  // null if x is undefined
  return x.defined() ? in<T>(x) + i : nullptr;
}
template <class T>
T* out(const Tensor& x) {
  return static_cast<T*>(x.mutable_data_ptr());
}

constexpr int64_t kGrain = 16384;  // elements that are worth a thread

// f(first, count) over rows of C elements each, on all threads.
template <class F>
void for_rows(int64_t rows, int64_t C, F f) {
  at::parallel_for(0, rows, std::max<int64_t>(1, kGrain / std::max<int64_t>(C, 1)),
                   [&](int64_t begin, int64_t end) { f(begin, end - begin); });
}

Tensor empty_floats(at::IntArrayRef sizes) { return at::empty(sizes, at::kFloat); }

// Row `id` of a table in the type of an activation.
template <class T>
class TableRow {
 public:
  TableRow(const Loops& loops, const Tensor& table)
      : loops_(loops), table_(table), C_(table.size(1)), wide_(C_), row_(C_) {}

  const T* operator()(int64_t id) {
    return dispatch(loops_, table_.scalar_type(),
                    [&]<class E>(const RowLoops<E>& from, E) -> const T* {
                      const E* row = in<E>(table_) + id * C_;
                      if constexpr (std::is_same_v<E, T>) {
                        return row;
                      } else {
                        from.widen(row, wide_.data(), C_);
                        return narrowed(wide_);
                      }
                    });
  }

 private:
  const float* narrowed(const std::vector<float>& row) requires std::is_same_v<T, float> {
    return row.data();
  }
  const Bf16* narrowed(const std::vector<float>& row) requires std::is_same_v<T, Bf16> {
    loops_.bfloat16.narrow(row.data(), row_.data(), C_);
    return row_.data();
  }

  const Loops& loops_;
  const Tensor& table_;
  int64_t C_;
  std::vector<float> wide_;
  std::vector<T> row_;
};

class FusedCpu : public Fused {
 public:
  explicit FusedCpu(const Loops& loops) : loops_(loops) {}

  Normed rms_norm(const Tensor& x) const override {
    const int64_t N = x.size(0), C = x.size(1);
    Normed result{at::empty_like(x), empty_floats({N})};
    dispatch(loops_, x.scalar_type(), [&]<class T>(const RowLoops<T>& loops, T) {
      for_rows(N, C, [&](int64_t i, int64_t n) {
        loops.rms_norm(in<T>(x) + i * C, out<T>(result.normed) + i * C, out<float>(result.rstd) + i,
                       n, C);
      });
    });
    return result;
  }

  Tensor rms_norm_backward(const Tensor& grad, const Tensor& normed, const Tensor& rstd,
                           const Tensor& others) const override {
    const int64_t N = grad.size(0), C = grad.size(1);
    Tensor grad_x = at::empty_like(grad);
    dispatch(loops_, grad.scalar_type(), [&]<class T>(const RowLoops<T>& loops, T) {
      for_rows(N, C, [&](int64_t i, int64_t n) {
        loops.rms_norm_backward(in<T>(grad) + i * C, in<T>(normed) + i * C, in<float>(rstd) + i,
                                in_any<T>(others, i * C), out<T>(grad_x) + i * C, n, C);
      });
    });
    return grad_x;
  }

  MixNormed mix_norm(const Tensor& x, const Tensor& x0, const Tensor& a,
                     const Tensor& b) const override {
    const int64_t N = x.size(0), C = x.size(1);
    MixNormed result{at::empty_like(x), at::empty_like(x), empty_floats({N})};
    dispatch(loops_, x.scalar_type(), [&]<class T>(const RowLoops<T>& loops, T) {
      for_rows(N, C, [&](int64_t i, int64_t n) {
        loops.mix_norm(in<T>(x) + i * C, in<T>(x0) + i * C, *in<float>(a), *in<float>(b),
                       out<T>(result.y) + i * C, out<T>(result.normed) + i * C,
                       out<float>(result.rstd) + i, n, C);
      });
    });
    return result;
  }

  MixNormGrads mix_norm_backward(const Tensor& grad_y, const Tensor& grad_normed, const Tensor& x,
                                 const Tensor& x0, const Tensor& normed, const Tensor& rstd,
                                 const Tensor& a, const Tensor& b,
                                 const Tensor& others) const override {
    const int64_t N = x.size(0), C = x.size(1);
    MixNormGrads grads{at::empty_like(x), at::empty_like(x), empty_floats({}), empty_floats({})};
    // The sums of fixed blocks, so that they do not depend on the number of threads.
    constexpr int64_t kBlock = 64;
    const int64_t blocks = (N + kBlock - 1) / kBlock;
    std::vector<float> sums(2 * blocks);
    dispatch(loops_, x.scalar_type(), [&]<class T>(const RowLoops<T>& loops, T) {
      for_rows(blocks, kBlock * C, [&](int64_t first, int64_t count) {
        for (int64_t block = first; block < first + count; ++block) {
          const int64_t row = block * kBlock, i = row * C;
          loops.mix_norm_backward(in<T>(grad_y) + i, in<T>(grad_normed) + i, in<T>(x) + i,
                                  in<T>(x0) + i, in<T>(normed) + i, in<float>(rstd) + row,
                                  *in<float>(a), *in<float>(b), in_any<T>(others, i),
                                  out<T>(grads.x) + i, out<T>(grads.x0) + i, &sums[2 * block],
                                  std::min(kBlock, N - row), C);
        }
      });
    });
    double sum_a = 0, sum_b = 0;
    for (int64_t block = 0; block < blocks; ++block) {
      sum_a += sums[2 * block];
      sum_b += sums[2 * block + 1];
    }
    *out<float>(grads.a) = static_cast<float>(sum_a);
    *out<float>(grads.b) = static_cast<float>(sum_b);
    return grads;
  }

  Heads rope_norm_gate(const Tensor& qkv, const Rope& rope,
                       const ValueEmbedding& embedding) const override {
    const int64_t B = qkv.size(0), T = qkv.size(1), H = qkv.size(3), D = qkv.size(4), C = H * D;
    const auto heads = [&] { return at::empty({B, T, H, D}, qkv.options()); };
    Heads result{heads(), heads(), heads(), empty_floats({B, T, 2, H})};
    dispatch(loops_, qkv.scalar_type(), [&]<class A>(const RowLoops<A>& loops, A) {
      for_rows(B * T, 3 * C, [&](int64_t first, int64_t count) {
        std::optional<TableRow<A>> row;  // each thread's own: it holds a row that was cast
        if (embedding.table.defined()) row.emplace(loops_, embedding.table);
        for (int64_t i = first; i < first + count; ++i) {
          const A* x = in<A>(qkv) + i * 3 * C;
          const A* cos = in<A>(rope.cos) + i % T * (D / 2);
          const A* sin = in<A>(rope.sin) + i % T * (D / 2);
          float* rstd = out<float>(result.rstd) + i * 2 * H;
          loops.rotate_norm(x, cos, sin, out<A>(result.q) + i * C, rstd, H, D);
          loops.rotate_norm(x + C, cos, sin, out<A>(result.k) + i * C, rstd + H, H, D);
          A* v = out<A>(result.v) + i * C;
          if (row) {
            loops.gate(x + 2 * C, in<A>(embedding.gate) + i * H,
                       (*row)(in<int64_t>(embedding.ids)[i]), v, H, D);
          } else {
            std::copy_n(x + 2 * C, C, v);
          }
        }
      });
    });
    return result;
  }

  HeadsGrads rope_norm_gate_backward(const Tensor& grad_q, const Tensor& grad_k,
                                     const Tensor& grad_v, const Tensor& q, const Tensor& k,
                                     const Tensor& rstd, const Rope& rope,
                                     const ValueEmbedding& embedding) const override {
    const int64_t B = q.size(0), T = q.size(1), H = q.size(2), D = q.size(3), C = H * D;
    HeadsGrads grads{at::empty({B, T, 3, H, D}, q.options()), {}, {}};
    if (embedding.table.defined()) {  // of the table itself: embedding_backward, from `embedded`
      grads.embedded = at::empty({B, T, C}, q.options());
      grads.gate = at::empty({B, T, H}, q.options());
    }
    dispatch(loops_, q.scalar_type(), [&]<class A>(const RowLoops<A>& loops, A) {
      for_rows(B * T, 3 * C, [&](int64_t first, int64_t count) {
        std::optional<TableRow<A>> row;
        if (embedding.table.defined()) row.emplace(loops_, embedding.table);
        for (int64_t i = first; i < first + count; ++i) {
          A* grad = out<A>(grads.qkv) + i * 3 * C;
          const A* cos = in<A>(rope.cos) + i % T * (D / 2);
          const A* sin = in<A>(rope.sin) + i % T * (D / 2);
          const float* scale = in<float>(rstd) + i * 2 * H;
          loops.rotate_norm_backward(in<A>(grad_q) + i * C, in<A>(q) + i * C, scale, cos, sin, grad,
                                     H, D);
          loops.rotate_norm_backward(in<A>(grad_k) + i * C, in<A>(k) + i * C, scale + H, cos, sin,
                                     grad + C, H, D);
          std::copy_n(in<A>(grad_v) + i * C, C, grad + 2 * C);
          if (row) {
            loops.gate_backward(in<A>(grad_v) + i * C, in<A>(embedding.gate) + i * H,
                                (*row)(in<int64_t>(embedding.ids)[i]),
                                out<A>(grads.embedded) + i * C, out<A>(grads.gate) + i * H, H, D);
          }
        }
      });
    });
    return grads;
  }

  Tensor relu_squared(const Tensor& x) const override {
    Tensor y = at::empty_like(x);
    dispatch(loops_, x.scalar_type(), [&]<class T>(const RowLoops<T>& loops, T) {
      for_rows(x.numel(), 1,
               [&](int64_t i, int64_t n) { loops.relu_squared(in<T>(x) + i, out<T>(y) + i, n); });
    });
    return y;
  }

  Tensor relu_squared_backward(const Tensor& grad, const Tensor& y) const override {
    Tensor grad_x = at::empty_like(grad);
    dispatch(loops_, grad.scalar_type(), [&]<class T>(const RowLoops<T>& loops, T) {
      for_rows(grad.numel(), 1, [&](int64_t i, int64_t n) {
        loops.relu_squared_backward(in<T>(grad) + i, in<T>(y) + i, out<T>(grad_x) + i, n);
      });
    });
    return grad_x;
  }

  Tensor softcap_cross_entropy(Tensor& logits, const Tensor& targets, double cap,
                               double scale) const override {
    const int64_t N = logits.size(0), V = logits.size(1);
    Tensor losses = empty_floats({N});
    dispatch(loops_, logits.scalar_type(), [&]<class T>(const RowLoops<T>& loops, T) {
      for_rows(N, V, [&](int64_t i, int64_t n) {
        std::vector<float> scratch(2 * V);
        loops.softcap_cross_entropy(out<T>(logits) + i * V, in<int64_t>(targets) + i,
                                    static_cast<float>(cap), static_cast<float>(scale),
                                    out<float>(losses) + i, scratch.data(), n, V);
      });
    });
    return losses;
  }

  Tensor embedding_backward(const Tensor& grad, const Tensor& sorted_ids, const Tensor& order,
                            int64_t V, at::ScalarType type) const override {
    const int64_t N = grad.size(0), C = grad.size(1);
    const int64_t *ids = in<int64_t>(sorted_ids), *from = in<int64_t>(order);
    Tensor table = at::empty({V, C}, grad.options().dtype(type));
    dispatch(loops_, grad.scalar_type(), [&]<class T>(const RowLoops<T>& loops_in, T) {
      dispatch(loops_, type, [&]<class E>(const RowLoops<E>& loops_out, E) {
        for_rows(V, C, [&](int64_t first, int64_t count) {
          std::vector<float> sum(C);
          int64_t i = std::lower_bound(ids, ids + N, first) - ids;
          for (int64_t id = first; id < first + count; ++id) {
            std::fill(sum.begin(), sum.end(), 0.0F);
            for (; i < N && ids[i] == id; ++i)
              loops_in.add(in<T>(grad) + from[i] * C, sum.data(), C);
            loops_out.narrow(sum.data(), out<E>(table) + id * C, C);
          }
        });
      });
    });
    return table;
  }

  Momentum nesterov(const Tensor& grad, const Tensor& momentum, double mu,
                    at::ScalarType type) const override {
    Momentum result{at::empty_like(momentum), at::empty_like(momentum, type)};
    dispatch(loops_, type, [&]<class T>(const RowLoops<T>& loops, T) {
      for_rows(grad.numel(), 1, [&](int64_t i, int64_t n) {
        loops.nesterov(in<float>(grad) + i, in<float>(momentum) + i, static_cast<float>(mu),
                       out<float>(result.momentum) + i, out<T>(result.update) + i, n);
      });
    });
    return result;
  }

  SecondMoment normalize_update(const Tensor& update, const Tensor& second, int64_t dim,
                                double beta2) const override {
    const int64_t S = update.size(0), R = update.size(1), C = update.size(2);
    const int64_t n = second.numel() / S;
    SecondMoment result{at::empty_like(second), at::empty_like(second)};
    dispatch(loops_, update.scalar_type(), [&]<class T>(const RowLoops<T>& loops, T) {
      for_rows(S, R * C, [&](int64_t first, int64_t count) {
        std::vector<float> mean(n);
        for (int64_t s = first; s < first + count; ++s) {
          loops.mean_square(in<T>(update) + s * R * C, mean.data(), dim == 2, R, C);
          scale_of(mean, in<float>(second) + s * n, static_cast<float>(beta2),
                   out<float>(result.second) + s * n, out<float>(result.scale) + s * n);
        }
      });
    });
    return result;
  }

  void cautious_step(at::TensorList weights, const Tensor& update, const Tensor& scale, double lr,
                     double decay) const override {
    const int64_t R = update.size(1), C = update.size(2);
    const int64_t n = scale.size(1) * scale.size(2);
    const bool by_row = scale.size(1) == R && scale.size(2) == 1;
    int64_t matrix = 0;  // of the stack
    dispatch(loops_, update.scalar_type(), [&]<class T>(const RowLoops<T>& loops, T) {
      for (const Tensor& weight : weights) {
        const int64_t matrices = weight.numel() / (R * C);
        for_rows(matrices, R * C, [&](int64_t first, int64_t count) {
          for (int64_t s = first; s < first + count; ++s) {
            loops.cautious_step(out<float>(weight) + s * R * C,
                                in<T>(update) + (matrix + s) * R * C,
                                in<float>(scale) + (matrix + s) * n, by_row, static_cast<float>(lr),
                                static_cast<float>(decay), R, C);
          }
        });
        matrix += matrices;
      }
    });
  }

 private:
  static void scale_of(const std::vector<float>& mean, const float* second, float beta2,
                       float* new_second, float* scale) {
    double norm = 0, new_norm = 0;
    for (size_t i = 0; i < mean.size(); ++i) {
      new_second[i] = second[i] + (1 - beta2) * (mean[i] - second[i]);
      scale[i] = 1 / std::sqrt(std::max(new_second[i], kLeastMoment));
      norm += mean[i];
      new_norm += mean[i] * scale[i] * scale[i];
    }
    const double keep = std::sqrt(norm) / std::max<double>(std::sqrt(new_norm), kLeastMoment);
    for (size_t i = 0; i < mean.size(); ++i) scale[i] *= static_cast<float>(keep);
  }

  const Loops& loops_;
};

}  // namespace

std::vector<const Loops*> usable_loops() {
  std::vector<const Loops*> usable{&loops_portable};
#ifdef AUTORESEARCH_X86_LOOPS
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
    usable.push_back(&loops_avx2);
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
    usable.push_back(&loops_avx512);
#endif
  return usable;
}

const Loops& best_loops() {
  static const Loops& best = *usable_loops().back();
  return best;
}

std::unique_ptr<Fused> fused_cpu_with(const Loops& loops) {
  return std::make_unique<FusedCpu>(loops);
}

const Fused& fused_cpu() {
  static const FusedCpu cpu(best_loops());
  return cpu;
}

namespace {

// f(q's offset, k's offset, lse's offset, scratch) for each batch entry and key head, on all
// threads.
template <class F>
void for_key_heads(const Tensor& q, const Tensor& k, F f) {
  const int64_t B = q.size(0), T = q.size(1), H = q.size(2), D = q.size(3), key_heads = k.size(2);
  at::parallel_for(0, B * key_heads, 1, [&](int64_t begin, int64_t end) {
    std::vector<float> scratch(attention_scratch(T, D));
    for (int64_t i = begin; i < end; ++i) {
      const int64_t b = i / key_heads, head = i % key_heads, first = head * (H / key_heads);
      f((b * T * H + first) * D, (b * T * key_heads + head) * D, (b * H + first) * T,
        scratch.data());
    }
  });
}

AttentionShape shape_of(const Tensor& q, const Tensor& k, int64_t window) {
  const int64_t H = q.size(2), D = q.size(3), key_heads = k.size(2);
  return {q.size(1), H / key_heads, D, window, H * D, key_heads * D};
}

}  // namespace

Attention attention_cpu(const Tensor& q, const Tensor& k, const Tensor& v, int64_t window,
                        const Loops& all) {
  const AttentionShape shape = shape_of(q, k, window);
  Attention result{at::empty_like(q), empty_floats({q.size(0), q.size(2), q.size(1)})};
  dispatch(all, q.scalar_type(), [&]<class T>(const RowLoops<T>& loops, T) {
    for_key_heads(q, k, [&](int64_t i, int64_t j, int64_t row, float* scratch) {
      loops.attention(shape, in<T>(q) + i, in<T>(k) + j, in<T>(v) + j, out<T>(result.out) + i,
                      out<float>(result.lse) + row, scratch);
    });
  });
  return result;
}

AttentionGrads attention_cpu_backward(const Tensor& grad, const Tensor& q, const Tensor& k,
                                      const Tensor& v, const Attention& forward, int64_t window,
                                      const Loops& all) {
  const AttentionShape shape = shape_of(q, k, window);
  AttentionGrads grads{at::empty_like(q), at::empty_like(k), at::empty_like(v)};
  dispatch(all, q.scalar_type(), [&]<class T>(const RowLoops<T>& loops, T) {
    for_key_heads(q, k, [&](int64_t i, int64_t j, int64_t row, float* scratch) {
      loops.attention_backward(shape, in<T>(grad) + i, in<T>(q) + i, in<T>(k) + j, in<T>(v) + j,
                               in<T>(forward.out) + i, in<float>(forward.lse) + row,
                               out<T>(grads.q) + i, out<T>(grads.k) + j, out<T>(grads.v) + j,
                               scratch);
    });
  });
  return grads;
}

}  // namespace autoresearch
