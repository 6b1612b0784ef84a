#include "agent/record/page.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <unordered_map>
#include <utility>

#include "agent/record/page_detail.h"
#include "agent/record/page_embedded.h"
#include "agent/record/report.h"
#include "common/text.h"

namespace autoresearch {
namespace {

using nlohmann::json;

void set(json& object, const char* key, std::optional<double> value) {
  if (value && std::isfinite(*value)) object[key] = *value;
}

// Milliseconds since 1970, as scripts count.
std::optional<double> milliseconds(const std::string& utc) {
  const auto seconds = seconds_of_utc(utc);
  return seconds ? std::optional(std::round(1000 * *seconds)) : std::nullopt;
}

// All strings of a value, cleaned for the eye.
void clean(json& value) {
  if (value.is_string()) value = plain_text(value.get<std::string>());
  if (value.is_structured())
    for (json& inner : value) clean(inner);
}

// JSON that can stand in a script element: no '<' in it ends the element or begins a comment.
std::string in_script(json value) {
  clean(value);
  std::string text;
  for (const char c : value.dump(-1, ' ', false, json::error_handler_t::replace))
    text += c == '<' ? "\\u003c" : std::string(1, c);
  return text;
}

// How the machine was while it trained.
void add_machine(json& row, const Measured& measured) {
  const MachineState& machine = measured.machine;
  if (!measured.busy.empty()) row["busy"] = measured.busy;
  if (machine.load > 0) row["load"] = machine.load;
  if (machine.cores > 0) row["cores"] = machine.cores;
  if (machine.training.seconds > 0)
    row["pressure"] = machine.training.contended / machine.training.seconds;
}

// What fresh measurements say of a kept change, with the 95 % interval of its gain.
void add_proof(json& row, const RunState& state, const Experiment& e) {
  if (e.n == 0 || e.status != Status::kKeep) return;
  row["certainty"] = e.is_dropped() ? "dropped" : name_of(certainty_of(e));
  if (!e.proven || e.proven->effect == 0) return;
  const double gain = -e.proven->effect, two = 2 * e.proven->standard_error;
  // A change that is the whole gain was not measured on its own.
  row["interval"] = two > 0 ? std::pair(gain - two, gain + two)
                            : std::pair(state.verified->low, state.verified->high);
}

json row_of(const RunState& state, const Experiment& e, const Figures& figures,
            const std::optional<SpeedAndLearning>& compared) {
  json row = {{"n", e.n},
              {"status", name_of(e.status)},
              {"idea", e.candidate.idea},
              {"why", e.candidate.why},
              {"by", e.candidate.proposer},
              {"reason", e.reason},
              {"commit", e.candidate.commit.substr(0, 12)},
              {"areas", e.candidate.areas},
              {"constants", e.candidate.constants},
              {"again", e.again}};
  set(row, "bpb", figures.bpb);
  set(row, "change", figures.change);
  set(row, "best", figures.best);
  set(row, "minutes", figures.minutes);
  set(row, "from", milliseconds(e.start_utc));
  set(row, "to", milliseconds(e.end_utc));
  if (e.disturbed > 0) row["disturbed"] = e.disturbed;
  if (e.measured) {
    if (figures.bpb) row["gb"] = e.measured->memory_gb;
    if (e.measured->steps > 0) row["steps"] = e.measured->steps;
    if (e.measured->tokens_per_second > 0) row["speed"] = e.measured->tokens_per_second;
    add_machine(row, *e.measured);
  }
  if (compared) {
    row["won"] = name_of(compared->won_by);
    if (compared->tokens_ratio > 0) {
      row["ratio"] = compared->tokens_ratio;
      row["at_equal_tokens"] = {compared->at_equal_tokens, compared->tokens_error};
      row["at_equal_steps"] = {compared->at_equal_steps, compared->steps_error};
    }
  }
  if (e.status == Status::kKeep) set(row, "test", tested_bpb(state, e.candidate.commit));
  if (const auto usd = state.usd_for.find(e.n); usd != state.usd_for.end() && usd->second > 0)
    row["usd"] = usd->second;
  add_proof(row, state, e);
  return row;
}

json facts_of(const RunFolder& run, const RunState& state) {
  json facts = json::array();
  const auto fact = [&](const char* name, const std::string& value) {
    if (!value.empty()) facts.push_back({name, value});
  };
  if (state.champion_n >= 0) {
    fact("champion", fmt::format("#{}, commit {}", state.champion_n, state.champion));
    fact("to restore its train.cpp", restore_line(run, state));
  }
  fact("folder", run.path.string());
  fact("slow operations", slow_operations(state));
  if (!state.program_changes.empty())
    fact("program.md changed", fmt::format("before #{}", fmt::join(state.program_changes, ", #")));
  if (const auto& start = state.start) {
    fact("task", start->task_name + ", " + start->task);
    if (const auto budget = budget_in(state))
      fact("budget", fmt::format("{:.0f} s of training", *budget));
    fact("kit", start->kit);
    fact("device", start->device);
    fact("machine", start->machine);
    const bool weaker = start->sandbox.find("landlock") != std::string::npos;
    fact("sandbox", start->sandbox + (weaker ? " (landlock is weaker than bubblewrap)" : ""));
    fact("seed", fmt::to_string(start->seed));
    fact("baseline from run", start->from);
  }
  return facts;
}

json time_of(const TimeSpent& spent) {
  json parts = json::array();
  for (const auto& [name, seconds] : parts_of(spent)) parts.push_back({name, seconds});
  return {{"total", spent.total}, {"parts", std::move(parts)}};
}

// How sure the gain is, and what it is on the test split.
void add_evidence(json& object, const RunState& state) {
  object["certainty"] = name_of(certainty_of(state));
  object["overfit"] = fits_validation(state);
  if (const auto& proof = state.verified)
    object["proof"] = {{"low", proof->low},
                       {"mean", proof->mean},
                       {"high", proof->high},
                       {"pairs", proof->pairs},
                       {"of", proof->tip.substr(0, 12)},
                       {"problem", proof->problem}};
  if (state.champion_n < 0) return;
  object["champion"] = state.champion_n;
  object["best"] = state.best_bpb;
  set(object, "test", tested_bpb(state, state.champion));
}

// All but the experiments.
json run_json(const RunFolder& run, const RunState& state, double now) {
  const Counts counts = count(state);
  json object = {
      {"tag", run.path.filename().string()},
      {"task", state.start ? state.start->task_name : ""},
      {"written", std::round(1000 * now)},
      {"alive", state.stopped.empty()},
      {"stopped", state.stopped},
      {"paused", state.paused},
      {"pace", pace_of(state)},
      {"counts",
       {{"kept", counts.kept}, {"discarded", counts.discarded}, {"crashed", counts.crashed}}},
      {"caution", steps_caution(state)},
      {"spent", time_of(state.spent)},
      {"usd", state.spending.usd},
      {"proposers", proposers_in_words(state)},
      {"came_to_nothing", state.came_to_nothing},
      {"last_refusal", state.last_refusal},
      {"next", state.backlog()},
      {"facts", facts_of(run, state)}};
  add_evidence(object, state);
  if (state.spending.calls > 0)
    object["money"] = spending_line(state.spending, counts.all(), counts.kept);
  if (const Noise noise = noise_of(state.evidence); noise.freedom > 0)
    object["noise"] = {{"sigma", noise.sigma}, {"freedom", noise.freedom}};
  if (!state.experiments.empty()) set(object, "began", milliseconds(state.at(0).start_utc));
  return object;
}

// The skeleton with {name} replaced; what is put in is not looked at again.
std::string filled(std::string_view skeleton,
                   const std::vector<std::pair<std::string_view, std::string_view>>& parts) {
  std::string page;
  for (const auto& [name, text] : parts) {  // in the skeleton's order
    const size_t at = skeleton.find(name);
    page.append(skeleton.substr(0, at)).append(text);
    skeleton.remove_prefix(at + name.size());
  }
  return page.append(skeleton);
}

}  // namespace

size_t detail_bytes(size_t experiments) {
  constexpr size_t kAll = size_t{8} << 20, kMost = size_t{64} << 10;
  size_t bytes = kMost;
  while (bytes > 256 && bytes * experiments > kAll) bytes /= 2;
  return bytes;
}

const ReportPage::Detail& ReportPage::detail(const RunState& state, int64_t n, size_t bytes) {
  const Experiment& e = state.at(n);
  const auto index = static_cast<size_t>(n);
  if (details_.size() <= index) details_.resize(index + 1);
  Detail& detail = details_[index];
  const std::string key = fmt::format("{} {} {} {} {}", bytes, name_of(e.status), e.attempts,
                                      e.again.size(), e.candidate.commit);
  if (e.status != Status::kOpen && detail.key == key) return detail;
  detail = {key, in_script(detail_of(run_.experiment(n), bytes)), against_parent(run_, state, n)};
  return detail;
}

std::string ReportPage::html(const RunState& state, double now) {
  const std::vector<Figures> figures = figures_of(state);
  const size_t bytes = detail_bytes(state.experiments.size());
  details_.resize(state.experiments.size());
  std::unordered_map<std::string, int64_t> numbers;
  for (const Experiment& e : state.experiments) numbers.try_emplace(e.candidate.commit, e.n);

  json run = run_json(run_, state, now);
  run["experiments"] = json::array();
  std::string details;
  for (const Experiment& e : state.experiments) {
    const Detail& mine = detail(state, e.n, bytes);
    json row = row_of(state, e, figures[static_cast<size_t>(e.n)], mine.compared);
    if (const auto parent = numbers.find(e.candidate.parent); parent != numbers.end())
      row["parent"] = parent->second;
    run["experiments"].push_back(std::move(row));
    details +=
        fmt::format("<script type=\"application/json\" id=\"d{}\">{}</script>\n", e.n, mine.json);
  }
  return filled(kPageSkeleton, {{"{style}", kPageStyle},
                                {"{run}", in_script(std::move(run))},
                                {"{details}", details},
                                {"{script}", kPageScript}});
}

}  // namespace autoresearch
