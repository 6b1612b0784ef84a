// The steps in which any corpus becomes a task. make_from_files and make_from_hub say in which
// order, and from which documents each step is fed.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "prepare/near_duplicates.h"
#include "prepare/overlap.h"
#include "prepare/request.h"
#include "prepare/splits.h"
#include "task/tokenizer.h"

namespace autoresearch {

constexpr double kMega = 1e6;

// One task under way.
struct Making {
  const Request& request;
  fs::path dir;   // a Workplace's
  TaskInfo info;  // what the steps have found out so far
};

// Every step calls this: Ctrl-C then unwinds as an Error, which removes what is half-made.
void check_interrupted();

// Documents that val and test are drawn from, with what is known of them.
struct Candidates {
  TokenSequences documents;
  std::vector<size_t> group_ends;
  std::vector<std::pair<size_t, int64_t>> invalid;  // document, its bytes that are not UTF-8
  int64_t bytes = 0;

  double bytes_per_token() const;
};

// What train is held against: val, to tell how much of it occurs there; and documents whose like
// stays out of it.
struct Guarded {
  Overlap val;
  NearDuplicates documents;
};

// Throws Error if the disk surely can't hold `bytes` more in the task's folder.
void check_space(const Making& making, double bytes);

// Learns from what `reader` yields until it has seen enough, or all, and saves what it has learned.
// `total`: what reader.position() adds up to at the end.
Tokenizer learn_tokenizer(Making& making, DocumentReader& reader, int64_t total);

// Encodes the first `count` documents of `reader`, or all that there are.
Candidates encode_candidates(const Making& making, DocumentReader& reader, size_t count,
                             const Tokenizer& tokenizer);

// Writes val and test. Returns how many of the candidates they took.
size_t write_heldout(Making& making, const HeldOut& held_out, const Candidates& candidates,
                     const Tokenizer& tokenizer);

// Encodes what `reader` still yields; `total`: what its position() will add up to at the end.
void write_train(Making& making, DocumentReader& reader, int64_t total, ShardWriter::Order order,
                 const Tokenizer& tokenizer, Guarded guarded);

}  // namespace autoresearch
