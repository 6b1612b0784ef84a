// agent.cpp: the night shift. Reads program.md, asks for an edit of train.cpp, builds it, trains
// it, lets `prepare` score the sealed model, keeps or reverts, until it is told to stop.
//
//   build/agent run --tag NAME --task NAME [--provider openai --model ID]
//
// What a candidate can't do stands in README.md, "What is protected". How each step is done stands
// in agent/: recipe (build), trial (train and score), verdict, journal, history (git), dialogue
// (prompt, briefing, tuner), models (llm, chain, money), reply and edit, known, sandbox, report.

#include <CLI/CLI.hpp>
#include <chrono>
#include <cmath>
#include <iostream>
#include <map>
#include <memory>
#include <optional>
#include <regex>
#include <thread>

#include "agent/edit/constants.h"
#include "agent/edit/diff.h"
#include "agent/edit/edit.h"
#include "agent/edit/edit_summary.h"
#include "agent/lab/compiler_log.h"
#include "agent/lab/machine.h"
#include "agent/lab/measurement.h"
#include "agent/lab/verdict.h"
#include "agent/llm/models.h"
#include "agent/llm/recorded.h"
#include "agent/loop/commands.h"
#include "agent/loop/toml_config.h"
#include "agent/propose/briefing.h"
#include "agent/propose/dialogue.h"
#include "agent/record/earlier_result.h"
#include "agent/record/history.h"
#include "agent/record/journal.h"
#include "agent/record/report.h"
#include "common/error.h"
#include "common/log.h"
#include "common/nvidia.h"
#include "common/progress.h"
#include "common/sandbox.h"
#include "common/text.h"
#include "task/task.h"

namespace autoresearch {
namespace {

using nlohmann::json;

struct Options {
  std::string tag, task = "demo", device = "auto", sandbox = "auto", data;
  ModelOptions models;
  int64_t context_tokens = kContextTokens;
  int64_t max_experiments = 0;  // 0: no limit
  double max_hours = 0;         // 0: no limit
  int64_t seed = 42;
};

constexpr int kMaxInterruptions = 1;  // of a candidate's training, before it counts as a crash
constexpr int kFailuresAlike = 5;     // first experiments that fail alike: something else is wrong
constexpr int kRefusalsInARow = 3;    // proposals that came to nothing, then the tuner has a turn
constexpr int kErrorsInARow = 3;      // errors of the loop's own that end it
constexpr double kErrorPause = 5;     // seconds after the first of them, twice as many after two
constexpr int kGiveUp = 16;           // such proposals in a row, the tuner's included
constexpr int64_t kTellingCalls = 3;  // answered ones, before a night's cost can be estimated

// Thrown when the user asked to stop; not an error.
struct Interrupted {};

// Thrown when the task was made anew meanwhile: nothing would compare.
struct TaskChanged {};

void rest() { std::this_thread::sleep_for(std::chrono::milliseconds(200)); }

class Loop {
 public:
  explicit Loop(Options options) : options_(std::move(options)) {}
  int run();

 private:
  void check_place_and_task();
  void check_sandbox_and_models();
  void open_run();
  void open_parts();
  void record_start();
  void recover();
  void repeat(const Experiment& experiment);
  void baseline();
  void experiment();

  struct Candidate {
    Proposal proposal;
    std::string source;
  };
  std::variant<Candidate, Feedback, Reply> propose(Dialogue& dialogue, int64_t n);
  std::variant<Candidate, Setback> realize(const Reply& reply, bool allow_whole_file, int64_t n);
  Reply ask(Dialogue& dialogue, int64_t n);
  Reply call(Dialogue& dialogue, int64_t n);
  void write_candidate(int64_t n, const std::string& source);
  void record_candidate(int64_t n, const Candidate& candidate, const std::string& proposer);
  void measure_and_decide(int64_t n, Dialogue* dialogue);
  Measurement train_and_score(int64_t n);
  bool repair(Dialogue& dialogue, int64_t n, const Outcome& outcome);
  void decide(int64_t n, const json& measured);
  void give_verdict(int64_t n, const Verdict& verdict);
  void keep_champion(int64_t n);
  void refuse(int64_t n, const std::string& proposer, const std::string& why);
  void no_reply(const Dialogue& dialogue, const Reply& reply, int64_t n);

  std::string program();
  PromptInputs briefing(const std::string& source);
  Dialogue begin_dialogue(int64_t n);
  void check_prompt();

  std::string work();
  void survive(const std::exception& error);
  void append(json event);
  void derive();
  void speak_after(int64_t n);
  void estimate_cost();
  std::optional<double> seconds_each() const;
  double experiments_left() const;
  std::optional<std::string> reason_to_stop() const;
  fs::path folder(int64_t n) const {
    return run_dir_ / "experiments" / format("%04d", static_cast<int>(n));
  }
  const Experiment& experiment_at(int64_t n) const {
    return state_.experiments.at(static_cast<size_t>(n));
  }

  Options options_;
  fs::path checkout_ = fs::current_path(), run_dir_;
  TaskInfo task_;
  Bench bench_;
  Baseline baseline_;
  std::optional<Kit> kit_;
  std::unique_ptr<Journal> journal_;
  std::unique_ptr<History> history_;
  std::unique_ptr<Models> models_;  // null: the builtin proposer alone
  RunState state_;
  double started_ = boot_seconds();
  int refusals_ = 0;
  int64_t asking_for_ = 0;  // the experiment that a call to a model belongs to
  bool said_safe_ = false, said_estimate_ = false;
  bool exhausted_ = false;  // the tuner has nothing left
  int errors_ = 0;          // experiments in a row that ended in an error of the loop's own
  std::map<std::string, std::string> refused_;  // errors of what did not build, by fingerprint
  std::map<std::string, int64_t> fitting_;      // a prompt's tokens, by model that refused more
  std::string branch_note_, provider_note_, prompt_note_, program_;
};

// ------------------------------------------------------------------------------------------------
// Before the first experiment: everything a run needs is checked, so that a mistake costs seconds

void Loop::check_place_and_task() {
  for (const char* name : {"train.cpp", "program.md"})
    check(
        fs::exists(checkout_ / name),
        std::string("no ") + name + " in this folder; run agent in the top folder of the checkout");
  History::check_tag(options_.tag);
  check(std::regex_match(options_.device, std::regex("auto|cpu|cuda(:[0-9]{1,2})?")),
        "unknown device '" + options_.device + "'; use --device auto, cpu, cuda or cuda:N");
  check(!options_.device.starts_with("cuda") || has_nvidia_device(),
        "no NVIDIA device here; use --device cpu");
  check(std::isfinite(options_.max_hours), "--max-hours must be a number of hours");
  bench_.task = fs::absolute(task_dir(options_.task));
  task_ = load_task(bench_.task);
  train_shards(bench_.task, task_);
  heldout_rows(bench_.task, task_, "val");
  bench_.budget = task_.time_budget;
  bench_.device = options_.device;
  bench_.gpu = options_.device != "cpu" && has_nvidia_device();
  bench_.seed = options_.seed;
  bench_.memory_bytes = usable_memory();
  log_info(format("task        %s: budget %s, %lld scored tokens", task_.name.c_str(),
                  human_seconds(task_.time_budget).c_str(),
                  static_cast<long long>(task_.val.rows * task_.seq_len)));
}

void Loop::check_sandbox_and_models() {
  const fs::path journal = data_dir() / "runs" / options_.tag / "journal.jsonl";
  models_ = make_models(options_.models,
                        fs::exists(journal) ? read_journal(journal) : std::vector<json>());
  const bool wanted = options_.sandbox != "off";
  const auto problem = wanted ? sandbox_problem() : std::nullopt;
  if (problem && models_)
    throw Error(*problem + ", which runs model-written code with your rights");
  bench_.sandboxed = wanted && !problem;
  if (bench_.sandboxed && bench_.gpu)
    if (const auto missing = make_nvidia_uvm()) log_warning(*missing);
  log_info(std::string("sandbox     ") +
           (bench_.sandboxed ? "bubblewrap: read-only system, no network"
            : models_        ? "OFF: model-written code runs with your rights"
                             : "none: the builtin proposer only changes numbers and needs none"));
  if (!models_)
    log_info("model       none: the builtin proposer changes hyperparameters; --provider asks one");
}

// The run's folder and what is in it; then the models, whose first words are on record already. A
// new run that can't begin leaves no folder.
void Loop::open_run() {
  run_dir_ = data_dir() / "runs" / options_.tag;
  fs::create_directories(run_dir_.parent_path());
  const bool is_new = fs::create_directory(run_dir_);
  try {
    open_parts();
    record_start();
    check_prompt();
    if (models_) models_->introduce();
  } catch (...) {
    std::error_code ignored;
    if (is_new) fs::remove_all(run_dir_, ignored);
    throw;
  }
}

// Git history, journal, kit.
void Loop::open_parts() {
  history_ = std::make_unique<History>(checkout_, run_dir_ / "git", options_.tag, "train.cpp");
  fs::create_directories(run_dir_ / "experiments");
  journal_ = std::make_unique<Journal>(run_dir_ / "journal.jsonl");
  kit_ = fs::exists(run_dir_ / "kit")
             ? Kit::open(run_dir_ / "kit")
             : Kit::create(fs::read_symlink("/proc/self/exe").parent_path(), run_dir_ / "kit");
  log_info("run         " + run_dir_.string() +
           (history_->own_repository() ? " (git history there too: " + history_->own_reason() + ")"
                                       : ""));
}

// Refuses to go on with a run whose figures would not compare.
void Loop::record_start() {
  state_ = replay(journal_->events());
  check(!state_.start.is_null() || !history_->ref("0000"),
        "tag " + options_.tag + " was used before, its commits are in refs/autoresearch/" +
            options_.tag + " here; choose a new --tag");
  const json identity = {{"task", sha256_of_file(bench_.task / "task.json")},
                         {"kit", kit_->fingerprint()},
                         {"device", options_.device},
                         {"machine", machine_name()},
                         {"seed", options_.seed}};
  for (const auto& [key, value] : identity.items())
    check(state_.start.is_null() || state_.start.at(key) == value,
          "tag " + options_.tag + " was started with another " + key +
              ", so figures would not compare; choose a new --tag");
  json start = {{"event", "start"},
                {"tag", options_.tag},
                {"task_name", task_.name},
                {"provider", models_ ? models_->proposers().name() : "builtin"}};
  start.update(identity);
  append(start);
  if (!models_) return;
  models_->ledger().record_with([this](json event) {
    if (event["event"] == "call") event["n"] = asking_for_;
    append(std::move(event));
  });
}

// What an earlier agent left open is closed or begun again; derived files are brought up to date.
void Loop::recover() {
  if (state_.experiments.empty()) return derive();
  if (const Experiment& first = state_.experiments[0]; first.measured)
    baseline_ = baseline_of(*first.measured, bench_.budget);
  const Experiment last = state_.experiments.back();  // the only one that can be open
  if (last.status.empty()) {
    if (last.open) kill_orphan(last.pid, last.start_time);
    log_info(format("going on with experiment %lld, which was interrupted",
                    static_cast<long long>(last.n)));
    if (last.measured)
      decide(last.n, *last.measured);
    else if (last.n > 0 && last.open && last.interrupted >= kMaxInterruptions)
      give_verdict(last.n, {"crash", "the run was interrupted twice while this was training"});
    else
      repeat(last);
  }
  derive();
}

// The same commit, built and measured again.
void Loop::repeat(const Experiment& experiment) {
  tidy(folder(experiment.n));
  write_file(folder(experiment.n) / "train.cpp", history_->source_at(experiment.commit));
  const BuildResult build = kit_->build(folder(experiment.n), bench_.sandboxed);
  if (interrupt_requested()) throw Interrupted{};
  if (build.ok) return measure_and_decide(experiment.n, nullptr);
  check(experiment.n > 0, "train.cpp does not build again; see " +
                              (folder(0) / "build.log").string() + " and start a new --tag");
  give_verdict(experiment.n, {"crash", "did not build again after an interruption"});
}

// ------------------------------------------------------------------------------------------------
// Experiments

// Experiment 0: train.cpp as the user's checkout has it. It must be whole, or nothing can be
// compared.
void Loop::baseline() {
  const std::string source = read_file(checkout_ / "train.cpp");
  fs::create_directories(folder(0));
  write_file(folder(0) / "train.cpp", source);
  log_info("building the baseline, train.cpp as it is here");
  const BuildResult build = kit_->build(folder(0), bench_.sandboxed);
  if (interrupt_requested()) throw Interrupted{};
  check(build.ok, "train.cpp does not build; see " + (folder(0) / "build.log").string());
  const std::string commit = history_->commit_start(source, "baseline of " + options_.tag);
  history_->set_ref("0000", commit);
  append({{"event", "candidate"},
          {"n", 0},
          {"commit", commit},
          {"parent", ""},
          {"idea", "baseline"},
          {"why", ""},
          {"proposer", "baseline"},
          {"fingerprint", code_fingerprint(source)},
          {"next", json::array()}});
  log_info(experiment_header());
  measure_and_decide(0, nullptr);
}

// One experiment: a reply, its edit, its build, its training, its verdict.
void Loop::experiment() {
  const auto n = static_cast<int64_t>(state_.experiments.size());
  if (sha256_of_file(bench_.task / "task.json") != state_.start.at("task").get<std::string>())
    throw TaskChanged{};
  fs::create_directories(folder(n));
  Dialogue dialogue = begin_dialogue(n);
  const auto made = propose(dialogue, n);
  if (const auto* failed = std::get_if<Reply>(&made)) return no_reply(dialogue, *failed, n);
  if (const auto* why = std::get_if<Feedback>(&made))
    return refuse(n, dialogue.proposer(), why->text);
  refusals_ = 0;
  record_candidate(n, std::get<Candidate>(made), dialogue.proposer());
  measure_and_decide(n, &dialogue);
}

// Replies until one of them is built, each told what came of the one before; or why none was, or
// the call that failed. None of it costs training time.
std::variant<Loop::Candidate, Feedback, Reply> Loop::propose(Dialogue& dialogue, int64_t n) {
  while (true) {
    const Reply reply = ask(dialogue, n);
    if (!reply.problem.empty()) return reply;
    auto made = realize(reply, dialogue.may_send_whole_file(), n);
    if (auto* candidate = std::get_if<Candidate>(&made)) return std::move(*candidate);
    if (interrupt_requested()) throw Interrupted{};
    const auto& setback = std::get<Setback>(made);
    if (!dialogue.feed_back(setback)) return Feedback{setback.text};
  }
}

// A reply to the conversation so far, which loses history while a model finds it too long. What
// that model can't take at its shortest, the next one is asked in full. The size that was taken is
// remembered.
Reply Loop::ask(Dialogue& dialogue, int64_t n) {
  while (true) {
    bool shortened = false;
    Reply reply = call(dialogue, n);
    while (reply.too_long && dialogue.shorten()) {
      shortened = true;
      reply = call(dialogue, n);
    }
    if (shortened && reply.problem.empty()) fitting_[reply.provider] = dialogue.prompt().tokens;
    if (!reply.too_long || dialogue.has_begun()) return reply;
    models_->pass_over(reply);
    if (!models_->proposers().ready()) return reply;
    dialogue.restore();
  }
}

// One reply; what was said to a model, and by it, is kept in the experiment's folder.
Reply Loop::call(Dialogue& dialogue, int64_t n) {
  asking_for_ = n;
  Reply reply = dialogue.next();
  if (interrupt_requested()) throw Interrupted{};
  if (reply.provider.empty()) reply.provider = dialogue.name();
  estimate_cost();
  if (!dialogue.is_model()) return reply;
  write_file(folder(n) / "prompt.md", valid_utf8(dialogue.transcript()));
  if (reply.problem.empty()) write_file(next_reply_path(folder(n)), valid_utf8(reply.text));
  return reply;
}

// From a reply to a built candidate in the experiment's folder, or to what was wrong with it.
std::variant<Loop::Candidate, Setback> Loop::realize(const Reply& reply, bool allow_whole_file,
                                                     int64_t n) {
  auto parsed = parse_reply(reply.text, reply.truncated, allow_whole_file);
  if (const auto* feedback = std::get_if<Feedback>(&parsed))
    return Setback{Failure::kEdit, feedback->text};
  Candidate candidate{std::get<Proposal>(std::move(parsed)), ""};
  auto edited = apply_proposal(history_->source_at(state_.champion), candidate.proposal);
  if (const auto* feedback = std::get_if<Feedback>(&edited))
    return Setback{Failure::kEdit, feedback->text};
  candidate.source = std::get<std::string>(std::move(edited));
  if (const auto known = known_result(state_, candidate.source))
    return Setback{Failure::kKnown, *known};
  if (const auto before = refused_.find(code_fingerprint(candidate.source));
      before != refused_.end())
    return Setback{Failure::kKnown,
                   "This code was tried before and did not build:\n" + fenced(before->second, "")};
  write_candidate(n, candidate.source);
  const BuildResult build = kit_->build(folder(n), bench_.sandboxed);
  if (build.ok) return candidate;
  const std::string errors = clean_compiler_output(build.log);
  if (!interrupt_requested()) refused_[code_fingerprint(candidate.source)] = errors;
  return Setback{Failure::kBuild, errors};
}

void Loop::write_candidate(int64_t n, const std::string& source) {
  const std::string champion = history_->source_at(state_.champion);
  write_file(folder(n) / "train.cpp", source);
  write_file(folder(n) / "candidate.diff", unified_diff(champion, source, "train.cpp"));
}

void Loop::record_candidate(int64_t n, const Candidate& candidate, const std::string& proposer) {
  const std::string commit =
      history_->commit(state_.champion, candidate.source,
                       candidate.proposal.idea + "\n\n" + candidate.proposal.why +
                           "\n\nExperiment: " + options_.tag + " " + std::to_string(n) +
                           "\nProposed-by: " + proposer);
  history_->set_ref(format("%04d", static_cast<int>(n)), commit);
  const Change change = describe_change(history_->source_at(state_.champion), candidate.source);
  append({{"event", "candidate"},
          {"n", n},
          {"commit", commit},
          {"parent", state_.champion},
          {"idea", candidate.proposal.idea},
          {"why", candidate.proposal.why},
          {"proposer", proposer},
          {"fingerprint", code_fingerprint(candidate.source)},
          {"constants", change.constants},
          {"areas", change.areas},
          {"next", candidate.proposal.next}});
}

// Trains what is built in the experiment's folder, scores it and decides. A run that failed by a
// mistake in its code goes back to its author (`dialogue`, if any); a candidate that mends it takes
// its place in the same experiment.
void Loop::measure_and_decide(int64_t n, Dialogue* dialogue) {
  const Measurement result = train_and_score(n);
  json measured = {{"event", "measured"}, {"n", n}, {"attempt", experiment_at(n).attempts}};
  measured.update(result.event);
  if (n == 0)
    measured[kFusedOperations] = trainer_record(folder(n)).value(kFusedOperations, json("all"));
  append(measured);
  if (dialogue && repair(*dialogue, n, result.outcome)) return measure_and_decide(n, dialogue);
  decide(n, measured);
}

Measurement Loop::train_and_score(int64_t n) {
  Progress bar(format("#%lld training", static_cast<long long>(n)), bench_.budget, "s");
  bench_.best_bpb = n == 0 ? std::nullopt : std::optional(state_.best_bpb);
  Measurement result = measure(
      *kit_, bench_, baseline_, folder(n),
      [&](pid_t pid, uint64_t start_time) {
        append({{"event", "run"},
                {"n", n},
                {"attempt", experiment_at(n).attempts + 1},
                {"pid", pid},
                {"starttime", start_time}});
      },
      [&](double seconds) { bar.update(std::min(seconds, bench_.budget)); });
  if (result.interrupted) throw Interrupted{};
  return result;
}

// True where a mended candidate is recorded and built in place of the one that crashed.
bool Loop::repair(Dialogue& dialogue, int64_t n, const Outcome& outcome) {
  if (!is_repairable(outcome)) return false;
  const std::string reason =
      judge(outcome, allowance_of(bench_, baseline_), state_.best_bpb).reason;
  if (!dialogue.feed_back({Failure::kRun, reason + "\n\n" + trainer_log(folder(n))})) return false;
  log_info(format("#%lld ", static_cast<long long>(n)) + one_line(reason, 100) +
           "; asking for a repair");
  const auto made = propose(dialogue, n);
  if (const auto* candidate = std::get_if<Candidate>(&made)) {
    record_candidate(n, *candidate, dialogue.proposer());
    return true;
  }
  const auto* failed = std::get_if<Reply>(&made);
  log_info("      its repair came to nothing: " +
           one_line(failed ? failed->problem : std::get<Feedback>(made).text, 160));
  write_candidate(n, history_->source_at(experiment_at(n).commit));
  return false;
}

void Loop::decide(int64_t n, const json& measured) {
  if (n == 0) baseline_ = baseline_of(measured, bench_.budget);
  Verdict verdict = judge(outcome_of(measured), allowance_of(bench_, baseline_),
                          n == 0 ? std::nullopt : std::optional(state_.best_bpb));
  const std::string words = measured.value("last_words", "");
  if (verdict.status == "crash" && !words.empty()) verdict.reason += " (" + words + ")";
  check(n != 0 || verdict.status == "keep", "the baseline failed: " + verdict.reason + "; see " +
                                                (folder(0) / "run.log").string() +
                                                ", mend it and start a new --tag");
  give_verdict(n, verdict);
}

// The commit point. For a keep, the champion's files are on disk before it.
void Loop::give_verdict(int64_t n, const Verdict& verdict) {
  if (verdict.status == "keep") keep_champion(n);
  append({{"event", "verdict"},
          {"n", n},
          {"status", verdict.status},
          {"reason", verdict.reason},
          {"champion", verdict.status == "keep" ? experiment_at(n).commit : state_.champion}});
  tidy(folder(n));
  exhausted_ = false;  // a new champion, or one more measured neighbour: the tuner looks again
  derive();
  speak_after(n);
}

// champion/<commit>/: the sealed model and its source, whole or not at all.
void Loop::keep_champion(int64_t n) {
  const fs::path champions = run_dir_ / "champion";
  const fs::path target = champions / experiment_at(n).commit;
  if (fs::exists(target)) return;
  const fs::path partial = champions / ("." + experiment_at(n).commit);
  fs::remove_all(partial);
  fs::create_directories(partial);
  copy_file_cheaply(folder(n) / "model.safetensors", partial / "model.safetensors");
  sync_path(partial / "model.safetensors");
  write_file(partial / "train.cpp", history_->source_at(experiment_at(n).commit));
  sync_path(partial);
  fs::rename(partial, target);
  sync_path(champions);
}

// A proposal that never became a candidate. It is no experiment: its number is used again.
void Loop::refuse(int64_t n, const std::string& proposer, const std::string& why) {
  ++refusals_;
  append({{"event", "refused"}, {"n", n}, {"proposer", proposer}, {"reason", why.substr(0, 2000)}});
  const std::string line = one_line(why, 160);
  if (line != provider_note_) log_info("      " + proposer + " came to nothing: " + line);
  provider_note_ = line;
}

// A failed call is no experiment and no refusal: the chain has said so and knows whom to ask next,
// at last nobody, and the builtin proposer has its turn. Only where that has nothing left either is
// there nothing to do but to wait for a model.
void Loop::no_reply(const Dialogue& dialogue, const Reply& reply, int64_t n) {
  if (dialogue.is_model()) {
    if (reply.too_long) refuse(n, reply.provider, reply.problem);
    return;
  }
  exhausted_ = true;
  if (!models_) return refuse(n, reply.provider, reply.problem);
  while (!models_->proposers().ready() && !reason_to_stop()) rest();
}

// ------------------------------------------------------------------------------------------------
// What a proposer is told

// program.md as it is now; as it was last where an editor has it aside for a moment.
std::string Loop::program() {
  try {
    program_ = read_file(checkout_ / "program.md");
  } catch (const Error& error) {
    log_warning(std::string(error.what()) + "; going on with the last one");
  }
  return program_;
}

PromptInputs Loop::briefing(const std::string& source) {
  PromptInputs inputs;
  inputs.program = program();
  inputs.harness = read_file(run_dir_ / "kit" / "harness" / "harness.h");
  inputs.kernels = read_file(run_dir_ / "kit" / "harness" / "kernels.h");
  inputs.source = source;
  inputs.past = past_of(state_);
  inputs.backlog = state_.backlog;
  inputs.measurements = measurements_of(state_, [this](int64_t n) {
    return known_facts(trainer_record(folder(n)), trainer_record(folder(0)));
  });
  inputs.max_tokens = prompt_tokens(options_.context_tokens);
  inputs.cuda = bench_.gpu;
  if (options_.max_experiments > 0 || options_.max_hours > 0)
    inputs.left = std::llround(experiments_left());
  return inputs;
}

Dialogue Loop::begin_dialogue(int64_t n) {
  const bool ready = models_ && models_->proposers().ready();
  const bool tuner_turn =
      !ready || (!exhausted_ && refusals_ % (kRefusalsInARow + 1) == kRefusalsInARow);
  PromptInputs inputs = briefing(history_->source_at(state_.champion));
  if (const auto known = fitting_.find(tuner_turn ? "" : models_->proposers().next());
      known != fitting_.end())
    inputs.max_tokens = std::min(inputs.max_tokens, known->second);
  Dialogue dialogue(
      tuner_turn ? nullptr : &models_->proposers(), std::move(inputs), bench_.gpu ? "cuda" : "cpu",
      static_cast<uint64_t>(n),
      [this](const std::string& source) {
        return known_result(state_, source) || refused_.contains(code_fingerprint(source));
      },
      tuner_turn ? nullptr : models_->repairer());
  const std::string& left_out = dialogue.prompt().left_out;
  if (!left_out.empty() && prompt_note_.empty()) log_info("prompt      from now on: " + left_out);
  if (!left_out.empty()) prompt_note_ = left_out;
  return dialogue;
}

// Whether the prompt fits into the model's context, and what that costs: told before the first
// experiment, from the champion or from what will be the baseline.
void Loop::check_prompt() {
  if (!models_) return;
  const Prompt prompt =
      first_prompt(briefing(state_.champion.empty() ? read_file(checkout_ / "train.cpp")
                                                    : history_->source_at(state_.champion)));
  const auto tokens = static_cast<long long>(prompt.tokens);
  const auto most = static_cast<long long>(prompt_tokens(options_.context_tokens));
  check(
      tokens <= most,
      format("the prompt takes about %lld tokens at its shortest, and a context of %lld leaves it "
             "%lld; use a model with more context and --context-tokens %lld",
             tokens, static_cast<long long>(options_.context_tokens), most,
             tokens * kContextTokens / kPromptTokens + 1));
  log_info(format("prompt      about %lld tokens of at most %lld", tokens, most) +
           (prompt.left_out.empty() ? "" : ": " + prompt.left_out));
  prompt_note_ = prompt.left_out;
}

// ------------------------------------------------------------------------------------------------
// The record, and what a user sees

void Loop::append(json event) {
  journal_->append(std::move(event));
  state_ = replay(journal_->events());
}

// Everything that follows from the journal. Idempotent: done after every verdict and at every
// start.
void Loop::derive() {
  write_file(run_dir_ / "results.tsv", results_tsv(state_));
  write_file(run_dir_ / "report.html", report_html(state_, options_.tag));
  if (!state_.champion.empty()) {
    history_->set_ref("champion", state_.champion);
    const auto at = history_->branch();
    const bool ours = !at || std::any_of(state_.experiments.begin(), state_.experiments.end(),
                                         [&](const Experiment& e) { return e.commit == *at; });
    const auto note =
        at == state_.champion ? std::nullopt
        : ours                ? history_->move_branch(state_.champion, at.value_or(""))
                              : std::optional<std::string>("branch autoresearch/" + options_.tag +
                                            " was moved by somebody else and is left alone");
    if (note && *note != branch_note_) log_warning(*note);
    branch_note_ = note.value_or("");
  }
  for (const auto& [link, target] : {std::pair{checkout_ / "results.tsv", run_dir_ / "results.tsv"},
                                     std::pair{checkout_ / "runs", run_dir_.parent_path()}})
    if (const std::string note = point_link(link, target); !note.empty()) log_warning(note);
}

void Loop::speak_after(int64_t n) {
  log_info(experiment_line(state_, n));
  if (const std::string slow = slow_operations(state_); n == 0 && !slow.empty()) log_warning(slow);
  const auto& all = state_.experiments;
  if (n > 0 && !said_safe_ && all.back().status != "crash" && seconds_each()) {
    said_safe_ = true;
    const double count = experiments_left();
    if (count >= 1)
      log_info(format("safe to leave: about %.0f more experiments by %s", count,
                      clock_time(count * *seconds_each()).c_str()));
  }
  if (n != kFailuresAlike) return;
  for (int64_t i = 2; i <= n; ++i)
    if (all[static_cast<size_t>(i)].status != "crash" ||
        all[static_cast<size_t>(i)].reason != all[1].reason)
      return;
  if (all[1].status == "crash")
    log_warning(
        format("the first %d experiments failed alike: %s", kFailuresAlike, all[1].reason.c_str()));
}

// After the first calls that were answered, what the night will cost. That a model was there, which
// is asked before the first experiment, tells nothing of it.
void Loop::estimate_cost() {
  if (said_estimate_ || !models_) return;
  const Spending spending = spending_of(journal_->events(), /*from_experiment=*/1);
  if (spending.calls - spending.failed < kTellingCalls) return;
  said_estimate_ = true;
  log_info(night_estimate(spending, asking_for_, experiments_left()));
}

// Of an experiment, proposal included, as the latest measured one took.
std::optional<double> Loop::seconds_each() const {
  constexpr double kProposal = 15;
  for (auto e = state_.experiments.rbegin(); e != state_.experiments.rend(); ++e) {
    if (!e->measured) continue;
    return e->measured->value("wall_seconds", bench_.budget) +
           e->measured->value("score_seconds", 0.0) + kProposal;
  }
  return std::nullopt;
}

// How many more this run will make; without --max-hours, in a night of eight hours.
double Loop::experiments_left() const {
  const double night = 3600 * (options_.max_hours > 0 ? options_.max_hours : 8.0);
  double count = (night - (boot_seconds() - started_)) / seconds_each().value_or(bench_.budget);
  const auto done = static_cast<int64_t>(state_.experiments.size()) - 1;
  if (options_.max_experiments > 0)
    count = std::min(count, static_cast<double>(options_.max_experiments - done));
  return std::max(0.0, count);
}

std::optional<std::string> Loop::reason_to_stop() const {
  if (interrupt_requested()) throw Interrupted{};
  const auto done = static_cast<int64_t>(state_.experiments.size()) - 1;
  if (options_.max_experiments > 0 && done >= options_.max_experiments)
    return "--max-experiments " + std::to_string(options_.max_experiments) + " reached";
  if (options_.max_hours > 0 && boot_seconds() - started_ >= 3600 * options_.max_hours)
    return format("--max-hours %g reached", options_.max_hours);
  if (exhausted_ && !models_) return provider_note_;
  if (exhausted_ && !std::isfinite(models_->proposers().seconds_until_ready()))
    return "no model can be asked any more, and the builtin proposer has nothing left";
  if (refusals_ >= kGiveUp)
    return format("%d proposals in a row came to nothing, the last: ", kGiveUp) + provider_note_;
  return std::nullopt;
}

// Called where `error` is caught. An error of the loop's own (a disk that is full for a moment, a
// folder that vanished, a repository that is locked) costs the experiment it happened in and a
// pause, not the night. Several in a row are thrown on.
void Loop::survive(const std::exception& error) {
  if (++errors_ >= kErrorsInARow || state_.champion.empty()) throw;
  log_warning(error.what());
  const Experiment last = state_.experiments.back();
  if (last.status.empty() && last.measured)
    decide(last.n, *last.measured);
  else if (last.status.empty())
    give_verdict(last.n, {"crash", "the loop failed: " + one_line(error.what(), 200)});
  else
    refuse(last.n + 1, "agent", error.what());
  const double until = boot_seconds() + kErrorPause * errors_;
  while (boot_seconds() < until && !reason_to_stop()) rest();
}

std::string Loop::work() {
  recover();
  if (state_.experiments.empty())
    baseline();
  else
    log_info(experiment_header());
  while (true) {
    if (auto why = reason_to_stop()) return *why;
    try {
      experiment();
      errors_ = 0;
    } catch (const DurabilityError&) {
      throw;
    } catch (const std::exception& error) {
      survive(error);
    }
  }
}

int Loop::run() {
  check_place_and_task();
  check_sandbox_and_models();
  open_run();
  std::string why, problem;
  int code = kDone;
  try {
    why = work();
  } catch (const Interrupted&) {
    why = "interrupted; the same command goes on";
    code = kInterrupted;
  } catch (const TaskChanged&) {
    why = "the task " + task_.name + " was made anew during the run; start a new --tag";
    code = kError;
  } catch (const std::exception& error) {
    if (state_.champion.empty()) throw;
    why = problem = error.what();
    code = kError;
  }
  if (problem.empty()) append({{"event", "stop"}, {"why", why}});
  std::cout << closing_lines(state_, why, run_dir_, history_->restore_command(state_.champion))
            << std::flush;
  return code;
}

// ------------------------------------------------------------------------------------------------
// The command line

void add_run_options(CLI::App& run, Options& options) {
  run.add_option("--tag", options.tag, "name of the run; the same name goes on with it")
      ->required();
  run.add_option("--task", options.task, "task that `prepare` made")->capture_default_str();
  add_model_options(run, options.models);
  run.add_option("--context-tokens", options.context_tokens,
                 "the model's context; below 32000 the prompt tells less of the run")
      ->check(CLI::Range(int64_t{1000}, int64_t{1} << 40))
      ->capture_default_str();
  run.add_option("--max-experiments", options.max_experiments, "stop after so many, baseline aside")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 40));
  run.add_option("--max-hours", options.max_hours, "stop after so many hours")
      ->check(CLI::Range(0.0, 1e6));
  run.add_option("--device", options.device, "auto, cpu, cuda or cuda:N")->capture_default_str();
  run.add_option("--seed", options.seed, "seed of every training run")->capture_default_str();
  run.add_option("--sandbox", options.sandbox, "auto or off")
      ->check(CLI::IsMember({"auto", "off"}))
      ->capture_default_str();
  run.add_option("--data", options.data, "folder of tasks and runs");
}

int status(const std::string& tag) {
  const fs::path run_dir = data_dir() / "runs" / tag;
  check(fs::exists(run_dir / "journal.jsonl"), "no run " + tag + " in " +
                                                   run_dir.parent_path().string() + "; see: ls " +
                                                   run_dir.parent_path().string());
  const RunState state = replay(read_journal(run_dir / "journal.jsonl"));
  std::cout << experiment_header() << "\n";
  for (const Experiment& e : state.experiments)
    if (!e.status.empty()) std::cout << experiment_line(state, e.n) << "\n";
  std::cout << proposer_lines(state);
  return kDone;
}

int main_program(int argc, char** argv) {
  Options options;
  CLI::App app("Improves train.cpp all night: proposes, builds, trains, scores, keeps or reverts.");
  app.require_subcommand(1);
  CLI::App& run = *app.add_subcommand("run", "start a run, or go on with one");
  app.set_config("--config", "", "TOML file; the options of run stand under [run]");
  app.config_formatter(toml_config());
  run.configurable();
  run.fallthrough();
  app.allow_config_extras(false);
  add_run_options(run, options);
  CLI::App& show = *app.add_subcommand("status", "the experiments of a run so far");
  show.add_option("--tag", options.tag, "name of the run")->required();
  show.add_option("--data", options.data, "folder of tasks and runs");
  const auto housekeeping = add_commands(app);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);
    throw Error(std::string(error.what()) + "; build/agent run --help lists what there is", kUsage);
  }
  if (const auto code = housekeeping()) return *code;
  if (run.count("--context-tokens") > 0)
    options.models.first.context_tokens = options.context_tokens;
  if (!options.data.empty()) setenv("AUTORESEARCH_DATA", options.data.c_str(), 1);
  if (show.parsed()) return status(options.tag);
  watch_for_interrupt();
  adopt_orphans();
  keep_memory_private();
  return Loop(options).run();
}

}  // namespace
}  // namespace autoresearch

int main(int argc, char** argv) {
  autoresearch::set_up_log("agent");
  try {
    return autoresearch::main_program(argc, argv);
  } catch (const autoresearch::Error& error) {
    std::cerr << "agent: error: " << error.what() << "\n";
    return error.code;
  } catch (const std::exception& error) {
    std::cerr << "agent: error: " << error.what() << "\n";
    return autoresearch::kError;
  }
}
