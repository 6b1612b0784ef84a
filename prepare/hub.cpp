#include "prepare/hub.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>

#include "common/error.h"
#include "common/text.h"

namespace autoresearch {
namespace {

constexpr int64_t kClimbmixTrain = 6542;  // shards 0 to 6541; 6542 is held out
constexpr int64_t kDefaultShards = 10;

std::string climbmix_shard(int64_t number) { return fmt::format("shard_{:05}.parquet", number); }

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

// An address without slashes at its end; `origin` says where a user gave it.
std::string checked_url(std::string url, const std::string& origin) {
  while (url.ends_with('/')) url.pop_back();
  check(url.starts_with("http://") || url.starts_with("https://"),
        origin + " " + url + " is no web address; give one that begins with https:// or http://");
  return url;
}

// Where a dataset is, unless a mirror was named.
std::string dataset_url(const std::string& repository) {
  const std::string endpoint = environment("HF_ENDPOINT");
  const std::string hub = endpoint.empty() ? "https://huggingface.co" : endpoint;
  return checked_url(hub, "HF_ENDPOINT") + "/datasets/" + repository + "/resolve/main";
}

}  // namespace

bool is_hub_corpus(const std::string& name) { return name == "climbmix" || name == "tinystories"; }

HubCorpus hub_corpus(const std::string& name, std::optional<int64_t> shards,
                     const std::string& base_url) {
  check(is_hub_corpus(name), "no corpus is called " + name + "; use climbmix or tinystories");
  HubCorpus corpus{.name = name};
  std::string repository;
  if (name == "climbmix") {
    repository = "karpathy/climbmix-400b-shuffle";
    corpus.heldout_file = climbmix_shard(kClimbmixTrain);
    for (int64_t i = 0; i < kClimbmixTrain; ++i) corpus.train_files.push_back(climbmix_shard(i));
  } else {
    repository = "roneneldan/TinyStories";
    corpus.heldout_file = "data/validation-00000-of-00001-869c898b519ad725.parquet";
    corpus.train_files = {"data/train-00000-of-00004-2d5a1467fff1081b.parquet",
                          "data/train-00001-of-00004-5852b56a2bd28fd9.parquet",
                          "data/train-00002-of-00004-a26307300439e943.parquet",
                          "data/train-00003-of-00004-d243063613e5a057.parquet"};
  }
  corpus.base_url =
      base_url.empty() ? dataset_url(repository) : checked_url(base_url, "--base-url");
  const auto all = static_cast<int64_t>(corpus.train_files.size());
  int64_t wanted = shards.value_or(std::min(kDefaultShards, all));
  if (wanted == -1) wanted = all;
  if (wanted < 1 || wanted > all) {
    throw Error(fmt::format("--shards {0} is not possible; {1} has {2} training shards: use 1 to "
                            "{2}, or -1 for all",
                            wanted, name, all),
                kUsage);
  }
  corpus.train_files.resize(static_cast<size_t>(wanted));
  return corpus;
}

std::string local_name(const std::string& hub_file) { return fs::path(hub_file).filename(); }

std::vector<Download> downloads(const HubCorpus& corpus) {
  std::vector<std::string> files = {corpus.heldout_file};
  files.insert(files.end(), corpus.train_files.begin(), corpus.train_files.end());
  std::vector<Download> result;
  for (const std::string& file : files)
    result.push_back({corpus.base_url + "/" + file, local_name(file)});
  return result;
}

std::string hub_token() {
  const std::string token = trim(environment("HF_TOKEN"));
  check(std::all_of(token.begin(), token.end(), [](char c) { return c > ' ' && c < 127; }),
        "the token in HF_TOKEN has blanks or special characters inside; set the variable again");
  return token;
}

}  // namespace autoresearch
