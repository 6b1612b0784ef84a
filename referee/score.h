// Bits per byte of a sealed model on held-out rows, with the probe for what it must not know.
//
// The process that calls this holds the rows and the targets and runs no code of the model: runners
// do (referee/runner.h), and which of them sees which row in which version is planned in
// referee/plan.h. docs/protection.md says what this protects from and what it trusts.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "common/files.h"

namespace autoresearch {

constexpr int64_t kEdge = 32;

struct Score {
  double bpb = 0;           // nats / (ln 2 * raw bytes of the target tokens)
  double bpb_upstream = 0;  // by upstream's byte count, which flatters; for comparison only
  int64_t rows = 0, tokens = 0, bytes = 0, bytes_upstream = 0;
  // Nats per counted target, of the first and of the last kEdge of each row: how much a model gains
  // from what it has read before. NaN if no target of theirs counts.
  double nats_first = 0, nats_last = 0;
  int64_t cuts = 0;  // altered versions that were compared
  double seconds = 0;
};

struct ScoreOptions {
  fs::path program = {};        // build/score, which runners are made of
  std::string split = "val";    // "val" or "test": heldout/<split>.bin
  std::string device = "auto";  // where the runners compute: auto, cpu, cuda or cuda:N
  bool sandboxed = true;
  bool full = false;  // the full probe at once, instead of the light one
  // The light probe, and then the full one if the score is below this: a model that would become
  // the champion is looked at more closely.
  std::optional<double> full_below = std::nullopt;
  bool keeps_logits = false;  // as on a GPU, whatever the device is (for tests)
};

// Scores the sealed file `model` on the task's split, rows of seq_len + 1 tokens. Targets that are
// special tokens count in neither nats nor bytes. Throws Error with the reason if the model is void
// (kCannotSeal): a logit that isn't finite, a wrong shape, logits that move with tokens that they
// must not depend on, logits that do not repeat, or a runner that ends.
//
// On a CPU nothing may move at all: neither later tokens nor other rows enter a row's arithmetic.
// There is no second chance, because a graph that remembers could use one.
Score score(const fs::path& model, const fs::path& task_dir, const ScoreOptions& options);

}  // namespace autoresearch
