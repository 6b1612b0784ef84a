// Watches the machine while one child runs. Cheap: the child's own processes five times a second,
// the machine's figures once a second.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <map>

#include "agent/lab/gpu_watch.h"
#include "agent/lab/machine_state.h"
#include "common/files.h"
#include "common/process.h"
#include "common/process_table.h"

namespace autoresearch {

// To be called from one thread, in this order: begin in Command::before_exec, tick in
// Command::tick, next_phase in Command::heard, end after run().
class MachineWatch {
 public:
  // `device` as train gets it, for the GPU's figures; empty: none.
  explicit MachineWatch(const std::string& device) : gpu_(device) {}

  void begin(pid_t pid);
  void tick();
  void next_phase();  // training begins, then sealing; what is told after that changes nothing
  MachineState end(const Exit& exit);

 private:
  // Of the child's processes and of the machine, since whenever.
  struct Counters {
    std::chrono::steady_clock::time_point time = {};
    double boot = 0;  // seconds since boot, suspension included
    double tree_cpu = 0, tree_waited = 0, machine_cpu = 0, stolen = 0, throttled = 0;
    double cpu_pressure = 0, io_pressure = 0, memory_pressure = 0;
    int64_t faults = 0;
  };
  Counters read(const ProcessTable& tree);
  void read_pressure(Counters& counters) const;
  void find_groups();
  void account(const Counters& now);
  void look_at_gpu(double seconds);

  GpuWatch gpu_;
  pid_t pid_ = 0;
  bool ticked_ = false;
  MachineState state_;
  MachineSpan* span_ = &state_.startup;
  std::vector<int> cpus_;
  std::vector<fs::path> groups_;                       // of the child, its own first
  fs::path pressure_ = "/proc/pressure";               // the folder whose files tell of pressure
  std::map<pid_t, double> waited_;                     // by thread, also those that have ended
  Counters last_;                                      // what has been accounted for
  std::chrono::steady_clock::time_point looked_ = {};  // at the child's processes
  double computed_ = 0;                                // their CPU seconds then
};

}  // namespace autoresearch
