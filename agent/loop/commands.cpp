#include "agent/loop/commands.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <string>

#include "agent/loop/housekeeping.h"
#include "agent/loop/place.h"
#include "agent/record/history.h"
#include "common/error.h"
#include "common/text.h"

namespace autoresearch {
namespace {

struct Options {
  std::string tag, data;
  bool yes = false;
};

// Asks at a terminal; without one nobody can say yes but --yes.
bool is_confirmed(const Options& options) {
  if (options.yes) return true;
  if (isatty(STDIN_FILENO) != 1) {
    std::cout << "nothing was removed; add --yes to remove it\n";
    return false;
  }
  std::cout << "Remove this? [y/N] " << std::flush;
  std::string answer;
  std::getline(std::cin, answer);
  answer = lower(trim(answer));
  if (answer == "y" || answer == "yes") return true;
  std::cout << "nothing was removed\n";
  return false;
}

fs::path run_dir_of(const std::string& tag) {
  History::check_tag(tag);
  const fs::path folder = data_dir() / "runs" / tag;
  check(fs::is_directory(folder),
        "no run " + tag + " in " + folder.parent_path().string() + "; see: build/agent runs");
  return folder;
}

int list_runs(const Options&) {
  const std::vector<RunSummary> runs = all_runs(data_dir());
  if (runs.empty()) {
    std::cout << "no runs in " << (data_dir() / "runs").string()
              << "; start one: build/agent run --tag NAME --task NAME\n";
    return kDone;
  }
  std::cout << runs_table(runs)
            << "kits of these runs: " << human_bytes(disk_usage(data_dir() / "kits"))
            << "; what no run needs goes with: build/agent prune\n";
  return kDone;
}

int delete_run(const Options& options) {
  check(options.yes || isatty(STDIN_FILENO) == 1,
        "delete asks first, and there is no terminal to answer at; add --yes");
  const Remains remains = remains_of(data_dir(), options.tag, fs::current_path());
  std::cout << "run " << options.tag << ":\n" << describe(remains) << std::flush;
  if (!is_confirmed(options)) return kDone;
  remove(remains);
  std::cout << "run " << options.tag << " is deleted\n";
  return kDone;
}

// What can go now, of `shown` if that is given: an answer may take long, and what was of no use
// then may be in use by now.
std::vector<Leftover> find_leftovers(const std::vector<RunSummary>& runs,
                                     const std::vector<Leftover>* shown) {
  std::vector<Leftover> found = leftovers(data_dir(), runs, std::time(nullptr));
  std::erase_if(found, [&](const Leftover& now) {
    return shown && std::none_of(shown->begin(), shown->end(),
                                 [&](const Leftover& then) { return then.path == now.path; });
  });
  return found;
}

int prune(const Options& options) {
  const std::vector<RunSummary> runs = all_runs(data_dir());
  const std::vector<Leftover> found = find_leftovers(runs, nullptr);
  if (const std::string why = why_kits_stay(runs); !why.empty()) std::cout << why << "\n";
  std::cout << describe(found) << std::flush;
  if (found.empty()) {
    std::cout << "nothing to remove in " << data_dir().string() << "\n";
    return kDone;
  }
  if (!is_confirmed(options)) return kDone;
  remove(find_leftovers(all_runs(data_dir()), &found));
  std::cout << "removed\n";
  return kDone;
}

int pause(const Options& options) {
  const fs::path folder = run_dir_of(options.tag);
  check(!summary_of(folder).holder.empty(),
        "run " + options.tag +
            " is not running, so there is nothing to pause; see: build/agent runs");
  set_paused(folder, true);
  std::cout << "run " << options.tag << " pauses; to go on: build/agent resume --tag "
            << options.tag << "\n";
  return kDone;
}

int resume(const Options& options) {
  const fs::path folder = run_dir_of(options.tag);
  check(is_paused(folder), "run " + options.tag + " is not paused; see: build/agent runs");
  set_paused(folder, false);
  const bool alive = !summary_of(folder).holder.empty();
  std::cout << "run " << options.tag
            << (alive ? " goes on\n"
                      : " is no longer paused; start it by the command that began it\n");
  return kDone;
}

}  // namespace

std::function<std::optional<int>()> add_commands(CLI::App& app) {
  // CLI11 writes to both while it parses, and what is returned reads them afterwards.
  const auto options = std::make_shared<Options>();
  const auto chosen = std::make_shared<std::function<int(const Options&)>>();
  const auto add = [&](const char* name, const char* what, int (*action)(const Options&)) {
    CLI::App* command = app.add_subcommand(name, what);
    command->add_option("--data", options->data, "folder of tasks and runs");
    command->callback([chosen, action] { *chosen = action; });
    return command;
  };
  const auto add_for_a_run = [&](const char* name, const char* what,
                                 int (*action)(const Options&)) {
    CLI::App* command = add(name, what, action);
    command->add_option("--tag", options->tag, "name of the run")->required();
    return command;
  };
  add("runs", "list the runs: task, state, best, size", list_runs);
  add_for_a_run("delete", "delete a run: its folder, its commits' refs, its branch", delete_run)
      ->add_flag("--yes", options->yes, "without asking");
  add("prune", "show what no run needs, and remove it", prune)
      ->add_flag("--yes", options->yes, "without asking");
  add_for_a_run("pause", "let a run finish its experiment and wait", pause);
  add_for_a_run("resume", "let a paused run go on", resume);
  return [options, chosen]() -> std::optional<int> {
    if (!*chosen) return std::nullopt;
    if (!options->data.empty()) setenv("AUTORESEARCH_DATA", options->data.c_str(), 1);
    return (*chosen)(*options);
  };
}

}  // namespace autoresearch
