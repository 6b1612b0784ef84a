#include "agent/record/report.h"

#include <unistd.h>

#include <algorithm>
#include <system_error>

#include "agent/record/figures.h"
#include "agent/record/history.h"
#include "agent/record/proof_lines.h"
#include "common/log.h"
#include "common/text.h"

namespace autoresearch {
namespace {

std::string gain_in_percent(const RunState& state) {
  double first = baseline_bpb(state);
  return format("%.2f %%", first > 0 ? 100 * (state.best_bpb - first) / first : 0);
}

std::string line_of(const std::string& n, const std::string& status, const std::string& bpb,
                    const std::string& change, const std::string& time, const std::string& best,
                    const std::string& idea) {
  return format("%-4s %-7s  %8s  %9s  %9s  %-13s  ", n.c_str(), status.c_str(), bpb.c_str(),
                change.c_str(), time.c_str(), best.c_str()) +
         idea;
}

// `digits` after the point, '+' before what is not negative if `sign`.
std::string or_dash(std::optional<double> value, int digits, bool sign = false) {
  return !value ? "-" : sign ? format("%+.*f", digits, *value) : format("%.*f", digits, *value);
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
    tsv += History::short_id(experiment.candidate.commit) +
           format("\t%.6f\t%.1f\t", mine.bpb.value_or(0), mine.memory_gb) +
           name_of(experiment.status) + "\t" + idea + "\n";
  }
  return tsv;
}

std::string experiment_line(const RunState& state, int64_t n) {
  const Experiment& experiment = state.experiments.at(n);
  Figures mine = figures_of(state)[n];
  std::string idea = one_line(idea_of(experiment), 110);
  if (experiment.status == Status::kCrash) idea += " [" + one_line(experiment.reason, 160) + "]";
  return line_of("#" + std::to_string(n), name_of(experiment.status), or_dash(mine.bpb, 6),
                 or_dash(mine.change, 6, true),
                 or_dash(mine.minutes, 1) + (mine.minutes ? " min" : ""),
                 "best " + or_dash(mine.best, 6), idea);
}

std::string experiment_header() {
  return line_of("#", "status", "val_bpb", "change", "time", "best so far", "idea");
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
  std::string line;
  for (const auto& [name, seconds] : parts_of(spent))
    if (const double share = 100 * seconds / spent.total; share >= 0.5)
      line += (line.empty() ? "time: " : ", ") + format("%.0f %% ", share) + name;
  return line;
}

std::string closing_lines(const RunState& state, const std::string& why, const fs::path& run_dir,
                          const std::string& restore_command) {
  Counts total = count(state);
  std::string lines;
  if (state.champion_n < 0) {
    lines = "no baseline was measured\n";
  } else if (state.champion_n == 0) {
    lines = format("val_bpb %.6f: the baseline is still the best", state.best_bpb);
  } else {
    lines = format("val_bpb %.6f -> %.6f (%+.6f, ", baseline_bpb(state), state.best_bpb,
                   state.best_bpb - baseline_bpb(state)) +
            gain_in_percent(state) + ")";
  }
  if (state.champion_n >= 0) {
    lines += format(" after %d experiments: %d kept, %d discarded, %d crashed\n", total.all(),
                    total.kept, total.discarded, total.crashed);
  }
  if (state.champion_n > 0) {
    lines += "noise of one measurement: " + noise_in_words(noise_of(state.evidence)) + "\n";
    if (const std::string caution = steps_caution(state); !caution.empty()) lines += caution + "\n";
  }
  for (const std::string& line : {proof_line(state), changes_line(state), fits_validation(state)})
    if (!line.empty()) lines += line + "\n";
  lines += "stopped: " + one_line(why, 300) + "\n";
  lines += proposer_lines(state);
  if (const std::string time = time_line(state.spent); !time.empty()) lines += time + "\n";
  if (const std::string slow = slow_operations(state); !slow.empty()) lines += slow + "\n";
  lines += "files: " + run_dir.string() + " (results.tsv, report.html, experiments/, champion/)\n";
  if (state.champion_n > 0) {
    const bool trimmed = state.at(state.champion_n).candidate.commit != state.champion;
    lines += format("to put the best train.cpp (#%lld%s) into the checkout:\n  ",
                    static_cast<long long>(state.champion_n),
                    trimmed ? " without what was dropped" : "") +
             restore_command + "\n";
  }
  return lines;
}

std::string quoted(const std::string& word) {
  std::string out = "'";
  for (const char c : word) out += c == '\'' ? "'\\''" : std::string(1, c);
  return out + "'";
}

std::string restore_line(const RunFolder& run, const RunState& state) {
  if (state.champion_n <= 0) return "";
  if (fs::exists(run.git() / "repository.git"))
    return "cp " + quoted((run.champion(state.champion) / "train.cpp").string()) + " .";
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
