// PhaseClock on the CPU, and on a device that works off a queue as a GPU does, with a clock that
// only the test advances.
#include "harness/phase_clock.h"

#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <map>

#include "common/log.h"

namespace autoresearch {
namespace {

using c10::DeviceIndex;
using c10::Stream;

// ------------------------------------------------------------------------------------------------
// The device. Times are milliseconds.

const at::Device kDevice(at::kPrivateUse1, 0);

struct State {
  double host = 0;           // the time where the host is
  double busy_until = 0;     // when the device will have done all that it was given
  int events = 0;            // that were made
  int destroyed = 0;         // of them
  int until_failure = 1000;  // calls that will succeed before all fail
} device;

void host_does(double ms) { device.host += ms; }
void device_gets(double ms) { device.busy_until = std::max(device.host, device.busy_until) + ms; }
void host_waits_until(double time) { device.host = std::max(device.host, time); }

void count_call() { TORCH_CHECK(device.until_failure-- > 0, "an error of the device"); }
double time_of(void* event) { return *static_cast<double*>(event); }

struct FakeGuard : c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override { return at::kPrivateUse1; }
  c10::Device exchangeDevice(c10::Device) const override { return kDevice; }
  c10::Device getDevice() const override { return kDevice; }
  void setDevice(c10::Device) const override {}
  void uncheckedSetDevice(c10::Device) const noexcept override {}
  Stream getStream(c10::Device d) const override { return Stream(Stream::DEFAULT, d); }
  Stream exchangeStream(Stream s) const override { return s; }
  DeviceIndex deviceCount() const noexcept override { return 1; }

  // An event's time is that at which the device comes to it.
  void record(void** event, const Stream&, DeviceIndex, c10::EventFlag flag) const override {
    count_call();
    EXPECT_EQ(flag, c10::EventFlag::BACKEND_DEFAULT) << "other events tell no time";
    if (!*event) {
      *event = new double;
      ++device.events;
    }
    *static_cast<double*>(*event) = std::max(device.host, device.busy_until);
  }
  void destroyEvent(void* event, DeviceIndex) const noexcept override {
    delete static_cast<double*>(event);
    ++device.destroyed;
  }
  bool queryEvent(void* event) const override { return time_of(event) <= device.host; }
  void synchronizeEvent(void* event) const override { host_waits_until(time_of(event)); }
  void synchronizeDevice(DeviceIndex) const override {
    count_call();
    host_waits_until(device.busy_until);
  }
  double elapsedTime(void* from, void* to, DeviceIndex) const override {
    count_call();
    return time_of(to) - time_of(from);
  }
};

C10_REGISTER_GUARD_IMPL(PrivateUse1, FakeGuard)

// ------------------------------------------------------------------------------------------------
// Tests

class FakeDevice : public testing::Test {
 protected:
  void SetUp() override { device = {}; }
};

// What all steps that ended took, the last one too.
std::map<std::string, double> ms_per_step(PhaseClock& clock, StepPhases& phases) {
  clock.finish(phases);
  return phases.ms_per_step();
}

// As train.cpp does it. The host hands work over in a tenth of a millisecond, and waits for rows.
void one_step(PhaseClock& clock, StepPhases& phases, int micro_batches, double forward,
              double wait = 0) {
  clock.begin_step();
  for (int i = 0; i < micro_batches; ++i) {
    clock.enter("loader_wait");
    host_does(wait);
    for (const char* phase : {"forward", "backward"}) {
      clock.enter(phase);
      host_does(0.1);
      device_gets(phase == std::string("forward") ? forward : 2 * forward);
    }
  }
  clock.enter("optimizer");
  host_does(0.1);
  device_gets(1);
  clock.end_step(phases);
}

TEST_F(FakeDevice, APhaseLastsAsLongAsTheDeviceIsAtIt) {
  PhaseClock clock(kDevice);
  StepPhases phases;
  one_step(clock, phases, 4, 500);  // the first, which does not count
  for (const double forward : {4, 5, 6}) one_step(clock, phases, 4, forward);
  const auto ms = ms_per_step(clock, phases);
  EXPECT_NEAR(ms.at("forward"), 4 * 5, 1e-9);
  EXPECT_NEAR(ms.at("backward"), 4 * 10, 1e-9);
  EXPECT_NEAR(ms.at("optimizer"), 1, 1e-9);
  EXPECT_NEAR(ms.at("loader_wait"), 0, 1e-9);
  EXPECT_NEAR(ms.at("other"), 0, 1e-9);
}

TEST_F(FakeDevice, WaitingForRowsCountsWhereTheDeviceHasNothingElseToDo) {
  PhaseClock clock(kDevice);
  StepPhases phases;
  one_step(clock, phases, 1, 1);
  // Of the first wait the device spends 3.8 ms on the step before, of the second 2.9 ms on the
  // first micro-batch.
  one_step(clock, phases, 2, 1, 10);
  EXPECT_NEAR(ms_per_step(clock, phases).at("loader_wait"), (10 - 3.8) + (10 - 2.9), 1e-9);
}

TEST_F(FakeDevice, TheHostIsAStepAheadAndTheDeviceNeverWaits) {
  PhaseClock clock(kDevice);
  StepPhases phases;
  for (int step = 0; step < 10; ++step) {
    const double before = device.busy_until;  // when the step before will be done
    one_step(clock, phases, 2, 5);
    EXPECT_GE(device.host, before) << "two steps ahead";
    EXPECT_NEAR(device.busy_until - device.host, step == 0 ? 30.7 : 31, 0.5) << "a step is left";
  }
  EXPECT_TRUE(clock.works());
}

TEST_F(FakeDevice, EventsAreUsedAgainInEveryStep) {
  {
    PhaseClock clock(kDevice);
    StepPhases phases;
    one_step(clock, phases, 2, 1);
    const int needed = device.events;
    EXPECT_EQ(needed, 1 + 2 * 3 + 1 + 1);
    for (int step = 0; step < 51; ++step) one_step(clock, phases, 2, 1);
    EXPECT_EQ(device.events, 2 * needed) << "those of two steps";
    one_step(clock, phases, 3, 1);
    EXPECT_EQ(device.events, 2 * needed + 3);
    one_step(clock, phases, 1, 1);
    EXPECT_EQ(device.destroyed, 0);
  }
  EXPECT_EQ(device.destroyed, device.events);
}

TEST_F(FakeDevice, AStepThatIsRepeatedCountsWhole) {
  PhaseClock clock(kDevice);
  StepPhases phases;
  one_step(clock, phases, 1, 1);
  clock.begin_step();
  for (int attempt = 0; attempt < 2; ++attempt) {  // the first is broken off in "forward"
    clock.enter("loader_wait");
    clock.enter("forward");
    device_gets(3);
  }
  clock.enter("optimizer");
  device_gets(1);
  clock.end_step(phases);
  EXPECT_NEAR(ms_per_step(clock, phases).at("forward"), 6, 1e-9);
}

TEST_F(FakeDevice, WhereEventsFailTheStepsBeforeAreKeptAndTheRunGoesOn) {
  set_up_log("test");
  for (const int calls : {0, 1, 5, 10}) {  // while marks are set, and while they are read
    SCOPED_TRACE(calls);
    device = {};
    PhaseClock clock(kDevice);
    StepPhases phases;
    for (int step = 0; step < 3; ++step) one_step(clock, phases, 1, 4);
    const auto before = phases.ms_per_step();
    EXPECT_NEAR(before.at("backward"), 8, 1e-9);
    device.until_failure = calls;
    testing::internal::CaptureStderr();
    for (int step = 0; step < 3; ++step) EXPECT_NO_THROW(one_step(clock, phases, 1, 70));
    const std::string said = testing::internal::GetCapturedStderr();
    const auto warning = said.find("can't be timed: an error of the device\n");
    EXPECT_NE(warning, std::string::npos) << said;
    EXPECT_EQ(said.find("can't be timed", warning + 1), std::string::npos) << "said once";
    for (const auto& [name, ms] : phases.ms_per_step())
      EXPECT_NEAR(ms, before.at(name), 0.1) << name;
    EXPECT_FALSE(clock.works());
    clock.enter("validation");
    EXPECT_EQ(clock.current(), "validation");
  }
  EXPECT_EQ(device.destroyed, 0) << "a device in error would print a warning for each";
}

TEST(Cpu, APhaseLastsByTheClock) {
  PhaseClock clock(at::kCPU);
  StepPhases phases;
  for (int step = 0; step < 3; ++step) {
    clock.begin_step();
    EXPECT_EQ(clock.current(), "other");
    clock.enter("forward");
    usleep(3000);
    clock.enter("backward");
    usleep(1000);
    clock.end_step(phases);
  }
  EXPECT_GE(phases.ms_per_step().at("forward"), 3);
  EXPECT_GE(phases.ms_per_step().at("backward"), 1);
}

}  // namespace
}  // namespace autoresearch
