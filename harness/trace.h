// Tracing: a live model becomes a sealed one, a graph of ATen operators as text plus its tensors.
#pragma once

#include "referee/graph.h"

namespace autoresearch {

// Traces `logits` at ids of shape (rows, seq_len) on `device`, gradients off. Throws Error with
// code kCannotSeal, naming the cause, when tracing fails. What it returns is not checked; a Graph
// made of it checks it.
SealedModel trace(const Logits& logits, int64_t rows, int64_t seq_len, int64_t vocab_size,
                  at::Device device);

}  // namespace autoresearch
