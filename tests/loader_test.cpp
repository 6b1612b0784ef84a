#include "harness/loader.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>
#include <fstream>
#include <random>

#include "tests/support.h"

namespace autoresearch {
namespace {

constexpr uint16_t kBos = 500;

// A task folder whose shards hold documents of some twenty tokens.
class LoaderTest : public FolderTest {
 protected:
  LoaderTest() {
    fs::create_directories(dir_ / "train");
    info_.name = std::string("t");
    info_.vocab_size = 512;
    info_.seq_len = 16;
    info_.bos = kBos;
  }
  void add_shard(size_t documents) {
    std::vector<uint16_t> tokens;
    for (size_t i = 0; i < documents; ++i) {
      tokens.push_back(kBos);
      for (size_t left = random_() % 40; left > 0; --left)
        tokens.push_back(static_cast<uint16_t>(random_() % kBos));
    }
    add_shard(std::move(tokens));
  }
  void add_shard(std::vector<uint16_t> tokens) {
    char name[16];
    std::snprintf(name, sizeof name, "%05zu.bin", shards_.size());
    write(name, tokens);
    info_.train.tokens += static_cast<int64_t>(tokens.size());
    shards_.push_back(std::move(tokens));
  }
  void write(const std::string& name, const std::vector<uint16_t>& tokens) {
    std::ofstream out(dir_ / "train" / name, std::ios::binary);
    out.write(reinterpret_cast<const char*>(tokens.data()),
              static_cast<std::streamsize>(2 * tokens.size()));
  }
  // The first `count` rows of the stream, by the packer alone, and the epoch at each.
  std::pair<at::Tensor, std::vector<int64_t>> expected_rows(int64_t count) const;

  TaskInfo info_;
  std::vector<std::vector<uint16_t>> shards_;
  std::mt19937 random_{7};
};

std::pair<at::Tensor, std::vector<int64_t>> LoaderTest::expected_rows(int64_t count) const {
  size_t shard = 0, next = 0;
  int64_t epoch = 1;
  Packer packer(info_.seq_len + 1, [&](std::vector<Packer::Document>& batch) {
    if (next == shards_[shard].size()) {
      next = 0;
      if (++shard == shards_.size()) shard = 0, ++epoch;
    }
    const std::vector<uint16_t>& tokens = shards_[shard];
    while (batch.size() < 128 && next < tokens.size()) {
      const size_t begin = next++;
      while (next < tokens.size() && tokens[next] != kBos) ++next;
      batch.push_back(std::span(tokens).subspan(begin, next - begin));
    }
  });
  at::Tensor rows = at::empty({count, info_.seq_len + 1}, at::kLong);
  std::vector<int64_t> epochs;
  std::vector<uint16_t> row(static_cast<size_t>(info_.seq_len + 1));
  for (int64_t r = 0; r < count; ++r) {
    EXPECT_TRUE(packer.next_row(row));
    std::copy(row.begin(), row.end(), rows[r].mutable_data_ptr<int64_t>());
    epochs.push_back(epoch);
  }
  return {rows, epochs};
}

TEST_F(LoaderTest, TargetsAreTheInputsShiftedByOneAndRowsBeginWithADocument) {
  add_shard(2000);
  Loader loader(dir_, info_, at::kCPU);
  const Batch batch = loader.next(8);
  ASSERT_EQ(batch.inputs.sizes(), (std::vector<int64_t>{8, 16}));
  ASSERT_EQ(batch.inputs.scalar_type(), at::kLong);
  EXPECT_TRUE(batch.inputs.is_contiguous() && batch.targets.is_contiguous());
  EXPECT_TRUE(at::equal(batch.inputs.narrow(1, 1, 15), batch.targets.narrow(1, 0, 15)));
  EXPECT_TRUE((batch.inputs.select(1, 0) == kBos).all().item<bool>());
}

TEST_F(LoaderTest, RowsAreThoseOfThePackerOverTheShardsInOrderEpochForEpoch) {
  for (const size_t documents : {2000, 100, 1, 1300}) add_shard(documents);
  constexpr int64_t kRows = 30'000;  // some seven epochs and blocks
  const auto [rows, epochs] = expected_rows(kRows);
  EXPECT_GT(epochs.back(), 6);
  Loader loader(dir_, info_, at::kCPU);
  for (int64_t done = 0; done < kRows; done += 1000) {
    const Batch batch = loader.next(1000);
    ASSERT_TRUE(at::equal(batch.inputs, rows.narrow(0, done, 1000).narrow(1, 0, 16))) << done;
    ASSERT_TRUE(at::equal(batch.targets, rows.narrow(0, done, 1000).narrow(1, 1, 16))) << done;
    ASSERT_EQ(batch.epoch, epochs[static_cast<size_t>(done + 999)]);
    loader.begin_step();
  }
}

TEST_F(LoaderTest, TheOrderDoesNotDependOnBatchSizes) {
  add_shard(2000);
  Loader one(dir_, info_, at::kCPU), two(dir_, info_, at::kCPU);
  const at::Tensor whole = one.next(12'000).inputs;
  std::vector<at::Tensor> parts;
  for (int64_t rows : {1, 5, 6, 4988, 1, 6999}) parts.push_back(two.next(rows).inputs);
  EXPECT_TRUE(at::equal(whole, at::cat(parts)));
}

TEST_F(LoaderTest, ARepeatedStepSeesTheSameRowsAlsoAcrossBlocks) {
  add_shard(2000);
  Loader loader(dir_, info_, at::kCPU);
  EXPECT_EQ(loader.rewind_step(), 0);
  for (const int64_t rows : {2, 1000, 3854, 9000}) {
    loader.next(3);
    loader.begin_step();
    const at::Tensor first = at::cat({loader.next(rows).inputs, loader.next(rows).inputs});
    EXPECT_EQ(loader.rewind_step(), 2 * rows);
    std::vector<at::Tensor> halves;
    for (int i = 0; i < 4; ++i) halves.push_back(loader.next(rows / 2).inputs);
    EXPECT_TRUE(at::equal(first, at::cat(halves)));
    EXPECT_EQ(loader.rewind_step(), 2 * rows);
    loader.next(1);  // a step that failed half-way
    EXPECT_EQ(loader.rewind_step(), 1);
    EXPECT_TRUE(at::equal(first, loader.next(2 * rows).inputs));
  }
}

TEST_F(LoaderTest, ABatchMayBeLargerThanAllThatIsPrefetched) {
  add_shard(2000);
  const int64_t rows = 2 * Loader::kAhead / info_.seq_len;
  Loader one(dir_, info_, at::kCPU), two(dir_, info_, at::kCPU);
  const at::Tensor all = one.next(rows).inputs;
  EXPECT_TRUE(at::equal(all.narrow(0, 0, rows - 1), two.next(rows - 1).inputs));
  EXPECT_TRUE(at::equal(all.narrow(0, rows - 1, 1), two.next(1).inputs));
}

TEST_F(LoaderTest, RowsMayBeLongerThanShards) {
  add_shard(2000);
  info_.seq_len = 300'000;
  const auto [rows, epochs] = expected_rows(3);
  Loader loader(dir_, info_, at::kCPU);
  const Batch batch = loader.next(3);
  EXPECT_TRUE(at::equal(batch.targets, rows.narrow(1, 1, info_.seq_len)));
  EXPECT_EQ(batch.epoch, epochs[2]);
}

TEST_F(LoaderTest, ShardsNeedNoDescriptorEach) {
  for (int i = 0; i < 1000; ++i) add_shard(3);
  rlimit before{};
  getrlimit(RLIMIT_NOFILE, &before);
  const rlimit few{100, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
  Loader loader(dir_, info_, at::kCPU);
  const Batch batch = loader.next(4000);
  setrlimit(RLIMIT_NOFILE, &before);
  EXPECT_TRUE(at::equal(batch.inputs, expected_rows(4000).first.narrow(1, 0, 16)));
}

TEST_F(LoaderTest, AFolderCutShortIsNamed) {
  add_shard(2000);
  add_shard(2000);
  fs::resize_file(dir_ / "train" / "00001.bin", 100);
  const std::string error = error_of([&] { Loader(dir_, info_, at::kCPU); });
  EXPECT_NE(error.find("prepare"), std::string::npos) << error;
}

TEST_F(LoaderTest, DamageWithinAShardIsNamedWhenItsTurnComesAndCostsNoRow) {
  add_shard(20'000);
  const std::vector<uint16_t> good = shards_[0];
  const struct {
    std::vector<uint16_t> tokens;
    const char* complaint;
  } cases[] = {{std::vector<uint16_t>(1000, 7), "does not begin with a document"},
               {{kBos, 1, 2, 512}, "outside of the vocabulary"},
               {{kBos, 1, 2, 65535, 3, kBos, 1}, "outside of the vocabulary"}};
  for (const auto& [tokens, complaint] : cases) {
    write("00001.bin", tokens);
    info_.train.tokens = static_cast<int64_t>(good.size() + tokens.size());
    Loader loader(dir_, info_, at::kCPU), whole(dir_, info_, at::kCPU);
    const at::Tensor first = whole.next(4000).inputs;
    for (int i = 0; i < 2; ++i) {
      const std::string error = error_of([&] { loader.next(100'000); });
      EXPECT_NE(error.find(complaint), std::string::npos) << error;
      EXPECT_NE(error.find("shard 1"), std::string::npos) << error;
      EXPECT_NE(error.find("prepare"), std::string::npos) << error;
    }
    EXPECT_TRUE(at::equal(loader.next(4000).inputs, first));
  }
}

TEST_F(LoaderTest, AShardWithoutASecondDocumentIsOneDocument) {
  std::vector<uint16_t> tokens(20'000, 3);
  tokens[0] = kBos;
  add_shard(std::move(tokens));
  Loader loader(dir_, info_, at::kCPU);
  const Batch batch = loader.next(10);
  EXPECT_TRUE((batch.targets == 3).all().item<bool>());
}

TEST(Widened, TokensAreTheirIdsUpToTheLargest) {
  const std::vector<uint16_t> tokens{0, 1, 32767, 32768, 65535};
  const at::Tensor raw = at::from_blob(const_cast<uint16_t*>(tokens.data()), {5}, at::kShort);
  const at::Tensor ids = widened(raw);
  EXPECT_EQ(ids.scalar_type(), at::kLong);
  EXPECT_TRUE(at::equal(ids, at::tensor({0, 1, 32767, 32768, 65535}, at::kLong)));
}

}  // namespace
}  // namespace autoresearch
