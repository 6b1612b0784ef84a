// Compiled with -DLOOPS=loops_portable, loops_avx2 or loops_avx512 and the flags to match. Vectors
// are the compiler's own (vector_size): it makes of sixteen floats what the processor has.
#include "harness/fused_loops.h"

namespace autoresearch {
namespace {

#define INLINE inline __attribute__((always_inline))

// ------------------------------------------------------------------------------------------------
// Sixteen floats

constexpr int64_t kLanes = 16;
using Vec = float __attribute__((vector_size(64)));
using Int = int32_t __attribute__((vector_size(64)));
using Bits = uint32_t __attribute__((vector_size(64)));
using Half = uint16_t __attribute__((vector_size(32)));

constexpr float kEps = 1.1920929e-07F;

// How many of a vector's lanes are in memory: all of them, or the last few of a row.
struct All {
  static constexpr int64_t lanes = kLanes;
};
struct Some {
  int64_t lanes;
};

INLINE Vec broadcast(float x) { return Vec{} + x; }

template <class V, class T>
INLINE V load_raw(const T* p, All) {
  V v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
template <class V, class T>
INLINE V load_raw(const T* p, Some some) {
  V v = {};
  for (int64_t i = 0; i < some.lanes; ++i)
    __builtin_memcpy((char*)&v + i * sizeof(T), p + i, sizeof(T));
  return v;
}
template <class V, class T>
INLINE void store_raw(T* p, V v, All) {
  __builtin_memcpy(p, &v, sizeof v);
}
template <class V, class T>
INLINE void store_raw(T* p, V v, Some some) {
  for (int64_t i = 0; i < some.lanes; ++i)
    __builtin_memcpy(p + i, (char*)&v + i * sizeof(T), sizeof(T));
}

// Lanes that are not in memory are 0.
template <class Part>
INLINE Vec load(const float* p, Part part) {
  return load_raw<Vec>(p, part);
}
template <class Part>
INLINE Vec load(const Bf16* p, Part part) {
  return (Vec)(__builtin_convertvector(load_raw<Half>(p, part), Bits) << 16);
}

template <class Part>
INLINE void store(float* p, Vec v, Part part) {
  store_raw(p, v, part);
}
template <class Part>
INLINE void store(Bf16* p, Vec v, Part part) {  // rounded to nearest, ties to even
  const Bits bits = (Bits)v, rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  const Bits nan = (bits >> 16) | 0x40;
  store_raw(p, __builtin_convertvector(v == v ? rounded : nan, Half), part);
}

INLINE float get(float x) { return x; }
INLINE float get(Bf16 x) {
  const uint32_t bits = uint32_t{x.bits} << 16;
  float f;
  __builtin_memcpy(&f, &bits, sizeof f);
  return f;
}
INLINE void put(float* p, float x) { *p = x; }
INLINE void put(Bf16* p, float x) { store(p, broadcast(x), Some{1}); }

INLINE float sum(Vec v) {  // in halves, always in the same order
  float lanes[kLanes];
  __builtin_memcpy(lanes, &v, sizeof v);
  for (int64_t n = kLanes / 2; n > 0; n /= 2)
    for (int64_t i = 0; i < n; ++i) lanes[i] += lanes[i + n];
  return lanes[0];
}

INLINE Vec max(Vec a, Vec b) { return a > b ? a : b; }
INLINE Vec sqrt(Vec v) {
  Vec root;
  for (int64_t i = 0; i < kLanes; ++i) root[i] = __builtin_sqrtf(v[i]);
  return root;
}

// f(offset, All or Some) over n elements.
template <class F>
INLINE void for_each(int64_t n, F f) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) f(i, All{});
  if (i < n) f(i, Some{n - i});
}

// e^x for x <= 88, to 2 units in the last place; 0 below -87. x = k ln 2 + r, |r| <= ln 2 / 2,
// e^r by its Taylor series.
INLINE Vec exp(Vec x) {
  constexpr float kLog2e = 1.44269504F, kLn2High = 0.693359375F, kLn2Low = -2.12194440e-4F;
  constexpr float kRound = 12582912.0F;  // 1.5 * 2^23: adding it leaves no room for a fraction
  const Vec clamped = x < -87.0F ? broadcast(-87.0F) : x > 88.0F ? broadcast(88.0F) : x;
  const Vec shifted = clamped * kLog2e + kRound;
  const Vec k = shifted - kRound;
  const Vec r = clamped - k * kLn2High - k * kLn2Low;
  Vec p = broadcast(1.0F / 5040);
  p = p * r + 1.0F / 720;
  p = p * r + 1.0F / 120;
  p = p * r + 1.0F / 24;
  p = p * r + 1.0F / 6;
  p = p * r + 0.5F;
  p = p * r + 1.0F;
  p = p * r + 1.0F;
  const Vec power = (Vec)(((Int)shifted << 23) + (127 << 23));  // 2^k, out of shifted's low bits
  return x < -87.0F ? Vec{} : p * power;
}

// Absolute error below 2e-7.
INLINE Vec tanh(Vec x) {
  const Vec e = exp(2 * (x > 20.0F ? broadcast(20.0F) : x));
  return (e - 1.0F) / (e + 1.0F);
}

INLINE float sigmoid(float x) { return 1 / (1 + exp(broadcast(-x))[0]); }

// ------------------------------------------------------------------------------------------------
// Normalization

INLINE float rstd_of(Vec squares, int64_t C) {
  return 1 / __builtin_sqrtf(sum(squares) / static_cast<float>(C) + kEps);
}

template <class T>
void rms_norm(const T* x, T* normed, float* rstd, int64_t rows, int64_t C) {
  for (int64_t row = 0; row < rows; ++row, x += C, normed += C) {
    Vec squares = {};
    for_each(C, [&](int64_t c, auto part) {
      const Vec v = load(x + c, part);
      squares += v * v;
    });
    const float scale = rstd[row] = rstd_of(squares, C);
    for_each(C, [&](int64_t c, auto part) { store(normed + c, load(x + c, part) * scale, part); });
  }
}

template <class T>
INLINE float mean_product(const T* a, const T* b, int64_t C) {
  Vec products = {};
  for_each(C, [&](int64_t c, auto part) { products += load(a + c, part) * load(b + c, part); });
  return sum(products) / static_cast<float>(C);
}

template <class T>
void rms_norm_backward(const T* grad, const T* normed, const float* rstd, T* grad_x, int64_t rows,
                       int64_t C) {
  for (int64_t row = 0; row < rows; ++row, grad += C, normed += C, grad_x += C) {
    const float mean = mean_product(grad, normed, C), scale = rstd[row];
    for_each(C, [&](int64_t c, auto part) {
      store(grad_x + c, scale * (load(grad + c, part) - mean * load(normed + c, part)), part);
    });
  }
}

template <class T>
void mix_norm(const T* x, const T* x0, float a, float b, T* y, T* normed, float* rstd, int64_t rows,
              int64_t C) {
  for (int64_t row = 0; row < rows; ++row, x += C, x0 += C, y += C, normed += C) {
    Vec squares = {};
    for_each(C, [&](int64_t c, auto part) {
      const Vec v = a * load(x + c, part) + b * load(x0 + c, part);
      squares += v * v;
      store(y + c, v, part);
    });
    const float scale = rstd[row] = rstd_of(squares, C);
    for_each(C, [&](int64_t c, auto part) {
      const Vec v = a * load(x + c, part) + b * load(x0 + c, part);
      store(normed + c, v * scale, part);
    });
  }
}

template <class T>
void mix_norm_backward(const T* grad_y, const T* grad_normed, const T* x, const T* x0,
                       const T* normed, const float* rstd, float a, float b, T* grad_x, T* grad_x0,
                       float* sums, int64_t rows, int64_t C) {
  Vec sum_a = {}, sum_b = {};
  for (int64_t row = 0; row < rows; ++row) {
    const float mean = mean_product(grad_normed, normed, C), scale = rstd[row];
    for_each(C, [&](int64_t c, auto part) {
      const Vec g = load(grad_y + c, part) +
                    scale * (load(grad_normed + c, part) - mean * load(normed + c, part));
      sum_a += g * load(x + c, part);
      sum_b += g * load(x0 + c, part);
      store(grad_x + c, a * g, part);
      store(grad_x0 + c, b * g, part);
    });
    grad_y += C, grad_normed += C, x += C, x0 += C, normed += C, grad_x += C, grad_x0 += C;
  }
  sums[0] = sum(sum_a);
  sums[1] = sum(sum_b);
}

// ------------------------------------------------------------------------------------------------
// Heads

template <class T>
void rotate_norm(const T* x, const T* cos, const T* sin, T* y, float* rstd, int64_t H, int64_t D) {
  const int64_t half = D / 2;
  for (int64_t h = 0; h < H; ++h, x += D, y += D) {
    const auto rotated = [&](int64_t c, auto part, Vec& y1, Vec& y2) {
      const Vec x1 = load(x + c, part), x2 = load(x + half + c, part);
      const Vec co = load(cos + c, part), si = load(sin + c, part);
      y1 = x1 * co + x2 * si;
      y2 = x2 * co - x1 * si;
    };
    Vec squares = {}, y1, y2;
    for_each(half, [&](int64_t c, auto part) {
      rotated(c, part, y1, y2);
      squares += y1 * y1 + y2 * y2;
    });
    const float scale = rstd[h] = rstd_of(squares, D);
    for_each(half, [&](int64_t c, auto part) {
      rotated(c, part, y1, y2);
      store(y + c, scale * y1, part);
      store(y + half + c, scale * y2, part);
    });
  }
}

template <class T>
void rotate_norm_backward(const T* grad, const T* y, const float* rstd, const T* cos, const T* sin,
                          T* grad_x, int64_t H, int64_t D) {
  const int64_t half = D / 2;
  for (int64_t h = 0; h < H; ++h, grad += D, y += D, grad_x += D) {
    const float mean = mean_product(grad, y, D), scale = rstd[h];
    for_each(half, [&](int64_t c, auto part) {
      const Vec g1 = scale * (load(grad + c, part) - mean * load(y + c, part));
      const Vec g2 = scale * (load(grad + half + c, part) - mean * load(y + half + c, part));
      const Vec co = load(cos + c, part), si = load(sin + c, part);
      store(grad_x + c, g1 * co - g2 * si, part);
      store(grad_x + half + c, g1 * si + g2 * co, part);
    });
  }
}

template <class T>
void gate(const T* v, const T* gate, const T* embedded, T* y, int64_t H, int64_t D) {
  for (int64_t h = 0; h < H; ++h, v += D, embedded += D, y += D) {
    const float weight = 2 * sigmoid(get(gate[h]));
    for_each(D, [&](int64_t c, auto part) {
      store(y + c, load(v + c, part) + weight * load(embedded + c, part), part);
    });
  }
}

template <class T>
void gate_backward(const T* grad, const T* gate, const T* embedded, T* grad_embedded, T* grad_gate,
                   int64_t H, int64_t D) {
  for (int64_t h = 0; h < H; ++h, grad += D, embedded += D, grad_embedded += D) {
    const float open = sigmoid(get(gate[h]));
    Vec products = {};
    for_each(D, [&](int64_t c, auto part) {
      const Vec g = load(grad + c, part);
      products += g * load(embedded + c, part);
      store(grad_embedded + c, 2 * open * g, part);
    });
    put(grad_gate + h, sum(products) * 2 * open * (1 - open));
  }
}

// ------------------------------------------------------------------------------------------------
// MLP and loss

template <class T>
void relu_squared(const T* x, T* y, int64_t n) {
  for_each(n, [&](int64_t i, auto part) {
    const Vec v = max(load(x + i, part), Vec{});
    store(y + i, v * v, part);
  });
}

template <class T>
void relu_squared_backward(const T* grad, const T* y, T* grad_x, int64_t n) {
  for_each(n, [&](int64_t i, auto part) {
    store(grad_x + i, 2 * sqrt(load(y + i, part)) * load(grad + i, part), part);
  });
}

template <class T>
INLINE float largest(const T* x, int64_t n) {
  Vec most = broadcast(get(x[0]));
  for_each(n / kLanes * kLanes, [&](int64_t i, auto part) { most = max(most, load(x + i, part)); });
  float result = most[0];
  for (int64_t i = 1; i < kLanes; ++i) result = most[i] > result ? most[i] : result;
  for (int64_t i = n / kLanes * kLanes; i < n; ++i)
    result = get(x[i]) > result ? get(x[i]) : result;
  return result;
}

template <class T>
void softcap_cross_entropy(T* logits, const int64_t* targets, float cap, float scale, float* loss,
                           float* scratch, int64_t rows, int64_t V) {
  float *const slope = scratch, *const power = scratch + V;  // 1 - tanh^2, and e^(capped - most)
  for (int64_t row = 0; row < rows; ++row, logits += V) {
    const float most = cap * tanh(broadcast(largest(logits, V) / cap))[0];
    const int64_t target = targets[row];
    const float aim = cap * tanh(broadcast(get(logits[target]) / cap))[0];
    Vec total = {};
    for_each(V, [&](int64_t i, auto part) {
      const Vec t = tanh(load(logits + i, part) / cap), e = exp(cap * t - most);
      store(slope + i, 1 - t * t, part);
      store(power + i, e, part);
      if constexpr (__is_same(decltype(part), All))
        total += e;
      else
        for (int64_t j = 0; j < part.lanes; ++j) total[j] += e[j];
    });
    const float all = sum(total);
    loss[row] = __builtin_logf(all) + most - aim;
    const float weight = scale / all;
    const float aim_slope = slope[target];
    for_each(V, [&](int64_t i, auto part) {
      store(logits + i, weight * load(power + i, part) * load(slope + i, part), part);
    });
    put(logits + target, (weight * power[target] - scale) * aim_slope);
  }
}

// ------------------------------------------------------------------------------------------------
// Sums and casts

template <class T>
void add(const T* from, float* to, int64_t n) {
  for_each(n, [&](int64_t i, auto part) {
    store(to + i, load(to + i, part) + load(from + i, part), part);
  });
}
template <class T>
void widen(const T* from, float* to, int64_t n) {
  for_each(n, [&](int64_t i, auto part) { store(to + i, load(from + i, part), part); });
}
template <class T>
void narrow(const float* from, T* to, int64_t n) {
  for_each(n, [&](int64_t i, auto part) { store(to + i, load(from + i, part), part); });
}

// ------------------------------------------------------------------------------------------------
// Muon

template <class T>
void nesterov(const float* grad, const float* momentum, float mu, float* new_momentum, T* update,
              int64_t n) {
  for_each(n, [&](int64_t i, auto part) {
    const Vec g = load(grad + i, part), m = load(momentum + i, part);
    const Vec next = m + (1 - mu) * (g - m);
    store(new_momentum + i, next, part);
    store(update + i, g + mu * (next - g), part);
  });
}

template <class T>
void mean_square(const T* update, float* mean, bool by_row, int64_t R, int64_t C) {
  if (!by_row)
    for (int64_t c = 0; c < C; ++c) mean[c] = 0;
  for (int64_t r = 0; r < R; ++r, update += C) {
    if (by_row) {
      mean[r] = mean_product(update, update, C);
    } else {
      for_each(C, [&](int64_t c, auto part) {
        const Vec u = load(update + c, part);
        store(mean + c, load(mean + c, part) + u * u, part);
      });
    }
  }
  if (!by_row)
    for (int64_t c = 0; c < C; ++c) mean[c] /= static_cast<float>(R);
}

template <class T>
void cautious_step(float* weight, const T* update, const float* scale, bool by_row, float lr,
                   float decay, int64_t R, int64_t C) {
  for (int64_t r = 0; r < R; ++r, weight += C, update += C) {
    for_each(C, [&](int64_t c, auto part) {
      const Vec w = load(weight + c, part);
      const Vec u = load(update + c, part) * (by_row ? broadcast(scale[r]) : load(scale + c, part));
      store(weight + c, w - lr * u - (u * w >= 0.0F ? decay * w : Vec{}), part);
    });
  }
}

template <class T>
constexpr RowLoops<T> row_loops() {
  return {rms_norm<T>,
          rms_norm_backward<T>,
          mix_norm<T>,
          mix_norm_backward<T>,
          rotate_norm<T>,
          rotate_norm_backward<T>,
          gate<T>,
          gate_backward<T>,
          relu_squared<T>,
          relu_squared_backward<T>,
          softcap_cross_entropy<T>,
          add<T>,
          widen<T>,
          narrow<T>,
          nesterov<T>,
          mean_square<T>,
          cautious_step<T>};
}

}  // namespace

extern const Loops LOOPS;
const Loops LOOPS{row_loops<float>(), row_loops<Bf16>()};

}  // namespace autoresearch
