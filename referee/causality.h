// An early look at a model, in the process that trains it: whether its logits move with tokens that
// they must not depend on. It spares a candidate a training that the scorer would void; the
// scorer's own probe (referee/score.h) is the one that counts.
#pragma once

#include "referee/graph.h"

namespace autoresearch {

// Replaces the tokens from `draws` random cuts on by others of `ids` (rows, seq_len), int64, and
// compares the logits before the cut. Throws Error (kCannotSeal) naming the first position that
// moved.
void probe_causality(const Graph& graph, const at::Tensor& ids, int draws);

}  // namespace autoresearch
