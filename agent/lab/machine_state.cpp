#include "agent/lab/machine_state.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>

namespace autoresearch {
namespace {

constexpr double kShare = 0.05;      // of what a training wanted: less is noise
constexpr double kIoShare = 0.1;     // of a training's time that the disk may keep somebody waiting
constexpr double kWhole = 0.95;      // of what it could have: who had so much lacked nothing
constexpr double kStandstill = 0.5;  // seconds of suspension, or of a stop beside 1 % of the phase
constexpr double kExcess = 0.5;      // seconds by which a start-up or sealing may be late
constexpr int64_t kColdFaults = 100;
constexpr double kMoreMemory = 1.1;  // times the usual

using Cause = std::optional<std::string>;
using Phase = MachineSpan MachineState::*;

double part(double share, double whole) { return whole > 0 ? share / whole : 0; }

// The median over peers; 0 if there are none.
double usual(const std::vector<MachineState>& peers,
             const std::function<double(const MachineState&)>& figure) {
  if (peers.empty()) return 0;
  std::vector<double> figures;
  for (const MachineState& peer : peers) figures.push_back(figure(peer));
  std::nth_element(figures.begin(), figures.begin() + figures.size() / 2, figures.end());
  return figures[figures.size() / 2];
}

double rate(const MachineState& state) {
  return part(state.training.cpu_seconds, state.training.seconds);
}

// CPU seconds that others took from the child: no more than it waited for, and than they had.
double lost(const MachineSpan& span, double cores) {
  if (span.cpu_seconds >= kWhole * cores * span.seconds) return 0;
  return std::min(span.waited, span.others_cpu);
}

std::string others_took(const MachineSpan& span, double cores, const char* when) {
  return fmt::format("other processes took {:.1f} of {:g} cores for {:.0f} s {}",
                     part(span.others_cpu, span.contended), cores, span.contended, when);
}

// A machine or a child that stood still, in whatever phase.
Cause standstill(const MachineState& state) {
  const std::pair<Phase, const char*> phases[] = {{&MachineState::startup, "before training"},
                                                  {&MachineState::training, "in training"},
                                                  {&MachineState::sealing, "after training"}};
  for (const auto& [phase, when] : phases) {
    const MachineSpan& span = state.*phase;
    if (span.suspended > kStandstill)
      return fmt::format("the machine was suspended for {:.0f} s {}", span.suspended, when);
    if (span.stopped > kStandstill + 0.01 * span.seconds)
      return fmt::format("train stood still for {:.1f} s {}: something had stopped it",
                         span.stopped, when);
  }
  return std::nullopt;
}

// A quota, or a set of CPUs, that left less to compute with than the run's other trainings had.
Cause fewer_cores(const MachineState& state, const std::vector<MachineState>& peers) {
  const double before = usual(peers, [](const MachineState& peer) { return peer.cores; });
  const double needed = usual(peers, rate);
  if (state.cores >= kWhole * before || needed < kWhole * state.cores ||
      rate(state) >= kWhole * needed)
    return std::nullopt;
  return fmt::format(
      "{:g} of the usual {:g} cores were left: a quota or the set of CPUs has changed", state.cores,
      before);
}

// A training has its fixed time, so what counts is the share of it that was taken away.
Cause taken_cores(const MachineState& state, const std::vector<MachineState>& peers) {
  const auto lost_share = [](const MachineState& state) {
    MachineSpan span = state.training;
    return part(lost(span, state.cores), span.cpu_seconds + span.waited);
  };
  const auto stolen_share = [](const MachineState& state) {
    return part(state.training.stolen, state.cores * state.training.seconds);
  };
  // Who computes as much as others do and is throttled has asked for more than the quota.
  const bool own_doing = state.training.throttled > kShare * state.training.seconds &&
                         rate(state) >= kWhole * usual(peers, rate);
  if (!own_doing && lost_share(state) > usual(peers, lost_share) + kShare)
    return others_took(state.training, state.cores, "in training");
  if (const double stolen = stolen_share(state); stolen > usual(peers, stolen_share) + kShare)
    return fmt::format("the host of this virtual machine kept {:.0f} % of {:g} cores in training",
                       100 * stolen, state.cores);
  return std::nullopt;
}

Cause slow_disk_or_memory(const MachineState& state, const std::vector<MachineState>& peers) {
  const MachineSpan& span = state.training;
  const auto io = [](const MachineState& state) {
    return part(state.training.io_pressure, state.training.seconds);
  };
  const auto memory = [](const MachineState& state) {
    return part(state.training.memory_pressure, state.training.seconds);
  };
  const auto peak = [](const MachineState& state) {
    return static_cast<double>(state.peak_rss_bytes);
  };
  if (span.major_faults > kColdFaults && io(state) > usual(peers, io) + kIoShare &&
      (peers.empty() || rate(state) < kWhole * usual(peers, rate)))
    return fmt::format(
        "the disk kept train waiting for {:.1f} s in training: {} pages were not in memory",
        span.io_pressure, span.major_faults);
  if (memory(state) > usual(peers, memory) + kShare &&
      (peers.empty() || peak(state) <= kMoreMemory * usual(peers, peak)))
    return fmt::format(
        "memory was short for {:.1f} s in training, and train took no more than usual",
        span.memory_pressure);
  return std::nullopt;
}

Cause busy_gpu(const MachineState& state, const std::vector<MachineState>& peers) {
  const auto foreign = [](const MachineState& state) {
    return part(state.training.gpu_foreign, state.training.seconds);
  };
  const auto slowed = [](const MachineState& state) {
    return part(state.training.gpu_slowed, state.training.seconds);
  };
  if (foreign(state) > usual(peers, foreign) + kShare)
    return fmt::format("another process computed on the GPU for {:.0f} s in training",
                       state.training.gpu_foreign);
  if (slowed(state) > usual(peers, slowed) + kShare)
    return fmt::format(
        "the GPU slowed itself down for {:.0f} s in training, at up to {:.0f} degrees",
        state.training.gpu_slowed, state.training.gpu_hottest);
  return std::nullopt;
}

// Start-up and sealing take what they take: that they are late is a disturbance only if at least
// half of it is what something else took.
Cause late_for_others(const MachineState& state, const std::vector<MachineState>& peers,
                      Phase phase, const char* when) {
  const MachineSpan& span = state.*phase;
  const double expected =
      usual(peers, [&](const MachineState& peer) { return (peer.*phase).seconds; });
  const double late = span.seconds - expected;
  if (late <= kExcess + 0.1 * expected) return std::nullopt;
  const double cores = lost(span, state.cores), enough = late / 2;
  if (cores >= enough) return others_took(span, state.cores, when);
  if (span.stolen >= enough)
    return fmt::format("the host of this virtual machine kept the cores for {:.1f} s {}",
                       span.stolen, when);
  if (span.io_pressure >= enough)
    return fmt::format("the disk kept train waiting for {:.1f} s {} ({} pages were not in memory)",
                       span.io_pressure, when, span.major_faults);
  if (span.memory_pressure >= enough)
    return fmt::format("memory was short for {:.1f} s {}", span.memory_pressure, when);
  if (cores + span.stolen + span.io_pressure < enough) return std::nullopt;
  return fmt::format("the machine was busy for {:.1f} of {:.1f} s {}",
                     cores + span.stolen + span.io_pressure, span.seconds, when);
}

}  // namespace

std::optional<std::string> disturbed(const MachineState& state,
                                     const std::vector<MachineState>& peers) {
  if (Cause cause = standstill(state)) return cause;
  if (Cause cause = fewer_cores(state, peers)) return cause;
  if (Cause cause = taken_cores(state, peers)) return cause;
  if (Cause cause = busy_gpu(state, peers)) return cause;
  if (Cause cause = slow_disk_or_memory(state, peers)) return cause;
  if (Cause cause = late_for_others(state, peers, &MachineState::startup, "before training"))
    return cause;
  return late_for_others(state, peers, &MachineState::sealing, "after training");
}

}  // namespace autoresearch
