// A sealed graph, parsed, checked and run node by node. It has no memory between calls: no operator
// on the list writes to its arguments or reads memory that nothing has filled.
#pragma once

#include <functional>
#include <memory>

#include "referee/sealed_file.h"

namespace autoresearch {

// Rows of a batch when a model is scored on a CPU: the harness's choice, never the candidate's. On
// a GPU it depends on the card (harness/device.h), and is at most kMostScoringRows.
int64_t scoring_rows_on_cpu(int64_t seq_len);
constexpr int64_t kMostScoringRows = 256;

// The arithmetic that training and scoring share: TF32 for the float32 products that are left on a
// GPU (upstream's "high" precision), exact float32 on a CPU.
void set_precision(at::Device device);

using Logits = std::function<at::Tensor(at::Tensor ids)>;

// Throws Error (kCannotSeal) unless `logits` has the shape `wanted`: (rows, seq_len, vocab_size).
void check_shape(const at::Tensor& logits, at::IntArrayRef wanted);

// Construction throws Error (kCannotSeal) that names the operator when the text doesn't parse or
// holds anything outside the list (referee/operators.h): functional, deterministic operator
// overloads and a handful of prim:: nodes. In-place, out=, as_strided, resize, set_, empty, random,
// from_file, save, Python, sub-blocks are all outside.
class Graph {
 public:
  explicit Graph(const SealedModel& model);
  ~Graph();
  // ids: (rows, seq_len) int64. Returns logits (rows, seq_len, vocab_size): checked to be dense,
  // floating, finite, of that shape and on the device, and the caller's own; throws Error
  // otherwise.
  at::Tensor operator()(const at::Tensor& ids) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace autoresearch
