// The referee: bits per byte of a sealed model on held-out rows, by a process that holds none of
// the code under test. Also used in-process by a standalone `train`, and by `prepare score`.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <string>

#include "common/files.h"
#include "referee/graph.h"

namespace autoresearch {

struct Score {
  double bpb = 0;           // nats / (ln 2 * raw bytes of the target tokens)
  double bpb_upstream = 0;  // the ancestor's byte count, which flatters; for comparison only
  int64_t rows = 0, tokens = 0, bytes = 0, bytes_upstream = 0;
  double seconds = 0;
};

// Rows a batch the scorer uses on this device: the harness's choice, never the candidate's.
int64_t scoring_rows(at::Device device, int64_t seq_len, int64_t vocab_size);

// Scores `model` on the task's split ("val" or "test"): heldout/<split>.bin, rows of seq_len + 1
// tokens. Targets that are special tokens count in neither nats nor bytes. Throws Error with the
// reason when the model is void: a logit that isn't finite, a wrong shape, or a failed probe.
//
// Probe: at least 1,024 (row, cut) pairs drawn from the system's entropy: tokens >= cut are
// replaced by another row's suffix and the rows are permuted; the logits before the cut must not
// move: in the row's own place exactly on CPU, else up to the tolerances stated in score.cpp.
Score score(const SealedModel& model, const fs::path& task_dir, const std::string& split);

// The probe alone on `ids` (rows, seq_len), `draws` random cuts a row. Throws Error naming the
// first position that moved. Used by Run::model on training rows before any time is spent.
void probe_causality(const Graph& graph, const at::Tensor& ids, int draws);

}  // namespace autoresearch
