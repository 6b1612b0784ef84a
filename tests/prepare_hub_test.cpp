// `prepare --source climbmix` from a server on this machine: against what upstream makes of the
// same shards (tests/data/hub_golden.py), and killed at any moment.

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <map>
#include <random>
#include <thread>

#include "tests/file_server.h"
#include "tests/prepare_program.h"

namespace autoresearch {
namespace {

const fs::path kHub = fs::path(SOURCE_DIR) / "tests" / "data" / "hub";

class PrepareHubTest : public PrepareProgramTest {
 protected:
  PrepareHubTest() : server_([](const FileRequest&, FileAnswer& answer) { answer.piece = 4096; }) {
    for (const char* shard :
         {"shard_00000.parquet", "shard_00001.parquet", "shard_06542.parquet"}) {
      const std::string bytes = read_file(kHub / shard);
      server_.put(std::string("/") + shard, bytes, {{"ETag", "\"" + sha256(bytes) + "\""}});
    }
    golden_ = nlohmann::json::parse(read_file(kHub / "golden.json"));
  }

  std::string arguments() const {
    return "--source climbmix --shards 2 --base-url " + server_.url() + " --vocab " +
           golden_["vocab"].dump() + " --seq-len " + golden_["seq_len"].dump() + " --eval-tokens " +
           std::to_string(golden_["rows"].get<int64_t>() * golden_["seq_len"].get<int64_t>());
  }

  FileServer server_;
  nlohmann::json golden_;
};

TEST_F(PrepareHubTest, TokenizerAndValAreUpstreams) {
  const Output result = prepare(arguments());
  ASSERT_EQ(result.code, 0) << result.err;
  const fs::path task = data() / "climbmix";
  EXPECT_EQ(sha256_of_file(task / "tokenizer.tiktoken"),
            golden_["tokenizer_sha256"].get<std::string>());
  EXPECT_EQ(sha256_of_file(task / "heldout" / "val.bin"), golden_["val_sha256"].get<std::string>());
  const nlohmann::json json = task_json("climbmix");
  EXPECT_EQ(json["val"]["rows"], golden_["rows"]);
  EXPECT_EQ(json["test"]["rows"], golden_["rows"]);
  EXPECT_EQ(json["train"]["documents"], 1801);
  EXPECT_EQ(json["shards"], 2);
}

TEST_F(PrepareHubTest, WhatIsThereIsNotAskedForAgain) {
  ASSERT_EQ(prepare(arguments()).code, 0);
  const size_t requests = server_.requests().size();
  const Output again = prepare(arguments());
  EXPECT_EQ(again.code, 0);
  EXPECT_NE(again.out.find("already prepared"), std::string::npos);
  ASSERT_EQ(prepare(arguments() + " --force").code, 0);
  EXPECT_EQ(server_.requests().size(), requests);
  const Output fewer = prepare("--source climbmix --shards 1 --vocab 512 --seq-len 64");
  EXPECT_NE(fewer.err.find("--shards 2 (now 1)"), std::string::npos) << fewer.err;
}

TEST_F(PrepareHubTest, AShardThatIsNotThereIsNamedAndNothingIsMade) {
  const Output result = prepare("--source climbmix --shards 3 --base-url " + server_.url());
  EXPECT_EQ(result.code, 1);
  EXPECT_NE(result.err.find("shard_00002.parquet"), std::string::npos) << result.err;
  EXPECT_FALSE(fs::exists(data() / "climbmix"));
}

// Everything in the data folder but locks: path and content.
std::map<std::string, std::string> contents(const fs::path& folder) {
  std::map<std::string, std::string> result;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    const std::string name = entry.path().lexically_relative(folder);
    if (entry.is_regular_file() && !name.ends_with(".lock")) {
      result[name] = sha256_of_file(entry.path());
    }
  }
  return result;
}

TEST_F(PrepareHubTest, AShardDamagedInsideIsRemovedAndComesAnewWithTheNextCall) {
  ASSERT_EQ(prepare(arguments()).code, 0);
  const auto undisturbed = contents(data());
  const fs::path shard = data() / "downloads" / "climbmix" / "shard_00001.parquet";
  std::string bytes = read_file(shard);
  for (size_t i = 0; i < 200; ++i) bytes[bytes.size() / 3 + i] ^= '\x5A';
  write_file(shard, bytes);
  const Output broken = prepare(arguments() + " --force");
  EXPECT_EQ(broken.code, 1);
  EXPECT_NE(broken.err.find("shard_00001.parquet arrived damaged"), std::string::npos)
      << broken.err;
  EXPECT_NE(broken.err.find("run the same command again"), std::string::npos) << broken.err;
  ASSERT_EQ(prepare(arguments() + " --force").code, 0);
  EXPECT_EQ(contents(data()), undisturbed);
}

// How often; AUTORESEARCH_KILLS=200 build/tests/prepare_hub_test --gtest_filter='*Kill*'
int kills() {
  const char* wanted = std::getenv("AUTORESEARCH_KILLS");
  return wanted ? std::atoi(wanted) : 25;
}

// The program, killed after `delay`. False when it had ended by then.
bool run_and_kill(const std::string& command, const fs::path& data,
                  std::chrono::microseconds delay) {
  const pid_t child = fork();
  if (child == 0) {
    setenv("AUTORESEARCH_DATA", data.c_str(), 1);
    const int null = open("/dev/null", O_WRONLY);
    dup2(null, STDOUT_FILENO);
    dup2(null, STDERR_FILENO);
    execl("/bin/sh", "sh", "-c", ("exec '" PREPARE_PROGRAM "' " + command).c_str(), nullptr);
    _exit(127);
  }
  std::this_thread::sleep_for(delay);
  kill(child, SIGKILL);
  int status = 0;
  waitpid(child, &status, 0);
  return WIFSIGNALED(status);
}

TEST_F(PrepareHubTest, AKillAtAnyMomentCostsNothingButTime) {
  const auto begin = std::chrono::steady_clock::now();
  ASSERT_EQ(prepare(arguments()).code, 0);
  const auto whole = std::chrono::duration_cast<std::chrono::microseconds>(
      std::chrono::steady_clock::now() - begin);
  const auto undisturbed = contents(data());
  std::mt19937 random(std::random_device{}());
  int killed = 0, tries = 0;
  std::map<size_t, int> files_left;  // how far it had come, by the number of files it left
  while (killed < kills() && ++tries < 10 * kills()) {
    // From nothing, or over a task that is there.
    const bool anew = random() % 4 > 0;
    if (anew) fs::remove_all(data());
    const std::string command = arguments() + (anew ? "" : " --force");
    const std::chrono::microseconds delay(random() % static_cast<size_t>(whole.count()));
    killed += run_and_kill(command, data(), delay);
    if (fs::exists(data())) ++files_left[contents(data()).size()];
    if (!anew) {
      ASSERT_TRUE(fs::exists(data() / "climbmix" / "task.json")) << "the old task is gone";
    }
    const Output next = prepare(command);
    ASSERT_EQ(next.code, 0) << next.err;
    ASSERT_EQ(contents(data()), undisturbed) << "after a kill at " << delay.count() << " us";
  }
  EXPECT_GE(killed, kills());
  std::printf("%d kills; files left behind, and how often:", killed);
  for (const auto& [files, count] : files_left) std::printf(" %zu:%d", files, count);
  std::printf("\n");
}

// The same for a corpus of one's own, whose documents are shuffled on disk.
TEST_F(PrepareHubTest, AKillWhileFilesAreShuffledCostsNothingButTime) {
  fs::create_directories(dir_ / "corpus");
  std::mt19937 random(std::random_device{}());
  for (int i = 0; i < 400; ++i) {
    std::string text;
    for (int j = 0; j < 1000; ++j) text += "word" + std::to_string(random() % 5000) + " ";
    write_file(dir_ / "corpus" / (std::to_string(i) + ".txt"), text);
  }
  const std::string command =
      "--source " + (dir_ / "corpus").string() + " --vocab 300 --seq-len 64 --eval-tokens 6400";
  const auto begin = std::chrono::steady_clock::now();
  ASSERT_EQ(prepare(command).code, 0);
  const auto whole = std::chrono::duration_cast<std::chrono::microseconds>(
      std::chrono::steady_clock::now() - begin);
  const auto undisturbed = contents(data());
  int killed = 0;
  for (int tries = 0; killed < kills() && tries < 10 * kills(); ++tries) {
    fs::remove_all(data());
    const std::chrono::microseconds delay(random() % static_cast<size_t>(whole.count()));
    killed += run_and_kill(command, data(), delay);
    ASSERT_EQ(prepare(command).code, 0);
    ASSERT_EQ(contents(data()), undisturbed) << "after a kill at " << delay.count() << " us";
  }
  EXPECT_GE(killed, kills());
}

}  // namespace
}  // namespace autoresearch
