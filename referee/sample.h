// Text from a sealed model, so that a user can read what it has learned.
//
// A sealed model runs at one shape (rows, seq_len): its rows serve as several samples at once. Ids
// stand at the left of a row and anything may follow them, as the model is causal; what is longer
// than a row is fed as a window that slides along.
#pragma once

#include <cstdint>
#include <functional>
#include <random>
#include <span>
#include <vector>

#include "referee/graph.h"

namespace autoresearch {

struct SampleOptions {
  int64_t samples = 3, tokens = 200;
  double temperature = 0.8;  // 0: always the likeliest token
  int64_t top_k = 50;        // only this many of the likeliest tokens; 0: all of them
  uint64_t seed = 1;
};

// Draws the next token from its logits. Of equal logits the smaller id counts as likelier.
int64_t pick_token(std::span<const float> logits, const SampleOptions& options,
                   std::mt19937_64& random);

// Continues `prompt` (at least one id) options.samples times, each by at most options.tokens ids;
// an id of `end` or above ends a sample and is not part of it. A sample depends on the seed and its
// number, not on how many there are. `on_step` hears how many forward passes are done.
std::vector<std::vector<uint16_t>> sample(const Logits& model, int64_t rows, int64_t seq_len,
                                          const std::vector<uint16_t>& prompt, int64_t end,
                                          const SampleOptions& options,
                                          const std::function<void(int64_t)>& on_step = {});

}  // namespace autoresearch
