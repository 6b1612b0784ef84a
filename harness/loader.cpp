#include "harness/loader.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "common/descriptor.h"
#include "common/error.h"

namespace autoresearch {

MappedTokens::MappedTokens(const fs::path& path) {
  const Descriptor fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  check(fd >= 0, "can't read " + path.string() + ": " + std::strerror(errno));
  struct stat info {};
  const bool known = fstat(fd, &info) == 0;
  const auto bytes = static_cast<size_t>(info.st_size);
  void* data = known && bytes ? mmap(nullptr, bytes, PROT_READ, MAP_PRIVATE, fd, 0) : MAP_FAILED;
  check(data != MAP_FAILED, "can't map " + path.string() + ": is it empty?");
  tokens_ = {static_cast<const uint16_t*>(data), bytes / sizeof(uint16_t)};
}

MappedTokens::~MappedTokens() {
  if (tokens_.data()) munmap(const_cast<uint16_t*>(tokens_.data()), tokens_.size_bytes());
}

MappedTokens::MappedTokens(MappedTokens&& other) noexcept : tokens_(other.tokens_) {
  other.tokens_ = {};
}

Loader::Loader(const fs::path& task_dir, const TaskInfo& info, at::Device device)
    : task_dir_(task_dir),
      vocab_size_(info.vocab_size),
      seq_len_(info.seq_len),
      block_rows_(std::max<int64_t>(1, kBlock / (info.seq_len + 1))),
      bos_(static_cast<uint16_t>(info.bos)),
      device_(device) {
  for (const fs::path& path : train_shards(task_dir, info)) shards_.emplace_back(path);
  thread_ = std::thread([this] { produce(); });
}

Loader::~Loader() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

// A document runs from its BOS to the next one, or to the end of its shard, where a batch ends too.
void Loader::draw(std::vector<Packer::Document>& batch) {
  if (offset_ == shards_[shard_].tokens().size()) {
    offset_ = 0;
    shard_ = (shard_ + 1) % shards_.size();
    if (shard_ == 0) ++epoch_;
  }
  const std::span<const uint16_t> tokens = shards_[shard_].tokens();
  const auto damaged = [&](const char* what) {
    return Error("shard " + std::to_string(shard_) + " in " + task_dir_.string() + "/train " +
                 what + "; prepare the task again with --force");
  };
  if (tokens[offset_] != bos_) throw damaged("does not begin with a document");
  while (batch.size() < Packer::kBatch && offset_ < tokens.size()) {
    const size_t begin = offset_;
    uint16_t largest = bos_;
    while (++offset_ < tokens.size() && tokens[offset_] != bos_) {
      largest = std::max(largest, tokens[offset_]);
    }
    if (largest >= vocab_size_) throw damaged("holds a token outside of the vocabulary");
    batch.push_back(tokens.subspan(begin, offset_ - begin));
  }
}

Loader::Block Loader::make_block(Packer& packer) {
  const auto row_tokens = static_cast<size_t>(seq_len_) + 1,
             rows = static_cast<size_t>(block_rows_);
  Block block{std::vector<uint16_t>(rows * row_tokens), std::vector<int64_t>(rows)};
  for (size_t r = 0; r < rows; ++r) {
    packer.next_row(std::span(block.tokens).subspan(r * row_tokens, row_tokens));  // endless supply
    block.epochs[r] = epoch_;
  }
  return block;
}

void Loader::produce() {
  try {
    const auto ahead =
        static_cast<size_t>(std::max<int64_t>(2, kAhead / (block_rows_ * (seq_len_ + 1))));
    Packer packer(seq_len_ + 1, [this](std::vector<Packer::Document>& batch) { draw(batch); });
    while (true) {
      Block block = make_block(packer);
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return stop_ || ready_.size() < ahead; });
      if (stop_) return;
      ready_.push_back(std::move(block));
      changed_.notify_all();
    }
  } catch (...) {
    std::lock_guard lock(mutex_);
    failed_ = std::current_exception();
    changed_.notify_all();
  }
}

Loader::Block Loader::take_block() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return failed_ || !ready_.empty(); });
  if (ready_.empty()) std::rethrow_exception(failed_);
  Block block = std::move(ready_.front());
  ready_.pop_front();
  changed_.notify_all();
  return block;
}

// The tokens of a row, counted from the first block on, and its epoch.
const uint16_t* Loader::row(int64_t row, int64_t& epoch) {
  const auto block = static_cast<size_t>(row / block_rows_);
  if (block == blocks_.size()) blocks_.push_back(take_block());
  epoch = blocks_[block].epochs[static_cast<size_t>(row % block_rows_)];
  return blocks_[block].tokens.data() + row % block_rows_ * (seq_len_ + 1);
}

Batch Loader::on_cpu(int64_t rows) {
  const at::Tensor ids = at::empty({2, rows, seq_len_}, at::kLong);
  auto* inputs = ids.mutable_data_ptr<int64_t>();
  auto* targets = inputs + rows * seq_len_;
  int64_t epoch = 1;
  for (int64_t r = next_; r < next_ + rows; ++r) {
    const uint16_t* tokens = row(r, epoch);
    inputs = std::copy_n(tokens, seq_len_, inputs);
    targets = std::copy_n(tokens + 1, seq_len_, targets);
  }
  return {ids.select(0, 0), ids.select(0, 1), epoch};
}

at::Tensor widened(const at::Tensor& tokens) { return tokens.to(at::kLong).bitwise_and(0xffff); }

// Rows travel as they are, in an eighth of the bytes, and become ids there: the host has little to
// do, and a GPU nothing to wait for. ATen's pinned allocator hands memory out again only after the
// copies that were recorded on it have ended, so that no event is kept here. Only the training
// thread calls this, on the device that it has chosen.
Batch Loader::on_gpu(int64_t rows) {
  const at::Tensor host =
      at::empty({rows, seq_len_ + 1}, at::TensorOptions(at::kShort).pinned_memory(true));
  auto* to = reinterpret_cast<uint16_t*>(host.mutable_data_ptr<int16_t>());
  int64_t epoch = 1;
  for (int64_t r = next_; r < next_ + rows; ++r) to = std::copy_n(row(r, epoch), seq_len_ + 1, to);
  const at::Tensor ids = widened(host.to(device_, /*non_blocking=*/true));
  return {ids.narrow(1, 0, seq_len_).contiguous(), ids.narrow(1, 1, seq_len_).contiguous(), epoch};
}

Batch Loader::next(int64_t rows) {
  Batch batch = device_.is_cpu() ? on_cpu(rows) : on_gpu(rows);
  next_ += rows;
  return batch;
}

void Loader::begin_step() {
  for (; next_ >= block_rows_; next_ -= block_rows_) blocks_.pop_front();
  step_begin_ = next_;
}

int64_t Loader::rewind_step() {
  const int64_t rows = next_ - step_begin_;
  next_ = step_begin_;
  return rows;
}

}  // namespace autoresearch
