#include "harness/loader.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <iterator>

#include "common/error.h"

namespace autoresearch {

MappedTokens::MappedTokens(const fs::path& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  check(fd >= 0, "can't read " + path.string() + ": " + std::strerror(errno));
  struct stat info {};
  const bool known = fstat(fd, &info) == 0;
  const auto bytes = static_cast<size_t>(info.st_size);
  void* data = known && bytes ? mmap(nullptr, bytes, PROT_READ, MAP_PRIVATE, fd, 0) : MAP_FAILED;
  close(fd);
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
    : seq_len_(info.seq_len), bos_(static_cast<uint16_t>(info.bos)), device_(device) {
  for (const fs::path& path : train_shards(task_dir, info)) shards_.emplace_back(path);
  check(!shards_.empty() && shards_[0].tokens()[0] == bos_,
        task_dir.string() + "/train does not begin with a document; prepare the task again");
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

// A document runs from its BOS to the next one, or to the end of its shard.
std::span<const uint16_t> Loader::next_document() {
  std::span<const uint16_t> tokens = shards_[shard_].tokens();
  const size_t begin = offset_;
  offset_ = static_cast<size_t>(
      std::find(tokens.begin() + static_cast<ptrdiff_t>(begin) + 1, tokens.end(), bos_) -
      tokens.begin());
  const auto document = tokens.subspan(begin, offset_ - begin);
  if (offset_ == tokens.size()) {
    offset_ = 0;
    if (++shard_ == shards_.size()) {
      shard_ = 0;
      ++epoch_;
    }
  }
  return document;
}

void Loader::produce() {
  try {
    const auto row_tokens = static_cast<size_t>(seq_len_) + 1;
    const auto ahead = std::max<size_t>(8, static_cast<size_t>(kAhead) / row_tokens);
    Packer packer(static_cast<int64_t>(row_tokens), [this](std::vector<Packer::Document>& batch) {
      while (batch.size() < Packer::kBatch) batch.push_back(next_document());
    });
    while (true) {
      Row row{std::vector<uint16_t>(row_tokens), 0};
      check(packer.next_row(row.tokens), "the training split holds no whole row");
      row.epoch = epoch_;
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return stop_ || ready_.size() < ahead; });
      if (stop_) return;
      ready_.push_back(std::move(row));
      changed_.notify_all();
    }
  } catch (...) {
    std::lock_guard lock(mutex_);
    failed_ = std::current_exception();
    changed_.notify_all();
  }
}

Loader::Row Loader::pop() {
  if (!again_.empty()) {
    Row row = std::move(again_.front());
    again_.pop_front();
    return row;
  }
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return failed_ || !ready_.empty(); });
  if (ready_.empty()) std::rethrow_exception(failed_);
  Row row = std::move(ready_.front());
  ready_.pop_front();
  changed_.notify_all();
  return row;
}

// Host memory for one batch. On CUDA it is pinned; ATen's pinned allocator hands a block out again
// only after the copies that were recorded on it have ended, so that no event is kept here.
at::Tensor Loader::staging(int64_t rows) {
  auto options = at::TensorOptions().dtype(at::kLong);
  return at::empty({rows, seq_len_ + 1}, options.pinned_memory(device_.is_cuda()));
}

Batch Loader::next(int64_t rows) {
  at::Tensor host = staging(rows);
  auto* out = host.mutable_data_ptr<int64_t>();
  int64_t epoch = 1;
  for (int64_t r = 0; r < rows; ++r) {
    Row row = pop();
    out = std::copy(row.tokens.begin(), row.tokens.end(), out);
    epoch = row.epoch;
    step_.push_back(std::move(row));
  }
  const at::Tensor all = host.to(device_, /*non_blocking=*/true);
  return {all.narrow(1, 0, seq_len_).contiguous(), all.narrow(1, 1, seq_len_).contiguous(), epoch};
}

void Loader::begin_step() { step_.clear(); }

int64_t Loader::rewind_step() {
  const auto rows = static_cast<int64_t>(step_.size());
  again_.insert(again_.begin(), std::make_move_iterator(step_.begin()),
                std::make_move_iterator(step_.end()));
  step_.clear();
  return rows;
}

}  // namespace autoresearch
