// What a user asks `prepare` to make, and whether it can be made or is there already.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "prepare/reader.h"
#include "task/task.h"

namespace autoresearch {

struct Request {
  static constexpr int64_t kMostWorkers = 32;  // each takes some 7 MB, and one thread reads for all

  std::vector<std::string> source{"climbmix"};
  std::string task;                // empty: derived from the source
  std::optional<int64_t> shards;   // of the hub's for training; -1: all
  std::string base_url;            // of the hub's files; empty: as the hub has them
  int64_t downloads = 8;           // at a time
  ReadOptions read;                // of files
  int64_t vocab = 8192;            // tokens, special ones included
  int64_t seq_len = 2048;          // tokens of context
  double time_budget = 300;        // seconds of training
  int64_t eval_tokens = 40 << 19;  // in val, and as many in test
  int64_t workers = std::clamp<int64_t>(std::thread::hardware_concurrency(), 1, kMostWorkers);
  std::string dedup = "exact";
  bool force = false;

  bool is_demo() const { return source == std::vector<std::string>{"demo"}; }
  bool from_hub() const;
};

// Throws Error, with code kUsage, for options that can't be or don't go together.
void check_options(const Request& request);

// The task that is asked for, as far as it is known before it is made: its name and source, and
// what it is made with. Throws Error for a source that can't be read or has no name.
TaskInfo wanted_task(const Request& request);

// True if the task is there and whole, and was made with the same options. Throws Error if it was
// made with others (the message lists them), if it is damaged, and if something that is not a task
// stands in its place, which not even `force` removes.
bool already_prepared(const fs::path& dir, const TaskInfo& wanted, bool force);

}  // namespace autoresearch
