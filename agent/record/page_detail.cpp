#include "agent/record/page_detail.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "agent/lab/measurement.h"
#include "common/text.h"

namespace autoresearch {
namespace {

using nlohmann::json;

// Nothing if there is no plain file: a link that a candidate made is not followed.
std::optional<std::string> content_of(const fs::path& path) {
  std::error_code missing;
  if (!fs::is_regular_file(fs::symlink_status(path, missing))) return std::nullopt;
  return read_file(path);
}

// A character is not cut in two.
size_t begin_of_character(const std::string& text, size_t at) {
  while (at > 0 && at < text.size() && (static_cast<uint8_t>(text[at]) & 0xC0) == 0x80) --at;
  return at;
}

// As many digits as a chart of a few hundred pixels shows.
double rounded(double value) {
  if (value == 0 || !std::isfinite(value)) return 0;
  const double unit = std::pow(10, 4 - std::floor(std::log10(std::abs(value))));
  return std::round(value * unit) / unit;
}

json curve_json(const ExperimentFolder& folder, size_t bytes) {
  constexpr size_t kPointBytes = 24;
  const Curve curve = curve_of(trainer_record(folder));
  const size_t most = std::clamp<size_t>(bytes / kPointBytes, 2, 200);
  json points = json::array();
  const size_t count = std::min(most, curve.points.size());
  for (size_t i = 0; i < count; ++i) {
    const size_t at = count == 1 ? 0 : i * (curve.points.size() - 1) / (count - 1);
    const CurvePoint& point = curve.points[at];
    points.push_back({point.step, rounded(point.seconds), rounded(point.loss)});
  }
  return points;
}

}  // namespace

Curve curve_of(const json& record) {
  Curve curve;
  const auto points = record.find("loss_curve");
  if (points != record.end() && points->is_array())
    for (const json& point : *points)
      if (point.is_array() && point.size() == 3 &&
          std::all_of(point.begin(), point.end(), [](const json& v) { return v.is_number(); }))
        curve.points.push_back({point[0], point[1], point[2]});
  const json::json_pointer batch("/configuration/total_batch");
  if (record.contains(batch) && record[batch].is_number()) curve.tokens_per_step = record[batch];
  return curve;
}

const Experiment* parent_of(const RunState& state, int64_t n) {
  const std::string& commit = state.at(n).candidate.parent;
  const auto& all = state.experiments;
  const auto found = std::find_if(all.begin(), all.end(), [&](const Experiment& e) {
    return !commit.empty() && e.candidate.commit == commit;
  });
  return found == all.end() ? nullptr : &*found;
}

std::optional<SpeedAndLearning> against_parent(const RunFolder& run, const RunState& state,
                                               int64_t n) {
  const Experiment* parent = parent_of(state, n);
  if (parent == nullptr) return std::nullopt;
  const SpeedAndLearning compared =
      compare_curves(curve_of(trainer_record(run.experiment(parent->n))),
                     curve_of(trainer_record(run.experiment(n))));
  return compared.steps_ratio > 0 ? std::optional(compared) : std::nullopt;
}

std::string excerpt(const std::string& text, size_t bytes, Part part) {
  // What is far from the part that is shown need not be cleaned. Escape sequences are longer than
  // what they show, so that a little more than `bytes` is taken.
  const size_t taken = std::min(text.size(), 2 * bytes);
  const std::string clean = plain_text(
      part == Part::kBeginning ? text.substr(0, begin_of_character(text, taken))
                               : text.substr(begin_of_character(text, text.size() - taken)));
  if (clean.size() <= bytes && taken == text.size()) return clean;
  const size_t shown = std::min(bytes, clean.size());
  const std::string cut =
      fmt::format("[{:.1f} kB are not shown here]",
                  static_cast<double>(text.size() - std::min(shown, text.size())) / 1000);
  return part == Part::kBeginning
             ? clean.substr(0, begin_of_character(clean, shown)) + "\n" + cut
             : cut + "\n" + clean.substr(begin_of_character(clean, clean.size() - shown));
}

json detail_of(const ExperimentFolder& folder, size_t bytes) {
  json texts = json::array();
  const auto show = [&](const fs::path& path, size_t most, Part part) {
    if (const auto text = content_of(path); text && !text->empty())
      texts.push_back({path.filename().string(), excerpt(*text, most, part)});
  };
  // Eighths of the room; replies share theirs, of which there are few.
  const size_t share = bytes / 8;
  int replies = 0;
  while (content_of(folder.reply(replies + 1))) ++replies;
  show(folder.diff(), 3 * share, Part::kBeginning);
  for (int k = 1; k <= replies; ++k)
    show(folder.reply(k), share / static_cast<size_t>(replies), Part::kBeginning);
  show(folder.prompt(), share, Part::kEnd);
  show(folder.build_log(), share / 2, Part::kEnd);
  show(folder.log(), share, Part::kEnd);
  json detail = {{"folder", folder.path.string()}, {"texts", std::move(texts)}};
  if (json curve = curve_json(folder, share); !curve.empty()) detail["curve"] = std::move(curve);
  return detail;
}

}  // namespace autoresearch
