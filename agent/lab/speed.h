// Speed apart from learning: on a machine whose speed wanders, a score after a fixed time mixes how
// fast a candidate was with how well it learned. The loss curves of two runs tell them apart.
#pragma once

#include <string>
#include <vector>

namespace autoresearch {

// A point of train.json's `loss_curve`.
struct CurvePoint {
  double step, seconds, loss;  // seconds since the first step; nats per token
};

// What one run tells of itself, in the order of its steps.
struct Curve {
  std::vector<CurvePoint> points;
  double tokens_per_step = 0;
};

enum class WonBy { kSpeed, kLearning, kBoth, kNeither };

// A candidate against the champion. A ratio is 0, a difference nothing, if the curves can't tell.
struct SpeedAndLearning {
  WonBy won_by = WonBy::kNeither;
  double steps_ratio = 0, tokens_ratio = 0;  // candidate's steps/s and tokens/s over champion's

  // Candidate's mean loss less champion's at the same steps, and at the same tokens: negative is
  // better. Each with the standard error over the parts of the curve.
  double at_equal_steps = 0, at_equal_tokens = 0;
  double steps_error = 0, tokens_error = 0;
};

// Equal speeds differ by up to so much between runs on a quiet machine. A wandering one needs more.
constexpr double kSpeedNoise = 0.02;

// By speed: more tokens/s, by more than `speed_noise`. By learning: a lower loss at equal tokens,
// by more than two standard errors. Tokens and not steps decide, because a change of the batch
// changes what a step is. The first fifth of the shared tokens, which the start rules, does not
// count; nor, if the speeds differ, does their second half: a schedule that follows the clock cools
// down at other tokens there.
SpeedAndLearning compare_curves(const Curve& champion, const Curve& candidate,
                                double speed_noise = kSpeedNoise);

// "by speed", "by learning per step", "by speed and by learning per step", "neither by speed nor by
// learning per step".
std::string name_of(WonBy won_by);

}  // namespace autoresearch
