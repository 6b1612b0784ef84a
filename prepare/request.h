// What a user asks `prepare` to make, and whether it can be made or is there already.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "common/limits.h"
#include "prepare/reader.h"
#include "task/task.h"

namespace autoresearch {

struct Request {
  static constexpr int64_t kMostWorkers = 32;  // each takes some 7 MB, and one thread reads for all

  std::vector<std::string> source{"climbmix"};  // empty: what the task was made of
  std::string kept_source;                      // and how its task.json names that
  std::string task;                             // empty: derived from the source
  std::optional<int64_t> shards;                // of the hub's for training; -1: all
  std::string base_url;                         // of the hub's files; empty: as the hub has them
  int64_t downloads = 8;                        // at a time
  ReadOptions read;                             // of files
  int64_t vocab = 8192;                         // tokens, special ones included
  int64_t seq_len = 2048;                       // tokens of context
  double time_budget = 300;                     // seconds of training
  int64_t eval_tokens = 40 << 19;               // in val, and as many in test
  int64_t workers = std::min<int64_t>(usable_threads(), kMostWorkers);
  std::string dedup = "exact";
  bool force = false;

  bool is_demo() const { return source == std::vector<std::string>{"demo"}; }
  bool from_hub() const;
};

// Throws Error, with code kUsage, for options that can't be or don't go together.
void check_options(const Request& request);
void check_budget(double seconds);

// The task that has the name of the one that is asked for; nothing if there is none, or if it is
// damaged and would be replaced.
std::optional<TaskInfo> task_there(const Request& request);

// What no flag gave stays as the task has it; a new demo is small, so that a first look takes
// minutes without a GPU. `given`: the flags that were given, such as "--vocab". Throws Error for a
// source that can't be read.
void fill_in(Request& request, const std::set<std::string>& given,
             const std::optional<TaskInfo>& there);

// Throws Error unless the task's files are what its task.json says: those to score by by their
// hashes, the training shards, which may be terabytes, by their sizes.
void check_whole(const fs::path& dir, const TaskInfo& info);

// The task that is asked for, as far as it is known before it is made: its name and source, and
// what it is made with. Throws Error for a source that can't be read or has no name.
TaskInfo wanted_task(const Request& request);

// True if the task is there and whole, and was made with the same options. Throws Error if it was
// made with others (the message lists them), if it is damaged, and if something that is not a task
// stands in its place, which not even `force` removes.
bool already_prepared(const fs::path& dir, const TaskInfo& wanted, bool force);

}  // namespace autoresearch
