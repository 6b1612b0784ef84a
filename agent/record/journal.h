// The journal: the truth of a run, from which everything else is derived. Append-only, one JSON
// object a line (agent/record/events.h), on disk (fsync) before append() returns.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "agent/record/events.h"
#include "agent/record/run_state.h"
#include "common/clock.h"
#include "common/files.h"

namespace autoresearch {

class Journal {
 public:
  // Opens or creates `path`; takes the run's lock (<path>.lock): one writer. Cuts a torn last line:
  // one that does not end, or holds the zeros that a file system leaves if data never arrived. Any
  // other bad line is an Error.
  explicit Journal(const fs::path& path, std::function<double()> clock = wall_clock);
  ~Journal();
  Journal(const Journal&) = delete;
  Journal& operator=(const Journal&) = delete;

  // Writes one line and fsyncs. A failed write or fsync throws DurabilityError and must end the
  // run: every later append() throws too. Bytes that are not UTF-8 become U+FFFD. Returns what a
  // reader will read.
  Entry append(const Event& event);

  // What stood in it when it was opened.
  const std::vector<Entry>& earlier() const { return earlier_; }

 private:
  FileLock lock_;
  fs::path path_;
  std::function<double()> clock_;
  int fd_ = -1;
  bool failed_ = false;
  std::vector<Entry> earlier_;
};

// Reads without locking, for agent status and report; a torn last line is ignored.
std::vector<Entry> read_journal(const fs::path& path);

// When the last of them was written, in seconds since 1970; 0 if there is none.
double time_of_last(const std::vector<Entry>& entries);

// The calls among them, for the account (agent/llm/money.h).
std::vector<CallEvent> calls_in(const std::vector<Entry>& entries);

// The replies that lie in the run's folders, by the name of the model that gave them.
std::map<std::string, int64_t> replies_in(const std::vector<Entry>& entries);

}  // namespace autoresearch
