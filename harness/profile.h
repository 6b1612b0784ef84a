// The table of `train --profile`: which operators, or on a GPU which kernels, a step's time goes
// to. No torch here.
#pragma once

#include <chrono>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

namespace autoresearch {

// Figures are means per step.
struct Profile {
  static constexpr size_t kMostRows = 25;

  struct Row {
    std::string name;  // of printable ASCII, no longer than what a line of the table has room for
    double ms = 0;     // without what it calls
    double calls = 0;
  };
  int64_t steps = 0;
  double ms_per_step = 0;
  bool on_gpu = false;
  std::vector<Row> rows;  // the longest first; the last two are all others, and idle time

  double percent(const Row& row) const { return 100 * row.ms / ms_per_step; }
  std::string table() const;
  nlohmann::json json() const;
};

// A stretch of time in which one thread, or one stream of a GPU, was at `name`; in nanoseconds.
struct Span {
  std::string name;
  uint64_t lane;  // the thread, or the stream
  uint64_t begin, end;
};

// If spans of one lane lie within one another, each counts for the time that its inner ones leave.
// Time in which there is no span at all is idle.
Profile summarize(std::vector<Span> spans, int64_t steps, double seconds, bool on_gpu);

// Profiles a few steps of a run with libtorch's own profiler, which slows them: the 10th and those
// after it, or the last ones if there are fewer. Never the first, which pays for what later ones
// find ready. A profiler that fails ends no run. It works on the thread that makes the steps.
class Profiler {
 public:
  static constexpr int64_t kFirst = 10, kSteps = 5;

  explicit Profiler(bool on_gpu) : on_gpu_(on_gpu) {}
  ~Profiler() { stop(first_); }
  Profiler(const Profiler&) = delete;

  // To be called between two steps, while the device is at rest. `progress` is the share of the run
  // that is done, in [0, 1].
  void between_steps(int64_t steps_done, double progress);
  void stop(int64_t steps_done);

  const std::optional<Profile>& profile() const { return profile_; }
  std::string text() const;  // the table, or one line that says why there is none

 private:
  void start(int64_t steps_done);

  bool on_gpu_, running_ = false;
  int64_t first_ = 0;  // 0 before there is one
  std::chrono::steady_clock::time_point started_;
  std::optional<Profile> profile_;
  std::string failure_;
};

}  // namespace autoresearch
