// Any bytes as a sealed file: a model whose tensors are the file's bytes, or one line, never a
// crash.
//
// The first byte of an input says whether the rest is the whole file, or a header and data behind
// the last bracket, which get the size of the header that is true.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "common/error.h"
#include "referee/sealed_file.h"

namespace autoresearch {
namespace {

[[noreturn]] void fail(const std::string& what) {
  std::fprintf(stderr, "%s\n", what.c_str());
  std::abort();
}

std::string with_size(std::string_view text) {
  const uint64_t size = text.rfind('}') + 1;
  return std::string(reinterpret_cast<const char*>(&size), sizeof size) + std::string(text);
}

// The file lies in memory: a file system would cost most of the time.
fs::path in_memory(std::string_view bytes) {
  static const int fd = memfd_create("sealed", 0);
  if (ftruncate(fd, 0) != 0 || pwrite(fd, bytes.data(), bytes.size(), 0) != ssize_t(bytes.size()))
    fail("can't write to memory");
  return "/proc/self/fd/" + std::to_string(fd);
}

void load(const std::string& bytes) {
  SealedModel model;
  try {
    model = load_sealed(in_memory(bytes), at::kCPU);
  } catch (const Error& error) {
    if (std::strchr(error.what(), '\n')) fail("an error of more than one line");
    return;
  }
  size_t data = 0;
  for (const at::Tensor& tensor : model.tensors) {
    data += tensor.nbytes();
    if (tensor.scalar_type() == at::kBool)
      for (size_t i = 0; i < tensor.nbytes(); i++)
        if (static_cast<const uint8_t*>(tensor.const_data_ptr())[i] > 1) fail("a bool of 2");
  }
  uint64_t header = 0;
  std::memcpy(&header, bytes.data(), sizeof header);
  if (sizeof header + header + data != bytes.size()) fail("bytes that no tensor has");
}

}  // namespace
}  // namespace autoresearch

// The last argument is the folder of the corpus: it begins with a real file of every type.
extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  using namespace autoresearch;
  const fs::path folder = (*argv)[*argc - 1];
  if (!fs::is_directory(folder)) return 0;
  SealedModel model{"graph(%ids : Tensor):\n  return (%ids)\n", {}, 2, 3, 5, at::kCPU};
  for (const auto type : {at::kFloat, at::kHalf, at::kBFloat16, at::kDouble, at::kLong, at::kInt,
                          at::kByte, at::kBool})
    model.tensors.push_back(at::ones({2, 3}, type));
  model.tensors.push_back(at::zeros({0, 7}));
  model.tensors.push_back(at::zeros({}));
  save_sealed(model, folder / "whole");
  const std::string file = read_file(folder / "whole");
  write_file(folder / "whole", '\0' + file);
  write_file(folder / "header", '\1' + file.substr(sizeof(uint64_t)));
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace autoresearch;
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  load(data[0] & 1 ? with_size(bytes) : std::string(bytes));
  return 0;
}
