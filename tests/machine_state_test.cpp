#include "agent/lab/machine_state.h"

#include <dlfcn.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <thread>

#include "agent/lab/machine_watch.h"
#include "common/sandbox.h"

namespace autoresearch {
namespace {

// A minute's training on one of two cores that lacked nothing.
MachineState quiet() {
  MachineState state;
  state.startup = {.seconds = 2, .cpu_seconds = 2};
  state.training = {.seconds = 60, .cpu_seconds = 60};
  state.sealing = {.seconds = 1, .cpu_seconds = 1};
  state.cores = 2;
  state.peak_rss_bytes = 1 << 30;
  return state;
}

const std::vector<MachineState> kNone, kPeers(3, quiet());

void expect_quiet(const MachineState& state) {
  EXPECT_EQ(disturbed(state, kNone).value_or(""), "");
  EXPECT_EQ(disturbed(state, kPeers).value_or(""), "");
}

void expect_disturbed(const MachineState& state, const std::string& why) {
  EXPECT_EQ(disturbed(state, kNone).value_or(""), why);
  EXPECT_EQ(disturbed(state, kPeers).value_or(""), why);
}

TEST(Disturbed, AMachineThatWasItselfIsNot) { expect_quiet(quiet()); }

TEST(Disturbed, OtherProcessesThatTookACoreAre) {
  MachineState state = quiet();
  state.training.cpu_seconds = 102;  // two threads, of which one has to share
  state.training.waited = 18;
  state.training.contended = 21;
  state.training.others_cpu = 18.9;
  expect_disturbed(state, "other processes took 0.9 of 2 cores for 21 s in training");
}

TEST(Disturbed, OthersThatTookACoreNobodyWantedAreNot) {
  MachineState state = quiet();
  state.training.waited = 1;
  state.training.contended = 60;
  state.training.others_cpu = 55;
  expect_quiet(state);
}

TEST(Disturbed, MoreThreadsThanCoresAreNoneByThemselves) {
  MachineState state = quiet();
  state.training.cpu_seconds = 118;
  state.training.waited = 240;
  state.training.contended = 4;
  state.training.others_cpu = 1;
  state.training.cpu_pressure = 60;
  expect_quiet(state);
  state.training.cpu_seconds = 90;  // in turns with a single thread
  expect_quiet(state);
}

TEST(Disturbed, FewerThreadsAreNone) {
  const std::vector<MachineState> peers(3, [] {
    MachineState peer = quiet();
    peer.training.cpu_seconds = 119;
    return peer;
  }());
  MachineState state = quiet();
  state.training.cpu_seconds = 30;
  EXPECT_EQ(disturbed(state, peers).value_or(""), "");
}

TEST(Disturbed, ALongStartOfItsOwnIsNone) {
  MachineState state = quiet();
  state.startup = {.seconds = 40, .cpu_seconds = 39, .waited = 0.5, .io_pressure = 0.4};
  state.sealing = {.seconds = 20, .cpu_seconds = 20};
  expect_quiet(state);
}

TEST(Disturbed, AStartThatAColdDiskHeldUpIs) {
  MachineState state = quiet();
  state.startup = {.seconds = 9, .cpu_seconds = 2, .io_pressure = 6.5, .major_faults = 812};
  expect_disturbed(state,
                   "the disk kept train waiting for 6.5 s before training (812 pages were not in "
                   "memory)");
}

TEST(Disturbed, ASealingThatABusyMinuteHeldUpIs) {
  MachineState state = quiet();
  state.sealing = {.seconds = 5, .cpu_seconds = 1, .waited = 4, .contended = 5, .others_cpu = 9.5};
  expect_disturbed(state, "other processes took 1.9 of 2 cores for 5 s after training");
}

TEST(Disturbed, ASealingThatIsOnlyALittleLateIsNot) {
  MachineState state = quiet();
  state.sealing = {
      .seconds = 1.5, .cpu_seconds = 1, .waited = 0.4, .contended = 1.5, .others_cpu = 2.5};
  expect_quiet(state);
}

TEST(Disturbed, ASuspendedMachineIs) {
  MachineState state = quiet();
  state.training.suspended = 3600;
  expect_disturbed(state, "the machine was suspended for 3600 s in training");
}

TEST(Disturbed, AStoppedChildIsInEachPhase) {
  MachineState state = quiet();
  state.startup.stopped = 5;
  expect_disturbed(state, "train stood still for 5.0 s before training: something had stopped it");
  state = quiet();
  state.training.stopped = 5;
  expect_disturbed(state, "train stood still for 5.0 s in training: something had stopped it");
  state = quiet();
  state.sealing.stopped = 5;
  expect_disturbed(state, "train stood still for 5.0 s after training: something had stopped it");
  state.sealing.stopped = 0.4;  // a debugger's glance
  expect_quiet(state);
}

TEST(Disturbed, TimeThatTheHostKeptIsAndTheUsualShareOfItIsNot) {
  MachineState state = quiet();
  state.training.stolen = 24;
  expect_disturbed(state, "the host of this virtual machine kept 20 % of 2 cores in training");
  EXPECT_EQ(disturbed(state, {state, state, quiet()}).value_or(""), "");
}

TEST(Disturbed, AQuotaThatTheChildAloneUsesUpIsNone) {
  MachineState state = quiet();
  state.cores = 0.5;
  state.training = {.seconds = 60, .cpu_seconds = 30, .waited = 30, .throttled = 30};
  EXPECT_EQ(disturbed(state, kNone).value_or(""), "");
  EXPECT_EQ(disturbed(state, {state}).value_or(""), "");
}

TEST(Disturbed, AQuotaThatCameLaterIs) {
  MachineState state = quiet();
  state.cores = 0.5;
  state.training.cpu_seconds = 30;  // all that it could have
  EXPECT_EQ(disturbed(state, kPeers).value_or(""),
            "0.5 of the usual 2 cores were left: a quota or the set of CPUs has changed");
  EXPECT_EQ(disturbed(state, kNone).value_or(""), "") << "the baseline knows no other";
  EXPECT_EQ(disturbed(state, {state, state, quiet()}).value_or(""), "") << "it is usual by now";
  state.cores = 1;
  state.training.cpu_seconds = 60;
  EXPECT_EQ(disturbed(state, kPeers).value_or(""), "") << "one thread needs no second core";
}

TEST(Disturbed, AQuotaThatOthersUseUpIs) {
  MachineState peer = quiet(), state = quiet();
  peer.cores = state.cores = 0.5;
  peer.training = {.seconds = 60, .cpu_seconds = 30, .waited = 30, .throttled = 30};
  state.training = {.seconds = 60,
                    .cpu_seconds = 15,
                    .waited = 45,
                    .contended = 60,
                    .others_cpu = 15,
                    .throttled = 30};
  EXPECT_EQ(disturbed(state, {peer}).value_or(""),
            "other processes took 0.2 of 0.5 cores for 60 s in training");
}

TEST(Disturbed, DataThatFellOutOfMemoryIsAndAChildsOwnFilesAreNot) {
  MachineState state = quiet();
  state.training.cpu_seconds = 40;
  state.training.io_pressure = 20;
  expect_quiet(state);
  state.training.major_faults = 5000;
  expect_disturbed(
      state, "the disk kept train waiting for 20.0 s in training: 5000 pages were not in memory");
}

TEST(Disturbed, ShortMemoryIsUnlessTheChildTookMoreItself) {
  MachineState state = quiet();
  state.training.memory_pressure = 9;
  expect_disturbed(state,
                   "memory was short for 9.0 s in training, and train took no more than usual");
  state.peak_rss_bytes *= 4;
  EXPECT_EQ(disturbed(state, kPeers).value_or(""), "");
}

TEST(Disturbed, AGpuThatOthersUseOrThatIsTooHotIs) {
  MachineState state = quiet();
  state.training.gpu_foreign = 30;
  expect_disturbed(state, "another process computed on the GPU for 30 s in training");
  state = quiet();
  state.training.gpu_slowed = 40;
  state.training.gpu_hottest = 91;
  expect_disturbed(state, "the GPU slowed itself down for 40 s in training, at up to 91 degrees");
  EXPECT_EQ(disturbed(state, {state}).value_or(""), "") << "it always is so hot here";
}

TEST(Disturbed, AMachineThatIsAlwaysBusyIsItsOwnMeasure) {
  MachineState busy = quiet();
  busy.training.cpu_seconds = 40;
  busy.training.waited = 20;
  busy.training.contended = 60;
  busy.training.others_cpu = 80;
  EXPECT_NE(disturbed(busy, kPeers), std::nullopt);
  EXPECT_EQ(disturbed(busy, {busy, busy, quiet()}).value_or(""), "");
  MachineState busier = busy;
  busier.training.cpu_seconds = 20;
  busier.training.waited = 40;
  EXPECT_NE(disturbed(busier, {busy, busy, quiet()}), std::nullopt);
}

Command shell(const std::string& script) {
  return {.argv = {"sh", "-c", script}, .env = {"PATH=/usr/bin:/bin"}};
}

// The watch, beside real children.
MachineState watched(Command command) {
  MachineWatch watch("");
  command.tells = true;
  command.before_exec = [&](pid_t pid, uint64_t) { watch.begin(pid); };
  command.tick = [&](double) { watch.tick(); };
  command.heard = [&](char) { watch.next_phase(); };
  const Exit exit = run(command);
  EXPECT_EQ(exit.code, 0);
  return watch.end(exit);
}

const std::string kComputes = "printf b >&5; timeout 3 sh -c 'while :; do :; done'; printf e >&5";

TEST(MachineWatch, EachPhaseHasItsOwnTimeAndProcessorTime) {
  const MachineState state = watched(shell(kComputes + "; sleep 0.5"));
  EXPECT_GE(state.training.seconds, 2.9);
  EXPECT_GE(state.sealing.seconds, 0.4);
  EXPECT_GT(state.training.cpu_seconds, 0.05);
  EXPECT_LE(state.training.cpu_seconds, state.training.seconds + 0.1);
  EXPECT_LT(state.sealing.cpu_seconds, state.training.cpu_seconds);
  EXPECT_GE(state.cores, 0.01);
  EXPECT_GT(state.peak_rss_bytes, 0);
}

TEST(MachineWatch, WhatRunsInASandboxIsSeenToo) {
  if (const auto problem = sandbox_problem()) GTEST_SKIP() << *problem;
  const MachineState state = watched(confine(shell(kComputes), {}));
  EXPECT_GE(state.training.seconds, 2.9);
  EXPECT_GT(state.training.cpu_seconds, 0.1);
}

TEST(MachineWatch, AStopIsSeenInItsPhase) {
  const MachineState state =
      watched(shell("printf b >&5; (sleep 2; kill -CONT $$) & kill -STOP $$; printf e >&5"));
  EXPECT_GT(state.training.stopped, 1);
  EXPECT_EQ(state.sealing.stopped, 0);
  EXPECT_NE(disturbed(state, {}).value_or("").find("stood still"), std::string::npos);
}

TEST(MachineWatch, WhatOthersTakeIsSeenAsTheirs) {
  std::vector<std::thread> others;
  std::atomic<bool> done = false;
  for (size_t i = 0; i < 2 * static_cast<size_t>(std::thread::hardware_concurrency()); ++i)
    others.emplace_back([&] {
      while (!done) {
      }
    });
  const MachineState state = watched(shell(kComputes));
  done = true;
  for (auto& other : others) other.join();
  EXPECT_GT(state.training.waited, 0.3);
  EXPECT_GT(state.training.others_cpu, 0.3);
  EXPECT_NE(disturbed(state, {}).value_or("").find("other processes took"), std::string::npos);
}

TEST(GpuWatch, WithoutNvmlOrAGpuThereIsNone) {
  EXPECT_FALSE(GpuWatch("").look());
  EXPECT_FALSE(GpuWatch("cpu").look());
}

// Beside a library that plays NVML.
TEST(GpuWatch, TellsOfOthersAndOfHeat) {
  void* nvml = dlopen(PLAYED_NVML, RTLD_NOW);  // from now on the library of that name
  ASSERT_NE(nvml, nullptr) << dlerror();
  setenv("CUDA_VISIBLE_DEVICES", "1,3", 1);
  EXPECT_FALSE(GpuWatch("cuda:0").look()) << "GPU 1";
  GpuWatch watch("cuda:1");
  unsetenv("CUDA_VISIBLE_DEVICES");
  auto look = watch.look();
  ASSERT_TRUE(look);
  EXPECT_EQ(look->megahertz, 1755);
  EXPECT_EQ(look->celsius, 64);
  EXPECT_FALSE(look->slowed || look->foreign);
  *static_cast<unsigned long long*>(dlsym(nvml, "nvml_reasons")) = 0x04;  // its power limit
  EXPECT_FALSE(watch.look()->slowed);
  *static_cast<unsigned long long*>(dlsym(nvml, "nvml_reasons")) = 0x24;  // heat as well
  EXPECT_TRUE(watch.look()->slowed);
  auto* other = static_cast<unsigned*>(dlsym(nvml, "nvml_other"));
  *other = 1;
  EXPECT_TRUE(watch.look()->foreign);
  run({.argv = {"sleep", "0.1"},
       .env = {"PATH=/usr/bin:/bin"},
       .before_exec = [&](pid_t pid, uint64_t) {
         *other = static_cast<unsigned>(pid);
         EXPECT_FALSE(watch.look()->foreign) << "a child of ours";
       }});
}

}  // namespace
}  // namespace autoresearch
