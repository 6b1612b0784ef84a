#include "common/cgroup.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <fstream>
#include <mutex>
#include <set>
#include <utility>

#include "common/limits.h"

namespace autoresearch {
namespace {

// In version 2 only a group without processes of its own may limit those below it, so the agent
// moves into this one first.
constexpr const char* kOurs = "autoresearch-agent";

bool set(const fs::path& file, const std::string& value) {
  const Descriptor fd(open(file.c_str(), O_WRONLY | O_CLOEXEC));
  return fd >= 0 && write(fd, value.data(), value.size()) == static_cast<ssize_t>(value.size());
}

bool there(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

// Whether a file of "name count" lines has counted any `name`.
bool counted(const fs::path& path, const std::string& name) {
  std::ifstream file(path);
  std::string key;
  for (int64_t count = 0; file >> key >> count;)
    if (key == name && count > 0) return true;
  return false;
}

// Lets groups below `group`, of version 2, have limits. Returns where they are made.
fs::path opened(const fs::path& group) {
  if (group.filename() == kOurs) return group.parent_path();
  constexpr const char* kControllers = "+memory +pids";
  if (!there(group / "cgroup.subtree_control")) return group;  // version 1 needs nothing
  if (set(group / "cgroup.subtree_control", kControllers)) return group;
  std::error_code refused;
  fs::create_directory(group / kOurs, refused);
  if (!refused && set(group / kOurs / "cgroup.procs", "0") &&
      set(group / "cgroup.subtree_control", kControllers))
    return group;
  set(group / "cgroup.procs", "0");  // others are in it too: back, as if nothing had been
  fs::remove(group / kOurs, refused);
  return group;
}

}  // namespace

ControlGroup::ControlGroup(int64_t max_bytes, int64_t max_tasks) {
  // One at a time: while a first one moves the agent, a second would take that for its own place.
  static std::mutex mutex;
  static int count = 0;
  const std::lock_guard lock(mutex);
  const std::string name = fmt::format("autoresearch-{}-{}", getpid(), count++);
  std::set<fs::path> places;  // one in version 2 of the interface, two in version 1
  for (const char* controller : {"memory", "pids"})
    if (const auto groups = control_groups(controller); !groups.empty()) places.insert(groups[0]);
  for (const fs::path& own : places) {
    const fs::path folder = opened(own) / name;
    std::error_code refused;
    if (!fs::create_directory(folder, refused)) continue;
    const std::string bytes = std::to_string(max_bytes);
    bool limits = false;
    if (max_bytes > 0 &&
        (set(folder / "memory.max", bytes) || set(folder / "memory.limit_in_bytes", bytes))) {
      memory_ = folder;
      limits = true;
      set(folder / "memory.swap.max", "0");
      set(folder / "memory.oom.group", "1");
    }
    if (max_tasks > 0 && set(folder / "pids.max", std::to_string(max_tasks))) {
      tasks_ = folder;
      limits = true;
    }
    if (limits)
      add(folder);
    else
      fs::remove(folder, refused);
  }
}

void ControlGroup::add(const fs::path& folder) {
  folders_.push_back(folder);
  Descriptor fd(open((folder / "cgroup.procs").c_str(), O_WRONLY | O_CLOEXEC));
  if (fd >= 0) entrances_.push_back(std::move(fd));
}

ControlGroup::~ControlGroup() {
  entrances_.clear();
  std::error_code gone;
  for (const fs::path& folder : folders_)
    for (int i = 0; rmdir(folder.c_str()) != 0 && i < 50; ++i) {  // it ends a little later
      usleep(2000);
      for (const auto& own : fs::directory_iterator(folder, gone)) rmdir(own.path().c_str());
    }
}

ControlGroup::ControlGroup(ControlGroup&& other) noexcept { *this = std::move(other); }

ControlGroup& ControlGroup::operator=(ControlGroup&& other) noexcept {
  std::swap(folders_, other.folders_);
  std::swap(entrances_, other.entrances_);
  std::swap(memory_, other.memory_);
  std::swap(tasks_, other.tasks_);
  return *this;
}

std::vector<pid_t> ControlGroup::members() const {
  std::vector<pid_t> members;
  for (const fs::path& folder : folders_) {
    std::ifstream file(folder / "cgroup.procs");
    for (pid_t pid = 0; file >> pid;) members.push_back(pid);
  }
  return members;
}

bool ControlGroup::ran_out_of_memory() const {
  return !memory_.empty() && (counted(memory_ / "memory.events", "oom_kill") ||
                              counted(memory_ / "memory.oom_control", "oom_kill"));
}

bool ControlGroup::ran_out_of_tasks() const {
  return !tasks_.empty() && counted(tasks_ / "pids.events", "max");
}

}  // namespace autoresearch
