// Are the wins of a night true? Simulates nights of 100 measurements, judged and proven by the
// loop's own functions (agent/lab/evidence.h, proof.h), beside three other rules:
//
//   greedy    upstream's: whatever scores strictly better is kept
//   2 sigma   kept if better by two standard deviations of the noise, which it is told
//   confirm   strictly better, then measured again and better again; the bar is the mean of the two
//
// "ours, unproven" spends the whole night on the search; "greedy, ended early" has as many
// proposals as ours.
//
// True effects are drawn so that a greedy night is like upstream's published one
// (https://github.com/karpathy/autoresearch/discussions/43); the first lines show both. They add
// up, and every proposal is as good as the one before it. Exits 1 if the goals of docs/evidence.md
// are missed.
//
//   build/bench/nights [nights a cell, 10000] [seed, 1]

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <iostream>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "agent/lab/evidence.h"
#include "agent/lab/proof.h"
#include "common/error.h"

using namespace autoresearch;

namespace {

constexpr int64_t kMeasurements = 100;
constexpr int64_t kProofShare = 33;  // of them, at the end of a night of ours
constexpr int64_t kThreads = 2;

using Random = std::mt19937_64;

struct Proposal {
  double effect;         // on the true score, negative is better
  int64_t tokens_saved;  // of code
};

double lognormal(Random& random, double median, double spread) {
  return median * std::exp(std::normal_distribution(0.0, spread)(random));
}

// One of five helps, a few of them much; one of five does next to nothing or nothing at all; the
// others hurt. One of twenty removes code, which at best changes nothing.
Proposal draw_proposal(Random& random) {
  const double kind = std::uniform_real_distribution(0.0, 1.0)(random);
  if (kind < 0.20) return {-lognormal(random, 3.5e-4, 1.5), 0};
  if (kind < 0.25) return {0, 0};
  if (kind < 0.40) return {std::normal_distribution(0.0, 1e-4)(random), 0};
  if (kind < 0.425) return {0, 40};
  if (kind < 0.45) return {lognormal(random, 5e-4, 1), 40};
  return {lognormal(random, 1e-3, 1.2), 0};
}

// A machine: what it adds to a true score.
struct World {
  const char* name;
  double sigma;
  bool heavy_tailed = false;  // Student's t with 3 degrees of freedom, scaled to sigma
  bool drifting = false;      // the speed wanders: as much again, with a memory of 20 measurements
};

class Machine {
 public:
  Machine(const World& world, Random& random, int64_t budget)
      : world_(world), random_(random), left_(budget) {
    if (world.drifting) drift_ = world.sigma * normal_(random_);
  }

  double measure(double truth) {
    --left_;
    const double kept = std::exp(-1.0 / 20);
    if (world_.drifting)
      drift_ = kept * drift_ + std::sqrt(1 - kept * kept) * world_.sigma * normal_(random_);
    const double noise =
        world_.heavy_tailed ? student_(random_) / std::sqrt(3.0) : normal_(random_);
    return truth + drift_ + world_.sigma * noise;
  }

  int64_t left() const { return left_; }  // measurements until dawn
  double sigma() const { return world_.sigma; }

 private:
  const World& world_;
  Random& random_;
  std::normal_distribution<double> normal_;
  std::student_t_distribution<double> student_{3};
  double drift_ = 0;
  int64_t left_;
};

// Of one night, or summed over many.
struct Tally {
  double gain = 0;  // true, at dawn; positive is better
  double proposals = 0, spent = 0;
  double claimed = 0, claimed_falsely = 0;    // keeps that are called a gain
  double verified = 0, verified_falsely = 0;  // changes of claim 2
  double whole = 0, whole_falsely = 0;        // nights of claim 1
  double covered = 0;                         // intervals of claim 1 that hold the truth
  double dropped = 0, dropped_wrongly = 0;    // changes that did help
  double smallest = 0;                        // provable effect
  double recorded = 0;                        // gain by the scores as they were measured
  double small_claims = 0, near_misses = 0;   // less than 0.0005 better, and worse

  void add(const Tally& o) {
    gain += o.gain, proposals += o.proposals, spent += o.spent;
    claimed += o.claimed, claimed_falsely += o.claimed_falsely;
    verified += o.verified, verified_falsely += o.verified_falsely;
    whole += o.whole, whole_falsely += o.whole_falsely, covered += o.covered;
    dropped += o.dropped, dropped_wrongly += o.dropped_wrongly;
    smallest += o.smallest, recorded += o.recorded;
    small_claims += o.small_claims, near_misses += o.near_misses;
  }
};

void claim(Tally& tally, double effect) {
  ++tally.claimed;
  if (effect >= 0) ++tally.claimed_falsely;
}

Tally greedy_night(Machine& machine, Random& random) {
  Tally tally;
  double truth = 0;
  Evidence evidence;
  add_repeat(evidence, machine.measure(truth));
  for (; machine.left() > 0; ++tally.proposals) {
    const Proposal proposal = draw_proposal(random);
    const double y = machine.measure(truth + proposal.effect);
    const Judgement verdict = judge(evidence, y, proposal.tokens_saved, KeepRule::kGreedy);
    if (is_keep(verdict.decision)) {
      claim(tally, proposal.effect);
      if (verdict.difference > -5e-4) ++tally.small_claims;
      tally.recorded -= verdict.difference;
      truth += proposal.effect;
    } else if (verdict.difference < 5e-4) {
      ++tally.near_misses;
    }
    add_candidate(evidence, y, verdict);
  }
  tally.gain = -truth;
  return tally;
}

Tally two_sigma_night(Machine& machine, Random& random) {
  Tally tally;
  double truth = 0, best = machine.measure(truth);
  for (; machine.left() > 0; ++tally.proposals) {
    const Proposal proposal = draw_proposal(random);
    const double y = machine.measure(truth + proposal.effect);
    if (y >= best - 2 * machine.sigma()) continue;
    claim(tally, proposal.effect);
    truth += proposal.effect;
    best = y;
  }
  tally.gain = -truth;
  return tally;
}

Tally confirm_night(Machine& machine, Random& random) {
  Tally tally;
  double truth = 0, best = machine.measure(truth);
  for (; machine.left() > 0; ++tally.proposals) {
    const Proposal proposal = draw_proposal(random);
    const double y = machine.measure(truth + proposal.effect);
    if (y >= best || machine.left() == 0) continue;
    const double again = machine.measure(truth + proposal.effect);
    if (again >= best) continue;
    claim(tally, proposal.effect);
    truth += proposal.effect;
    best = (y + again) / 2;
  }
  tally.gain = -truth;
  return tally;
}

// What was kept of a night, with the true effects.
struct Kept {
  std::vector<double> effects, gains;  // gains: as believed

  double truth() const {
    double sum = 0;
    for (double effect : effects) sum += effect;
    return sum;
  }
};

// Ours until so many measurements are left.
Kept search(Machine& machine, Random& random, int64_t left, Tally& tally) {
  Kept kept;
  Evidence evidence;
  double truth = 0;
  add_repeat(evidence, machine.measure(truth));
  while (machine.left() > left) {
    if (repeats_owed(evidence) > 0) {
      add_repeat(evidence, machine.measure(truth));
      continue;
    }
    const Proposal proposal = draw_proposal(random);
    const double y = machine.measure(truth + proposal.effect);
    const Judgement verdict = judge(evidence, y, proposal.tokens_saved);
    if (is_keep(verdict.decision)) {
      kept.effects.push_back(proposal.effect);
      truth += proposal.effect;
      if (verdict.decision == Decision::kKept) claim(tally, proposal.effect);
    }
    add_candidate(evidence, y, verdict);
    ++tally.proposals;
  }
  kept.gains = gains_of(evidence);
  return kept;
}

// The numbers of the kept changes, the largest believed gain first.
std::vector<size_t> largest_first(const Kept& kept) {
  std::vector<size_t> order(kept.gains.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::sort(order.begin(), order.end(),
            [&](size_t a, size_t b) { return kept.gains[a] < kept.gains[b]; });
  return order;
}

std::vector<ProofBlock> measure_blocks(const ProofPlan& plan, Machine& machine, const Kept& kept,
                                       const std::vector<size_t>& order) {
  const double truth = kept.truth();
  std::vector<ProofBlock> blocks;
  for (const std::vector<int64_t>& arms : plan.blocks) {
    ProofBlock block{0, 0, std::vector<double>(static_cast<size_t>(plan.variants))};
    for (int64_t arm : arms) {
      if (arm == kTip) block.tip = machine.measure(truth);
      if (arm == kBaseline) block.baseline = machine.measure(0);
      if (arm < kFirstVariant) continue;
      const auto i = static_cast<size_t>(arm - kFirstVariant);
      block.without[i] = machine.measure(truth - kept.effects[order[i]]);
    }
    blocks.push_back(block);
  }
  return blocks;
}

// Counts what was proven, and leaves out what is to be dropped. Whether there was such a change.
bool apply(const Proof& proof, const std::vector<size_t>& order, Kept& kept, Tally& tally) {
  bool dropped = false;
  for (size_t i = 0; i < proof.changes.size(); ++i) {
    double& effect = kept.effects[order[i]];
    tally.verified += proof.changes[i].verified;
    tally.verified_falsely += proof.changes[i].verified && effect >= 0;
    if (!proof.changes[i].drop) continue;
    ++tally.dropped;
    tally.dropped_wrongly += effect < 0;
    effect = 0;
    dropped = true;
  }
  return dropped;
}

Tally our_night(Machine& machine, Random& random) {
  Tally tally;
  Kept kept = search(machine, random, kProofShare, tally);
  const std::vector<size_t> order = largest_first(kept);
  const ProofPlan plan =
      plan_proof(machine.left(), static_cast<int64_t>(order.size()), std::to_string(random()));
  const Proof proof = prove(measure_blocks(plan, machine, kept, order));
  WholeGain whole = proof.whole;
  if (apply(proof, order, kept, tally)) {  // another tip than was measured
    std::vector<ProofBlock> pairs;
    for (int64_t i = 0; i < plan.reserved_pairs; ++i)
      pairs.push_back({machine.measure(kept.truth()), machine.measure(0), {}});
    whole = whole_gain(pairs);
  }
  tally.gain = -kept.truth();
  tally.whole = whole.verified;
  tally.whole_falsely = whole.verified && tally.gain <= 0;
  tally.covered = whole.low <= kept.truth() && kept.truth() <= whole.high;
  if (plan.variants > 0)
    tally.smallest = smallest_provable_effect(
        machine.sigma(), static_cast<int64_t>(plan.blocks.size()), plan.variants);
  return tally;
}

// Ours with the whole night for the search, and nothing proven.
Tally unproven_night(Machine& machine, Random& random) {
  Tally tally;
  tally.gain = -search(machine, random, 0, tally).truth();
  return tally;
}

using Rule = Tally (*)(Machine&, Random&);

// Night i has the same random numbers, whichever thread it runs in.
Tally simulate(Rule rule, const World& world, int64_t measurements, int64_t nights, uint64_t seed) {
  std::array<Tally, kThreads> sums;
  std::vector<std::thread> threads;
  for (int64_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int64_t i = t; i < nights; i += kThreads) {
        Random random(seed + 1'000'003 * static_cast<uint64_t>(i));
        Machine machine(world, random, measurements);
        Tally tally = rule(machine, random);
        tally.spent = static_cast<double>(measurements - machine.left());
        sums[static_cast<size_t>(t)].add(tally);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  Tally sum;
  for (const Tally& part : sums) sum.add(part);
  return sum;
}

double percent(double part, double whole) { return whole > 0 ? 100 * part / whole : 0; }

double gain_per_proposal(const Tally& tally) { return tally.gain / tally.proposals; }

void print_row(const World& world, const char* rule, const Tally& t, const Tally& greedy,
               double nights) {
  std::printf("| %s | %s | %.1f | %.1f %% |", world.name, rule, t.claimed / nights,
              percent(t.claimed_falsely, t.claimed));
  if (t.verified > 0)
    std::printf(" %.1f | %.1f %% |", t.verified / nights, percent(t.verified_falsely, t.verified));
  else
    std::printf(" | |");
  std::printf(" %.1f | %.0f %% | %.0f | %.0f |", 1e3 * t.gain / nights,
              percent(gain_per_proposal(t), gain_per_proposal(greedy)), t.proposals / nights,
              t.spent / nights);
  if (t.smallest > 0) std::printf(" %.1e |\n", t.smallest / nights);
  if (t.smallest == 0) std::printf(" |\n");
  std::fflush(stdout);
}

// All rules in one world. Whether ours met its goals.
bool print_world(const World& world, int64_t count, uint64_t seed, std::string& proofs) {
  const auto nights = static_cast<double>(count);
  const Tally greedy = simulate(greedy_night, world, kMeasurements, count, seed);
  print_row(world, "greedy", greedy, greedy, nights);
  const std::pair<const char*, Rule> others[] = {
      {"2 sigma", two_sigma_night}, {"confirm", confirm_night}, {"ours, unproven", unproven_night}};
  for (const auto& [name, rule] : others)
    print_row(world, name, simulate(rule, world, kMeasurements, count, seed), greedy, nights);
  const Tally ours = simulate(our_night, world, kMeasurements, count, seed);
  print_row(world, "ours", ours, greedy, nights);
  // What greedy gains by as many proposals: every further one finds the bar a little luckier.
  const int64_t as_many = 1 + std::lround(ours.proposals / nights);
  print_row(world, "greedy, ended early", simulate(greedy_night, world, as_many, count, seed),
            greedy, nights);

  char line[400];
  std::snprintf(line, sizeof line, "| %s | %.1f %% | %.2f %% | %.1f %% | %.2f | %.2f |\n",
                world.name, percent(ours.whole, nights), percent(ours.whole_falsely, ours.whole),
                percent(ours.covered, nights), ours.dropped / nights,
                ours.dropped_wrongly / nights);
  proofs += line;
  return percent(ours.verified_falsely, ours.verified) <= 5 &&
         gain_per_proposal(ours) >= 0.95 * gain_per_proposal(greedy);
}

void print_likeness(int64_t count, uint64_t seed) {
  const Tally t = simulate(greedy_night, {"published", 3e-4}, 126, count, seed);
  const auto nights = static_cast<double>(count);
  std::printf(
      "125 proposals, greedy:          kept  by less than 0.0005  rejected by less  gain recorded\n"
      "upstream's published night      22    12                   34                0.0282\n"
      "ours, sigma 3e-4, on average    %-4.0f  %-19.0f  %-16.0f  %.4f, %.4f true\n\n",
      t.claimed / nights, t.small_claims / nights, t.near_misses / nights, t.recorded / nights,
      t.gain / nights);
}

}  // namespace

int main(int argc, char** argv) try {
  const int64_t nights = argc > 1 ? std::stoll(argv[1]) : 10'000;
  const uint64_t seed = argc > 2 ? std::stoull(argv[2]) : 1;
  check(nights > 0, "usage: nights [nights] [seed]");
  std::printf("%lld nights of %lld measurements a cell, seed %llu\n\n",
              static_cast<long long>(nights), static_cast<long long>(kMeasurements),
              static_cast<unsigned long long>(seed));
  print_likeness(nights, seed);
  std::printf(
      "| noise | rule | claimed wins | false | verified wins | false | true gain, mbpb | gain per "
      "proposal, of greedy's | proposals | measurements | smallest provable effect |\n"
      "|---|---|---|---|---|---|---|---|---|---|---|\n");
  const World worlds[] = {{"2e-4", 2e-4},
                          {"5e-4", 5e-4},
                          {"1e-3", 1e-3},
                          {"5e-4, heavy tails", 5e-4, true},
                          {"5e-4, drift", 5e-4, false, true}};
  bool met = true;
  std::string proofs;  // a second table, filled by the nights of the first
  for (const World& world : worlds) met = print_world(world, nights, seed, proofs) && met;
  std::printf(
      "\n| noise | whole gain verified | falsely | its interval holds the truth | changes dropped "
      "a "
      "night | that helped |\n|---|---|---|---|---|---|\n%s",
      proofs.c_str());
  std::printf(
      "\ngoals %s: at most 5 %% of verified wins false, at least 95 %% of greedy's true gain "
      "per proposal\n",
      met ? "met" : "MISSED");
  return met ? 0 : 1;
} catch (const std::exception& error) {
  std::cerr << "nights: error: " << error.what() << "\n";
  return 1;
}
