// Compiled with -DLOOPS=loops_portable, loops_avx2 or loops_avx512 and the flags to match. Vectors
// are the compiler's own (vector_size): it makes of sixteen floats what the processor has.
#include "kernels/fused_loops.h"

#include "kernels/constants.h"

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

// How many of a vector's lanes are in memory: all of them, or the last few of a row.
struct All {};
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

// Drops NaN that comes as `a`: only for the number that keeps a softmax in range.
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
  return 1 / __builtin_sqrtf(sum(squares) / static_cast<float>(C) + kNormEpsilon);
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

// Of a matrix that may be missing.
template <class T, class Part>
INLINE Vec load_any(const T* p, int64_t at, Part part) {
  return p ? load(p + at, part) : Vec{};
}

// grad, normed, grad_x: (rows, C). With y = x r and r = 1 / sqrt(mean(x^2) + eps), r changes with x
// by -r^3 x / C, so grad_x = r (grad - y mean(grad y)).
template <class T>
void rms_norm_backward(const T* grad, const T* normed, const float* rstd, const T* others,
                       T* grad_x, int64_t rows, int64_t C) {
  for (int64_t row = 0; row < rows; ++row, grad += C, normed += C) {
    const float mean = mean_product(grad, normed, C), scale = rstd[row];
    for_each(C, [&](int64_t c, auto part) {
      const Vec g = scale * (load(grad + c, part) - mean * load(normed + c, part));
      store(grad_x + row * C + c, load_any(others, row * C + c, part) + g, part);
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

// Matrices are (rows, C). y = a x + b x0 gets g = grad_y + r (grad_normed - normed mean(grad_normed
// normed)); from there grad_x = a g, grad_x0 = b g, grad_a = sum(g x), grad_b = sum(g x0).
template <class T>
void mix_norm_backward(const T* grad_y, const T* grad_normed, const T* x, const T* x0,
                       const T* normed, const float* rstd, float a, float b, const T* others,
                       T* grad_x, T* grad_x0, float* sums, int64_t rows, int64_t C) {
  Vec sum_a = {}, sum_b = {};
  for (int64_t row = 0; row < rows; ++row) {
    const float mean = mean_product(grad_normed, normed, C), scale = rstd[row];
    for_each(C, [&](int64_t c, auto part) {
      const Vec g = load(grad_y + c, part) +
                    scale * (load(grad_normed + c, part) - mean * load(normed + c, part));
      sum_a += g * load(x + c, part);
      sum_b += g * load(x0 + c, part);
      store(grad_x + c, a * g, part);
      store(grad_x0 + row * C + c, load_any(others, row * C + c, part) + b * g, part);
    });
    grad_y += C, grad_normed += C, x += C, x0 += C, normed += C, grad_x += C;
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

// grad, y, grad_x: (H, D). Through the norm of a head, g = r (grad - y mean(grad y)); through the
// rotation, whose inverse is its transpose, x1 gets g1 cos - g2 sin, and x2 gets g1 sin + g2 cos.
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

// grad, embedded e: (H, D); gate: (H). y = v + 2 s e, where s = sigmoid(gate) grows by s (1 - s):
// grad_embedded = 2 s grad, grad_gate = 2 s (1 - s) sum(grad e). The gradient of v is grad itself.
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
    const Vec v = load(x + i, part), positive = v < 0.0F ? Vec{} : v;  // NaN stays
    store(y + i, positive * positive, part);
  });
}

// n elements. y = max(x, 0)^2 grows by 2 max(x, 0) = 2 sqrt(y).
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

// logits z: (rows, V). With t = tanh(z / cap) and p = softmax(cap t), the loss is
// log(sum(e^(cap t))) - cap t[target]. cap t grows by 1 - t^2, so z gets
// scale (p - [is the target]) (1 - t^2).
template <class T>
void softcap_cross_entropy(T* logits, const int64_t* targets, float cap, float scale, float* loss,
                           float* scratch, int64_t rows, int64_t V) {
  float *const slope = scratch, *const power = scratch + V;  // 1 - tanh^2, and e^(capped - most)
  for (int64_t row = 0; row < rows; ++row, logits += V) {
    if (targets[row] < 0 || targets[row] >= V) {
      loss[row] = targets[row] == kIgnoredTarget ? 0 : __builtin_nanf("");
      for_each(V, [&](int64_t i, auto part) { store(logits + i, broadcast(loss[row]), part); });
      continue;
    }
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
// Attention: whole rows of scores for a block of queries at a time (FlashAttention's backward pass,
// arXiv 2205.14135, without its online softmax). Blocks of keys that no query of the block sees are
// never touched. Operands are copied to float32, padded with zeros to whole blocks and vectors.

constexpr int64_t kBlock = kAttentionBlock;

#ifdef __AVX512F__
constexpr int64_t kTileRows = 8, kTileVecs = 2;  // 16 of 32 registers
#else
constexpr int64_t kTileRows = 4, kTileVecs = 1;  // 8 of 16 registers of 8 floats
#endif

template <int64_t kVecs>
INLINE void multiply_tile(const float* a, int64_t row, int64_t step, const float* b, int64_t ldb,
                          float* c, int64_t ldc, int64_t k, bool accumulate) {
  Vec sums[kTileRows][kVecs] = {};
  for (int64_t p = 0; p < k; ++p, a += step, b += ldb) {
    for (int64_t r = 0; r < kTileRows; ++r) {
      const Vec factor = broadcast(a[r * row]);
      for (int64_t v = 0; v < kVecs; ++v) sums[r][v] += factor * load(b + v * kLanes, All{});
    }
  }
  for (int64_t r = 0; r < kTileRows; ++r) {
    for (int64_t v = 0; v < kVecs; ++v) {
      float* to = c + r * ldc + v * kLanes;
      store(to, accumulate ? load(to, All{}) + sums[r][v] : sums[r][v], All{});
    }
  }
}

// c (m, n) = a (m, k) b (k, n), or += it. a[i][p] is at a[i * row + p * step]; m is a multiple of
// kTileRows, n of kLanes.
void multiply(const float* a, int64_t row, int64_t step, const float* b, int64_t ldb, float* c,
              int64_t ldc, int64_t m, int64_t n, int64_t k, bool accumulate) {
  for (int64_t j = 0; j < n;) {
    const bool wide = j + kTileVecs * kLanes <= n;
    for (int64_t i = 0; i < m; i += kTileRows) {
      const float* rows = a + i * row;
      float* to = c + i * ldc + j;
      if (wide)
        multiply_tile<kTileVecs>(rows, row, step, b + j, ldb, to, ldc, k, accumulate);
      else
        multiply_tile<1>(rows, row, step, b + j, ldb, to, ldc, k, accumulate);
    }
    j += wide ? kTileVecs * kLanes : kLanes;
  }
}

// Room for one head, out of the caller's scratch.
struct HeadRoom {
  int64_t T, D, rows, columns;  // as they are, and padded
  float *q, *k, *v, *grad, *grad_k, *grad_v, *k_panels, *v_panels, *result;  // (rows, columns) each
  float *scores, *slopes;                                                    // (kBlock, rows) each

  HeadRoom(const AttentionShape& shape, float* scratch)
      : T(shape.T),
        D(shape.D),
        rows((T + kBlock - 1) / kBlock * kBlock),
        columns((D + kLanes - 1) / kLanes * kLanes) {
    float** const parts[] = {&q, &k, &v, &grad, &grad_k, &grad_v, &k_panels, &v_panels, &result};
    for (float** part : parts) {
      *part = scratch;
      scratch += rows * columns;
    }
    scores = scratch;
    slopes = scratch + kBlock * rows;
  }
};

INLINE void clear(float* x, int64_t n) { __builtin_memset(x, 0, n * sizeof(float)); }

// (T, D) with a stride -> (rows, columns), padded with zeros.
template <class T>
void pack(const HeadRoom& room, const T* from, int64_t stride, float factor, float* to) {
  clear(to, room.rows * room.columns);
  for (int64_t t = 0; t < room.T; ++t) {
    for_each(room.D, [&](int64_t c, auto part) {
      store(to + t * room.columns + c, factor * load(from + t * stride + c, part), part);
    });
  }
}

// (rows, columns) -> panels of kBlock rows, each transposed to (columns, kBlock).
void transpose(const HeadRoom& room, const float* from, float* panels) {
  for (int64_t t = 0; t < room.rows; ++t) {
    float* panel = panels + t / kBlock * kBlock * room.columns + t % kBlock;
    for (int64_t c = 0; c < room.columns; ++c) panel[c * kBlock] = from[t * room.columns + c];
  }
}

template <class T>
INLINE void unpack_row(const HeadRoom& room, const float* from, float factor, T* to) {
  for_each(room.D,
           [&](int64_t c, auto part) { store(to + c, factor * load(from + c, part), part); });
}

// The keys that a block of queries sees: from `first`, a multiple of kBlock, to the block's own
// end.
struct Span {
  int64_t first, count;
};
INLINE Span span_of(int64_t block, int64_t window) {
  const int64_t oldest = block - window > 0 ? block - window : 0, first = oldest / kBlock * kBlock;
  return {first, block + kBlock - first};
}

// (kBlock, count) = rows of a block times the panels of a span.
void multiply_panels(const HeadRoom& room, const float* block_rows, const float* panels, Span span,
                     float* to) {
  for (int64_t j = 0; j < span.count; j += kBlock) {
    multiply(block_rows, room.columns, 1, panels + (span.first + j) * room.columns, kBlock, to + j,
             span.count, kBlock, kBlock, room.columns, false);
  }
}

// Below every finite score, so that a query which sees nothing but infinities gets NaN.
constexpr float kHidden = -__builtin_inff();

INLINE Vec masked(Vec scores, int64_t key, int64_t query, int64_t window) {
  constexpr Int kLane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  const Int distance = static_cast<int32_t>(query - key) - kLane;
  const int32_t furthest = static_cast<int32_t>(window < query ? window : query);
  return distance >= 0 && distance <= furthest ? scores : broadcast(kHidden);
}

// Scores of one query -> e^(score - lse), 0 where it doesn't see the key. Returns lse.
float softmax(float* scores, Span span, int64_t query, int64_t window) {
  Vec most = broadcast(kHidden), total = {};
  for (int64_t j = 0; j < span.count; j += kLanes) {
    const Vec s = masked(load(scores + j, All{}), span.first + j, query, window);
    most = max(most, s);
    store(scores + j, s, All{});
  }
  const float peak = largest(reinterpret_cast<const float*>(&most), kLanes);
  for (int64_t j = 0; j < span.count; j += kLanes) {
    const Vec e = exp(load(scores + j, All{}) - peak);
    total += e;
    store(scores + j, e, All{});
  }
  const float all = sum(total), inverse = 1 / all;
  for (int64_t j = 0; j < span.count; j += kLanes)
    store(scores + j, load(scores + j, All{}) * inverse, All{});
  return peak + __builtin_logf(all);
}

template <class T>
void attention(const AttentionShape& shape, const T* q, const T* k, const T* v, T* out, float* lse,
               float* scratch) {
  const HeadRoom room(shape, scratch);
  pack(room, k, shape.k_stride, 1, room.k);
  pack(room, v, shape.k_stride, 1, room.v);
  transpose(room, room.k, room.k_panels);
  const float scale = 1 / __builtin_sqrtf(static_cast<float>(shape.D));
  for (int64_t head = 0; head < shape.heads; ++head, lse += room.T) {
    pack(room, q + head * shape.D, shape.q_stride, scale, room.q);
    for (int64_t block = 0; block < room.T; block += kBlock) {
      const Span span = span_of(block, shape.window);
      const int64_t count = room.T - block < kBlock ? room.T - block : kBlock;
      multiply_panels(room, room.q + block * room.columns, room.k_panels, span, room.scores);
      for (int64_t i = 0; i < count; ++i)
        lse[block + i] = softmax(room.scores + i * span.count, span, block + i, shape.window);
      multiply(room.scores, span.count, 1, room.v + span.first * room.columns, room.columns,
               room.result, room.columns, kBlock, room.columns, span.count, false);
      for (int64_t i = 0; i < count; ++i) {
        unpack_row(room, room.result + i * room.columns, 1,
                   out + (block + i) * shape.q_stride + head * shape.D);
      }
    }
  }
}

// One block's scores and gradients of its weights -> weights and gradients of its scores.
template <class T>
void block_slopes(const AttentionShape& shape, const HeadRoom& room, Span span, int64_t block,
                  int64_t count, const T* grad, const T* out, const float* lse) {
  clear(room.scores + count * span.count, (kBlock - count) * span.count);
  for (int64_t i = 0; i < count; ++i) {
    const int64_t query = block + i;
    float *weights = room.scores + i * span.count, *slopes = room.slopes + i * span.count;
    const float delta = shape.D * mean_product(grad + query * shape.q_stride,
                                               out + query * shape.q_stride, shape.D);
    for (int64_t j = 0; j < span.count; j += kLanes) {
      const Vec s = masked(load(weights + j, All{}), span.first + j, query, shape.window);
      const Vec weight = exp(s - lse[query]);
      store(weights + j, weight, All{});
      store(slopes + j, weight * (load(slopes + j, All{}) - delta), All{});
    }
  }
}

// grad, out, q: (T, heads, D); k, v: (T, D). With P = softmax(q k^T / sqrt(D)) and out = P v, P
// gets grad v^T, the scores S get P (grad v^T - sum(grad out)), so that grad_q = S k / sqrt(D),
// grad_k = S^T q / sqrt(D), grad_v = P^T grad. `scores` holds P, `slopes` S.
template <class T>
void attention_backward(const AttentionShape& shape, const T* grad, const T* q, const T* k,
                        const T* v, const T* out, const float* lse, T* grad_q, T* grad_k, T* grad_v,
                        float* scratch) {
  const HeadRoom room(shape, scratch);
  const int64_t C = room.columns;
  pack(room, k, shape.k_stride, 1, room.k);
  pack(room, v, shape.k_stride, 1, room.v);
  transpose(room, room.k, room.k_panels);
  transpose(room, room.v, room.v_panels);
  clear(room.grad_k, room.rows * C);
  clear(room.grad_v, room.rows * C);
  const float scale = 1 / __builtin_sqrtf(static_cast<float>(shape.D));
  for (int64_t head = 0; head < shape.heads; ++head, lse += room.T) {
    const int64_t at = head * shape.D;
    pack(room, q + at, shape.q_stride, scale, room.q);
    pack(room, grad + at, shape.q_stride, 1, room.grad);
    for (int64_t block = 0; block < room.T; block += kBlock) {
      const Span span = span_of(block, shape.window);
      const int64_t count = room.T - block < kBlock ? room.T - block : kBlock;
      const float *block_q = room.q + block * C, *block_grad = room.grad + block * C;
      // P is made again from q, k and lse: it would be too large to keep.
      multiply_panels(room, block_q, room.k_panels, span, room.scores);
      multiply_panels(room, block_grad, room.v_panels, span, room.slopes);
      block_slopes(shape, room, span, block, count, grad + at, out + at, lse);
      multiply(room.slopes, span.count, 1, room.k + span.first * C, C, room.result, C, kBlock, C,
               span.count, false);
      for (int64_t i = 0; i < count; ++i)
        unpack_row(room, room.result + i * C, scale, grad_q + (block + i) * shape.q_stride + at);
      multiply(room.slopes, 1, span.count, block_q, C, room.grad_k + span.first * C, C, span.count,
               C, kBlock, true);
      multiply(room.scores, 1, span.count, block_grad, C, room.grad_v + span.first * C, C,
               span.count, C, kBlock, true);
    }
  }
  // room.q was scaled by 1 / sqrt(D), and with it grad_k.
  for (int64_t t = 0; t < room.T; ++t) {
    unpack_row(room, room.grad_k + t * C, 1, grad_k + t * shape.k_stride);
    unpack_row(room, room.grad_v + t * C, 1, grad_v + t * shape.k_stride);
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
          attention<T>,
          attention_backward<T>,
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
