#include "prepare/make_from_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "common/error.h"
#include "common/progress.h"
#include "prepare/bytes.h"
#include "prepare/corpus.h"
#include "prepare/find.h"
#include "prepare/making.h"
#include "prepare/say.h"

namespace autoresearch {
namespace {

constexpr int64_t kDemoBytes = 32'000'000;

// What the files surely hold: text is rarely compressed to more than half. Most of a parquet file
// may be pictures beside the text.
double least_text_bytes(const std::vector<fs::path>& files) {
  double bytes = 0;
  for (const fs::path& file : files) {
    if (lower_extension(file) == ".parquet") continue;
    bytes += static_cast<double>(total_bytes({file})) * (plain_name(file) != file ? 2 : 1);
  }
  return bytes;
}

// Thrown when no row can be filled: what would be enough, in the user's own terms. `set_aside`
// are the tokens that val and test could draw from.
Error too_small(const ShuffledDocuments& documents, int64_t seq_len, double bytes_per_token,
                int64_t set_aside) {
  // A twentieth of the corpus may be held out in each split, and a row takes seq_len + 1 tokens: so
  // 40 rows' worth of text hold one row for each.
  const auto bytes = static_cast<double>(documents.bytes());
  const int64_t twentieth = static_cast<int64_t>(bytes / bytes_per_token) / 20;
  const int64_t usable = std::min(twentieth, set_aside);
  int64_t fitting = 16;
  while (2 * (2 * fitting + 1) <= usable / 2) fitting *= 2;
  const std::string corpus =
      fmt::format("the corpus ({:.1f} KB in {} documents)", bytes / 1e3, documents.documents());
  const std::string advice = fmt::format("or --seq-len {0} --eval-tokens {0} or less", fitting);
  if (twentieth > 2 * (seq_len + 1))
    return Error(
        fmt::format("{} has so few documents that those held out hold no validation row "
                    "of {} tokens; give more documents, {}",
                    corpus, seq_len, advice));
  const double enough = 40.0 * static_cast<double>(seq_len + 1) * bytes_per_token;
  return Error(
      fmt::format("{} is too small for one validation row of {} tokens; give about {:.0f} "
                  "KB of text, {}",
                  corpus, seq_len, std::ceil(enough / 1e3), advice));
}

void read_corpus(const Making& making, ShuffledDocuments& documents) {
  const Request& request = making.request;
  if (std::any_of(request.source.begin(), request.source.end(), is_stdin))
    make_stdin_a_file(making.dir / "documents", check_interrupted);
  const std::vector<fs::path> files =
      request.is_demo() ? find_demo_files({AUTORESEARCH_TORCH_INCLUDE, "/usr/include"}, kDemoBytes)
                        : find_files({request.source.begin(), request.source.end()}, request.read);
  check_space(making, 1.5 * least_text_bytes(files));  // a copy, and two bytes for a token
  ReadOptions read = request.read;
  read.part_bytes = part_bytes(files);
  std::optional<Progress> bar;
  const auto show = [&](int64_t bytes) {
    check_interrupted();
    bar->update(bytes);
  };
  bar.emplace("reading  ", total_bytes(files), "MB", kMega);
  read_files(files, read, request.workers, documents, show);
  bar.emplace("shuffling", documents.added_bytes(), "MB", kMega);
  documents.finish(show);
  bar.reset();
  check(documents.bytes() > 0, fmt::format("the corpus is empty: no text in the {} file(s) of "
                                           "--source; give files with text",
                                           files.size()));
  say("{}: {} documents, {:.1f} MB of text ({} exact duplicates left out)\n{}", making.info.source,
      documents.documents(), static_cast<double>(documents.bytes()) / kMega, documents.duplicates(),
      read.findings->report());
}

// Val and test from the first `set_aside` documents. Returns how many they took, and what of them
// training is held against.
std::pair<size_t, Guarded> hold_out_first(Making& making, const ShuffledDocuments& documents,
                                          int64_t set_aside, const Tokenizer& tokenizer) {
  const TaskInfo& info = making.info;
  const Candidates candidates =
      encode_candidates(making, *documents.read(), static_cast<size_t>(set_aside), tokenizer);
  const double bytes_per_token = candidates.bytes_per_token();
  const auto tokens =
      static_cast<int64_t>(static_cast<double>(documents.bytes()) / bytes_per_token);
  const int64_t rows = rows_wanted(info.eval_tokens, info.seq_len);
  const HeldOut held_out =
      hold_out(candidates.documents, rows_affordable(rows, info.seq_len, tokens), info.seq_len,
               info.bos, tokens);
  if (held_out.rows == 0)
    throw too_small(documents, info.seq_len, bytes_per_token,
                    static_cast<int64_t>(candidates.documents.tokens.size()));
  const size_t taken = write_heldout(making, held_out, candidates, tokenizer);
  Guarded guarded{Overlap(held_out.val, info.bos), {}};
  for (size_t i = 0; info.dedup == "near" && i < taken; ++i)
    guarded.documents.add(candidates.documents[i].subspan(1));
  return {taken, std::move(guarded)};
}

}  // namespace

TaskInfo make_from_files(const Request& request, const fs::path& dir, const TaskInfo& wanted) {
  Making making{request, dir, wanted};
  TaskInfo& info = making.info;
  ShuffledDocuments documents(dir / "documents");
  read_corpus(making, documents);

  // The tokenizer must not learn from what is held out, and how many documents that takes is known
  // only once they are tokens. So surely enough are set aside first.
  auto reader = documents.read();
  const int64_t set_aside =
      documents_to_set_aside(*reader, documents.documents(), documents.bytes(),
                             rows_wanted(info.eval_tokens, info.seq_len), info.seq_len);
  const Tokenizer tokenizer =
      learn_tokenizer(making, *reader, documents.bytes() - reader->position());
  auto [taken, guarded] = hold_out_first(making, documents, set_aside, tokenizer);

  // What val and test left of them goes to train.
  reader = documents.read();
  skip(*reader, static_cast<int64_t>(taken));
  write_train(making, *reader, documents.bytes(), ShardWriter::kShuffledPassages, tokenizer,
              std::move(guarded));
  if (info.train.tokens < info.seq_len + 1) {
    check(info.dedup == "exact",
          fmt::format("only {} documents do not resemble one of val or test, which is no training "
                      "row of {} tokens; give --dedup exact, or more different text",
                      info.train.documents, info.seq_len));
    throw too_small(documents, info.seq_len,
                    static_cast<double>(info.train.bytes) / static_cast<double>(info.train.tokens),
                    info.val.tokens + info.test.tokens);
  }
  return info;
}

}  // namespace autoresearch
