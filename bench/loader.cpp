// How fast the training rows come: the packer alone, and the whole loader (documents found, packed,
// handed over as int64 tensors) with producer and consumer on one core and on two, over a task of
// its own making whose documents are as long as web text's. Beside them upstream's loader in
// Python, fed with encoded documents (bench/loader.py), in the same run on the same files.
//
//   build/bench/loader [PYTHON]     an interpreter that has torch; python3 where none is named

#include "harness/loader.h"

#include <ATen/Parallel.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <iostream>
#include <random>
#include <thread>

#include "agent/lab/machine.h"
#include "common/error.h"
#include "common/log.h"
#include "task/packing.h"

using namespace autoresearch;

namespace {

constexpr int64_t kShards = 4, kShardSize = 25'000'000;  // tokens in each
constexpr double kMeanLength = 800, kSpread = 1.0;       // log-normal: tokens, sigma of the log
constexpr uint16_t kVocab = 8192, kBosId = 8188;
constexpr double kTarget = 20;  // million tokens/s on one core

struct Shape {
  const char* name;
  int64_t seq_len;
  int64_t rows;   // in a batch, as train.cpp asks for on such a task
  bool passages;  // documents cut into passages of at most seq_len tokens
};
constexpr Shape kShapes[] = {{"web documents, T 2048, 128 rows a batch", 2048, 128, false},
                             {"passages, T 256, 4 rows a batch", 256, 4, true}};

class Stopwatch {
 public:
  double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

// A task's folder with training shards, gone afterwards.
class SyntheticTask {
 public:
  explicit SyntheticTask(const Shape& shape)
      : dir_(fs::temp_directory_path() / ("autoresearch-bench." + std::to_string(getpid()))) {
    fs::create_directories(dir_ / "train");
    info_.name = "bench";
    info_.vocab_size = kVocab;
    info_.seq_len = shape.seq_len;
    info_.bos = kBosId;
    for (int64_t s = 0; s < kShards; ++s) {
      const std::vector<uint16_t> tokens = shard(shape);
      info_.train.tokens += static_cast<int64_t>(tokens.size());
      write_file(dir_ / "train" / ("0000" + std::to_string(s) + ".bin"),
                 {reinterpret_cast<const char*>(tokens.data()), 2 * tokens.size()});
    }
  }
  ~SyntheticTask() {
    std::error_code ignored;
    fs::remove_all(dir_, ignored);
  }
  const fs::path& dir() const { return dir_; }
  const TaskInfo& info() const { return info_; }

 private:
  std::vector<uint16_t> shard(const Shape& shape) {
    std::lognormal_distribution<double> length(std::log(kMeanLength) - kSpread * kSpread / 2,
                                               kSpread);
    std::vector<uint16_t> tokens;
    while (tokens.size() < kShardSize) {
      const auto document = static_cast<int64_t>(length(random_)) + 1;
      for (int64_t i = 0; i < document; ++i) {
        if (i == 0 || (shape.passages && i % shape.seq_len == 0)) tokens.push_back(kBosId);
        tokens.push_back(static_cast<uint16_t>(random_() % kBosId));
      }
    }
    return tokens;
  }
  fs::path dir_;
  TaskInfo info_;
  std::mt19937_64 random_{1};
};

// Millions of tokens a second through a packer that is handed documents already found.
double packer_rate(const SyntheticTask& task) {
  std::vector<MappedTokens> shards;
  std::vector<std::span<const uint16_t>> documents;
  for (const fs::path& path : train_shards(task.dir(), task.info())) {
    const std::span<const uint16_t> tokens = shards.emplace_back(path).tokens();
    for (auto begin = tokens.begin(); begin != tokens.end();) {
      const auto end = std::find(begin + 1, tokens.end(), kBosId);
      documents.emplace_back(begin, end);
      begin = end;
    }
  }
  const int64_t row_tokens = task.info().seq_len + 1;
  size_t next = 0;
  Packer packer(row_tokens, [&](std::vector<Packer::Document>& batch) {
    while (batch.size() < Packer::kBatch && next < documents.size())
      batch.push_back(documents[next++]);
  });
  std::vector<uint16_t> row(static_cast<size_t>(row_tokens));
  int64_t tokens = 0;
  const Stopwatch watch;
  while (packer.next_row(row)) tokens += row_tokens;
  return static_cast<double>(tokens) / watch.seconds() / 1e6;
}

// Keeps this thread and those it starts to the first `count` of the cores it may use.
void use_cores(int count) {
  static const cpu_set_t allowed = [] {
    cpu_set_t set;
    sched_getaffinity(0, sizeof set, &set);
    return set;
  }();
  cpu_set_t chosen;
  CPU_ZERO(&chosen);
  for (int core = 0; core < CPU_SETSIZE && CPU_COUNT(&chosen) < count; ++core) {
    if (CPU_ISSET(core, &allowed)) CPU_SET(core, &chosen);
  }
  check(CPU_COUNT(&chosen) == count && sched_setaffinity(0, sizeof chosen, &chosen) == 0,
        format("this machine has no %d cores to measure on", count));
}

double two_epochs(const SyntheticTask& task, const Shape& shape) {
  const Stopwatch watch;
  Loader loader(task.dir(), task.info(), at::kCPU);
  int64_t tokens = 0;
  for (int64_t epoch = 1; epoch <= 2; tokens += shape.rows * shape.seq_len) {
    loader.begin_step();
    epoch = loader.next(shape.rows).epoch;
  }
  return static_cast<double>(tokens) / watch.seconds() / 1e6;
}

// Millions of tokens a second out of a loader, from its construction on, two epochs long; the best
// of three, since others may use the machine.
double loader_rate(const SyntheticTask& task, const Shape& shape, int cores) {
  use_cores(cores);
  double best = 0;
  for (int i = 0; i < 3; ++i) best = std::max(best, two_epochs(task, shape));
  return best;
}

// Nanoseconds a token that the training thread spends in next() while rows are ready: the median.
double consumer_cost(const SyntheticTask& task, const Shape& shape) {
  Loader loader(task.dir(), task.info(), at::kCPU);
  std::vector<double> spent(101);
  for (double& seconds : spent) {
    loader.begin_step();
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    const Stopwatch watch;
    loader.next(shape.rows);
    seconds = watch.seconds();
  }
  std::nth_element(spent.begin(), spent.begin() + 50, spent.end());
  return spent[50] / static_cast<double>(shape.rows * shape.seq_len) * 1e9;
}

double startup_milliseconds(const SyntheticTask& task) {
  const Stopwatch watch;
  Loader loader(task.dir(), task.info(), at::kCPU);
  loader.next(1);
  return watch.seconds() * 1e3;
}

// What bench/loader.py prints, in millions of tokens a second; 0 where it can't run.
double upstream_rate(const SyntheticTask& task, const Shape& shape, const std::string& python) {
  use_cores(1);
  const std::string command = python + " '" SOURCE_DIR "/bench/loader.py' '" + task.dir().string() +
                              "' " + std::to_string(shape.seq_len) + " " +
                              std::to_string(shape.rows) + " " + std::to_string(kBosId) +
                              " 2>/dev/null";
  FILE* pipe = popen(command.c_str(), "r");
  double rate = 0;
  if (pipe && fscanf(pipe, "%lf", &rate) != 1) rate = 0;
  if (pipe) pclose(pipe);
  return rate;
}

// Prints the rows of one shape; the loader's rate on one core.
double measure(const Shape& shape, const std::string& python) {
  const SyntheticTask task(shape);
  use_cores(1);
  std::printf("%s; M tokens/s\n", shape.name);
  std::printf("  packer alone            %8.1f\n", packer_rate(task));
  const double one_core = loader_rate(task, shape, 1);
  std::printf("  loader on one core      %8.1f\n", one_core);
  std::printf("  loader on two cores     %8.1f\n", loader_rate(task, shape, 2));
  const double upstream = upstream_rate(task, shape, python);
  if (upstream > 0) {
    std::printf("  upstream's rule, Python %8.2f  (ratio on one core %.0f)\n", upstream,
                one_core / upstream);
  } else {
    std::printf("  upstream's rule, Python: not run; name an interpreter that has torch\n");
  }
  use_cores(2);
  std::printf("  training thread %.2f ns a token; first row after %.1f ms\n",
              consumer_cost(task, shape), startup_milliseconds(task));
  std::fflush(stdout);
  return one_core;
}

}  // namespace

int main(int argc, char** argv) try {
  at::set_num_threads(1);
  std::printf("%s\n%lld M tokens of documents, %.0f on average\n", machine_name().c_str(),
              static_cast<long long>(kShards * kShardSize / 1'000'000), kMeanLength);
  double slowest = 1e9;
  for (const Shape& shape : kShapes)
    slowest = std::min(slowest, measure(shape, argc > 1 ? argv[1] : "python3"));
  std::printf("---\non one core: %.1f M tokens/s at least, target %.0f: %s\n", slowest, kTarget,
              slowest >= kTarget ? "met" : "missed");
} catch (const std::exception& error) {
  std::cerr << "loader: error: " << error.what() << "\n";
  return 1;
}
