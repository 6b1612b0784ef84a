#include "prepare/shuffle.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <vector>

#include "common/descriptor.h"
#include "common/error.h"
#include "common/text.h"

namespace autoresearch {
namespace {

constexpr size_t kBufferBytes = 64 << 10;  // of a bucket in memory before it goes to its file
constexpr size_t kSortedBufferBytes = 1 << 20;

struct CloseFile {
  void operator()(std::FILE* file) const { std::fclose(file); }
};

using Hash = std::array<uint64_t, 2>;  // compares as the digest's first 16 bytes do

// A record in a file: this, then the text.
struct Header {
  Hash hash;
  uint64_t size;
};

uint64_t big_endian(const unsigned char* bytes) {
  uint64_t value;
  std::memcpy(&value, bytes, sizeof value);
  return std::endian::native == std::endian::little ? __builtin_bswap64(value) : value;
}

Hash hash_of(std::string_view text) {
  const Digest digest = sha256_digest(text);
  return {big_endian(&digest[0]), big_endian(&digest[8])};
}

std::string_view as_bytes(const Header& header) {
  return {reinterpret_cast<const char*>(&header), sizeof header};
}

void append_record(std::string& buffer, const Header& header, std::string_view text) {
  buffer.append(as_bytes(header)).append(text);
}

// Appends the buffer to its file and empties it. Files are not kept open: there may be more of them
// than a process may hold.
void flush(const fs::path& file, std::string& buffer) {
  if (buffer.empty()) return;
  const Descriptor fd(::open(file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  if (fd < 0 || !write_all(fd, buffer))
    throw Error(
        fmt::format("can't write {}: {}; the text is copied there while a task is made: "
                    "free some space, and run the command again",
                    file.native(), std::strerror(errno)));
  buffer.clear();
  if (buffer.capacity() > 2 * kBufferBytes) buffer.shrink_to_fit();  // it held a long document
}

// The sorted documents, each behind its size.
class SortedReader : public DocumentReader {
 public:
  explicit SortedReader(const fs::path& file)
      : name_(file.string()), in_(std::fopen(file.c_str(), "rb")) {
    check(in_ || errno == ENOENT, "can't read " + name_ + ": " + std::strerror(errno));
  }

  bool next(std::string& document) override {
    uint64_t size = 0;
    const size_t count = in_ ? std::fread(&size, 1, sizeof size, in_.get()) : 0;
    if (count == 0 && (!in_ || std::feof(in_.get()))) return false;
    if (count == sizeof size) document.resize(size);
    check(count == sizeof size && std::fread(document.data(), 1, size, in_.get()) == size,
          "can't read all of " + name_);
    position_ += static_cast<int64_t>(size);
    return true;
  }
  int64_t position() const override { return position_; }

 private:
  std::string name_;
  std::unique_ptr<std::FILE, CloseFile> in_;
  int64_t position_ = 0;
};

}  // namespace

ShuffledDocuments::ShuffledDocuments(fs::path folder)
    : folder_(std::move(folder)), sorted_(folder_ / "sorted") {
  fs::create_directory(folder_);
}

ShuffledDocuments::~ShuffledDocuments() {
  std::error_code ignored;
  fs::remove_all(folder_, ignored);
}

void ShuffledDocuments::add(std::string_view document) {
  if (is_blank(document)) return;
  added_ += static_cast<int64_t>(document.size());
  const Header header{hash_of(document), document.size()};
  const size_t index = header.hash[0] >> 56;
  Bucket& bucket = buckets_[index];
  const std::lock_guard lock(bucket.mutex);
  append_record(bucket.buffer, header, document);
  if (bucket.buffer.size() >= kBufferBytes) flush(bucket_file(index), bucket.buffer);
}

fs::path ShuffledDocuments::bucket_file(size_t bucket) const {
  return folder_ / fmt::format("{:02x}", bucket);
}

void ShuffledDocuments::finish(const std::function<void(int64_t)>& on_bytes) {
  for (size_t i = 0; i < buckets_.size(); ++i) {
    flush(bucket_file(i), buckets_[i].buffer);
    std::string().swap(buckets_[i].buffer);
  }
  for (size_t i = 0; i < buckets_.size(); ++i) {
    const fs::path file = bucket_file(i);
    if (!fs::exists(file)) continue;  // no document has such a hash
    append_sorted(file);
    fs::remove(file);
    if (on_bytes) on_bytes(seen_);
  }
}

// Appends the different documents of a file to the sorted ones.
void ShuffledDocuments::append_sorted(const fs::path& file) {
  struct Record {
    Hash hash;
    std::string_view text;
  };
  const std::string bytes = read_file(file);
  std::vector<Record> records;
  for (size_t at = 0; at < bytes.size();) {
    Header header{};
    if (bytes.size() - at >= sizeof header) std::memcpy(&header, &bytes[at], sizeof header);
    at += sizeof header;
    check(at <= bytes.size() && header.size <= bytes.size() - at, "damaged: " + file.string());
    records.push_back({header.hash, {&bytes[at], header.size}});
    at += header.size;
  }
  // Equal documents have equal hashes, so that in this order they are neighbours.
  std::sort(records.begin(), records.end(),
            [](const Record& a, const Record& b) { return a.hash < b.hash; });
  std::string buffer;
  const Record* last = nullptr;
  for (const Record& record : records) {
    seen_ += static_cast<int64_t>(record.text.size());
    const bool again = last && record.hash == last->hash;
    last = &record;
    ++(again ? duplicates_ : documents_);
    if (again) continue;
    bytes_ += static_cast<int64_t>(record.text.size());
    const uint64_t size = record.text.size();
    buffer.append(reinterpret_cast<const char*>(&size), sizeof size).append(record.text);
    if (buffer.size() >= kSortedBufferBytes) flush(sorted_, buffer);
  }
  flush(sorted_, buffer);
}

std::unique_ptr<DocumentReader> ShuffledDocuments::read() const {
  return std::make_unique<SortedReader>(sorted_);
}

}  // namespace autoresearch
