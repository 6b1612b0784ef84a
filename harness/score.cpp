#include "harness/score.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numbers>
#include <numeric>
#include <optional>
#include <random>
#include <vector>

#include "common/error.h"
#include "harness/device.h"
#include "prepare/task.h"
#include "prepare/tokenizer.h"

namespace autoresearch {
namespace {

// A leak at 1 % of the positions escapes one draw with probability 0.99, all of them with 3e-5.
constexpr int64_t kDraws = 1024;

// How far a logit before the cut may move. In its row's own place, on a CPU, not a bit: neither
// later tokens nor other rows enter its arithmetic (tried: float32 and bfloat16, 1 and 2 threads,
// odd rows, T, widths and vocabularies). On CUDA no kernel adds in an order that depends on data,
// so it should not move there either; a leak below that tolerance is worth less than 0.001 nats.
//
// In another place of the batch a matrix product may take another path, and a model may amplify the
// rounding: an honest one, trained in batches of 512 tokens, once moved by 0.0007 on a CPU. On CUDA
// a few roundings to bfloat16 of a logit near 15 are 1/16 each. No CUDA figure was measured yet.
struct Tolerance {
  double in_place, elsewhere;
};
constexpr Tolerance kCpuTolerance{0, 0.01}, kCudaTolerance{1e-3, 0.5};
constexpr int kElsewhere = 4;  // one pass in so many, the first among them, also permutes the rows

// The system's entropy, never a seed: a candidate must not be able to tell which rows will be
// probed.
using Entropy = std::random_device;

int64_t uniform(Entropy& entropy, int64_t low, int64_t high) {
  return std::uniform_int_distribution<int64_t>(low, high)(entropy);
}

// Cuts 1 ... seq_len - 1 are dealt from shuffled decks, so a thousand draws leave no position out
// where rows are shorter than that.
class Cuts {
 public:
  Cuts(int64_t seq_len, Entropy& entropy) : entropy_(entropy), deck_(size_t(seq_len - 1)) {
    check(seq_len > 1, "rows of one token can't be scored; prepare a task with a longer --seq-len");
    std::iota(deck_.begin(), deck_.end(), 1);
  }
  int64_t next() {
    if (next_ == 0) std::shuffle(deck_.begin(), deck_.end(), entropy_);
    const int64_t cut = deck_[next_];
    next_ = (next_ + 1) % deck_.size();
    return cut;
  }

 private:
  Entropy& entropy_;
  std::vector<int64_t> deck_;
  size_t next_ = 0;
};

// The same batch with the tokens from each row's cut on replaced, its rows perhaps in another
// order.
struct Altered {
  at::Tensor ids;  // row r of it is row `source[r]` of the batch up to cut[r]
  std::vector<int64_t> source, cut;
};

// Row of `pool` whose token at the cut differs from the original's: else a leak of just that token
// would not show. None where the pool has no such row.
std::optional<int64_t> donor(const at::TensorAccessor<int64_t, 2>& pool, int64_t token, int64_t cut,
                             Entropy& entropy) {
  for (int tries = 0; tries < 32; tries++) {
    const int64_t row = uniform(entropy, 0, pool.size(0) - 1);
    if (pool[row][cut] != token) return row;
  }
  return std::nullopt;
}

Altered alter(const at::Tensor& batch, const at::Tensor& pool, int64_t vocab_size, bool permute,
              Cuts& cuts, Entropy& entropy) {
  const int64_t rows = batch.size(0), seq_len = batch.size(1);
  Altered altered{at::empty_like(batch), std::vector<int64_t>(size_t(rows)), {}};
  std::iota(altered.source.begin(), altered.source.end(), 0);
  if (permute) std::shuffle(altered.source.begin(), altered.source.end(), entropy);
  const auto from = batch.accessor<int64_t, 2>(), others = pool.accessor<int64_t, 2>();
  auto to = altered.ids.accessor<int64_t, 2>();
  for (int64_t r = 0; r < rows; r++) {
    const int64_t source = altered.source[size_t(r)], cut = cuts.next();
    altered.cut.push_back(cut);
    const auto other = donor(others, from[source][cut], cut, entropy);
    for (int64_t t = 0; t < seq_len; t++) {
      const int64_t token = from[source][t];
      if (t < cut)
        to[r][t] = token;
      else if (other)
        to[r][t] = others[*other][t];
      else
        to[r][t] = (token + uniform(entropy, 1, vocab_size - 1)) % vocab_size;
    }
  }
  return altered;
}

// Runs `altered` and compares with the batch's own logits; says what moved, if anything did.
std::optional<std::string> difference(const Graph& graph, const at::Tensor& logits,
                                      const Altered& altered, double tolerance) {
  const at::Tensor moved = graph(altered.ids.to(logits.device()));
  for (size_t r = 0; r < altered.source.size(); r++) {
    const at::Tensor before = logits[altered.source[r]].narrow(0, 0, altered.cut[r]);
    const at::Tensor after = moved[int64_t(r)].narrow(0, 0, altered.cut[r]);
    if (at::equal(before, after)) continue;
    const at::Tensor difference = (before.to(at::kFloat) - after.to(at::kFloat)).abs().amax(-1);
    const at::Tensor wrong = difference > tolerance;
    if (!wrong.any().item<bool>()) continue;
    const int64_t position = wrong.to(at::kInt).argmax().item<int64_t>();
    return "the model is not causal: its logits at position " + std::to_string(position) +
           " moved by " + std::to_string(difference[position].item<double>()) +
           " when only tokens from position " + std::to_string(altered.cut[r]) +
           " on and other rows changed; a position may depend on the tokens up to itself, in its "
           "own row, and nothing else";
  }
  return std::nullopt;
}

// Throws Error when `altered` moves what it must not. A difference that does not show again on the
// same tokens is the machine's and not the model's: a graph has no state and no chance in it.
void compare(const Graph& graph, const at::Tensor& logits, const at::Tensor& batch,
             const Altered& altered, double tolerance) {
  if (!difference(graph, logits, altered, tolerance)) return;
  const at::Tensor again = graph(batch.to(logits.device()));
  if (const auto what = difference(graph, again, altered, tolerance))
    throw Error(*what, kCannotSeal);
}

// `logits` are the graph's for `batch`; `pool` holds the rows to take other suffixes from. `passes`
// are numbered from `first` on.
void probe(const Graph& graph, const at::Tensor& logits, const at::Tensor& batch,
           const at::Tensor& pool, int first, int passes, Cuts& cuts, Entropy& entropy) {
  const Tolerance tolerance = logits.is_cuda() ? kCudaTolerance : kCpuTolerance;
  const auto altered = [&](bool permute) {
    return alter(batch, pool, logits.size(2), permute, cuts, entropy);
  };
  for (int pass = first; pass < first + passes; pass++) {
    compare(graph, logits, batch, altered(false), tolerance.in_place);
    if (pass % kElsewhere == 0) compare(graph, logits, batch, altered(true), tolerance.elsewhere);
  }
}

// ------------------------------------------------------------------------------------------------
// Bits per byte

struct Counts {
  std::vector<int64_t> bytes, bytes_upstream;  // by token id; 0 and 0 for special tokens
};

Counts count_bytes(const Tokenizer& tokenizer) {
  Counts counts;
  for (int64_t id = 0; id < tokenizer.vocab_size(); id++) {
    counts.bytes.push_back(tokenizer.token_bytes(id));
    counts.bytes_upstream.push_back(counts.bytes.back() ? tokenizer.token_bytes_upstream(id) : 0);
  }
  return counts;
}

// Held-out rows: inputs and targets, (rows, seq_len) int64 each, in storage of their own.
struct Heldout {
  at::Tensor inputs, targets;
};

Heldout load_heldout(const fs::path& dir, const TaskInfo& info, const std::string& split) {
  const std::vector<uint16_t> tokens = heldout_rows(dir, info, split);
  const int64_t width = info.seq_len + 1, rows = int64_t(tokens.size()) / width;
  check(rows > 0, "the " + split + " split of " + dir.string() + " has no rows; run build/prepare");
  check(*std::max_element(tokens.begin(), tokens.end()) < info.vocab_size,
        "the " + split + " split of " + dir.string() +
            " holds a token outside the vocabulary; run "
            "build/prepare again");
  const std::vector<int64_t> wide(tokens.begin(), tokens.end());
  const at::Tensor all = at::from_blob(const_cast<int64_t*>(wide.data()), {rows, width}, at::kLong);
  return {all.narrow(1, 0, info.seq_len).clone(), all.narrow(1, 1, info.seq_len).clone()};
}

// Adds the nats of a batch's targets, special tokens left out.
double nats_of(const at::Tensor& logits, const at::Tensor& targets, const at::Tensor& counted) {
  const at::Tensor losses =
      at::cross_entropy_loss(logits.to(at::kFloat).flatten(0, 1),
                             targets.to(logits.device()).flatten(), {}, at::Reduction::None);
  return losses.to(at::kDouble)
      .masked_select(counted.to(logits.device()).flatten())
      .sum()
      .item<double>();
}

void check_model(const SealedModel& model, const TaskInfo& info) {
  if (model.seq_len != info.seq_len || model.vocab_size != info.vocab_size)
    throw Error("the model was sealed for rows of " + std::to_string(model.seq_len) +
                    " tokens and a vocabulary of " + std::to_string(model.vocab_size) + "; task " +
                    info.name + " has " + std::to_string(info.seq_len) + " and " +
                    std::to_string(info.vocab_size) +
                    "; name the task it was trained on with --task",
                kCannotSeal);
  const int64_t rows = scoring_rows(model.device, model.seq_len, model.vocab_size);
  if (model.rows != rows)
    throw Error("the model was sealed for batches of " + std::to_string(model.rows) +
                    " rows; this scorer uses " + std::to_string(rows) + "; train it again",
                kCannotSeal);
}

// How many altered passes each batch gets: dealt from shuffled decks of all batches. A pass is a
// draw for each of its rows. With few rows all are drawn several times.
std::vector<int> deal_passes(int64_t rows, int64_t batch, Entropy& entropy) {
  std::vector<int> passes(size_t((rows + batch - 1) / batch), 0);
  std::vector<size_t> deck(passes.size());
  std::iota(deck.begin(), deck.end(), 0);
  for (size_t i = 0; int64_t(i) * batch < kDraws; i++) {
    if (i % deck.size() == 0) std::shuffle(deck.begin(), deck.end(), entropy);
    passes[deck[i % deck.size()]]++;
  }
  return passes;
}

Score count(const at::Tensor& targets, const Counts& counts) {
  Score score;
  score.rows = targets.size(0);
  score.tokens = targets.numel();
  const int64_t* id = targets.const_data_ptr<int64_t>();
  for (int64_t i = 0; i < score.tokens; i++) {
    score.bytes += counts.bytes[size_t(id[i])];
    score.bytes_upstream += counts.bytes_upstream[size_t(id[i])];
  }
  return score;
}

}  // namespace

int64_t scoring_rows(at::Device device, int64_t seq_len, int64_t vocab_size) {
  return scoring_rows(describe_device(device), seq_len, vocab_size);
}

Score score(const SealedModel& model, const fs::path& task_dir, const std::string& split) {
  const auto start = std::chrono::steady_clock::now();
  const at::NoGradGuard no_grad;
  const TaskInfo info = load_task(task_dir);
  check_model(model, info);
  const Graph graph(model);
  const Counts counts = count_bytes(Tokenizer::load(task_dir / "tokenizer.tiktoken"));
  check(int64_t(counts.bytes.size()) == info.vocab_size,
        "the tokenizer of " + task_dir.string() + " is another than its task's; run build/prepare");
  const auto [inputs, targets] = load_heldout(task_dir, info, split);
  const at::Tensor counted =
      at::tensor(counts.bytes).gt(0).index_select(0, targets.flatten()).view_as(targets);

  Entropy entropy;
  Cuts cuts(info.seq_len, entropy);
  const std::vector<int> passes = deal_passes(inputs.size(0), model.rows, entropy);
  Score score = count(targets, counts);
  double nats = 0;
  int done = 0;  // passes
  for (size_t b = 0; b < passes.size(); b++) {
    // The last batch is filled up with rows of the beginning, which aren't counted twice.
    const int64_t first = int64_t(b) * model.rows, real = std::min(model.rows, score.rows - first);
    const at::Tensor rows = at::arange(first, first + model.rows).remainder(score.rows);
    const at::Tensor batch = inputs.index_select(0, rows);
    const at::Tensor logits = graph(batch.to(model.device));
    nats += nats_of(logits.narrow(0, 0, real), targets.narrow(0, first, real),
                    counted.narrow(0, first, real));
    probe(graph, logits, batch, inputs, done, passes[b], cuts, entropy);
    done += passes[b];
  }
  check(score.bytes > 0, "the " + split + " split has no bytes to score; run build/prepare");
  score.bpb = nats / (std::numbers::ln2 * double(score.bytes));
  score.bpb_upstream = nats / (std::numbers::ln2 * double(score.bytes_upstream));
  score.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return score;
}

void probe_causality(const Graph& graph, const at::Tensor& ids, int draws) {
  const at::NoGradGuard no_grad;
  Entropy entropy;
  Cuts cuts(ids.size(1), entropy);
  const at::Tensor logits = graph(ids), batch = ids.cpu().contiguous();
  probe(graph, logits, batch, batch, 0, draws, cuts, entropy);
}

}  // namespace autoresearch
