#include "prepare/task.h"

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
    data_ = dir_;
    setenv("AUTORESEARCH_DATA", data_.c_str(), 1);
    dir_ = data_ / "small";
    fs::create_directories(dir_ / "train");
    fs::create_directories(dir_ / "heldout");
    write_file(dir_ / "train" / "00000.bin", std::string(12, 'a'));
    write_file(dir_ / "train" / "00001.bin", std::string(8, 'b'));
    write_file(dir_ / "heldout" / "val.bin", std::string("\1\0\2\0\3\0\4\0\5\0\6\1", 12));
    write_file(dir_ / "heldout" / "test.bin", std::string(12, 'd'));
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
    info_.val.sha256 = split_sha256({dir_ / "heldout" / "val.bin"});
    info_.test = {.documents = 1, .tokens = 6, .bytes = 9, .rows = 2, .sha256 = ""};
    write_file(dir_ / "task.json", to_json(info_));
  }

  static bool has(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
  }

  fs::path data_;  // dir_ is the task in it
  TaskInfo info_;
};

TEST_F(TaskTest, TaskJsonComesBackAsItWasWritten) {
  const TaskInfo info = load_task(dir_);
  EXPECT_EQ(to_json(info), to_json(info_));
  EXPECT_EQ(info.time_budget, 1.5);
  EXPECT_EQ(info.val.rows, 2);
  EXPECT_EQ(info.train.tokens, 10);
}

TEST_F(TaskTest, IsFoundByNameAndByPath) {
  EXPECT_EQ(task_dir("small"), dir_);
  EXPECT_EQ(task_dir(dir_.string()), dir_);
  EXPECT_EQ(only_task(), "small");
}

TEST_F(TaskTest, AMissingTaskNamesTheCommandThatMakesIt) {
  EXPECT_TRUE(has(error_of([] { task_dir("demo"); }), "build/prepare --source demo"));
  const std::string message = error_of([] { task_dir("books"); });
  EXPECT_TRUE(has(message, "--task books --source PATH")) << message;
  EXPECT_TRUE(has(message, "one of: small")) << message;
  EXPECT_TRUE(has(error_of([&] { task_dir((data_ / "none").string()); }), "no task in"));
}

TEST_F(TaskTest, OfSeveralTasksOneMustBeNamed) {
  fs::create_directories(data_ / "zoo");
  write_file(data_ / "zoo" / "task.json", to_json(info_));
  fs::create_directories(data_ / ".zoo.partial-1");
  write_file(data_ / ".zoo.partial-1" / "task.json", to_json(info_));
  EXPECT_EQ(error_of([] { only_task(); }), "which task? Give --task with one of: small, zoo");
  fs::remove_all(data_ / "zoo");
  fs::remove_all(data_ / "small");
  EXPECT_TRUE(has(error_of([] { only_task(); }), "build/prepare --source demo"));
}

TEST_F(TaskTest, NamesThatAreNoFolderNamesAreRefused) {
  for (const std::string name : {"", ".", "..", ".hidden", "-x", "a b", "a\nb", "runs", "é"}) {
    EXPECT_NE(error_of([&] { check_task_name(name); }), "") << name;
  }
  for (const std::string name : {"demo", "tiny-stories_2.1"}) {
    EXPECT_EQ(error_of([&] { check_task_name(name); }), "") << name;
  }
}

TEST_F(TaskTest, ADamagedTaskJsonIsAnErrorNotADefault) {
  const std::string whole = to_json(info_);
  write_file(dir_ / "task.json", whole.substr(0, whole.size() / 2));
  EXPECT_TRUE(has(error_of([&] { load_task(dir_); }), "damaged"));
  write_file(dir_ / "task.json", "{\"version\": 1}");
  EXPECT_TRUE(has(error_of([&] { load_task(dir_); }), "damaged"));
  write_file(dir_ / "task.json", "[]");
  EXPECT_TRUE(has(error_of([&] { load_task(dir_); }), "damaged"));
  write_file(dir_ / "task.json", "{\"version\": 7}");
  EXPECT_TRUE(has(error_of([&] { load_task(dir_); }), "has version 7"));
  fs::remove(dir_ / "task.json");
  EXPECT_TRUE(has(error_of([&] { load_task(dir_); }), "task.json"));
}

TEST_F(TaskTest, TrainShardsComeInOrder) {
  const std::vector<fs::path> shards = train_shards(dir_, load_task(dir_));
  EXPECT_EQ(shards,
            (std::vector<fs::path>{dir_ / "train" / "00000.bin", dir_ / "train" / "00001.bin"}));
}

TEST_F(TaskTest, ATrainFolderCutShortIsRefused) {
  fs::resize_file(dir_ / "train" / "00001.bin", 7);
  EXPECT_TRUE(has(error_of([&] { train_shards(dir_, info_); }), "ends within a token"));
  fs::resize_file(dir_ / "train" / "00001.bin", 6);
  const std::string message = error_of([&] { train_shards(dir_, info_); });
  EXPECT_TRUE(has(message, "9 of 10 tokens")) << message;
  EXPECT_TRUE(has(message, "--force")) << message;
  fs::remove_all(dir_ / "train");
  EXPECT_TRUE(has(error_of([&] { train_shards(dir_, info_); }), "0 of 10 tokens"));
}

TEST_F(TaskTest, HeldoutRowsAreTheTokensOfTheFile) {
  EXPECT_EQ(heldout_rows(dir_, info_, "val"), (std::vector<uint16_t>{1, 2, 3, 4, 5, 0x106}));
  EXPECT_EQ(heldout_rows(dir_, info_, "test").size(), 6u);
  EXPECT_TRUE(has(error_of([&] { heldout_rows(dir_, info_, "train"); }), "val or test"));
}

TEST_F(TaskTest, HeldoutRowsThatAreNotWhatTheyWereAreRefused) {
  write_file(dir_ / "heldout" / "val.bin", std::string(12, 'x'));
  EXPECT_TRUE(has(error_of([&] { heldout_rows(dir_, info_, "val"); }), "has changed"));
  fs::resize_file(dir_ / "heldout" / "val.bin", 10);
  EXPECT_TRUE(has(error_of([&] { heldout_rows(dir_, info_, "val"); }), "5 of 6 tokens"));
  fs::remove(dir_ / "heldout" / "val.bin");
  EXPECT_TRUE(has(error_of([&] { heldout_rows(dir_, info_, "val"); }), "val.bin"));
}

}  // namespace
}  // namespace autoresearch
