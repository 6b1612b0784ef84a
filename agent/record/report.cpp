#include "agent/record/report.h"

#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>
#include <system_error>

#include "agent/record/figures.h"
#include "agent/record/history.h"
#include "common/text.h"

namespace autoresearch {
namespace {

constexpr char kLine[] = "{:<4} {:<7}  {:>8}  {:>9}  {:>9}  {:<13}  {}";

std::string or_dash(const char* pattern, std::optional<double> value) {
  return value ? fmt::format(fmt::runtime(pattern), *value) : "-";
}

std::string found_by(const event::Verified& proof) {
  if (!proof.problem.empty()) return one_line(proof.problem, 300);
  return fmt::format("{:+.4f} (95 % interval {:+.4f} to {:+.4f}), {} pairs", proof.mean, proof.low,
                     proof.high, proof.pairs);
}

}  // namespace

std::string results_tsv(const RunState& state) {
  std::string tsv = "commit\tval_bpb\tmemory_gb\tstatus\tdescription\n";
  std::vector<Figures> figures = figures_of(state);
  for (const Experiment& experiment : state.experiments) {
    if (experiment.status == Status::kOpen) continue;
    const Figures& mine = figures[experiment.n];
    std::string idea = description(experiment.candidate.idea, 1000);
    std::replace(idea.begin(), idea.end(), '"', '\'');
    tsv +=
        fmt::format("{}\t{:.6f}\t{:.1f}\t{}\t{}\n", History::short_id(experiment.candidate.commit),
                    mine.bpb.value_or(0), mine.memory_gb, name_of(experiment.status), idea);
  }
  return tsv;
}

std::string experiment_line(const RunState& state, int64_t n, const std::string& won) {
  const Experiment& experiment = state.experiments.at(n);
  Figures mine = figures_of(state)[n];
  std::string idea = one_line(idea_of(experiment), 110);
  if (experiment.status == Status::kCrash) idea += " [" + one_line(experiment.reason, 160) + "]";
  if (experiment.status == Status::kKeep && !won.empty()) idea += " [won " + won + "]";
  return fmt::format(kLine, fmt::format("#{}", n), name_of(experiment.status),
                     or_dash("{:.6f}", mine.bpb), or_dash("{:+.6f}", mine.change),
                     or_dash("{:.1f} min", mine.minutes), "best " + or_dash("{:.6f}", mine.best),
                     idea);
}

std::string experiment_header() {
  return fmt::format(kLine, "#", "status", "val_bpb", "change", "time", "best so far", "idea");
}

std::string proposer_lines(const RunState& state) {
  const Counts total = count(state);
  std::string lines;
  if (total.all() > 0) lines += "proposed by: " + proposers_in_words(state) + "\n";
  if (state.spending.calls > 0)
    lines += "models: " + spending_line(state.spending, total.all(), total.kept) + "\n";
  return lines;
}

std::string time_line(const TimeSpent& spent) {
  if (spent.training <= 0 || spent.total <= 0) return "";
  std::vector<std::string> parts;
  for (const auto& [name, seconds] : parts_of(spent))
    if (const double share = 100 * seconds / spent.total; share >= 0.5)
      parts.push_back(fmt::format("{:.0f} % {}", share, name));
  return parts.empty() ? "" : fmt::format("time: {}", fmt::join(parts, ", "));
}

std::string proof_line(const RunState& state) {
  const Certainty certainty = certainty_of(state);
  if (certainty == Certainty::kNoGain) return "";
  if (certainty != Certainty::kNotYet)
    return fmt::format("{}: {}", name_of(certainty), found_by(*state.verified));
  std::string why = "the gain rests on the measurements that it was chosen by";
  if (state.verified)
    why = fmt::format("#{} was kept after the proof of commit {}, which found {}", state.champion_n,
                      History::short_id(state.verified->tip), found_by(*state.verified));
  return fmt::format("{}: {}; build/agent verify --tag {} measures it anew", name_of(certainty),
                     why, state.start->tag);
}

std::string changes_line(const RunState& state) {
  if (!state.verified) return "";
  std::vector<std::string> kinds;
  for (const std::string result : {"verified", "dropped", "unproven"}) {
    std::vector<std::string> names;
    for (const event::ProvenChange& change : state.verified->changes)
      if (change.result == result) names.push_back(fmt::format("#{}", change.n));
    if (names.empty()) continue;
    kinds.push_back(fmt::format("{} {}", names.size(), result));
    if (result != "unproven") kinds.back() += fmt::format(" ({})", fmt::join(names, " "));
  }
  return kinds.empty() ? "" : fmt::format("changes: {}", fmt::join(kinds, ", "));
}

std::string closing_lines(const RunState& state, const std::string& why, const RunFolder& run) {
  const Counts total = count(state);
  const double first = baseline_bpb(state), gain = state.best_bpb - first;
  std::string lines = "no baseline was measured\n";
  if (state.champion_n == 0)
    lines = fmt::format("val_bpb {:.6f}: the baseline is still the best", state.best_bpb);
  if (state.champion_n > 0)
    lines = fmt::format("val_bpb {:.6f} -> {:.6f} ({:+.6f}, {:.2f} %)", first, state.best_bpb, gain,
                        first > 0 ? 100 * gain / first : 0);
  if (state.champion_n >= 0)
    lines += fmt::format(" after {} experiments: {} kept, {} discarded, {} crashed\n", total.all(),
                         total.kept, total.discarded, total.crashed);
  if (state.champion_n > 0) {
    lines += "noise of one measurement: " + noise_in_words(noise_of(state.evidence)) + "\n";
    if (const std::string caution = steps_caution(state); !caution.empty()) lines += caution + "\n";
  }
  for (const std::string& line : {proof_line(state), changes_line(state), fits_validation(state)})
    if (!line.empty()) lines += line + "\n";
  if (!why.empty()) lines += "stopped: " + one_line(why, 300) + "\n";
  lines += proposer_lines(state);
  if (const std::string time = time_line(state.spent); !time.empty()) lines += time + "\n";
  if (const std::string slow = slow_operations(state); !slow.empty()) lines += slow + "\n";
  lines += "files: " + run.path.string() + " (results.tsv, report.html, experiments/, champion/)\n";
  if (state.champion_n > 0) {
    const bool trimmed = state.at(state.champion_n).candidate.commit != state.champion;
    lines += fmt::format("to put the best train.cpp (#{}{}) into the checkout, type there:\n  {}\n",
                         state.champion_n, trimmed ? " without what was dropped" : "",
                         restore_line(run, state));
  }
  return lines;
}

std::string quoted(const std::string& word) {
  const bool plain = word.find_first_not_of(
                         "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
                         "/._-+=:,@%") == std::string::npos;
  if (plain && !word.empty()) return word;
  std::string out = "'";
  for (const char c : word) out += c == '\'' ? "'\\''" : std::string(1, c);
  return out + "'";
}

std::string restore_line(const RunFolder& run, const RunState& state) {
  if (state.champion_n <= 0) return "";
  if (fs::exists(run.repository()))
    return "cp " + quoted(run.champion(state.champion).source().string()) + " .";
  return "git restore --source=" + state.champion.substr(0, 12) + " -- train.cpp";
}

std::string point_link(const fs::path& link, const fs::path& target) {
  std::error_code error;
  fs::file_status status = fs::symlink_status(link, error);
  if (fs::exists(status) && !fs::is_symlink(status)) {
    return link.string() + " is not a link and was left alone; this run's is " + target.string();
  }
  if (fs::is_symlink(status) && fs::read_symlink(link, error) == target) return "";
  fs::path temporary = link;
  temporary.replace_filename("." + link.filename().string() + ".tmp-" + std::to_string(getpid()));
  fs::remove(temporary, error);
  fs::create_symlink(target, temporary, error);
  if (!error) fs::rename(temporary, link, error);
  if (!error) return "";
  std::error_code ignored;
  fs::remove(temporary, ignored);
  return "no link " + link.string() + " could be made (" + error.message() + "); this run's is " +
         target.string();
}

}  // namespace autoresearch
