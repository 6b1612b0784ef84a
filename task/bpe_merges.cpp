#include "task/bpe_merges.h"

#include <algorithm>
#include <bit>
#include <queue>
#include <utility>

#include "common/error.h"

namespace autoresearch {
namespace {

using Pair = uint32_t;  // the first token in the upper half: pairs are ordered as their numbers are
constexpr Pair pair_of(uint16_t first, uint16_t second) { return Pair{first} << 16 | second; }

// A hash table with open addressing, from pairs to values that are false where there is none.
template <typename Value>
class PairMap {
 public:
  struct Slot {
    Pair pair;
    Value value;
  };

  // The value of a pair, made where it is new.
  Value& operator[](Pair pair) {
    if (2 * size_ >= slots_.size()) grow();
    Slot& slot = slots_[place(pair)];
    if (!slot.value) {
      ++size_;
      slot.pair = pair;
    }
    return slot.value;
  }
  // nullptr where there is none.
  Value* find(Pair pair) {
    Slot& slot = slots_[place(pair)];
    return slot.value ? &slot.value : nullptr;
  }
  const std::vector<Slot>& slots() const { return slots_; }

 private:
  size_t place(Pair pair) const {
    size_t i = (pair * 0x9E3779B97F4A7C15u) >> shift_;
    while (slots_[i].value && slots_[i].pair != pair) i = (i + 1) & (slots_.size() - 1);
    return i;
  }
  void grow() {
    --shift_;
    std::vector<Slot> old(2 * slots_.size());
    old.swap(slots_);
    for (Slot& slot : old) {
      if (slot.value) slots_[place(slot.pair)] = std::move(slot);
    }
  }
  int shift_ = 60;
  std::vector<Slot> slots_ = std::vector<Slot>(16);
  size_t size_ = 0;
};

// The distinct pieces as tokens, behind one another. A word is named by its place in them.
class Words {
 public:
  struct Word {
    uint16_t* units;  // count (two units), capacity, length, tokens
    uint32_t count() const { return units[0] | uint32_t{units[1]} << 16; }
    uint16_t& capacity() { return units[2]; }
    uint16_t& length() { return units[3]; }
    uint16_t* tokens() { return units + kHeader; }
  };

  explicit Words(PieceCounts& counts) {
    size_t units = 0;
    for (size_t i = 0; i < PieceCounts::kParts; ++i) {
      units += counts.part(i).bytes() + counts.part(i).size() * (kHeader + 1);
    }
    units_.reserve(units);
    for (size_t i = 0; i < PieceCounts::kParts; ++i) {
      counts.part(i).for_each([&](std::string_view piece, uint32_t, uint32_t count) {
        if (piece.size() > 1) add(piece, count);
      });
      counts.release(i);
    }
    check(units_.size() / kUnitsPerPlace < UINT32_MAX, "too much text to learn merges from");
  }

  void prefetch(uint32_t place) const {
    __builtin_prefetch(&units_[size_t{place} * kUnitsPerPlace], 1);
  }
  Word operator[](uint32_t place) { return {&units_[size_t{place} * kUnitsPerPlace]}; }

  // Calls on_word(place, word) for each.
  template <typename OnWord>
  void for_each(OnWord on_word) {
    for (size_t at = 0; at < units_.size();) {
      const Word word{&units_[at]};
      const size_t next = at + size_of(word.units[2]);
      on_word(static_cast<uint32_t>(at / kUnitsPerPlace), word);
      at = next;
    }
  }

  // Closes the gaps that merges have left, and forgets words of one token.
  void compact() {
    size_t end = 0;
    for_each([&](uint32_t, Word word) {
      const uint16_t length = word.length();
      if (length < 2) return;
      word.capacity() = length;
      std::copy(word.units, word.units + kHeader + length, &units_[end]);  // perhaps over itself
      end += size_of(length);
    });
    units_.resize(end);
  }

 private:
  static constexpr size_t kHeader = 4, kUnitsPerPlace = 2;
  static size_t size_of(size_t tokens) { return (kHeader + tokens + 1) / 2 * 2; }

  void add(std::string_view piece, uint32_t count) {
    const auto length = static_cast<uint16_t>(piece.size());
    check(length == piece.size(), "a piece of text is too long to learn merges from");
    units_.insert(units_.end(), {static_cast<uint16_t>(count), static_cast<uint16_t>(count >> 16),
                                 length, length});
    for (const char c : piece) units_.push_back(static_cast<unsigned char>(c));
    if (length % 2) units_.push_back(0);
  }

  std::vector<uint16_t> units_;
};

class Learner {
 public:
  Learner(PieceCounts& counts, size_t occurrences) : words_(counts), occurrences_(occurrences) {}

  // The most frequent pair, ties to the smaller; false when there is none.
  bool next(Pair& best) {
    while (!pop(best)) {
      if (threshold_ == 1) return false;
      survey();
    }
    return true;
  }

  // Replaces a frequent pair by `id` everywhere, from left to right, and keeps the counts true.
  void merge(Pair pair, uint16_t id);

 private:
  struct Frequent {
    Pair pair;
    int64_t count = 0;
    std::vector<uint32_t> words;  // in ascending order; some may hold the pair no longer

    void add(uint32_t word, int64_t times) {
      count += times;
      if (words.empty() || words.back() != word) words.push_back(word);
    }
  };
  struct Candidate {
    int64_t count;
    Pair pair;
    bool operator<(const Candidate& other) const {
      return count != other.count ? count < other.count : pair > other.pair;
    }
  };
  struct Tally {  // of a pair, in all words
    uint32_t count = 0, occurrences = 0;
    explicit operator bool() const { return count > 0; }
  };

  bool pop(Pair& best);
  void survey();
  int64_t choose_threshold(const PairMap<Tally>& tallies) const;
  void merge_in_word(uint32_t place, Pair pair, uint16_t id);
  Frequent* find(Pair pair) {
    const uint32_t* const index = index_.find(pair);
    return index ? &frequent_[*index - 1] : nullptr;
  }
  void keep(Frequent pair) {
    heap_.push({pair.count, pair.pair});
    frequent_.push_back(std::move(pair));
    index_[frequent_.back().pair] = static_cast<uint32_t>(frequent_.size());
  }
  // Of the merge under way: the pair of its new token and the token before or after it.
  Frequent& fresh(std::vector<uint32_t>& neighbours, uint16_t neighbour, Pair pair) {
    uint32_t& index = neighbours[neighbour];
    if (index == 0) {
      fresh_.push_back({pair, 0, {}});
      index = static_cast<uint32_t>(fresh_.size());
    }
    return fresh_[index - 1];
  }

  Words words_;
  size_t occurrences_;
  int64_t threshold_ = INT64_MAX;  // pairs with at least this count are the frequent ones
  std::vector<Frequent> frequent_;
  PairMap<uint32_t> index_;  // into frequent_, from 1
  std::priority_queue<Candidate> heap_;
  std::vector<Frequent> fresh_;  // pairs that the merge under way has made
  std::vector<uint32_t> before_ = std::vector<uint32_t>(1 << 16), after_ = before_;  // into fresh_
};

// Counts in the heap are those at the time of pushing: they only fall, so a stale one is pushed
// again when it surfaces.
bool Learner::pop(Pair& best) {
  while (!heap_.empty()) {
    const auto [count, pair] = heap_.top();
    heap_.pop();
    const int64_t now = find(pair)->count;
    if (now == count) {
      best = pair;
      return true;
    }
    if (now >= threshold_) heap_.push({now, pair});
  }
  return false;
}

// Counts all pairs and finds out which are frequent and where they are.
void Learner::survey() {
  words_.compact();
  frequent_.clear();
  index_ = {};
  PairMap<Tally> tallies;
  words_.for_each([&](uint32_t, Words::Word word) {
    for (size_t i = 0; i + 1 < word.length(); ++i) {
      Tally& tally = tallies[pair_of(word.tokens()[i], word.tokens()[i + 1])];
      tally.count += word.count();
      ++tally.occurrences;
    }
  });
  // Most pairs are rare and never win. Places are kept for those above a threshold only, and the
  // tallies go before these are found, so that both are not in memory at once.
  threshold_ = choose_threshold(tallies);
  for (const auto& [pair, tally] : tallies.slots()) {
    if (!tally || tally.count < threshold_) continue;
    keep({pair, tally.count, {}});
    frequent_.back().words.reserve(tally.occurrences);
  }
  tallies = {};
  words_.for_each([&](uint32_t place, Words::Word word) {
    for (size_t i = 0; i + 1 < word.length(); ++i) {
      Frequent* const pair = find(pair_of(word.tokens()[i], word.tokens()[i + 1]));
      if (pair) pair->add(place, 0);
    }
  });
}

// The lowest count for which the occurrences of all pairs at or above it are few enough to keep.
int64_t Learner::choose_threshold(const PairMap<Tally>& tallies) const {
  std::vector<Tally> sorted;
  for (const auto& slot : tallies.slots()) {
    if (slot.value) sorted.push_back(slot.value);
  }
  if (sorted.empty()) return 1;
  std::sort(sorted.begin(), sorted.end(),
            [](const Tally& a, const Tally& b) { return a.count > b.count; });
  uint64_t all = 0, kept = 0;
  for (const Tally& tally : sorted) all += tally.occurrences;
  const uint64_t most = std::max<uint64_t>(occurrences_, all / 8);  // or surveys would be many
  for (const Tally& tally : sorted) {
    kept += tally.occurrences;
    if (kept > most) return std::min<int64_t>(int64_t{tally.count} + 1, sorted[0].count);
  }
  return 1;
}

void Learner::merge(Pair pair, uint16_t id) {
  const std::vector<uint32_t> words = std::move(find(pair)->words);
  constexpr size_t kAhead = 16;  // words are all over the memory: fetch before they are needed
  for (size_t i = 0; i < words.size(); ++i) {
    if (i + kAhead < words.size()) words_.prefetch(words[i + kAhead]);
    merge_in_word(words[i], pair, id);
  }
  for (Frequent& made : fresh_) {
    before_[made.pair >> 16] = after_[made.pair & 0xFFFF] = 0;
    if (made.count >= threshold_) keep(std::move(made));
  }
  fresh_.clear();
}

void Learner::merge_in_word(uint32_t place, Pair pair, uint16_t id) {
  const auto first = static_cast<uint16_t>(pair >> 16), second = static_cast<uint16_t>(pair);
  Words::Word word = words_[place];
  uint16_t* const tokens = word.tokens();
  const int64_t count = word.count();
  const size_t length = word.length();
  const auto subtract = [&](Pair gone) {
    if (Frequent* const found = find(gone)) found->count -= count;
  };
  size_t out = 0;
  for (size_t i = 0; i < length;) {
    if (i + 1 == length || tokens[i] != first || tokens[i + 1] != second) {
      tokens[out++] = tokens[i++];
      continue;
    }
    subtract(pair);
    if (out > 0) {
      // What is left of this place may be the pair that was merged just before. Then the pair
      // between them was counted as (id, first), and becomes (id, id).
      const uint16_t left = tokens[out - 1];
      if (left == id)
        fresh(after_, first, pair_of(id, first)).count -= count;
      else
        subtract(pair_of(left, first));
      fresh(before_, left, pair_of(left, id)).add(place, count);
    }
    if (i + 2 < length) {
      const uint16_t right = tokens[i + 2];
      subtract(pair_of(second, right));
      fresh(after_, right, pair_of(id, right)).add(place, count);
    }
    tokens[out++] = id;
    i += 2;
  }
  word.length() = static_cast<uint16_t>(out);
}

}  // namespace

std::vector<std::string> learn_merges(PieceCounts& counts, size_t size,
                                      const std::function<void(int64_t)>& merged,
                                      size_t occurrences) {
  std::vector<std::string> tokens;
  for (int byte = 0; byte < 256; ++byte) tokens.emplace_back(1, static_cast<char>(byte));
  Learner learner(counts, occurrences);
  Pair pair;
  while (tokens.size() < size && learner.next(pair)) {
    learner.merge(pair, static_cast<uint16_t>(tokens.size()));
    tokens.push_back(tokens[pair >> 16] + tokens[pair & 0xFFFF]);
    if (merged) merged(static_cast<int64_t>(tokens.size()) - 256);
  }
  return tokens;
}

}  // namespace autoresearch
