// The record of a run: what train.json holds and the summary prints. No torch here.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/files.h"
#include "harness/profile.h"
#include "referee/score.h"

namespace autoresearch {

// At most 200 points, evenly spread over however many steps there are: when it is full, every
// second point is dropped and the stride doubles.
class LossCurve {
 public:
  struct Point {
    int64_t step;
    double seconds, loss;  // seconds since the first step; nats per token
  };
  static constexpr size_t kPoints = 200;

  void add(int64_t step, double seconds, double loss);
  const std::vector<Point>& points() const { return points_; }
  std::optional<double> latest() const { return latest_; }

 private:
  std::vector<Point> points_;
  int64_t stride_ = 1;
  std::optional<double> latest_;
};

// Where the time of a step goes: seconds by phase. The first step is left out if there are
// others, because it pays for what later ones find ready.
class StepPhases {
 public:
  static constexpr size_t kMost = 16;  // what comes after that many counts as "other"

  // A step's phases in turn, and their seconds; a phase may come several times.
  void add_step(const std::vector<std::pair<std::string, double>>& phases);

  std::map<std::string, double> ms_per_step() const;  // empty before a whole step was timed

 private:
  std::map<std::string, double> first_step_, seconds_;
  int64_t steps_ = 0;  // whole ones
};

struct Record {
  std::string task, device;
  int64_t seed = 0, steps = 0, tokens = 0, epoch = 1;
  double startup_seconds = 0;   // from the start of the program to the first step
  double training_seconds = 0;  // the budgeted time
  double total_seconds = 0;
  double peak_flops = 0;  // of the device; 0: unknown
  int64_t peak_memory_bytes = 0;
  std::string fused;  // why some operations are not fused on this device; empty: all are
  nlohmann::json facts = nlohmann::json::object();  // Run::describe
  LossCurve curve;
  StepPhases phases;
  std::optional<Profile> profile;
  std::optional<Score> score;  // standalone runs only: a handed-over model is scored elsewhere

  double tokens_per_second() const;
  // Model FLOP/s as a share of the device's peak, in per cent; 0 if either is unknown.
  double mfu_percent() const;
  nlohmann::json json() const;
  // The block after the line `---`: upstream's keys first and in its order, then ours.
  std::string summary() const;
};

}  // namespace autoresearch
