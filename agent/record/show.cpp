#include "agent/record/show.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "agent/lab/measurement.h"
#include "agent/record/figures.h"
#include "agent/record/page_detail.h"
#include "common/text.h"

namespace autoresearch {
namespace {

std::string fact(const std::string& name, const std::string& words) {
  return words.empty() ? "" : fmt::format("{:<14}{}\n", name, one_line(words, 2000));
}

std::string figure(double value, const char* unit) {
  return value > 0 ? fmt::format("{:.4g} {}", value, unit) : "";
}

std::string joined(const std::vector<std::string>& words) {
  return fmt::format("{}", fmt::join(words, ", "));
}

std::string in_words(double value) { return fmt::format("{:.6f}", value); }

std::string score_of(const Experiment& e, const Figures& figures) {
  if (!figures.bpb) return "";
  std::string words = in_words(*figures.bpb);
  if (figures.change) words += fmt::format(", {:+.6f} against the best before it", *figures.change);
  if (!e.again.empty()) words += fmt::format("; measured again: {:.6f}", fmt::join(e.again, " "));
  return words;
}

std::string speed_in_words(const SpeedAndLearning& compared) {
  std::string words = name_of(compared.won_by);
  if (compared.tokens_ratio > 0)
    words += fmt::format(
        "; {:+.0f} % tokens/s, training loss {:+.4f} at equal tokens (standard error {:.4f}), "
        "{:+.4f} at equal steps ({:.4f})",
        100 * (compared.tokens_ratio - 1), compared.at_equal_tokens, compared.tokens_error,
        compared.at_equal_steps, compared.steps_error);
  return words;
}

std::string machine_in_words(const Experiment& e) {
  if (!e.measured) return "";
  const MachineState& machine = e.measured->machine;
  std::vector<std::string> words;
  if (machine.cores > 0)
    words.push_back(fmt::format("load {:.1f} on {:.0f} cores", machine.load, machine.cores));
  if (machine.training.seconds > 0)
    words.push_back(fmt::format("waited for a core {:.0f} % of the time",
                                100 * machine.training.contended / machine.training.seconds));
  if (e.disturbed > 0)
    words.push_back(fmt::format("{} measurements were disturbed and repeated", e.disturbed));
  if (!e.measured->busy.empty()) words.push_back("busy in every attempt: " + e.measured->busy);
  return fmt::format("{}", fmt::join(words, "; "));
}

std::string measurement_text(const Experiment& e) {
  if (!e.measured) return "";
  const Measured& m = *e.measured;
  std::string text = fact("steps", m.steps > 0 ? fmt::to_string(m.steps) : "") +
                     fact("tokens/s", figure(m.tokens_per_second, "")) +
                     fact("memory", figure(m.memory_gb, "GB"));
  if (m.phases)
    text += fact(
        "time",
        fmt::format("{:.1f} s start-up, {:.1f} s training, {:.1f} s sealing, {:.1f} s scoring",
                    m.phases->startup, m.phases->training, m.phases->sealing, m.score_seconds));
  return text + fact("machine", machine_in_words(e));
}

// ------------------------------------------------------------------------------------------------
// Two runs

struct Row {
  const char* name;
  std::string a, b;
};

std::string counts_words(const RunState& state) {
  const Counts counts = count(state);
  return fmt::format("{}: {} kept, {} crashed", counts.all(), counts.kept, counts.crashed);
}

int64_t steps_of(const RunState& state, int64_t n) {
  return n >= 0 && n < state.next_n() && state.at(n).measured ? state.at(n).measured->steps : 0;
}

std::vector<Row> rows_of(const RunState& a, const RunState& b) {
  std::vector<Row> rows;
  const auto add = [&](const char* name, auto of) { rows.push_back({name, of(a), of(b)}); };
  const auto begun = [](const RunState& s) { return s.start.value_or(event::Start{}); };
  add("task", [&](const RunState& s) { return begun(s).task_name; });
  add("machine", [&](const RunState& s) { return begun(s).machine; });
  add("device", [&](const RunState& s) { return begun(s).device; });
  add("proposer", [&](const RunState& s) { return begun(s).provider; });
  add("budget", [](const RunState& s) { return figure(budget_in(s).value_or(0), "s"); });
  const auto score = [](const RunState& s, double bpb) {
    return s.champion_n < 0 ? "no baseline yet" : in_words(bpb);
  };
  add("baseline", [&](const RunState& s) { return score(s, baseline_bpb(s)); });
  add("best", [&](const RunState& s) { return score(s, s.best_bpb); });
  add("gain", [](const RunState& s) {
    const double before = baseline_bpb(s), gain = s.best_bpb - before;
    return before > 0 ? fmt::format("{:+.6f} ({:+.2f} %)", gain, 100 * gain / before) : "";
  });
  add("which is", [](const RunState& s) { return name_of(certainty_of(s)); });
  add("noise", [](const RunState& s) { return noise_in_words(noise_of(s.evidence)); });
  const auto steps = [](const RunState& s, int64_t n) {
    return s.champion_n < 0 ? std::string() : fmt::to_string(steps_of(s, n));
  };
  add("steps first", [&](const RunState& s) { return steps(s, 0); });
  add("steps best", [&](const RunState& s) { return steps(s, s.champion_n); });
  add("experiments", counts_words);
  add("each", [](const RunState& s) { return figure(pace_of(s), "s"); });
  add("models", [](const RunState& s) { return fmt::format("{:.2f} USD", s.spending.usd); });
  return rows;
}

// Why figures of two runs can't be set side by side, a line each.
std::vector<std::string> differences(const RunState& a, const RunState& b) {
  std::vector<std::string> lines;
  if (!a.start || !b.start) return {"one of them has not begun"};
  if (a.start->task != b.start->task)
    lines.push_back("the tasks differ, so val_bpb measures another text");
  if (a.start->kit != b.start->kit)
    lines.push_back("the kits differ: another harness, scorer or library");
  if (a.start->machine != b.start->machine || a.start->device != b.start->device)
    lines.push_back("the machines or devices differ, and with them the steps in a budget");
  const auto first = static_cast<double>(steps_of(a, 0)),
             second = static_cast<double>(steps_of(b, 0));
  if (first > 0 && second > 0 && std::abs(std::log(first / second)) > std::log(1.1))
    lines.push_back(fmt::format("the baselines made {:.0f} and {:.0f} steps", first, second));
  if (a.champion_n < 0 || b.champion_n < 0) lines.push_back("one of them has no baseline yet");
  return lines;
}

}  // namespace

std::string experiment_text(const RunFolder& run, const RunState& state, int64_t n) {
  const Experiment& e = state.at(n);
  const Figures figures = figures_of(state)[static_cast<size_t>(n)];
  const Experiment* parent = parent_of(state, n);
  std::string text =
      fmt::format("#{} {}  {}\n", n, name_of(e.status), one_line(e.candidate.idea, 1000));
  text += fact("why", e.candidate.why) + fact("verdict", e.reason) +
          fact("val_bpb", score_of(e, figures));
  if (const auto compared = against_parent(run, state, n))
    text += fact("won", speed_in_words(*compared));
  text += measurement_text(e);
  if (parent != nullptr) {
    const int64_t steps = steps_of(state, parent->n);
    text += fact("made from", fmt::format("#{}", parent->n) +
                                  (steps > 0 ? fmt::format(", which made {} steps", steps) : ""));
  }
  text += fact("proposed by", e.candidate.proposer) + fact("parts", joined(e.candidate.areas)) +
          fact("constants", joined(e.candidate.constants)) +
          fact("next", joined(e.candidate.next)) + fact("commit", e.candidate.commit) +
          fact("folder", run.experiment(n).path.string());
  constexpr size_t kLogBytes = 2000;
  if (e.status == Status::kCrash)
    text += "\n" + excerpt(trainer_log(run.experiment(n)), kLogBytes, Part::kEnd) + "\n";
  return text;
}

std::string comparison_text(const RunState& a, const RunState& b) {
  const std::string first = a.start ? a.start->tag : "a", second = b.start ? b.start->tag : "b";
  const std::vector<Row> rows = rows_of(a, b);
  size_t width = first.size();
  for (const Row& row : rows) width = std::max(width, row.a.size());
  const auto line = [&](const std::string& name, const std::string& x, const std::string& y) {
    return fmt::format("{:<12}  {:<{}}  {}\n", name, one_line(x, 200), width, one_line(y, 200));
  };
  std::string text = line("", first, second);
  for (const Row& row : rows) text += line(row.name, row.a, row.b);
  const std::vector<std::string> reasons = differences(a, b);
  for (const std::string& reason : reasons) text += "not comparable: " + reason + "\n";
  if (reasons.empty())
    text += "comparable: same task, kit, machine and device, and baselines of equal steps\n";
  return text;
}

}  // namespace autoresearch
