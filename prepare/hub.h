// Corpora on the Hugging Face hub: which files they consist of, and where these are.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "prepare/download.h"

namespace autoresearch {

struct HubCorpus {
  std::string name;                           // as in --source
  std::string base_url = {};                  // files are below it; no slash at its end
  std::vector<std::string> train_files = {};  // in training order
  std::string heldout_file = {};              // val and test come from here, train never does
};

// "climbmix": karpathy/climbmix-400b-shuffle, 6,543 shards, the last one pinned as the held-out
// source (autoresearch's and nanochat's choice, so that figures compare); "tinystories":
// roneneldan/TinyStories (arXiv 2305.07759), 4 training files and a validation file.
bool is_hub_corpus(const std::string& name);

// The first `shards` training files: -1 all, nothing: 10, or all where there are fewer. `base_url`
// replaces <hub>/datasets/<repository>/resolve/main when it is not empty; the hub is $HF_ENDPOINT,
// else https://huggingface.co. Throws Error for numbers and addresses that can't be.
HubCorpus hub_corpus(const std::string& name, std::optional<int64_t> shards,
                     const std::string& base_url);

// The name of a corpus's file in the download folder: without the folders on the hub.
std::string local_name(const std::string& hub_file);

// All files of the corpus, the held-out one first, so that a wrong address is noticed with it.
std::vector<Download> downloads(const HubCorpus& corpus);

// $HF_TOKEN without blanks around it; empty where it isn't set. Throws Error for one that no
// header can carry.
std::string hub_token();

}  // namespace autoresearch
