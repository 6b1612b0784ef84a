#include "prepare/request.h"

#include <fmt/ranges.h>

#include <cmath>
#include <set>

#include "common/error.h"
#include "prepare/bytes.h"
#include "prepare/hub.h"
#include "prepare/task_summary.h"
#include "task/tokenizer.h"
#include "task/unicode.h"

namespace autoresearch {
namespace {

constexpr int64_t kMostEvalTokens = 1 << 26;  // those of a split are held in memory
constexpr int64_t kLeastSeqLen = 16, kMostSeqLen = 1 << 20;

// Throws Error about the command line.
void check_usage(bool good, const std::string& message) {
  if (!good) throw Error(message, kUsage);
}

// What task.json calls the source, by which a repeated command is known. Paths must exist.
std::string source_label(const Request& request) {
  if (request.source.empty()) return request.kept_source;
  for (const std::string& source : request.source)
    check_usage((source != "demo" && !is_hub_corpus(source)) || request.source.size() == 1,
                "--source " + source + " can't be mixed with paths");
  if (request.is_demo() || request.from_hub()) return request.source[0];
  std::set<std::string> paths;  // in whatever order they were given
  for (const std::string& path : request.source) {
    std::error_code error;
    const fs::path real = is_stdin(path) ? fs::path(path) : fs::canonical(path, error);
    std::error_code ignored;
    check(!error || !fs::exists(path, ignored),  // a pipe's name, such as /dev/fd/63, leads nowhere
          path + " is neither a file nor a folder; if it is a pipe, give it as stdin: --source -");
    check(!error,
          fmt::format("can't read {}: {}; check the path after --source", path, error.message()));
    paths.insert(real.string());
  }
  return fmt::format("{}", fmt::join(paths, ", "));
}

// The task's name: given, or the corpus's, or that of the first path; empty if there is none.
std::string name_of(const Request& request) {
  if (!request.task.empty()) return request.task;
  if (request.is_demo() || request.from_hub()) return request.source[0];
  std::error_code not_there;
  return fs::canonical(request.source[0], not_there).stem().string();
}

std::string task_name(const Request& request) {
  const std::string name = name_of(request);
  check_usage(!name.empty() || !is_stdin(request.source[0]),
              "give a task from stdin a name with --task");
  check_task_name(name);
  return name;
}

}  // namespace

void check_whole(const fs::path& dir, const TaskInfo& info) {
  train_shards(dir, info);
  for (const char* split : {"val", "test"}) heldout_rows(dir, info, split);
  const fs::path tokenizer = dir / "tokenizer.tiktoken";
  check(fs::is_regular_file(tokenizer) && sha256_of_file(tokenizer) == info.tokenizer_sha256,
        fmt::format("the task in {} is damaged: its tokenizer.tiktoken is missing or has changed; "
                    "use --force to make it anew",
                    dir.native()));
}

void check_budget(double seconds) {
  check_usage(std::isfinite(seconds) && seconds > 0,
              "--time-budget must be a number of seconds above 0, such as 300");
}

std::optional<TaskInfo> task_there(const Request& request) {
  const std::string name = name_of(request);
  std::error_code ignored;
  if (name.empty() || !fs::exists(data_dir() / name / "task.json", ignored)) return std::nullopt;
  try {
    return load_task(data_dir() / name);
  } catch (const Error&) {
    if (!request.force) throw;
    return std::nullopt;
  }
}

void fill_in(Request& request, const std::set<std::string>& given,
             const std::optional<TaskInfo>& there) {
  const auto fill = [&](const char* flag, auto& value, const auto& otherwise) {
    if (!given.contains(flag)) value = otherwise;
  };
  if (there) {
    fill("--vocab", request.vocab, there->vocab_size);
    fill("--seq-len", request.seq_len, there->seq_len);
    fill("--time-budget", request.time_budget, there->time_budget);
    fill("--eval-tokens", request.eval_tokens, there->eval_tokens);
    const bool named = there->source == "demo" || is_hub_corpus(there->source);
    fill("--source", request.source,
         named ? std::vector<std::string>{there->source} : std::vector<std::string>{});
    fill("--source", request.kept_source, there->source);
    // How other text is to be read tells nothing of this one.
    const bool another = given.contains("--source") && source_label(request) != there->source;
    if (!another || !request.from_hub()) fill("--dedup", request.dedup, there->dedup);
    if (another) return;
    fill("--column", request.read.column, there->column);
    fill("--doc-separator", request.read.doc_separator, there->doc_separator);
    if (request.from_hub()) fill("--shards", request.shards, there->shards);
  } else if (request.is_demo()) {
    fill("--vocab", request.vocab, 1024);
    fill("--seq-len", request.seq_len, 256);
    fill("--time-budget", request.time_budget, 11);
    fill("--eval-tokens", request.eval_tokens, 65536);
  }
}

bool Request::from_hub() const { return source.size() == 1 && is_hub_corpus(source[0]); }

void check_options(const Request& request) {
  check_usage(
      request.from_hub() || (!request.shards && request.base_url.empty()),
      "--shards and --base-url are for climbmix and tinystories; leave them out for this --source");
  check_usage(
      !request.from_hub() || request.read.doc_separator.empty(),
      "--doc-separator is for plain text, which " + request.source[0] + " is not; leave it out");
  check_usage(!request.from_hub() || request.dedup == "exact",
              "--dedup near is for files; leave it out, so that figures compare with upstream's");
  // task.json is JSON, which can't hold other bytes.
  check_usage(invalid_utf8_bytes(source_label(request)) == 0,
              "the path of a --source is not UTF-8; rename it, or copy the files elsewhere");
  check_usage(invalid_utf8_bytes(request.read.doc_separator + request.read.column) == 0,
              "--doc-separator and --column must be UTF-8; give others");
  check_usage(request.vocab >= Tokenizer::kMinVocab && request.vocab <= Tokenizer::kMaxVocab,
              fmt::format("--vocab {} is not possible; use {} to {}", request.vocab,
                          Tokenizer::kMinVocab, Tokenizer::kMaxVocab));
  check_usage(request.seq_len >= kLeastSeqLen && request.seq_len <= kMostSeqLen,
              fmt::format("--seq-len {} is not possible; use {} to {}", request.seq_len,
                          kLeastSeqLen, kMostSeqLen));
  check_usage(request.eval_tokens >= 1 && request.eval_tokens <= kMostEvalTokens,
              fmt::format("--eval-tokens must be between 1 and {}; leave it out for the usual "
                          "number",
                          kMostEvalTokens));
  check_budget(request.time_budget);
  check_usage(request.workers >= 1 && request.workers <= Request::kMostWorkers,
              fmt::format("--workers must be between 1 and {}; more would wait for the one thread "
                          "that reads",
                          Request::kMostWorkers));
}

TaskInfo wanted_task(const Request& request) {
  TaskInfo info;
  info.source = source_label(request);
  info.name = task_name(request);
  if (request.from_hub()) {
    const auto corpus = hub_corpus(request.source[0], request.shards, request.base_url);
    info.shards = static_cast<int64_t>(corpus.train_files.size());
  }
  info.column = request.read.column;
  info.doc_separator = request.read.doc_separator;
  info.dedup = request.dedup;
  info.vocab_size = request.vocab;
  info.seq_len = request.seq_len;
  info.eval_tokens = request.eval_tokens;
  info.time_budget = request.time_budget;
  return info;
}

bool already_prepared(const fs::path& dir, const TaskInfo& wanted, bool force) {
  std::error_code error;  // of a folder that can't be looked into: TaskLock says what is wrong
  if (!fs::exists(dir, error)) return false;
  check(fs::exists(dir / "task.json", error),
        dir.native() + " exists, but is no task; remove it, or give --task another name");
  if (force) return false;
  const TaskInfo there = load_task(dir);
  std::string differences;
  const auto compare = [&](const char* flag, const auto& has, const auto& asked) {
    if (has == asked) return;
    differences +=
        fmt::format("{}{} {} (now {})", differences.empty() ? "" : ", ", flag, has, asked);
  };
  compare("--source", there.source, wanted.source);
  compare("--shards", there.shards, wanted.shards);
  compare("--column", there.column, wanted.column);
  compare("--doc-separator", in_quotes(there.doc_separator), in_quotes(wanted.doc_separator));
  compare("--dedup", there.dedup, wanted.dedup);
  compare("--vocab", there.vocab_size, wanted.vocab_size);
  compare("--seq-len", there.seq_len, wanted.seq_len);
  compare("--eval-tokens", there.eval_tokens, wanted.eval_tokens);
  check(!differences.empty() || there.time_budget == wanted.time_budget,
        fmt::format("task {0} is already prepared with --time-budget {1} (now {2}); a copy with "
                    "another one: build/prepare copy --task {0} --as NAME --time-budget {2}",
                    wanted.name, there.time_budget, wanted.time_budget));
  compare("--time-budget", there.time_budget, wanted.time_budget);
  check(differences.empty(), fmt::format("task {} is already prepared with {}; use --force to make "
                                         "it anew, or --task with another name",
                                         wanted.name, differences));
  check_whole(dir, there);
  return true;
}

}  // namespace autoresearch
