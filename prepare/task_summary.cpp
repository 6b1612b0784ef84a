#include "prepare/task_summary.h"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <numeric>
#include <vector>

namespace autoresearch {
namespace {

constexpr size_t kLongest = 10;  // tokens
constexpr size_t kSampleTokens = 64;
constexpr double kMega = 1e6;
constexpr double kMuch = 0.05;  // of val in train, by which its score may gain

std::string sample(const std::string& title, std::vector<uint16_t> ids,
                   const Tokenizer& tokenizer) {
  ids.resize(std::min(ids.size(), kSampleTokens));
  try {
    return fmt::format("  {:<5}  {}\n", title, in_quotes(tokenizer.decode(ids)));
  } catch (const Error& e) {
    throw Error("the " + title + " split is damaged (" + e.what() +
                "); make the task anew with --force");
  }
}

std::vector<uint16_t> first_tokens(const fs::path& file) {
  std::vector<uint16_t> ids(kSampleTokens);
  std::ifstream in(file, std::ios::binary);
  in.read(reinterpret_cast<char*>(ids.data()), 2 * kSampleTokens);
  ids.resize(static_cast<size_t>(in.gcount()) / 2);
  return ids;
}

std::string longest_tokens(const Tokenizer& tokenizer) {
  std::vector<int64_t> ids(static_cast<size_t>(tokenizer.bos()));
  std::iota(ids.begin(), ids.end(), 0);
  std::stable_sort(ids.begin(), ids.end(), [&](int64_t a, int64_t b) {
    return tokenizer.token_bytes(a) > tokenizer.token_bytes(b);
  });
  ids.resize(std::min(ids.size(), kLongest));
  std::string text = "\nlongest tokens\n";
  for (const int64_t id : ids)
    text += fmt::format("  {:5}  {}\n", id, in_quotes(tokenizer.token(id)));
  return text;
}

}  // namespace

std::string in_quotes(std::string_view text) {
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::string summary_of_splits(const TaskInfo& info) {
  std::string text;
  for (const auto& [name, split] : {std::pair("train", &info.train), std::pair("val", &info.val),
                                    std::pair("test", &info.test)}) {
    const auto bytes = static_cast<double>(split->bytes);
    text += fmt::format("{:<6} {:10} documents {:13} tokens {:10.2f} MB {:6.2f} bytes/token", name,
                        split->documents, split->tokens, bytes / kMega,
                        bytes / static_cast<double>(split->tokens));
    if (split->rows > 0) text += fmt::format(" {:7} rows", split->rows);
    text += "\n";
  }
  if (info.invalid_utf8_bytes > 0)
    text += fmt::format("{} bytes are not valid UTF-8; they are kept as they are\n",
                        info.invalid_utf8_bytes);
  if (info.val_in_train >= 0)
    text += fmt::format("{:.1f} % of val's runs of 50 tokens also occur in train{}\n",
                        100 * info.val_in_train,
                        info.dedup == "exact" && info.val_in_train > kMuch
                            ? "; --dedup near keeps what resembles held-out documents out of it"
                            : "");
  return text;
}

std::string summary_of_samples(const fs::path& dir, const TaskInfo& info,
                               const Tokenizer& tokenizer) {
  return longest_tokens(tokenizer) + "\nfirst tokens of each split\n" +
         sample("train", first_tokens(train_shards(dir, info)[0]), tokenizer) +
         sample("val", heldout_rows(dir, info, "val"), tokenizer) +
         sample("test", heldout_rows(dir, info, "test"), tokenizer);
}

}  // namespace autoresearch
