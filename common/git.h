// Git's plumbing, run so that nobody's configuration, hooks or variables change what it does. Every
// GIT_* variable and the user's own configuration are left out; hooks, signing, conversions,
// automatic gc and fetching are off. Objects and refs are fsynced before a command returns.
#pragma once

#include <string>
#include <vector>

#include "common/files.h"

namespace autoresearch {

class Git {
 public:
  // Where commands work. Empty paths are left to git's own search, which begins at `cwd`.
  struct Place {
    fs::path cwd = {}, git_dir = {}, work_tree = {}, index = {};
    // With the user's configuration, which says whether a file counts as changed.
    bool users_config = false;
  };
  // What a command said, each stream as it was: a warning is never read as an answer.
  struct Reply {
    int code = 0;
    std::string out, err;
  };

  explicit Git(Place place) : place_(std::move(place)) {}

  // Throws Error only if git is not installed.
  Reply ask(const std::vector<std::string>& args, const std::string& input = "") const;
  // Its stdout. Throws Error with git's first line if the command fails.
  std::string must(const std::vector<std::string>& args, const std::string& input = "") const;
  const Place& place() const { return place_; }

 private:
  Place place_;
};

}  // namespace autoresearch
