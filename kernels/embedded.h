// Files of kernels/ that are part of the program as text: CMake writes embedded.cpp
// (cmake/embed.cmake).
#pragma once

#include <string>

namespace autoresearch {

extern const char* const kConstants;      // kernels/constants.h
extern const char* const kDevicePrelude;  // kernels/device_prelude.cuh
extern const char* const kFusedSource;    // kernels/fused.cu

}  // namespace autoresearch
