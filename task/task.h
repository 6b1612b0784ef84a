// The task folder: what `prepare` fixes once, and everything else only reads.
//
//   <data>/<task>/task.json            names, sizes, hashes (struct TaskInfo)
//   <data>/<task>/tokenizer.tiktoken   base64 token, space, rank; special tokens in task.json
//   <data>/<task>/train/00000.bin ...  uint16 tokens, little-endian; every document begins with BOS
//   <data>/<task>/heldout/val.bin, heldout/test.bin   rows of seq_len + 1 uint16 tokens
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/files.h"

namespace autoresearch {

struct SplitInfo {
  int64_t documents = 0, tokens = 0, bytes = 0;  // bytes of raw text
  int64_t rows = 0;                              // held-out splits only
  std::string sha256;                            // split_sha256 of the split's files, in order
};

struct TaskInfo {
  int version = 2;
  std::string name, source;
  int64_t shards = 0;                 // for training, of a corpus from the hub
  std::string column, doc_separator;  // how files were read (ReadOptions)
  int64_t vocab_size = 0;             // special tokens included
  int64_t seq_len = 0, eval_tokens = 0;
  double time_budget = 0;  // seconds
  int64_t bos = 0;         // id of the first special token, which begins every document
  std::string tokenizer_sha256;
  int64_t invalid_utf8_bytes = 0;  // of the splits' documents; kept as they are
  std::string dedup = "exact";     // or "near"; tasks of older versions have neither
  double val_in_train = -1;  // share of val's runs of 50 tokens (prepare/overlap.h); -1: unknown
  SplitInfo train, val, test;
};

// The folder of a task by name under data_dir() (or, with a slash in it, by path). Throws Error
// naming the command to type when there is no such task.
fs::path task_dir(const std::string& name);

// The name of the task to use where none was named: the only one under data_dir(). Throws Error
// when there is none, or a choice.
std::string only_task();

// Throws Error unless `name` can name a task's folder under data_dir().
void check_task_name(const std::string& name);

// The SHA-256 over the files' own SHA-256 (hexadecimal, one a line), so that files count one by
// one.
std::string split_sha256(const std::vector<fs::path>& files);

// Reads task.json alone: in a sandbox, not all of the folder is in view. Throws Error when it is
// missing, can't be parsed, is of another version or holds figures that can't be.
TaskInfo load_task(const fs::path& dir);
std::string to_json(const TaskInfo& info);

// Training shards in order; throws Error when one is missing or their sizes do not add up to the
// tokens that task.json states (a folder cut short).
std::vector<fs::path> train_shards(const fs::path& dir, const TaskInfo& info);

// The rows of heldout/<split>.bin, split "val" or "test": rows * (seq_len + 1) tokens; same checks,
// and the hash, where task.json states one.
std::vector<uint16_t> heldout_rows(const fs::path& dir, const TaskInfo& info,
                                   const std::string& split);

}  // namespace autoresearch
