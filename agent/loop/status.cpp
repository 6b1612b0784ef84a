#include "agent/loop/status.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <regex>

#include "agent/lab/measurement.h"
#include "agent/lab/proof.h"
#include "agent/loop/housekeeping.h"
#include "agent/loop/place.h"
#include "agent/loop/proving.h"
#include "agent/record/figures.h"
#include "agent/record/journal.h"
#include "agent/record/page_detail.h"
#include "agent/record/report.h"
#include "common/progress.h"
#include "common/text.h"

namespace autoresearch {
namespace {

constexpr size_t kRows = 10;
constexpr size_t kWide = 80;  // columns that a table with all figures wants

std::string number(int64_t n) { return "#" + std::to_string(n); }

// ------------------------------------------------------------------------------------------------
// What is under way

std::optional<double> loss_at(const Curve& curve, int64_t step) {
  std::optional<double> loss;
  for (const CurvePoint& point : curve.points)
    if (point.step <= static_cast<double>(step)) loss = point.loss;
  return loss;
}

// `mine`: where the attempt that is open has its files.
void look_at_training(const RunFolder& folder, const RunState& state, const ExperimentFolder& mine,
                      Doing& doing) {
  // The trainer's folder is there until it has ended; then its model is scored.
  doing.phase = fs::exists(mine.attempt()) ? "training" : "scoring";
  if (doing.phase == "training")
    if (const auto budget = budget_in(state)) {
      const Measured& first = *state.experiments[0].measured;
      const double all = *budget + std::max(0.0, first.overhead_seconds);
      doing.left = std::max(0.0, all - doing.seconds);
    }
  const auto progress = progress_in(trainer_log(mine));
  if (!progress) return;
  doing.step = progress->first;
  doing.loss = progress->second;
  if (state.champion_n >= 0 && state.champion_n != doing.n)
    doing.champions_loss =
        loss_at(curve_of(trainer_record(folder.experiment(state.champion_n))), *doing.step);
}

// Since when, and who is asked: the state does not keep what only a reader wants.
struct Latest {
  double run_started = 0, call_opened = 0;
  std::string provider;
};

Latest latest_of(const std::vector<Entry>& entries, const RunState& state) {
  Latest latest;
  for (const Entry& entry : entries) {
    const double at = seconds_of_utc(entry.time).value_or(0);
    // What was open when a program began had ended before.
    if (std::holds_alternative<event::Start>(entry.event)) latest.run_started = 0;
    if (std::holds_alternative<event::RunStarted>(entry.event) ||
        std::holds_alternative<event::ProofStarted>(entry.event))
      latest.run_started = at;
    if (const auto* call = std::get_if<CallOpened>(&entry.event))
      if (state.spending.open.contains(call->id)) {
        latest.call_opened = at;
        latest.provider = call->provider;
      }
  }
  return latest;
}

// Where something can be built and measured now.
struct Place {
  int64_t n;  // the experiment; -1: an arm of a proof
  std::string what;
  ExperimentFolder folder;
  bool open;  // its attempt has begun and has not ended, as far as is on record
};

std::vector<Place> places_of(const RunFolder& folder, const RunState& state) {
  std::vector<Place> places;
  if (const auto& proof = state.proof) {
    const auto count = static_cast<int64_t>(proof->plan.arms.size());
    for (int64_t arm = 0; arm < count; ++arm) {
      const bool is_now = proof->open && arm == proof->arm;
      const std::string block =
          is_now ? fmt::format("proof {} of {}, ", proof->block + 1, proof->plan.blocks.size())
                 : "proof, ";
      places.push_back({-1, block + name_of_arm(proof->plan, arm), folder.proof(arm), is_now});
    }
    return places;  // from its first measurement to its end nothing else is measured
  }
  for (const Experiment& e : state.experiments)
    if (e.status == Status::kOpen)
      places.push_back({e.n, number(e.n), folder.experiment(e.n), e.open});
    else if (e.n == state.champion_n)
      places.push_back({e.n, number(e.n) + " again", folder.again(), e.open});
  const int64_t next = state.next_n();
  places.push_back({next, number(next), folder.experiment(next), false});
  return places;
}

// What is kept is scored on the test split at once. No file and no event tells that it began.
bool scores_on_test(const RunState& state) {
  const auto due = [&](const std::string& commit) {
    return !commit.empty() && !state.tested.contains(commit);
  };
  return due(state.champion) ||
         std::any_of(state.experiments.begin(), state.experiments.end(), [&](const Experiment& e) {
           return e.status == Status::kKeep && due(e.candidate.commit);
         });
}

std::string idle_phase(const RunFolder& folder, const RunState& state, const Doing& doing,
                       double now) {
  if (fs::exists(folder.canary().path)) return "trying if the machine is whole";
  if (!state.paused.empty()) return "paused";
  if (state.troubles_in_row > 0 && now >= state.last_trouble_at &&
      now < state.last_trouble_at + trouble_pause(state.troubles_in_row))
    return "resting after an error: " + one_line(state.last_trouble, 200);
  if (state.proof) return "between two measurements of the proof";
  if (scores_on_test(state)) return "scoring on the test split";
  if (!doing.asking.empty()) return "waiting for an idea";
  return state.experiments.empty() ? "starting" : "between two measurements";
}

Doing doing_of(const RunFolder& folder, const RunState& state, const Latest& latest, double now) {
  Doing doing;
  doing.asking = latest.provider;
  doing.asking_seconds = latest.call_opened > 0 ? std::max(0.0, now - latest.call_opened) : 0;
  const auto places = places_of(folder, state);
  // A repeat that failed may stay open, so the last one is it.
  const auto open =
      std::find_if(places.rbegin(), places.rend(), [](const Place& place) { return place.open; });
  if (open != places.rend() && latest.run_started > 0) {
    doing.n = open->n;
    doing.what = open->what;
    doing.seconds = std::max(0.0, now - latest.run_started);
    look_at_training(folder, state, open->folder, doing);
    return doing;
  }
  for (const Place& place : places)
    if (fs::exists(place.folder.build())) {
      doing.n = place.n;
      doing.what = place.what;
      doing.phase = "building";
      return doing;
    }
  doing.phase = idle_phase(folder, state, doing, now);
  return doing;
}

// By the limit of the program that runs it; nothing if it has none or nobody runs it.
std::optional<int64_t> experiments_left(const RunStatus& status) {
  const RunState& state = status.state;
  if (status.holder.empty() || !state.start || state.start->max_experiments == 0)
    return std::nullopt;
  return std::max<int64_t>(0, state.start->max_experiments - count(state).all());
}

// When time or number of experiments will be used up, in seconds since 1970; nothing in a pause.
// What an unfinished proof takes is not known.
std::optional<double> end_of(const RunStatus& status) {
  const RunState& state = status.state;
  if (status.holder.empty() || !state.start || !state.paused.empty()) return std::nullopt;
  std::optional<double> end;
  if (state.start->deadline > 0) end = state.start->deadline;
  const auto left = experiments_left(status);
  const double pace = pace_of(state);
  if (left && pace > 0 && !state.proof) {
    const double by_number = status.now + static_cast<double>(*left) * pace;
    end = std::min(end.value_or(by_number), by_number);
  }
  return end;
}

// ------------------------------------------------------------------------------------------------
// In words

bool is_wide(char32_t c) {
  constexpr std::array<std::pair<char32_t, char32_t>, 9> kRanges = {{{0x1100, 0x115F},
                                                                     {0x2E80, 0xA4CF},
                                                                     {0xAC00, 0xD7A3},
                                                                     {0xF900, 0xFAFF},
                                                                     {0xFE30, 0xFE6F},
                                                                     {0xFF00, 0xFF60},
                                                                     {0xFFE0, 0xFFE6},
                                                                     {0x1F300, 0x1FAFF},
                                                                     {0x20000, 0x3FFFD}}};
  return std::any_of(kRanges.begin(), kRanges.end(),
                     [&](const auto& range) { return c >= range.first && c <= range.second; });
}

std::string doing_in_words(const RunStatus& status) {
  const Doing& doing = status.doing;
  const std::string condition = condition_of(status);
  if (condition == "ended") return "ended: " + one_line(status.state.stopped, 300);
  if (condition == "killed")
    return "nobody runs it, and no end is on record; the command that began it goes on with it";
  std::string words = doing.what + (doing.what.empty() ? "" : " ") + doing.phase;
  if (condition == "paused") words += ": " + one_line(status.state.paused, 200);
  if (doing.seconds > 0) words += " for " + human_seconds(doing.seconds);
  if (doing.left) words += ", about " + human_seconds(*doing.left) + " left";
  if (doing.step) words += fmt::format(", step {}", *doing.step);
  if (doing.loss) words += fmt::format(", loss {:.4f}", *doing.loss);
  if (doing.champions_loss)
    words += fmt::format(" (the champion's was {:.4f})", *doing.champions_loss);
  return words;
}

std::string best_in_words(const RunState& state) {
  if (state.champion_n < 0) return "no baseline was measured yet";
  if (state.champion_n == 0) return fmt::format("{:.6f}, the baseline", state.best_bpb);
  const double before = baseline_bpb(state), gain = state.best_bpb - before;
  return fmt::format("{:.6f} (#{}), {:+.6f} ({:+.2f} %) from {:.6f}; {}", state.best_bpb,
                     state.champion_n, gain, 100 * gain / before, before, proof_line(state));
}

// The noise, and how large the gain is beside it.
std::string noise_beside_gain(const RunState& state) {
  const Noise noise = noise_of(state.evidence);
  std::string words = noise_in_words(noise);
  if (state.champion_n > 0 && noise.sigma > 0)
    words += fmt::format("; the gain is {:.1f} times that",
                         std::abs(state.best_bpb - baseline_bpb(state)) / noise.sigma);
  return words;
}

std::string done_in_words(const RunState& state) {
  const Counts counts = count(state);
  std::string words = fmt::format("{} experiments: {} kept, {} discarded, {} crashed", counts.all(),
                                  counts.kept, counts.discarded, counts.crashed);
  if (const double pace = pace_of(state); pace > 0)
    words += fmt::format(", {} each, about {:.0f} an hour", human_seconds(pace),
                         std::floor(3600 / pace));
  return words;
}

// When the run will stop by itself, if it is at work.
std::string end_in_words(const RunStatus& status) {
  const RunState& state = status.state;
  if (!state.paused.empty()) return "not while it is paused";
  const auto left = experiments_left(status);
  const auto end = end_of(status);
  if (state.proof || (state.start && state.start->only_proof))
    return "with the proof" + (end ? local_time(*end, ", at %a %H:%M at the latest") : "");
  if (!left && !end) return "when you stop it";
  if (left == 0 || (end && *end <= status.now))
    return "as soon as what is under way is done, perhaps after a proof";
  const bool by_time = !left || (state.start->deadline > 0 && end == state.start->deadline);
  if (by_time) return "at " + local_time(*end, "%a %H:%M");
  return fmt::format("after {} more experiment{}{}, then perhaps a proof", *left,
                     *left == 1 ? "" : "s", end ? local_time(*end, ", at about %a %H:%M") : "");
}

// Candidates that wait for the slot.
std::string next_in_words(const RunStatus& status) {
  std::string words;
  for (const int64_t n : status.state.open)
    if (n != status.doing.n)
      words += (words.empty() ? "" : "; ") + number(n) + " " +
               one_line(status.state.at(n).candidate.idea, 100);
  return words;
}

struct Colours {
  bool wanted;
  std::string of(Status status, const std::string& text) const {
    const char* code = status == Status::kKeep    ? "\x1b[32m"
                       : status == Status::kCrash ? "\x1b[31m"
                       : status == Status::kOpen  ? "\x1b[36m"
                                                  : "";
    return wanted && *code ? code + text + "\x1b[0m" : text;
  }
};

// One experiment in the terminal's width: figures first, and of the idea what fits.
std::string row_of(const Experiment& e, const Figures& figures, size_t columns, Colours colours) {
  const std::string bpb = figures.bpb ? fmt::format("{:.6f}", *figures.bpb) : "-";
  const std::string change = figures.change ? fmt::format("{:+.6f}", *figures.change) : "-";
  const int64_t steps = e.measured ? e.measured->steps : 0;
  std::string row = fmt::format("{:<5} ", number(e.n));
  row += colours.of(e.status, fmt::format("{:<7}", name_of(e.status)));
  std::string figures_text = fmt::format(" {:>9} {:>10} ", bpb, change);
  if (columns >= kWide)
    figures_text +=
        fmt::format("{:>7} {:>9} ", steps > 0 ? std::to_string(steps) : "-",
                    figures.minutes ? fmt::format("{:.1f} min", *figures.minutes) : "-");
  std::string idea = idea_of(e);
  if (e.status == Status::kCrash) idea += " [" + e.reason + "]";
  const size_t used = 13 + figures_text.size() + 1;
  const size_t room = columns > used ? columns - used : 0;
  // Too narrow for both: the idea has a line of its own.
  if (room < 20)
    return row + figures_text.substr(0, figures_text.size() - 1) + "\n  " +
           first_columns(one_line(idea, 300), columns - 3) + "\n";
  return row + figures_text + " " + first_columns(one_line(idea, 300), room) + "\n";
}

size_t first_row(const RunState& state) {
  return state.experiments.size() - std::min(kRows, state.experiments.size());
}

std::string rows_of(const RunState& state, size_t columns, Colours colours) {
  std::string rows = fmt::format("{:<5} {:<7} {:>9} {:>10} ", "#", "status", "val_bpb", "change") +
                     (columns >= kWide ? fmt::format("{:>7} {:>9} ", "steps", "time") : "") +
                     " idea\n";
  const std::vector<Figures> figures = figures_of(state);
  for (size_t i = first_row(state); i < state.experiments.size(); ++i)
    rows += row_of(state.experiments[i], figures[i], columns, colours);
  return rows;
}

// "name      words", words wrapped at blanks and indented.
std::string fact(const std::string& name, const std::string& words, size_t columns) {
  constexpr size_t kIndent = 10;
  const size_t room = std::max<size_t>(columns, kIndent + 20) - kIndent;
  std::string text = fmt::format("{:<10}", name), rest = words;
  while (true) {
    std::string line = first_columns(rest, room);
    const size_t blank = line.rfind(' ');
    if (line.size() < rest.size() && blank != std::string::npos && blank > 0) line.resize(blank);
    text += line + "\n";
    rest.erase(0, line.size());
    rest.erase(0, rest.find_first_not_of(' '));
    if (rest.empty()) return text;
    text += std::string(kIndent, ' ');
  }
}

nlohmann::json last_json(const RunState& state) {
  using nlohmann::json;
  json last = json::array();
  const std::vector<Figures> figures = figures_of(state);
  const auto figure = [](std::optional<double> value) { return value ? json(*value) : json(); };
  for (size_t i = first_row(state); i < state.experiments.size(); ++i) {
    const Experiment& e = state.experiments[i];
    last.push_back({{"n", e.n},
                    {"status", name_of(e.status)},
                    {"val_bpb", figure(figures[i].bpb)},
                    {"change", figure(figures[i].change)},
                    {"steps", e.measured ? e.measured->steps : 0},
                    {"idea", one_line(e.candidate.idea, 1000)},
                    {"reason", one_line(e.reason, 1000)}});
  }
  return last;
}

}  // namespace

std::optional<std::pair<int64_t, double>> progress_in(const std::string& log) {
  static const std::regex progress(R"(step (\d{1,15})  .{0,40}loss (\d{1,9}(\.\d{1,9})?))");
  const std::vector<std::string> lines = split_lines(log);
  for (auto line = lines.rbegin(); line != lines.rend(); ++line) {
    std::smatch found;
    if (line->size() < 200 && std::regex_search(*line, found, progress))
      return std::pair(std::stoll(found[1]), std::stod(found[2]));
  }
  return std::nullopt;
}

std::string first_columns(const std::string& text, size_t columns) {
  size_t taken = 0, bytes = 0;
  while (bytes < text.size()) {
    const Character c = first_character(std::string_view(text).substr(bytes));
    taken += is_wide(c.code) ? 2 : 1;
    if (taken > columns) break;
    bytes += c.bytes;
  }
  return text.substr(0, bytes);
}

RunStatus status_of(const RunFolder& folder, double now) {
  const std::vector<Entry> entries = read_journal(folder.journal());
  RunStatus status{
      .folder = folder, .state = replay(entries), .holder = {}, .doing = {}, .now = now};
  status.holder = holder_of(folder.lock()).value_or("");
  status.user_pauses = is_paused(folder.path);
  if (!status.holder.empty())
    status.doing = doing_of(folder, status.state, latest_of(entries, status.state), now);
  return status;
}

std::string condition_of(const RunStatus& status) {
  if (!status.holder.empty()) return status.state.paused.empty() ? "running" : "paused";
  return status.state.stopped.empty() ? "killed" : "ended";
}

std::string status_text(const RunStatus& status, size_t columns, bool colours) {
  const RunState& state = status.state;
  const std::string task = state.start ? one_line(state.start->task_name, 100) : "";
  std::string text =
      first_columns("run " + status.folder.path.filename().string() + ", task " + task + ", " +
                        condition_of(status) +
                        (status.holder.empty() ? "" : " (" + trim(status.holder) + ")") +
                        local_time(status.now, ", %Y-%m-%d %H:%M:%S"),
                    columns) +
      "\n";
  const auto add = [&](const char* name, const std::string& words) {
    if (!words.empty()) text += fact(name, words, columns);
  };
  if (state.start) add("from", one_line(state.start->from, 200));
  add("now", doing_in_words(status));
  if (!status.holder.empty() && !status.doing.asking.empty())
    add("model", "asking " + one_line(status.doing.asking, 100) + " for " +
                     human_seconds(status.doing.asking_seconds));
  if (status.user_pauses)
    add("", "agent pause asks for a pause; to go on: build/agent resume --tag " +
                status.folder.path.filename().string());
  add("next", next_in_words(status));
  add("best", best_in_words(state));
  add("noise", noise_beside_gain(state));
  add("test", test_line(state));
  add("caution", steps_caution(state));
  add("done", done_in_words(state));
  if (!status.holder.empty()) add("ends", end_in_words(status));
  const Counts counts = count(state);
  add("by", proposers_in_words(state));
  if (state.spending.calls > 0)
    add("models", spending_line(state.spending, counts.all(), counts.kept));
  if (const std::string time = time_line(state.spent); !time.empty())
    add("time", time.substr(time.find(' ') + 1));
  // What is copied is not wrapped.
  if (const std::string command = restore_line(status.folder, state); !command.empty())
    text += fmt::format("{:<10}{}\n", "restore", command);
  text += fmt::format("{:<10}{}\n", "report", status.folder.report().string());
  return text + "\n" + rows_of(state, columns, {colours});
}

nlohmann::json status_json(const RunStatus& status) {
  using nlohmann::json;
  const RunState& state = status.state;
  const Doing& doing = status.doing;
  const Counts counts = count(state);
  const Noise noise = noise_of(state.evidence);
  json object = {{"tag", status.folder.path.filename().string()},
                 {"task", state.start ? state.start->task_name : ""},
                 {"state", condition_of(status)},
                 {"process", trim(status.holder)},
                 {"folder", status.folder.path.string()},
                 {"time", status.now},
                 {"phase", doing.phase},
                 {"what", doing.what},
                 {"phase_seconds", doing.seconds},
                 {"asking", doing.asking},
                 {"paused", one_line(state.paused, 1000)},
                 {"stopped", one_line(state.stopped, 1000)},
                 {"kept", counts.kept},
                 {"discarded", counts.discarded},
                 {"crashed", counts.crashed},
                 {"noise", {{"sigma", noise.sigma}, {"repeats", noise.freedom}}},
                 {"verified", certainty_of(state) == Certainty::kVerified},
                 {"certainty", name_of(certainty_of(state))},
                 {"seconds_each", pace_of(state)},
                 {"usd", state.spending.usd},
                 {"calls", state.spending.calls},
                 {"tokens_in", state.spending.tokens_in},
                 {"tokens_out", state.spending.tokens_out},
                 {"restore", restore_line(status.folder, state)},
                 {"last", last_json(state)}};
  // What is not known is null.
  const auto set = [&](const char* key, const auto& value) {
    object[key] = value ? json(*value) : json();
  };
  object["experiment"] = doing.n < 0 ? json() : json(doing.n);
  set("seconds_left", doing.left);
  set("step", doing.step);
  set("loss", doing.loss);
  set("champions_loss", doing.champions_loss);
  set("experiments_left", experiments_left(status));
  set("ends_at", end_of(status));
  set("test", tested_bpb(state, state.champion));
  if (state.champion_n >= 0)
    object.update({{"champion", state.champion_n},
                   {"commit", state.champion},
                   {"best", state.best_bpb},
                   {"baseline", baseline_bpb(state)}});
  return object;
}

}  // namespace autoresearch
