// A Run as train.cpp uses it, with a model of one table: how it ends, and what it records.

#include <c10/core/CPUAllocator.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <torch/library.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <limits>
#include <nlohmann/json.hpp>

#include "common/budget.h"
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
// `before` is called there before there is a Run.
Ended run_program(int (*program)(Run&), std::vector<std::string> args, void (*before)() = nullptr) {
  args.insert(args.begin(), {"train", "--task", "tiny", "--device", "cpu"});
  const fs::path out = temporary("out"), err = temporary("err");
  const pid_t child = fork();
  if (child == 0) {
    std::vector<char*> argv;
    for (std::string& arg : args) argv.push_back(arg.data());
    if (!std::freopen(out.c_str(), "w", stdout) || !std::freopen(err.c_str(), "w", stderr))
      _exit(9);
    if (before) before();
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

int diverges_at_step_3(Run& run) {
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

int loss_grows(Run& run) {
  hand_over(run);
  while (run.next_step()) run.log_loss(loss(run.step() == 2 ? 100.5 : 99.5));
  return run.finish();
}

TEST(Run, ALossAbove100HasDiverged) {
  const Ended ended = run_program(loss_grows, {"--steps", "20"});
  EXPECT_EQ(ended.code, kDiverged);
  EXPECT_NE(ended.err.find("100.5 at step 2"), std::string::npos) << ended.err;
}

int goes_on_after_the_end(Run& run) {
  hand_over(run);
  for (int extra = 0; extra < 3; ++extra)
    while (run.next_step()) run.log_loss(loss(1));
  return run.finish();
}

int stops_early(Run& run) {
  hand_over(run);
  while (run.step() < 2 && run.next_step()) run.log_loss(loss(1));
  return run.finish();
}

TEST(Run, TheParentIsToldOnceWhenTrainingBeginsAndOnceWhenItEnds) {
  for (auto* program : {goes_on_after_the_end, stops_early}) {
    int ends[2];
    ASSERT_EQ(pipe(ends), 0);
    setenv(kClockVariable, std::to_string(ends[1]).c_str(), 1);
    const fs::path sealed = temporary("sealed");
    EXPECT_EQ(run_program(program, {"--steps", "5", "--seal", sealed.string()}).code, kDone);
    EXPECT_TRUE(fs::remove(sealed));
    unsetenv(kClockVariable);
    close(ends[1]);
    char words[8] = "";
    EXPECT_EQ(read(ends[0], words, sizeof words), 2);
    EXPECT_EQ(std::string(words, 2), "be");
    close(ends[0]);
  }
}

int takes_long_steps(Run& run) {
  hand_over(run);
  while (run.next_step()) {
    usleep(1'200'000);
    run.log_loss(loss(1));
  }
  return run.finish();
}

// Of a budget of 3 s, 3.5 s at most: a third step would end at 3.6 s.
TEST(Run, AStepThatWouldEndTooLateIsNotBegun) {
  const fs::path record = temporary("json"), sealed = temporary("sealed");
  EXPECT_EQ(
      run_program(takes_long_steps, {"--json", record.string(), "--seal", sealed.string()}).code,
      kDone);
  EXPECT_TRUE(fs::remove(sealed));
  EXPECT_EQ(nlohmann::json::parse(taken(record)).at("steps"), 2);
}

constexpr int64_t kPetabyte = int64_t{1} << 50;

int halves_until_one_row(Run& run) {
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

int model_too_large(Run& run) {
  const at::Tensor table = at::zeros({kPetabyte});
  hand_over(run);
  return run.finish();
}

TEST(Run, AModelThatNeverFitsEndsWithExit4Too) {
  const Ended ended = run_program(model_too_large, {});
  EXPECT_EQ(ended.code, kOutOfMemory) << ended.err;
  EXPECT_NE(ended.err.find("out of memory before the first step"), std::string::npos) << ended.err;
}

// What CUDA and its libraries say when they get no memory for themselves.
std::string lacking;

int lacks_memory(Run&) {
  if (lacking.starts_with("the CUDA kernel")) throw Error(lacking);
  TORCH_CHECK(lacking.empty(), lacking);
  throw std::bad_alloc();
}

TEST(Run, EveryLackOfMemoryEndsWithExit4) {
  for (const char* what :
       {"CUDA error: out of memory\nCUDA kernel errors might be asynchronous",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "the CUDA kernel rms_norm can't be loaded: out of memory", ""}) {
    lacking = what;
    const Ended ended = run_program(lacks_memory, {});
    EXPECT_EQ(ended.code, kOutOfMemory) << ended.err;
    EXPECT_NE(ended.err.find("train: error: out of memory before the first step"),
              std::string::npos)
        << ended.err;
  }
  lacking = "CUDA error: an illegal memory access was encountered";
  EXPECT_EQ(run_program(lacks_memory, {}).code, kError);
}

struct NoMemory : c10::Allocator {
  c10::DataPtr allocate(size_t) override {
    TORCH_CHECK_WITH(OutOfMemoryError, false, "no memory (a test)");
  }
  void copy_data(void* to, const void* from, size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }
};

TEST(Run, ADeviceThatIsFullBeforeThereIsAModelIsNamed) {
  const Ended ended = run_program(stops_early, {}, [] {
    static NoMemory none;
    c10::SetCPUAllocator(&none, 100);
  });
  EXPECT_EQ(ended.code, kOutOfMemory) << ended.err;
  EXPECT_NE(ended.err.find("out of memory on cpu before there is a model; another process"),
            std::string::npos)
      << ended.err;
  EXPECT_EQ(ended.err.find("fewer layers"), std::string::npos) << ended.err;
}

TEST(Run, AModelTooLargeToBeSealedIsRefusedBeforeTheFirstStepWithBothFigures) {
  const Ended ended = run_program(stops_early, {"--max-sealed-bytes", "1000000"});
  EXPECT_EQ(ended.code, kCannotSeal) << ended.err;
  // A table of 512 x 512 in float32, and the text of its graph.
  EXPECT_NE(ended.err.find("train: error: the sealed model would have 1048"), std::string::npos)
      << ended.err;
  EXPECT_NE(ended.err.find(" bytes; 1000000 are allowed\n"), std::string::npos) << ended.err;
  const fs::path sealed = temporary("sealed");
  setenv(kMaxSealedVariable, "2000000", 1);  // as the agent says it
  EXPECT_EQ(run_program(stops_early, {"--seal", sealed.string()}).code, kDone);
  EXPECT_LT(fs::file_size(sealed), 2000000u);
  EXPECT_TRUE(fs::remove(sealed));
  setenv(kMaxSealedVariable, "1000000", 1);
  EXPECT_EQ(run_program(stops_early, {"--seal", sealed.string()}).code, kCannotSeal);
  unsetenv(kMaxSealedVariable);
}

int has_phases(Run& run) {
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

// The twin of relu_squared is wrong from here on, so that no fused one agrees with it.
void spoil_relu() {
  static auto aten = MAKE_TORCH_LIBRARY_IMPL(aten, CPU);
  aten.impl("relu", [](const at::Tensor& x) { return at::zeros_like(x); });
}

TEST(Run, TheRecordTellsWhetherAllOperationsAreFusedAndWhyNot) {
  const fs::path file = temporary("json"), sealed = temporary("sealed");
  const auto fused_operations = [&](void (*before)()) {
    const Ended ended = run_program(
        has_phases, {"--steps", "1", "--json", file.string(), "--seal", sealed.string()}, before);
    EXPECT_EQ(ended.code, 0) << ended.err;
    fs::remove(sealed);
    return nlohmann::json::parse(taken(file)).at("fused_operations").get<std::string>();
  };
  EXPECT_EQ(fused_operations(nullptr), "all");
  const std::string warning = fused_operations(spoil_relu);
  EXPECT_TRUE(warning.starts_with("plain ATen computes relu_squared on cpu, ")) << warning;
}

// Trains a table and a matrix.
int has_operators(Run& run) {
  const int64_t V = run.task().vocab_size, C = 32;
  at::Tensor table = at::randn({V, C}), head = at::randn({V, C}) * 0.01;
  run.describe({{"depth", 1}, {"parameters", 2 * V * C}});
  run.model(
      [table, head](at::Tensor ids) { return at::matmul(at::embedding(table, ids), head.t()); });
  while (run.next_step()) {
    const Batch batch = run.batch(4);
    const at::Tensor w = table.detach().clone().requires_grad_();
    const at::Tensor v = head.detach().clone().requires_grad_();
    const at::Tensor x = at::embedding(w, batch.inputs.flatten());
    const at::Tensor mean = at::cross_entropy_loss(at::mm(x, v.t()), batch.targets.flatten());
    mean.backward();
    table.sub_(w.grad(), 0.1);
    head.sub_(v.grad(), 0.1);
    run.log_loss(mean);
  }
  return run.finish();
}

TEST(Run, AProfiledRunEndsWithATableOfItsOperatorsAndTrainsTheSame) {
  const fs::path file = temporary("json"), sealed = temporary("sealed");
  const auto train = [&](std::vector<std::string> more) {
    more.insert(more.end(), {"--steps", "16", "--json", file.string(), "--seal", sealed.string()});
    const Ended ended = run_program(has_operators, more);
    EXPECT_EQ(ended.code, 0) << ended.err;
    return std::tuple(ended, nlohmann::json::parse(taken(file)), taken(sealed));
  };
  const auto [plain, plain_record, plain_model] = train({});
  const auto [profiled, record, model] = train({"--profile"});
  EXPECT_TRUE(model == plain_model);
  EXPECT_EQ(plain.out.find("profile"), std::string::npos) << plain.out;
  EXPECT_FALSE(plain_record.contains("profile"));
  EXPECT_EQ(profiled.err.find("rror"), std::string::npos) << profiled.err;

  const size_t summary = profiled.out.find("\nms_loader_wait:");
  const size_t table = profiled.out.find("\nprofile: 5 steps, ");
  ASSERT_NE(table, std::string::npos) << profiled.out;
  EXPECT_LT(summary, table);
  const std::string lines = profiled.out.substr(table + 1);
  EXPECT_NE(lines.find(" ms each, by self time on the CPU\n"), std::string::npos) << lines;
  for (const char* name : {"x  aten::mm\n", "x  MmBackward0\n", "x  loader_wait\n"})
    EXPECT_NE(lines.find(name), std::string::npos) << name << " is not in\n" << lines;
  EXPECT_LE(std::count(lines.begin(), lines.end(), '\n'), 1 + 25);

  const auto& profile = record.at("profile");
  EXPECT_EQ(profile.at("steps"), 5);
  EXPECT_EQ(profile.at("on"), "CPU");
  const auto& rows = profile.at("operators");
  ASSERT_GE(rows.size(), 5u);
  double percent = 0, ms = 0;
  for (size_t i = 0; i < rows.size(); ++i) {
    percent += rows[i].at("percent").get<double>();
    ms += rows[i].at("ms").get<double>();
    if (i > 0 && i + 2 < rows.size()) {
      EXPECT_GE(rows[i - 1].at("ms").get<double>(), rows[i].at("ms").get<double>()) << i;
    }
    EXPECT_NE(lines.find("  " + rows[i].at("name").get<std::string>() + "\n"), std::string::npos);
  }
  EXPECT_NEAR(percent, 100, 0.1);
  EXPECT_NEAR(ms, profile.at("ms_per_step").get<double>(), 1e-3 * ms);
}

int leaves_after_step_12(Run& run) {
  hand_over(run);
  while (run.next_step() && run.step() <= 12) run.log_loss(loss(run.batch(2).epoch));
  return run.finish();
}

TEST(Run, AProfiledRunThatIsLeftEarlyTellsOfTheStepsItMade) {
  const fs::path sealed = temporary("sealed");
  const Ended ended =
      run_program(leaves_after_step_12, {"--steps", "40", "--profile", "--seal", sealed.string()});
  fs::remove(sealed);
  EXPECT_EQ(ended.code, 0) << ended.err;
  EXPECT_NE(ended.out.find("\nprofile: 3 steps, "), std::string::npos) << ended.out;
}

TEST(Run, OfOneStepThereIsNothingToProfile) {
  const fs::path sealed = temporary("sealed");
  const Ended ended =
      run_program(has_phases, {"--steps", "1", "--profile", "--seal", sealed.string()});
  fs::remove(sealed);
  EXPECT_EQ(ended.code, 0) << ended.err;
  EXPECT_NE(ended.out.find("\nprofile: nothing to profile, "), std::string::npos) << ended.out;
}

TEST(Run, AProfiledRunThatEndsInAProfiledStepEndsAsAnyOther) {
  const Ended diverged = run_program(diverges_at_step_3, {"--steps", "6", "--profile"});
  EXPECT_EQ(diverged.code, kDiverged) << diverged.err;
  EXPECT_NE(diverged.err.find("at step 3"), std::string::npos) << diverged.err;
  const Ended full = run_program(halves_until_one_row, {"--steps", "6", "--profile"});
  EXPECT_EQ(full.code, kOutOfMemory) << full.err;
  EXPECT_NE(full.err.find("out of memory in step 1"), std::string::npos) << full.err;
}

}  // namespace
}  // namespace autoresearch
