// Limits that the kernel itself keeps for a child and all that descends from it, in sum: memory of
// every kind and the number of processes. Only where our own control group lets us make groups
// below it: as root mostly, else in a delegated one, such as
//   systemd-run --user --scope -p Delegate=yes build/agent run ...
// Elsewhere there is no group, and run()'s own watch is what there is.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "common/descriptor.h"
#include "common/files.h"

namespace autoresearch {

class ControlGroup {
 public:
  ControlGroup() = default;  // none
  // A new group; a limit of 0 is none. Never throws: what can't be had is left out.
  ControlGroup(int64_t max_bytes, int64_t max_tasks);
  ~ControlGroup();  // removes the group, whose processes must have ended
  ControlGroup(ControlGroup&& other) noexcept;
  ControlGroup& operator=(ControlGroup&& other) noexcept;

  // Descriptors of its `cgroup.procs`: a process that writes "0" to each joins it.
  std::vector<int> entrances() const { return {entrances_.begin(), entrances_.end()}; }
  bool limits_memory() const { return !memory_.empty(); }
  bool limits_tasks() const { return !tasks_.empty(); }
  std::vector<pid_t> members() const;
  bool ran_out_of_memory() const;  // the kernel has ended one of its processes for that
  bool ran_out_of_tasks() const;   // one of its processes was refused another

 private:
  void add(const fs::path& folder);

  std::vector<fs::path> folders_;
  std::vector<Descriptor> entrances_;
  fs::path memory_, tasks_;  // those of the folders that have such a limit
};

}  // namespace autoresearch
