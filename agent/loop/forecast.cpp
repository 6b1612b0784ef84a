#include "agent/loop/forecast.h"

#include <algorithm>
#include <cmath>

#include "agent/loop/proving.h"

namespace autoresearch {

std::optional<double> seconds_measured(const RunState& state) {
  for (auto e = state.experiments.rbegin(); e != state.experiments.rend(); ++e)
    if (e->measured) return e->measured->wall_seconds + e->measured->score_seconds;
  return std::nullopt;
}

double seconds_each(const RunState& state, double budget) {
  constexpr double kProposal = 15;
  const auto measured = seconds_measured(state);
  return measured ? *measured + kProposal : budget;
}

double experiments_left(const RunState& state, const Settings& settings, double budget,
                        double started, double now) {
  constexpr double kNight = 8 * 3600;
  const double end = std::isfinite(settings.deadline)
                         ? std::min(settings.deadline, proof_begins_at(state, settings))
                         : started + kNight;
  double count = (end - now) / seconds_each(state, budget);
  const int64_t done = state.next_n() - 1 - static_cast<int64_t>(state.open.size());
  if (settings.max_experiments > 0)
    count = std::min(count, static_cast<double>(settings.max_experiments - done));
  return std::max(0.0, count);
}

}  // namespace autoresearch
