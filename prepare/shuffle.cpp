#include "prepare/shuffle.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>

#include "common/error.h"

namespace autoresearch {
namespace {

constexpr size_t kBufferBytes = 64 << 10;  // of a bucket in memory before it goes to its file

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

// The first half of the SHA-256. Looking the algorithm up costs more than hashing a short document,
// so each thread does it once.
Hash hash_of(std::string_view text) {
  thread_local const std::unique_ptr<EVP_MD, decltype(&EVP_MD_free)> algorithm(
      EVP_MD_fetch(nullptr, "SHA256", nullptr), &EVP_MD_free);
  thread_local const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(
      EVP_MD_CTX_new(), &EVP_MD_CTX_free);
  unsigned char digest[EVP_MAX_MD_SIZE];
  const bool done = algorithm && context &&
                    EVP_DigestInit_ex2(context.get(), algorithm.get(), nullptr) == 1 &&
                    EVP_DigestUpdate(context.get(), text.data(), text.size()) == 1 &&
                    EVP_DigestFinal_ex(context.get(), digest, nullptr) == 1;
  check(done, "libcrypto has no SHA-256");
  return {big_endian(digest), big_endian(digest + 8)};
}

bool is_blank(std::string_view text) {
  return text.find_first_not_of(" \t\r\n\v\f") == std::string_view::npos;
}

// `count` bits of the hash, `skip` bits from its start.
size_t bits_of(const Hash& hash, int skip, int count) {
  const size_t high = skip < 64 ? hash[0] << skip : hash[1] << (skip - 64);
  const size_t low = skip > 0 && skip < 64 ? hash[1] >> (64 - skip) : 0;
  return (high | low) >> (64 - count);
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
  const int fd = ::open(file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  bool good = fd >= 0;
  for (std::string_view rest = buffer; good && !rest.empty();) {
    const ssize_t count = ::write(fd, rest.data(), rest.size());
    good = count >= 0 || errno == EINTR;
    if (count > 0) rest.remove_prefix(static_cast<size_t>(count));
  }
  const int reason = errno;
  if (fd >= 0) ::close(fd);
  check(good, "can't write " + file.string() + ": " + std::strerror(reason) +
                  "; the text is copied there while a task is made: free some space, and run the "
                  "command again");
  buffer.clear();
  if (buffer.capacity() > 2 * kBufferBytes) buffer.shrink_to_fit();  // it held a long document
}

fs::path bucket_file(const fs::path& base, size_t bucket) {
  char name[24];
  std::snprintf(name, sizeof name, ".%02zx", bucket);
  return base.string() + name;
}

bool is_one_document(const fs::path& file, int64_t size) {
  Header header{};
  std::ifstream(file, std::ios::binary).read(reinterpret_cast<char*>(&header), sizeof header);
  return static_cast<int64_t>(sizeof header + header.size) == size;
}

// The different records of one file, in order.
class SortedFile {
 public:
  explicit SortedFile(const fs::path& path) : bytes_(read_file(path)) {
    for (size_t at = 0; at < bytes_.size();) {
      Header header;
      check(bytes_.size() - at >= sizeof header, "damaged: " + path.string());
      std::memcpy(&header, bytes_.data() + at, sizeof header);
      at += sizeof header;
      check(bytes_.size() - at >= header.size, "damaged: " + path.string());
      records_.push_back({header.hash, at, header.size});
      at += header.size;
    }
    total_ = records_.size();
    std::sort(records_.begin(), records_.end(),
              [](const Record& a, const Record& b) { return a.hash < b.hash; });
    const auto end = std::unique(records_.begin(), records_.end(),
                                 [](const Record& a, const Record& b) { return a.hash == b.hash; });
    records_.erase(end, records_.end());
  }

  size_t size() const { return records_.size(); }
  size_t records() const { return total_; }  // duplicates included
  int64_t bytes() const {
    size_t bytes = 0;
    for (const Record& record : records_) bytes += record.size;
    return static_cast<int64_t>(bytes);
  }
  std::string_view operator[](size_t i) const {
    return std::string_view(bytes_).substr(records_[i].offset, records_[i].size);
  }

 private:
  struct Record {
    Hash hash;
    size_t offset, size;
  };
  std::string bytes_;
  std::vector<Record> records_;
  size_t total_ = 0;
};

class ShuffledReader : public DocumentReader {
 public:
  explicit ShuffledReader(const std::vector<fs::path>& files) : files_(files) {}

  bool next(std::string& document) override {
    while (!sorted_ || at_ == sorted_->size()) {
      sorted_.reset();  // before the next one is read: they are large
      if (file_ == files_.size()) return false;
      sorted_ = std::make_unique<SortedFile>(files_[file_++]);
      at_ = 0;
    }
    document = (*sorted_)[at_++];
    position_ += static_cast<int64_t>(document.size());
    return true;
  }
  int64_t position() const override { return position_; }

 private:
  const std::vector<fs::path>& files_;
  size_t file_ = 0, at_ = 0;
  std::unique_ptr<SortedFile> sorted_;
  int64_t position_ = 0;
};

}  // namespace

ShuffledDocuments::ShuffledDocuments(fs::path folder, int64_t bucket_bytes)
    : folder_(std::move(folder)), bucket_bytes_(bucket_bytes), buckets_(size_t{1} << kBits) {
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
  const size_t index = bits_of(header.hash, 0, kBits);
  Bucket& bucket = buckets_[index];
  const std::lock_guard lock(bucket.mutex);
  append_record(bucket.buffer, header, document);
  if (bucket.buffer.size() >= kBufferBytes) flush(bucket_file(folder_ / "h", index), bucket.buffer);
}

void ShuffledDocuments::finish(const std::function<void(int64_t)>& on_bytes) {
  for (size_t i = 0; i < buckets_.size(); ++i)
    flush(bucket_file(folder_ / "h", i), buckets_[i].buffer);
  std::vector<Bucket>().swap(buckets_);
  for (size_t i = 0; i < size_t{1} << kBits; ++i) count(bucket_file(folder_ / "h", i), 1, on_bytes);
}

// Distributes a file that is too large over files of its own, by further bits. A document that
// comes again and again would fill one of them whatever the bits: repeats in a row are dropped.
void ShuffledDocuments::split(const fs::path& file, int depth) {
  std::vector<std::string> buffers(size_t{1} << kBits);
  std::vector<Hash> last(buffers.size());
  std::unique_ptr<std::FILE, CloseFile> in(std::fopen(file.c_str(), "rb"));
  check(in != nullptr, "can't read " + file.string() + ": " + std::strerror(errno));
  Header header;
  std::string text;
  while (std::fread(&header, sizeof header, 1, in.get()) == 1) {
    text.resize(header.size);
    check(std::fread(text.data(), 1, text.size(), in.get()) == text.size(),
          "can't read " + file.string() + ": it ends within a record");
    const size_t index = bits_of(header.hash, depth * kBits, kBits);
    if (header.hash == last[index]) {
      ++duplicates_;
      seen_ += static_cast<int64_t>(text.size());
      continue;
    }
    last[index] = header.hash;
    append_record(buffers[index], header, text);
    if (buffers[index].size() >= kBufferBytes) flush(bucket_file(file, index), buffers[index]);
  }
  for (size_t i = 0; i < buffers.size(); ++i) flush(bucket_file(file, i), buffers[i]);
  fs::remove(file);
}

void ShuffledDocuments::count(const fs::path& file, int depth,
                              const std::function<void(int64_t)>& on_bytes) {
  std::error_code error;
  const auto size = static_cast<int64_t>(fs::file_size(file, error));
  if (error) return;  // no document has such a hash
  constexpr int kMaxDepth = 128 / kBits;
  if (size > bucket_bytes_ && depth < kMaxDepth && !is_one_document(file, size)) {
    split(file, depth);
    for (size_t i = 0; i < size_t{1} << kBits; ++i)
      count(bucket_file(file, i), depth + 1, on_bytes);
    return;
  }
  const SortedFile sorted(file);
  files_.push_back(file);
  documents_ += static_cast<int64_t>(sorted.size());
  duplicates_ += static_cast<int64_t>(sorted.records() - sorted.size());
  bytes_ += sorted.bytes();
  seen_ += size - static_cast<int64_t>(sorted.records() * sizeof(Header));
  if (on_bytes) on_bytes(seen_);
}

std::unique_ptr<DocumentReader> ShuffledDocuments::read() const {
  return std::make_unique<ShuffledReader>(files_);
}

}  // namespace autoresearch
