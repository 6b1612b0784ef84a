// The sealed file: what a trained model is handed over as, plain data and nothing that runs.
//
// It is one safetensors file (https://huggingface.co/docs/safetensors): the tensors are named
// c0, c1, ... in the order of the graph's inputs after `ids`; the header's __metadata__ holds
//   format    "autoresearch-sealed-1"
//   graph     the IR text: graph(%ids, %c0, ...): ... return (%logits)
//   rows, seq_len, vocab_size   the shape that was traced, which is the only one it runs at
//   device    "cpu" or "cuda"
// torch::jit::load is never called on it: a TorchScript archive runs code while it loads.
#pragma once

#include <ATen/ATen.h>

#include <string>
#include <string_view>
#include <vector>

#include "common/files.h"

namespace autoresearch {

// A graph with its constants. Made by trace() from live code, or by load_sealed() from a file.
struct SealedModel {
  std::string graph;                // IR text
  std::vector<at::Tensor> tensors;  // c0, c1, ...
  int64_t rows = 0, seq_len = 0, vocab_size = 0;
  at::Device device{at::kCPU};
};

// More than these can't be sealed.
constexpr size_t kMaxGraph = 8 << 20;  // bytes of IR text; a 64-layer model has about 0.5 MB
constexpr size_t kMaxTensors = 16384;

// The name that the file has for a tensor's type. Throws Error (kCannotSeal) if it has none.
std::string dtype_name(const at::Tensor& tensor);

void save_sealed(const SealedModel& model, const fs::path& path);  // whole or not at all

// Reads a file as hostile input: sizes, offsets and dtypes are checked before any use. Throws
// Error, which calls the file `name`. The tensors are on `device`.
SealedModel parse_sealed(std::string_view bytes, const std::string& name, at::Device device);
SealedModel load_sealed(const fs::path& path, at::Device device);

// Whether the header's text says that the model was sealed on a GPU. Parses nothing, so that it
// can be asked before a process has given up what a hostile file might use.
bool seems_sealed_on_cuda(std::string_view bytes);

}  // namespace autoresearch
