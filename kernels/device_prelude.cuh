// What every CUDA source of this project is compiled after: bfloat16 without cuda_bf16.h, which a
// machine that only runs the program need not have.

// The upper half of a float32. Arithmetic is done in float32.
struct bf16 {
  unsigned short bits;
};

__device__ __forceinline__ float to_float(float x) { return x; }
__device__ __forceinline__ float to_float(bf16 x) {
  return __uint_as_float(static_cast<unsigned>(x.bits) << 16);
}

// Rounds to the nearest, ties to even; every NaN becomes 0x7fc0, as in c10::BFloat16.
__device__ __forceinline__ bf16 to_bf16(float x) {
  const unsigned bits = __float_as_uint(x);
  const unsigned rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  return {static_cast<unsigned short>(x != x ? 0x7fc0u : rounded)};
}

// As an element of an array of float or bf16.
template <typename T>
__device__ __forceinline__ T from_float(float x) {
  if constexpr (sizeof(T) == sizeof(bf16)) return to_bf16(x);
  else return x;
}

#ifndef KERNEL
#define KERNEL extern "C" __global__ void  // found by its plain name after compiling
#endif
