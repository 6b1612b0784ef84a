// What one measurement, a training and its score, has shown. The parent saw or read all of it; what
// the trainer says of itself (steps, tokens_per_second, memory on a GPU, last_words) is shown and
// decides nothing.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "agent/lab/machine_state.h"

namespace autoresearch {

// The three parts of a training's wall time, in seconds, by the parent's clock.
struct Phases {
  double startup = 0;   // from exec until the harness told that training begins
  double training = 0;  // until it told that training ends
  double sealing = 0;   // until nothing of the training ran any more
};

struct Measured {
  uint64_t seed = 0;
  int train_exit = 0;  // exit code of train, 128 + signal
  bool timed_out = false, over_memory = false;
  std::string over;             // another limit that ended it, as a sentence; empty: none
  double wall_seconds = 0;      // exec of train to the end of all that it began
  double overhead_seconds = 0;  // of it, beyond the task's budget
  std::optional<Phases> phases;
  bool sealed = false;  // a complete sealed file is there
  int64_t sealed_bytes = 0;
  std::optional<double> bpb;  // what `score` said over its pipe
  std::string score_problem;  // its one line if it said no
  double score_seconds = 0;
  int64_t score_rss_bytes = 0;
  std::map<std::string, double> score;  // all figures of the scorer
  double memory_gb = 0;                 // device memory on a GPU, resident memory on a CPU
  int64_t steps = 0;
  double tokens_per_second = 0;
  std::string last_words;        // the trainer's last line about an error
  std::string fused_operations;  // of the baseline: which are slow here, or "all"
  MachineState machine;          // while it trained
  // What a failure says of the machine (a library that is gone); empty: nothing.
  std::string broken;
  std::string disturbed;  // why the machine was not itself, in a line; empty: it was
  std::string busy;  // the same of a measurement that counts because its repeats were no better
};

}  // namespace autoresearch
