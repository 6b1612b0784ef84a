#include "task/task.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>

#include "common/error.h"
#include "task/tokenizer.h"

namespace autoresearch {

static_assert(std::endian::native == std::endian::little, "token files are little-endian");

NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(SplitInfo, documents, tokens, bytes, rows, sha256)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(TaskInfo, version, name, source, shards, column, doc_separator,
                                   vocab_size, seq_len, eval_tokens, time_budget, bos,
                                   tokenizer_sha256, invalid_utf8_bytes, train, val, test)

namespace {

constexpr int kVersion = 2;
constexpr size_t kLongestName = 100;  // characters of a task's name

Error cut_short(const fs::path& dir, const TaskInfo& info, const std::string& what) {
  return Error("the task in " + dir.string() + " is damaged: " + what +
               "; prepare it again: build/prepare --task " + info.name + " --force --source ...");
}

// The size of a file in tokens; throws Error when it is missing or odd.
int64_t file_tokens(const fs::path& dir, const TaskInfo& info, const fs::path& file) {
  std::error_code error;
  const uintmax_t bytes = fs::file_size(file, error);
  if (error)
    throw cut_short(dir, info, "can't read " + file.string() + " (" + error.message() + ")");
  if (bytes % 2 != 0) throw cut_short(dir, info, file.string() + " ends within a token");
  return static_cast<int64_t>(bytes / 2);
}

// Throws Error where a figure is none that `prepare` writes: others compute with them unseen.
void check_figures(const TaskInfo& info, const fs::path& file) {
  const auto figure = [&](const std::string& key, int64_t value, int64_t least, int64_t most) {
    check(value >= least && value <= most,
          fmt::format("{} is damaged ({} is {}); prepare the task again with --force",
                      file.native(), key, value));
  };
  figure("vocab_size", info.vocab_size, Tokenizer::kMinVocab, Tokenizer::kMaxVocab);
  figure("bos", info.bos, 0, info.vocab_size - 1);
  figure("seq_len", info.seq_len, 2, 1 << 20);
  figure("eval_tokens", info.eval_tokens, 0, int64_t{1} << 36);
  figure("shards", info.shards, 0, INT64_MAX);
  figure("invalid_utf8_bytes", info.invalid_utf8_bytes, 0, INT64_MAX);
  for (const auto& [name, split] : {std::pair<std::string, const SplitInfo&>("train", info.train),
                                    {"val", info.val},
                                    {"test", info.test}}) {
    figure(name + ".documents", split.documents, 0, INT64_MAX);
    figure(name + ".tokens", split.tokens, 0, INT64_MAX);
    figure(name + ".bytes", split.bytes, 0, INT64_MAX);
    figure(name + ".rows", split.rows, 0, int64_t{1} << 36);
  }
  check(std::isfinite(info.time_budget) && info.time_budget >= 0,
        file.string() + " is damaged (time_budget is no number of seconds); prepare the " +
            "task again with --force");
}

// The tasks under data_dir(), sorted.
std::vector<std::string> task_names() {
  std::vector<std::string> names;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(data_dir(), error)) {
    const std::string name = entry.path().filename().string();
    if (name[0] != '.' && fs::exists(entry.path() / "task.json", error)) names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace

fs::path task_dir(const std::string& name) {
  const bool by_path = name.find('/') != std::string::npos;
  if (!by_path) check_task_name(name);
  const fs::path dir = by_path ? fs::path(name) : data_dir() / name;
  std::error_code error;
  if (fs::exists(dir / "task.json", error)) return dir;
  if (by_path) throw Error("no task in " + name + ": there is no task.json");
  const std::vector<std::string> names = task_names();
  throw Error(fmt::format("no task \"{}\" in {}; make it: build/prepare {}{}{}", name,
                          data_dir().native(),
                          name == "demo" ? "--source demo" : "--task " + name + " --source PATH",
                          names.empty() ? "" : ", or use one of: ", fmt::join(names, ", ")));
}

std::string only_task() {
  const std::vector<std::string> names = task_names();
  check(!names.empty(), "no task is prepared in " + data_dir().string() +
                            "; make one: build/prepare --source demo");
  check(names.size() == 1,
        fmt::format("which task? Give --task with one of: {}", fmt::join(names, ", ")));
  return names[0];
}

void check_task_name(const std::string& name) {
  const bool plain = std::all_of(name.begin(), name.end(), [](unsigned char c) {
    return std::isalnum(c) || c == '-' || c == '_' || c == '.';
  });
  check(plain && !name.empty() && name.size() <= kLongestName && name[0] != '.' && name[0] != '-' &&
            name != "runs" && name != "downloads",
        fmt::format("\"{}\" can't name a task; use --task with up to {} letters, digits, '-', '_' "
                    "and '.', not beginning with '.' or '-' (and not \"runs\" or \"downloads\", "
                    "which hold other things)",
                    name, kLongestName));
}

std::string split_sha256(const std::vector<fs::path>& files) {
  std::string digests;
  for (const fs::path& file : files) digests += sha256_of_file(file) + "\n";
  return sha256(digests);
}

TaskInfo load_task(const fs::path& dir) {
  const fs::path file = dir / "task.json";
  std::string text;
  try {
    text = read_file(file);
  } catch (const Error& e) {
    throw Error(std::string(e.what()) + "; prepare the task again with --force");
  }
  try {
    const nlohmann::json json = nlohmann::json::parse(text);
    const int version = json.at("version");
    check(
        version == kVersion,
        fmt::format("{} has version {}, this program reads {}; prepare the task again with --force",
                    file.native(), version, kVersion));
    TaskInfo info = json.get<TaskInfo>();
    info.dedup = json.value("dedup", info.dedup);
    info.val_in_train = json.value("val_in_train", info.val_in_train);
    check_figures(info, file);
    return info;
  } catch (const nlohmann::json::exception& e) {
    throw Error(file.string() + " is damaged (" + e.what() +
                "); prepare the task again with --force");
  }
}

std::string to_json(const TaskInfo& info) {
  nlohmann::json json = info;
  json["dedup"] = info.dedup;
  json["val_in_train"] = info.val_in_train;
  return json.dump(2) + "\n";
}

std::vector<fs::path> train_shards(const fs::path& dir, const TaskInfo& info) {
  std::vector<fs::path> shards;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(dir / "train", error)) {
    if (entry.path().extension() == ".bin") shards.push_back(entry.path());
  }
  std::sort(shards.begin(), shards.end());
  int64_t tokens = 0;
  for (const fs::path& shard : shards) tokens += file_tokens(dir, info, shard);
  if (shards.empty() || tokens != info.train.tokens) {
    throw cut_short(dir, info,
                    fmt::format("train/ holds {} of {} tokens", tokens, info.train.tokens));
  }
  return shards;
}

std::vector<uint16_t> heldout_rows(const fs::path& dir, const TaskInfo& info,
                                   const std::string& split) {
  check(split == "val" || split == "test",
        "there is no held-out split \"" + split + "\"; use val or test");
  const SplitInfo& stated = split == "val" ? info.val : info.test;
  const fs::path file = dir / "heldout" / (split + ".bin");
  const int64_t tokens = file_tokens(dir, info, file);
  const int64_t wanted = stated.rows * (info.seq_len + 1);
  if (tokens != wanted || wanted == 0) {
    throw cut_short(dir, info,
                    fmt::format("{} holds {} of {} tokens", file.native(), tokens, wanted));
  }
  if (!stated.sha256.empty() && split_sha256({file}) != stated.sha256) {
    throw cut_short(dir, info, file.string() + " has changed since it was made");
  }
  const std::string bytes = read_file(file);
  std::vector<uint16_t> rows(static_cast<size_t>(tokens));
  std::memcpy(rows.data(), bytes.data(), 2 * rows.size());
  return rows;
}

}  // namespace autoresearch
