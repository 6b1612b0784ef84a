// Graphs that cheat, against the plan of a scoring: what a sealed graph could do if it had memory,
// read out of bounds, or saw into the future. No graph that passes the list of operators can do any
// of this as far as we know; here the plan has to catch it all the same.
//
// A hostile graph is a function: for one place of a batch it says at which positions it cheats. A
// position that cheats knows its next token, and shows it in its logits.
#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <set>

#include "referee/plan.h"

namespace autoresearch {
namespace {

constexpr int64_t kBatch = 8;

struct Seen {
  int64_t call = 0;  // batches that this runner was given before
  std::vector<std::vector<uint16_t>> batch = {};
  std::vector<bool> whole = {};  // by place, told by an oracle: whether the row is an original
  std::map<std::string, std::string>* memory = nullptr;  // of this runner
};
// Whether position t of a place cheats.
using Cheat = std::function<bool(const Seen&, size_t place, int64_t t)>;

struct Outcome {
  bool caught = false;
  int64_t gain = 0;  // scored positions that knew their next token
};

int64_t shown(const std::vector<uint16_t>& ids, int64_t t, bool cheats) {
  const auto next = static_cast<size_t>(t) + 1;
  return cheats && next < ids.size() ? 1 + ids[next] : 0;  // 0: what an honest position shows
}

// One wave with the comparisons of referee/score.cpp.
void run_wave(const Rows& rows, const Effort& effort, CutDeck& deck, Entropy& entropy,
              const Cheat& cheat, Outcome& outcome) {
  const Wave wave = plan_wave(rows, kBatch, effort, deck, entropy);
  std::vector<std::map<std::string, std::string>> memories(static_cast<size_t>(wave.runners));
  for (size_t b = 0; b < wave.batches.size(); b++) {
    const PlannedBatch& planned = wave.batches[b];
    std::vector<std::vector<std::vector<int64_t>>> logits;  // runner, place, position
    for (size_t k = 0; k < planned.size(); k++) {
      Seen seen{.call = static_cast<int64_t>(b), .memory = &memories[k]};
      for (const Version& version : planned[k]) {
        seen.batch.push_back(ids_of(version, rows, entropy));
        seen.whole.push_back(version.original());
      }
      logits.emplace_back();
      for (size_t place = 0; place < planned[k].size(); place++) {
        logits[k].emplace_back();
        for (int64_t t = 0; t < rows.seq_len; t++)
          logits[k][place].push_back(shown(seen.batch[place], t, cheat(seen, place, t)));
      }
    }
    for (size_t place = 0; place < planned[0].size(); place++)
      for (size_t home = 0; home < planned.size(); home++) {
        if (!planned[home][place].original()) continue;
        for (const int64_t logit : logits[home][place]) outcome.gain += logit > 0;
        for (size_t k = 0; k < planned.size(); k++)
          for (int64_t t = 0; t < planned[k][place].cut; t++)
            outcome.caught |= logits[k][place][size_t(t)] != logits[home][place][size_t(t)];
      }
  }
}

Outcome attack(int64_t count, int64_t seq_len, bool full, const Cheat& cheat) {
  std::mt19937 random(1);
  std::vector<uint16_t> tokens;
  for (int64_t i = 0; i < count * (seq_len + 1); i++)
    tokens.push_back(static_cast<uint16_t>(random() % 500));
  const Rows rows{tokens, count, seq_len + 1, seq_len, 500};
  Entropy entropy;
  CutDeck deck(seq_len, entropy);
  const Effort effort = full ? full_effort(count) : light_effort(count);
  Outcome outcome;
  for (int64_t wave = 0; wave < effort.waves && !outcome.caught; wave++)
    run_wave(rows, effort, deck, entropy, cheat, outcome);
  return outcome;
}

std::string key_of(const std::vector<uint16_t>& ids) {
  return {reinterpret_cast<const char*>(ids.data()), ids.size() * sizeof ids[0]};
}

bool repeat_of(const Seen& seen, const std::string& key) {
  const bool known = seen.memory->contains(key);
  (*seen.memory)[key] = "";
  return known;
}

// Every one is caught, or gains nothing, in a hundred full probes.
void expect_no_use(const Cheat& cheat, int64_t rows = 256) {
  for (int i = 0; i < 100; i++) {
    const Outcome outcome = attack(rows, 16, /*full=*/true, cheat);
    EXPECT_TRUE(outcome.caught || outcome.gain == 0) << outcome.gain;
  }
}

TEST(HostileGraph, LeaksInEveryCall) {
  expect_no_use([](const Seen&, size_t, int64_t) { return true; });
}

TEST(HostileGraph, LeaksInTheFirstCallOnly) {
  expect_no_use([](const Seen& seen, size_t, int64_t) { return seen.call == 0; });
}

TEST(HostileGraph, LeaksFromTheSecondCallOn) {
  expect_no_use([](const Seen& seen, size_t, int64_t) { return seen.call > 0; });
}

// The cheat of the report: it knows a batch again by four tokens of each row.
TEST(HostileGraph, LeaksInBatchesThatItHasNotSeen) {
  expect_no_use([](const Seen& seen, size_t place, int64_t t) {
    if (place > 0 || t > 0) return seen.memory->contains("leak");
    std::vector<uint16_t> marks;
    for (const auto& row : seen.batch) marks.insert(marks.end(), row.begin(), row.begin() + 4);
    repeat_of(seen, key_of(marks)) ? void(seen.memory->erase("leak"))
                                   : void((*seen.memory)["leak"] = "");
    return seen.memory->contains("leak");
  });
}

TEST(HostileGraph, LeaksOnlyWhatItHasSeenBefore) {
  expect_no_use([](const Seen& seen, size_t place, int64_t t) {
    std::vector<uint16_t> pair = {seen.batch[place][size_t(t)]};
    for (size_t i = 1; i < 4 && size_t(t) + i < seen.batch[place].size(); i++)
      pair.push_back(seen.batch[place][size_t(t) + i]);
    return pair.size() == 4 && repeat_of(seen, key_of(pair));
  });
}

// Even one that can tell an original from an altered row by looking at what comes.
TEST(HostileGraph, LeaksInRowsThatLookWhole) {
  expect_no_use([](const Seen& seen, size_t place, int64_t) { return seen.whole[place]; });
}

TEST(HostileGraph, LeaksInBatchesThatLookWhole) {
  expect_no_use([](const Seen& seen, size_t, int64_t) {
    for (const bool whole : seen.whole)
      if (!whole) return false;
    return true;
  });
}

TEST(HostileGraph, LeaksInOneRowOfAThousandThatLooksWhole) {
  int64_t caught = 0, used = 0;
  for (int i = 0; i < 100; i++) {
    const Outcome outcome = attack(256, 16, true, [](const Seen& seen, size_t place, int64_t) {
      return seen.whole[place] && seen.batch[place][0] == 7;
    });
    caught += outcome.caught;
    used += !outcome.caught && outcome.gain > 0;
  }
  EXPECT_EQ(used, 0) << "every row is probed in a split of this size; caught " << caught;
}

TEST(HostileGraph, FewRowsHelpNobody) {
  for (const int64_t rows : {1, 2, 9, 59})
    expect_no_use([](const Seen& seen, size_t place, int64_t) { return seen.whole[place]; }, rows);
}

// What docs/protection.md states: how often one full probe finds a leak at a share of positions.
double found(double share, int64_t rows) {
  constexpr int kTimes = 2000;
  int caught = 0;
  for (int i = 0; i < kTimes; i++) {
    // By content and position, so that no deck of cuts covers it by design.
    const auto salt = static_cast<uint64_t>(std::random_device{}());
    caught += attack(rows, 64, true, [&](const Seen& seen, size_t place, int64_t t) {
                const uint64_t mixed = (salt + seen.batch[place][size_t(t)] * 2654435761u +
                                        static_cast<uint64_t>(t) * 40503u) *
                                       0x9E3779B97F4A7C15u;
                return static_cast<double>(mixed >> 11) * 0x1.0p-53 < share;
              }).caught;
  }
  return static_cast<double>(caught) / kTimes;
}

TEST(HostileGraph, ALeakAtOnePercentIsFoundAndOneAtATenthOfThatMostly) {
  EXPECT_GE(found(0.01, 256), 0.999);
  EXPECT_NEAR(found(0.001, 256), 0.64, 0.06);
  EXPECT_NEAR(found(0.01, 59), 0.9992, 0.0028);  // 5 standard deviations of 2,000 tries
  EXPECT_NEAR(found(0.001, 59), 0.51, 0.06);
}

}  // namespace
}  // namespace autoresearch
