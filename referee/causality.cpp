#include "referee/causality.h"

#include <ATen/core/grad_mode.h>

#include <cmath>
#include <random>

#include "referee/refusal.h"

namespace autoresearch {

void probe_causality(const Graph& graph, const at::Tensor& ids, int draws) {
  const at::NoGradGuard no_grad;
  check(ids.size(1) > 1, "rows of one token can't be trained on; prepare a longer --seq-len");
  std::random_device entropy;  // no seed: what is drawn must not be the candidate's to know
  std::uniform_int_distribution<int64_t> cuts(1, ids.size(1) - 1);
  const double tolerance = ids.is_cuda() ? 1e-3 : 0;  // as in referee/score.cpp
  const at::Tensor logits = graph(ids);
  for (int draw = 0; draw < draws; draw++) {
    const int64_t cut = cuts(entropy);
    // Every token behind the cut becomes another one, still of the vocabulary's rows in use.
    const at::Tensor tail = ids.narrow(1, cut, ids.size(1) - cut);
    const at::Tensor other = at::where(tail.eq(ids.max()), ids.min(), tail + 1);
    const at::Tensor altered = at::cat({ids.narrow(1, 0, cut), other}, 1);
    const at::Tensor moved = (graph(altered) - logits).narrow(1, 0, cut).abs().amax({0, 2});
    const at::Tensor wrong = moved.to(at::kDouble).gt(tolerance);
    if (!wrong.any().item<bool>()) continue;
    refuse("the model is not causal: its logits at position " +
           std::to_string(wrong.to(at::kInt).argmax().item<int64_t>()) +
           " moved when only tokens from position " + std::to_string(cut) +
           " on changed; a position may depend on the tokens up to itself, in its own row, and "
           "nothing else");
  }
}

}  // namespace autoresearch
