#include "prepare/shuffle.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>

#include "common/descriptor.h"
#include "common/error.h"

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
  const Descriptor fd(::open(file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  if (fd < 0 || !write_all(fd, buffer))
    throw Error(
        fmt::format("can't write {}: {}; the text is copied there while a task is made: "
                    "free some space, and run the command again",
                    file.native(), std::strerror(errno)));
  buffer.clear();
  if (buffer.capacity() > 2 * kBufferBytes) buffer.shrink_to_fit();  // it held a long document
}

fs::path bucket_file(const fs::path& base, size_t bucket) {
  return fmt::format("{}.{:02x}", base.native(), bucket);
}

bool is_one_document(const fs::path& file, int64_t size) {
  Header header{};
  std::ifstream(file, std::ios::binary).read(reinterpret_cast<char*>(&header), sizeof header);
  return static_cast<int64_t>(sizeof header + header.size) == size;
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

ShuffledDocuments::ShuffledDocuments(fs::path folder, int64_t bucket_bytes)
    : folder_(std::move(folder)),
      sorted_(folder_ / "sorted"),
      bucket_bytes_(bucket_bytes),
      buckets_(size_t{1} << kBits) {
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
  for (size_t i = 0; i < size_t{1} << kBits; ++i) sort(bucket_file(folder_ / "h", i), 1, on_bytes);
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

void ShuffledDocuments::sort(const fs::path& file, int depth,
                             const std::function<void(int64_t)>& on_bytes) {
  std::error_code error;
  const auto size = static_cast<int64_t>(fs::file_size(file, error));
  if (error) return;  // no document has such a hash
  constexpr int kMaxDepth = 128 / kBits;
  if (size > bucket_bytes_ && depth < kMaxDepth && !is_one_document(file, size)) {
    split(file, depth);
    for (size_t i = 0; i < size_t{1} << kBits; ++i) sort(bucket_file(file, i), depth + 1, on_bytes);
    return;
  }
  append_sorted(file);
  fs::remove(file);
  if (on_bytes) on_bytes(seen_);
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
