// Measures how long the phases of a step take, on the timeline of the device.
#pragma once

#include <ATen/ATen.h>
#include <c10/core/Event.h>

#include <chrono>
#include <string>
#include <vector>

#include "harness/record.h"

namespace autoresearch {

// On a GPU an event marks on the current stream where a phase begins. A phase lasts from when the
// GPU comes to its mark until it comes to the next one, so "loader_wait" is what copying rows
// takes, and the time in which the GPU has nothing to do because rows are not there. On a CPU a
// mark is a look at the clock.
//
// The events also keep the host at most one step ahead of the GPU, which so never waits for work.
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

  // On a CPU, adds the step's phases up. On a GPU it waits until the step before this one is done
  // and adds up that one's.
  void end_step(StepPhases& phases);
  void finish(StepPhases& phases);  // the same for the last step
  bool works() const { return !failed_; }

 private:
  struct Mark {
    std::string phase;  // that begins here; none at the end of the step
    std::chrono::steady_clock::time_point time;
  };
  struct Step {
    std::vector<Mark> marks;
    std::vector<c10::Event> events;  // of the marks, on a GPU; used again in every second step
  };
  void mark(const std::string& phase);
  void add(Step& step, StepPhases& phases);
  template <typename F>
  void attempt(F&& action);

  at::Device device_;
  std::string current_ = "other";
  Step step_, before_;  // the one under way; on a GPU also the one before it
  bool failed_ = false;
};

}  // namespace autoresearch
