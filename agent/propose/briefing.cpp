#include "agent/propose/briefing.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstdio>
#include <map>
#include <optional>
#include <string_view>

#include "agent/lab/measurement.h"
#include "agent/lab/verdict.h"
#include "agent/record/figures.h"
#include "common/budget.h"
#include "common/text.h"

namespace autoresearch {
namespace {

using nlohmann::json;
using Records = std::function<json(int64_t n)>;

constexpr size_t kMaxFigures = 80, kMaxWord = 60;

// A figure's value: a number or, where it has none, a word.
struct Figure {
  std::optional<double> number;
  std::string word;
};
using Figures = std::vector<std::pair<std::string, Figure>>;

std::string written(const char* format, double value) {
  char text[64];
  std::snprintf(text, sizeof text, format, value);
  return text;
}

// Whether a name or a value is one, and no sentence: the code under test wrote it.
bool is_name(const std::string& text) {
  return std::all_of(text.begin(), text.end(), [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) || std::string_view("_.-+").find(c) < 4;
  });
}

void add(Figures& figures, const std::string& name, const json& value) {
  if (figures.size() == kMaxFigures || !is_name(name)) return;
  const bool sentence = name == "device" || name == "fused_operations";
  if (value.is_string() && !sentence && !is_name(value.get<std::string>())) return;
  if (value.is_number()) figures.push_back({one_line(name, kMaxWord), {value.get<double>(), ""}});
  if (value.is_string())
    figures.push_back(
        {one_line(name, kMaxWord), {{}, one_line(value.get<std::string>(), kMaxWord)}});
}

double number_of(const json& record, const char* name) {
  return record.contains(name) && record[name].is_number() ? record[name].get<double>() : 0;
}

// What the parent measured, then what the trainer says of itself, its nested figures included.
Figures figures_of(const Experiment& experiment, const json& record) {
  Figures figures;
  if (const auto& measured = experiment.measured) {
    if (measured->bpb) add(figures, "val_bpb", *measured->bpb);
    add(figures, "wall_seconds", measured->wall_seconds);
    add(figures, "overhead_seconds", measured->overhead_seconds);
    add(figures, "memory_gb", measured->memory_gb);
    add(figures, "score_seconds", measured->score_seconds);
    // The loss by position: how much the model gains from what stands before in the row.
    for (const char* name : {"nats_first_32", "nats_last_32"})
      if (const auto found = measured->score.find(name); found != measured->score.end())
        add(figures, name, found->second);
  }
  if (number_of(record, "steps") > 0)
    add(figures, "ms_per_step",
        1000 * number_of(record, "training_seconds") / number_of(record, "steps"));
  for (const auto& [name, value] : record.items()) {
    if (name == "seed" || name == "task" || name == "profile" || name == "fused_operations")
      continue;
    add(figures, name, value);
    if (value.is_object())
      for (const auto& [inner, figure] : value.items()) add(figures, inner, figure);
  }
  return figures;
}

// Tokens of one step; 0: unknown.
double tokens_per_step(const json& record) {
  const double tokens = number_of(record, "tokens") > 0 ? number_of(record, "tokens")
                                                        : number_of(record, "tokens_per_second") *
                                                              number_of(record, "training_seconds");
  return number_of(record, "steps") > 0 ? tokens / number_of(record, "steps") : 0;
}

// Mean loss over each tenth of the first `tokens` of the training; a tenth without a point is left
// out. By the clock, tenths of two runs would be about different rows of the data.
std::map<int, double> loss_by_tenths(const json& record, double tokens) {
  std::map<int, std::pair<double, int>> sums;
  for (const json& point : record.value("loss_curve", json::array())) {
    const bool is_point =
        point.is_array() && point.size() == 3 && point[0].is_number() && point[2].is_number();
    if (!is_point) continue;
    const double share = point[0].get<double>() * tokens_per_step(record) / tokens;
    if (!(share >= 0 && share <= 1)) continue;
    auto& [sum, count] = sums[std::min(9, static_cast<int>(10 * share))];
    sum += point[2].get<double>();
    ++count;
  }
  std::map<int, double> means;
  for (const auto& [tenth, sum] : sums) means[tenth] = sum.first / sum.second;
  return means;
}

std::string figure_line(const std::string& name, const Figure& figure, const Figure* before) {
  std::string line = name + ": " + (figure.number ? written("%.6g", *figure.number) : figure.word);
  if (before && figure.number && before->number && *figure.number != *before->number)
    line += " (" + written("%+.4g", *figure.number - *before->number) + ")";
  if (before && !figure.number && before->word != figure.word)
    line += " (was " + before->word + ")";
  return line + "\n";
}

std::string loss_line(const json& record, const json& before) {
  const double mine = tokens_per_step(record) * number_of(record, "steps");
  const double theirs = tokens_per_step(before) * number_of(before, "steps");
  const double tokens = theirs > 0 ? std::min(mine, theirs) : mine;
  if (!(tokens > 0)) return "";
  const auto now = loss_by_tenths(record, tokens), then = loss_by_tenths(before, tokens);
  std::string line;
  for (const auto& [tenth, loss] : now) {
    line += (line.empty() ? "" : ", ") + written("%.4f", loss);
    if (const auto old = then.find(tenth); old != then.end())
      line += " (" + written("%+.4f", loss - old->second) + ")";
  }
  return line.empty() ? ""
                      : "training loss, mean of each tenth of the first " +
                            written("%.3gM", tokens / 1e6) + " tokens: " + line + "\n";
}

const Experiment* parent_of(const RunState& state, const Experiment& experiment) {
  for (const Experiment& e : state.experiments)
    if (!experiment.candidate.parent.empty() && e.candidate.commit == experiment.candidate.parent)
      return &e;
  return nullptr;
}

std::string report_on(const RunState& state, const Experiment& experiment, const Records& record) {
  const auto safe_record = [&](int64_t n) {
    const json value = record(n);
    return value.is_object() ? value : json::object();
  };
  const json mine = safe_record(experiment.n);
  const Experiment* parent = parent_of(state, experiment);
  const json theirs = parent ? safe_record(parent->n) : json::object();
  std::map<std::string, Figure> before;
  if (parent)
    for (const auto& [name, figure] : figures_of(*parent, theirs)) before.emplace(name, figure);
  std::string text = "experiment " + std::to_string(experiment.n);
  if (experiment.candidate.commit == state.champion) text += ", the best so far";
  if (parent) text += " (in brackets: difference to experiment " + std::to_string(parent->n) + ")";
  text += "\n";
  for (const auto& [name, figure] : figures_of(experiment, mine)) {
    const auto old = before.find(name);
    text += figure_line(name, figure, old == before.end() ? nullptr : &old->second);
  }
  return text + loss_line(mine, theirs);
}

// Tokens that the training of an experiment saw, by the trainer's own word; 0: unknown.
double tokens_of(const Experiment& experiment) {
  if (!experiment.measured) return 0;
  const Measured& measured = *experiment.measured;
  return measured.tokens_per_second * (measured.wall_seconds - measured.overhead_seconds);
}

// What ends an experiment as a crash, by the baseline's own measures.
std::string limits_of(const Experiment& first, int64_t memory_bytes) {
  if (!first.measured) return "";
  const Baseline baseline = baseline_of(*first.measured);
  const double budget = first.measured->wall_seconds - first.measured->overhead_seconds;
  const Allowance allowance = allowance_of(budget, baseline);
  std::string text =
      "limits, beyond which an experiment counts as a crash\nwall_seconds: " +
      written("at most %.4g from start to exit\n", allowance.wall_limit()) +
      written("training: at most %.4g s, and run.next_step() ends it", judged_training(budget)) +
      written(" after %.4g s\n", budget);
  if (const auto& phases = allowance.baseline)
    text += written("before training: at most %.4g s", allowance.phase_limit(phases->startup)) +
            written("; after it: at most %.4g s\n", allowance.phase_limit(phases->sealing));
  if (memory_bytes > 0)
    text += written("main memory: at most %.4g GB\n", static_cast<double>(memory_bytes) / 1e9);
  if (baseline.sealed_bytes > 0)
    text += written("sealed model: at most %.4g MB, looked at before training\n",
                    static_cast<double>(most_sealed_bytes(baseline)) / 1e6);
  return text + "\n";
}

bool is_verified(const RunState& state, int64_t n) {
  if (!state.verified || !state.verified->verified) return false;  // the whole gain comes first
  const auto& changes = state.verified->changes;
  return std::any_of(changes.begin(), changes.end(), [&](const event::ProvenChange& change) {
    return change.n == n && change.result == "verified";
  });
}

}  // namespace

std::vector<Past> past_of(const RunState& state) {
  std::vector<Past> result;
  const auto figures = figures_of(state);
  for (const Experiment& e : state.experiments) {
    if (e.status == Status::kOpen) continue;
    const event::Candidate& candidate = e.candidate;
    Past past{e.n,
              name_of(e.is_dropped() ? Status::kDiscard : e.status),
              0,
              0,
              candidate.idea,
              e.reason,
              candidate.constants,
              candidate.areas,
              foretold_change(candidate.why),
              tokens_of(e)};
    past.noise = e.decision == name_of(Decision::kNoise);
    past.verified = is_verified(state, e.n);
    if (e.measured && e.measured->bpb && e.status != Status::kCrash) {
      past.bpb = *e.measured->bpb;
      past.change = figures[static_cast<size_t>(e.n)].change.value_or(0);
    }
    result.push_back(std::move(past));
  }
  return result;
}

std::string measurements_of(const RunState& state, const Records& record, int64_t memory_bytes) {
  if (state.champion_n < 0) return "";
  const Experiment& champion = state.experiments.at(static_cast<size_t>(state.champion_n));
  const std::string slow = slow_operations(state);
  std::string text = slow.empty() ? "" : slow + "\n\n";
  text += limits_of(state.experiments.front(), memory_bytes) + report_on(state, champion, record);
  const Experiment* latest = nullptr;
  for (const Experiment& e : state.experiments)
    if (e.status != Status::kOpen) latest = &e;
  if (latest && latest->n != champion.n) text += "\n" + report_on(state, *latest, record);
  return text;
}

}  // namespace autoresearch
