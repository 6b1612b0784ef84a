#include "referee/sample.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "common/error.h"

namespace autoresearch {
namespace {

// One continuation under way.
struct Draft {
  std::vector<uint16_t> ids;  // the prompt, then what was drawn
  std::mt19937_64 random;
  bool ended = false;
};

Draft new_draft(const std::vector<uint16_t>& prompt, uint64_t seed, int64_t number) {
  std::seed_seq sequence{seed & UINT32_MAX, seed >> 32, static_cast<uint64_t>(number)};
  return {prompt, std::mt19937_64(sequence), false};
}

// Ids as the model takes them: each draft's last seq_len ids at the left of its row, zeros
// elsewhere.
at::Tensor to_rows(const std::vector<Draft>& drafts, int64_t rows, int64_t seq_len) {
  at::Tensor ids = at::zeros({rows, seq_len}, at::kLong);
  for (size_t d = 0; d < drafts.size(); ++d) {
    const std::vector<uint16_t>& from = drafts[d].ids;
    const size_t count = std::min(from.size(), static_cast<size_t>(seq_len));
    std::copy(from.end() - static_cast<ptrdiff_t>(count), from.end(),
              ids.data_ptr<int64_t>() + static_cast<int64_t>(d) * seq_len);
  }
  return ids;
}

// One forward pass; every draft that goes on grows by an id. False when none does.
bool step(const Logits& model, int64_t rows, int64_t seq_len, int64_t end,
          const SampleOptions& options, std::vector<Draft>& drafts) {
  const at::Tensor logits = model(to_rows(drafts, rows, seq_len));
  bool any = false;
  for (size_t d = 0; d < drafts.size(); ++d) {
    Draft& draft = drafts[d];
    if (draft.ended) continue;
    const int64_t last = std::min(static_cast<int64_t>(draft.ids.size()), seq_len) - 1;
    const at::Tensor row =
        logits.select(0, static_cast<int64_t>(d)).select(0, last).to(at::kCPU, at::kFloat);
    const at::Tensor dense = row.contiguous();
    const int64_t id = pick_token({dense.data_ptr<float>(), static_cast<size_t>(dense.numel())},
                                  options, draft.random);
    draft.ended = id >= end;
    if (!draft.ended) draft.ids.push_back(static_cast<uint16_t>(id));
    any |= !draft.ended;
  }
  return any;
}

}  // namespace

int64_t pick_token(std::span<const float> logits, const SampleOptions& options,
                   std::mt19937_64& random) {
  std::vector<int64_t> ids(logits.size());
  std::iota(ids.begin(), ids.end(), 0);
  const bool all = options.top_k <= 0 || options.top_k > static_cast<int64_t>(ids.size());
  const size_t kept = options.temperature <= 0 ? 1 : all ? ids.size() : options.top_k;
  std::partial_sort(
      ids.begin(), ids.begin() + static_cast<ptrdiff_t>(kept), ids.end(),
      [&](int64_t a, int64_t b) { return logits[a] != logits[b] ? logits[a] > logits[b] : a < b; });
  if (kept == 1) return ids[0];
  std::vector<double> until(kept);  // running sums of the weights
  double sum = 0;
  for (size_t i = 0; i < kept; ++i) {
    sum += std::exp((logits[ids[i]] - logits[ids[0]]) / options.temperature);
    until[i] = sum;
  }
  const double point = std::ldexp(static_cast<double>(random() >> 11), -53) * sum;
  const auto chosen = std::upper_bound(until.begin(), until.end() - 1, point);
  return ids[static_cast<size_t>(chosen - until.begin())];
}

std::vector<std::vector<uint16_t>> sample(const Logits& model, int64_t rows, int64_t seq_len,
                                          const std::vector<uint16_t>& prompt, int64_t end,
                                          const SampleOptions& options,
                                          const std::function<void(int64_t)>& on_step) {
  check(!prompt.empty(), "a sample needs at least one id to begin with");
  std::vector<std::vector<uint16_t>> samples;
  int64_t steps = 0;
  while (static_cast<int64_t>(samples.size()) < options.samples) {
    const int64_t first = static_cast<int64_t>(samples.size());
    std::vector<Draft> drafts;
    for (int64_t i = first; i < std::min(options.samples, first + rows); ++i) {
      drafts.push_back(new_draft(prompt, options.seed, i));
    }
    bool any = true;
    for (int64_t t = 0; t < options.tokens && any; ++t) {
      any = step(model, rows, seq_len, end, options, drafts);
      if (on_step) on_step(++steps);
    }
    for (const Draft& draft : drafts) {
      samples.emplace_back(draft.ids.begin() + static_cast<ptrdiff_t>(prompt.size()),
                           draft.ids.end());
    }
  }
  return samples;
}

}  // namespace autoresearch
