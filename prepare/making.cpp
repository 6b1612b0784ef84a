#include "prepare/making.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "common/error.h"
#include "common/process.h"
#include "common/progress.h"
#include "prepare/encode.h"
#include "prepare/say.h"

namespace autoresearch {
namespace {

SplitInfo write_rows(const fs::path& file, const std::vector<uint16_t>& rows, size_t documents,
                     const TaskInfo& info, const Tokenizer& tokenizer) {
  write_file(file, as_bytes(rows));
  SplitInfo split;
  split.documents = static_cast<int64_t>(documents);
  split.tokens = static_cast<int64_t>(rows.size());
  for (const uint16_t id : rows) split.bytes += tokenizer.token_bytes(id);
  split.rows = split.tokens / (info.seq_len + 1);
  split.sha256 = split_sha256({file});
  return split;
}

}  // namespace

void check_interrupted() {
  if (interrupt_requested()) throw Error("interrupted; no task was made", kInterrupted);
}

double Candidates::bytes_per_token() const {
  const size_t text = documents.tokens.size() - documents.size();  // BOS is no text
  return static_cast<double>(bytes) / static_cast<double>(text);
}

void check_space(const Making& making, double bytes) {
  std::error_code error;
  const double available = static_cast<double>(fs::space(making.dir, error).available);
  check(error || bytes <= available,
        fmt::format("making the task needs {:.1f} MB in {}, where {:.1f} MB are free; free some, "
                    "or give --data another folder",
                    bytes / kMega, making.dir.parent_path().native(), available / kMega));
}

Tokenizer learn_tokenizer(Making& making, DocumentReader& reader, int64_t total) {
  const int64_t vocab = making.info.vocab_size, begin = reader.position();
  std::optional<Progress> bar;
  bar.emplace("splitting", total, "MB", kMega);
  // It is done at the end of the corpus, or once it has seen so many characters.
  int64_t characters = 0;  // at most
  const auto next = [&](std::string& document) {
    check_interrupted();
    const bool more = reader.next(document);
    characters += std::min<int64_t>(document.size(), Tokenizer::kDocumentCharacters);
    const double enough = 1.0 * characters / Tokenizer::kTrainingCharacters;
    bar->update(std::max<double>(reader.position() - begin, enough * total));
    return more;
  };
  const auto merged = [&](int64_t merges) {
    check_interrupted();
    if (merges == 1) bar.emplace("merging  ", vocab - Tokenizer::kMinVocab, "merges");
    bar->update(merges);
  };
  Tokenizer tokenizer = Tokenizer::train(next, vocab, making.request.workers, merged);
  check(tokenizer.vocab_size() == vocab,
        fmt::format("the corpus is too small for --vocab {0}; it gives {1} tokens at most: use "
                    "--vocab {1} or fewer, or give more text",
                    vocab, tokenizer.vocab_size()));
  const fs::path file = making.dir / "tokenizer.tiktoken";
  tokenizer.save(file);
  making.info.tokenizer_sha256 = sha256_of_file(file);
  making.info.bos = tokenizer.bos();
  return tokenizer;
}

Candidates encode_candidates(const Making& making, DocumentReader& reader, size_t count,
                             const Tokenizer& tokenizer) {
  Candidates result;
  const auto add = [&](const EncodedDocument& document) {
    check_interrupted();
    if (document.invalid_bytes > 0)
      result.invalid.emplace_back(result.documents.size(), document.invalid_bytes);
    result.documents.add(document.ids, tokenizer.bos());
    result.bytes += document.bytes;
    if (document.group_ended) result.group_ends.push_back(result.documents.size());
    return result.documents.size() < count;
  };
  encode_documents(reader, tokenizer, making.request.workers, add);
  return result;
}

size_t write_heldout(Making& making, const HeldOut& held_out, const Candidates& candidates,
                     const Tokenizer& tokenizer) {
  TaskInfo& info = making.info;
  const fs::path folder = making.dir / "heldout";
  info.val = write_rows(folder / "val.bin", held_out.val, held_out.val_documents, info, tokenizer);
  info.test =
      write_rows(folder / "test.bin", held_out.test, held_out.test_documents, info, tokenizer);
  if (const int64_t wanted = rows_wanted(info.eval_tokens, info.seq_len); info.test.rows < wanted)
    say("val gets {} rows and test {}, not {} each: {}\n", info.val.rows, info.test.rows, wanted,
        making.request.from_hub() ? "the held-out file has no more"
                                  : "more would take over a tenth of the corpus");
  const size_t taken = held_out.val_documents + held_out.test_documents;
  for (const auto& [document, bytes] : candidates.invalid)
    if (document < taken) info.invalid_utf8_bytes += bytes;
  return taken;
}

void write_train(Making& making, DocumentReader& reader, int64_t total, ShardWriter::Order order,
                 const Tokenizer& tokenizer, Guarded guarded) {
  TaskInfo& info = making.info;
  int64_t documents = 0, bytes = 0, resembling = 0;
  const int64_t begin = reader.position();
  Progress progress("encoding ", total - begin, "MB", kMega);
  ShardWriter writer(making.dir / "train", order, info.seq_len, info.bos);
  const auto write = [&](const EncodedDocument& document) {
    check_interrupted();
    progress.update(reader.position() - begin);
    if (guarded.documents.resembles(document.ids)) return ++resembling > 0;
    guarded.val.add(document.ids);
    writer.add(document.ids);
    ++documents;
    bytes += document.bytes;
    info.invalid_utf8_bytes += document.invalid_bytes;
    return true;
  };
  encode_documents(reader, tokenizer, making.request.workers, write);
  info.val_in_train = guarded.val.share().value_or(-1);
  if (resembling > 0)
    say("{} documents that resemble one of val or test stay out of train\n", resembling);
  info.train = writer.finish();
  info.train.documents = documents;
  info.train.bytes = bytes;
}

}  // namespace autoresearch
