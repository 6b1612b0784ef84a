// What the parent saw of the machine while one child ran, and whether the machine was itself then:
// a measurement counts only if it was. All of it comes from the kernel and the GPU's driver;
// nothing is told by the child.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace autoresearch {

// A stretch of time; all figures are sums over it, in seconds unless they are counts.
struct MachineSpan {
  double seconds = 0;      // wall time
  double cpu_seconds = 0;  // that the child's processes computed
  double waited = 0;       // that their threads were ready and had no core, added up over threads
  double contended = 0;    // in which they waited while others took a tenth of a core or more
  double others_cpu = 0;   // that others computed in it, on the cores that the child may use
  double stolen = 0;       // of these cores' time, that the host of a virtual machine kept
  double throttled = 0;    // of these cores' time, that a control group's quota took
  double cpu_pressure = 0, io_pressure = 0, memory_pressure = 0;  // some process waited for it
  double suspended = 0;                                           // the whole machine was
  double stopped = 0;        // the child was (SIGSTOP), or all was, the parent included
  int64_t major_faults = 0;  // pages that had to come from a disk
  double gpu_foreign = 0;    // another process computed on the GPU
  double gpu_slowed = 0;     // the GPU slowed itself down: heat, or too little power
  double gpu_megahertz = 0;  // of its cores, added up over seconds
  double gpu_hottest = 0;    // degrees Celsius; not a sum
};

struct MachineState {
  MachineSpan startup, training, sealing;
  double cores = 0;  // that the child could use: its CPUs, or what a quota leaves of them
  double load = 0;   // the machine's load average of the last minute, at the end
  int64_t involuntary_switches = 0;  // in all
  int64_t peak_rss_bytes = 0;        // of the largest process
};

// What was wrong with the machine, in one line with figures; nothing if it was itself. `peers` are
// the run's measurements on the same slot that count. What is usual there is no disturbance, so
// one that counts although it was disturbed at every repeat is a peer as well: a machine that is
// always busy is its own measure. A child's own doing (fewer or more threads, a longer start) is
// none either: something outside of it must have taken what it lacks. A child can feign some of it
// (reads of files that it has thrown out of memory); repeats are limited, so that gains it little.
std::optional<std::string> disturbed(const MachineState& state,
                                     const std::vector<MachineState>& peers);

}  // namespace autoresearch
