// Documents on disk in the order of a hash of their text: a shuffle that depends on nothing but the
// documents themselves, with exact duplicates left out, of a corpus larger than memory.
//
// Documents are appended to one of 256 files by the first bits of their hash. In the end each of
// these buckets is read and sorted, and one file written of all: what is in memory of a corpus is a
// 256th of its text, and some 40 bytes for each document in that.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "common/files.h"
#include "prepare/reader.h"

namespace autoresearch {

class ShuffledDocuments {
 public:
  // `folder` must not exist yet; it is made here, holds a copy of the text, and goes with the
  // object.
  explicit ShuffledDocuments(fs::path folder);
  ~ShuffledDocuments();
  ShuffledDocuments(const ShuffledDocuments&) = delete;
  ShuffledDocuments& operator=(const ShuffledDocuments&) = delete;

  // Takes a document in; one of white space only is passed over. For several threads at once.
  void add(std::string_view document);

  int64_t added_bytes() const { return added_; }  // of text, duplicates included

  // After the last add(): sorts what is there, and counts it. `on_bytes` hears how many of the
  // added bytes have been gone through; what it throws ends the work.
  void finish(const std::function<void(int64_t bytes)>& on_bytes = {});

  // Known after finish().
  int64_t documents() const { return documents_; }    // different ones
  int64_t duplicates() const { return duplicates_; }  // that were left out
  int64_t bytes() const { return bytes_; }            // of the different documents

  // The documents in order, from the first; after finish(), and not beyond this object's life. Its
  // position() counts bytes of text.
  std::unique_ptr<DocumentReader> read() const;

 private:
  struct Bucket {
    std::mutex mutex;
    std::string buffer;  // records not yet in the file
  };

  fs::path bucket_file(size_t bucket) const;
  void append_sorted(const fs::path& file);

  fs::path folder_, sorted_;
  std::array<Bucket, 256> buckets_;  // by the first byte of the hash
  std::atomic<int64_t> added_ = 0;
  int64_t seen_ = 0;  // of those that were added, in finish()
  int64_t documents_ = 0, duplicates_ = 0, bytes_ = 0;
};

}  // namespace autoresearch
