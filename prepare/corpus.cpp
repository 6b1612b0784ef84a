#include "prepare/corpus.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <exception>
#include <future>

#include "common/error.h"
#include "common/limits.h"
#include "prepare/form.h"

namespace autoresearch {
namespace {

constexpr int64_t kSmallestPart = 4 << 10, kLargestPart = 256 << 10;  // bytes
constexpr int64_t kParts = 40;       // at least, of a corpus that is one large text
constexpr int64_t kMostReaders = 4;  // each may hold tens of megabytes of a parquet file
constexpr std::chrono::milliseconds kTick{50};

class FilesInOrder : public DocumentReader {
 public:
  FilesInOrder(std::vector<fs::path> files, ReadOptions options)
      : files_(std::move(files)), options_(std::move(options)) {}

  bool next(std::string& document) override {
    for (;;) {
      if (reader_ && reader_->next(document)) return true;
      if (reader_) before_ += reader_->position();
      reader_.reset();
      if (opened_ == files_.size()) return false;
      reader_ = open_documents(files_[opened_++], options_);
    }
  }
  int64_t position() const override { return before_ + (reader_ ? reader_->position() : 0); }
  bool group_ended() const override { return reader_ && reader_->group_ended(); }

 private:
  std::vector<fs::path> files_;
  ReadOptions options_;
  std::unique_ptr<DocumentReader> reader_;
  size_t opened_ = 0;
  int64_t before_ = 0;  // bytes of the files that are done
};

// What the threads of read_files() share.
struct Reading {
  std::atomic<size_t> next_file{0};
  std::atomic<int64_t> bytes{0};
  std::atomic<bool> stop{false};
  std::exception_ptr failure;  // the first; to be read once all threads have ended

  void file(const fs::path& path, const ReadOptions& options, ShuffledDocuments& documents) {
    const auto reader = open_documents(path, options);
    int64_t counted = 0;
    for (std::string document; !stop && reader->next(document);) {
      if (document.starts_with(kByteOrderMark)) {
        document.erase(0, kByteOrderMark.size());
        options.findings->note("byte order marks dropped", display_name(path));
      }
      documents.add(document);
      bytes += reader->position() - counted;
      counted = reader->position();
    }
  }
};

// How long the text in a file is, as far as that is below `most`; 0 for rows and lines of JSON.
int64_t text_bytes(const fs::path& file, int64_t most) {
  Findings ignored;
  const OpenedFile opened = open_file(file, ignored);
  if (opened.look.form != Form::kText) return 0;
  std::string buffer(64 << 10, '\0');
  int64_t total = 0;
  while (total < most) {
    const size_t count = opened.bytes->read(buffer.data(), buffer.size());
    if (count == 0) break;
    total += static_cast<int64_t>(count);
  }
  return total;
}

}  // namespace

int64_t total_bytes(const std::vector<fs::path>& files) {
  int64_t total = 0;
  for (const fs::path& file : files) {
    total += static_cast<int64_t>(fs::file_size(system_path(file)));
  }
  return total;
}

int64_t part_bytes(const std::vector<fs::path>& files) {
  constexpr int64_t kEnough = kParts * kLargestPart;
  int64_t total = 0;
  for (const fs::path& file : files) {
    total += text_bytes(file, kEnough - total);
    if (total >= kEnough) break;
  }
  return std::clamp(total / kParts, kSmallestPart, kLargestPart);
}

std::unique_ptr<DocumentReader> open_in_order(std::vector<fs::path> files, ReadOptions options) {
  return std::make_unique<FilesInOrder>(std::move(files), std::move(options));
}

void read_files(const std::vector<fs::path>& files, ReadOptions options, int64_t workers,
                ShuffledDocuments& documents, const OnBytes& on_bytes) {
  Reading reading;
  const int64_t readers = std::min(workers, kMostReaders);
  options.memory = std::max(options.memory, available_memory() / 2 / readers);
  const auto work = [&] {
    try {
      for (size_t i; !reading.stop && (i = reading.next_file++) < files.size();) {
        reading.file(files[i], options, documents);
      }
    } catch (...) {  // what comes after the first failure comes of it
      if (!reading.stop.exchange(true)) reading.failure = std::current_exception();
    }
  };
  std::vector<std::future<void>> threads;
  try {
    for (int64_t i = 0; i < readers; ++i) {
      threads.push_back(std::async(std::launch::async, work));
    }
    for (std::future<void>& thread : threads) {
      while (thread.wait_for(kTick) != std::future_status::ready) on_bytes(reading.bytes);
    }
  } catch (...) {
    reading.stop = true;  // the threads are waited for where they go out of scope
    throw;
  }
  if (reading.failure) std::rethrow_exception(reading.failure);
  options.findings->check_lines();
  on_bytes(reading.bytes);
}

void skip(DocumentReader& reader, int64_t count) {
  for (std::string document; count > 0; --count) {
    check(reader.next(document), "the corpus has changed while it was read; run the command again");
  }
}

}  // namespace autoresearch
