#include "agent/lab/measurement.h"

#include <algorithm>
#include <cctype>
#include <iomanip>
#include <limits>
#include <optional>
#include <sstream>

#include "agent/lab/machine_watch.h"
#include "common/folder.h"
#include "common/json.h"
#include "common/text.h"

namespace autoresearch {
namespace {

constexpr double kDeadlineGrace = 10;   // seconds after which a late trainer is killed
constexpr double kFirstRunGrace = 600;  // the baseline's, whose overhead is not known yet
constexpr double kMinScoreLimit = 120;  // seconds a scorer always gets
constexpr int64_t kMinScoreRss = int64_t{4} << 30;
constexpr int64_t kMinSealedBytes = int64_t{64} << 20;
constexpr int64_t kMaxRecordBytes = int64_t{4} << 20;  // of train.json
constexpr size_t kMaxWords = 300;  // characters of what a candidate or the scorer says
constexpr size_t kMaxWord = 60;    // characters of a word in a candidate's record
constexpr const char* kSealed = "model.safetensors";
constexpr const char* kRecord = "train.json";

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

std::optional<Phases> phases_in(const nlohmann::json& measured) {
  if (!measured.contains("training_seconds")) return std::nullopt;
  return Phases{measured.at("startup_seconds"), measured.at("training_seconds"),
                measured.at("sealing_seconds")};
}

// The last line of `output` that starts with `start`; empty when there is none.
std::string last_line_with(const std::string& output, const std::string& start) {
  std::istringstream in(output);
  std::string found;
  for (std::string line; std::getline(in, line);)
    if (line.starts_with(start)) found = line;
  return found;
}

Exit train(const Kit& kit, const Bench& bench, const Baseline& baseline, const fs::path& folder,
           std::function<void(pid_t, uint64_t)> before_exec, std::function<void(double)> tick,
           MachineState& machine) {
  std::vector<std::string> args = {"--task",    bench.task.string(),
                                   "--device",  bench.device,
                                   "--threads", std::to_string(bench.threads),
                                   "--seed",    std::to_string(bench.seed),
                                   "--seal",    kSealed,
                                   "--json",    kRecord};
  if (bench.steps > 0) args.insert(args.end(), {"--steps", std::to_string(bench.steps)});
  Command command = kit.train(folder, bench.task, args, bench.sandboxed, bench.gpu);
  command.limit = baseline.overhead_seconds > 0
                      ? allowance_of(bench, baseline).wall_limit() + kDeadlineGrace
                      : bench.budget + kFirstRunGrace;
  command.max_rss_bytes = bench.memory_bytes;
  MachineWatch watch(bench.gpu ? bench.device : "");
  command.before_exec = [&](pid_t pid, uint64_t start_time) {
    watch.begin(pid);
    if (before_exec) before_exec(pid, start_time);
  };
  command.tick = [&](double seconds) {
    watch.tick();
    if (tick) tick(seconds);
  };
  command.heard = [&](char) { watch.next_phase(); };
  Exit exit = run(command);
  machine = watch.end(exit);
  return exit;
}

// Every digit that tells one number from the next.
std::string exact(double value) {
  std::ostringstream text;
  text << std::setprecision(17) << value;
  return text.str();
}

int64_t most_sealed_bytes(const Baseline& baseline) {
  if (baseline.sealed_bytes == 0) return std::numeric_limits<int64_t>::max();
  return std::max(kMinSealedBytes, kScoreFactor * baseline.sealed_bytes);
}

Exit score(const Kit& kit, const Bench& bench, const Baseline& baseline, const fs::path& folder) {
  std::vector<std::string> args = {
      "--task", bench.task.string(), "--device", bench.device, "--json", "-"};
  if (bench.best_bpb)
    args.insert(args.end(), {"--full-below", exact(*bench.best_bpb)});
  else
    args.insert(args.end(), {"--probe", "full"});
  const bool first = baseline.overhead_seconds <= 0;
  Command command = kit.score(folder / kSealed, args, bench.sandboxed);
  command.limit =
      first ? kFirstRunGrace : std::max(kMinScoreLimit, kScoreFactor * baseline.score_seconds);
  command.max_rss_bytes =
      first ? bench.memory_bytes
            : std::min(bench.memory_bytes,
                       std::max(kMinScoreRss, kScoreFactor * baseline.score_rss_bytes));
  return run(command);
}

// The scorer's figures alone, by name: whatever else it says is not for the journal.
nlohmann::json figures_of(const nlohmann::json& said) {
  constexpr size_t kMost = 40;
  nlohmann::json figures = nlohmann::json::object();
  for (const auto& [name, value] : said.items())
    if (value.is_number() && figures.size() < kMost) figures[one_line(name, kMaxWord)] = value;
  return figures;
}

// Fills in what the scorer said over its pipe, and keeps it beside the record of the training.
void read_score(const Exit& exit, const fs::path& folder, Measurement& result) {
  auto& outcome = result.outcome;
  const auto said = parse_untrusted(last_line_with(exit.output, "{"));
  if (exit.code == 0 && said.is_object() && said.contains("val_bpb")) {
    if (!said["val_bpb"].is_number()) {
      outcome.score_problem = "val_bpb is not a finite number";
      return;
    }
    outcome.bpb = said["val_bpb"].get<double>();
    result.event["bpb"] = *outcome.bpb;
    result.event["score"] = figures_of(said);
    write_file(folder / "score.json", result.event["score"].dump(1) + "\n");
    return;
  }
  outcome.score_problem = exit.timed_out ? "scoring took far longer than the baseline's"
                          : exit.over_memory
                              ? "scoring took far more memory than the baseline's"
                              : one_line(last_line_with(exit.output, "score: error: "), kMaxWords);
  if (outcome.score_problem.empty())
    outcome.score_problem = "the scorer ended with code " + std::to_string(exit.code);
}

// The device's peak on a GPU, as the trainer's record states it (for the user only: nothing is
// decided by it); the child's resident memory on a CPU.
double memory_gb(const Bench& bench, const nlohmann::json& record, const Exit& exit) {
  const double reported = figure(record, "peak_memory_bytes");
  return (bench.gpu && reported > 0 ? reported : static_cast<double>(exit.peak_rss_bytes)) / 1e9;
}

// What the parent saw of the training, and for the user what the trainer says of itself.
nlohmann::json trainers_figures(const Bench& bench, const fs::path& folder, const Exit& trained) {
  const nlohmann::json record = trainer_record(folder);
  return {
      {"seed", bench.seed},
      {"train_exit", trained.code},
      {"timed_out", trained.timed_out},
      {"over_memory", trained.over_memory},
      {"over", trained.over},
      {"wall_seconds", trained.seconds},
      {"overhead_seconds", trained.seconds - bench.budget},
      {"last_words", one_line(last_line_with(trainer_log(folder), "train: error: "), kMaxWords)},
      {"memory_gb", memory_gb(bench, record, trained)},
      {"steps", static_cast<int64_t>(figure(record, "steps"))},
      {"tokens_per_second", figure(record, "tokens_per_second")}};
}

}  // namespace

Measurement measure(const Kit& kit, const Bench& bench, const Baseline& baseline,
                    const fs::path& folder, std::function<void(pid_t, uint64_t)> before_exec,
                    std::function<void(double)> tick) {
  for (const char* earlier : {kSealed, kRecord, "run.log", "score.json"})
    remove_whatever(folder / earlier);
  Measurement result;
  const Exit trained =
      train(kit, bench, baseline, folder, std::move(before_exec), std::move(tick), result.machine);
  const fs::path attempt = folder / "attempt";
  const int64_t most_bytes = most_sealed_bytes(baseline);
  std::optional<int64_t> sealed;
  if (!trained.stuck) {  // nobody writes there any more
    sealed = take_file(attempt, kSealed, most_bytes, folder / kSealed);
    take_file(attempt, kRecord, kMaxRecordBytes, folder / kRecord);
    remove_whatever(attempt);
  }
  result.interrupted = trained.interrupted;
  result.outcome.train_exit = trained.code;
  result.outcome.timed_out = trained.timed_out;
  result.outcome.over_memory = trained.over_memory;
  result.outcome.over = trained.over;
  result.outcome.wall_seconds = trained.seconds;
  result.outcome.phases = phases_of(trained.told, trained.seconds);
  result.outcome.sealed = sealed.has_value();
  result.event = trainers_figures(bench, folder, trained);
  result.event["machine"] = result.machine;
  Exit scored;
  if (sealed > most_bytes) {
    result.outcome.score_problem = "the sealed model has " + std::to_string(*sealed) + " bytes; " +
                                   std::to_string(most_bytes) + " are allowed";
  } else if (trained.code == 0 && sealed && !result.interrupted) {
    scored = score(kit, bench, baseline, folder);
    result.interrupted = scored.interrupted;
    read_score(scored, folder, result);
  }
  result.stuck = trained.stuck ? trained.stuck : scored.stuck;
  result.event.update({{"sealed", result.outcome.sealed},
                       {"sealed_bytes", sealed.value_or(0)},
                       {"score_seconds", scored.seconds},
                       {"score_rss_bytes", scored.peak_rss_bytes},
                       {"score_problem", result.outcome.score_problem}});
  if (const auto& phases = result.outcome.phases)
    result.event.update({{"startup_seconds", phases->startup},
                         {"training_seconds", phases->training},
                         {"sealing_seconds", phases->sealing}});
  return result;
}

nlohmann::json trainer_record(const fs::path& folder) {
  std::error_code missing;
  if (!fs::is_regular_file(folder / kRecord, missing)) return nlohmann::json::object();
  nlohmann::json record = parse_untrusted(read_file(folder / kRecord));
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

std::string trainer_log(const fs::path& folder) {
  std::error_code missing;
  return fs::is_regular_file(folder / "run.log", missing) ? read_file(folder / "run.log") : "";
}

void tidy(const fs::path& folder) {
  for (const char* name : {"train", kSealed, "attempt", "score", "build"})
    remove_whatever(folder / name);
}

Outcome outcome_of(const nlohmann::json& measured) {
  Outcome outcome;
  outcome.train_exit = measured.at("train_exit");
  outcome.timed_out = measured.at("timed_out");
  outcome.over_memory = measured.at("over_memory");
  outcome.over = measured.value("over", "");
  outcome.wall_seconds = measured.at("wall_seconds");
  outcome.phases = phases_in(measured);
  outcome.sealed = measured.at("sealed");
  outcome.score_problem = measured.at("score_problem");
  if (measured.contains("bpb")) outcome.bpb = measured.at("bpb").get<double>();
  return outcome;
}

Baseline baseline_of(const nlohmann::json& measured, double budget) {
  // Overhead 0 means `not measured` in a Baseline, so that even a perfect start counts a little.
  const double overhead = std::max(measured.at("wall_seconds").get<double>() - budget, 0.1);
  return {overhead, measured.at("score_seconds"), measured.at("score_rss_bytes"),
          measured.at("sealed_bytes"), phases_in(measured)};
}

Allowance allowance_of(const Bench& bench, const Baseline& baseline) {
  return {bench.budget, baseline.overhead_seconds, baseline.phases};
}

}  // namespace autoresearch
