#include "common/process_table.h"

#include <dirent.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "common/files.h"

namespace autoresearch {
namespace {

std::string proc(pid_t pid, const char* name) {
  return "/proc/" + std::to_string(pid) + "/" + name;
}

// Calls `use` with the name of each entry of a folder; one that can't be read has none.
template <typename Use>
void for_each_entry(const std::string& folder, Use use) {
  DIR* open = opendir(folder.c_str());
  if (open == nullptr) return;
  while (const dirent* entry = readdir(open)) use(entry->d_name);
  closedir(open);
}

struct Status {
  int64_t peak = 0, shared = 0, file = 0;
};

Status read_status(pid_t pid) {
  Status status;
  std::ifstream file(proc(pid, "status"));
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("VmHWM:")) status.peak = std::atoll(line.c_str() + 6) * 1024;
    if (line.starts_with("RssShmem:")) status.shared = std::atoll(line.c_str() + 9) * 1024;
    if (line.starts_with("RssFile:")) status.file = std::atoll(line.c_str() + 8) * 1024;
  }
  return status;
}

using MemoryFiles = std::map<std::pair<dev_t, ino_t>, int64_t>;  // their bytes

// A memory file that is open and not mapped is in nobody's resident size.
void add_memory_files(pid_t pid, MemoryFiles& files) {
  const std::string folder = proc(pid, "fd");
  for_each_entry(folder, [&](const char* name) {
    const std::string path = folder + "/" + name;
    char target[8] = "";
    struct stat status = {};
    const bool found = readlink(path.c_str(), target, sizeof target) > 0 &&
                       std::string(target, 7) == "/memfd:" && stat(path.c_str(), &status) == 0;
    if (found) files[{status.st_dev, status.st_ino}] = int64_t{512} * status.st_blocks;
  });
}

int64_t used_bytes(const std::string& file_system) {
  struct statvfs status = {};
  if (statvfs(file_system.c_str(), &status) != 0) return 0;
  return static_cast<int64_t>((status.f_blocks - status.f_bfree) * status.f_frsize);
}

}  // namespace

std::optional<ProcessStat> read_stat(pid_t pid) {
  std::ifstream file(proc(pid, "stat"));
  // getline and not a stream iterator, which throws if the process has just ended.
  std::string text;
  std::getline(file, text, '\0');
  const size_t name_end = text.rfind(')');  // the name itself may hold spaces and brackets
  if (name_end == std::string::npos) return std::nullopt;
  std::istringstream rest(text.substr(name_end + 1));
  ProcessStat stat;
  rest >> stat.state >> stat.parent >> stat.group;
  std::string skipped;
  for (int field = 6; field < 12; ++field) rest >> skipped;
  int64_t faults = 0, childrens_faults = 0;
  rest >> faults >> childrens_faults;
  double ticks = 0, sum = 0;  // user and system, then of its children
  for (int field = 14; field < 18 && rest >> ticks; ++field) sum += ticks;
  rest >> skipped >> skipped;
  rest >> stat.threads >> skipped >> stat.start_time >> skipped >> stat.rss_bytes;
  if (!rest) return std::nullopt;
  stat.major_faults = faults + childrens_faults;
  stat.cpu_seconds = sum / static_cast<double>(sysconf(_SC_CLK_TCK));
  stat.rss_bytes *= sysconf(_SC_PAGESIZE);
  return stat;
}

ProcessTable all_processes() {
  ProcessTable result;
  for_each_entry("/proc", [&](const char* name) {
    const pid_t pid = std::atoi(name);
    if (pid <= 0) return;
    if (const auto stat = read_stat(pid)) result[pid] = *stat;
  });
  return result;
}

std::vector<pid_t> children_of(pid_t pid) {
  std::vector<pid_t> children;
  bool listed = false;
  const std::string tasks = proc(pid, "task");
  for_each_entry(tasks, [&](const char* name) {  // each thread has those that it has forked
    if (name[0] == '.') return;
    std::ifstream file(tasks + "/" + name + "/children");
    listed = listed || file.is_open();
    for (pid_t child = 0; file >> child;) children.push_back(child);
  });
  std::error_code gone;
  if (listed || !fs::exists(tasks, gone)) return children;
  for (const auto& [other, stat] : all_processes())
    if (stat.parent == pid) children.push_back(other);
  return children;
}

ProcessTable trees_of(const std::vector<pid_t>& roots) {
  ProcessTable trees;
  std::vector<pid_t> found = roots;
  while (!found.empty()) {
    const pid_t pid = found.back();
    found.pop_back();
    if (trees.contains(pid)) continue;
    const auto stat = read_stat(pid);
    if (!stat) continue;
    trees[pid] = *stat;
    const auto children = children_of(pid);
    found.insert(found.end(), children.begin(), children.end());
  }
  return trees;
}

std::set<pid_t> tree_of(const ProcessTable& processes, pid_t root) {
  std::multimap<pid_t, pid_t> children;
  std::vector<pid_t> found;
  for (const auto& [pid, stat] : processes) {
    children.emplace(stat.parent, pid);
    if (pid == root || stat.group == root) found.push_back(pid);
  }
  // The table isn't one moment's, so it might have a ring of parents: nobody is visited twice.
  std::set<pid_t> tree;
  while (!found.empty()) {
    const pid_t pid = found.back();
    found.pop_back();
    if (!tree.insert(pid).second) continue;
    const auto [begin, end] = children.equal_range(pid);
    for (auto child = begin; child != end; ++child) found.push_back(child->second);
  }
  return tree;
}

Usage usage_of(const ProcessTable& tree, pid_t init) {
  Usage usage;
  int64_t mapped = 0;
  MemoryFiles files;
  for (const auto& [pid, stat] : tree) {
    const Status status = read_status(pid);
    // Pages of files on disk, as of the libraries that all of them have mapped, are the kernel's to
    // drop, and the same ones in every process.
    usage.bytes += stat.rss_bytes - status.shared - status.file;
    usage.largest_peak = std::max(usage.largest_peak, status.peak);
    usage.tasks += stat.threads;
    mapped += status.shared;
    add_memory_files(pid, files);
  }
  // A mapped memory file is in the resident size of whoever touched it, and must not count twice.
  int64_t shared = 0;
  for (const auto& [file, bytes] : files) shared += bytes;
  if (init > 0)
    for (const char* folder : {"root/tmp", "root/dev/shm"})
      shared += used_bytes(proc(init, folder));
  usage.bytes += std::max(mapped, shared);
  return usage;
}

bool is_init_under(pid_t pid, pid_t parent) {
  const auto stat = read_stat(pid);
  if (!stat || (stat->parent != parent && stat->parent != getpid())) return false;
  std::ifstream file(proc(pid, "status"));
  for (std::string line; std::getline(file, line);)
    if (line.starts_with("NSpid:")) return line.ends_with("\t1") && line != "NSpid:\t1";
  return false;
}

}  // namespace autoresearch
