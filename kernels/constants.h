// Numbers that the CPU's loops, ATen's twins and the CUDA source must agree on. NVRTC compiles
// this, too: nothing can be included here.
#ifndef AUTORESEARCH_KERNELS_CONSTANTS_H_
#define AUTORESEARCH_KERNELS_CONSTANTS_H_

namespace autoresearch {

constexpr long kIgnoredTarget = -100;  // one that does not count, as in at::cross_entropy_loss

// Of the norms: float32's machine epsilon, as in at::rms_norm.
constexpr float kNormEpsilon = 1.1920928955078125e-07f;

// Least second moment of NorMuon, and least norm that it divides by.
constexpr float kLeastMoment = 1e-10f;

constexpr int kWarp = 32;           // threads of a GPU that run together
constexpr int kBlockThreads = 256;  // of a block, but in the loss
constexpr int kBlockWarps = kBlockThreads / kWarp;
constexpr int kLogitsInRegisters = 32;  // of a row, that a thread of the loss keeps

}  // namespace autoresearch

#endif
