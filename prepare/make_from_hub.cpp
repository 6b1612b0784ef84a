#include "prepare/make_from_hub.h"

#include <fmt/format.h>

#include <optional>

#include "common/error.h"
#include "common/process.h"
#include "prepare/corpus.h"
#include "prepare/download.h"
#include "prepare/hub.h"
#include "prepare/making.h"
#include "prepare/parquet.h"

namespace autoresearch {
namespace {

// The tokenizer from the training shards, val and test from the held-out one, then the training
// split.
void encode_shards(Making& making, const std::vector<fs::path>& files, const fs::path& heldout) {
  TaskInfo& info = making.info;
  const int64_t total = total_bytes(files);
  check_space(making, static_cast<double>(total));  // tokens take about what the shards do
  const ReadOptions& read = making.request.read;
  const Tokenizer tokenizer = learn_tokenizer(making, *open_in_order(files, read), total);
  std::optional<Guarded> guarded;
  {
    const Candidates candidates =
        encode_candidates(making, *open_in_order({heldout}, read), SIZE_MAX, tokenizer);
    const HeldOut held_out =
        hold_out_in_order(candidates.documents, candidates.group_ends,
                          rows_wanted(info.eval_tokens, info.seq_len), info.seq_len);
    check(held_out.rows > 0,
          fmt::format("{} ({} documents) holds no row of {} tokens for val and for test, each of "
                      "which is packed from a pool of 1,000 documents; give another --base-url, or "
                      "a smaller --seq-len",
                      heldout.native(), candidates.documents.size(), info.seq_len));
    write_heldout(making, held_out, candidates, tokenizer);
    guarded = Guarded{Overlap(held_out.val, info.bos), {}};
  }
  write_train(making, *open_in_order(files, read), total, ShardWriter::kAsTheyCome, tokenizer,
              std::move(*guarded));
  check(info.train.tokens > info.seq_len,
        fmt::format("the training shards hold no row of {} tokens; give a smaller --seq-len",
                    info.seq_len));
}

}  // namespace

TaskInfo make_from_hub(const Request& request, const fs::path& dir, const TaskInfo& wanted) {
  const HubCorpus corpus = hub_corpus(request.source[0], request.shards, request.base_url);
  const fs::path folder = data_dir() / "downloads" / corpus.name;
  download(folder, downloads(corpus),
           {.parallel = request.downloads,
            .token = hub_token(),
            .problem = parquet_problem,
            .interrupted = interrupt_requested});
  std::vector<fs::path> files;
  for (const std::string& file : corpus.train_files) files.push_back(folder / local_name(file));
  Making making{request, dir, wanted};
  try {
    encode_shards(making, files, folder / local_name(corpus.heldout_file));
  } catch (const DamagedParquet& damaged) {  // inside, where no check of what arrived looks
    fs::remove(damaged.file);
    throw Error(damaged.file.string() +
                " arrived damaged, and is removed; run the same command again to download it anew");
  }
  return making.info;
}

}  // namespace autoresearch
