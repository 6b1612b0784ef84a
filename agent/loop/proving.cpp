#include "agent/loop/proving.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "agent/lab/proof.h"
#include "agent/loop/forecast.h"

namespace autoresearch {
namespace {

constexpr int64_t kFewest = 2 * kFewestPairs;
constexpr double kSlack = 1.1;  // of the times below, which are those of the night so far

// Of a proof: a measurement, and its part of the build of its arm, which serves for every block.
double seconds_of_one(const RunState& state) {
  const double build =
      state.spent.building / static_cast<double>(std::max<int64_t>(1, state.next_n()));
  return kSlack * (seconds_measured(state).value_or(0) + build / kFewestPairs);
}

using Blocks = std::pair<size_t, size_t>;  // from, to

// The blocks of the tip that the proof began with, and those of the trimmed one.
Blocks main_blocks(const ProofSoFar& proof) {
  return {0, proof.trimmed.empty() ? proof.figures.size() : proof.first_pair};
}
Blocks further_pairs(const ProofSoFar& proof) { return {proof.first_pair, proof.figures.size()}; }

// Those blocks in which the tip, the baseline and all of `variants` have a figure.
std::vector<ProofBlock> whole(const ProofSoFar& proof, Blocks range,
                              const std::vector<int64_t>& variants) {
  std::vector<ProofBlock> blocks;
  for (size_t i = range.first; i < range.second; ++i) {
    const std::map<int64_t, double>& figures = proof.figures[i];
    if (!figures.contains(kTip) || !figures.contains(kBaseline)) continue;
    ProofBlock block{figures.at(kTip), figures.at(kBaseline), {}};
    for (const int64_t arm : variants)
      if (figures.contains(arm)) block.without.push_back(figures.at(arm));
    if (block.without.size() == variants.size()) blocks.push_back(std::move(block));
  }
  return blocks;
}

std::vector<int64_t> usable_variants(const ProofSoFar& proof) {
  std::vector<int64_t> arms;
  for (size_t i = 0; i < proof.plan.changes.size(); ++i) {
    const int64_t arm = kFirstVariant + static_cast<int64_t>(i);
    if (lost(proof, arm).empty()) arms.push_back(arm);
  }
  return arms;
}

struct Claims {
  Proof proof;
  std::vector<int64_t> changes;  // experiments, as proof.changes
};

Claims claims_of(const ProofSoFar& proof) {
  const std::vector<int64_t> variants = usable_variants(proof);
  const std::vector<ProofBlock> blocks = whole(proof, main_blocks(proof), variants);
  if (static_cast<int64_t>(blocks.size()) < kFewestPairs) return {};
  Claims claims{prove(blocks), {}};
  for (const int64_t arm : variants)
    claims.changes.push_back(proof.plan.changes[static_cast<size_t>(arm - kFirstVariant)]);
  return claims;
}

std::string why_no_figures(const ProofSoFar& proof, size_t pairs) {
  for (const auto& [arm, name] : {std::pair{kTip, "the champion"}, {kBaseline, "the baseline"}})
    if (const std::string why = lost(proof, arm); !why.empty())
      return std::string(name) + " gave no figure: " + why;
  return fmt::format("only {} of at least {} pairs could be measured", pairs, kFewestPairs);
}

std::vector<event::ProvenChange> results_of(const RunState& state, bool trimmed,
                                            const WholeGain& gain) {
  const ProofSoFar& proof = *state.proof;
  const Claims claims = claims_of(proof);
  std::vector<event::ProvenChange> results;
  const std::vector<int64_t> all = changes_of(state);
  for (const int64_t n : all) {
    event::ProvenChange change{n, 0, 0, 1, "unproven"};
    const auto at = std::find(claims.changes.begin(), claims.changes.end(), n);
    if (at != claims.changes.end()) {
      const ChangeProof& proven =
          claims.proof.changes[static_cast<size_t>(at - claims.changes.begin())];
      change = {n, proven.effect, proven.standard_error, proven.p,
                // The whole gain comes first: a part of what may be nothing is not verified.
                proven.verified && gain.verified ? "verified" : "unproven"};
    } else if (all.size() == 1 && state.trimmed.empty()) {
      // The only change is the whole gain.
      change.effect = -gain.mean;
      if (gain.verified) change.result = "verified";
    }
    if (trimmed && std::count(proof.trimmed.begin(), proof.trimmed.end(), n) > 0)
      change.result = "dropped";
    results.push_back(std::move(change));
  }
  return results;
}

}  // namespace

double proof_begins_at(const RunState& state, const Settings& settings) {
  if (!settings.may_prove()) return INFINITY;
  const auto fewest = static_cast<double>(std::max(kFewest, settings.proof_measurements) + 1);
  const double needed = std::min(seconds_of_one(state) * fewest, settings.given / 2);
  return settings.deadline - std::max(settings.proof_share * settings.given, needed);
}

int64_t proof_budget(const RunState& state, const Settings& settings, double now) {
  const bool proven = state.verified && state.verified->tip == state.champion;
  if (state.champion_n <= 0 || changes_of(state).empty()) return 0;
  if (settings.only_proof ? state.proofs >= settings.proofs_wanted : proven) return 0;
  int64_t made = 0;
  for (const Experiment& e : state.experiments) made += e.attempts;
  double budget = settings.proof_share * static_cast<double>(made);
  if (now >= proof_begins_at(state, settings)) budget = INFINITY;  // the time is the limit
  if (settings.proof_measurements > 0) budget = static_cast<double>(settings.proof_measurements);
  budget = std::max<double>(budget, kFewest);
  budget = std::min(budget, (settings.deadline - now) / seconds_of_one(state));
  return budget < kFewest ? 0 : static_cast<int64_t>(budget);
}

std::vector<int64_t> changes_of(const RunState& state) {
  const std::vector<double> gains = gains_of(state.evidence);
  std::vector<std::pair<double, int64_t>> changes;
  for (size_t i = 0; i < state.kept.size(); ++i)
    if (state.kept[i] > 0 && !state.at(state.kept[i]).is_dropped())
      changes.emplace_back(gains.at(i), state.kept[i]);
  std::sort(changes.begin(), changes.end());
  std::vector<int64_t> order;
  for (const auto& [gain, n] : changes) order.push_back(n);
  return order;
}

std::string lost(const ProofSoFar& proof, int64_t arm) {
  const auto i = static_cast<size_t>(arm);
  if (proof.built[i] && proof.failed[i] <= kMostProofFailures) return "";
  return proof.problems[i].empty() ? "it was interrupted or broken again and again"
                                   : proof.problems[i];
}

std::string name_of_arm(const event::Proof& plan, int64_t arm) {
  if (arm == kTip) return "champion";
  if (arm == kBaseline) return "baseline";
  return fmt::format("without #{}", plan.changes.at(static_cast<size_t>(arm - kFirstVariant)));
}

std::optional<ArmOfBlock> next_in(const ProofSoFar& proof) {
  // Without one of these nothing can be compared.
  if (!lost(proof, kTip).empty() || !lost(proof, kBaseline).empty()) return std::nullopt;
  for (size_t block = 0; block < proof.plan.blocks.size(); ++block) {
    const auto& disturbed = proof.disturbed[block];
    if (std::any_of(disturbed.begin(), disturbed.end(),
                    [](const auto& arm) { return arm.second > kMostDisturbances; }))
      continue;
    for (const int64_t arm : proof.plan.blocks[block])
      if (!proof.figures[block].contains(arm) && lost(proof, arm).empty())
        return ArmOfBlock{static_cast<int64_t>(block), arm};
  }
  return std::nullopt;
}

std::vector<int64_t> changes_to_drop(const ProofSoFar& proof) {
  if (proof.plan.reserved_pairs == 0 || !proof.trimmed.empty()) return {};
  const Claims claims = claims_of(proof);
  std::vector<int64_t> changes;
  for (size_t i = 0; i < claims.changes.size(); ++i)
    if (claims.proof.changes[i].drop) changes.push_back(claims.changes[i]);
  return changes;
}

event::Verified outcome_of(const RunState& state) {
  const ProofSoFar& proof = *state.proof;
  std::vector<ProofBlock> pairs;
  if (!proof.trimmed.empty()) pairs = whole(proof, further_pairs(proof), {});
  // A tip without some changes that could not be measured well enough is not taken.
  const bool trimmed = static_cast<int64_t>(pairs.size()) >= kFewestPairs;
  if (!trimmed) pairs = whole(proof, main_blocks(proof), {});
  event::Verified result;
  result.tip = trimmed ? proof.plan.arms[kTip] : proof.tip;
  result.pairs = static_cast<int64_t>(pairs.size());
  result.sigma = claims_of(proof).proof.sigma;
  WholeGain gain;
  if (result.pairs < kFewestPairs) {
    result.problem = why_no_figures(proof, pairs.size());
  } else {
    gain = whole_gain(pairs);
    result.verified = gain.verified;
    result.mean = gain.mean, result.low = gain.low, result.high = gain.high;
    for (const ProofBlock& pair : pairs) result.bpb += pair.tip / static_cast<double>(pairs.size());
  }
  result.changes = results_of(state, trimmed, gain);
  return result;
}

}  // namespace autoresearch
