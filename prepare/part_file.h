// What is here of a file that is being downloaded: NAME.part, its first bytes, and NAME.part.json,
// which content they are the first bytes of. Both outlive the process, so that the next one goes on
// from there; NAME itself appears only once it is whole.
//
// Bytes of two contents never mix: the .part is empty, on disk, before the note changes, and the
// note is on disk before the first byte it vouches for is written. What a power cut leaves of a
// .part is anybody's guess, so after a restart of the machine it is used only where a SHA-256 of
// the whole is known, by which a hole would be noticed.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "common/descriptor.h"
#include "common/files.h"

namespace autoresearch {

// What a server told about the file behind a URL.
struct Content {
  std::string url;
  int64_t size = -1;      // bytes; -1: unknown
  std::string validator;  // what If-Range sends: a strong ETag or an old enough date; may be empty
  std::string sha256;     // of the whole file, lower-case; empty where no hub named it
};

// Every function throws Error, naming the path and the system's reason, where the disk fails.
class PartFile {
 public:
  explicit PartFile(const fs::path& file);

  // Opens what is here of the content of `url`; size() is 0 when nothing of use is.
  void open(const std::string& url);

  int64_t size() const { return size_; }               // bytes that are here
  const Content& content() const { return content_; }  // of which these are the first
  bool whole() const { return size_ == content_.size; }
  const fs::path& path() const { return part_; }

  // Empties the file, which holds `content` from now on.
  void restart(const Content& content);
  void append(std::string_view bytes);
  void close() { fd_.close(); }

  // Puts the whole file in its place, on disk.
  void publish();
  // Removes .part and .part.json, if they are there.
  void discard();

 private:
  fs::path file_, part_, note_;
  Descriptor fd_;
  int64_t size_ = 0;
  Content content_;
};

// Removes what a killed process left half-written beside its notes. The caller holds the folder's
// lock.
void remove_torn_notes(const fs::path& folder);

}  // namespace autoresearch
