// Sealing: a live model becomes a file of data, a graph of ATen operators as text plus its tensors.
//
// The file is one safetensors file (https://huggingface.co/docs/safetensors): the tensors are named
// c0, c1, ... in the order of the graph's inputs after `ids`; the header's __metadata__ holds
//   format    "autoresearch-sealed-1"
//   graph     the IR text: graph(%ids, %c0, ...): ... return (%logits)
//   rows, seq_len, vocab_size   the shape that was traced, which is the only one it runs at
//   device    "cpu" or "cuda"
// torch::jit::load is never called on it: a TorchScript archive runs code while it loads.
#pragma once

#include <ATen/ATen.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "common/files.h"

namespace autoresearch {

using Logits = std::function<at::Tensor(at::Tensor ids)>;

// A graph with its constants. Made by trace() from live code, or by load_sealed() from a file.
struct SealedModel {
  std::string graph;                // IR text
  std::vector<at::Tensor> tensors;  // c0, c1, ...
  int64_t rows = 0, seq_len = 0, vocab_size = 0;
  at::Device device{at::kCPU};
};

// Traces `logits` at ids of shape (rows, seq_len) on `device`, gradients off. Throws Error with
// code kCannotSeal, naming the cause, when tracing fails. What it returns is not checked; see
// check_graph.
SealedModel trace(const Logits& logits, int64_t rows, int64_t seq_len, int64_t vocab_size,
                  at::Device device);

void save_sealed(const SealedModel& model, const fs::path& path);  // whole or not at all

// Reads a file as hostile input: sizes, offsets and dtypes are checked before any use. Throws
// Error.
SealedModel load_sealed(const fs::path& path, at::Device device);

// A parsed and checked graph, run node by node. Construction throws Error (kCannotSeal) that names
// the operator when the text doesn't parse or holds anything outside the allow-list: functional,
// deterministic operator overloads and a handful of prim:: nodes. In-place, out=, as_strided,
// resize, set_, empty, random, from_file, save, Python, sub-blocks are all outside.
class Graph {
 public:
  explicit Graph(const SealedModel& model);
  ~Graph();
  // ids: (rows, seq_len) int64. Returns logits (rows, seq_len, vocab_size): checked to be dense,
  // floating, finite, of that shape and on the device; throws Error otherwise.
  at::Tensor operator()(const at::Tensor& ids) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace autoresearch
