// Files that exist whole or not at all, where data lives, and fingerprints.
// Every function throws Error, naming the path and the system's reason.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "common/descriptor.h"
#include "common/error.h"

namespace autoresearch {

namespace fs = std::filesystem;

// What should be on disk may not be there: a failed fsync, after which the kernel may have dropped
// the data (https://lwn.net/Articles/752063/), or a record that could not be written. Trying again
// proves nothing; the program must end.
struct DurabilityError : Error {
  using Error::Error;
};

// $AUTORESEARCH_DATA, else $XDG_CACHE_HOME/autoresearch, else ~/.cache/autoresearch. Not created
// here.
fs::path data_dir();

// The whole file as bytes.
std::string read_file(const fs::path& path);

// Writes `path` whole or not at all: a temporary file beside it, fsync, rename, fsync of the
// folder. A reader sees the old content or the new, also after a power cut. Throws DurabilityError
// where an fsync fails.
void write_file(const fs::path& path, std::string_view bytes);

// fsync of a file or folder by path. Throws DurabilityError if it fails; a folder on a file system
// that knows no fsync of folders (CIFS, 9p, some FUSE) is none.
void sync_path(const fs::path& path);

// The SHA-256 of bytes, or of a file read in pieces; as text it is lower-case hexadecimal.
using Digest = std::array<unsigned char, 32>;
Digest sha256_digest(std::string_view bytes);
std::string sha256(std::string_view bytes);
std::string sha256_of_file(const fs::path& path);

// Copies a file, sharing its blocks if the file system can (FICLONE), and keeps its mode if there
// are any.
void copy_file_cheaply(const fs::path& from, const fs::path& to);

// An advisory lock on a file, held while the object lives; the file itself stays. On a file system
// without locks (Lustre, NFS without its daemon), a second file beside it stands for the lock.
class FileLock {
 public:
  // Throws Error("<path> is in use by process <pid>; ...") when another process holds it.
  explicit FileLock(const fs::path& path);
  ~FileLock();
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;

 private:
  void lock(const fs::path& path);
  void lock_by_file(const fs::path& path);

  Descriptor fd_;
  fs::path file_;  // that stands for the lock, if there is one
};

// The process that holds such a lock now, as a FileLock's message names it; nothing if none does.
// Takes no lock that another process would wait for.
std::optional<std::string> holder_of(const fs::path& lock);

}  // namespace autoresearch
