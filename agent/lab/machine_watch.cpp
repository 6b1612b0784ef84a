#include "agent/lab/machine_watch.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <set>
#include <sstream>
#include <string>
#include <utility>

#include "common/clock.h"
#include "common/limits.h"

namespace autoresearch {
namespace {

using Clock = std::chrono::steady_clock;

constexpr double kAccountSeconds = 1;   // processor time is counted in hundredths of a second
constexpr double kStandstill = 2;       // between two ticks: the parent itself was stopped,
constexpr double kStandstillCpu = 0.1;  // if the child computed for less than this share of it
constexpr double kOthersCores = 0.1;    // that others must take, and
constexpr double kWaitingShare = 0.05;  // the child must wait, to count as contended

double seconds_between(Clock::time_point from, Clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

// "some avg10=0.00 avg60=0.00 avg300=0.00 total=1234": the total, from microseconds. A control
// group has its own file, `cpu.pressure`; the machine's is /proc/pressure/cpu.
double pressure(const fs::path& folder, const std::string& what) {
  std::ifstream file(folder / (folder == "/proc/pressure" ? what : what + ".pressure"));
  std::string line;
  std::getline(file, line);
  const size_t at = line.find("total=");
  return at == std::string::npos ? 0 : 1e-6 * std::atof(line.c_str() + at + 6);
}

// What quotas took so far, of the group that lost most.
double throttled(const std::vector<fs::path>& groups) {
  double most = 0;
  for (const fs::path& group : groups) {
    std::ifstream file(group / "cpu.stat");
    std::string key;
    for (double value = 0; file >> key >> value;) {
      if (key == "throttled_usec") most = std::max(most, 1e-6 * value);  // version 2
      if (key == "throttled_time") most = std::max(most, 1e-9 * value);  // version 1
    }
  }
  return most;
}

struct Cpus {
  double busy = 0, stolen = 0;  // seconds
};

// Lines "cpu3 user nice system idle iowait irq softirq steal ...", of the CPUs named.
Cpus time_of(const std::vector<int>& cpus) {
  std::set<std::string> names;
  for (const int cpu : cpus) names.insert("cpu" + std::to_string(cpu));
  const double second = static_cast<double>(sysconf(_SC_CLK_TCK));
  Cpus sum;
  std::ifstream file("/proc/stat");
  for (std::string line; std::getline(file, line) && line.starts_with("cpu");) {
    std::istringstream fields(line);
    std::string name;
    double user = 0, nice = 0, system = 0, idle = 0, io = 0, irq = 0, softirq = 0, steal = 0;
    fields >> name >> user >> nice >> system >> idle >> io >> irq >> softirq >> steal;
    if (!names.contains(name)) continue;
    sum.busy += (user + nice + system + irq + softirq) / second;
    sum.stolen += steal / second;
  }
  return sum;
}

double computed_by(const ProcessTable& tree) {
  double seconds = 0;
  for (const auto& [pid, stat] : tree) seconds += stat.cpu_seconds;
  return seconds;
}

}  // namespace

void MachineWatch::begin(pid_t pid) {
  pid_ = pid;
  cpus_ = usable_cpus();
  state_.cores = usable_cores();
  last_ = read({});
  looked_ = last_.time;
}

// The child joins its groups a moment after it was forked. A new group's counters have begun with
// it; the machine's have not.
void MachineWatch::find_groups() {
  groups_ = control_groups("cpu", "/", std::to_string(pid_));
  last_.throttled = throttled(groups_);
  std::error_code ignored;
  if (groups_.empty() || !fs::exists(groups_.front() / "cpu.pressure", ignored)) return;
  pressure_ = groups_.front();
  read_pressure(last_);
}

void MachineWatch::tick() {
  const ProcessTable tree = trees_of({pid_});
  const auto now = Clock::now();
  const double gap = seconds_between(looked_, now), computed = computed_by(tree);
  const bool stopped = std::any_of(tree.begin(), tree.end(),
                                   [](const auto& process) { return process.second.state == 'T'; });
  // A frozen container stops the parent too, which finds a gap in which nobody computed.
  const bool frozen = gap > kStandstill && computed - computed_ < kStandstillCpu * gap;
  if (stopped || frozen) span_->stopped += gap;
  if (!std::exchange(ticked_, true)) find_groups();
  looked_ = now;
  computed_ = computed;
  if (seconds_between(last_.time, now) >= kAccountSeconds) account(read(tree));
}

void MachineWatch::next_phase() {
  account(read(trees_of({pid_})));
  span_ = span_ == &state_.startup ? &state_.training : &state_.sealing;
}

MachineState MachineWatch::end(const Exit& exit) {
  Counters now = read({});
  now.tree_cpu = std::max(now.tree_cpu, exit.cpu_seconds);
  account(now);
  if (std::ifstream file("/proc/loadavg"); !(file >> state_.load)) state_.load = 0;
  state_.involuntary_switches = exit.involuntary_switches;
  state_.peak_rss_bytes = exit.peak_rss_bytes;
  return state_;
}

void MachineWatch::read_pressure(Counters& counters) const {
  counters.cpu_pressure = pressure(pressure_, "cpu");
  counters.io_pressure = pressure(pressure_, "io");
  counters.memory_pressure = pressure(pressure_, "memory");
}

MachineWatch::Counters MachineWatch::read(const ProcessTable& tree) {
  Counters now{.time = Clock::now(), .boot = boot_seconds()};
  const Cpus cpus = time_of(cpus_);
  now.machine_cpu = cpus.busy;
  now.stolen = cpus.stolen;
  now.throttled = throttled(groups_);
  read_pressure(now);
  for (const auto& [pid, stat] : tree) {
    now.faults += stat.major_faults;
    std::error_code gone;
    for (const auto& task :
         fs::directory_iterator("/proc/" + std::to_string(pid) + "/task", gone)) {
      double ran = 0, waited = 0;  // nanoseconds
      if (std::ifstream(task.path() / "schedstat") >> ran >> waited)
        waited_[std::atoi(task.path().filename().c_str())] = 1e-9 * waited;
    }
  }
  for (const auto& [thread, waited] : waited_) now.tree_waited += waited;
  // What ended took its figures with it, unless its parent waited for it.
  now.tree_cpu = std::max(computed_by(tree), last_.tree_cpu);
  now.faults = std::max(now.faults, last_.faults);
  return now;
}

// Adds what was counted since the last time to the present phase.
void MachineWatch::account(const Counters& now) {
  MachineSpan& span = *span_;
  state_.cores = std::min(state_.cores, usable_cores());  // a quota may come meanwhile
  const double seconds = seconds_between(last_.time, now.time);
  const double cpu = now.tree_cpu - last_.tree_cpu;
  const double others = now.machine_cpu - last_.machine_cpu - cpu;
  span.cpu_pressure += now.cpu_pressure - last_.cpu_pressure;
  // A kernel that counts no thread's waits (CONFIG_SCHED_INFO) may still tell of pressure.
  const double waited =
      waited_.empty() ? now.cpu_pressure - last_.cpu_pressure : now.tree_waited - last_.tree_waited;
  span.seconds += seconds;
  span.cpu_seconds += cpu;
  span.waited += waited;
  if (others >= kOthersCores * seconds && waited >= kWaitingShare * seconds) {
    span.contended += seconds;
    span.others_cpu += others;
  }
  span.stolen += now.stolen - last_.stolen;
  span.throttled += now.throttled - last_.throttled;
  span.io_pressure += now.io_pressure - last_.io_pressure;
  span.memory_pressure += now.memory_pressure - last_.memory_pressure;
  span.suspended += std::max(0.0, now.boot - last_.boot - seconds);
  span.major_faults += now.faults - last_.faults;
  look_at_gpu(seconds);
  last_ = now;
}

void MachineWatch::look_at_gpu(double seconds) {
  const auto look = gpu_.look();
  if (!look) return;
  if (look->foreign) span_->gpu_foreign += seconds;
  if (look->slowed) span_->gpu_slowed += seconds;
  span_->gpu_megahertz += seconds * look->megahertz;
  span_->gpu_hottest = std::max(span_->gpu_hottest, look->celsius);
}

}  // namespace autoresearch
