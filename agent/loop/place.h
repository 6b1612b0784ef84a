// Is this a place for a night? Looked at before the first compile, so that a mistake costs seconds.
// Each finding is one line that says what to type or to do.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "agent/loop/housekeeping.h"
#include "common/files.h"

namespace autoresearch {

// Whether files can be made in `folder`, or in the nearest folder above it that is there. Tried for
// real: permissions tell nothing of read-only mounts. `fix`: what the user can do about it.
std::optional<std::string> writing_problem(const fs::path& folder, const std::string& fix);

// What is free for this user on the disk of `folder`, which may not be there yet.
struct Room {
  int64_t bytes = 0;
  int64_t files = 0;  // that can still be made; the largest number if the disk has no such limit
};
Room room_of(const fs::path& folder);

// A run's need beside its kit: a copy of each kept model, logs and prompts, and what every child
// must leave free (common/process.h). `model_bytes`: of one sealed model; 0: not known yet.
Room room_needed(int64_t model_bytes, bool gpu);

// Nothing if `have` is enough. Pure.
std::optional<std::string> room_problem(const fs::path& folder, const Room& need, const Room& have);

// Libraries that a search path (LD_LIBRARY_PATH) puts before those that the programs were built
// with, as an environment of conda's does. `system`: the folders that the loader looks in without
// it; `rpath`: folders that the programs name themselves, which come before it.
std::optional<std::string> library_problem(const std::string& search_path,
                                           const std::vector<fs::path>& system,
                                           const std::vector<fs::path>& rpath);

// The loader's own folders, among them that of a Debian: /usr/lib/x86_64-linux-gnu.
std::vector<fs::path> system_libraries();

// Whether the checkout can have its links to the run (results.tsv, runs). Tried for real, in the
// words of a warning with the name of the file system.
std::optional<std::string> link_problem(const fs::path& checkout, const fs::path& run);

// The type of the file system with this device number. `mountinfo`: /proc/self/mountinfo. Pure.
std::string file_system_type(const std::string& mountinfo, dev_t device);

// Other runs that are alive on the machine that is called `machine`, a warning for each. Pure.
std::vector<std::string> other_runs(const std::vector<RunSummary>& runs, const std::string& own_tag,
                                    const std::string& machine);

// Where the commits of a run go, and why not into the user's repository. `reason`:
// History::own_reason(), git's own words among them. Pure.
std::string repository_note(const std::string& reason, const fs::path& checkout,
                            const fs::path& repository);

// The folder of a run that begins: gone again unless keep() is called, and unless another agent has
// begun to work in it. A folder that was there stays.
class FreshFolder {
 public:
  explicit FreshFolder(const fs::path& path);
  ~FreshFolder();
  FreshFolder(const FreshFolder&) = delete;
  FreshFolder& operator=(const FreshFolder&) = delete;
  void keep() { is_new_ = false; }

 private:
  const fs::path path_;
  bool is_new_ = false;
};

// `agent pause` and `agent resume`: the file `paused` in the run's folder. It outlives the agent,
// so a run that is started again stays paused.
void set_paused(const fs::path& run_dir, bool paused);
bool is_paused(const fs::path& run_dir);

}  // namespace autoresearch
