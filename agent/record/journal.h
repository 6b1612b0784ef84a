// The journal: the truth of a run, from which everything else is derived. Append-only, one JSON
// object a line, on disk (fsync) before append() returns.
//
// An event is {"event": NAME, ...}. In the order in which an experiment writes them; every event
// also has "time" (UTC, ISO 8601):
//   start      {tag, task, task_name, kit, device, machine, seed, provider}
//   call       {id, n, provider, prompt_bytes, room, largest_usd}  before a request to a model is
//              sent; room: tokens of its answer at most; largest_usd, the most it can cost, where a
//              price is known; n 0: to see if it answers
//   call_done  {id, tokens_in, tokens_cached, tokens_cache_written, tokens_out, tokens_reasoning,
//              seconds, problem, usd, assumed, stated}  assumed: it broke off, and usd is the most
//              it could cost; stated: usd is the endpoint's own word
//   candidate  {n, commit, parent, idea, why, proposer, fingerprint, constants, areas, next}  after
//              object and ref are on disk; constants and areas: what the edit touched; next: a list
//              of lines. Once more for the same n when a repair replaces it: then the measurement
//              before it was of the replaced one, and the verdict is on the last.
//   run        {n, attempt, pid, starttime}  before the child execs; attempt counts from 1 within n
//   measured   {n, attempt, seed, bpb, wall_seconds, overhead_seconds, memory_gb, score, ...}; of
//              the baseline also fused_operations, as in train.json
//   refused    {n, proposer, reason}  a proposal that never became a candidate; n is used again
//   verdict    {n, status, reason, champion}  the commit point: status keep|discard|crash
//   stop       {why}
// Events of other names are for later versions and are passed over.
// Invariants, checked when it is read: candidates have n = 0, 1, 2, ...; run, measured and verdict
// only after their candidate; one verdict per n and nothing after it; attempts are numbered in
// order, measured belongs to the open one; a keep was measured. A torn last line (power cut) is cut
// off; any other bad line is an Error.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "agent/llm/money.h"
#include "common/files.h"

namespace autoresearch {

class Journal {
 public:
  // Opens or creates `path`; takes the run's lock (<path>.lock): one writer. Cuts a torn last line:
  // one that does not end, or holds the zeros that a file system leaves where data never arrived.
  explicit Journal(const fs::path& path);
  ~Journal();
  Journal(const Journal&) = delete;
  Journal& operator=(const Journal&) = delete;

  // Adds "time", writes one line, fsyncs. A failed write or fsync throws DurabilityError and must
  // end the run: every later append() throws too. Bytes that are not UTF-8 become U+FFFD.
  void append(nlohmann::json event);
  const std::vector<nlohmann::json>& events() const;

 private:
  FileLock lock_;
  fs::path path_;
  int fd_ = -1;
  bool failed_ = false;
  std::vector<nlohmann::json> events_;
};

// Reads without locking, for agent status and report; a torn last line is ignored.
std::vector<nlohmann::json> read_journal(const fs::path& path);

struct Experiment {
  int64_t n = 0;  // 0 is the baseline
  std::string commit, parent, idea, why, proposer, fingerprint;
  std::vector<std::string> constants, areas;  // that the edit touched (agent/edit/edit_summary.h)
  std::vector<std::string> failed;  // fingerprints of its candidates that a repair replaced
  int attempts = 0;                 // runs that were started
  int interrupted = 0;              // of the present commit's: those that a later one found open
  bool open = false;                // the last attempt has neither measured nor verdict
  pid_t pid = 0;                    // of the open attempt
  uint64_t start_time = 0;
  std::optional<nlohmann::json> measured;  // of the last attempt
  std::string status;                      // "" until there is a verdict
  std::string reason;                      // of a crash or a discard, one line
  std::string start_utc, end_utc;
};

// Everything that the loop needs to go on: a pure function of the events.
struct RunState {
  nlohmann::json start;                 // the first start event; null before it
  std::vector<Experiment> experiments;  // by n, without gaps
  std::string champion;                 // commit; empty before the baseline is kept
  int64_t champion_n = -1;
  double best_bpb = 0;
  Spending spending;  // on models
  std::map<std::string, int>
      came_to_nothing;               // proposals that never became a candidate, by proposer
  std::vector<std::string> backlog;  // the latest ten NEXT lines that were not tried as an idea
};
// Throws Error where an invariant does not hold, with the event's number, which is its line.
RunState replay(const std::vector<nlohmann::json>& events);

// The key of the baseline's `measured` event, and of train.json, that says which operations are not
// fused on this device, in a sentence; or "all".
constexpr const char* kFusedOperations = "fused_operations";

// That sentence, in one line; empty if all are fused.
std::string slow_operations(const RunState& state);

}  // namespace autoresearch
