// Runs CUDA kernels on the CPU, one block after the other, its threads as coroutines of one thread:
// enough of the language for kernels/fused.cu, and stricter than a GPU where kernels go wrong.
//
//   - Warps run as far ahead as barriers let them, in varying order: a missing barrier shows.
//   - Shared memory is filled with huge numbers before each block: a value nobody wrote shows.
//   - A barrier or shuffle that not every thread reaches is an error, as are blocks of part warps.
//   - Arguments are checked against the kernel's parameters: number, kind, and element type.
//
// Include it before the CUDA source, which may rely on device_prelude.cuh, and call
// launch_emulated(kernel, blocks, threads, arguments).
#pragma once

#include <ATen/ATen.h>
#include <ucontext.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <csetjmp>
#include <cstring>
#include <functional>
#include <memory>
#include <stdexcept>
#include <vector>

#include "kernels/constants.h"
#include "kernels/kernels.h"

// ------------------------------------------------------------------------------------------------
// The language

#define __device__ static inline
#define __global__ static
#define __forceinline__
#define __launch_bounds__(threads)
#define __shared__ static __attribute__((section("emulated_shared")))
#define KERNEL static void

struct EmulatedIndex {
  unsigned x = 0;
};
inline EmulatedIndex threadIdx, blockIdx, blockDim, gridDim;

inline float __uint_as_float(unsigned bits) { return std::bit_cast<float>(bits); }
inline unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
inline float __expf(float x) { return std::exp(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float rsqrtf(float x) { return 1 / std::sqrt(x); }

#include "kernels/device_prelude.cuh"

// ------------------------------------------------------------------------------------------------
// Blocks

namespace emulation {

// _longjmp by the name of its symbol. Where _FORTIFY_SOURCE is set, as in Ubuntu's g++, glibc's
// header exchanges it for one that ends the program when it jumps to another stack.
extern "C" [[noreturn]] void jump(__jmp_buf_tag* place, int value) __asm__("_longjmp");

constexpr unsigned kWarp = 32;
extern "C" char __start_emulated_shared[], __stop_emulated_shared[];

// The threads of one block, each on a stack of its own.
class Block {
 public:
  enum class State { kReady, kAtShuffle, kAtBarrier, kDone };

  // Runs `kernel` in every thread, to its end.
  void run(unsigned threads, const std::function<void()>& kernel) {
    if (threads % kWarp != 0 || threads > 1024)
      throw std::logic_error("a block must be of whole warps, at most 1024 threads");
    kernel_ = &kernel;
    prepare(threads);
    memset(__start_emulated_shared, 0x7f, __stop_emulated_shared - __start_emulated_shared);
    while (pass() || release(0, threads_.size(), State::kAtBarrier)) {
    }
    const auto done = [](auto& thread) { return thread->state == State::kDone; };
    if (std::all_of(threads_.begin(), threads_.end(), done)) return;
    threads_.clear();
    throw std::logic_error("a barrier or shuffle that not every thread reaches");
  }

  void wait(State state) {  // called by a thread
    Thread& thread = *threads_[threadIdx.x];
    thread.state = state;
    if (!_setjmp(thread.place)) jump(scheduler_, 1);
  }

  // What the lane `lane` of this thread's warp hands over in this shuffle, for `value`.
  unsigned exchange(unsigned value, unsigned lane) {
    const unsigned me = threadIdx.x;
    const unsigned parity = threads_[me]->shuffles++ % 2;  // a fast lane may be one shuffle ahead
    threads_[me]->handed[parity] = value;
    wait(State::kAtShuffle);
    return threads_[me / kWarp * kWarp + lane]->handed[parity];
  }

 private:
  struct Thread {
    State state;
    bool begun = false;
    unsigned shuffles = 0, handed[2];
    jmp_buf place;
    ucontext_t start;
    char stack[1 << 16];
  };

  void prepare(unsigned threads) {
    while (threads_.size() < threads) {
      threads_.push_back(std::make_unique<Thread>());
      Thread& thread = *threads_.back();
      getcontext(&thread.start);
      thread.start.uc_stack = {
          .ss_sp = thread.stack, .ss_flags = 0, .ss_size = sizeof thread.stack};
      makecontext(&thread.start, reinterpret_cast<void (*)()>(&Block::live), 1, this);
    }
    threads_.resize(threads);
    for (auto& thread : threads_) thread->state = State::kReady;
  }

  // A thread serves one block after the other.
  static void live(Block* block) {
    for (;;) {
      (*block->kernel_)();
      block->wait(State::kDone);
    }
  }

  // Lets each warp in turn run as far as it gets without the others, the first or the last of them
  // first; false when none could move.
  bool pass() {
    const unsigned warps = threads_.size() / kWarp;
    order_ = order_ * 1664525 + 1013904223;  // a linear congruential generator, never reset
    const bool backwards = order_ >> 31;
    bool any = false;
    for (unsigned w = 0; w < warps; ++w) any |= run_warp(backwards ? warps - 1 - w : w);
    return any;
  }

  bool run_warp(unsigned warp) {
    bool any = false;
    do {
      for (unsigned i = 0; i < kWarp; ++i) {
        const unsigned stride = (order_ >> 8) | 1, first = order_ >> 16;  // odd: each lane once
        const unsigned lane = (i * stride + first) % kWarp;
        if (threads_[warp * kWarp + lane]->state != State::kReady) continue;
        resume(warp * kWarp + lane);
        any = true;
      }
    } while (release(warp * kWarp, (warp + 1) * kWarp, State::kAtShuffle));
    return any;
  }

  void resume(unsigned t) {
    threadIdx.x = t;
    Thread& thread = *threads_[t];
    if (_setjmp(scheduler_)) return;
    if (thread.begun) jump(thread.place, 1);
    thread.begun = true;
    setcontext(&thread.start);
  }

  // Frees a warp, or the block, if every thread of it has arrived.
  bool release(size_t begin, size_t end, State state) {
    const auto first = threads_.begin() + begin, last = threads_.begin() + end;
    if (!std::all_of(first, last, [&](auto& t) { return t->state == state; })) return false;
    std::for_each(first, last, [](auto& t) { t->state = State::kReady; });
    return true;
  }

  const std::function<void()>* kernel_ = nullptr;
  std::vector<std::unique_ptr<Thread>> threads_;
  jmp_buf scheduler_;
  unsigned order_ = 1;
};
inline Block block;

// ------------------------------------------------------------------------------------------------
// Arguments

template <typename Element>
bool holds(at::ScalarType type) {
  if constexpr (std::is_void_v<Element>)
    return type == at::kFloat || type == at::kBFloat16;
  else if constexpr (std::is_same_v<Element, float>)
    return type == at::kFloat;
  else if constexpr (std::is_same_v<Element, long long>)
    return type == at::kLong;
  else
    return type == at::kBFloat16 && sizeof(Element) == 2;
}

template <typename Parameter>
Parameter convert(const autoresearch::CudaKernel::Argument& argument) {
  if constexpr (std::is_pointer_v<Parameter>) {
    const at::Tensor& tensor = std::get<at::Tensor>(argument.value);
    if (!tensor.defined()) return nullptr;
    using Element = std::remove_cv_t<std::remove_pointer_t<Parameter>>;
    if (!tensor.is_contiguous() || !holds<Element>(tensor.scalar_type()))
      throw std::logic_error("a tensor of another type than the kernel's parameter");
    return static_cast<Parameter>(tensor.data_ptr());
  } else if constexpr (std::is_integral_v<Parameter>) {
    const int64_t value = std::get<int64_t>(argument.value);
    if (static_cast<int64_t>(static_cast<Parameter>(value)) != value)
      throw std::logic_error("an integer that the kernel's parameter can't hold");
    return static_cast<Parameter>(value);
  } else {
    return static_cast<Parameter>(std::get<double>(argument.value));
  }
}

template <typename... Parameters, size_t... I>
void launch(void (*kernel)(Parameters...), int64_t blocks, int64_t threads,
            const std::vector<autoresearch::CudaKernel::Argument>& arguments,
            std::index_sequence<I...>) {
  const std::function<void()> bound = [kernel,
                                       values = std::tuple(convert<Parameters>(arguments[I])...)] {
    kernel(std::get<I>(values)...);
  };
  gridDim.x = blocks;
  blockDim.x = threads;
  for (blockIdx.x = 0; blockIdx.x < gridDim.x; ++blockIdx.x) block.run(threads, bound);
}

}  // namespace emulation

template <typename... Parameters>
void launch_emulated(void (*kernel)(Parameters...), int64_t blocks, int64_t threads,
                     const std::vector<autoresearch::CudaKernel::Argument>& arguments) {
  if (arguments.size() != sizeof...(Parameters))
    throw std::logic_error("not as many arguments as the kernel has parameters");
  emulation::launch(kernel, blocks, threads, arguments, std::index_sequence_for<Parameters...>());
}

// ------------------------------------------------------------------------------------------------
// What threads tell each other

inline void __syncthreads() { emulation::block.wait(emulation::Block::State::kAtBarrier); }

inline float __shfl_xor_sync(unsigned mask, float value, int distance) {
  if (mask != 0xffffffffu) throw std::logic_error("a shuffle of part of a warp");
  return std::bit_cast<float>(emulation::block.exchange(
      std::bit_cast<unsigned>(value), (threadIdx.x % emulation::kWarp) ^ distance));
}
