#include "common/limits.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <optional>
#include <sstream>
#include <utility>

namespace autoresearch {
namespace {

constexpr int64_t kNoLimit = std::numeric_limits<int64_t>::max();
constexpr int kMostCpus = 8192;  // that a set of them has room for
constexpr const char* kMachine = "the machine's own";

// The first number in a file; nothing if there is none ("max").
std::optional<int64_t> number_in(const fs::path& file) {
  int64_t number = 0;
  if (std::ifstream(file) >> number) return number;
  return std::nullopt;
}

int64_t available_in_system(const fs::path& root) {
  std::ifstream in(root / "proc/meminfo");
  for (std::string line; std::getline(in, line);) {
    constexpr std::string_view kKey = "MemAvailable:";
    if (line.starts_with(kKey)) return std::atoll(line.c_str() + kKey.size()) * 1024;
  }
  return kNoLimit;
}

// What a group allows itself and all below it: in version 2, then in version 1.
MemoryLimit limit_of(const fs::path& group) {
  MemoryLimit limit{kNoLimit, ""};
  for (const char* name : {"memory.max", "memory.high", "memory.limit_in_bytes"})
    if (const int64_t bytes = number_in(group / name).value_or(kNoLimit); bytes < limit.bytes)
      limit = {bytes, group / name};
  return limit;
}

int64_t used_by(const fs::path& group) {
  const auto used = number_in(group / "memory.current");
  return used ? *used : number_in(group / "memory.usage_in_bytes").value_or(0);
}

// Cores that a group's quota comes to; without end if it has none.
CoreLimit quota_of(const fs::path& group) {
  double quota = -1, period = 0;
  fs::path source = group / "cpu.max";
  if (std::ifstream two(source); !(two >> quota >> period)) {  // "50000 100000"
    source = group / "cpu.cfs_quota_us";
    quota = static_cast<double>(number_in(group / "cpu.cfs_quota_us").value_or(-1));
    period = static_cast<double>(number_in(group / "cpu.cfs_period_us").value_or(0));
  }
  if (quota <= 0 || period <= 0) return {std::numeric_limits<double>::infinity(), ""};
  return {quota / period, source};
}

}  // namespace

std::vector<fs::path> control_groups(const std::string& controller, const fs::path& root,
                                     const std::string& process) {
  const fs::path top = root / "sys/fs/cgroup";
  std::error_code ignored;
  std::vector<fs::path> groups;
  std::ifstream file(root / "proc" / process / "cgroup");
  for (std::string line; std::getline(file, line);) {  // "4:cpu,cpuacct:/a/b" or "0::/a/b"
    std::istringstream fields(line);
    std::string number, controllers, path;
    std::getline(fields, number, ':');
    std::getline(fields, controllers, ':');
    std::getline(fields, path);
    fs::path place = top;
    if (controllers.empty() && !fs::exists(top / "cgroup.controllers", ignored)) place /= "unified";
    if (!controllers.empty()) place /= controllers;
    const bool named = ("," + controllers + ",").find("," + controller + ",") != std::string::npos;
    if (!named && !controllers.empty()) continue;
    for (fs::path below = fs::path(path).relative_path();; below = below.parent_path()) {
      const fs::path group = below.empty() ? place : place / below;
      if (fs::exists(group, ignored)) groups.push_back(group);
      if (below.empty()) break;
    }
  }
  return groups;
}

MemoryLimit memory_limit(const fs::path& root) {
  MemoryLimit limit{int64_t{sysconf(_SC_PHYS_PAGES)} * sysconf(_SC_PAGE_SIZE), kMachine};
  for (const fs::path& group : control_groups("memory", root))
    if (MemoryLimit tighter = limit_of(group); tighter.bytes < limit.bytes)
      limit = std::move(tighter);
  return limit;
}

int64_t usable_memory(const fs::path& root) {
  constexpr double kShare = 0.9;
  return static_cast<int64_t>(kShare * static_cast<double>(memory_limit(root).bytes));
}

int64_t available_memory(const fs::path& root) {
  int64_t available = available_in_system(root);
  for (const fs::path& group : control_groups("memory", root))
    available = std::min(available, std::max<int64_t>(limit_of(group).bytes - used_by(group), 0));
  return available;
}

std::vector<int> usable_cpus() {
  std::vector<cpu_set_t> sets(kMostCpus / CPU_SETSIZE);
  const size_t size = sets.size() * sizeof(cpu_set_t);
  std::vector<int> cpus;
  if (sched_getaffinity(0, size, sets.data()) != 0) return {0};
  for (int cpu = 0; cpu < kMostCpus; ++cpu)
    if (CPU_ISSET_S(static_cast<size_t>(cpu), size, sets.data())) cpus.push_back(cpu);
  return cpus;
}

CoreLimit core_limit(const fs::path& root) {
  const auto cpus = static_cast<double>(usable_cpus().size());
  const bool all = cpus >= static_cast<double>(sysconf(_SC_NPROCESSORS_ONLN));
  CoreLimit limit{cpus, all ? kMachine : "affinity"};
  for (const fs::path& group : control_groups("cpu", root))
    if (CoreLimit tighter = quota_of(group); tighter.cores < limit.cores)
      limit = std::move(tighter);
  return limit;
}

double usable_cores(const fs::path& root) { return core_limit(root).cores; }

int usable_threads(const fs::path& root) {
  return std::max(1, static_cast<int>(std::ceil(usable_cores(root))));
}

int training_threads(const fs::path& root) {
  const char* named = std::getenv("OMP_NUM_THREADS");
  if (const int threads = named ? std::atoi(named) : 0; threads > 0) return threads;
  return std::max(1, usable_threads(root) - 1);
}

}  // namespace autoresearch
