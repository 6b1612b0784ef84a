// Is the preset of train.cpp for this device a fair baseline? Trains it, with three seeds for its
// noise, and its neighbours on a small grid, each for the task's budget, and prints val_bpb of all.
//
//   build/bench/grid [TASK]

#include <algorithm>
#include <cmath>
#include <iostream>

#include "bench/workbench.h"

using namespace autoresearch;

namespace {

struct Point {
  std::string constant, value;
};

// One constant away from the preset. On a GPU these are hours; the CPU's take a few minutes.
const Point kCpuGrid[] = {
    {"kCpuDepth", "1"},      {"kCpuDepth", "3"},        {"kCpuAspect", "16"},
    {"kCpuAspect", "48"},    {"kCpuAspect", "64"},      {"kCpuHeadDim", "16"},
    {"kCpuHeadDim", "64"},   {"kCpuTotalBatch", "512"}, {"kCpuTotalBatch", "2048"},
    {"kMatrixLr", "0.02"},   {"kMatrixLr", "0.08"},     {"kEmbeddingLr", "0.3"},
    {"kEmbeddingLr", "1.2"}, {"kHeadLr", "0.002"},      {"kHeadLr", "0.008"},
    {"kWarmdown", "0.3"},    {"kWarmdown", "0.7"},      {"kWeightDecay", "0.0"}};

double measure(Workbench& workbench, const std::string& label, const std::string& source) {
  workbench.build("candidate", source);
  const Measured measured = workbench.measure("candidate");
  std::printf("%-26s seed %lld  val_bpb %.4f  steps %5lld  %.0f tokens/s\n", label.c_str(),
              static_cast<long long>(workbench.slot.seed), *measured.bpb,
              static_cast<long long>(measured.steps), measured.tokens_per_second);
  std::fflush(stdout);
  return *measured.bpb;
}

}  // namespace

int main(int argc, char** argv) try {
  Workbench workbench(BUILD_DIR, argc > 1 ? argv[1] : "demo");
  workbench.slot.device = "cpu";
  const std::string source = read_file(SOURCE_DIR "/train.cpp");
  std::printf("%s\n", machine_name().c_str());
  std::vector<double> preset;
  for (int64_t seed : {42, 43, 44}) {
    workbench.slot.seed = seed;
    preset.push_back(measure(workbench, "preset", source));
  }
  // One seed for the grid: the preset's range over three tells what a difference is worth.
  workbench.slot.seed = 42;
  double best = 1e9;
  std::string best_label;
  for (const auto& [constant, value] : kCpuGrid) {
    const std::string label = constant + " = " + value;
    const double bpb = measure(workbench, label, with_constant(source, constant, value));
    if (bpb < best) best = bpb, best_label = label;
  }
  const double mean = (preset[0] + preset[1] + preset[2]) / 3;
  const auto [low, high] = std::minmax_element(preset.begin(), preset.end());
  std::printf("---\npreset:   mean %.4f, range of three seeds %.4f\nbest:     %.4f (%s), %+.4f\n",
              mean, *high - *low, best, best_label.c_str(), best - mean);
} catch (const std::exception& error) {
  std::cerr << "grid: error: " << error.what() << "\n";
  return 1;
}
