// agent.cpp: the night shift. Reads program.md, asks for an edit of train.cpp, builds it, trains
// it, lets `score` judge the sealed model, keeps or reverts, until it is told to stop.
//
//   build/agent run --tag NAME --task NAME [--provider openai --model ID]
//
// Here stand the options, the checks that cost seconds instead of a night, and the order in which
// the parts are put together. What the loop does next is decided in agent/loop/plan.cpp, done in
// agent/loop/night.cpp, and recorded by agent/record. What a candidate can't do stands in
// docs/protection.md.

#include <CLI/CLI.hpp>
#include <cmath>
#include <iostream>
#include <memory>
#include <optional>

#include "agent/lab/machine.h"
#include "agent/loop/commands.h"
#include "agent/loop/doctor.h"
#include "agent/loop/forecast.h"
#include "agent/loop/local_store.h"
#include "agent/loop/local_workers.h"
#include "agent/loop/night.h"
#include "agent/loop/notify.h"
#include "agent/loop/options.h"
#include "agent/loop/place.h"
#include "agent/loop/remeasure.h"
#include "agent/loop/toml_config.h"
#include "agent/propose/task_text.h"
#include "agent/record/report.h"
#include "common/error.h"
#include "common/failure.h"
#include "common/log.h"
#include "common/sandbox.h"
#include "common/version.h"
#include "task/task.h"

namespace autoresearch {
namespace {

// ------------------------------------------------------------------------------------------------
// Before the first experiment: everything a run needs is checked, so that a mistake costs seconds

Site site_of(const Options& options, bool model_written) {
  return {.checkout = fs::current_path(),
          .build = program_folder(),
          .run = run_folder(options.tag).path,
          .task = options.task,
          .device = options.device,
          .model_written = model_written,
          .sandbox = options.sandbox};
}

// Refuses to go on with a run whose figures would not compare.
event::Start check_identity(const Options& options, const RunState& state, const Slot& slot,
                            const Kit& kit, const History& history) {
  check(state.start || !history.ref("0000"),
        "tag " + options.tag + " was used before, its commits are in refs/autoresearch/" +
            options.tag + " here; choose a new --tag");
  const event::Start start = {.tag = options.tag,
                              .task_name = load_task(slot.task).name,
                              .provider = {},
                              .task = sha256_of_file(slot.task / "task.json"),
                              .kit = kit.fingerprint(),
                              .device = options.device,
                              .machine = machine_name(),
                              .seed = options.seed,
                              .from = {},
                              .sandbox = !slot.sandboxed        ? "off"
                                         : landlock_is_chosen() ? "landlock"
                                                                : "bubblewrap"};
  if (!state.start) return start;
  const auto same = [&](const char* what, bool equal) {
    check(equal, "tag " + options.tag + " was started with another " + what +
                     ", so figures would not compare; choose a new --tag");
  };
  same("task", state.start->task == start.task);
  same("kit", state.start->kit == start.kit);
  same("device", state.start->device == start.device);
  same("machine", state.start->machine == start.machine);
  same("seed", state.start->seed == start.seed);
  for (const std::string& commit : {first_commit(state), state.champion})
    check(commit.empty() || history.has(commit),
          "the commits of run " + options.tag + " are not in " + history.repository().string() +
              "; type the command in the checkout in which it began");
  return start;
}

RunState state_of(const std::string& tag) {
  const RunFolder folder = run_folder(tag);
  const std::string runs = folder.path.parent_path().string();
  check(fs::exists(folder.journal()), "no run " + tag + " in " + runs + "; see: ls " + runs);
  return replay(read_journal(folder.journal()));
}

// What the baseline is: the checkout's train.cpp, or the champion of another run, which
// event::Start names. Later starts need the other run no more.
struct First {
  fs::path source;
  std::string from;
};
First first_source(const Options& options, const RunState& state, const fs::path& checkout) {
  if (options.from.empty() || !state.experiments.empty()) return {checkout / "train.cpp", ""};
  const RunState other = state_of(options.from);
  check(!other.champion.empty(), "run " + options.from + " has no champion to begin with yet");
  log_info("baseline    the champion of run " + options.from);
  return {run_folder(options.from).champion(other.champion).source(),
          options.from + " #" + std::to_string(other.champion_n) + " " + other.champion};
}

// ------------------------------------------------------------------------------------------------
// The run

struct Ended {
  std::string why;
  int code = kDone;
};

// Plays the night to its end. Throws Error only if there is no champion: then there is nothing that
// the user could be told or given.
Ended play(Night& night) {
  try {
    const step::Stop stop = night.run();
    return {stop.why, stop.kind == step::Stop::kInterrupted   ? kInterrupted
                      : stop.kind == step::Stop::kTaskChanged ? kError
                                                              : kDone};
  } catch (const std::exception& error) {
    if (night.state().champion.empty()) throw;
    return {error.what(), kError};
  }
}

int run(const Options& options) {
  History::check_tag(options.tag);
  check(std::isfinite(options.max_hours), "--max-hours must be a number of hours");
  const RunFolder folder = run_folder(options.tag);
  // Before anything is made: what an earlier start spent on models, and what was replayed.
  const std::vector<Entry> earlier =
      fs::exists(folder.journal()) ? read_journal(folder.journal()) : std::vector<Entry>();
  const auto clock = steady_wall_clock(time_of_last(earlier));
  const double started = clock(), by_the_wall = wall_clock();
  ModelOptions asked = options.models;
  asked.first.given = replies_in(earlier);
  const auto models = make_models(asked, calls_in(earlier));
  const bool model_written = models || (options.only_proof && options.provider != "builtin");
  const Site site = site_of(options, model_written);
  Slot slot = good_site(site);
  slot.seed = options.seed;
  if (!model_written)
    log_info("model       none: the builtin proposer changes hyperparameters; --provider asks one");

  // From here on the run has a folder, and the journal is this agent's alone.
  FreshFolder fresh(folder.path);
  Journal journal(folder.journal(), clock);
  RunState state = replay(journal.earlier());
  const bool begun = !first_commit(state).empty();
  History history(site.checkout, folder.git(), options.tag, "train.cpp", begun);
  fs::create_directories(folder.experiments());
  const Kit kit = Kit::open_or_create(site.build, kits_dir(), state.start ? state.start->kit : "");
  log_info("run         " + folder.path.string());
  if (history.own_repository())
    log_info("            " +
             repository_note(history.own_reason(), site.checkout, history.repository()));
  event::Start start = check_identity(options, state, slot, kit, history);
  start.provider = models ? models->proposers().name() : "builtin";
  const First first = first_source(options, state, site.checkout);
  start.from = first.from;
  const Settings settings =
      settings_of(options, state, slot, models != nullptr, {started, by_the_wall});
  if (std::isfinite(settings.deadline)) start.deadline = by_the_wall + settings.given;
  start.max_experiments = settings.max_experiments;
  start.only_proof = settings.only_proof;
  apply(state, journal.append(start));

  Proposer::Setup setup;
  setup.checkout = site.checkout;
  setup.run = folder;
  setup.headers = kit.folder();
  if (models) setup.task = task_text(load_task(slot.task), slot, training_passages(slot.task));
  setup.cuda = slot.gpu;
  setup.memory_bytes = slot.memory_bytes;
  setup.context_tokens = options.context_tokens;
  setup.source_at = [&](const std::string& commit) { return history.source_at(commit); };
  setup.left = [&](const RunState& state) -> std::optional<int64_t> {
    if (settings.max_experiments == 0 && !std::isfinite(settings.deadline)) return std::nullopt;
    return std::llround(experiments_left(state, settings, slot.budget, started, clock()));
  };
  Proposer proposer(std::move(setup), models.get());
  // A prompt that does not fit and a model that does not answer end the run before the first build.
  if (models) {
    log_info(check_prompt(
        proposer.first_prompt_of(state, state.champion.empty() ? read_file(first.source)
                                                               : history.source_at(state.champion)),
        options.context_tokens));
    models->ledger().record_with(
        [&](const CallEvent& event) { apply(state, journal.append(as_event(event))); });
    models->introduce(/*first_start=*/state.experiments.empty());
  }
  fresh.keep();

  LocalStore store(site.checkout, first.source, folder, options.tag, history, log_warning);
  LocalWorkers workers(kit, slot, folder, proposer, models.get(), start.task, clock);
  if (!state.experiments.empty()) log_info(experiment_header());
  Notifier notifier(options.notify);
  Night* the_night = nullptr;  // which is told what to say before it is there
  const auto notify = [&](Notice notice, const std::string& words) {
    notifier.tell(notice, options.tag, words,
                  closing_lines(the_night->state(), notice == Notice::kEnd ? words : "", folder));
  };
  Night night(journal, std::move(state), store, workers, settings, slot.budget,
              {log_info, log_warning, notify});
  the_night = &night;
  const Ended ended = play(night);
  std::cout << closing_lines(night.state(), ended.why, folder) << std::flush;
  return ended.code;
}

// ------------------------------------------------------------------------------------------------
// The command line

// All that the run was begun with stands in its journal.
int verify(Options options) {
  const RunState state = state_of(options.tag);
  check(state.champion_n > 0, "run " + options.tag + " has kept nothing, so nothing can be proven");
  options.only_proof = true;
  if (options.task.empty()) options.task = state.start->task_name;
  options.device = state.start->device;
  options.seed = state.start->seed;
  options.provider = state.start->provider;
  return run(options);
}

int main_program(int argc, char** argv) {
  Options options;
  CLI::App app("Improves train.cpp all night: proposes, builds, trains, scores, keeps or reverts.");
  app.require_subcommand(1);
  app.set_version_flag("--version", [] { return version_of("agent"); });
  CLI::App& night = *app.add_subcommand("run", "start a run, or continue one");
  add_config_file(app, night);
  add_run_options(night, options);
  Options proof;
  proof.task.clear();  // by default that of the run
  CLI::App& prove = *app.add_subcommand("verify", "measure the gain of a run again, and prove it");
  add_verify_options(prove, proof);
  Remeasuring again;
  CLI::App& carry = *app.add_subcommand(
      "remeasure", "train baseline and champion again: does the gain carry over?");
  add_remeasure_options(carry, again);
  Options place;
  CLI::App& look =
      *app.add_subcommand("doctor", "check everything that a run needs, and say what to fix");
  add_place_options(look, place);
  const auto housekeeping = add_commands(app);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);
    const auto parsed = app.get_subcommands();
    const std::string help = (parsed.empty() ? "" : parsed[0]->get_name() + " ") + "--help";
    throw Error(std::string(error.what()) + "; build/agent " + help + " lists what there is",
                kUsage);
  }
  // Commands that only look or tidy end here: none of them leaves a process behind.
  if (const auto code = housekeeping()) return *code;
  if (night.count("--context-tokens") > 0)
    options.models.first.context_tokens = options.context_tokens;
  for (const std::string& data : {proof.data, place.data, again.data})
    if (!data.empty()) options.data = data;
  if (!options.data.empty()) setenv("AUTORESEARCH_DATA", options.data.c_str(), 1);
  if (look.parsed()) {
    const auto models = make_models(place.models, {});
    return doctor(site_of(place, models != nullptr), models.get());
  }
  watch_for_interrupt(/*gently=*/true);
  adopt_orphans();
  keep_memory_private();
  if (carry.parsed()) return remeasure(program_folder(), again);
  return prove.parsed() ? verify(proof) : run(options);
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
    std::cerr << "agent: error: " << autoresearch::failure_in_words(error) << "\n";
    return autoresearch::kError;
  }
}
