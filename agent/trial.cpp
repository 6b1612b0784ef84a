#include "agent/trial.h"

#include <algorithm>
#include <array>
#include <optional>
#include <sstream>

#include "agent/json.h"

namespace autoresearch {
namespace {

constexpr double kDeadlineGrace = 10;   // seconds after which a late trainer is killed
constexpr double kFirstRunGrace = 600;  // the baseline's, whose overhead is not known yet
constexpr double kMinScoreLimit = 120;  // seconds a scorer always gets
constexpr int64_t kMinScoreRss = int64_t{4} << 30;

// A file that the candidate wrote, if it is a plain one of a size that makes sense and can be read:
// a link could point at anything of the user's, a pipe would block, a huge file would fill the
// memory.
std::string read_plain_file(const fs::path& path) {
  constexpr uintmax_t kLargest = uintmax_t{4} << 20;
  std::error_code missing;
  if (!fs::is_regular_file(fs::symlink_status(path, missing))) return "";
  fs::permissions(path, fs::perms::owner_read, fs::perm_options::add, missing);
  if (missing || fs::file_size(path, missing) > kLargest) return "";
  return read_file(path);
}

// Removes whatever it is. A folder that the candidate closed is opened first.
void remove_whatever(const fs::path& path) {
  std::error_code ignored;
  if (fs::is_directory(fs::symlink_status(path, ignored))) {
    fs::permissions(path, fs::perms::owner_all, fs::perm_options::add, ignored);
    for (const auto& entry : fs::directory_iterator(path, ignored)) remove_whatever(entry.path());
  }
  fs::remove(path, ignored);
}

// A figure out of the trainer's own record, whatever it may have put there.
double figure(const nlohmann::json& record, const char* key) {
  return record.contains(key) && record[key].is_number() ? record[key].get<double>() : 0;
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
           std::function<void(pid_t, uint64_t)> before_exec, std::function<void(double)> tick) {
  std::vector<std::string> args = {
      "--task", bench.task.string(), "--device", bench.device, "--seed", std::to_string(bench.seed),
      "--seal", "model.safetensors", "--json",   "train.json"};
  if (bench.steps > 0) args.insert(args.end(), {"--steps", std::to_string(bench.steps)});
  Command command = kit.train(folder, bench.task, args, bench.caged, bench.gpu);
  const Allowance allowance{bench.budget, baseline.overhead_seconds};
  command.limit = baseline.overhead_seconds > 0 ? allowance.wall_limit() + kDeadlineGrace
                                                : bench.budget + kFirstRunGrace;
  command.max_rss_bytes = bench.memory_bytes;
  command.before_exec = std::move(before_exec);
  command.tick = std::move(tick);
  return run(command);
}

int64_t most_sealed_bytes(const Baseline& baseline) {
  return std::max(kMinSealedBytes, kScoreFactor * baseline.sealed_bytes);
}

Exit score(const Kit& kit, const Bench& bench, const Baseline& baseline, const fs::path& folder) {
  std::vector<std::string> args = {
      "--task", bench.task.string(), "--device", bench.device, "--json", "-"};
  const bool first = baseline.overhead_seconds <= 0;
  Command command =
      kit.score(folder, bench.task, folder / "model.safetensors", args, bench.caged, bench.gpu);
  command.limit =
      first ? kFirstRunGrace : std::max(kMinScoreLimit, kScoreFactor * baseline.score_seconds);
  command.max_rss_bytes =
      first ? bench.memory_bytes
            : std::min(bench.memory_bytes,
                       std::max(kMinScoreRss, kScoreFactor * baseline.score_rss_bytes));
  return run(command);
}

// Fills in what the scorer said over its pipe, and keeps it beside the record of the training.
void read_score(const Exit& exit, const fs::path& folder, Measurement& result) {
  auto& outcome = result.outcome;
  remove_whatever(folder / "score.json");
  const auto said = parse_untrusted(last_line_with(exit.output, "{"));
  if (exit.code == 0 && said.is_object() && said.contains("val_bpb")) {
    if (!said["val_bpb"].is_number()) {
      outcome.score_problem = "val_bpb is not a finite number";
      return;
    }
    outcome.bpb = said["val_bpb"].get<double>();
    result.event["bpb"] = *outcome.bpb;
    result.event["score"] = said;
    write_file(folder / "score.json", said.dump(1) + "\n");
    return;
  }
  outcome.score_problem = exit.timed_out     ? "scoring took far longer than the baseline's"
                          : exit.over_memory ? "scoring took far more memory than the baseline's"
                                             : last_line_with(exit.output, "prepare: error: ");
  if (outcome.score_problem.empty())
    outcome.score_problem = "the scorer ended with code " + std::to_string(exit.code);
}

// Of the model that the trainer handed over; nothing where there is no such file.
std::optional<int64_t> sealed_bytes(const fs::path& folder) {
  std::error_code ignored;
  const fs::path sealed = folder / "model.safetensors";
  if (!fs::is_regular_file(fs::symlink_status(sealed, ignored))) return std::nullopt;
  return static_cast<int64_t>(fs::file_size(sealed, ignored));
}

// The device's peak on a GPU, as the trainer's record states it (for the person only: nothing is
// decided by it); the child's resident memory on a CPU.
double memory_gb(const Bench& bench, const nlohmann::json& record, const Exit& exit) {
  const double reported = figure(record, "peak_memory_bytes");
  return (bench.gpu && reported > 0 ? reported : static_cast<double>(exit.peak_rss_bytes)) / 1e9;
}

// What the parent saw of the training, and for the person what the trainer says of itself.
nlohmann::json trainers_figures(const Bench& bench, const fs::path& folder, const Exit& trained) {
  const nlohmann::json record = trainer_record(folder);
  return {{"seed", bench.seed},
          {"train_exit", trained.code},
          {"timed_out", trained.timed_out},
          {"over_memory", trained.over_memory},
          {"wall_seconds", trained.seconds},
          {"overhead_seconds", trained.seconds - bench.budget},
          {"last_words", last_line_with(trainer_log(folder), "train: error: ").substr(0, 300)},
          {"memory_gb", memory_gb(bench, record, trained)},
          {"steps", static_cast<int64_t>(figure(record, "steps"))},
          {"tokens_per_second", figure(record, "tokens_per_second")}};
}

}  // namespace

Measurement measure(const Kit& kit, const Bench& bench, const Baseline& baseline,
                    const fs::path& folder, std::function<void(pid_t, uint64_t)> before_exec,
                    std::function<void(double)> tick) {
  std::error_code ignored;
  tidy(folder, {"train"});
  const Exit trained = train(kit, bench, baseline, folder, std::move(before_exec), std::move(tick));
  // What the trainer left is read now; a candidate may have taken that right away.
  fs::permissions(folder, fs::perms::owner_all, fs::perm_options::add, ignored);
  const std::optional<int64_t> sealed = sealed_bytes(folder);
  Measurement result;
  result.interrupted = trained.interrupted;
  result.outcome.train_exit = trained.code;
  result.outcome.timed_out = trained.timed_out;
  result.outcome.over_memory = trained.over_memory;
  result.outcome.wall_seconds = trained.seconds;
  result.outcome.sealed = sealed.has_value();
  result.event = trainers_figures(bench, folder, trained);
  Exit scored;
  if (baseline.sealed_bytes > 0 && sealed > most_sealed_bytes(baseline)) {
    result.outcome.score_problem = "the sealed model has " + std::to_string(*sealed) + " bytes; " +
                                   std::to_string(most_sealed_bytes(baseline)) + " are allowed";
  } else if (trained.code == 0 && sealed && !result.interrupted) {
    scored = score(kit, bench, baseline, folder);
    result.interrupted = scored.interrupted;
    read_score(scored, folder, result);
  }
  result.event.update({{"sealed", result.outcome.sealed},
                       {"sealed_bytes", sealed.value_or(0)},
                       {"score_seconds", scored.seconds},
                       {"score_rss_bytes", scored.peak_rss_bytes},
                       {"score_problem", result.outcome.score_problem}});
  return result;
}

nlohmann::json trainer_record(const fs::path& folder) {
  nlohmann::json record = parse_untrusted(read_plain_file(folder / "train.json"));
  return record.is_object() ? record : nlohmann::json::object();
}

std::string trainer_log(const fs::path& folder) { return read_plain_file(folder / "run.log"); }

void tidy(const fs::path& folder, const std::vector<std::string>& keep) {
  static constexpr std::array kRecords = {"train.cpp", "prompt.md", "reply.md", "candidate.diff",
                                          "build.log"};
  std::error_code ignored;
  fs::permissions(folder, fs::perms::owner_all, fs::perm_options::add, ignored);
  for (const auto& entry : fs::directory_iterator(folder, ignored)) {
    const std::string name = entry.path().filename();
    const bool named = std::find(kRecords.begin(), kRecords.end(), name) != kRecords.end() ||
                       (name.starts_with("reply-") && name.ends_with(".md")) ||
                       std::find(keep.begin(), keep.end(), name) != keep.end();
    if (!named || !fs::is_regular_file(entry.symlink_status(ignored)))
      remove_whatever(entry.path());
  }
}

Outcome outcome_of(const nlohmann::json& measured) {
  Outcome outcome;
  outcome.train_exit = measured.at("train_exit");
  outcome.timed_out = measured.at("timed_out");
  outcome.over_memory = measured.at("over_memory");
  outcome.wall_seconds = measured.at("wall_seconds");
  outcome.sealed = measured.at("sealed");
  outcome.score_problem = measured.at("score_problem");
  if (measured.contains("bpb")) outcome.bpb = measured.at("bpb").get<double>();
  return outcome;
}

Baseline baseline_of(const nlohmann::json& measured, double budget) {
  // Overhead 0 means `not measured` in a Baseline, so that even a perfect start counts a little.
  const double overhead = std::max(measured.at("wall_seconds").get<double>() - budget, 0.1);
  return {overhead, measured.at("score_seconds"), measured.at("score_rss_bytes"),
          measured.at("sealed_bytes")};
}

}  // namespace autoresearch
