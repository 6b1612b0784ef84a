#include "task/task.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>

#include "common/error.h"
#include "tests/support.h"

namespace autoresearch {
namespace {

// A data folder with one whole task, "small": 10 training tokens in two shards, 2 rows of 3 held
// out.
class TaskTest : public FolderTest {
 protected:
  TaskTest() {
    setenv("AUTORESEARCH_DATA", dir_.c_str(), 1);
    task_ = dir_ / "small";
    fs::create_directories(task_ / "train");
    fs::create_directories(task_ / "heldout");
    write_file(task_ / "train" / "00000.bin", std::string(12, 'a'));
    write_file(task_ / "train" / "00001.bin", std::string(8, 'b'));
    write_file(task_ / "heldout" / "val.bin", std::string("\1\0\2\0\3\0\4\0\5\0\6\1", 12));
    write_file(task_ / "heldout" / "test.bin", std::string(12, 'd'));
    info_.name = "small";
    info_.source = "here";
    info_.vocab_size = 300;
    info_.seq_len = 2;
    info_.eval_tokens = 4;
    info_.time_budget = 1.5;
    info_.bos = 296;
    info_.tokenizer_sha256 = "t";
    info_.train = {.documents = 3, .tokens = 10, .bytes = 30, .rows = 0, .sha256 = ""};
    info_.val = {.documents = 1, .tokens = 6, .bytes = 9, .rows = 2, .sha256 = ""};
    info_.val.sha256 = split_sha256({task_ / "heldout" / "val.bin"});
    info_.test = {.documents = 1, .tokens = 6, .bytes = 9, .rows = 2, .sha256 = ""};
    write_file(task_ / "task.json", to_json(info_));
  }

  static bool has(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
  }

  fs::path task_;  // in dir_, the data folder
  TaskInfo info_;
};

TEST_F(TaskTest, TaskJsonComesBackAsItWasWritten) {
  const TaskInfo info = load_task(task_);
  EXPECT_EQ(to_json(info), to_json(info_));
  EXPECT_EQ(info.time_budget, 1.5);
  EXPECT_EQ(info.val.rows, 2);
  EXPECT_EQ(info.train.tokens, 10);
}

TEST_F(TaskTest, IsFoundByNameAndByPath) {
  EXPECT_EQ(task_dir("small"), task_);
  EXPECT_EQ(task_dir(task_.string()), task_);
  EXPECT_EQ(only_task(), "small");
}

TEST_F(TaskTest, AMissingTaskNamesTheCommandThatMakesIt) {
  EXPECT_TRUE(has(error_of([] { task_dir("demo"); }), "build/prepare --source demo"));
  const std::string message = error_of([] { task_dir("books"); });
  EXPECT_TRUE(has(message, "--task books --source PATH")) << message;
  EXPECT_TRUE(has(message, "one of: small")) << message;
  EXPECT_TRUE(has(error_of([&] { task_dir((dir_ / "none").string()); }), "no task in"));
}

TEST_F(TaskTest, OfSeveralTasksOneMustBeNamed) {
  fs::create_directories(dir_ / "zoo");
  write_file(dir_ / "zoo" / "task.json", to_json(info_));
  fs::create_directories(dir_ / ".zoo.partial-1");
  write_file(dir_ / ".zoo.partial-1" / "task.json", to_json(info_));
  EXPECT_EQ(error_of([] { only_task(); }), "which task? Give --task with one of: small, zoo");
  fs::remove_all(dir_ / "zoo");
  fs::remove_all(dir_ / "small");
  EXPECT_TRUE(has(error_of([] { only_task(); }), "build/prepare --source demo"));
}

TEST_F(TaskTest, NamesThatAreNoFolderNamesAreRefused) {
  for (const std::string& name : std::vector<std::string>{
           "", ".", "..", ".hidden", "-x", "a b", "a\nb", "runs", "é", std::string(101, 'x')}) {
    EXPECT_NE(error_of([&] { check_task_name(name); }), "") << name;
  }
  for (const std::string name : {"demo", "tiny-stories_2.1"}) {
    EXPECT_EQ(error_of([&] { check_task_name(name); }), "") << name;
  }
}

TEST_F(TaskTest, ADamagedTaskJsonIsAnErrorNotADefault) {
  const std::string whole = to_json(info_);
  write_file(task_ / "task.json", whole.substr(0, whole.size() / 2));
  EXPECT_TRUE(has(error_of([&] { load_task(task_); }), "damaged"));
  write_file(task_ / "task.json", "{\"version\": 2}");
  EXPECT_TRUE(has(error_of([&] { load_task(task_); }), "damaged"));
  write_file(task_ / "task.json", "[]");
  EXPECT_TRUE(has(error_of([&] { load_task(task_); }), "damaged"));
  write_file(task_ / "task.json", "{\"version\": 7}");
  EXPECT_TRUE(has(error_of([&] { load_task(task_); }), "has version 7"));
  fs::remove(task_ / "task.json");
  EXPECT_TRUE(has(error_of([&] { load_task(task_); }), "task.json"));
  fs::create_directories(task_ / "task.json");
  EXPECT_TRUE(has(error_of([&] { load_task(task_); }), "--force"));
}

TEST_F(TaskTest, FiguresThatCannotBeAreRefused) {
  const auto message_with = [&](int64_t TaskInfo::*figure, int64_t value) {
    TaskInfo info = info_;
    info.*figure = value;
    write_file(task_ / "task.json", to_json(info));
    return error_of([&] { load_task(task_); });
  };
  EXPECT_EQ(message_with(&TaskInfo::seq_len, 2), "");
  for (const int64_t seq_len : {int64_t{-1}, int64_t{0}, int64_t{1}, INT64_MAX}) {
    const std::string message = message_with(&TaskInfo::seq_len, seq_len);
    EXPECT_TRUE(has(message, "task.json is damaged (seq_len is ")) << message;
    EXPECT_TRUE(has(message, "--force")) << message;
  }
  EXPECT_TRUE(has(message_with(&TaskInfo::vocab_size, 70'000), "vocab_size is 70000"));
  EXPECT_TRUE(has(message_with(&TaskInfo::bos, 300), "bos is 300"));
  TaskInfo info = info_;
  info.val.rows = -2;
  write_file(task_ / "task.json", to_json(info));
  EXPECT_TRUE(has(error_of([&] { load_task(task_); }), "val.rows is -2"));
  info = info_;
  info.time_budget = -1;
  write_file(task_ / "task.json", to_json(info));
  EXPECT_TRUE(has(error_of([&] { load_task(task_); }), "time_budget"));
}

TEST_F(TaskTest, TrainShardsComeInOrder) {
  const std::vector<fs::path> shards = train_shards(task_, load_task(task_));
  EXPECT_EQ(shards,
            (std::vector<fs::path>{task_ / "train" / "00000.bin", task_ / "train" / "00001.bin"}));
}

TEST_F(TaskTest, ATrainFolderCutShortIsRefused) {
  fs::resize_file(task_ / "train" / "00001.bin", 7);
  EXPECT_TRUE(has(error_of([&] { train_shards(task_, info_); }), "ends within a token"));
  fs::resize_file(task_ / "train" / "00001.bin", 6);
  const std::string message = error_of([&] { train_shards(task_, info_); });
  EXPECT_TRUE(has(message, "9 of 10 tokens")) << message;
  EXPECT_TRUE(has(message, "--force")) << message;
  fs::remove_all(task_ / "train");
  EXPECT_TRUE(has(error_of([&] { train_shards(task_, info_); }), "0 of 10 tokens"));
}

TEST_F(TaskTest, HeldoutRowsAreTheTokensOfTheFile) {
  EXPECT_EQ(heldout_rows(task_, info_, "val"), (std::vector<uint16_t>{1, 2, 3, 4, 5, 0x106}));
  EXPECT_EQ(heldout_rows(task_, info_, "test").size(), 6u);
  EXPECT_TRUE(has(error_of([&] { heldout_rows(task_, info_, "train"); }), "val or test"));
}

TEST_F(TaskTest, HeldoutRowsThatAreNotWhatTheyWereAreRefused) {
  write_file(task_ / "heldout" / "val.bin", std::string(12, 'x'));
  EXPECT_TRUE(has(error_of([&] { heldout_rows(task_, info_, "val"); }), "has changed"));
  fs::resize_file(task_ / "heldout" / "val.bin", 10);
  EXPECT_TRUE(has(error_of([&] { heldout_rows(task_, info_, "val"); }), "5 of 6 tokens"));
  fs::remove(task_ / "heldout" / "val.bin");
  EXPECT_TRUE(has(error_of([&] { heldout_rows(task_, info_, "val"); }), "val.bin"));
}

}  // namespace
}  // namespace autoresearch
