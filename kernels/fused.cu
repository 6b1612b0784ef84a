// The fused operations of kernels/fused.h as CUDA kernels, after device_prelude.cuh. NVRTC compiles
// this file once for each type of activation and each width of access that a run needs; the
// launches are in fused_cuda.cpp.
//
// One warp works on one row (a part of a warp on one head), one block on one row of logits, so that
// sums take a few shuffles and at most two barriers. Rows are read again rather than kept in
// registers: the second time they come from the first-level cache. Those of logits are kept, since
// squashing them again would cost more than reading them. Row lengths are int, everything that
// counts rows or elements is 64 bits wide.
//
// tests/cuda_emulation.h runs this file on the CPU. It knows one-dimensional grids, blocks of whole
// warps, static shared memory (outside of templates), __syncthreads, shuffles by whole warps, and
// the mathematical functions used here.

using T = ACTIVATION;  // float or bf16
using Index = long long;

// Elements that a thread moves at once: 16 bytes if row lengths and addresses allow, else one.
constexpr int W = WIDE ? 16 / sizeof(T) : 1;
// Of kernels/constants.h, which stands before this file.
using autoresearch::kBlockWarps;
using autoresearch::kIgnoredTarget;
using autoresearch::kLeastMoment;
using autoresearch::kLogitsInRegisters;
using autoresearch::kNormEpsilon;
using autoresearch::kWarp;

__device__ __forceinline__ float not_a_number() { return __uint_as_float(0x7fc00000u); }

// ------------------------------------------------------------------------------------------------
// Memory and threads

template <typename S>
struct alignas(W * sizeof(S) < 16 ? W * sizeof(S) : 16) Pack {
  S element[W];
};

template <typename S>
__device__ __forceinline__ void load(const S* from, float (&to)[W]) {
  const Pack<S> pack = *reinterpret_cast<const Pack<S>*>(from);
  for (int i = 0; i < W; ++i) to[i] = to_float(pack.element[i]);
}

template <typename S>
__device__ __forceinline__ void store(const float (&from)[W], S* to) {
  Pack<S> pack;
  for (int i = 0; i < W; ++i) pack.element[i] = from_float<S>(from[i]);
  *reinterpret_cast<Pack<S>*>(to) = pack;
}

__device__ __forceinline__ int lane() { return threadIdx.x % kWarp; }
__device__ __forceinline__ int warp() { return threadIdx.x / kWarp; }
__device__ __forceinline__ int warps() { return blockDim.x / kWarp; }
__device__ __forceinline__ Index thread() {  // within the grid
  return static_cast<Index>(blockIdx.x) * blockDim.x + threadIdx.x;
}

// Sum over each group of `lanes` neighbouring lanes, a power of two; every lane has it, bit by bit.
// All lanes of the warp take part.
__device__ __forceinline__ float group_sum(float x, int lanes) {
  for (int distance = lanes / 2; distance > 0; distance /= 2)
    x += __shfl_xor_sync(0xffffffffu, x, distance);
  return x;
}
__device__ __forceinline__ float warp_sum(float x) { return group_sum(x, kWarp); }

__device__ __forceinline__ float warp_max(float x) {
  for (int distance = kWarp / 2; distance > 0; distance /= 2)
    x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, distance));
  return x;
}

// The same over the block, in every thread. The first barrier waits for readers of the last call.
__device__ float block_sum(float x) {
  __shared__ float partial[kWarp];
  x = warp_sum(x);
  __syncthreads();
  if (lane() == 0) partial[warp()] = x;
  __syncthreads();
  return warp_sum(lane() < warps() ? partial[lane()] : 0.0f);
}

__device__ float block_max(float x) {
  __shared__ float partial[kWarp];
  x = warp_max(x);
  __syncthreads();
  if (lane() == 0) partial[warp()] = x;
  __syncthreads();
  return warp_max(partial[lane() < warps() ? lane() : 0]);
}

// ------------------------------------------------------------------------------------------------
// RMS norm, alone and of a mixture. N rows of C, a warp a row.

KERNEL rms_norm(const T* __restrict__ x, T* __restrict__ normed, float* __restrict__ rstd, Index N,
                int C) {
  const Index n = thread() / kWarp;
  if (n >= N) return;
  x += n * C;
  normed += n * C;
  float v[W], sum = 0;
  for (int c = lane() * W; c < C; c += kWarp * W) {
    load(x + c, v);
    for (int i = 0; i < W; ++i) sum += v[i] * v[i];
  }
  const float r = rsqrtf(warp_sum(sum) / C + kNormEpsilon);
  for (int c = lane() * W; c < C; c += kWarp * W) {
    load(x + c, v);
    for (int i = 0; i < W; ++i) v[i] *= r;
    store(v, normed + c);
  }
  if (lane() == 0) rstd[n] = r;
}

// Mean of the products of two rows: what the gradient through a norm has to lose.
__device__ float mean_product(const T* a, const T* b, int C) {
  float u[W], v[W], sum = 0;
  for (int c = lane() * W; c < C; c += kWarp * W) {
    load(a + c, u);
    load(b + c, v);
    for (int i = 0; i < W; ++i) sum += u[i] * v[i];
  }
  return warp_sum(sum) / C;
}

// W elements of a tensor that may be missing, added.
__device__ __forceinline__ void add_any(const T* from, Index at, float (&to)[W]) {
  if (!from) return;
  float v[W];
  load(from + at, v);
  for (int i = 0; i < W; ++i) to[i] += v[i];
}

// grad, normed, grad_x: (N, C). With y = x r and r = 1 / sqrt(mean(x^2) + eps), r changes with x by
// -r^3 x / C, so grad_x = r (grad - y mean(grad y)).
KERNEL rms_norm_backward(const T* __restrict__ grad, const T* __restrict__ normed,
                         const float* __restrict__ rstd, const T* __restrict__ others,
                         T* __restrict__ grad_x, Index N, int C) {
  const Index n = thread() / kWarp, row = n * C;
  if (n >= N) return;
  const float mean = mean_product(grad + row, normed + row, C), r = rstd[n];
  float g[W], y[W];
  for (int c = lane() * W; c < C; c += kWarp * W) {
    load(grad + row + c, g);
    load(normed + row + c, y);
    for (int i = 0; i < W; ++i) g[i] = r * (g[i] - y[i] * mean);
    add_any(others, row + c, g);
    store(g, grad_x + row + c);
  }
}

// a x + b x0, W channels of it.
__device__ __forceinline__ void load_mixed(const T* x, const T* x0, float a, float b,
                                           float (&y)[W]) {
  float skip[W];
  load(x, y);
  load(x0, skip);
  for (int i = 0; i < W; ++i) y[i] = a * y[i] + b * skip[i];
}

KERNEL mix_norm(const T* __restrict__ x, const T* __restrict__ x0, const float* __restrict__ a,
                const float* __restrict__ b, T* __restrict__ y, T* __restrict__ normed,
                float* __restrict__ rstd, Index N, int C) {
  const Index n = thread() / kWarp, row = n * C;
  if (n >= N) return;
  float v[W], sum = 0;
  for (int c = lane() * W; c < C; c += kWarp * W) {
    load_mixed(x + row + c, x0 + row + c, *a, *b, v);
    for (int i = 0; i < W; ++i) sum += v[i] * v[i];
    store(v, y + row + c);
  }
  const float r = rsqrtf(warp_sum(sum) / C + kNormEpsilon);
  for (int c = lane() * W; c < C; c += kWarp * W) {
    load_mixed(x + row + c, x0 + row + c, *a, *b, v);
    for (int i = 0; i < W; ++i) v[i] *= r;
    store(v, normed + row + c);
  }
  if (lane() == 0) rstd[n] = r;
}

// Stores a times g, plus `others`, at `to`, and adds up the products of g and x in `dot`. All of
// them are rows of which W channels from `at` on are worked off.
__device__ __forceinline__ void pass_on(const float (&g)[W], float a, const T* x, const T* others,
                                        T* to, Index at, float& dot) {
  float v[W];
  load(x + at, v);
  for (int i = 0; i < W; ++i) {
    dot += g[i] * v[i];
    v[i] = a * g[i];
  }
  add_any(others, at, v);
  store(v, to + at);
}

// Matrices are (N, C). y = a x + b x0 gets g = grad_y + r (grad_normed - normed mean(grad_normed
// normed)); from there grad_x = a g, grad_x0 = b g, grad_a = sum(g x), grad_b = sum(g x0).
// A block takes every gridDim.x-th group of rows and leaves its sums for the gradients of a and b
// in partial_a and partial_b.
KERNEL mix_norm_backward(const T* __restrict__ grad_y, const T* __restrict__ grad_normed,
                         const T* __restrict__ x, const T* __restrict__ x0,
                         const T* __restrict__ normed, const float* __restrict__ rstd,
                         const float* __restrict__ a, const float* __restrict__ b,
                         const T* __restrict__ others, T* __restrict__ grad_x,
                         T* __restrict__ grad_x0,
                         float* __restrict__ partial_a, float* __restrict__ partial_b, Index N,
                         int C) {
  float sum_a = 0, sum_b = 0, g[W], h[W], y[W];
  // The stride is fixed by the grid, and so is the order of each sum: equal calls give equal bits.
  for (Index n = thread() / kWarp; n < N; n += static_cast<Index>(gridDim.x) * warps()) {
    const Index row = n * C;
    const float mean = mean_product(grad_normed + row, normed + row, C), r = rstd[n];
    for (int c = lane() * W; c < C; c += kWarp * W) {
      load(grad_y + row + c, g);
      load(grad_normed + row + c, h);
      load(normed + row + c, y);
      for (int i = 0; i < W; ++i) g[i] += r * (h[i] - y[i] * mean);
      pass_on(g, *a, x, nullptr, grad_x, row + c, sum_a);
      pass_on(g, *b, x0, others, grad_x0, row + c, sum_b);
    }
  }
  sum_a = block_sum(sum_a);
  sum_b = block_sum(sum_b);
  if (threadIdx.x == 0) {
    partial_a[blockIdx.x] = sum_a;
    partial_b[blockIdx.x] = sum_b;
  }
}

// One block: the sum of n values.
KERNEL sum_partials(const float* __restrict__ values, float* __restrict__ sum, int n) {
  float total = 0;
  for (int i = threadIdx.x; i < n; i += blockDim.x) total += values[i];
  total = block_sum(total);
  if (threadIdx.x == 0) *sum = total;
}

// ------------------------------------------------------------------------------------------------
// Between the product with the query, key and value weights and attention. `lanes` neighbouring
// lanes, a power of two, work on one head, on W channels of each half in turn.

struct Head {
  bool exists;       // lanes beyond the last head take part in shuffles only
  int part;          // 0 query, 1 key, 2 value
  int h, first;      // head within its token; channel of a half at which this lane begins
  unsigned token;    // in [0, N); fused_cuda.cpp refuses what takes 2^32 lanes
  Index qkv, plain;  // where it begins in qkv (N, 3, H, D), and in q, k and v (N, H, D)
};

__device__ __forceinline__ Head find_head(Index N, int H, int D, int lanes) {
  const unsigned unit = (blockIdx.x * blockDim.x + threadIdx.x) / lanes;
  Head head;
  head.exists = unit < N * 3 * H;
  head.h = unit % H;
  head.part = unit / H % 3;
  head.token = unit / H / 3;
  head.first = threadIdx.x % lanes * W;
  head.qkv = static_cast<Index>(unit) * D;
  head.plain = static_cast<Index>(head.token * H + head.h) * D;
  return head;
}

// W channels of both halves, rotated: y1 = x1 cos + x2 sin, y2 = x2 cos - x1 sin.
__device__ __forceinline__ void load_rotated(const T* x, int half, const T* cos, const T* sin,
                                             float (&y1)[W], float (&y2)[W]) {
  float c[W], s[W];
  load(x, y1);
  load(x + half, y2);
  load(cos, c);
  load(sin, s);
  for (int i = 0; i < W; ++i) {
    const float x1 = y1[i], x2 = y2[i];
    y1[i] = x1 * c[i] + x2 * s[i];
    y2[i] = x2 * c[i] - x1 * s[i];
  }
}

__device__ __forceinline__ float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

// One value head, with the row of a table of S mixed in.
template <typename S>
__device__ void add_value_embedding(const Head& head, const T* v, const S* row, float gate, T* out,
                                    int D, int lanes) {
  float x[W], e[W];
  for (int d = head.first; d < D; d += lanes * W) {
    load(v + d, x);
    load(row + d, e);
    for (int i = 0; i < W; ++i) x[i] += gate * e[i];
    store(x, out + d);
  }
}

// One head, times a factor.
__device__ void copy_scaled(const Head& head, const T* from, float factor, T* to, int D,
                            int lanes) {
  float x[W];
  for (int d = head.first; d < D; d += lanes * W) {
    load(from + d, x);
    for (int i = 0; i < W; ++i) x[i] *= factor;
    store(x, to + d);
  }
}

__device__ __forceinline__ bool is_row(Index id, int rows) { return id >= 0 && id < rows; }

// One value head, with its row of the table mixed in if there is a table.
__device__ void mix_value(const Head& head, const T* x, const void* table, int table_bf16, int rows,
                          const Index* ids, const T* gate, T* out, int H, int D, int lanes) {
  if (!table) return copy_scaled(head, x, 1.0f, out, D, lanes);
  if (!is_row(ids[head.token], rows)) return copy_scaled(head, x, not_a_number(), out, D, lanes);
  const float open = 2.0f * sigmoid(to_float(gate[head.token * H + head.h]));
  const Index row = (ids[head.token] * H + head.h) * D;
  if (table_bf16) {
    add_value_embedding(head, x, static_cast<const bf16*>(table) + row, open, out, D, lanes);
  } else {
    add_value_embedding(head, x, static_cast<const float*>(table) + row, open, out, D, lanes);
  }
}

// The table has `rows` of H * D channels and is none, of float (table_bf16 is 0) or of bf16. A
// sequence has `time` tokens, `half` is D / 2; rstd: (N, 2, H).
KERNEL rope_norm_gate(const T* __restrict__ qkv, const T* __restrict__ cos,
                      const T* __restrict__ sin, const void* __restrict__ table, int table_bf16,
                      int rows, const Index* __restrict__ ids, const T* __restrict__ gate,
                      T* __restrict__ q, T* __restrict__ k, T* __restrict__ v,
                      float* __restrict__ rstd, Index N, int time, int H, int half, int lanes) {
  const int D = 2 * half;
  const Head head = find_head(N, H, D, lanes);
  const bool rotates = head.exists && head.part < 2;
  const T* const x = qkv + head.qkv;
  const Index angle = static_cast<Index>(head.token % time) * half;
  float y1[W], y2[W], sum = 0;
  for (int d = head.first; rotates && d < half; d += lanes * W) {
    load_rotated(x + d, half, cos + angle + d, sin + angle + d, y1, y2);
    for (int i = 0; i < W; ++i) sum += y1[i] * y1[i] + y2[i] * y2[i];
  }
  // All lanes of a warp take part in the sum, also those without a head.
  const float r = rsqrtf(group_sum(sum, lanes) / D + kNormEpsilon);
  if (!head.exists) return;
  if (rotates) {
    T* const out = (head.part == 0 ? q : k) + head.plain;
    for (int d = head.first; d < half; d += lanes * W) {
      load_rotated(x + d, half, cos + angle + d, sin + angle + d, y1, y2);
      for (int i = 0; i < W; ++i) {
        y1[i] *= r;
        y2[i] *= r;
      }
      store(y1, out + d);
      store(y2, out + half + d);
    }
    if (head.first == 0) rstd[(head.token * 2 + head.part) * H + head.h] = r;
    return;
  }
  mix_value(head, x, table, table_bf16, rows, ids, gate, v + head.plain, H, D, lanes);
}

// This lane's part of the sum over a head's channels of a * b.
template <typename S>
__device__ float head_dot(const Head& head, const T* a, const S* b, int D, int lanes) {
  float u[W], v[W], dot = 0;
  for (int d = head.first; d < D; d += lanes * W) {
    load(a + d, u);
    load(b + d, v);
    for (int i = 0; i < W; ++i) dot += u[i] * v[i];
  }
  return dot;
}

// One head, (D). Through the norm, g = rstd (grad - y mean(grad y)); through the rotation, whose
// inverse is its transpose, x1 gets g1 cos - g2 sin, and x2 gets g1 sin + g2 cos.
__device__ void unrotate(const Head& head, const T* grad, const T* y, const T* cos, const T* sin,
                         float rstd, float mean, T* grad_x, int half, int lanes) {
  float g1[W], g2[W], u[W], v[W];
  for (int d = head.first; d < half; d += lanes * W) {
    load(grad + d, g1);
    load(y + d, u);
    for (int i = 0; i < W; ++i) g1[i] = rstd * (g1[i] - u[i] * mean);
    load(grad + half + d, g2);
    load(y + half + d, u);
    for (int i = 0; i < W; ++i) g2[i] = rstd * (g2[i] - u[i] * mean);
    load(cos + d, u);
    load(sin + d, v);
    for (int i = 0; i < W; ++i) {
      const float y1 = g1[i], y2 = g2[i];
      g1[i] = y1 * u[i] - y2 * v[i];
      g2[i] = y1 * v[i] + y2 * u[i];
    }
    store(g1, grad_x + d);
    store(g2, grad_x + half + d);
  }
}

// grad_q, grad_k, grad_v: (N, H, D). Queries and keys go back through norm and rotation (unrotate).
// A value y = v + 2 s e, s = sigmoid(gate), passes grad on to v, 2 s grad to e, and to the gate
// 2 s (1 - s) sum(grad e).
KERNEL rope_norm_gate_backward(const T* __restrict__ grad_q, const T* __restrict__ grad_k,
                               const T* __restrict__ grad_v, const T* __restrict__ q,
                               const T* __restrict__ k, const float* __restrict__ rstd,
                               const T* __restrict__ cos, const T* __restrict__ sin,
                               const void* __restrict__ table, int table_bf16, int rows,
                               const Index* __restrict__ ids, const T* __restrict__ gate,
                               T* __restrict__ grad_qkv, T* __restrict__ grad_embedded,
                               T* __restrict__ grad_gate, Index N, int time, int H, int half,
                               int lanes) {
  const int D = 2 * half;
  const Head head = find_head(N, H, D, lanes);
  const T* const grad = (head.part == 0 ? grad_q : head.part == 1 ? grad_k : grad_v) + head.plain;
  const T* const y = (head.part == 0 ? q : k) + head.plain;
  float dot = 0;
  if (head.exists && head.part < 2) dot = head_dot(head, grad, y, D, lanes);
  if (head.exists && head.part == 2 && table && is_row(ids[head.token], rows)) {
    const Index row = (ids[head.token] * H + head.h) * D;
    dot = table_bf16 ? head_dot(head, grad, static_cast<const bf16*>(table) + row, D, lanes)
                     : head_dot(head, grad, static_cast<const float*>(table) + row, D, lanes);
  }
  // One sum for both kinds of head, in which all lanes of a warp take part.
  dot = group_sum(dot, lanes);
  if (!head.exists) return;
  T* const out = grad_qkv + head.qkv;
  if (head.part < 2) {
    const Index angle = static_cast<Index>(head.token % time) * half;
    const float r = rstd[(head.token * 2 + head.part) * H + head.h];
    return unrotate(head, grad, y, cos + angle, sin + angle, r, dot / D, out, half, lanes);
  }
  copy_scaled(head, grad, 1.0f, out, D, lanes);
  if (!table) return;
  const float s = sigmoid(to_float(gate[head.token * H + head.h]));
  copy_scaled(head, grad, 2.0f * s, grad_embedded + head.plain, D, lanes);
  if (head.first == 0)
    grad_gate[head.token * H + head.h] = from_float<T>(2.0f * s * (1.0f - s) * dot);
}

// ------------------------------------------------------------------------------------------------
// ReLU squared. n elements, W a thread.

KERNEL relu_squared(const T* __restrict__ x, T* __restrict__ y, Index n) {
  const Index i = thread() * W;
  if (i >= n) return;
  float v[W];
  load(x + i, v);
  for (int j = 0; j < W; ++j) {
    const float positive = v[j] < 0 ? 0.0f : v[j];  // NaN stays, which fmaxf would drop
    v[j] = positive * positive;
  }
  store(v, y + i);
}

// grad, y, grad_x: n elements. y = max(x, 0)^2 grows by 2 max(x, 0) = 2 sqrt(y).
KERNEL relu_squared_backward(const T* __restrict__ grad, const T* __restrict__ y,
                             T* __restrict__ grad_x, Index n) {
  const Index i = thread() * W;
  if (i >= n) return;
  float g[W], v[W];
  load(grad + i, g);
  load(y + i, v);
  for (int j = 0; j < W; ++j) g[j] *= 2.0f * sqrtf(v[j]);
  store(g, grad_x + i);
}

// ------------------------------------------------------------------------------------------------
// Softcap and cross-entropy, with the gradient in place of the logits. Rows of V, a block a row.

// By the exponential, two instructions of the special function unit; off by 1e-7 at most, where
// tanh.approx would be off by 5e-4.
__device__ __forceinline__ float fast_tanh(float x) {
  return 1.0f - __fdividef(2.0f, 1.0f + __expf(2.0f * x));
}

// A row without a target: nothing, or NaN where it ought to have one.
__device__ void leave_out(T* logits, float* loss, int V, bool ignored) {
  float z[W];
  for (int i = 0; i < W; ++i) z[i] = ignored ? 0.0f : not_a_number();
  for (int v = threadIdx.x * W; v < V; v += blockDim.x * W) store(z, logits + v);
  if (threadIdx.x == 0) *loss = z[0];
}

// Packs of a row that a thread keeps in registers; of single elements, addresses take registers too.
constexpr int kKept = WIDE ? kLogitsInRegisters / W : 8;

__device__ __forceinline__ void squash(const T* logits, float inverse, float (&t)[W]) {
  load(logits, t);
  for (int i = 0; i < W; ++i) t[i] = fast_tanh(t[i] * inverse);
}

// f(v, squashed logits v ... v + W - 1) for all of a row that are this thread's: `kept`, and what
// lies beyond the registers and is read again.
template <typename F>
__device__ __forceinline__ void each_squashed(const float (&kept)[kKept][W], const T* logits, int V,
                                              float inverse, F f) {
  const int begin = threadIdx.x * W, stride = blockDim.x * W;
  for (int k = 0; k < kKept; ++k)
    if (begin + k * stride < V) f(begin + k * stride, kept[k]);
  float t[W];
  for (int v = begin + kKept * stride; v < V; v += stride) {
    squash(logits + v, inverse, t);
    f(v, t);
  }
}

// logits z: (N, V). With t = tanh(z / cap) and p = softmax(cap t), the loss is
// log(sum(e^(cap t))) - cap t[target]. cap t grows by 1 - t^2, so z gets
// scale (p - [is the target]) (1 - t^2).
// One pass over memory if the registers hold the row.
KERNEL __launch_bounds__(1024)
    softcap_cross_entropy(T* __restrict__ logits, const Index* __restrict__ targets,
                          float* __restrict__ loss, int V, float cap, float scale) {
  const Index n = blockIdx.x, aim = targets[n];
  if (aim < 0 || aim >= V) return leave_out(logits + n * V, loss + n, V, aim == kIgnoredTarget);
  const int target = aim;
  const float inverse = 1.0f / cap;
  logits += n * V;
  float kept[kKept][W];
  for (int k = 0; k < kKept; ++k) {
    const int v = (threadIdx.x + k * blockDim.x) * W;
    if (v < V) squash(logits + v, inverse, kept[k]);
  }

  float top = -1, sum = 0;
  each_squashed(kept, logits, V, inverse, [&](int, const float (&t)[W]) {
    for (int i = 0; i < W; ++i) top = fmaxf(top, t[i]);
  });
  top = block_max(top);
  each_squashed(kept, logits, V, inverse, [&](int, const float (&t)[W]) {
    for (int i = 0; i < W; ++i) sum += __expf(cap * (t[i] - top));
  });
  const float wanted = cap * fast_tanh(to_float(logits[target]) * inverse);
  const float log_sum = cap * top + logf(block_sum(sum));  // its barriers part reading from writing
  if (threadIdx.x == 0) loss[n] = log_sum - wanted;
  each_squashed(kept, logits, V, inverse, [&](int v, const float (&t)[W]) {
    float z[W];
    for (int i = 0; i < W; ++i) {
      const float p = __expf(cap * t[i] - log_sum);
      z[i] = scale * (p - (v + i == target ? 1.0f : 0.0f)) * (1.0f - t[i] * t[i]);
    }
    store(z, logits + v);
  });
}

// ------------------------------------------------------------------------------------------------
// Gradient of a table: sums over the rows that have the same id

__device__ __forceinline__ Index in_range(Index id, int V) {  // -1 and V stand for all outside
  return id < 0 ? -1 : id < V ? id : V;
}

// starts[v] = where the rows with id v begin in sorted_ids; starts[V] = N. A thread for each of the
// N + 1 gaps between sorted ids fills in the ids that lie in it.
KERNEL find_segments(const Index* __restrict__ sorted_ids, Index* __restrict__ starts, Index N,
                     int V) {
  const Index i = thread();
  if (i > N) return;
  const Index before = i == 0 ? -1 : in_range(sorted_ids[i - 1], V);
  const Index after = i == N ? V : in_range(sorted_ids[i], V);
  for (Index v = before + 1; v <= after; ++v) starts[v] = i;
}

// Adds W channels of rows order[begin ... end - 1] to `sum`, this warp's share of them.
__device__ void add_rows(const T* grad, const Index* order, Index begin, Index end, int C,
                         float (&sum)[W]) {
  float g[W];
  for (Index n = begin + warp(); n < end; n += kBlockWarps) {
    load(grad + order[n] * C, g);
    for (int i = 0; i < W; ++i) sum[i] += g[i];
  }
}

// The sum over the block's warps, in its first one.
__device__ void add_warps(float (&sum)[W]) {
  __shared__ float shared[kBlockWarps][W][kWarp];
  for (int i = 0; i < W; ++i) shared[warp()][i][lane()] = sum[i];
  __syncthreads();
  if (warp() > 0) return;
  for (int w = 1; w < kBlockWarps; ++w)
    for (int i = 0; i < W; ++i) sum[i] += shared[w][i][lane()];
}

// A frequent id has thousands of rows, most have few. So the sorted rows are cut into chunks, and
// what a chunk begins with of an id from chunks before it is summed here, (chunks, C). A block adds
// up 32 W channels. Block = chunk * slabs + slab.
KERNEL carried_sums(const T* __restrict__ grad, const Index* __restrict__ sorted_ids,
                    const Index* __restrict__ order, const Index* __restrict__ starts,
                    float* __restrict__ carried, int V, int C, int rows, int slabs) {
  const Index chunk = blockIdx.x / slabs, begin = chunk * rows, id = sorted_ids[begin];
  if (!is_row(id, V) || starts[id] >= begin) return;
  const Index whole = begin + rows, end = starts[id + 1] < whole ? starts[id + 1] : whole;
  const int c = (blockIdx.x % slabs * kWarp + lane()) * W;
  float sum[W] = {};
  if (c < C) add_rows(grad + c, order, begin, end, C, sum);
  add_warps(sum);
  if (warp() == 0 && c < C) store(sum, carried + chunk * C + c);
}

// grad: (rows, C); out: (V, C) of float (out_bf16 is 0) or bf16. A row of the table gets the sum of
// the gradients of all tokens with its id: the rows in the chunk where the id begins, and what later
// chunks carried. Block = id * slabs + slab.
KERNEL embedding_backward(const T* __restrict__ grad, const Index* __restrict__ order,
                          const Index* __restrict__ starts, const float* __restrict__ carried,
                          void* __restrict__ out, int out_bf16, int C, int rows, int slabs) {
  const Index v = blockIdx.x / slabs, begin = starts[v], end = starts[v + 1];
  const Index next = begin / rows + 1;  // chunk
  const int c = (blockIdx.x % slabs * kWarp + lane()) * W;
  float sum[W] = {}, part[W];
  if (c < C) {
    add_rows(grad + c, order, begin, end < next * rows ? end : next * rows, C, sum);
    for (Index chunk = next + warp(); chunk * rows < end; chunk += kBlockWarps) {
      load(carried + chunk * C + c, part);
      for (int i = 0; i < W; ++i) sum[i] += part[i];
    }
  }
  add_warps(sum);
  if (warp() > 0 || c >= C) return;
  if (out_bf16) {
    store(sum, static_cast<bf16*>(out) + v * C + c);
  } else {
    store(sum, static_cast<float*>(out) + v * C + c);
  }
}

// ------------------------------------------------------------------------------------------------
// Muon, elementwise. Gradients, moments and weights are float, the update is T.

// n elements, W a thread. rest = 1 - mu, before it is rounded to float.
KERNEL nesterov(const float* __restrict__ grad, const float* __restrict__ momentum, float mu,
                float rest, float* __restrict__ new_momentum, T* __restrict__ update, Index n) {
  const Index i = thread() * W;
  if (i >= n) return;
  float g[W], m[W];
  load(grad + i, g);
  load(momentum + i, m);
  for (int j = 0; j < W; ++j) m[j] += rest * (g[j] - m[j]);
  store(m, new_momentum + i);
  for (int j = 0; j < W; ++j) g[j] += mu * (m[j] - g[j]);
  store(g, update + i);
}

// mean[r] of the squares of row r; a warp a row.
KERNEL row_mean_squares(const T* __restrict__ x, float* __restrict__ mean, Index rows, int cols) {
  const Index r = thread() / kWarp;
  if (r >= rows) return;
  const float result = mean_product(x + r * cols, x + r * cols, cols);
  if (lane() == 0) mean[r] = result;
}

// mean[s][c] of the squares of column c of matrix s. A block for 32 columns, whose warps take the
// rows in turn. Block = s * slabs + slab.
KERNEL column_mean_squares(const T* __restrict__ x, float* __restrict__ mean, int rows, int cols,
                           int slabs) {
  __shared__ float shared[kBlockWarps][kWarp];
  const Index s = blockIdx.x / slabs;
  const int c = blockIdx.x % slabs * kWarp + lane();
  float sum = 0;
  if (c < cols) {
    for (int r = warp(); r < rows; r += kBlockWarps) {
      const float v = to_float(x[(s * rows + r) * cols + c]);
      sum += v * v;
    }
  }
  shared[warp()][lane()] = sum;
  __syncthreads();
  if (warp() > 0 || c >= cols) return;
  for (int w = 1; w < kBlockWarps; ++w) sum += shared[w][lane()];
  mean[s * cols + c] = sum / rows;
}

// fmaxf would make a number of NaN.
__device__ __forceinline__ float at_least(float x, float least) { return x < least ? least : x; }

// Second moment and scale of the K rows, or columns, of one matrix; a block a matrix.
KERNEL second_moment(const float* __restrict__ mean, const float* __restrict__ second, float rest,
                     float* __restrict__ new_second, float* __restrict__ scale, int K) {
  const Index at = static_cast<Index>(blockIdx.x) * K;
  float plain = 0, scaled = 0;
  for (int i = threadIdx.x; i < K; i += blockDim.x) {
    const float m = mean[at + i], old = second[at + i], moment = old + rest * (m - old);
    new_second[at + i] = moment;
    plain += m;
    scaled += m / at_least(moment, kLeastMoment);
  }
  plain = block_sum(plain);
  scaled = block_sum(scaled);
  const float ratio = sqrtf(plain) / at_least(sqrtf(scaled), kLeastMoment);
  for (int i = threadIdx.x; i < K; i += blockDim.x)
    scale[at + i] = ratio * rsqrtf(at_least(new_second[at + i], kLeastMoment));
}

// n elements, W a thread, of the stack from its element `first` on: one weight tensor. scale has
// one value for each row of the stack (by_row), or one for each column of each matrix.
KERNEL cautious_step(float* __restrict__ weight, const T* __restrict__ update,
                     const float* __restrict__ scale, Index first, Index n, int rows, int cols,
                     int by_row, float lr, float decay) {
  const Index i = thread() * W, row = (first + i) / cols;
  if (i >= n) return;
  float w[W], u[W], s[W];
  load(weight + i, w);
  load(update + first + i, u);
  if (by_row) {
    for (int j = 0; j < W; ++j) s[j] = scale[row];
  } else {
    load(scale + row / rows * cols + (first + i) % cols, s);
  }
  for (int j = 0; j < W; ++j) {
    const float change = u[j] * s[j];
    w[j] -= lr * change + (change * w[j] >= 0 ? decay * w[j] : 0.0f);
  }
  store(w, weight + i);
}
