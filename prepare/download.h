// Files from the web, many at once, each whole or not there at all.
//
// What has arrived of a file outlives an interrupt, a kill and a broken connection, and the next
// call goes on from there (prepare/part_file.h). A file gets its name only when its size is the
// announced one, its SHA-256 is the one that the hub names (where it names one), the caller's check
// finds nothing, and it is on disk. Failed requests are repeated with growing, jittered pauses; a
// server that names a time (Retry-After) is left alone until then.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "common/files.h"

namespace autoresearch {

struct Download {
  std::string url;   // http or https
  std::string name;  // of the file in the folder
};

struct DownloadOptions {
  int64_t parallel = 8;  // transfers at a time
  std::string token;     // goes as bearer token to the hosts that the URLs name, and to no other

  // What is wrong with a file that should be whole, or nothing. Called for every file that arrives,
  // and for those that are there already, so it should be quick.
  std::function<std::optional<std::string>(const fs::path&)> problem;
  // True when the user wants to stop; asked some ten times a second.
  std::function<bool()> interrupted;

  // How patiently.
  int attempts = 10;  // in a row that bring nothing new, until a file is given up
  long stall = 30;    // seconds with less than 100 bytes/s: the connection is dropped
  double second = 1;  // how long a second lasts in the pauses; tests make it short
};

// Brings all files into `folder`, which is made if need be. A file that is there and passes the
// check is left alone; one that fails it is replaced. Draws progress on a terminal (else a line per
// file). One process at a time works in a folder.
//
// Throws Error where a file does not arrive, naming each with the reason and how to go on, after
// the others have been tried; where the disk is too small, as soon as the sizes are known; when
// interrupted (code kInterrupted), or when another process is at work in the folder.
void download(const fs::path& folder, const std::vector<Download>& files,
              const DownloadOptions& options);

}  // namespace autoresearch
