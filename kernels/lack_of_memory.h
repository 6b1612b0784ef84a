// How ATen, CUDA and the libraries below them say that memory ran out.
#pragma once

#include <exception>

namespace autoresearch {

// True for an error that a smaller batch or model can avoid, on a CPU or a GPU.
bool is_lack_of_memory(const std::exception& error);

}  // namespace autoresearch
