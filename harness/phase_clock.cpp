#include "harness/phase_clock.h"

#include <c10/core/impl/VirtualGuardImpl.h>

#include <utility>

#include "common/log.h"
#include "harness/device.h"

namespace autoresearch {

// After an error of CUDA every event would print a warning of its own while it is destroyed: then
// they are left to the end of the process.
PhaseClock::~PhaseClock() {
  try {
    synchronize(device_);
  } catch (const c10::Error&) {
    static_cast<void>(new std::pair<Step, Step>(std::move(step_), std::move(before_)));
  }
}

void PhaseClock::begin_step() {
  step_.marks.clear();
  enter("other");
}

void PhaseClock::enter(const std::string& phase) {
  current_ = phase;
  attempt([&] { mark(phase); });
}

void PhaseClock::end_step(StepPhases& phases) {
  attempt([&] {
    mark("");
    if (device_.is_cpu()) return add(step_, phases);
    add(before_, phases);
    std::swap(step_, before_);
  });
}

void PhaseClock::finish(StepPhases& phases) {
  attempt([&] { add(before_, phases); });
}

void PhaseClock::mark(const std::string& phase) {
  auto& [marks, events] = step_;
  marks.push_back({phase, std::chrono::steady_clock::now()});
  if (device_.is_cpu()) return;
  if (events.size() < marks.size())
    events.emplace_back(device_.type(), c10::EventFlag::BACKEND_DEFAULT);
  events[marks.size() - 1].record(c10::impl::VirtualGuardImpl(device_.type()).getStream(device_));
}

// Waits for the step's end. A step of no marks has been added before.
void PhaseClock::add(Step& step, StepPhases& phases) {
  const auto marks = std::exchange(step.marks, {});
  if (marks.empty()) return;
  if (!device_.is_cpu()) step.events[marks.size() - 1].synchronize();
  std::vector<std::pair<std::string, double>> lasted;
  for (size_t i = 0; i + 1 < marks.size(); ++i) {
    const double seconds =
        device_.is_cpu() ? std::chrono::duration<double>(marks[i + 1].time - marks[i].time).count()
                         : step.events[i].elapsedTime(step.events[i + 1]) / 1000;
    lasted.emplace_back(marks[i].phase, seconds);
  }
  phases.add_step(lasted);
}

template <typename F>
void PhaseClock::attempt(F&& action) {
  if (failed_) return;
  try {
    action();
  } catch (const c10::Error& error) {
    failed_ = true;
    const std::string what = error.what_without_backtrace();
    log_warning("the phases of a step can't be timed: " + what.substr(0, what.find('\n')));
  }
}

}  // namespace autoresearch
