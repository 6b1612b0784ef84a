// prepare: makes the task that everything else only reads.
//
//   build/prepare --source demo            headers of this machine, small; for a first look
//   build/prepare --source PATH...         files and folders of text, source code, .jsonl
//   build/prepare info|encode|decode       what a task holds; text to ids and back
//
// A corpus becomes a task folder (task/task.h) in this order: index the documents, set some
// aside, train the tokenizer on the others, pack val and test for ever, write the training shards.
// Nothing in it depends on the clock, the number of threads or the order of files.

#include <signal.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <sstream>
#include <thread>

#include "common/error.h"
#include "common/files.h"
#include "common/log.h"
#include "common/progress.h"
#include "prepare/bytes.h"
#include "prepare/corpus.h"
#include "prepare/download.h"
#include "prepare/encode.h"
#include "prepare/find.h"
#include "prepare/glance.h"
#include "prepare/hub.h"
#include "prepare/near.h"
#include "prepare/overlap.h"
#include "prepare/parquet.h"
#include "prepare/shuffle.h"
#include "prepare/splits.h"
#include "prepare/stream.h"
#include "prepare/workplace.h"
#include "task/task.h"
#include "task/tokenizer.h"
#include "task/unicode.h"

namespace autoresearch {
namespace {

constexpr int64_t kDemoBytes = 32'000'000;
constexpr double kMega = 1e6;
constexpr int64_t kMostWorkers = 32;          // each takes some 7 MB, and one thread reads for all
constexpr int64_t kMostEvalTokens = 1 << 26;  // those of a split are held in memory

struct Options {
  std::vector<std::string> source{"climbmix"};
  std::string task;                // empty: derived from the source
  std::optional<int64_t> shards;   // of the hub's for training; -1: all
  std::string base_url;            // of the hub's files; empty: as the hub has them
  int64_t downloads = 8;           // at a time
  ReadOptions read;                // of files
  int64_t vocab = 8192;            // tokens, special ones included
  int64_t seq_len = 2048;          // tokens of context
  double time_budget = 300;        // seconds of training
  int64_t eval_tokens = 40 << 19;  // in val, and as many in test
  int64_t workers = std::clamp<int64_t>(std::thread::hardware_concurrency(), 1, kMostWorkers);
  std::string dedup = "exact";
  bool force = false;

  bool is(const char* name) const { return source == std::vector<std::string>{name}; }
  bool from_hub() const { return source.size() == 1 && is_hub_corpus(source[0]); }
};

volatile sig_atomic_t interrupted = 0;

// Long steps call this: Ctrl-C then unwinds, which removes what is half-made.
void check_interrupted() {
  if (interrupted) throw Error("interrupted; no task was made", kInterrupted);
}

void catch_interrupts() {
  struct sigaction action = {};
  action.sa_handler = [](int) { interrupted = 1; };
  action.sa_flags = static_cast<int>(SA_RESETHAND);  // a second Ctrl-C ends the program at once
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) sigaction(signal, &action, nullptr);
}

// ------------------------------------------------------------------------------------------------
// Making a task

// Throws Error about the command line.
void check_usage(bool good, const std::string& message) {
  if (!good) throw Error(message, kUsage);
}

// What task.json calls the source, by which a repeated command is known. Paths must exist.
std::string source_label(const Options& options) {
  if (options.is("demo") || options.from_hub()) return options.source[0];
  std::set<std::string> paths;  // in whatever order they were given
  for (const std::string& path : options.source) {
    std::error_code error;
    const fs::path real = is_stdin(path) ? fs::path(path) : fs::canonical(path, error);
    check(!error || !fs::exists(path),  // a pipe's name, such as /dev/fd/63, leads nowhere
          path + " is neither a file nor a folder; if it is a pipe, give it as stdin: --source -");
    check(!error,
          "can't read " + path + ": " + error.message() + "; check the path after --source");
    paths.insert(real.string());
  }
  std::string label;
  for (const std::string& path : paths) label += (label.empty() ? "" : ", ") + path;
  return label;
}

// The task's name: given, or the corpus's, or that of the first path.
std::string task_name(const Options& options) {
  std::string name = options.task;
  if (name.empty() && (options.is("demo") || options.from_hub())) name = options.source[0];
  check_usage(!name.empty() || !is_stdin(options.source[0]),
              "give a task from stdin a name with --task");
  if (name.empty()) name = fs::canonical(options.source[0]).stem().string();
  check_task_name(name);
  return name;
}

// task.json is JSON, which can't hold other bytes.
void check_options_are_text(const Options& options) {
  check_usage(invalid_utf8_bytes(source_label(options)) == 0,
              "the path of a --source is not UTF-8; rename it, or copy the files elsewhere");
  check_usage(invalid_utf8_bytes(options.read.doc_separator + options.read.column) == 0,
              "--doc-separator and --column must be UTF-8; give others");
}

void check_options(const Options& options) {
  for (const std::string& source : options.source) {
    check_usage((source != "demo" && !is_hub_corpus(source)) || options.source.size() == 1,
                "--source " + source + " can't be mixed with paths");
  }
  check_usage(
      options.from_hub() || (!options.shards && options.base_url.empty()),
      "--shards and --base-url are for climbmix and tinystories; leave them out for this --source");
  check_usage(
      !options.from_hub() || options.read.doc_separator.empty(),
      "--doc-separator is for plain text, which " + options.source[0] + " is not; leave it out");
  check_usage(!options.from_hub() || options.dedup == "exact",
              "--dedup near is for files; leave it out, so that figures compare with upstream's");
  check_options_are_text(options);
  check_usage(options.vocab >= Tokenizer::kMinVocab && options.vocab <= Tokenizer::kMaxVocab,
              "--vocab " + std::to_string(options.vocab) + " is not possible; use " +
                  std::to_string(Tokenizer::kMinVocab) + " to " +
                  std::to_string(Tokenizer::kMaxVocab));
  check_usage(
      options.seq_len >= 16 && options.seq_len <= 1 << 20,
      "--seq-len " + std::to_string(options.seq_len) + " is not possible; use 16 to 1048576");
  check_usage(options.eval_tokens >= 1 && options.eval_tokens <= kMostEvalTokens,
              "--eval-tokens must be between 1 and " + std::to_string(kMostEvalTokens) +
                  "; leave it out for the usual number");
  check_usage(std::isfinite(options.time_budget) && options.time_budget > 0,
              "--time-budget must be a number of seconds above 0, such as 300");
  check_usage(options.workers >= 1 && options.workers <= kMostWorkers,
              "--workers must be between 1 and " + std::to_string(kMostWorkers) +
                  "; more would wait for the one thread that reads");
}

// Throws Error unless the task's files are what its task.json says: those to score by by their
// hashes, the training shards, which may be terabytes, by their sizes.
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
  compare("--shards", there.shards, wanted.shards);
  compare("--column", there.column, wanted.column);
  compare("--doc-separator", in_quotes(there.doc_separator), in_quotes(wanted.doc_separator));
  compare("--dedup", there.dedup, wanted.dedup);
  compare("--vocab", there.vocab_size, wanted.vocab_size);
  compare("--seq-len", there.seq_len, wanted.seq_len);
  compare("--time-budget", there.time_budget, wanted.time_budget);
  compare("--eval-tokens", there.eval_tokens, wanted.eval_tokens);
  check(differences.empty(), "task " + wanted.name + " is already prepared with " + differences +
                                 "; use --force to make it anew, or --task with another name");
  check_whole(dir, there);
  return true;
}

// Throws Error where the disk surely can't hold what is to be written.
void check_space(const fs::path& folder, double bytes) {
  std::error_code error;
  const double available = static_cast<double>(fs::space(folder, error).available);
  check(error || bytes <= available,
        format("making the task needs %.1f MB in %s, where %.1f MB are free; free some, or give "
               "--data another folder",
               bytes / kMega, folder.parent_path().c_str(), available / kMega));
}

// What the files surely hold: text is rarely compressed to more than half.
double least_text_bytes(const std::vector<fs::path>& files) {
  double bytes = 0;
  for (const fs::path& file : files) {
    const bool compressed = plain_name(file) != file || lower_extension(file) == ".parquet";
    bytes += static_cast<double>(total_bytes({file})) * (compressed ? 2 : 1);
  }
  return bytes;
}

// What one task is made from and with.
struct Making {
  const Options& options;
  fs::path dir;  // the workplace
  TaskInfo& info;
};

// Learns from what `reader` yields, of which `total` is the length by its own count. It may be done
// before that: so many characters are enough.
Tokenizer learn_tokenizer(const Making& making, DocumentReader& reader, int64_t total) {
  const int64_t vocab = making.info.vocab_size;
  std::optional<Progress> bar;
  bar.emplace("splitting", static_cast<double>(total), "MB", kMega);
  const int64_t begin = reader.position();
  double characters = 0;  // at most
  const auto next = [&](std::string& document) {
    check_interrupted();
    const bool more = reader.next(document);
    characters += static_cast<double>(
        std::min(static_cast<int64_t>(document.size()), Tokenizer::kDocumentCharacters));
    bar->update(std::max(static_cast<double>(reader.position() - begin),
                         static_cast<double>(total) * characters /
                             static_cast<double>(Tokenizer::kTrainingCharacters)));
    return more;
  };
  const auto merged = [&](int64_t merges) {
    check_interrupted();
    if (merges == 1) bar.emplace("merging  ", vocab - Tokenizer::kMinVocab, "merges");
    bar->update(static_cast<double>(merges));
  };
  Tokenizer tokenizer = Tokenizer::train(next, vocab, making.options.workers, merged);
  check(tokenizer.vocab_size() == vocab,
        "the corpus is too small for --vocab " + std::to_string(vocab) + "; it gives " +
            std::to_string(tokenizer.vocab_size()) + " tokens at most: use --vocab " +
            std::to_string(tokenizer.vocab_size()) + " or fewer, or give more text");
  const fs::path file = making.dir / "tokenizer.tiktoken";
  tokenizer.save(file);
  making.info.tokenizer_sha256 = sha256_of_file(file);
  making.info.bos = tokenizer.bos();
  return tokenizer;
}

// Documents that val and test are drawn from, with what is known of them.
struct Candidates {
  TokenSequences documents;
  std::vector<size_t> group_ends;
  std::vector<std::pair<size_t, int64_t>> invalid;  // document, its bytes that are not UTF-8
  int64_t bytes = 0;
};

// Encodes the first `count` documents of `reader`, or all that there are.
Candidates encode_candidates(const Making& making, DocumentReader& reader, size_t count,
                             const Tokenizer& tokenizer) {
  Candidates result;
  const auto add = [&](const EncodedDocument& document) {
    check_interrupted();
    if (document.invalid_bytes > 0) {
      result.invalid.emplace_back(result.documents.size(), document.invalid_bytes);
    }
    result.documents.add(document.ids, tokenizer.bos());
    result.bytes += document.bytes;
    if (document.group_ended) result.group_ends.push_back(result.documents.size());
    return result.documents.size() < count;
  };
  encode_documents(reader, tokenizer, making.options.workers, add);
  return result;
}

SplitInfo write_heldout(const fs::path& file, const std::vector<uint16_t>& rows, size_t documents,
                        const TaskInfo& info, const Tokenizer& tokenizer) {
  write_file(file, {reinterpret_cast<const char*>(rows.data()), 2 * rows.size()});
  SplitInfo split;
  split.documents = static_cast<int64_t>(documents);
  split.tokens = static_cast<int64_t>(rows.size());
  for (const uint16_t id : rows) split.bytes += tokenizer.token_bytes(id);
  split.rows = split.tokens / (info.seq_len + 1);
  split.sha256 = split_sha256({file});
  return split;
}

// Writes val and test. Returns how many of the candidates they took.
size_t write_heldout_splits(const Making& making, const HeldOut& held_out,
                            const Candidates& candidates, const Tokenizer& tokenizer) {
  TaskInfo& info = making.info;
  info.val = write_heldout(making.dir / "heldout" / "val.bin", held_out.val, held_out.val_documents,
                           info, tokenizer);
  info.test = write_heldout(making.dir / "heldout" / "test.bin", held_out.test,
                            held_out.test_documents, info, tokenizer);
  if (const int64_t wanted = rows_wanted(info.eval_tokens, info.seq_len); info.test.rows < wanted) {
    std::printf("val gets %lld rows and test %lld, not %lld each: %s\n",
                static_cast<long long>(info.val.rows), static_cast<long long>(info.test.rows),
                static_cast<long long>(wanted),
                making.options.from_hub() ? "the held-out file has no more"
                                          : "more would take over a tenth of the corpus");
  }
  const size_t taken = held_out.val_documents + held_out.test_documents;
  for (const auto& [document, bytes] : candidates.invalid) {
    if (document < taken) info.invalid_utf8_bytes += bytes;
  }
  return taken;
}

// What train is held against: val, to tell how much of it occurs there; and documents whose like
// stays out of it.
struct Guarded {
  Overlap val;
  NearDuplicates documents;
};

// Encodes what `reader`, of which `total` is the length by its own count, still yields.
void write_train(const Making& making, DocumentReader& reader, int64_t total,
                 ShardWriter::Order order, const Tokenizer& tokenizer, Guarded guarded) {
  TaskInfo& info = making.info;
  int64_t resembling = 0;
  const int64_t begin = reader.position();
  Progress progress("encoding ", static_cast<double>(total - begin), "MB", kMega);
  ShardWriter writer(making.dir / "train", order, info.seq_len, info.bos);
  SplitInfo counts;
  const auto write = [&](const EncodedDocument& document) {
    check_interrupted();
    progress.update(static_cast<double>(reader.position() - begin));
    if (guarded.documents.resembles(document.ids)) return ++resembling > 0;
    guarded.val.add(document.ids);
    writer.add(document.ids);
    ++counts.documents;
    counts.bytes += document.bytes;
    info.invalid_utf8_bytes += document.invalid_bytes;
    return true;
  };
  encode_documents(reader, tokenizer, making.options.workers, write);
  info.val_in_train = guarded.val.share().value_or(-1);
  if (resembling > 0) {
    std::printf("%lld documents that resemble one of val or test stay out of train\n",
                static_cast<long long>(resembling));
  }
  info.train = writer.finish();
  info.train.documents = counts.documents;
  info.train.bytes = counts.bytes;
}

// Thrown when no row can be filled: what would be enough, in the user's own terms. `set_aside`
// are the tokens that val and test could draw from.
Error too_small(int64_t documents, int64_t bytes, int64_t seq_len, double bytes_per_token,
                int64_t set_aside) {
  const auto tokens = static_cast<int64_t>(static_cast<double>(bytes) / bytes_per_token);
  const int64_t usable = std::min(tokens / 20, set_aside);
  int64_t fitting = 16;
  while (2 * (2 * fitting + 1) <= usable / 2) fitting *= 2;
  const std::string advice =
      format("or --seq-len %lld --eval-tokens %lld or less", static_cast<long long>(fitting),
             static_cast<long long>(fitting));
  const std::string corpus =
      format("the corpus (%.1f KB in %lld documents)", static_cast<double>(bytes) / 1e3,
             static_cast<long long>(documents));
  if (tokens / 20 > 2 * (seq_len + 1)) {
    return Error(
        format("%s has so few documents that those held out hold no validation row of %lld "
               "tokens; give more documents, %s",
               corpus.c_str(), static_cast<long long>(seq_len), advice.c_str()));
  }
  return Error(format(
      "%s is too small for one validation row of %lld tokens; give about %.0f KB of text, %s",
      corpus.c_str(), static_cast<long long>(seq_len),
      std::ceil(40.0 * static_cast<double>(seq_len + 1) * bytes_per_token / 1e3), advice.c_str()));
}

// ------------------------------------------------------------------------------------------------
// Files of one's own: shuffled by content, duplicates left out

void read_corpus(const Making& making, ShuffledDocuments& documents) {
  const Options& options = making.options;
  if (std::any_of(options.source.begin(), options.source.end(), is_stdin)) {
    make_stdin_a_file(making.dir / "documents", check_interrupted);
  }
  const std::vector<fs::path> files =
      options.is("demo") ? find_demo_files({AUTORESEARCH_TORCH_INCLUDE, "/usr/include"}, kDemoBytes)
                         : find_files({options.source.begin(), options.source.end()}, options.read);
  const auto total = static_cast<double>(total_bytes(files));
  check_space(making.dir, 1.5 * least_text_bytes(files));  // a copy, and two bytes for a token
  ReadOptions read = options.read;
  read.part_bytes = part_bytes(files);
  std::optional<Progress> bar;
  const auto show = [&](int64_t bytes) {
    check_interrupted();
    bar->update(static_cast<double>(bytes));
  };
  bar.emplace("reading  ", total, "MB", kMega);
  read_files(files, read, options.workers, documents, show);
  bar.emplace("shuffling", static_cast<double>(documents.added_bytes()), "MB", kMega);
  documents.finish(show);
  bar.reset();
  check(documents.bytes() > 0, "the corpus is empty: no text in the " +
                                   std::to_string(files.size()) +
                                   " file(s) of --source; give files with text");
  std::printf("%s: %lld documents, %.1f MB of text (%lld exact duplicates left out)\n%s",
              making.info.source.c_str(), static_cast<long long>(documents.documents()),
              static_cast<double>(documents.bytes()) / kMega,
              static_cast<long long>(documents.duplicates()), read.findings->report().c_str());
}

void make_from_files(const Making& making) {
  TaskInfo& info = making.info;
  ShuffledDocuments documents(making.dir / "documents");
  read_corpus(making, documents);
  const int64_t bytes = documents.bytes();
  const int64_t rows = rows_wanted(info.eval_tokens, info.seq_len);
  const int64_t set_aside =
      documents_to_set_aside(*documents.read(), documents.documents(), bytes, rows, info.seq_len);

  auto others = documents.read();
  skip(*others, set_aside);
  const Tokenizer tokenizer = learn_tokenizer(making, *others, bytes - others->position());
  others.reset();

  size_t taken = 0;
  std::optional<Guarded> guarded;
  {
    const Candidates candidates =
        encode_candidates(making, *documents.read(), static_cast<size_t>(set_aside), tokenizer);
    const double bytes_per_token =
        static_cast<double>(candidates.bytes) /
        static_cast<double>(candidates.documents.tokens.size() - candidates.documents.size());
    const auto tokens = static_cast<int64_t>(static_cast<double>(bytes) / bytes_per_token);
    const HeldOut held_out =
        hold_out(candidates.documents, rows_affordable(rows, info.seq_len, tokens), info.seq_len,
                 info.bos, tokens);
    if (held_out.rows == 0) {
      throw too_small(documents.documents(), bytes, info.seq_len, bytes_per_token,
                      static_cast<int64_t>(candidates.documents.tokens.size()));
    }
    taken = write_heldout_splits(making, held_out, candidates, tokenizer);
    guarded = Guarded{Overlap(held_out.val, info.bos), {}};
    for (size_t i = 0; info.dedup == "near" && i < taken; ++i) {
      guarded->documents.add(candidates.documents[i].subspan(1));
    }
  }

  auto rest = documents.read();
  skip(*rest, static_cast<int64_t>(taken));
  write_train(making, *rest, bytes, ShardWriter::kShuffledPassages, tokenizer, std::move(*guarded));
  if (info.train.tokens < info.seq_len + 1) {
    throw too_small(documents.documents(), bytes, info.seq_len,
                    static_cast<double>(info.train.bytes) / static_cast<double>(info.train.tokens),
                    info.val.tokens + info.test.tokens);
  }
}

// ------------------------------------------------------------------------------------------------
// A corpus from the hub: whole documents in order, one pinned file held out

// The tokenizer from the training shards, val and test from the held-out one, then the training
// split.
void encode_shards(const Making& making, const std::vector<fs::path>& files,
                   const fs::path& heldout) {
  TaskInfo& info = making.info;
  const int64_t total = total_bytes(files);
  check_space(making.dir, static_cast<double>(total));  // tokens take about what the shards do
  const ReadOptions& read = making.options.read;
  const Tokenizer tokenizer = learn_tokenizer(making, *open_in_order(files, read), total);
  std::optional<Guarded> guarded;
  {
    const Candidates candidates =
        encode_candidates(making, *open_in_order({heldout}, read), SIZE_MAX, tokenizer);
    const HeldOut held_out =
        hold_out_in_order(candidates.documents, candidates.group_ends,
                          rows_wanted(info.eval_tokens, info.seq_len), info.seq_len);
    check(held_out.rows > 0, heldout.string() + " (" + std::to_string(candidates.documents.size()) +
                                 " documents) holds no row of " + std::to_string(info.seq_len) +
                                 " tokens for val and for test, each of which is packed from a "
                                 "pool of 1,000 documents; give another --base-url, or a smaller "
                                 "--seq-len");
    write_heldout_splits(making, held_out, candidates, tokenizer);
    guarded = Guarded{Overlap(held_out.val, info.bos), {}};
  }
  write_train(making, *open_in_order(files, read), total, ShardWriter::kAsTheyCome, tokenizer,
              std::move(*guarded));
  check(info.train.tokens > info.seq_len, "the training shards hold no row of " +
                                              std::to_string(info.seq_len) +
                                              " tokens; give a smaller --seq-len");
}

void make_from_hub(const Making& making, const HubCorpus& corpus) {
  const fs::path folder = data_dir() / "downloads" / corpus.name;
  download(folder, downloads(corpus),
           {.parallel = making.options.downloads,
            .token = hub_token(),
            .problem = parquet_problem,
            .interrupted = [] { return interrupted != 0; }});
  std::vector<fs::path> files;
  for (const std::string& file : corpus.train_files) files.push_back(folder / local_name(file));
  try {
    encode_shards(making, files, folder / local_name(corpus.heldout_file));
  } catch (const DamagedParquet& damaged) {  // inside, where no check of what arrived looks
    fs::remove(damaged.file);
    throw Error(damaged.file.string() +
                " arrived damaged, and is removed; run the same command again to download it anew");
  }
}

void print_next(const std::string& task) {
  std::printf("Done. Next: build/train --task %s, or build/agent run --tag NAME --task %s\n",
              task.c_str(), task.c_str());
}

// Says so where the task is there.
bool nothing_to_do(const fs::path& dir, const TaskInfo& info, bool force) {
  if (!already_prepared(dir, info, force)) return false;
  const bool piped = info.source.starts_with('-');  // paths are absolute, and sort behind it
  std::printf("Task %s is already prepared in %s%s\n", info.name.c_str(), dir.c_str(),
              piped ? " (what the pipe holds was not looked at; --force makes it anew)" : "");
  print_next(info.name);
  return true;
}

void make_task(const Options& options) {
  catch_interrupts();
  check_options(options);
  TaskInfo info;
  info.source = source_label(options);
  info.name = task_name(options);
  std::optional<HubCorpus> corpus;
  if (options.from_hub()) {
    corpus = hub_corpus(options.source[0], options.shards, options.base_url);
    info.shards = static_cast<int64_t>(corpus->train_files.size());
  }
  info.column = options.read.column;
  info.doc_separator = options.read.doc_separator;
  info.dedup = options.dedup;
  info.vocab_size = options.vocab;
  info.seq_len = options.seq_len;
  info.eval_tokens = options.eval_tokens;
  info.time_budget = options.time_budget;
  const fs::path dir = data_dir() / info.name;
  if (nothing_to_do(dir, info, options.force)) return;
  const TaskLock lock(dir);
  if (nothing_to_do(dir, info, options.force)) return;  // another process was faster
  Workplace workplace(dir);
  const Making making{options, workplace.path(), info};
  corpus ? make_from_hub(making, *corpus) : make_from_files(making);
  write_file(workplace.path() / "task.json", to_json(info));
  workplace.publish();

  std::printf("%s", splits_at_a_glance(info).c_str());
  std::printf("Task %s is in %s\n", info.name.c_str(), dir.c_str());
  print_next(info.name);
}

// ------------------------------------------------------------------------------------------------
// Looking at a task

fs::path find_task(const std::string& name) { return task_dir(name.empty() ? only_task() : name); }

Tokenizer load_tokenizer(const fs::path& dir) {
  return Tokenizer::load(dir / "tokenizer.tiktoken");
}

void info_command(const std::string& task) {
  const fs::path dir = find_task(task);
  const TaskInfo info = load_task(dir);
  std::printf("task %s in %s\nsource %s\n", info.name.c_str(), dir.c_str(), info.source.c_str());
  std::printf("vocabulary %lld, seq_len %lld\n\n", static_cast<long long>(info.vocab_size),
              static_cast<long long>(info.seq_len));
  std::printf("%s%s%s", splits_at_a_glance(info).c_str(), budget_at_a_glance(info).c_str(),
              samples_at_a_glance(dir, info, load_tokenizer(dir)).c_str());
}

// ------------------------------------------------------------------------------------------------
// The command line

struct CommandLine {
  Options make;
  std::string task;  // of info, encode and decode
  bool binary = false;

  CLI::App app{"Makes the task that training reads."};

  CommandLine();

 private:
  CLI::App* command(const std::string& name, const std::string& help, std::string& task_name);
  void add_make();
  void add_look();
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
  app.add_option("--source", make.source,
                 "climbmix or tinystories from the hub, demo, or files and folders; - is "
                 "stdin, -.jsonl that with JSON lines")
      ->expected(1, 1 << 20)
      ->capture_default_str();
  app.add_option("--task", make.task, "name of the task (default: the source's)");
  app.add_option(
      "--shards", make.shards,
      "training files of climbmix or tinystories; -1: all (default: 10, or all of less)");
  app.add_option("--base-url", make.base_url,
                 "where the hub's files are (default: below $HF_ENDPOINT)");
  app.add_option("--downloads", make.downloads, "files to download at a time")
      ->check(CLI::Range(1, 256))
      ->capture_default_str();
  app.add_option("--column", make.read.column,
                 "of parquet and JSON lines: where the text is, such as raw.text, paragraphs[] or "
                 "messages[].content")
      ->capture_default_str();
  app.add_option("--doc-separator", make.read.doc_separator,
                 "in plain text, what stands between documents, such as $'\\n\\n'");
  app.add_option("--dedup", make.dedup,
                 "exact, or near: what resembles a held-out document stays out of train too")
      ->check(CLI::IsMember({"exact", "near"}))
      ->capture_default_str();
  CLI::Option* vocab = app.add_option("--vocab", make.vocab, "tokens of the vocabulary");
  CLI::Option* seq_len = app.add_option("--seq-len", make.seq_len, "tokens of context");
  CLI::Option* budget = app.add_option("--time-budget", make.time_budget, "training seconds");
  CLI::Option* eval = app.add_option("--eval-tokens", make.eval_tokens, "tokens to score on");
  for (CLI::Option* option : {vocab, seq_len, budget, eval}) option->capture_default_str();
  app.add_option("--workers", make.workers, "threads, at most 32 (default: one a core)");
  app.add_option_function<std::string>("--data", use_data_dir, "folder for all data");
  app.add_flag("--force", make.force, "make the task anew if it exists");
  app.callback([=, this] {
    if (!app.get_subcommands().empty()) return;
    // The demo is small, so that a first look takes minutes without a GPU; flags that are given
    // win.
    if (make.is("demo") && vocab->empty()) make.vocab = 1024;
    if (make.is("demo") && seq_len->empty()) make.seq_len = 256;
    if (make.is("demo") && budget->empty()) make.time_budget = 11;
    if (make.is("demo") && eval->empty()) make.eval_tokens = 65536;
    make_task(make);
  });
}

void CommandLine::add_look() {
  CLI::App* info = command("info", "Prints sizes, longest tokens and a sample of a task", task);
  info->callback([this] { info_command(task); });
  CLI::App* encode = command("encode", "Text on stdin to token ids on stdout (no BOS)", task);
  encode->add_flag("--binary", binary, "ids as little-endian uint16");
  encode->callback(
      [this] { encode_stream(load_tokenizer(find_task(task)), stdin, stdout, binary); });
  CLI::App* decode = command("decode", "Token ids on stdin to text on stdout", task);
  decode->add_flag("--binary", binary, "ids as little-endian uint16");
  decode->callback(
      [this] { decode_stream(load_tokenizer(find_task(task)), stdin, stdout, binary); });
}

CommandLine::CommandLine() {
  app.require_subcommand(0, 1);
  add_make();
  add_look();
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
  autoresearch::set_up_log("prepare");
  return autoresearch::run_program(argc, argv);
} catch (const autoresearch::Error& e) {
  std::fprintf(stderr, "prepare: error: %s\n", e.what());
  return e.code;
} catch (const std::exception& e) {
  std::fprintf(stderr, "prepare: error: %s\n", e.what());
  return autoresearch::kError;
}
