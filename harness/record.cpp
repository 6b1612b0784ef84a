#include "harness/record.h"

#include <algorithm>
#include <cstdio>
#include <utility>

namespace autoresearch {
namespace {

std::string line(const char* key, const char* format, double value) {
  char number[64], text[128];
  std::snprintf(number, sizeof number, format, value);
  std::snprintf(text, sizeof text, "%-17s %s\n", (std::string(key) + ":").c_str(), number);
  return text;
}

}  // namespace

void LossCurve::add(int64_t step, double seconds, double loss) {
  latest_ = loss;
  if (step % stride_ != 0) return;
  points_.push_back({step, seconds, loss});
  if (points_.size() <= kPoints) return;
  stride_ *= 2;
  std::erase_if(points_, [&](const Point& point) { return point.step % stride_ != 0; });
}

void StepPhases::add_step(const std::vector<std::pair<std::string, double>>& phases) {
  for (const auto& [name, seconds] : phases) {
    const bool kept = seconds_.contains(name) || seconds_.size() + 1 < kMost;
    seconds_[kept ? name : "other"] += seconds;
  }
  if (++steps_ == 1) first_step_ = std::exchange(seconds_, {});
}

std::map<std::string, double> StepPhases::ms_per_step() const {
  std::map<std::string, double> result;
  for (const auto& [name, seconds] : steps_ > 1 ? seconds_ : first_step_)
    result[name] = 1000 * seconds / static_cast<double>(std::max<int64_t>(1, steps_ - 1));
  return result;
}

double Record::tokens_per_second() const {
  return training_seconds > 0 ? static_cast<double>(tokens) / training_seconds : 0;
}

double Record::mfu_percent() const {
  const double flops = facts.value("flops_per_token", 0.0);
  return peak_flops > 0 ? 100 * flops * tokens_per_second() / peak_flops : 0;
}

nlohmann::json Record::json() const {
  nlohmann::json curve_points = nlohmann::json::array();
  for (const auto& point : curve.points())
    curve_points.push_back({point.step, point.seconds, point.loss});
  nlohmann::json result = {{"task", task},
                           {"device", device},
                           {"seed", seed},
                           {"steps", steps},
                           {"tokens", tokens},
                           {"epoch", epoch},
                           {"tokens_per_second", tokens_per_second()},
                           {"startup_seconds", startup_seconds},
                           {"training_seconds", training_seconds},
                           {"total_seconds", total_seconds},
                           {"mfu_percent", mfu_percent()},
                           {"peak_memory_bytes", peak_memory_bytes},
                           // The agent passes this warning on to the prompt and the report.
                           {"fused_operations", fused.empty() ? "all" : fused},
                           {"configuration", facts},
                           {"loss_curve", curve_points}};
  for (const auto& [name, ms] : phases.ms_per_step()) result["phases"]["ms_" + name] = ms;
  if (profile) result["profile"] = profile->json();
  if (score) {
    result["val_bpb"] = score->bpb;
    result["val_bpb_upstream"] = score->bpb_upstream;
  }
  return result;
}

std::string Record::summary() const {
  constexpr double kMiB = 1024.0 * 1024.0;
  std::string text = "---\n";
  if (score) text += line("val_bpb", "%.6f", score->bpb);
  text += line("training_seconds", "%.1f", training_seconds);
  text += line("total_seconds", "%.1f", total_seconds);
  text += line("peak_vram_mb", "%.1f", static_cast<double>(peak_memory_bytes) / kMiB);
  text += line("mfu_percent", "%.2f", mfu_percent());
  text += line("total_tokens_M", "%.1f", static_cast<double>(tokens) / 1e6);
  text += line("num_steps", "%.0f", static_cast<double>(steps));
  text += line("num_params_M", "%.1f", facts.value("parameters", 0.0) / 1e6);
  text += line("depth", "%.0f", facts.value("depth", 0.0));
  if (score) text += line("val_bpb_upstream", "%.6f", score->bpb_upstream);
  text += line("tokens_per_second", "%.0f", tokens_per_second());
  text += line("startup_seconds", "%.1f", startup_seconds);
  text += line("epoch", "%.0f", static_cast<double>(epoch));
  if (curve.latest()) text += line("train_loss", "%.4f", *curve.latest());
  for (const auto& [name, ms] : phases.ms_per_step())
    text += line(("ms_" + name).c_str(), "%.3g", ms);
  return text;
}

}  // namespace autoresearch
