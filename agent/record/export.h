// `agent export`: the kept changes of a run as patches that `git am` applies, one clean commit
// each, with their evidence in the message.
#pragma once

#include <string>
#include <vector>

#include "agent/record/figures.h"
#include "common/run_folder.h"

namespace autoresearch {

struct Patch {
  std::string name;  // of its file, "0001-a-wider-model.patch"
  std::string text;
};

// In the order of the run. What a proof dropped is among them, because what was kept after it was
// made on top of it; a patch of its own takes it out. Throws Error if a champion's source is
// missing.
std::vector<Patch> patches_of(const RunFolder& run, const RunState& state);

// Writes the patches and the champion's train.cpp into `folder`, in place of those of an earlier
// export. Returns what was written and how to use it, for the user.
std::string export_run(const RunFolder& run, const RunState& state, const fs::path& folder);

}  // namespace autoresearch
