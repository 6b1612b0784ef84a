// What is here of a file that is being downloaded: NAME.part/KEY, its first bytes. The key stands
// for the content that a server told of, so bytes of two contents never mix: they would be in two
// files. A part outlives the process, so that the next one goes on from there; NAME itself appears
// only once it is whole.
//
// What a power cut leaves of a part is anybody's guess. So after a restart of the machine it is
// used only where a SHA-256 of the whole is known, by which a hole would be noticed.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>

#include "common/descriptor.h"
#include "common/files.h"

namespace autoresearch {

// What a server told about the file behind a URL.
struct Content {
  std::string url;
  int64_t size = 0;       // bytes
  std::string validator;  // a strong ETag or an old enough date; may be empty
  std::string sha256;     // of the whole file, lower-case; empty where no hub named it

  // Whether it would be known again, so that a later response may go on with it.
  bool is_known() const { return !validator.empty() || !sha256.empty(); }
};

// Every function throws Error, naming the path and the system's reason, where the disk fails. Both
// sizes may be asked for by any thread.
class PartFile {
 public:
  explicit PartFile(const fs::path& file);

  // Takes up what another process has left, but for its last byte: so one request shows whether the
  // server still has this content, even if only the file's name was missing.
  void open();

  int64_t size() const { return size_; }         // bytes that are here
  int64_t whole_size() const { return whole_; }  // of the content; -1: not known yet
  bool whole() const { return size_ == whole_; }
  const fs::path& path() const { return part_; }
  const std::string& sha256() const { return sha256_; }  // that the whole should have, if known

  // Whether what is here is the beginning of `content`.
  bool goes_on(const Content& content);
  // Begins `content` anew.
  void restart(const Content& content);
  void append(std::string_view bytes);

  // Puts the whole file in its place, on disk.
  void publish();
  // Removes what is here.
  void discard();

 private:
  void open(const std::string& key, int flags);
  void expect(const Content& content);

  fs::path file_, folder_, part_;
  Descriptor fd_;
  std::atomic<int64_t> size_ = 0, whole_ = -1;
  std::string sha256_;
};

}  // namespace autoresearch
