// prepare: makes the task that everything else only reads, and scores what train hands over.
//
//   build/prepare --source demo            headers of this machine, small; for a first look
//   build/prepare --source PATH...         files and folders of text, source code, .jsonl
//   build/prepare info|encode|decode       what a task holds; text to ids and back
//   build/prepare score MODEL              bits per byte of a sealed model on held-out text
//   build/prepare sample MODEL             text from a sealed model
//
// A corpus becomes a task folder (prepare/task.h) in this order: index the documents, set some
// aside, train the tokenizer on the others, pack val and test for ever, write the training shards.
// Nothing in it depends on the clock, the number of threads or the order of files.

#include <signal.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iostream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>
#include <thread>

#include "common/error.h"
#include "common/files.h"
#include "common/progress.h"
#include "harness/device.h"
#include "harness/sample.h"
#include "harness/score.h"
#include "prepare/corpus.h"
#include "prepare/find.h"
#include "prepare/splits.h"
#include "prepare/task.h"
#include "prepare/tokenizer.h"

namespace autoresearch {
namespace {

constexpr int64_t kDemoBytes = 32'000'000;
constexpr double kMega = 1e6;

struct Options {
  std::vector<std::string> source{"climbmix"};
  std::string task;                // empty: derived from the source
  int64_t vocab = 8192;            // tokens, special ones included
  int64_t seq_len = 2048;          // tokens of context
  double time_budget = 300;        // seconds of training
  int64_t eval_tokens = 40 << 19;  // in val, and as many in test
  int64_t workers = std::max(1u, std::thread::hardware_concurrency());
  bool force = false;

  bool demo() const { return source == std::vector<std::string>{"demo"}; }
};

volatile sig_atomic_t interrupted = 0;

// Long steps call this: Ctrl-C then unwinds, which removes what is half-made.
void check_interrupted() {
  if (interrupted) throw Error("interrupted; nothing was kept", kInterrupted);
}

void catch_interrupts() {
  struct sigaction action = {};
  action.sa_handler = [](int) { interrupted = 1; };
  action.sa_flags = static_cast<int>(SA_RESETHAND);  // a second Ctrl-C ends the program at once
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) sigaction(signal, &action, nullptr);
}

// ------------------------------------------------------------------------------------------------
// Making a task

// What task.json calls the source, by which a repeated command is known. Paths must exist.
std::string source_label(const Options& options) {
  if (options.demo()) return "demo";
  std::string label;
  for (const std::string& path : options.source) {
    std::error_code error;
    const fs::path real = fs::canonical(path, error);
    check(!error,
          "can't read " + path + ": " + error.message() + "; check the path after --source");
    label += (label.empty() ? "" : ", ") + real.string();
  }
  return label;
}

// The task's name: given, or "demo", or that of the first path.
std::string task_name(const Options& options) {
  std::string name = options.task;
  if (name.empty() && options.demo()) name = "demo";
  if (name.empty()) name = fs::canonical(options.source[0]).stem().string();
  check_task_name(name);
  return name;
}

void check_options(const Options& options) {
  for (const std::string& source : options.source) {
    check(source != "climbmix" && source != "tinystories",
          "--source " + source + " is not built yet; use --source demo or a path");
    check(source != "demo" || options.demo(), "--source demo can't be mixed with paths");
  }
  check(options.vocab >= Tokenizer::kMinVocab && options.vocab <= Tokenizer::kMaxVocab,
        "--vocab " + std::to_string(options.vocab) + " is not possible; use " +
            std::to_string(Tokenizer::kMinVocab) + " to " + std::to_string(Tokenizer::kMaxVocab));
  check(options.seq_len >= 16 && options.seq_len <= 1 << 20,
        "--seq-len " + std::to_string(options.seq_len) + " is not possible; use 16 to 1048576");
  check(options.eval_tokens >= 1 && options.eval_tokens <= int64_t{1} << 36,
        "--eval-tokens must be between 1 and 2^36; leave it out for the usual number");
  check(std::isfinite(options.time_budget) && options.time_budget > 0,
        "--time-budget must be a number of seconds above 0, such as 300");
  check(options.workers >= 1 && options.workers <= 1024, "--workers must be between 1 and 1024");
}

// Throws Error unless the task's files are what its task.json says.
void check_whole(const fs::path& dir, const TaskInfo& info) {
  train_shards(dir, info);
  for (const char* split : {"val", "test"}) heldout_rows(dir, info, split);
  const fs::path tokenizer = dir / "tokenizer.tiktoken";
  check(fs::is_regular_file(tokenizer) && sha256_of_file(tokenizer) == info.tokenizer_sha256,
        "the task in " + dir.string() + " is damaged: its tokenizer.tiktoken is missing or has " +
            "changed; use --force to make it anew");
}

// True when the task is there and whole, and was made with the same options; throws when with
// others, and where something that is no task stands in its place, which not even --force removes.
bool already_prepared(const fs::path& dir, const TaskInfo& wanted, bool force) {
  std::error_code error;  // of a folder that can't be looked into: TaskLock says what is wrong
  if (!fs::exists(dir, error)) return false;
  check(fs::exists(dir / "task.json", error),
        dir.string() + " exists, but is no task; remove it, or give --task another name");
  if (force) return false;
  const TaskInfo there = load_task(dir);
  std::string differences;
  const auto compare = [&](const std::string& flag, const auto& has, const auto& asked) {
    if (has == asked) return;
    std::ostringstream text;
    text << (differences.empty() ? "" : ", ") << flag << " " << has << " (now " << asked << ")";
    differences += text.str();
  };
  compare("--source", there.source, wanted.source);
  compare("--vocab", there.vocab_size, wanted.vocab_size);
  compare("--seq-len", there.seq_len, wanted.seq_len);
  compare("--time-budget", there.time_budget, wanted.time_budget);
  compare("--eval-tokens", there.eval_tokens, wanted.eval_tokens);
  check(differences.empty(), "task " + wanted.name + " is already prepared with " + differences +
                                 "; use --force to make it anew, or --task with another name");
  check_whole(dir, there);
  return true;
}

// The folder that a task grows in: beside its final place under a hidden name, and gone when the
// work fails. The caller holds the task's lock, so whatever an earlier process left there is stale.
class Workplace {
 public:
  explicit Workplace(const fs::path& final)
      : final_(final),
        prefix_("." + final.filename().string() + ".partial-"),
        path_(final.parent_path() / (prefix_ + std::to_string(getpid()))) {
    for (const auto& entry : fs::directory_iterator(final.parent_path())) {
      if (entry.path().filename().string().starts_with(prefix_)) fs::remove_all(entry.path());
    }
    fs::create_directories(path_ / "train");
    fs::create_directories(path_ / "heldout");
  }
  ~Workplace() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  Workplace(const Workplace&) = delete;
  Workplace& operator=(const Workplace&) = delete;

  const fs::path& path() const { return path_; }

  // Puts the task in its place, where an older one makes way.
  void publish() {
    for (const char* folder : {"train", "heldout", ""}) sync_path(path_ / folder);
    const fs::path old = path_.string() + "-old";
    if (fs::exists(final_)) fs::rename(final_, old);
    fs::rename(path_, final_);
    sync_path(final_.parent_path());
    fs::remove_all(old);
  }

 private:
  fs::path final_;
  std::string prefix_;
  fs::path path_;
};

// The lock on a task that is being made, in the data folder: taken before any work, so that a
// folder that can't be used is noticed first. A task that isn't there in the end leaves no lock.
class TaskLock {
 public:
  explicit TaskLock(const fs::path& task)
      : task_(task), file_(task.parent_path() / ("." + task.filename().string() + ".lock")) {
    const fs::path folder = task.parent_path();
    std::error_code error;
    fs::create_directories(folder, error);
    if (!error && access(folder.c_str(), R_OK | W_OK | X_OK) != 0) {
      error = {errno, std::generic_category()};
    }
    check(!error, "can't use " + folder.string() + " as data folder (" + error.message() +
                      "); give --data or AUTORESEARCH_DATA another");
    lock_.emplace(file_);
  }
  ~TaskLock() {
    std::error_code ignored;
    if (!fs::exists(task_, ignored)) fs::remove(file_, ignored);
  }
  TaskLock(const TaskLock&) = delete;
  TaskLock& operator=(const TaskLock&) = delete;

 private:
  fs::path task_, file_;
  std::optional<FileLock> lock_;
};

Corpus read_corpus(const Options& options) {
  std::vector<fs::path> files;
  if (options.demo()) {
    files = find_demo_files({AUTORESEARCH_TORCH_INCLUDE, "/usr/include"}, kDemoBytes);
  } else {
    files = find_files({options.source.begin(), options.source.end()});
  }
  double total = 0;
  for (const fs::path& file : files) total += static_cast<double>(fs::file_size(file));
  Progress progress("reading  ", total, "MB", kMega);
  Corpus corpus = index_corpus(files, [&](int64_t bytes) {
    check_interrupted();
    progress.update(static_cast<double>(bytes));
  });
  check(corpus.bytes > 0, "the corpus is empty: no text in the " + std::to_string(files.size()) +
                              " file(s) of --source; give files with text");
  return corpus;
}

Tokenizer train_tokenizer(const Corpus& corpus, size_t set_aside, const Options& options) {
  const int64_t vocab = options.vocab;
  const auto& documents = corpus.documents;
  std::optional<Progress> bar;
  bar.emplace("splitting", static_cast<double>(documents.size() - set_aside), "documents");
  size_t i = set_aside;
  const auto next = [&](std::string& document) {
    check_interrupted();
    if (i == documents.size()) return false;
    document = corpus.text(documents[i++]);
    bar->update(static_cast<double>(i - set_aside));
    return true;
  };
  const auto merged = [&](int64_t merges) {
    check_interrupted();
    if (merges == 1) bar.emplace("merging  ", vocab - Tokenizer::kMinVocab, "merges");
    bar->update(static_cast<double>(merges));
  };
  Tokenizer tokenizer = Tokenizer::train(next, vocab, options.workers, merged);
  check(tokenizer.vocab_size() == vocab,
        "the corpus is too small for --vocab " + std::to_string(vocab) + "; it gives " +
            std::to_string(tokenizer.vocab_size()) + " tokens at most: use --vocab " +
            std::to_string(tokenizer.vocab_size()) + " or fewer, or give more text");
  return tokenizer;
}

// Thrown when no row can be filled: what would be enough, in the person's own terms.
Error too_small(const Corpus& corpus, const Options& options, double bytes_per_token) {
  const double tokens = static_cast<double>(corpus.bytes) / bytes_per_token;
  int64_t fitting = 16;
  while (20 * (2 * fitting + 1) <= tokens) fitting *= 2;
  char text[320];
  std::snprintf(text, sizeof text,
                "the corpus (%.1f KB in %zu documents) is too small for one validation row of %lld "
                "tokens; give about %.0f KB of text, or --seq-len %lld --eval-tokens %lld or less",
                static_cast<double>(corpus.bytes) / 1e3, corpus.documents.size(),
                static_cast<long long>(options.seq_len),
                std::ceil(20.0 * static_cast<double>(options.seq_len + 1) * bytes_per_token / 1e3),
                static_cast<long long>(fitting), static_cast<long long>(fitting));
  return Error(text);
}

int64_t bytes_of(const std::vector<uint16_t>& ids, const Tokenizer& tokenizer) {
  int64_t bytes = 0;
  for (const uint16_t id : ids) bytes += tokenizer.token_bytes(id);
  return bytes;
}

SplitInfo write_heldout(const fs::path& file, const std::vector<uint16_t>& rows, size_t documents,
                        const TaskInfo& info, const Tokenizer& tokenizer) {
  write_file(file, {reinterpret_cast<const char*>(rows.data()), 2 * rows.size()});
  SplitInfo split;
  split.documents = static_cast<int64_t>(documents);
  split.tokens = static_cast<int64_t>(rows.size());
  split.bytes = bytes_of(rows, tokenizer);
  split.rows = split.tokens / (info.seq_len + 1);
  split.sha256 = split_sha256({file});
  return split;
}

// Packs val and test from the documents that were set aside and writes them. Returns how many
// documents they took; the others go to train.
size_t write_heldout_splits(const fs::path& dir, const Corpus& corpus, size_t set_aside,
                            const Tokenizer& tokenizer, const Options& options, TaskInfo& info) {
  std::vector<std::vector<uint16_t>> documents;
  double tokens = 0, bytes = 0;
  encode_documents(corpus, tokenizer, 0, set_aside, options.workers,
                   [&](size_t i, std::span<const uint16_t> ids) {
                     check_interrupted();
                     documents.emplace_back(ids.begin(), ids.end());
                     tokens += static_cast<double>(ids.size());
                     bytes += static_cast<double>(corpus.documents[i].bytes);
                   });
  const int64_t wanted = rows_wanted(info.eval_tokens, info.seq_len);
  const int64_t corpus_tokens =
      static_cast<int64_t>(static_cast<double>(corpus.bytes) * tokens / bytes);
  const HeldOut held_out = hold_out(documents, rows_affordable(wanted, info.seq_len, corpus_tokens),
                                    info.seq_len, info.bos, corpus_tokens);
  if (held_out.rows == 0) throw too_small(corpus, options, bytes / tokens);
  if (held_out.rows < wanted) {
    std::printf(
        "val and test get %lld rows each, not %lld: more would take over a tenth of the "
        "corpus\n",
        static_cast<long long>(held_out.rows), static_cast<long long>(wanted));
  }
  info.val = write_heldout(dir / "heldout" / "val.bin", held_out.val, held_out.val_documents, info,
                           tokenizer);
  info.test = write_heldout(dir / "heldout" / "test.bin", held_out.test, held_out.test_documents,
                            info, tokenizer);
  return held_out.val_documents + held_out.test_documents;
}

void write_train(const fs::path& dir, const Corpus& corpus, size_t begin,
                 const Tokenizer& tokenizer, const Options& options, TaskInfo& info) {
  int64_t total = 0;
  for (size_t i = begin; i < corpus.documents.size(); ++i) total += corpus.documents[i].bytes;
  Progress progress("encoding ", static_cast<double>(total), "MB", kMega);
  ShardWriter writer(dir / "train", info.seq_len, info.bos);
  int64_t bytes = 0;
  encode_documents(corpus, tokenizer, begin, corpus.documents.size(), options.workers,
                   [&](size_t i, std::span<const uint16_t> ids) {
                     check_interrupted();
                     writer.add(ids);
                     bytes += corpus.documents[i].bytes;
                     progress.update(static_cast<double>(bytes));
                   });
  info.train = writer.finish();
  info.train.documents = static_cast<int64_t>(corpus.documents.size() - begin);
  info.train.bytes = bytes;
  if (info.train.tokens < info.seq_len + 1) {
    throw too_small(corpus, options,
                    static_cast<double>(bytes) / static_cast<double>(info.train.tokens));
  }
}

void print_splits(const TaskInfo& info) {
  for (const auto& [name, split] : {std::pair("train", &info.train), std::pair("val", &info.val),
                                    std::pair("test", &info.test)}) {
    std::printf("%-6s %9lld documents %12lld tokens %9.2f MB %6.2f bytes/token", name,
                static_cast<long long>(split->documents), static_cast<long long>(split->tokens),
                static_cast<double>(split->bytes) / kMega,
                static_cast<double>(split->bytes) / static_cast<double>(split->tokens));
    if (split->rows > 0) std::printf(" %7lld rows", static_cast<long long>(split->rows));
    std::printf("\n");
  }
}

void print_next(const std::string& task) {
  std::printf("Done. Next: build/train --task %s, or build/agent run --tag NAME --task %s\n",
              task.c_str(), task.c_str());
}

void make_task(const Options& options) {
  catch_interrupts();
  check_options(options);
  TaskInfo info;
  info.source = source_label(options);
  info.name = task_name(options);
  info.vocab_size = options.vocab;
  info.seq_len = options.seq_len;
  info.eval_tokens = options.eval_tokens;
  info.time_budget = options.time_budget;
  const fs::path dir = data_dir() / info.name;
  if (already_prepared(dir, info, options.force)) {
    std::printf("Task %s is already prepared in %s\n", info.name.c_str(), dir.c_str());
    return print_next(info.name);
  }

  const TaskLock lock(dir);
  Workplace workplace(dir);
  const Corpus corpus = read_corpus(options);
  std::printf("%s: %zu documents, %.1f MB of text (%lld exact duplicates left out)\n",
              info.source.c_str(), corpus.documents.size(),
              static_cast<double>(corpus.bytes) / kMega, static_cast<long long>(corpus.duplicates));
  const int64_t rows = rows_wanted(info.eval_tokens, info.seq_len);
  const size_t set_aside = documents_to_set_aside(corpus, rows, info.seq_len);

  const Tokenizer tokenizer = train_tokenizer(corpus, set_aside, options);
  tokenizer.save(workplace.path() / "tokenizer.tiktoken");
  info.tokenizer_sha256 = sha256_of_file(workplace.path() / "tokenizer.tiktoken");
  info.bos = tokenizer.bos();
  const size_t held_out =
      write_heldout_splits(workplace.path(), corpus, set_aside, tokenizer, options, info);
  write_train(workplace.path(), corpus, held_out, tokenizer, options, info);
  write_file(workplace.path() / "task.json", to_json(info));
  workplace.publish();

  print_splits(info);
  std::printf("Task %s is in %s\n", info.name.c_str(), dir.c_str());
  print_next(info.name);
}

// ------------------------------------------------------------------------------------------------
// Looking at a task

fs::path find_task(const std::string& name) { return task_dir(name.empty() ? only_task() : name); }

Tokenizer load_tokenizer(const fs::path& dir) {
  return Tokenizer::load(dir / "tokenizer.tiktoken");
}

// Text in quotes, with line ends and what is not UTF-8 made visible.
std::string in_quotes(std::string_view text) {
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

void print_longest_tokens(const Tokenizer& tokenizer) {
  std::vector<int64_t> ids(static_cast<size_t>(tokenizer.bos()));
  for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int64_t>(i);
  std::stable_sort(ids.begin(), ids.end(), [&](int64_t a, int64_t b) {
    return tokenizer.token_bytes(a) > tokenizer.token_bytes(b);
  });
  std::printf("\nlongest tokens:\n");
  for (size_t i = 0; i < std::min<size_t>(10, ids.size()); ++i) {
    std::printf("  %5lld %s\n", static_cast<long long>(ids[i]),
                in_quotes(tokenizer.token(ids[i])).c_str());
  }
}

void info_command(const std::string& task) {
  const fs::path dir = find_task(task);
  const TaskInfo info = load_task(dir);
  const Tokenizer tokenizer = load_tokenizer(dir);
  std::printf("task %s in %s\nsource %s\n", info.name.c_str(), dir.c_str(), info.source.c_str());
  std::printf("vocabulary %lld, seq_len %lld, time budget %g s\n\n",
              static_cast<long long>(info.vocab_size), static_cast<long long>(info.seq_len),
              info.time_budget);
  print_splits(info);
  print_longest_tokens(tokenizer);
  constexpr size_t kShown = 64;  // tokens
  std::ifstream shard(train_shards(dir, info)[0], std::ios::binary);
  std::vector<uint16_t> train(kShown);
  shard.read(reinterpret_cast<char*>(train.data()), 2 * kShown);
  train.resize(static_cast<size_t>(shard.gcount()) / 2);
  std::printf("\nfirst tokens of train:\n  %s\n", in_quotes(tokenizer.decode(train)).c_str());
  for (const char* split : {"val", "test"}) {
    std::vector<uint16_t> rows = heldout_rows(dir, info, split);
    rows.resize(std::min(rows.size(), kShown));
    std::printf("first tokens of %s:\n  %s\n", split, in_quotes(tokenizer.decode(rows)).c_str());
  }
}

std::string read_stdin() {
  return {std::istreambuf_iterator<char>(std::cin), std::istreambuf_iterator<char>()};
}

void encode_command(const std::string& task, bool binary) {
  const Tokenizer tokenizer = load_tokenizer(find_task(task));
  std::vector<uint16_t> ids;
  tokenizer.encode(read_stdin(), ids);
  if (binary) {
    std::fwrite(ids.data(), 2, ids.size(), stdout);
    return;
  }
  for (size_t i = 0; i < ids.size(); ++i) std::printf(i == 0 ? "%d" : " %d", ids[i]);
  std::printf("\n");
}

void decode_command(const std::string& task, bool binary) {
  const Tokenizer tokenizer = load_tokenizer(find_task(task));
  const std::string input = read_stdin();
  std::vector<uint16_t> ids;
  if (binary) {
    check(input.size() % 2 == 0, "the input ends within an id; --binary takes two bytes for each");
    ids.resize(input.size() / 2);
    std::copy(input.begin(), input.end(), reinterpret_cast<char*>(ids.data()));
  } else {
    std::istringstream words(input);
    for (std::string word; words >> word;) {
      const bool digits = word.find_first_not_of("0123456789") == std::string::npos;
      const int64_t id = digits && word.size() < 7 ? std::stoll(word) : -1;
      check(id >= 0, "\"" + word + "\" is no token id; give numbers, or --binary");
      tokenizer.token(id);  // refuses what is out of range before it is cut to 16 bits
      ids.push_back(static_cast<uint16_t>(id));
    }
  }
  const std::string text = tokenizer.decode(ids);
  std::fwrite(text.data(), 1, text.size(), stdout);
}

// ------------------------------------------------------------------------------------------------
// Scoring and sampling a sealed model

struct ModelOptions {
  std::string model, task, split = "val", json, device = "auto";
  std::string prompt;
  SampleOptions sample;
};

SealedModel open_model(const ModelOptions& options) {
  check(fs::exists(options.model),
        "no sealed model at " + options.model + "; make one: build/train --seal " + options.model);
  const at::Device device = choose_device(options.device, cuda_status());
  set_precision(device);
  return load_sealed(options.model, device);
}

void print_score(const Score& score, const std::string& split) {
  const auto line = [](const std::string& key, const char* format, auto value) {
    std::printf("%-18s", (key + ":").c_str());
    std::printf(format, value);
    std::printf("\n");
  };
  std::printf("---\n");
  line(split + "_bpb", "%.6f", score.bpb);
  line(split + "_bpb_upstream", "%.6f", score.bpb_upstream);
  line("rows", "%lld", static_cast<long long>(score.rows));
  line("tokens", "%lld", static_cast<long long>(score.tokens));
  line("bytes", "%lld", static_cast<long long>(score.bytes));
  line("bytes_upstream", "%lld", static_cast<long long>(score.bytes_upstream));
  line("score_seconds", "%.1f", score.seconds);
}

// Throws Error where a file can't be written to: before a score is computed, not after.
void check_writable(const fs::path& file) {
  const fs::path folder = file.has_parent_path() ? file.parent_path() : fs::path(".");
  const bool writable = access(folder.c_str(), W_OK | X_OK) == 0;
  check(writable && !fs::is_directory(file),
        "can't write " + file.string() + ": " +
            (writable ? "it is a folder" : std::strerror(errno)) + "; give --json another path");
}

void score_command(const ModelOptions& options) {
  const fs::path dir = find_task(options.task);
  if (!options.json.empty() && options.json != "-") check_writable(options.json);
  const Score result = score(open_model(options), dir, options.split);
  const nlohmann::ordered_json json = {{options.split + "_bpb", result.bpb},
                                       {options.split + "_bpb_upstream", result.bpb_upstream},
                                       {"rows", result.rows},
                                       {"tokens", result.tokens},
                                       {"bytes", result.bytes},
                                       {"bytes_upstream", result.bytes_upstream},
                                       {"score_seconds", result.seconds}};
  if (options.json == "-") {
    std::printf("%s\n", json.dump().c_str());
    return;
  }
  print_score(result, options.split);
  if (!options.json.empty()) write_file(options.json, json.dump(2) + "\n");
}

void sample_command(const ModelOptions& options) {
  catch_interrupts();
  if (std::isnan(options.sample.temperature)) {  // which CLI::Range lets pass
    throw Error("--temperature must be a number from 0 to 100, such as 0.8", kUsage);
  }
  const Tokenizer tokenizer = load_tokenizer(find_task(options.task));
  const SealedModel model = open_model(options);
  check(model.vocab_size == tokenizer.vocab_size(),
        options.model + " has a vocabulary of " + std::to_string(model.vocab_size) +
            ", the task one of " + std::to_string(tokenizer.vocab_size()) +
            "; give the --task that it was trained on");
  std::vector<uint16_t> prompt{static_cast<uint16_t>(tokenizer.bos())};
  tokenizer.encode(options.prompt, prompt);
  const Graph graph(model);
  const auto logits = [&](at::Tensor ids) { return graph(ids.to(model.device)); };
  const int64_t batches = (options.sample.samples + model.rows - 1) / model.rows;
  std::vector<std::vector<uint16_t>> samples;
  {
    Progress progress("sampling ", static_cast<double>(batches * options.sample.tokens), "tokens");
    samples = sample(logits, model.rows, model.seq_len, prompt, tokenizer.bos(), options.sample,
                     [&](int64_t steps) {
                       check_interrupted();
                       progress.update(static_cast<double>(steps));
                     });
  }
  for (size_t i = 0; i < samples.size(); ++i) {
    std::printf("--- sample %zu\n", i + 1);
    const std::string text = options.prompt + tokenizer.decode(samples[i]);
    std::fwrite(text.data(), 1, text.size(), stdout);
    std::printf("\n");
  }
}

// ------------------------------------------------------------------------------------------------
// The command line

struct CommandLine {
  Options make;
  ModelOptions model;
  std::string task;  // of info, encode and decode
  bool binary = false;

  CLI::App app{"Makes the task that training reads, and scores sealed models on it."};

  CommandLine();

 private:
  CLI::App* command(const std::string& name, const std::string& help, std::string& task_name);
  void add_make();
  void add_look();
  void add_model();
};

void use_data_dir(const std::string& dir) { setenv("AUTORESEARCH_DATA", dir.c_str(), 1); }

CLI::App* CommandLine::command(const std::string& name, const std::string& help,
                               std::string& task_name) {
  CLI::App* sub = app.add_subcommand(name, help);
  sub->add_option("--task", task_name, "name of the task (default: the only one)");
  sub->add_option_function<std::string>("--data", use_data_dir, "folder for all data");
  return sub;
}

void CommandLine::add_make() {
  app.add_option("--source", make.source, "demo, climbmix, tinystories, or files and folders")
      ->expected(1, 1 << 20)
      ->capture_default_str();
  app.add_option("--task", make.task, "name of the task (default: demo, or the first path's)");
  CLI::Option* vocab = app.add_option("--vocab", make.vocab, "tokens of the vocabulary");
  CLI::Option* seq_len = app.add_option("--seq-len", make.seq_len, "tokens of context");
  CLI::Option* budget = app.add_option("--time-budget", make.time_budget, "training seconds");
  CLI::Option* eval = app.add_option("--eval-tokens", make.eval_tokens, "tokens to score on");
  for (CLI::Option* option : {vocab, seq_len, budget, eval}) option->capture_default_str();
  app.add_option("--workers", make.workers, "threads (default: one a core)");
  app.add_option_function<std::string>("--data", use_data_dir, "folder for all data");
  app.add_flag("--force", make.force, "make the task anew if it exists");
  app.callback([=, this] {
    if (!app.get_subcommands().empty()) return;
    // The demo is small, so that a first look takes minutes without a GPU; flags that are given
    // win.
    if (make.demo() && vocab->empty()) make.vocab = 1024;
    if (make.demo() && seq_len->empty()) make.seq_len = 256;
    if (make.demo() && budget->empty()) make.time_budget = 11;
    if (make.demo() && eval->empty()) make.eval_tokens = 65536;
    make_task(make);
  });
}

void CommandLine::add_look() {
  CLI::App* info = command("info", "Prints sizes, longest tokens and a sample of a task", task);
  info->callback([this] { info_command(task); });
  CLI::App* encode = command("encode", "Text on stdin to token ids on stdout (no BOS)", task);
  encode->add_flag("--binary", binary, "ids as little-endian uint16");
  encode->callback([this] { encode_command(task, binary); });
  CLI::App* decode = command("decode", "Token ids on stdin to text on stdout", task);
  decode->add_flag("--binary", binary, "ids as little-endian uint16");
  decode->callback([this] { decode_command(task, binary); });
}

void CommandLine::add_model() {
  const std::string device_help = "auto, cpu, cuda or cuda:N";
  CLI::App* score = command("score", "Bits per byte of a sealed model", model.task);
  score->add_option("MODEL", model.model, "sealed model")->required();
  score->add_option("--split", model.split, "val or test")->check(CLI::IsMember({"val", "test"}));
  score->add_option("--json", model.json, "write the score here as JSON; - prints it, and only it");
  score->add_option("--device", model.device, device_help);
  score->callback([this] { score_command(model); });

  SampleOptions& options = model.sample;
  CLI::App* sample = command("sample", "Text from a sealed model", model.task);
  sample->add_option("MODEL", model.model, "sealed model")->required();
  sample->add_option("--prompt", model.prompt, "text to go on from");
  sample->add_option("--samples", options.samples, "how many")->check(CLI::Range(1, 10000));
  sample->add_option("--tokens", options.tokens, "of each, at most")->check(CLI::Range(1, 1 << 20));
  sample->add_option("--temperature", options.temperature, "0: always the likeliest token")
      ->check(CLI::Range(0.0, 100.0));
  sample->add_option("--top-k", options.top_k, "draw among so many of the likeliest; 0: all")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 20));
  sample->add_option("--seed", options.seed, "same seed, same text");
  sample->add_option("--device", model.device, device_help);
  for (CLI::Option* option : sample->get_options()) option->capture_default_str();
  sample->callback([this] { sample_command(model); });
}

CommandLine::CommandLine() {
  app.require_subcommand(0, 1);
  add_make();
  add_look();
  add_model();
}

int run_program(int argc, char** argv) {
  CommandLine line;
  try {
    line.app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    if (e.get_exit_code() != 0) {
      throw Error(std::string(e.what()) + "; build/prepare --help lists what there is", kUsage);
    }
    line.app.exit(e);  // prints what --help asked for
  }
  const bool flushed = std::fflush(stdout) == 0;
  check(flushed && !std::ferror(stdout),
        std::string("can't write the output: ") + std::strerror(errno != 0 ? errno : EIO));
  return kDone;
}

}  // namespace
}  // namespace autoresearch

int main(int argc, char** argv) try {
  return autoresearch::run_program(argc, argv);
} catch (const autoresearch::Error& e) {
  std::fprintf(stderr, "prepare: error: %s\n", e.what());
  // Why a model can't be sealed matters to train; here it is void, an error like others.
  return e.code == autoresearch::kCannotSeal ? autoresearch::kError : e.code;
} catch (const std::exception& e) {
  std::fprintf(stderr, "prepare: error: %s\n", e.what());
  return autoresearch::kError;
}
