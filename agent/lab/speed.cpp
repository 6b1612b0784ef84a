#include "agent/lab/speed.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <tuple>
#include <utility>

namespace autoresearch {
namespace {

constexpr size_t kParts = 8;  // of the compared stretch; each gives one difference

// Points without a number or out of order come from a candidate, which could write anything.
Curve cleaned(const Curve& curve) {
  Curve result{{}, curve.tokens_per_step};
  for (const CurvePoint& point : curve.points) {
    const bool finite =
        std::isfinite(point.step) && std::isfinite(point.seconds) && std::isfinite(point.loss);
    const bool later = result.points.empty() ? point.step >= 0 && point.seconds >= 0
                                             : point.step > result.points.back().step &&
                                                   point.seconds > result.points.back().seconds;
    if (finite && later) result.points.push_back(point);
  }
  return result;
}

// Steps a second between the first point, which start-up delays, and the last.
double steps_per_second(const Curve& curve) {
  const CurvePoint &first = curve.points.front(), &last = curve.points.back();
  return (last.step - first.step) / (last.seconds - first.seconds);
}

// The loss at a step, linear between points.
double loss_at(const Curve& curve, double step) {
  const auto after = std::lower_bound(curve.points.begin(), curve.points.end(), step,
                                      [](const CurvePoint& p, double s) { return p.step < s; });
  if (after == curve.points.begin()) return after->loss;
  if (after == curve.points.end()) return curve.points.back().loss;
  const CurvePoint& before = *(after - 1);
  const double part = (step - before.step) / (after->step - before.step);
  return before.loss + part * (after->loss - before.loss);
}

// The mean of values and its standard error.
std::pair<double, double> mean_and_error(const std::array<double, kParts>& values) {
  double mean = 0, squares = 0;
  for (double value : values) mean += value / kParts;
  for (double value : values) squares += (value - mean) * (value - mean);
  return {mean, std::sqrt(squares / (kParts - 1) / kParts)};
}

// Candidate's loss less champion's from `begin` to `end`, counted in a unit of which a step has
// `champions` and `candidates`.
std::pair<double, double> loss_difference(const Curve& champion, const Curve& candidate,
                                          double champions, double candidates, double begin,
                                          double end) {
  constexpr size_t kSamples = 25;  // a part, of 200 points in the whole curve
  std::array<double, kParts> parts{};
  for (size_t i = 0; i < kParts * kSamples; ++i) {
    const double share = (static_cast<double>(i) + 0.5) / (kParts * kSamples);
    const double at = begin + (end - begin) * share;
    parts[i / kSamples] +=
        (loss_at(candidate, at / candidates) - loss_at(champion, at / champions)) / kSamples;
  }
  return mean_and_error(parts);
}

}  // namespace

SpeedAndLearning compare_curves(const Curve& champions, const Curve& candidates,
                                double speed_noise) {
  const Curve champion = cleaned(champions), candidate = cleaned(candidates);
  SpeedAndLearning result;
  if (champion.points.size() < kParts || candidate.points.size() < kParts) return result;
  result.steps_ratio = steps_per_second(candidate) / steps_per_second(champion);
  const double mine = candidate.tokens_per_step, theirs = champion.tokens_per_step;
  if (!(mine > 0 && theirs > 0)) return result;
  result.tokens_ratio = result.steps_ratio * mine / theirs;
  const bool faster = result.tokens_ratio > 1 + speed_noise;
  const bool alike = !faster && result.tokens_ratio > 1 - speed_noise;

  const double steps = std::min(candidate.points.back().step, champion.points.back().step);
  const double tokens =
      std::min(candidate.points.back().step * mine, champion.points.back().step * theirs);
  const double end = alike ? 1 : 0.5;
  std::tie(result.at_equal_steps, result.steps_error) =
      loss_difference(champion, candidate, 1, 1, 0.2 * steps, end * steps);
  std::tie(result.at_equal_tokens, result.tokens_error) =
      loss_difference(champion, candidate, theirs, mine, 0.2 * tokens, end * tokens);
  const bool learns = result.at_equal_tokens < -2 * result.tokens_error;
  if (faster) result.won_by = learns ? WonBy::kBoth : WonBy::kSpeed;
  if (!faster && learns) result.won_by = WonBy::kLearning;
  return result;
}

std::string name_of(WonBy won_by) {
  constexpr std::array kNames = {"by speed", "by learning per step",
                                 "by speed and by learning per step",
                                 "neither by speed nor by learning per step"};  // in WonBy's order
  return kNames[static_cast<size_t>(won_by)];
}

}  // namespace autoresearch
