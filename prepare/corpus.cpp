#include "prepare/corpus.h"

#include <algorithm>
#include <atomic>

#include "common/error.h"
#include "common/limits.h"
#include "prepare/form.h"
#include "prepare/threads.h"

namespace autoresearch {
namespace {

constexpr int64_t kSmallestPart = 4 << 10, kLargestPart = 256 << 10;  // bytes
constexpr int64_t kParts = 40;       // at least, of a corpus that is one large text
constexpr int64_t kMostReaders = 4;  // each may hold tens of megabytes of a parquet file

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
  const int64_t readers = std::min(workers, kMostReaders);
  options.memory = std::max(options.memory, available_memory() / 2 / readers);
  std::atomic<size_t> next_file = 0;
  std::atomic<int64_t> bytes = 0;
  const auto read = [&](const fs::path& file, const std::atomic<bool>& stop) {
    const auto reader = open_documents(file, options);
    int64_t counted = 0;
    for (std::string document; !stop && reader->next(document);) {
      if (document.starts_with(kByteOrderMark)) {
        document.erase(0, kByteOrderMark.size());
        options.findings->note("byte order marks dropped", display_name(file));
      }
      documents.add(document);
      bytes += reader->position() - counted;
      counted = reader->position();
    }
  };
  const auto work = [&](const std::atomic<bool>& stop) {
    for (size_t i; !stop && (i = next_file++) < files.size();) read(files[i], stop);
  };
  work_together(readers, work, [&] { on_bytes(bytes); });
  options.findings->check_lines();
  on_bytes(bytes);
}

void skip(DocumentReader& reader, int64_t count) {
  for (std::string document; count > 0; --count) {
    check(reader.next(document), "the corpus has changed while it was read; run the command again");
  }
}

}  // namespace autoresearch
