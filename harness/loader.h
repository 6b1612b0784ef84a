// The training split as an endless stream of packed rows, made ahead of time on a thread.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

#include "common/files.h"
#include "harness/harness.h"
#include "prepare/packing.h"
#include "prepare/task.h"

namespace autoresearch {

// A file of uint16 tokens, memory-mapped read-only.
class MappedTokens {
 public:
  explicit MappedTokens(const fs::path& path);
  ~MappedTokens();
  MappedTokens(MappedTokens&& other) noexcept;
  MappedTokens(const MappedTokens&) = delete;
  std::span<const uint16_t> tokens() const { return tokens_; }

 private:
  std::span<const uint16_t> tokens_;
};

// Rows in an order that depends on the task only: documents in order of the shards, packed best-fit
// (prepare/packing.h), again from the start after the last one. What is prefetched is bounded by
// `kAhead` tokens. Not for several threads at once.
class Loader {
 public:
  static constexpr int64_t kAhead = int64_t{1} << 20;

  Loader(const fs::path& task_dir, const TaskInfo& info, at::Device device);
  ~Loader();

  // The next `rows` rows, (rows, seq_len) on the device; on CUDA through pinned memory,
  // asynchronously.
  Batch next(int64_t rows);

  void begin_step();      // forgets the rows handed out before
  int64_t rewind_step();  // hands out again what was handed out since begin_step(); how many rows

 private:
  struct Row {
    std::vector<uint16_t> tokens;  // seq_len + 1
    int64_t epoch;
  };
  std::span<const uint16_t> next_document();
  void produce();
  Row pop();
  at::Tensor staging(int64_t rows);

  std::vector<MappedTokens> shards_;
  int64_t seq_len_;
  uint16_t bos_;
  at::Device device_;

  // The producer's position. Only its thread touches these.
  size_t shard_ = 0, offset_ = 0;
  int64_t epoch_ = 1;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Row> ready_;      // guarded by mutex_
  bool stop_ = false;          // guarded by mutex_
  std::exception_ptr failed_;  // guarded by mutex_

  std::deque<Row> again_;  // rows that rewind_step() put back
  std::vector<Row> step_;  // rows handed out in this step
  std::thread thread_;
};

}  // namespace autoresearch
