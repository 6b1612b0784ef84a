#include "referee/plan.h"

#include <algorithm>
#include <numeric>

#include "common/error.h"

namespace autoresearch {
namespace {

constexpr int kTries = 32;  // for a donor whose token at the cut is another one

int64_t uniform(Entropy& entropy, int64_t low, int64_t high) {
  return std::uniform_int_distribution<int64_t>(low, high)(entropy);
}

// The same place of all batches, in some order: what each runner gets there.
using Column = std::vector<std::vector<Version>>;

// A probed row: the original for one runner, altered versions for the others.
std::vector<Version> probed(int64_t row, int64_t runners, Entropy& entropy) {
  std::vector<Version> versions(static_cast<size_t>(runners), {.row = row, .cut = 1});
  versions[static_cast<size_t>(uniform(entropy, 0, runners - 1))].cut = 0;
  return versions;
}

// The first `probes` of the rows are probed; of the others each runner gets its own.
Column column_of(const std::vector<int64_t>& rows, int64_t probes, int64_t runners,
                 Entropy& entropy) {
  Column column;
  for (size_t i = 0; i < rows.size();) {
    if (static_cast<int64_t>(i) < probes) {
      column.push_back(probed(rows[i++], runners, entropy));
      continue;
    }
    std::vector<Version> versions(static_cast<size_t>(runners));
    for (Version& version : versions)
      if (i < rows.size()) version.row = rows[i++];
    std::shuffle(versions.begin(), versions.end(), entropy);
    column.push_back(std::move(versions));
  }
  return column;
}

// Cuts and donors of all that one runner gets altered. In the order of falling cuts each row gives
// its tail to the row before it: what it lends lies behind its own cut, so the runner sees none of
// its tokens twice. The last row has no neighbour and gets single tokens from all over the split.
void deal_cuts(std::vector<Version*> altered, const Rows& rows, CutDeck& deck, Entropy& entropy) {
  std::shuffle(altered.begin(), altered.end(), entropy);
  std::vector<int64_t> cuts;
  for (size_t i = 0; i < altered.size(); i++) cuts.push_back(deck.next());
  std::sort(cuts.rbegin(), cuts.rend());
  for (size_t i = 0; i < altered.size(); i++) {
    Version& version = *altered[i];
    version.cut = cuts[i];
    if (i + 1 == altered.size()) break;
    // Another token at the cut itself: else a leak of just that token would not show.
    for (size_t j = i + 1; j < std::min(altered.size(), i + 1 + kTries); j++) {
      if (rows.at(altered[j]->row, version.cut) == rows.at(version.row, version.cut)) continue;
      std::swap(altered[i + 1], altered[j]);
      break;
    }
    version.donor = altered[i + 1]->row;
  }
}

}  // namespace

CutDeck::CutDeck(int64_t seq_len, Entropy& entropy)
    : entropy_(entropy), deck_(static_cast<size_t>(std::max<int64_t>(seq_len - 1, 0))) {
  check(seq_len > 1, "rows of one token can't be scored; prepare a task with a longer --seq-len");
  std::iota(deck_.begin(), deck_.end(), 1);
}

int64_t CutDeck::next() {
  if (next_ == 0) std::shuffle(deck_.begin(), deck_.end(), entropy_);
  const int64_t cut = deck_[next_];
  next_ = (next_ + 1) % deck_.size();
  return cut;
}

Wave plan_wave(const Rows& rows, int64_t batch, const Effort& effort, CutDeck& deck,
               Entropy& entropy) {
  const bool every_row = effort.runners > 2;
  const int64_t probes = every_row ? rows.count : std::min(effort.cuts, rows.count);
  Wave wave{.runners = effort.runners, .cuts = probes * (effort.runners - 1), .batches = {}};
  std::vector<Column> columns;
  size_t length = 0;
  int64_t before = 0;  // rows in the columns so far; probes are spread over columns evenly
  for (int64_t place = 0; place < batch; place++) {
    std::vector<int64_t> members;
    for (int64_t row = place; row < rows.count; row += batch) members.push_back(row);
    std::shuffle(members.begin(), members.end(), entropy);
    const int64_t after = before + static_cast<int64_t>(members.size());
    columns.push_back(column_of(members, after * probes / rows.count - before * probes / rows.count,
                                effort.runners, entropy));
    before = after;
    length = std::max(length, columns.back().size());
  }
  wave.batches.assign(length, PlannedBatch(static_cast<size_t>(effort.runners)));
  for (Column& column : columns) {
    column.resize(length, std::vector<Version>(static_cast<size_t>(effort.runners)));
    std::shuffle(column.begin(), column.end(), entropy);
    for (size_t b = 0; b < length; b++)
      for (size_t k = 0; k < wave.batches[b].size(); k++)
        wave.batches[b][k].push_back(column[b][k]);
  }
  for (size_t k = 0; k < static_cast<size_t>(effort.runners); k++) {
    std::vector<Version*> altered;
    for (PlannedBatch& planned : wave.batches)
      for (Version& version : planned[k])
        if (version.cut > 0) altered.push_back(&version);
    deal_cuts(std::move(altered), rows, deck, entropy);
  }
  return wave;
}

std::vector<uint16_t> ids_of(const Version& version, const Rows& rows, Entropy& entropy) {
  std::vector<uint16_t> ids(static_cast<size_t>(rows.seq_len));
  if (version.filler()) {
    for (uint16_t& id : ids) id = static_cast<uint16_t>(uniform(entropy, 0, rows.vocab_size - 1));
    return ids;
  }
  const int64_t cut = version.original() ? rows.seq_len : version.cut;
  for (int64_t t = 0; t < rows.seq_len; t++) {
    uint16_t& id = ids[static_cast<size_t>(t)];
    if (t < cut)
      id = rows.at(version.row, t);
    else if (version.donor >= 0)
      id = rows.at(version.donor, t);
    else
      id = rows.at(uniform(entropy, 0, rows.count - 1), uniform(entropy, 0, rows.seq_len - 1));
  }
  // The token at the cut is another one, or a leak of just that token would not show.
  if (cut < rows.seq_len && version.donor < 0 &&
      ids[static_cast<size_t>(cut)] == rows.at(version.row, cut))
    ids[static_cast<size_t>(cut)] =
        static_cast<uint16_t>((rows.at(version.row, cut) + 1) % rows.vocab_size);
  return ids;
}

}  // namespace autoresearch
