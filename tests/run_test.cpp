// A Run as train.cpp uses it, with a model of one table: how it ends, and what it records.

#include <c10/core/CPUAllocator.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <limits>
#include <nlohmann/json.hpp>

#include "common/error.h"
#include "common/files.h"
#include "harness/harness.h"

namespace autoresearch {
namespace {

fs::path temporary(const std::string& name) {
  return fs::temp_directory_path() / ("run_test." + std::to_string(getpid()) + "." + name);
}

// What was printed into a file, which is removed.
std::string taken(const fs::path& file) {
  const std::string text = read_file(file);
  fs::remove(file);
  return text;
}

struct Ended {
  int code;
  std::string out, err;
};

// `program` in a process of its own, as `train --task tiny --device cpu` and these arguments.
Ended run_program(int (*program)(int, char**), std::vector<std::string> args) {
  args.insert(args.begin(), {"train", "--task", "tiny", "--device", "cpu"});
  const fs::path out = temporary("out"), err = temporary("err");
  const pid_t child = fork();
  if (child == 0) {
    std::vector<char*> argv;
    for (std::string& arg : args) argv.push_back(arg.data());
    if (!std::freopen(out.c_str(), "w", stdout) || !std::freopen(err.c_str(), "w", stderr))
      _exit(9);
    const int code = run_main(static_cast<int>(argv.size()), argv.data(), program);
    std::fflush(stdout);
    _exit(code);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, taken(out), taken(err)};
}

void hand_over(Run& run) {
  const int64_t V = run.task().vocab_size;
  run.describe({{"depth", 1}, {"parameters", V * V}, {"micro_batch", 4}});
  run.model([table = at::randn({V, V})](at::Tensor ids) { return at::embedding(table, ids); });
}

at::Tensor loss(double value) { return at::full({}, value); }

int diverges_at_step_3(int argc, char** argv) {
  Run run(argc, argv);
  hand_over(run);
  while (run.next_step()) {
    std::printf("step %d\n", static_cast<int>(run.step()));
    run.batch(4);
    run.log_loss(loss(run.step() == 3 ? std::numeric_limits<double>::quiet_NaN() : 1.0));
  }
  return run.finish();
}

TEST(Run, ADivergingRunEndsWithExit3OneStepLaterAndHandsNothingOver) {
  const fs::path sealed = temporary("sealed");
  for (const char* steps : {"20", "4"}) {  // in the midst, and in the very last step
    const Ended ended =
        run_program(diverges_at_step_3, {"--steps", steps, "--seal", sealed.string()});
    EXPECT_EQ(ended.code, kDiverged) << ended.err;
    EXPECT_NE(ended.err.find("train: error: diverged"), std::string::npos) << ended.err;
    EXPECT_NE(ended.err.find("at step 3"), std::string::npos) << ended.err;
    EXPECT_EQ(ended.out.find("step 5"), std::string::npos) << "one more step at most";
    EXPECT_FALSE(fs::exists(sealed));
  }
}

int loss_grows(int argc, char** argv) {
  Run run(argc, argv);
  hand_over(run);
  while (run.next_step()) run.log_loss(loss(run.step() == 2 ? 100.5 : 99.5));
  return run.finish();
}

TEST(Run, ALossAbove100HasDiverged) {
  const Ended ended = run_program(loss_grows, {"--steps", "20"});
  EXPECT_EQ(ended.code, kDiverged);
  EXPECT_NE(ended.err.find("100.5 at step 2"), std::string::npos) << ended.err;
}

constexpr int64_t kPetabyte = int64_t{1} << 50;

int halves_until_one_row(int argc, char** argv) {
  Run run(argc, argv);
  hand_over(run);
  run.next_step();
  run.log_loss(loss(1));
  run.next_step();
  for (int64_t rows = 4;; rows = (rows + 1) / 2) {
    if (rows < 4) run.describe({{"micro_batch", rows}});
    try {
      run.batch(rows);
      at::empty({kPetabyte});
    } catch (const c10::OutOfMemoryError&) {
      if (rows == 1) throw;
      run.rewind_step();
    }
  }
}

TEST(Run, OutOfMemoryEndsWithExit4AndSaysWhatWasTried) {
  const Ended ended = run_program(halves_until_one_row, {"--steps", "20"});
  EXPECT_EQ(ended.code, kOutOfMemory) << ended.err;
  for (const char* words :
       {"train: error: out of memory in step 1", "micro-batches of 4, 2, 1 rows", "depth 1",
        "0.3 M parameters", "; use fewer layers"}) {
    EXPECT_NE(ended.err.find(words), std::string::npos) << words << " is not in: " << ended.err;
  }
}

int model_too_large(int argc, char** argv) {
  Run run(argc, argv);
  const at::Tensor table = at::zeros({kPetabyte});
  hand_over(run);
  return run.finish();
}

TEST(Run, AModelThatNeverFitsEndsWithExit4Too) {
  const Ended ended = run_program(model_too_large, {});
  EXPECT_EQ(ended.code, kOutOfMemory) << ended.err;
  EXPECT_NE(ended.err.find("out of memory before the first step"), std::string::npos) << ended.err;
}

struct NoMemory : c10::Allocator {
  c10::DataPtr allocate(size_t) override {
    TORCH_CHECK_WITH(OutOfMemoryError, false, "no memory (a test)");
  }
  void copy_data(void* to, const void* from, size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }
};

int device_is_full(int argc, char** argv) {
  static NoMemory none;
  c10::SetCPUAllocator(&none, 100);
  Run run(argc, argv);
  return run.finish();
}

TEST(Run, ADeviceThatIsFullBeforeThereIsAModelIsNamed) {
  const Ended ended = run_program(device_is_full, {});
  EXPECT_EQ(ended.code, kOutOfMemory) << ended.err;
  EXPECT_NE(ended.err.find("out of memory on cpu before there is a model; another process"),
            std::string::npos)
      << ended.err;
  EXPECT_EQ(ended.err.find("fewer layers"), std::string::npos) << ended.err;
}

int has_phases(int argc, char** argv) {
  Run run(argc, argv);
  hand_over(run);
  while (run.next_step()) {
    for (int piece = 0; piece < 2; ++piece) {
      run.batch(2);
      run.phase("forward");
      usleep(3000);
    }
    run.phase("optimizer");
    usleep(1000);
    run.log_loss(loss(1));
  }
  return run.finish();
}

TEST(Run, TheRecordTellsWhereAStepsTimeGoes) {
  const fs::path file = temporary("json"), sealed = temporary("sealed");
  const Ended ended =
      run_program(has_phases, {"--steps", "5", "--json", file.string(), "--seal", sealed.string()});
  ASSERT_EQ(ended.code, 0) << ended.err;
  const auto record = nlohmann::json::parse(taken(file));
  fs::remove(sealed);
  const auto phases = record.at("phases").get<std::map<std::string, double>>();
  EXPECT_GE(phases.at("ms_forward"), 6);
  EXPECT_GE(phases.at("ms_optimizer"), 1);
  EXPECT_GE(phases.at("ms_loader_wait"), 0);
  EXPECT_NE(ended.out.find("\nms_forward:"), std::string::npos) << ended.out;
  double sum = 0;
  for (const auto& [name, ms] : phases) sum += ms;
  // The first step counts among the seconds, but not among the phases.
  EXPECT_LE(4 * sum, 1000 * record.at("training_seconds").get<double>());
}

}  // namespace
}  // namespace autoresearch
