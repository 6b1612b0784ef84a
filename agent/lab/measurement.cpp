#include "agent/lab/measurement.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <limits>
#include <optional>

#include "agent/lab/machine_watch.h"
#include "common/budget.h"
#include "common/folder.h"
#include "common/json.h"
#include "common/progress.h"
#include "common/text.h"

namespace autoresearch {
namespace {

constexpr double kDeadlineGrace = 10;   // seconds after which a late trainer is killed
constexpr double kFirstRunGrace = 600;  // the baseline's, whose overhead is not known yet
constexpr double kMinScoreLimit = 120;  // seconds a scorer always gets
// How much more than the baseline a candidate's sealed file, and the scorer on it, may take.
constexpr int64_t kScoreFactor = 4;
constexpr int64_t kMinSealedBytes = int64_t{64} << 20;  // that a sealed file may take in any case
constexpr int64_t kFullProbeRss = 3;  // five runners at most, instead of the light probe's two
constexpr int64_t kMinScoreRss = int64_t{4} << 30;
constexpr int64_t kMaxRecordBytes = int64_t{4} << 20;  // of train.json
constexpr size_t kMaxWords = 300;  // characters of what a candidate or the scorer says
constexpr size_t kMaxWord = 60;    // characters of a word in a candidate's record

// A figure out of the trainer's own record, whatever it may have put there.
double figure(const nlohmann::json& record, const char* key) {
  return record.contains(key) && record[key].is_number() ? record[key].get<double>() : 0;
}

// No sentence fits into a word.
bool is_word(const std::string& text) {
  return !text.empty() && text.size() <= kMaxWord &&
         std::all_of(text.begin(), text.end(), [](char c) {
           return std::isalnum(static_cast<unsigned char>(c)) || c == '.' || c == '_' || c == '-';
         });
}

// The last line of `output` that begins so; empty if there is none.
std::string last_line_with(const std::string& output, const char* start) {
  const std::vector<std::string> lines = split_lines(output);
  const auto found = std::find_if(lines.rbegin(), lines.rend(),
                                  [&](const std::string& line) { return line.starts_with(start); });
  return found == lines.rend() ? "" : *found;
}

Exit train(const Kit& kit, const Slot& slot, const Baseline& baseline,
           const ExperimentFolder& folder, std::function<void(pid_t, uint64_t)> before_exec,
           const std::string& title, MachineState& machine) {
  std::vector<std::string> args = {"--task",    slot.task.string(),
                                   "--device",  slot.device,
                                   "--threads", std::to_string(slot.threads),
                                   "--seed",    std::to_string(slot.seed),
                                   "--seal",    folder.sealed().filename().string(),
                                   "--json",    folder.record().filename().string()};
  if (slot.steps > 0) args.insert(args.end(), {"--steps", std::to_string(slot.steps)});
  Command command = kit.train(folder, slot.task, args, slot.sandboxed, slot.gpu);
  command.limit = baseline.overhead_seconds > 0
                      ? allowance_of(slot.budget, baseline).wall_limit() + kDeadlineGrace
                      : slot.budget + kFirstRunGrace;
  command.max_rss_bytes = slot.memory_bytes;
  command.env.push_back(kMaxSealedVariable + ("=" + std::to_string(most_sealed_bytes(baseline))));
  MachineWatch watch(slot.gpu ? slot.device : "");
  command.before_exec = [&](pid_t pid, uint64_t start_time) {
    watch.begin(pid);
    if (before_exec) before_exec(pid, start_time);
  };
  Progress bar(title + " training", slot.budget, "s");
  command.tick = [&](double seconds) {
    watch.tick();
    bar.update(std::min(seconds, slot.budget));
  };
  command.heard = [&](char) { watch.next_phase(); };
  Exit exit = run(command);
  machine = watch.end(exit);
  return exit;
}

Exit score(const Kit& kit, const Slot& slot, const Baseline& baseline, const fs::path& sealed,
           const std::string& split, const std::string& title) {
  std::vector<std::string> args = {"--task", slot.task.string(), "--device", slot.device, "--json",
                                   "-",      "--split",          split};
  // The baseline is the user's own code, and no gain: the light probe will do.
  const bool first = baseline.overhead_seconds <= 0;
  if (slot.best_bpb)
    args.insert(args.end(), {"--full-below", fmt::to_string(*slot.best_bpb)});  // all digits
  else if (!first)
    args.insert(args.end(), {"--probe", "full"});
  Command command = kit.score(sealed, args, slot.sandboxed);
  command.limit =
      first ? kFirstRunGrace : std::max(kMinScoreLimit, kScoreFactor * baseline.full_score_seconds);
  command.max_rss_bytes =
      first ? slot.memory_bytes
            : std::min(slot.memory_bytes, std::max(kMinScoreRss, kScoreFactor * kFullProbeRss *
                                                                     baseline.score_rss_bytes));
  Progress bar(title + " scoring", baseline.score_seconds, "s");
  command.tick = [&](double seconds) { bar.update(seconds); };
  return run(command);
}

// The scorer's figures alone, by name: whatever else it says is not for the journal.
std::map<std::string, double> figures_of(const nlohmann::json& said) {
  constexpr size_t kMost = 40;
  std::map<std::string, double> figures;
  for (const auto& [name, value] : said.items())
    if (value.is_number() && figures.size() < kMost)
      figures[one_line(name, kMaxWord)] = value.get<double>();
  return figures;
}

std::string problem_of(const Exit& exit) {
  if (exit.timed_out) return "scoring took far longer than the baseline's";
  if (exit.over_memory) return "scoring took far more memory than the baseline's";
  const std::string words = one_line(last_line_with(exit.output, "score: error: "), kMaxWords);
  return words.empty() ? fmt::format("the scorer ended with code {}", exit.code) : words;
}

// Fills in what the scorer said over its pipe, and keeps it beside the record of the training.
void read_score(const Exit& exit, const ExperimentFolder& folder, Measured& measured) {
  measured.score_seconds = exit.seconds;
  measured.score_rss_bytes = exit.peak_rss_bytes;
  const auto said = parse_untrusted(last_line_with(exit.output, "{"));
  if (exit.code == 0 && said.is_object() && said.contains("val_bpb")) {
    if (!said["val_bpb"].is_number()) {
      measured.score_problem = "val_bpb is not a finite number";
      return;
    }
    measured.bpb = said["val_bpb"].get<double>();
    measured.score = figures_of(said);
    write_file(folder.score(), nlohmann::json(measured.score).dump(1) + "\n");
    return;
  }
  measured.score_problem = problem_of(exit);
}

// The device's peak on a GPU, as the trainer's record states it (for the user only: nothing is
// decided by it); the child's resident memory on a CPU.
double memory_gb(const Slot& slot, const nlohmann::json& record, const Exit& exit) {
  const double reported = figure(record, "peak_memory_bytes");
  return (slot.gpu && reported > 0 ? reported : static_cast<double>(exit.peak_rss_bytes)) / 1e9;
}

// What the parent saw of the training, and for the user what the trainer says of itself.
Measured seen_of(const Slot& slot, const ExperimentFolder& folder, const Exit& trained) {
  const nlohmann::json record = trainer_record(folder);
  Measured measured;
  measured.seed = static_cast<uint64_t>(slot.seed);
  measured.train_exit = trained.code;
  measured.timed_out = trained.timed_out;
  measured.over_memory = trained.over_memory;
  measured.over = trained.over;
  measured.wall_seconds = trained.seconds;
  measured.overhead_seconds = trained.seconds - slot.budget;
  measured.phases = phases_of(trained.told, trained.seconds);
  measured.memory_gb = memory_gb(slot, record, trained);
  measured.steps = static_cast<int64_t>(figure(record, "steps"));
  measured.tokens_per_second = figure(record, "tokens_per_second");
  measured.broken = broken_machine(trained.code, trainer_log(folder));
  measured.last_words = one_line(last_line_with(trainer_log(folder), "train: error: "), kMaxWords);
  return measured;
}

}  // namespace

int64_t most_sealed_bytes(const Baseline& baseline) {
  if (baseline.sealed_bytes == 0) return std::numeric_limits<int64_t>::max();
  return std::max(kMinSealedBytes, kScoreFactor * baseline.sealed_bytes);
}

Measurement measure(const Kit& kit, const Slot& slot, const Baseline& baseline,
                    const ExperimentFolder& folder,
                    std::function<void(pid_t, uint64_t)> before_exec, const std::string& title) {
  for (const fs::path& earlier : {folder.sealed(), folder.record(), folder.log(), folder.score()})
    remove_or_warn(earlier);
  Measurement result;
  MachineState machine;
  const Exit trained = train(kit, slot, baseline, folder, std::move(before_exec), title, machine);
  const fs::path attempt = folder.attempt();
  const int64_t most_bytes = most_sealed_bytes(baseline);
  std::optional<int64_t> sealed;
  if (!trained.stuck) {  // nobody writes there any more
    sealed = take_file(attempt, folder.sealed().filename(), most_bytes, folder.sealed());
    take_file(attempt, folder.record().filename(), kMaxRecordBytes, folder.record());
    remove_or_warn(attempt);
  }
  result.measured = seen_of(slot, folder, trained);
  result.interrupted = trained.interrupted;
  result.stuck = trained.stuck;
  Measured& measured = result.measured;
  measured.machine = machine;
  measured.sealed = sealed.has_value();
  measured.sealed_bytes = sealed.value_or(0);
  if (sealed > most_bytes) {
    measured.score_problem =
        fmt::format("the sealed model has {} bytes; {} are allowed", *sealed, most_bytes);
  } else if (trained.code == 0 && sealed && !result.interrupted) {
    const Exit scored = score(kit, slot, baseline, folder.sealed(), "val", title);
    result.interrupted = scored.interrupted;
    if (scored.stuck) result.stuck = scored.stuck;
    read_score(scored, folder, measured);
  }
  return result;
}

HeldoutScore score_on_test(const Kit& kit, const Slot& slot, const Baseline& baseline,
                           const fs::path& sealed) {
  const Exit exit = score(kit, slot, baseline, sealed, "test", "the test split:");
  HeldoutScore result;
  result.seconds = exit.seconds;
  result.interrupted = exit.interrupted;
  result.stuck = exit.stuck;
  const auto said = parse_untrusted(last_line_with(exit.output, "{"));
  const bool figure = said.is_object() && said.contains("test_bpb") && said["test_bpb"].is_number();
  if (exit.code == 0 && figure)
    result.bpb = said["test_bpb"].get<double>();
  else
    result.problem = problem_of(exit);
  return result;
}

nlohmann::json trainer_record(const ExperimentFolder& folder) {
  std::error_code missing;
  if (!fs::is_regular_file(folder.record(), missing)) return nlohmann::json::object();
  nlohmann::json record = parse_untrusted(read_file(folder.record()));
  return record.is_object() ? record : nlohmann::json::object();
}

nlohmann::json known_facts(const nlohmann::json& record, const nlohmann::json& baselines) {
  nlohmann::json facts = nlohmann::json::object();
  for (const auto& [name, known] : baselines.items()) {
    if (!record.contains(name)) continue;
    const nlohmann::json& value = record[name];
    if (value.is_object() && known.is_object())
      facts[name] = known_facts(value, known);
    else if (value.is_number() || (value.is_string() && (value == known || is_word(value))) ||
             (value.is_array() && known.is_array()))
      facts[name] = value;
  }
  return facts;
}

std::string trainer_log(const ExperimentFolder& folder) {
  std::error_code missing;
  return fs::is_regular_file(folder.log(), missing) ? read_file(folder.log()) : "";
}

Baseline baseline_of(const Measured& measured) {
  // The light probe computes rows + 64 rows at least, the full one 2 * rows + 1,400 more at most
  // (task/effort.h; probe_plan_test holds it).
  const auto said = measured.score.find("rows");
  const double rows = said == measured.score.end() ? 0 : said->second;
  const double both = measured.score_seconds * (1 + (2 * rows + 1400) / (rows + 64));
  // Overhead 0 means `not measured` in a Baseline, so that even a perfect start counts a little.
  return {std::max(measured.overhead_seconds, 0.1),
          measured.score_seconds,
          both,
          measured.score_rss_bytes,
          measured.sealed_bytes,
          measured.phases};
}

Allowance allowance_of(double budget, const Baseline& baseline) {
  return {budget, baseline.overhead_seconds, baseline.phases};
}

}  // namespace autoresearch
