// The corpora on the hub: their files and addresses.
#include "prepare/hub.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "tests/file_server.h"
#include "tests/support.h"

namespace autoresearch {
namespace {

class HubTest : public FolderTest {
 protected:
  void SetUp() override {
    for (const char* name : {"HF_ENDPOINT", "HF_TOKEN", "http_proxy", "all_proxy", "ALL_PROXY"})
      unsetenv(name);
  }
};

TEST_F(HubTest, ClimbmixHas6543ShardsAndTheLastOneIsHeldOut) {
  const HubCorpus ten = hub_corpus("climbmix", std::nullopt, "");
  EXPECT_EQ(ten.train_files.size(), 10u);
  EXPECT_EQ(ten.train_files.front(), "shard_00000.parquet");
  EXPECT_EQ(ten.train_files.back(), "shard_00009.parquet");
  EXPECT_EQ(ten.heldout_file, "shard_06542.parquet");
  EXPECT_EQ(ten.base_url,
            "https://huggingface.co/datasets/karpathy/climbmix-400b-shuffle/resolve/main");
  const HubCorpus all = hub_corpus("climbmix", -1, "");
  EXPECT_EQ(all.train_files.size(), 6542u);
  EXPECT_EQ(all.train_files.back(), "shard_06541.parquet");
}

TEST_F(HubTest, TinystoriesHasFourTrainingFilesAndAValidationFile) {
  const HubCorpus corpus = hub_corpus("tinystories", std::nullopt, "");
  EXPECT_EQ(corpus.train_files.size(), 4u);
  EXPECT_EQ(hub_corpus("tinystories", 2, "").train_files.size(), 2u);
  const std::vector<Download> files = downloads(corpus);
  ASSERT_EQ(files.size(), 5u);
  EXPECT_EQ(files[0].name, "validation-00000-of-00001-869c898b519ad725.parquet");
  EXPECT_EQ(files[1].name, "train-00000-of-00004-2d5a1467fff1081b.parquet");
  EXPECT_EQ(files[1].url,
            "https://huggingface.co/datasets/roneneldan/TinyStories/resolve/main/data/"
            "train-00000-of-00004-2d5a1467fff1081b.parquet");
}

TEST_F(HubTest, AMirrorIsNamedByTheFlagOrTheEnvironment) {
  setenv("HF_ENDPOINT", "https://mirror.example/", 1);
  EXPECT_EQ(hub_corpus("climbmix", 1, "").base_url,
            "https://mirror.example/datasets/karpathy/climbmix-400b-shuffle/resolve/main");
  EXPECT_EQ(hub_corpus("climbmix", 1, "http://127.0.0.1:8000/x//").base_url,
            "http://127.0.0.1:8000/x");
  EXPECT_EQ(error_of([] { hub_corpus("climbmix", 1, "mirror.example"); }),
            "--base-url mirror.example is no web address; give one that begins with https:// or "
            "http://");
  setenv("HF_ENDPOINT", "mirror.example", 1);
  EXPECT_NE(error_of([] { hub_corpus("climbmix", 1, ""); }), "");
}

TEST_F(HubTest, ImpossibleNumbersOfShardsAreRefusedWithTheRange) {
  for (const int64_t shards : {int64_t{-2}, int64_t{0}, int64_t{5}}) {
    EXPECT_EQ(error_of([&] { hub_corpus("tinystories", shards, ""); }),
              "--shards " + std::to_string(shards) +
                  " is not possible; tinystories has 4 training shards: use 1 to 4, or -1 for all");
  }
  EXPECT_NE(error_of([] { hub_corpus("fineweb", 1, ""); }), "");
}

TEST_F(HubTest, TheTokenIsTakenWithoutBlanksAroundIt) {
  EXPECT_EQ(hub_token(), "");
  setenv("HF_TOKEN", " \n", 1);
  EXPECT_EQ(hub_token(), "");
  setenv("HF_TOKEN", " hf_abc\n", 1);
  EXPECT_EQ(hub_token(), "hf_abc");
  setenv("HF_TOKEN", "hf_abc\r\nX-Evil: 1", 1);
  EXPECT_NE(error_of([] { hub_token(); }), "");
}

TEST_F(HubTest, ACorpusArrivesUnderFlatNames) {
  FileServer server;
  const HubCorpus corpus = hub_corpus("tinystories", 1, server.url() + "/mirror");
  server.put("/mirror/" + corpus.heldout_file, "held out");
  server.put("/mirror/" + corpus.train_files[0], "train");
  download(dir_ / "tinystories", downloads(corpus), {});
  EXPECT_EQ(read_file(dir_ / "tinystories" / local_name(corpus.heldout_file)), "held out");
  EXPECT_EQ(read_file(dir_ / "tinystories" / local_name(corpus.train_files[0])), "train");
}

}  // namespace
}  // namespace autoresearch
