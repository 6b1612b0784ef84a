#include "harness/phase_clock.h"

#include <c10/core/impl/VirtualGuardImpl.h>

#include "common/log.h"
#include "harness/device.h"

namespace autoresearch {

// After an error of CUDA every event would print a warning of its own while it is destroyed: then
// they are left to the end of the process.
PhaseClock::~PhaseClock() {
  try {
    synchronize(device_);
  } catch (const c10::Error&) {
    static_cast<void>(new std::vector<c10::Event>(std::move(events_)));
  }
}

void PhaseClock::begin_step() {
  marks_.clear();
  enter("other");
}

void PhaseClock::enter(const std::string& phase) {
  current_ = phase;
  attempt([&] { mark(phase); });
}

void PhaseClock::end_step(Phases& phases) {
  attempt([&] {
    mark("");
    if (!device_.is_cpu()) events_[marks_.size() - 1].synchronize();
    std::vector<std::pair<std::string, double>> lasted;
    for (size_t i = 0; i + 1 < marks_.size(); ++i)
      lasted.emplace_back(marks_[i].phase, seconds_after(i));
    phases.add_step(lasted);
  });
}

void PhaseClock::mark(const std::string& phase) {
  marks_.push_back({phase, std::chrono::steady_clock::now()});
  if (device_.is_cpu()) return;
  if (events_.size() < marks_.size())
    events_.emplace_back(device_.type(), c10::EventFlag::BACKEND_DEFAULT);
  events_[marks_.size() - 1].record(c10::impl::VirtualGuardImpl(device_.type()).getStream(device_));
}

double PhaseClock::seconds_after(size_t mark) const {
  if (!device_.is_cpu()) return events_[mark].elapsedTime(events_[mark + 1]) / 1000;
  return std::chrono::duration<double>(marks_[mark + 1].time - marks_[mark].time).count();
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
