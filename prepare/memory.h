// How much memory there is to take.
#pragma once

#include <cstdint>

namespace autoresearch {

// Bytes that this process may still take without anything being swapped or killed: what the kernel
// calls available, within the limits of the process's control groups (version 2).
int64_t available_memory();

}  // namespace autoresearch
