// `train` as a user runs it: on the tiny task, and with the mistakes a user makes.

#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "common/files.h"
#include "common/process.h"

namespace autoresearch {
namespace {

class TrainCli : public testing::Test {
 protected:
  void SetUp() override {
    dir_ = fs::temp_directory_path() / ("train_cli_test." + std::to_string(getpid()));
    fs::create_directories(dir_);
  }
  void TearDown() override { fs::remove_all(dir_); }

  Exit program(const std::string& path, std::vector<std::string> args) {
    args.insert(args.begin(), path);
    Command command;
    command.argv = args;
    command.env = scrubbed_environment();
    command.env.push_back("AUTORESEARCH_DATA=" TEST_DATA);
    std::erase_if(command.env, [](auto& entry) { return entry.starts_with("OMP_NUM_THREADS="); });
    command.env.push_back("OMP_NUM_THREADS=" + threads_);
    command.cwd = dir_;
    command.limit = 120;
    return run(command);
  }
  Exit train(const std::vector<std::string>& args) { return program(TRAIN_PROGRAM, args); }

  static double value_of(const std::string& output, const std::string& key) {
    const size_t at = output.find("\n" + key + ":");
    return at == std::string::npos ? -1 : std::stod(output.substr(at + key.size() + 2));
  }

  fs::path dir_;
  std::string threads_ = "1";
};

TEST_F(TrainCli, ARunEndsWithItsScoreAndASealedModelScoresTheSame) {
  const Exit live = train({"--task", "tiny", "--device", "cpu", "--steps", "12", "--keep", "kept"});
  ASSERT_EQ(live.code, 0) << live.output;
  const double bpb = value_of(live.output, "val_bpb");
  EXPECT_GT(bpb, 0.5) << live.output;
  EXPECT_LT(bpb, 8) << live.output;
  EXPECT_EQ(value_of(live.output, "num_steps"), 12);

  const Exit sealed = train({"--task", "tiny", "--device", "cpu", "--steps", "12", "--seal",
                             "model.safetensors", "--json", "train.json"});
  ASSERT_EQ(sealed.code, 0) << sealed.output;
  EXPECT_EQ(sealed.output.find("val_bpb"), std::string::npos)
      << "a handed-over model is not scored";
  EXPECT_EQ(sha256_of_file(dir_ / "kept"), sha256_of_file(dir_ / "model.safetensors"));
  const Exit score = program(SCORE_PROGRAM, {"model.safetensors", "--task", "tiny", "--device",
                                             "cpu", "--json", "score.json"});
  ASSERT_EQ(score.code, 0) << score.output;
  const auto said = nlohmann::json::parse(read_file(dir_ / "score.json"));
  EXPECT_NEAR(said.at("val_bpb").get<double>(), bpb, 1e-6);

  const auto record = nlohmann::json::parse(read_file(dir_ / "train.json"));
  EXPECT_EQ(record.at("steps"), 12);
  EXPECT_FALSE(record.at("loss_curve").empty());
  EXPECT_GT(record.at("tokens_per_second").get<double>(), 0);
  EXPECT_GT(record.at("peak_memory_bytes").get<int64_t>(), 0);
  const auto& configuration = record.at("configuration");
  for (const char* name :
       {"depth", "width", "total_batch", "micro_batch", "parameters", "parameters_matrices",
        "parameters_embeddings", "lr_matrices", "flops_per_token", "precision"}) {
    EXPECT_TRUE(configuration.contains(name)) << name;
  }
  for (const char* phase : {"ms_forward", "ms_loss", "ms_backward", "ms_optimizer_matrices",
                            "ms_optimizer_tables", "ms_loader_wait"}) {
    EXPECT_GE(record.at("phases").at(phase).get<double>(), 0) << phase;
    EXPECT_GE(value_of(sealed.output, phase), 0) << phase;
  }
  EXPECT_FALSE(record.at("device").get<std::string>().empty());
}

TEST_F(TrainCli, TwoRunsWithOneSeedAreEqualToTheLastBitAndAnotherSeedIsNot) {
  const auto sealed = [&](const char* seed) {
    const Exit exit = train({"--task", "tiny", "--device", "cpu", "--steps", "3", "--seed", seed,
                             "--seal", "model", "--json", "train.json"});
    EXPECT_EQ(exit.code, 0) << exit.output;
    const auto record = nlohmann::json::parse(read_file(dir_ / "train.json"));
    std::string losses;
    for (const auto& point : record.at("loss_curve")) losses += point[2].dump() + " ";
    return std::pair(losses, read_file(dir_ / "model"));
  };
  for (const char* threads : {"1", "2"}) {
    threads_ = threads;
    const auto one = sealed("1"), again = sealed("1"), other = sealed("2");
    EXPECT_GT(one.second.size(), 100'000);
    EXPECT_EQ(one.first, again.first) << threads << " threads";
    EXPECT_TRUE(one.second == again.second) << threads << " threads";
    EXPECT_NE(one.first, other.first) << threads << " threads";
  }
}

TEST_F(TrainCli, TheBudgetIsKept) {
  const Exit exit = train({"--task", "tiny", "--device", "cpu"});
  ASSERT_EQ(exit.code, 0) << exit.output;
  EXPECT_GE(value_of(exit.output, "training_seconds"), 3.0);
  EXPECT_LT(value_of(exit.output, "training_seconds"), 6.0)
      << "the last step may end a little late";
}

TEST_F(TrainCli, AProcessorWithoutAvx2IsToldBeforeLibtorchNeedsIt) {
  write_file(dir_ / "cpuinfo", "processor\t: 0\nflags\t\t: fpu sse4_2 avx\n");
  for (const char* path : {TRAIN_PROGRAM, SCORE_PROGRAM}) {
    const Exit exit = program("bwrap", {"--dev-bind", "/", "/", "--ro-bind", dir_ / "cpuinfo",
                                        "/proc/cpuinfo", path, "--task", "no-such-task"});
    if (exit.output.starts_with("bwrap: ")) GTEST_SKIP() << exit.output;
    EXPECT_NE(exit.output.find("warning: this processor has no avx2 and no fma, and libtorch may"),
              std::string::npos)
        << exit.output;
  }
}

// Each program finds its libraries by its own run path: no system's cache, no environment. Among
// them are NVRTC's builtins, which NVRTC itself finds only where a CUDA toolkit is installed, and
// not libcuda, which machines without a GPU lack.
TEST_F(TrainCli, EveryLibraryIsFoundWithoutTheSystemsCache) {
  fs::path linker;
  for (const char* folder : {"/lib64", "/lib"})
    for (const auto& entry : fs::directory_iterator(folder))
      if (entry.path().filename().string().starts_with("ld-linux-")) linker = entry.path();
  ASSERT_FALSE(linker.empty());
  for (const char* path : {TRAIN_PROGRAM, SCORE_PROGRAM}) {
    const Exit list = program(linker, {"--inhibit-cache", "--list", path});
    EXPECT_EQ(list.code, 0) << list.output;
    EXPECT_NE(list.output.find("libtorch_cpu.so => /"), std::string::npos) << list.output;
    EXPECT_EQ(list.output.find("not found"), std::string::npos) << list.output;
    EXPECT_EQ(list.output.find("libcuda.so"), std::string::npos) << list.output;
    EXPECT_EQ(list.output.find("libnvrtc.") != std::string::npos,
              list.output.find("libnvrtc-builtins.") != std::string::npos)
        << list.output;
  }
}

// One line also says that no run began: a run's first line would be another.
TEST_F(TrainCli, MistakesGetOneLineAndTheNextCommand) {
  const std::string folder = dir_.string();
  const std::pair<std::vector<std::string>, std::string> mistakes[] = {
      {{"--task", "no-such-task"}, "prepare"},
      {{"--task", "tiny", "--device", "gpu"}, "--device auto, cpu, cuda or cuda:N"},
      {{"--task", "tiny", "--steps", "0"}, "--steps"},
      {{"--task", "tiny", "--steps", "0"}, "; build/train --help lists what there is"},
      {{"--unknown"}, "--unknown"},
      {{"--unknown"}, "; build/train --help lists what there is"},
      {{"--task", "tiny", "--seal", folder + "/none/m"}, "can't write " + folder + "/none/m"},
      {{"--task", "tiny", "--seal", "m", "--keep", "m"}, "--seal excludes --keep"},
      {{"--task", "tiny", "--json", folder + "/none/j"}, "can't write " + folder + "/none/j"},
      {{"--task", "tiny", "--seal", folder}, "can't write " + folder}};
  for (const auto& [args, expected] : mistakes) {
    const Exit exit = train(args);
    EXPECT_NE(exit.code, 0);
    EXPECT_TRUE(exit.output.starts_with("train: error: ")) << exit.output;
    EXPECT_NE(exit.output.find(expected), std::string::npos) << exit.output;
    EXPECT_EQ(std::count(exit.output.begin(), exit.output.end(), '\n'), 1) << exit.output;
  }
  EXPECT_TRUE(fs::is_empty(dir_));
}

}  // namespace
}  // namespace autoresearch
