#include "agent/record/figures.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "common/text.h"

namespace autoresearch {
namespace {

// Training time if there was any: from candidate to verdict a night's power cut may lie between.
std::optional<double> minutes_of(const Experiment& experiment) {
  if (experiment.measured) return experiment.measured->wall_seconds / 60;
  const auto begin = seconds_of_utc(experiment.start_utc), end = seconds_of_utc(experiment.end_utc);
  if (!begin || !end) return std::nullopt;
  return std::max(0.0, *end - *begin) / 60;
}

}  // namespace

std::vector<Figures> figures_of(const RunState& state) {
  std::vector<Figures> all;
  std::optional<double> best;
  auto tip = state.trimmed.begin();
  for (const Experiment& experiment : state.experiments) {
    const auto judged_at = seconds_of_utc(experiment.end_utc);  // none: it is open
    while (judged_at && tip != state.trimmed.end() && *judged_at > tip->at) best = (tip++)->bpb;
    Figures figures;
    figures.minutes = minutes_of(experiment);
    if (experiment.status != Status::kCrash && experiment.measured) {
      figures.bpb = experiment.measured->bpb;
      figures.memory_gb = experiment.measured->memory_gb;
    }
    if (figures.bpb && best) figures.change = *figures.bpb - *best;
    if (experiment.status == Status::kKeep) best = figures.bpb;
    figures.best = best;
    all.push_back(figures);
  }
  return all;
}

std::map<std::string, Counts> count_by_proposer(const RunState& state) {
  std::map<std::string, Counts> by_proposer;
  for (const Experiment& experiment : state.experiments) {
    if (experiment.n == 0 || experiment.status == Status::kOpen) continue;
    Counts& counts =
        by_proposer[experiment.candidate.proposer.empty() ? "unknown"
                                                          : experiment.candidate.proposer];
    (experiment.status == Status::kKeep      ? counts.kept
     : experiment.status == Status::kDiscard ? counts.discarded
                                             : counts.crashed)++;
  }
  return by_proposer;
}

Counts count(const RunState& state) {
  Counts total;
  for (const auto& [proposer, counts] : count_by_proposer(state)) {
    total.kept += counts.kept;
    total.discarded += counts.discarded;
    total.crashed += counts.crashed;
  }
  return total;
}

std::string idea_of(const Experiment& experiment) {
  const event::Candidate& candidate = experiment.candidate;
  return (candidate.proposer.starts_with(kReplay) ? "recorded: " : "") + candidate.idea;
}

std::string proposers_in_words(const RunState& state) {
  std::vector<std::string> words;
  for (const auto& [proposer, counts] : count_by_proposer(state)) {
    const auto nothing = state.came_to_nothing.find(proposer);
    words.push_back(fmt::format("{} {} ({} kept, {:.0f} %{})", one_line(proposer, 100),
                                counts.all(), counts.kept, 100.0 * counts.kept / counts.all(),
                                nothing == state.came_to_nothing.end()
                                    ? ""
                                    : fmt::format("; {} came to nothing", nothing->second)));
  }
  return fmt::format("{}", fmt::join(words, ", "));
}

double baseline_bpb(const RunState& state) {
  for (const Experiment& experiment : state.experiments)
    if (experiment.status == Status::kKeep) return experiment.measured->bpb.value_or(0);
  return 0;
}

std::string noise_in_words(const Noise& noise) {
  if (noise.freedom == 0) return "not known: nothing was measured twice yet";
  return fmt::format("{:.2g}, by {} repeat{}", noise.sigma, noise.freedom,
                     noise.freedom == 1 ? "" : "s");
}

const char* name_of(Certainty certainty) {
  constexpr std::array kNames = {"", "not verified yet", "not proven", "verified"};  // in its order
  return kNames[static_cast<size_t>(certainty)];
}

Certainty certainty_of(const RunState& state) {
  if (state.champion_n <= 0) return Certainty::kNoGain;
  if (!state.verified || state.verified->tip != state.champion) return Certainty::kNotYet;
  return state.verified->verified ? Certainty::kVerified : Certainty::kNotProven;
}

Certainty certainty_of(const Experiment& experiment) {
  if (experiment.n == 0 || experiment.status != Status::kKeep) return Certainty::kNoGain;
  const auto& proven = experiment.proven;
  // A change that the proof did not take out of the tip has no figures.
  if (!proven) return Certainty::kNotYet;
  if (proven->result == "verified") return Certainty::kVerified;
  return proven->effect == 0 ? Certainty::kNotYet : Certainty::kNotProven;
}

std::optional<double> tested_bpb(const RunState& state, const std::string& commit) {
  const auto found = state.tested.find(commit);
  return found == state.tested.end() ? std::nullopt : found->second.bpb;
}

std::string test_line(const RunState& state) {
  if (state.champion_n <= 0) return "";
  const auto before = tested_bpb(state, state.at(0).candidate.commit);
  const auto after = tested_bpb(state, state.champion);
  if (!before || !after) return "";
  const std::string warning = fits_validation(state);
  return fmt::format("{:.6f} -> {:.6f} ({:+.6f}), on val {:+.6f}{}{}", *before, *after,
                     *after - *before, state.best_bpb - baseline_bpb(state),
                     warning.empty() ? "" : "; ", warning);
}

std::string steps_caution(const RunState& state) {
  constexpr double kAlike = 1.1;
  if (state.champion_n <= 0 || !state.experiments[0].measured) return "";
  // A proof measures both side by side: what the machine gave, it gave to both.
  if (certainty_of(state) == Certainty::kVerified) return "";
  const int64_t before = state.experiments[0].measured->steps;
  const int64_t after = state.at(state.champion_n).measured->steps;
  if (before <= 0 || static_cast<double>(after) < kAlike * static_cast<double>(before)) return "";
  return fmt::format(
      "Part of the gain may be the machine's: #{} made {} steps in its time, the baseline {}.",
      state.champion_n, after, before);
}

std::vector<std::pair<std::string, double>> parts_of(const TimeSpent& spent) {
  return {{"training", spent.training}, {"scoring", spent.scoring},
          {"start-up", spent.startup},  {"sealing", spent.sealing},
          {"building", spent.building}, {"waiting for an idea", spent.waiting()},
          {"paused", spent.paused}};
}

std::optional<double> budget_in(const RunState& state) {
  if (state.experiments.empty() || !state.experiments[0].measured) return std::nullopt;
  const Measured& measured = *state.experiments[0].measured;
  return measured.wall_seconds - measured.overhead_seconds;
}

double pace_of(const RunState& state) {
  const auto judged = state.experiments.size() - state.open.size();
  return judged == 0 ? 0 : (state.spent.total - state.spent.paused) / static_cast<double>(judged);
}

}  // namespace autoresearch
