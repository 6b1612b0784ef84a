#include "agent/lab/evidence.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <optional>
#include <string>

#include "common/error.h"
#include "common/files.h"

namespace autoresearch {
namespace {

// In Decision's order.
constexpr std::array kDecisionNames = {"kept", "simpler", "noise", "no"};

constexpr size_t kFewestDifferences = 8;  // fewer tell nothing of what differences are like

double mean_of(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

double median_of(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

// How true differences are distributed: normal(mean, variance).
struct Prior {
  double mean, variance;
};

std::optional<Prior> prior_of(const std::vector<double>& differences, double sigma) {
  if (differences.size() < kFewestDifferences) return std::nullopt;
  const double middle = median_of(differences);
  std::vector<double> away;
  for (double d : differences) away.push_back(std::abs(d - middle));
  // 1.4826 median deviations are the standard deviation of a normal distribution. Of the variance
  // that they show, the noise of two measurements is no part of the truth; but few differences may
  // show less than their noise, and a prior without any width would deny every gain.
  const double spread = 1.4826 * median_of(away);
  return Prior{middle, std::max(spread * spread - 2 * sigma * sigma, sigma * sigma / 4)};
}

// What a measured difference with this variance is worth once luck is discounted.
double shrunk(double d, double variance, const std::optional<Prior>& prior) {
  if (!prior || variance == 0) return d;
  const double mean =
      (prior->mean / prior->variance + d / variance) / (1 / prior->variance + 1 / variance);
  const double s = std::sqrt(variance);
  return std::clamp(mean, d - s, d + s);
}

}  // namespace

Noise noise_of(const Evidence& evidence) {
  double squares = 0;
  int64_t freedom = 0;
  for (const auto& group : evidence.repeats) {
    const double mean = mean_of(group);
    for (double y : group) squares += (y - mean) * (y - mean);
    freedom += static_cast<int64_t>(group.size()) - 1;
  }
  return freedom == 0 ? Noise{} : Noise{std::sqrt(squares / static_cast<double>(freedom)), freedom};
}

Bar bar_of(const Evidence& evidence, KeepRule rule) {
  check(!evidence.repeats.empty(), "no bar before the baseline");
  const std::vector<double>& own = evidence.repeats.back();
  if (rule == KeepRule::kGreedy) return {own.front(), 1};
  const auto n = static_cast<int64_t>(own.size());
  if (evidence.bars.empty()) return {mean_of(own), n};
  // Fresh measurements are not lucky on average, because nobody chose the champion by them.
  const double sigma = noise_of(evidence).sigma;
  const double before = evidence.bars.back();
  const auto n_before = static_cast<double>(evidence.repeats[evidence.repeats.size() - 2].size());
  std::vector<double> fair = own;
  fair.front() = before + shrunk(own.front() - before, sigma * sigma * (1 + 1 / n_before),
                                 prior_of(evidence.differences, sigma));
  return {mean_of(fair), n};
}

Judgement judge(const Evidence& evidence, double y, int64_t tokens_saved, KeepRule rule) {
  const double bar = bar_of(evidence, rule).value;
  const double sigma = noise_of(evidence).sigma;
  const double margin = rule == KeepRule::kGreedy ? 0 : sigma;
  if (y - bar < -margin) return {Decision::kKept, y - bar, sigma};
  // Against the lowest bar so far: a row of simplifications together costs no more than the noise.
  double lowest = bar;
  for (double earlier : evidence.bars) lowest = std::min(lowest, earlier);
  const bool simpler = tokens_saved >= kClearlyFewerTokens && y - lowest <= sigma;
  if (simpler && rule == KeepRule::kEvidence) return {Decision::kSimpler, y - bar, sigma};
  return {y - bar <= sigma ? Decision::kNoise : Decision::kNo, y - bar, sigma};
}

bool is_keep(Decision decision) {
  return decision == Decision::kKept || decision == Decision::kSimpler;
}

void add_repeat(Evidence& evidence, double y) {
  if (evidence.repeats.empty()) evidence.repeats.emplace_back();
  evidence.repeats.back().push_back(y);
}

void add_candidate(Evidence& evidence, double y, const Judgement& judgement) {
  ++evidence.since_keep;
  if (is_keep(judgement.decision)) {
    evidence.bars.push_back(y - judgement.difference);
    evidence.repeats.push_back({y});
    evidence.since_keep = 0;
  }
  evidence.differences.push_back(judgement.difference);
}

int64_t repeats_owed(const Evidence& evidence, KeepRule rule) {
  if (rule == KeepRule::kGreedy || evidence.repeats.empty()) return 0;
  const int64_t wanted = (evidence.bars.empty() ? 3 : 2) + evidence.since_keep / 8;
  return std::max<int64_t>(0, wanted - static_cast<int64_t>(evidence.repeats.back().size()));
}

std::vector<double> gains_of(const Evidence& evidence) {
  std::vector<double> gains;
  for (size_t i = 0; i < evidence.bars.size(); ++i) {
    const double next =
        i + 1 < evidence.bars.size() ? evidence.bars[i + 1] : bar_of(evidence).value;
    gains.push_back(next - evidence.bars[i]);
  }
  return gains;
}

uint64_t seed_of(std::string_view tag, int64_t n, int64_t attempt) {
  const std::string name = fmt::format("{}\n{}\n{}", tag, n, attempt);
  return std::stoull(sha256(name).substr(0, 12), nullptr, 16);
}

const char* name_of(Decision decision) { return kDecisionNames[static_cast<size_t>(decision)]; }

std::optional<Decision> decision_of(std::string_view name) {
  for (size_t i = 0; i < kDecisionNames.size(); ++i)
    if (name == kDecisionNames[i]) return static_cast<Decision>(i);
  return std::nullopt;
}

}  // namespace autoresearch
