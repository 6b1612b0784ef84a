// Files of harness/ that are part of the program as text: CMake writes embedded.cpp
// (cmake/embed.cmake).
#pragma once

#include <string>

namespace autoresearch {

extern const char* const kDevicePrelude;  // harness/device_prelude.cuh
extern const char* const kFusedSource;    // harness/fused.cu

}  // namespace autoresearch
