// What the data folder holds and who needs it: the list of runs, the deletion of one, and what
// nobody needs any more. Functions over folders; nothing here asks or prints.
#pragma once

#include <cstdint>
#include <ctime>
#include <optional>
#include <string>
#include <vector>

#include "common/files.h"

namespace autoresearch {

// A run as a look at its folder shows it.
struct RunSummary {
  fs::path folder = {};
  std::string tag = {}, task = {};
  std::string kit = {};      // fingerprint; empty: its journal does not say yet
  std::string machine = {};  // that it began on
  std::string holder = {};   // the process that runs it now; empty: none does
  bool paused = false;
  bool finished = false;                // it ended by itself: a limit, or nothing left to try
  std::string problem = {};             // why its journal can't be read; empty: it can
  std::optional<double> best = {};      // none before the baseline was measured
  int64_t experiments = 0;              // with a verdict, the baseline aside
  std::vector<int64_t> discarded = {};  // numbers of those that were not kept
  int64_t bytes = 0;                    // on disk, without its kit
  std::time_t last_activity = 0;
};

// The only function here that reads a journal.
RunSummary summary_of(const fs::path& run_dir);

// The runs of a data folder, the latest activity first.
std::vector<RunSummary> all_runs(const fs::path& data);

// "running", "paused", "stopped" (the same command goes on), "stopped, paused" (it goes on,
// paused), "finished", "not started" or "damaged".
std::string state_of(const RunSummary& run);

// One line a run below a header; then why those that are damaged can't be read.
std::string runs_table(const std::vector<RunSummary>& runs);

// A time in the user's zone; `pattern`: strftime's.
std::string local_time(double seconds_since_1970, const char* pattern);

// Space that a file or a folder with all in it takes on its disk, in bytes.
int64_t disk_usage(const fs::path& path);

// "12.3 MB"
std::string human_bytes(int64_t bytes);

// ------------------------------------------------------------------------------------------------

// All that is left of a run: what `agent delete` removes.
struct Remains {
  std::string tag = {};
  fs::path folder = {};      // empty: gone already
  int64_t bytes = 0;         // of the folder
  fs::path repository = {};  // of the checkout; empty: it is in none
  std::vector<std::string> refs = {};
  std::string branch = {};      // to be deleted; empty: none
  fs::path results = {};        // a link in the checkout to the run's results.tsv; empty: none
  std::string left_alone = {};  // what stays, and why, in a line; empty: nothing
};

// Throws Error if there is nothing of that tag, or if the run is alive.
Remains remains_of(const fs::path& data, const std::string& tag, const fs::path& checkout);
std::string describe(const Remains& remains);
// The branch first: git refuses to delete one that a worktree has checked out, and then nothing is
// removed. What a kill leaves of it, the same command removes.
void remove(const Remains& remains);

// ------------------------------------------------------------------------------------------------

// Something that can go without a loss to any run.
struct Leftover {
  fs::path path;
  std::string what;
  int64_t bytes = 0;
};

// Kits that no run names, partial folders, sealed models of discarded experiments. Nothing of a run
// that is alive, and no kit while a run that is alive or damaged does not say which one it uses.
// A partial folder counts after an hour, since its maker may be at work.
std::vector<Leftover> leftovers(const fs::path& data, const std::vector<RunSummary>& runs,
                                std::time_t now);
// Takes those out of `runs` that have begun, that nobody runs, and in which nothing has happened
// for `days`.
std::vector<RunSummary> take_idle(std::vector<RunSummary>& runs, std::time_t now, double days);
// Which run keeps all kits from going, and what helps, in a line; empty if none does.
std::string why_kits_stay(const std::vector<RunSummary>& runs);
std::string describe(const std::vector<Leftover>& leftovers);
// Throws Error, after all others are gone, with the first that could not be removed.
void remove(const std::vector<Leftover>& leftovers);

}  // namespace autoresearch
