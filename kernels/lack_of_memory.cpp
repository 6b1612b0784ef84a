#include "kernels/lack_of_memory.h"

#include <c10/util/Exception.h>

#include <new>
#include <string_view>

namespace autoresearch {

bool is_lack_of_memory(const std::exception& error) {
  if (dynamic_cast<const c10::OutOfMemoryError*>(&error) ||
      dynamic_cast<const std::bad_alloc*>(&error))
    return true;
  const std::string_view what = error.what();
  for (const char* words : {"out of memory", "STATUS_ALLOC_FAILED"})  // CUDA; cuBLAS and cuDNN
    if (what.find(words) != std::string_view::npos) return true;
  return false;
}

}  // namespace autoresearch
