#include "harness/loader.h"

#include <gtest/gtest.h>

#include <fstream>

#include "common/error.h"

namespace autoresearch {
namespace {

constexpr uint16_t kBos = 500;

// A task folder with two shards of documents of growing length; token values count up.
class LoaderTest : public testing::Test {
 protected:
  void SetUp() override {
    dir_ = fs::temp_directory_path() / ("loader_test." + std::to_string(getpid()));
    fs::create_directories(dir_ / "train");
    info_.name = "t";
    info_.vocab_size = 512;
    info_.seq_len = 16;
    info_.bos = kBos;
    for (int shard = 0; shard < 2; ++shard) {
      std::vector<uint16_t> tokens;
      for (int document = 0; document < 2000; ++document) {
        tokens.push_back(kBos);
        for (int i = 0; i < 1 + document % 23; ++i)
          tokens.push_back(static_cast<uint16_t>((document + 7 * i + shard) % 256));
      }
      info_.train.tokens += static_cast<int64_t>(tokens.size());
      std::ofstream out(dir_ / "train" / ("0000" + std::to_string(shard) + ".bin"),
                        std::ios::binary);
      out.write(reinterpret_cast<const char*>(tokens.data()),
                static_cast<std::streamsize>(tokens.size() * 2));
    }
  }
  void TearDown() override { fs::remove_all(dir_); }

  fs::path dir_;
  TaskInfo info_;
};

TEST_F(LoaderTest, TargetsAreTheInputsShiftedByOneAndRowsBeginWithADocument) {
  Loader loader(dir_, info_, at::kCPU);
  const Batch batch = loader.next(8);
  ASSERT_EQ(batch.inputs.sizes(), (std::vector<int64_t>{8, 16}));
  ASSERT_EQ(batch.inputs.scalar_type(), at::kLong);
  EXPECT_TRUE(at::equal(batch.inputs.narrow(1, 1, 15), batch.targets.narrow(1, 0, 15)));
  EXPECT_TRUE((batch.inputs.select(1, 0) == kBos).all().item<bool>());
}

TEST_F(LoaderTest, TheOrderDependsOnTheTaskOnlyAndNotOnBatchSizes) {
  Loader one(dir_, info_, at::kCPU), two(dir_, info_, at::kCPU);
  const at::Tensor whole = one.next(12).inputs;
  std::vector<at::Tensor> parts;
  for (int64_t rows : {1, 5, 6}) parts.push_back(two.next(rows).inputs);
  EXPECT_TRUE(at::equal(whole, at::cat(parts)));
}

TEST_F(LoaderTest, ARepeatedStepSeesTheSameRows) {
  Loader loader(dir_, info_, at::kCPU);
  loader.next(3);
  loader.begin_step();
  const at::Tensor first = at::cat({loader.next(4).inputs, loader.next(4).inputs});
  EXPECT_EQ(loader.rewind_step(), 8);
  std::vector<at::Tensor> halves;
  for (int i = 0; i < 4; ++i) halves.push_back(loader.next(2).inputs);
  EXPECT_TRUE(at::equal(first, at::cat(halves)));
  EXPECT_EQ(loader.rewind_step(), 8);
  EXPECT_TRUE(at::equal(first, loader.next(8).inputs));
}

TEST_F(LoaderTest, EpochsAreCounted) {
  Loader loader(dir_, info_, at::kCPU);
  EXPECT_EQ(loader.next(1).epoch, 1);
  int64_t epoch = 0;
  for (int i = 0; i < 1200; ++i) epoch = loader.next(8).epoch;  // 163,200 of some 52,000
  EXPECT_GE(epoch, 3);
}

TEST_F(LoaderTest, AFolderCutShortIsNamed) {
  fs::resize_file(dir_ / "train" / "00001.bin", 100);
  try {
    Loader loader(dir_, info_, at::kCPU);
    FAIL() << "a short shard was accepted";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("prepare"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace autoresearch
