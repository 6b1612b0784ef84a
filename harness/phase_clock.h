// Measures how long the phases of a step take, on the timeline of the device.
#pragma once

#include <ATen/ATen.h>
#include <c10/core/Event.h>

#include <chrono>
#include <string>
#include <vector>

#include "harness/record.h"

namespace autoresearch {

// On a GPU an event marks on the current stream where a phase begins; the host waits for nothing
// but the end of the step, for which it waits anyway. A phase lasts from when the GPU comes to its
// mark until it comes to the next one, so "loader_wait" is what copying rows takes, and the time in
// which the GPU has nothing to do because rows are not there. On a CPU a mark is a look at the
// clock.
//
// An event that fails ends no run: from then on nothing is measured, and a warning says so.
class PhaseClock {
 public:
  explicit PhaseClock(at::Device device) : device_(device) {}
  ~PhaseClock();
  PhaseClock(const PhaseClock&) = delete;

  void begin_step();  // in "other"
  void enter(const std::string& phase);
  const std::string& current() const { return current_; }

  // Waits until the device has done the step's work, then adds its phases up.
  void end_step(Phases& phases);

 private:
  struct Mark {
    std::string phase;  // that begins here; none at the end of the step
    std::chrono::steady_clock::time_point time;
  };
  void mark(const std::string& phase);
  double seconds_after(size_t mark) const;
  template <typename F>
  void attempt(F&& action);

  at::Device device_;
  std::string current_ = "other";
  std::vector<Mark> marks_;         // of the step that is under way
  std::vector<c10::Event> events_;  // of the marks, on a GPU; used again in every step
  bool failed_ = false;
};

}  // namespace autoresearch
