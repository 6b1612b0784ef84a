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
#include "task/packing.h"
#include "task/task.h"

namespace autoresearch {

// A file of uint16 tokens, memory-mapped read-only: nothing is read before it is looked at, and no
// descriptor stays open, so thousands of shards cost next to nothing.
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
// (task/packing.h), again from the start after the last one. What is prefetched is bounded by
// `kAhead` tokens, or two blocks if rows are longer. Not for several threads at once.
class Loader {
 public:
  static constexpr int64_t kAhead = int64_t{1} << 20;

  // Throws Error when shards are missing or their sizes are wrong. What is inside them is read
  // later: next() throws the Error for a shard that does not begin with a document or holds a token
  // outside of the vocabulary.
  Loader(const fs::path& task_dir, const TaskInfo& info, at::Device device);
  ~Loader();

  // The next `rows` rows, (rows, seq_len) on the device; on CUDA through pinned memory,
  // asynchronously. The epoch is that of the last document drawn for them, counted from 1. If it
  // throws, no row is handed out.
  Batch next(int64_t rows);

  void begin_step();      // forgets the rows handed out before
  int64_t rewind_step();  // hands out again what was handed out since begin_step(); how many rows

 private:
  // What the threads hand over at a time: `block_rows_` rows.
  static constexpr int64_t kBlock = int64_t{1} << 16;  // tokens, or one row if that is longer
  struct Block {
    std::vector<uint16_t> tokens;  // rows of seq_len + 1, one after the other
    std::vector<int64_t> epochs;   // of each row
  };
  void draw(std::vector<Packer::Document>& batch);
  Block make_block(Packer& packer);
  void produce();
  Block take_block();
  const uint16_t* row(int64_t row, int64_t& epoch);
  Batch on_cpu(int64_t rows);
  Batch on_gpu(int64_t rows);

  fs::path task_dir_;
  std::vector<MappedTokens> shards_;
  int64_t vocab_size_, seq_len_, block_rows_;
  uint16_t bos_;
  at::Device device_;

  // The producer's position: where in which shard the next document begins. Only its thread touches
  // these.
  size_t shard_ = 0, offset_ = 0;
  int64_t epoch_ = 1;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Block> ready_;    // guarded by mutex_
  bool stop_ = false;          // guarded by mutex_
  std::exception_ptr failed_;  // guarded by mutex_

  // The consumer's: blocks from the first row of this step on, and rows counted from their start.
  std::deque<Block> blocks_;
  int64_t step_begin_ = 0, next_ = 0;
  std::thread thread_;
};

// The tokens of a shard as they are in memory, int16 with the bits of uint16, as int64.
at::Tensor widened(const at::Tensor& tokens);

}  // namespace autoresearch
