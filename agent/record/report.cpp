#include "agent/record/report.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <map>
#include <system_error>

#include "agent/record/history.h"
#include "agent/record/proof_lines.h"
#include "common/text.h"

namespace autoresearch {
namespace {

template <typename... Args>
std::string text(const char* format, Args... args) {
  char buffer[512];
  std::snprintf(buffer, sizeof buffer, format, args...);
  return buffer;
}

// What is derived for one experiment from those before it.
struct Figures {
  std::optional<double> bpb;     // of a keep or a discard
  std::optional<double> change;  // against the best before it
  std::optional<double> best;    // after it
  std::optional<double> minutes;
  double memory_gb = 0;
};

std::optional<double> seconds_between(const std::string& from, const std::string& to) {
  auto begin = seconds_of_utc(from), end = seconds_of_utc(to);
  if (!begin || !end) return std::nullopt;
  return std::max(0.0, *end - *begin);
}

// Training time where there was any: from candidate to verdict a night's power cut may lie between.
std::optional<double> minutes_of(const Experiment& experiment) {
  std::optional<double> seconds;
  if (experiment.measured) seconds = experiment.measured->wall_seconds;
  if (!seconds) seconds = seconds_between(experiment.start_utc, experiment.end_utc);
  if (!seconds) return std::nullopt;
  return *seconds / 60;
}

std::vector<Figures> figures_of(const RunState& state) {
  std::vector<Figures> all;
  std::optional<double> best;
  for (const Experiment& experiment : state.experiments) {
    Figures figures;
    figures.minutes = minutes_of(experiment);
    if (experiment.status != Status::kCrash && experiment.measured) {
      figures.bpb = experiment.measured->bpb;
      figures.memory_gb = experiment.measured->memory_gb;
    }
    if (figures.bpb && best) figures.change = *figures.bpb - *best;
    if (experiment.status == Status::kKeep) best = figures.bpb;
    figures.best = best;
    all.push_back(figures);
  }
  return all;
}

struct Counts {
  int kept = 0, discarded = 0, crashed = 0;
  int all() const { return kept + discarded + crashed; }
};

// By proposer, without the baseline, which nobody proposed.
std::map<std::string, Counts> count_by_proposer(const RunState& state) {
  std::map<std::string, Counts> by_proposer;
  for (const Experiment& experiment : state.experiments) {
    if (experiment.n == 0 || experiment.status == Status::kOpen) continue;
    Counts& counts =
        by_proposer[experiment.candidate.proposer.empty() ? "unknown"
                                                          : experiment.candidate.proposer];
    (experiment.status == Status::kKeep      ? counts.kept
     : experiment.status == Status::kDiscard ? counts.discarded
                                             : counts.crashed)++;
  }
  return by_proposer;
}

Counts count(const RunState& state) {
  Counts total;
  for (const auto& [proposer, counts] : count_by_proposer(state)) {
    total.kept += counts.kept;
    total.discarded += counts.discarded;
    total.crashed += counts.crashed;
  }
  return total;
}

std::string proposers_in_words(const RunState& state) {
  std::string words;
  for (const auto& [proposer, counts] : count_by_proposer(state)) {
    words += (words.empty() ? "" : ", ") + one_line(proposer, 100) +
             text(" %d (%d kept, %.0f %%", counts.all(), counts.kept,
                  100.0 * counts.kept / counts.all());
    const auto nothing = state.came_to_nothing.find(proposer);
    if (nothing != state.came_to_nothing.end())
      words += text("; %d came to nothing", nothing->second);
    words += ")";
  }
  return words;
}

double baseline_bpb(const RunState& state) {
  for (const Experiment& experiment : state.experiments) {
    if (experiment.status == Status::kKeep) return experiment.measured->bpb.value_or(0);
  }
  return 0;
}

std::string gain_in_percent(const RunState& state) {
  double first = baseline_bpb(state);
  return text("%.2f %%", first > 0 ? 100 * (state.best_bpb - first) / first : 0);
}

std::string line_of(const std::string& n, const std::string& status, const std::string& bpb,
                    const std::string& change, const std::string& time, const std::string& best,
                    const std::string& idea) {
  return text("%-4s %-7s  %8s  %9s  %9s  %-13s  ", n.c_str(), status.c_str(), bpb.c_str(),
              change.c_str(), time.c_str(), best.c_str()) +
         idea;
}

std::string or_dash(const char* format, std::optional<double> value) {
  return value ? text(format, *value) : "-";
}

}  // namespace

std::string results_tsv(const RunState& state) {
  std::string tsv = "commit\tval_bpb\tmemory_gb\tstatus\tdescription\n";
  std::vector<Figures> figures = figures_of(state);
  for (const Experiment& experiment : state.experiments) {
    if (experiment.status == Status::kOpen) continue;
    const Figures& mine = figures[experiment.n];
    std::string idea = one_line(experiment.candidate.idea, 1000);
    std::replace(idea.begin(), idea.end(), '"', '\'');
    tsv += History::short_id(experiment.candidate.commit) +
           text("\t%.6f\t%.1f\t", mine.bpb.value_or(0), mine.memory_gb) +
           name_of(experiment.status) + "\t" + idea + "\n";
  }
  return tsv;
}

std::string experiment_line(const RunState& state, int64_t n) {
  const Experiment& experiment = state.experiments.at(n);
  Figures mine = figures_of(state)[n];
  std::string idea = one_line(experiment.candidate.idea, 100);
  if (experiment.status == Status::kCrash) idea += " [" + one_line(experiment.reason, 160) + "]";
  return line_of("#" + std::to_string(n), name_of(experiment.status), or_dash("%.6f", mine.bpb),
                 or_dash("%+.6f", mine.change), or_dash("%.1f min", mine.minutes),
                 "best " + or_dash("%.6f", mine.best), idea);
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
  const std::pair<const char*, double> parts[] = {
      {"training", spent.training}, {"scoring", spent.scoring},
      {"start-up", spent.startup},  {"sealing", spent.sealing},
      {"building", spent.building}, {"waiting for an idea", spent.waiting()},
      {"paused", spent.paused}};
  std::string line;
  for (const auto& [name, seconds] : parts)
    if (const double share = 100 * seconds / spent.total; share >= 0.5)
      line += (line.empty() ? "time: " : ", ") + text("%.0f %% ", share) + name;
  return line;
}

std::string closing_lines(const RunState& state, const std::string& why, const fs::path& run_dir,
                          const std::string& restore_command) {
  Counts total = count(state);
  std::string lines;
  if (state.champion_n < 0) {
    lines = "no baseline was measured\n";
  } else if (state.champion_n == 0) {
    lines = text("val_bpb %.6f: the baseline is still the best", state.best_bpb);
  } else {
    lines = text("val_bpb %.6f -> %.6f (%+.6f, ", baseline_bpb(state), state.best_bpb,
                 state.best_bpb - baseline_bpb(state)) +
            gain_in_percent(state) + ")";
  }
  if (state.champion_n >= 0) {
    lines += text(" after %d experiments: %d kept, %d discarded, %d crashed\n", total.all(),
                  total.kept, total.discarded, total.crashed);
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
    lines +=
        text("to put the best train.cpp (#%lld%s) into the checkout:\n  ",
             static_cast<long long>(state.champion_n), trimmed ? " without what was dropped" : "") +
        restore_command + "\n";
  }
  return lines;
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

// ------------------------------------------------------------------------------------------------
// report.html
// ------------------------------------------------------------------------------------------------
namespace {

constexpr const char* kStyle = R"css(
:root { color-scheme: light dark; --ink: #1c2430; --soft: #667085; --line: #dfe3e8; --page: #ffffff;
  --card: #f6f7f9; --keep: #12805c; --discard: #8a94a3; --crash: #c4362b; --best: #2f6fde; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ee; --soft: #98a2b3; --line: #323945;
  --page: #12161c; --card: #1b212a; --keep: #3ecf96; --discard: #7d8794; --crash: #ff7468;
  --best: #6ea8ff; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 28px 24px 64px; max-width: 1080px; background: var(--page);
  color: var(--ink); font: 15px/1.5 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { font-size: 22px; margin: 0 0 2px; } h2 { font-size: 16px; margin: 34px 0 10px; }
.soft { color: var(--soft); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(190px, 1fr)); gap: 12px;
  margin: 18px 0 20px; }
.tile { background: var(--card); border-radius: 10px; padding: 12px 16px; }
.tile b { display: block; font-size: 21px; line-height: 1.35; font-variant-numeric: tabular-nums; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
th { text-align: left; font-weight: 600; color: var(--soft); white-space: nowrap; }
th, td { padding: 6px 10px; border-bottom: 1px solid var(--line); vertical-align: top; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td.idea { min-width: 260px; overflow-wrap: anywhere; }
td small { display: block; color: var(--soft); }
code { font: 13px ui-monospace, "DejaVu Sans Mono", monospace; }
.keep { color: var(--keep); font-weight: 600; } .discard { color: var(--soft); }
.crash { color: var(--crash); } .open { color: var(--best); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 4px 18px; margin: 0; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
svg { width: 100%; height: auto; display: block; font: 12px system-ui, "DejaVu Sans", sans-serif; }
svg text { fill: var(--soft); } svg .label { fill: var(--keep); font-weight: 600; text-anchor: middle; }
svg .grid { stroke: var(--line); } svg .best { fill: none; stroke: var(--best); stroke-width: 2; }
svg .p-keep { fill: var(--keep); stroke: var(--page); stroke-width: 1.5; }
svg .p-discard { fill: var(--page); stroke: var(--discard); stroke-width: 1.6; }
svg .p-crash { fill: none; stroke: var(--crash); stroke-width: 1.8; }
)css";

std::string escape(const std::string& bytes, size_t max_chars = 2000) {
  std::string out;
  for (char c : one_line(bytes, max_chars)) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

// A step of 1, 2 or 5 times a power of ten that cuts `span` into about `parts`.
double nice_step(double span, int parts) {
  double raw = span / parts, power = std::pow(10, std::floor(std::log10(raw)));
  for (double factor : {1.0, 2.0, 5.0}) {
    if (raw <= factor * power) return factor * power;
  }
  return 10 * power;
}

// From experiment and val_bpb to the picture. A few runs that went badly must not flatten the rest,
// so the axis ends a little above the baseline and the 90th percentile; what lies above sits on its
// edge.
struct Axes {
  static constexpr double kLeft = 70, kRight = 890, kTop = 26, kBottom = 306, kCrashRow = 330;
  double low = 0, high = 1, step = 1;
  int64_t last = 1;

  Axes(const RunState& state, const std::vector<Figures>& figures) {
    last = std::max<int64_t>(1, static_cast<int64_t>(state.experiments.size()) - 1);
    std::vector<double> values;
    for (const Figures& each : figures) {
      if (each.bpb && std::isfinite(*each.bpb)) values.push_back(*each.bpb);
    }
    if (values.empty()) return;
    std::sort(values.begin(), values.end());
    double top = std::max(baseline_bpb(state), values[values.size() * 9 / 10]);
    double span = std::max(top - values[0], 1e-4 * std::max(1.0, std::abs(top)));
    step = nice_step(1.16 * span, 5);
    low = std::floor((values[0] - 0.06 * span) / step) * step;
    high = std::ceil((top + 0.10 * span) / step) * step;
  }
  double x(double n) const { return kLeft + 12 + (kRight - kLeft - 24) * n / last; }
  double y(double bpb) const {
    return kBottom - (kBottom - kTop) * (std::min(bpb, high) - low) / (high - low);
  }
};

std::string grid_svg(const Axes& axes) {
  std::string svg;
  int digits = std::clamp(static_cast<int>(std::ceil(-std::log10(axes.step))), 0, 6);
  int lines = static_cast<int>(std::lround((axes.high - axes.low) / axes.step));
  for (int i = 0; i <= lines; ++i) {
    double value = axes.low + i * axes.step, y = axes.y(value);
    svg += text("<line class=\"grid\" x1=\"%.0f\" x2=\"%.0f\" y1=\"%.1f\" y2=\"%.1f\"/>",
                Axes::kLeft, Axes::kRight, y, y);
    svg += text("<text x=\"%.0f\" y=\"%.1f\" text-anchor=\"end\">%.*f</text>\n", Axes::kLeft - 8,
                y + 4, digits, value);
  }
  int64_t step = std::max<int64_t>(1, std::llround(nice_step(static_cast<double>(axes.last), 10)));
  for (int64_t n = 0; n <= axes.last; n += step) {
    svg += text("<text x=\"%.1f\" y=\"352\" text-anchor=\"middle\">%lld</text>\n", axes.x(n),
                static_cast<long long>(n));
  }
  svg += text(
      "<text x=\"%.0f\" y=\"374\" text-anchor=\"middle\">experiment</text>"
      "<text x=\"%.0f\" y=\"14\">val_bpb (lower is better)</text>\n",
      (Axes::kLeft + Axes::kRight) / 2, 8.0);
  return svg;
}

std::string best_svg(const Axes& axes, const std::vector<Figures>& figures) {
  std::string path;
  std::optional<double> before;
  for (size_t n = 0; n < figures.size(); ++n) {
    std::optional<double> best = figures[n].best;
    if (best && !before) path += text("M%.1f %.1f", axes.x(n), axes.y(*best));
    if (best && before && *best != *before) path += text("H%.1fV%.1f", axes.x(n), axes.y(*best));
    if (best) before = best;
  }
  if (before) path += text("H%.1f", axes.x(axes.last));
  return "<path class=\"best\" d=\"" + path + "\"/>\n";
}

std::string point_svg(const Axes& axes, const Experiment& experiment, const Figures& mine) {
  std::string title = "<title>#" + std::to_string(experiment.n) + " " + name_of(experiment.status) +
                      " " + or_dash("%.6f", mine.bpb) + " " +
                      escape(experiment.candidate.idea, 200) + "</title>";
  double x = axes.x(experiment.n);
  if (!mine.bpb) {
    return text("<path class=\"p-crash\" d=\"M%.1f %.1fl7 7m0-7l-7 7\">", x - 3.5,
                Axes::kCrashRow - 3.5) +
           title + "</path>\n";
  }
  double y = axes.y(*mine.bpb);
  const char* status = experiment.status == Status::kKeep ? "keep" : "discard";
  if (*mine.bpb > axes.high) {
    return text("<path class=\"p-%s\" d=\"M%.1f %.1fl5 8h-10z\">", status, x, y - 4) + title +
           "</path>\n";
  }
  return text("<circle class=\"p-%s\" cx=\"%.1f\" cy=\"%.1f\" r=\"%s\">", status, x, y,
              experiment.status == Status::kKeep ? "5.5" : "3.8") +
         title + "</circle>\n";
}

std::string chart_svg(const RunState& state, const std::vector<Figures>& figures) {
  Axes axes(state, figures);
  std::string svg =
      "<svg viewBox=\"0 0 900 380\" role=\"img\" aria-label=\"val_bpb of every "
      "experiment\">\n" +
      grid_svg(axes) + best_svg(axes, figures);
  bool crashed = false;
  std::string above;  // kept points and their numbers lie over the rest
  double labelled = -100;
  for (const Experiment& experiment : state.experiments) {
    if (experiment.status == Status::kOpen) continue;
    const Figures& mine = figures[experiment.n];
    crashed = crashed || !mine.bpb;
    bool kept = experiment.status == Status::kKeep;
    (kept ? above : svg) += point_svg(axes, experiment, mine);
    if (!kept || !mine.bpb) continue;
    double x = axes.x(experiment.n);
    if (x - labelled < 44) continue;
    above += text("<text class=\"label\" x=\"%.1f\" y=\"%.1f\">#%lld</text>\n", x,
                  axes.y(*mine.bpb) + 19,  // below: nothing lies below the best
                  static_cast<long long>(experiment.n));
    labelled = x;
  }
  if (crashed) {
    svg += text("<text x=\"%.0f\" y=\"%.0f\" text-anchor=\"end\">crash</text>\n", Axes::kLeft - 8,
                Axes::kCrashRow + 4);
  }
  return svg + above + "</svg>\n";
}

std::string legend_html() {
  return "<p class=\"soft\"><span class=\"keep\">&#9679;</span> kept &#160; <span>&#9675;</span> "
         "discarded &#160; <span>&#9651;</span> discarded, above the axis &#160; "
         "<span class=\"crash\">&#215;</span> crash &#160; <span class=\"open\">&#9473;</span> "
         "best "
         "so far</p>\n";
}

std::string row_html(const Experiment& experiment, const Figures& mine) {
  const std::string status = name_of(experiment.status);
  std::string html = text("<tr><td class=\"n\">%lld</td><td class=\"%s\">%s</td>",
                          static_cast<long long>(experiment.n), status.c_str(), status.c_str());
  for (const std::string& cell :
       {or_dash("%.6f", mine.bpb), or_dash("%+.6f", mine.change), or_dash("%.1f", mine.minutes),
        mine.bpb ? text("%.1f", mine.memory_gb) : std::string("-")}) {
    html += "<td class=\"n\">" + cell + "</td>";
  }
  html += "<td><code>" + escape(History::short_id(experiment.candidate.commit)) +
          "</code></td><td>" + escape(experiment.candidate.proposer, 100) +
          "</td><td class=\"idea\">" + escape(experiment.candidate.idea);
  if (!experiment.candidate.why.empty())
    html += "<small>" + escape(experiment.candidate.why) + "</small>";
  if (!experiment.reason.empty()) {
    html += "<small class=\"" + status + "\">" + escape(experiment.reason) + "</small>";
  }
  return html + "</td></tr>\n";
}

std::string table_html(const RunState& state, const std::vector<Figures>& figures, bool kept_only) {
  std::string html =
      "<div class=\"scroll\"><table><tr><th class=\"n\">#</th><th>status</th>"
      "<th class=\"n\">val_bpb</th><th class=\"n\">change</th>"
      "<th class=\"n\">min</th><th class=\"n\">GB</th><th>commit</th>"
      "<th>by</th><th>idea</th></tr>\n";
  for (const Experiment& experiment : state.experiments) {
    if (kept_only && experiment.status != Status::kKeep) continue;
    html += row_html(experiment, figures[experiment.n]);
  }
  return html + "</table></div>\n";
}

std::string readable(const std::string& utc) {
  return utc.size() < 16 ? utc : utc.substr(0, 10) + " " + utc.substr(11, 5) + " UTC";
}

std::string tile_html(const std::string& value, const std::string& name) {
  return "<div class=\"tile\"><b>" + value + "</b><span class=\"soft\">" + name + "</span></div>\n";
}

std::string tiles_html(const RunState& state) {
  Counts total = count(state);
  std::string best = state.champion_n < 0 ? "-" : text("%.6f", state.best_bpb);
  std::string html = "<div class=\"tiles\">\n" +
                     tile_html(best, text("best val_bpb, from %.6f", baseline_bpb(state)));
  html += tile_html(state.champion_n < 0 ? "-" : gain_in_percent(state), "change");
  html +=
      tile_html(std::to_string(total.all()), text("experiments: %d kept, %d discarded, %d crashed",
                                                  total.kept, total.discarded, total.crashed));
  double minutes = 0;
  for (const Experiment& experiment : state.experiments) {
    minutes += minutes_of(experiment).value_or(0);
  }
  html += tile_html(minutes < 120 ? text("%.0f min", minutes) : text("%.1f h", minutes / 60),
                    "of training, the baseline included");
  return html + "</div>\n";
}

std::string facts_html(const RunState& state) {
  std::string html = "<dl>\n";
  auto fact = [&](const std::string& name, const std::string& value) {
    html += "<dt>" + escape(name) + "</dt><dd>" + escape(value) + "</dd>\n";
  };
  if (state.champion_n >= 0) {
    fact("champion", "#" + std::to_string(state.champion_n) + ", commit " + state.champion);
  }
  fact("proposed by", proposers_in_words(state));
  if (const std::string slow = slow_operations(state); !slow.empty()) fact("slow operations", slow);
  if (state.spending.calls > 0)
    fact("models", spending_line(state.spending, count(state).all(), count(state).kept));
  if (const std::string time = time_line(state.spent); !time.empty())
    fact("time", time.substr(time.find(' ') + 1));
  if (const auto& start = state.start) {
    fact("started", readable(state.start_utc));
    fact("task", start->task_name + ", " + start->task);
    fact("kit", start->kit);
    fact("device", start->device);
    fact("machine", start->machine);
    fact("seed", std::to_string(start->seed));
  }
  for (const std::string& line : state.backlog()) fact("not tried yet", line);
  return html + "</dl>\n";
}

}  // namespace

std::string report_html(const RunState& state, const std::string& tag) {
  std::vector<Figures> figures = figures_of(state);
  std::string name = escape(tag, 200);
  std::string last = state.experiments.empty() ? "" : state.experiments.back().end_utc;
  if (last.empty() && !state.experiments.empty()) last = state.experiments.back().start_utc;
  return "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
         "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">"
         "<title>autoresearch " +
         name + "</title><style>" + kStyle +
         "</style></head><body>\n"
         "<h1>autoresearch: " +
         name + "</h1><div class=\"soft\">as of " +
         escape(last.empty() ? "the start" : readable(last)) + "</div>\n" + tiles_html(state) +
         chart_svg(state, figures) + legend_html() + "<h2>What was kept</h2>\n" +
         table_html(state, figures, /*kept_only=*/true) + "<h2>All experiments</h2>\n" +
         table_html(state, figures, /*kept_only=*/false) + "<h2>The run</h2>\n" +
         facts_html(state) + "</body></html>\n";
}

}  // namespace autoresearch
