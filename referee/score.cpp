#include "referee/score.h"

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <memory>
#include <numbers>
#include <vector>

#include "common/error.h"
#include "common/progress.h"
#include "referee/graph.h"
#include "referee/plan.h"
#include "referee/refusal.h"
#include "referee/runner.h"
#include "task/task.h"
#include "task/tokenizer.h"

namespace autoresearch {
namespace {

// How far a logit before the cut may move. On a CPU, not a bit (tried: float32 and bfloat16, 1 and
// 2 threads, odd rows, T, widths and vocabularies). On CUDA no kernel of a forward pass adds up in
// an order that depends on data, so an honest model should not move there either; that was not
// measured yet, and a leak below this tolerance is worth less than 0.001 nats.
constexpr double kCpuTolerance = 0, kCudaTolerance = 1e-3;

// A runner on a GPU computes the losses itself. The parent computes those of the probed rows again;
// a row's nats may differ by what sums in another order differ.
constexpr double kNatsTolerance = 1e-2;

// ------------------------------------------------------------------------------------------------
// What is scored

struct Heldout {
  std::vector<uint16_t> tokens;  // rows of seq_len + 1
  Rows rows;
  at::Tensor targets;                     // (rows, seq_len) int64
  at::Tensor counted;                     // the same, bool: no special token
  int64_t bytes = 0, bytes_upstream = 0;  // of all counted targets
};

Heldout load_heldout(const fs::path& dir, const TaskInfo& info, const std::string& split) {
  Heldout heldout;
  heldout.tokens = heldout_rows(dir, info, split);
  const int64_t width = info.seq_len + 1, rows = int64_t(heldout.tokens.size()) / width;
  const std::string name = "the " + split + " split of " + dir.string();
  check(rows > 0, name + " has no rows; run build/prepare");
  check(*std::max_element(heldout.tokens.begin(), heldout.tokens.end()) < info.vocab_size,
        name + " holds a token outside the vocabulary; run build/prepare again");
  heldout.rows = {heldout.tokens, rows, width, info.seq_len, info.vocab_size};
  const Tokenizer tokenizer = Tokenizer::load(dir / "tokenizer.tiktoken");
  check(tokenizer.vocab_size() == info.vocab_size,
        "the tokenizer of " + dir.string() + " is another than its task's; run build/prepare");
  std::vector<int64_t> targets;
  for (int64_t row = 0; row < rows; row++)
    for (int64_t t = 1; t < width; t++) targets.push_back(heldout.rows.at(row, t));
  // Targets without bytes, the special tokens, are no text: neither their loss nor their length
  // counts.
  std::vector<uint8_t> counted;
  for (const int64_t id : targets) {
    const int64_t bytes = tokenizer.token_bytes(id);
    counted.push_back(bytes > 0);
    heldout.bytes += bytes;
    heldout.bytes_upstream += bytes > 0 ? tokenizer.token_bytes_upstream(id) : 0;
  }
  check(heldout.bytes > 0, name + " has no bytes to score; run build/prepare");
  heldout.targets = at::tensor(targets).view({rows, info.seq_len});
  heldout.counted = at::tensor(counted).view({rows, info.seq_len}).to(at::kBool);
  return heldout;
}

// ------------------------------------------------------------------------------------------------
// One wave

class Scorer {
 public:
  Scorer(const fs::path& model, const TaskInfo& info, const Heldout& heldout,
         const ScoreOptions& options)
      : model_(model), info_(info), heldout_(heldout), options_(options) {
    nats_.assign(size_t(heldout.rows.count), NAN);
  }

  void run_all(const Effort& effort) {
    for (int64_t wave = 0; wave < effort.waves; wave++) run(effort);
  }

  double nats() const {
    double sum = 0;
    for (const double nats : nats_) sum += nats;  // in the rows' order: the same in every scoring
    return sum;
  }
  int64_t cuts() const { return compared_; }
  // Nats a counted target of the positions [begin, end) of all rows.
  double mean_nats(int64_t begin, int64_t end) const {
    const at::Tensor nats = nats_at_.slice(0, begin, end), count = counted_at_.slice(0, begin, end);
    return nats.sum().item<double>() / count.sum().item<double>();
  }

 private:
  // Fresh runners go through all rows. Sets the rows' nats, or compares with those of an earlier
  // wave.
  void run(const Effort& effort) {
    start(effort.runners);
    const Wave wave = plan_wave(heldout_.rows, shape_.rows, effort, cuts_, entropy_);
    Progress progress("scoring ", double(wave.batches.size()), "batches");
    begin(wave.batches[0]);
    for (size_t b = 0; b < wave.batches.size(); b++) {
      for (const auto& runner : runners_) runner->finish();
      Finished finished = collect(wave.batches[b]);
      // The runners go on with the next batch while this one is looked at.
      if (b + 1 < wave.batches.size()) begin(wave.batches[b + 1]);
      judge(wave.batches[b], finished);
      progress.update(double(b + 1));
    }
    compared_ += wave.cuts;
    runners_.clear();
  }

  // What a batch left, by runner and place, copied: a runner can't change it any more. A runner
  // that keeps the logits hands over only those of rows that are compared, and nats of its
  // originals.
  struct Finished {
    std::vector<std::vector<at::Tensor>> logits, nats;
  };

  RunnerOptions runner_options() const {
    return {.model = model_,
            .program = options_.program,
            .device = options_.device,
            .sandboxed = options_.sandboxed,
            // The same in every wave, so that sums are added up in the same order.
            .threads = std::max(1, at::get_num_threads() / 2),
            .keeps_logits = options_.keeps_logits};
  }

  void start(int64_t count) {
    runners_.clear();
    if (nurseries_.size() < size_t(count)) nurseries_ = nurseries(runner_options(), count);
    for (int64_t i = 0; i < count; i++)
      runners_.push_back(std::make_unique<Runner>(nurseries_[size_t(i)]));
    shape_ = runners_[0]->shape();
    const bool keeps = runners_[0]->keeps_logits();
    check_shape(shape_, keeps);
    for (const auto& runner : runners_) {
      if (!(runner->shape() == shape_) || runner->keeps_logits() != keeps)
        refuse("a runner broke the protocol");
      runner->share_memory();
    }
  }

  void check_shape(const Runner::Shape& shape, bool keeps_logits) const {
    if (shape.seq_len != info_.seq_len || shape.vocab_size != info_.vocab_size)
      refuse("the model was sealed for rows of " + std::to_string(shape.seq_len) +
             " tokens and a vocabulary of " + std::to_string(shape.vocab_size) + "; task " +
             info_.name + " has " + std::to_string(info_.seq_len) + " and " +
             std::to_string(info_.vocab_size) + "; name the task it was trained on with --task");
    // How many rows a batch has decides how much memory is shared.
    const int64_t rows = scoring_rows_on_cpu(info_.seq_len);
    const bool fits = keeps_logits ? shape.rows <= kMostScoringRows : shape.rows == rows;
    // On a CPU no runner has a reason to compute the losses itself.
    const bool may_keep = options_.keeps_logits || may_use_gpu(options_.device);
    if (!fits || (keeps_logits && !may_keep)) refuse("a runner broke the protocol");
  }

  void begin(const PlannedBatch& batch) {
    for (size_t k = 0; k < runners_.size(); k++) {
      std::vector<uint16_t> ids;
      for (const Version& version : batch[k]) {
        const std::vector<uint16_t> row = ids_of(version, heldout_.rows, entropy_);
        ids.insert(ids.end(), row.begin(), row.end());
      }
      runners_[k]->begin(ids);
    }
  }

  static bool is_compared(const PlannedBatch& batch, size_t place) {
    return std::any_of(batch.begin(), batch.end(),
                       [&](const auto& versions) { return versions[place].cut > 0; });
  }

  Finished collect(const PlannedBatch& batch) {
    Finished finished;
    for (size_t k = 0; k < runners_.size(); k++) {
      const size_t places = batch[k].size();
      finished.nats.emplace_back(places);
      finished.logits.emplace_back(places);
      // The losses first: the runner does not know by then which rows will be computed again.
      if (runners_[k]->keeps_logits()) collect_nats(batch, k, finished.nats[k]);
      for (size_t place = 0; place < places; place++) {
        const bool wanted =
            runners_[k]->keeps_logits() ? is_compared(batch, place) : !batch[k][place].filler();
        if (wanted) finished.logits[k][place] = runners_[k]->logits(int64_t(place));
      }
    }
    return finished;
  }

  void collect_nats(const PlannedBatch& batch, size_t k, std::vector<at::Tensor>& nats) {
    std::vector<int64_t> places, rows;
    for (size_t place = 0; place < batch[k].size(); place++) {
      if (!batch[k][place].original()) continue;
      places.push_back(int64_t(place));
      rows.push_back(batch[k][place].row);
    }
    if (places.empty()) return;
    const at::Tensor targets = heldout_.targets.index_select(0, at::tensor(rows, at::kLong));
    const at::Tensor all = runners_[k]->nats(places, targets);
    for (size_t i = 0; i < places.size(); i++) nats[size_t(places[i])] = all[int64_t(i)];
  }

  void judge(const PlannedBatch& batch, const Finished& finished) {
    for (size_t place = 0; place < batch[0].size(); place++)
      if (is_compared(batch, place)) compare(batch, finished, place);
    for (size_t k = 0; k < batch.size(); k++)
      for (size_t place = 0; place < batch[k].size(); place++)
        if (batch[k][place].original())
          record(batch[k][place].row, finished.logits[k][place], finished.nats[k][place]);
  }

  // All versions in a place against the original.
  void compare(const PlannedBatch& batch, const Finished& finished, size_t place) {
    size_t home = 0;
    while (!batch[home][place].original()) home++;
    for (size_t k = 0; k < batch.size(); k++) {
      const Version& version = batch[k][place];
      if (version.cut == 0) continue;
      compare(finished.logits[home][place].narrow(0, 0, version.cut),
              finished.logits[k][place].narrow(0, 0, version.cut), version.cut);
    }
  }

  void compare(const at::Tensor& original, const at::Tensor& altered, int64_t cut) {
    if (at::equal(original, altered)) return;
    const double tolerance = runners_[0]->keeps_logits() ? kCudaTolerance : kCpuTolerance;
    const at::Tensor moved = (original - altered).abs().amax(-1);
    const at::Tensor wrong = moved.le(tolerance).logical_not();  // NaN is wrong as well
    if (!wrong.any().item<bool>()) return;
    const int64_t position = wrong.to(at::kInt).argmax().item<int64_t>();
    refuse("the model is not causal: its logits at position " + std::to_string(position) +
           " moved by " + std::to_string(moved[position].item<double>()) +
           " when only tokens from position " + std::to_string(cut) +
           " on and other rows changed; a position may depend on the tokens up to itself, in its "
           "own row, and nothing else");
  }

  // A row's losses, the first time that it is scored.
  void add(int64_t row, const at::Tensor& losses) {
    const at::Tensor counted = heldout_.counted[row];
    nats_at_ += losses.to(at::kDouble).masked_fill(counted.logical_not(), 0);
    counted_at_ += counted;
  }

  double row_nats(int64_t row, const at::Tensor& losses) const {
    const double nats = losses.masked_select(heldout_.counted[row]).sum().item<double>();
    if (!std::isfinite(nats)) refuse("the model's logits are not finite");
    return nats;
  }

  // `told` are a runner's own losses, and `logits` undefined unless the row is compared; on a CPU
  // it is the other way round.
  void record(int64_t row, const at::Tensor& logits, const at::Tensor& told) {
    double nats = 0;
    at::Tensor losses = told;
    if (logits.defined()) {
      losses = token_nats(logits.unsqueeze(0), heldout_.targets[row].unsqueeze(0))[0];
      nats = row_nats(row, losses);
    }
    const double tolerance = told.defined() ? kNatsTolerance : 0;
    if (told.defined()) {
      const double claimed = row_nats(row, told);
      if (logits.defined() && !(std::abs(claimed - nats) <= tolerance))
        refuse("a runner told losses that its logits do not have");
      nats = claimed;
    }
    double& known = nats_[size_t(row)];
    if (!std::isnan(known) && !(std::abs(known - nats) <= tolerance))
      refuse("the model's logits do not repeat: the same row had another loss in another process");
    if (std::isnan(known)) {
      known = nats;
      add(row, losses);
    }
  }

  const fs::path model_;
  const TaskInfo& info_;
  const Heldout& heldout_;
  const ScoreOptions& options_;
  Entropy entropy_;
  CutDeck cuts_{info_.seq_len, entropy_};
  std::vector<std::shared_ptr<Nursery>> nurseries_;  // of each runner of a wave
  std::vector<std::unique_ptr<Runner>> runners_;
  Runner::Shape shape_;
  std::vector<double> nats_;                                      // by row
  at::Tensor nats_at_ = at::zeros({info_.seq_len}, at::kDouble);  // by position, over all rows
  at::Tensor counted_at_ = at::zeros({info_.seq_len}, at::kLong);
  int64_t compared_ = 0;
};

}  // namespace

Score score(const fs::path& model, const fs::path& task_dir, const ScoreOptions& options) {
  const auto start = std::chrono::steady_clock::now();
  const at::NoGradGuard no_grad;
  const TaskInfo info = load_task(task_dir);
  const Heldout heldout = load_heldout(task_dir, info, options.split);
  Scorer scorer(fs::absolute(model), info, heldout, options);
  const auto bpb = [&](int64_t bytes) {
    return scorer.nats() / (std::numbers::ln2 * double(bytes));
  };
  const int64_t rows = heldout.rows.count;
  const Effort full = full_effort(rows);
  if (!options.full) scorer.run_all(light_effort(rows));
  const bool promising = options.full_below && bpb(heldout.bytes) < *options.full_below;
  // In a small split the light probe may have looked as often as the full one would.
  const bool covered = full.cuts * full.waves <= scorer.cuts();
  if (options.full || (promising && !covered)) scorer.run_all(full);
  Score score;
  score.bpb = bpb(heldout.bytes);
  score.bpb_upstream = bpb(heldout.bytes_upstream);
  score.nats_first = scorer.mean_nats(0, std::min(kEdge, info.seq_len));
  score.nats_last = scorer.mean_nats(std::max<int64_t>(0, info.seq_len - kEdge), info.seq_len);
  score.rows = rows;
  score.tokens = heldout.targets.numel();
  score.bytes = heldout.bytes;
  score.bytes_upstream = heldout.bytes_upstream;
  score.cuts = scorer.cuts();
  score.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return score;
}

}  // namespace autoresearch
