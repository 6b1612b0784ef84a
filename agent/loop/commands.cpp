#include "agent/loop/commands.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <string>
#include <thread>

#include "agent/edit/diff.h"
#include "agent/edit/edit.h"
#include "agent/llm/llm.h"
#include "agent/loop/housekeeping.h"
#include "agent/loop/place.h"
#include "agent/loop/status.h"
#include "agent/propose/dialogue.h"
#include "agent/record/export.h"
#include "agent/record/history.h"
#include "agent/record/journal.h"
#include "agent/record/page.h"
#include "agent/record/page_detail.h"
#include "agent/record/show.h"
#include "common/error.h"
#include "common/failure.h"
#include "common/text.h"

namespace autoresearch {
namespace {

struct Options {
  std::string tag, other_tag, data, to, file, source = "train.cpp";
  int64_t n = 0;
  double older_than = 0;  // days; 0: old runs stay
  bool yes = false, watch = false, json = false, diff = false, prompt = false;
};

// Asks at a terminal; without one nobody can say yes but --yes.
bool is_confirmed(const Options& options) {
  if (options.yes) return true;
  if (isatty(STDIN_FILENO) != 1) {
    std::cout << "nothing was removed; add --yes to remove it\n";
    return false;
  }
  if (says_yes("Remove this?")) return true;
  std::cout << "nothing was removed\n";
  return false;
}

fs::path run_dir_of(const std::string& tag) {
  History::check_tag(tag);
  const fs::path folder = run_folder(tag).path;
  check(fs::is_directory(folder),
        "no run " + tag + " in " + folder.parent_path().string() + "; see: build/agent runs");
  return folder;
}

int list_runs(const Options&) {
  const std::vector<RunSummary> runs = all_runs(data_dir());
  if (runs.empty()) {
    std::cout << "no runs in " << runs_dir().string()
              << "; start one: build/agent run --tag NAME --task NAME\n";
    return kDone;
  }
  std::cout << runs_table(runs) << "kits of these runs: " << human_bytes(disk_usage(kits_dir()))
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

// Takes those out of `runs` in which nothing has happened for so many days, and shows what deleting
// them would remove.
std::vector<Remains> show_old(std::vector<RunSummary>& runs, double days) {
  std::vector<Remains> old;
  if (days <= 0) return old;
  for (const RunSummary& run : take_idle(runs, std::time(nullptr), days)) {
    try {
      old.push_back(remains_of(data_dir(), run.tag, fs::current_path()));
      std::cout << "run " << run.tag << ":\n" << describe(old.back());
    } catch (const std::exception& error) {
      std::cout << "run " << run.tag << " stays: " << failure_in_words(error) << "\n";
      runs.push_back(run);  // and so does what it needs
    }
  }
  return old;
}

// Deletes those that are still as old: an answer may take long. Returns why others stay.
std::string delete_old(const std::vector<Remains>& old, double days) {
  if (old.empty()) return "";
  std::vector<RunSummary> runs = all_runs(data_dir());
  const std::vector<RunSummary> idle = take_idle(runs, std::time(nullptr), days);
  std::string stays;
  for (const Remains& shown : old) {
    if (std::none_of(idle.begin(), idle.end(),
                     [&](const RunSummary& run) { return run.tag == shown.tag; })) {
      std::cout << "run " << shown.tag << " stays: it is no longer idle, or it is gone\n";
      continue;
    }
    try {
      remove(remains_of(data_dir(), shown.tag, fs::current_path()));
    } catch (const std::exception& error) {
      stays += fmt::format("{}run {} stays: {}", stays.empty() ? "" : "; ", shown.tag,
                           failure_in_words(error));
    }
  }
  return stays;
}

// The old runs first: what only they need goes with them.
int prune(const Options& options) {
  std::vector<RunSummary> runs = all_runs(data_dir());
  const std::vector<Remains> old = show_old(runs, options.older_than);
  const std::vector<Leftover> found = find_leftovers(runs, nullptr);
  if (const std::string why = why_kits_stay(runs); !why.empty()) std::cout << why << "\n";
  std::cout << describe(found) << std::flush;
  if (found.empty() && old.empty()) {
    std::cout << "nothing to remove in " << data_dir().string() << "\n";
    return kDone;
  }
  if (!is_confirmed(options)) return kDone;
  const std::string stays = delete_old(old, options.older_than);
  remove(find_leftovers(all_runs(data_dir()), &found));
  check(stays.empty(), stays);
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

// ------------------------------------------------------------------------------------------------
// Reading a run

// The run that --tag names, or the one whose journal changed last.
RunFolder run_to_read(const Options& options) {
  if (!options.tag.empty()) {
    const RunFolder folder{run_dir_of(options.tag)};
    check(fs::exists(folder.journal()),
          "run " + options.tag + " has not begun; see: build/agent runs");
    return folder;
  }
  const fs::path runs = runs_dir();
  RunFolder newest;
  std::error_code none, ignored;
  for (const auto& entry : fs::directory_iterator(runs, none)) {
    const RunFolder folder{entry.path()};
    if (entry.path().filename().string().starts_with('.') || !fs::exists(folder.journal(), ignored))
      continue;
    if (newest.path.empty() || fs::last_write_time(folder.journal(), ignored) >
                                   fs::last_write_time(newest.journal(), ignored))
      newest = folder;
  }
  check(!none || none == std::errc::no_such_file_or_directory,
        fmt::format("can't read {}: {}; name the folder of tasks and runs: --data FOLDER",
                    runs.string(), none.message()));
  check(!newest.path.empty(),
        "no run in " + runs.string() + "; start one: build/agent run --tag NAME --task NAME");
  return newest;
}

RunState state_of(const RunFolder& folder) { return replay(read_journal(folder.journal())); }

size_t terminal_columns() {
  constexpr size_t kWithout = 160;
  winsize size = {};
  if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  const char* columns = std::getenv("COLUMNS");
  const long number = columns ? std::strtol(columns, nullptr, 10) : 0;
  return number > 0 ? static_cast<size_t>(number) : kWithout;
}

// https://no-color.org
bool colours_wanted() {
  const auto set = [](const char* name) {
    const char* value = std::getenv(name);
    return value ? std::string(value) : std::string();
  };
  return isatty(STDOUT_FILENO) == 1 && set("NO_COLOR").empty() && set("TERM") != "dumb";
}

int status(const Options& options) {
  const RunFolder folder = run_to_read(options);
  constexpr auto kWatch = std::chrono::seconds(2);
  while (true) {
    const RunStatus status = status_of(folder, wall_clock());
    if (options.json) {
      std::cout << status_json(status).dump(options.watch ? -1 : 2, ' ', false,
                                            nlohmann::json::error_handler_t::replace)
                << std::endl;
    } else {
      // Home, then clear what is below: the screen does not flicker.
      if (options.watch && isatty(STDOUT_FILENO) == 1) std::cout << "\x1b[H\x1b[J";
      std::cout << status_text(status, terminal_columns(), colours_wanted()) << std::endl;
    }
    if (!options.watch || status.holder.empty()) return kDone;
    std::this_thread::sleep_for(kWatch);
  }
}

int show(const Options& options) {
  const RunFolder folder = run_to_read(options);
  const RunState state = state_of(folder);
  const std::string tag = folder.path.filename();
  check(options.n >= 0 && options.n < state.next_n(),
        fmt::format("run {} has no experiment {}; {}", tag, options.n,
                    state.next_n() > 0 ? fmt::format("its last one is {}", state.next_n() - 1)
                                       : "it has none yet"));
  if (!options.diff && !options.prompt) {
    std::cout << experiment_text(folder, state, options.n);
    return kDone;
  }
  for (const auto& [wanted, path] :
       {std::pair{options.diff, folder.experiment(options.n).diff()},
        std::pair{options.prompt, folder.experiment(options.n).prompt()}}) {
    if (!wanted) continue;
    check(fs::exists(path),
          fmt::format("experiment {} has no {}: {}", options.n, path.filename().string(),
                      options.n == 0                ? "it is the baseline"
                      : path.extension() == ".diff" ? "it was removed"
                                                    : "no model was asked"));
    std::cout << plain_text(read_file(path));
  }
  return kDone;
}

int report(const Options& options) {
  const RunFolder folder = run_to_read(options);
  RunState state = state_of(folder);
  const bool alive = !status_of(folder, wall_clock()).holder.empty();
  if (!alive && state.stopped.empty())
    state.stopped = "it was killed; the same command goes on with it";
  write_file(folder.report(), ReportPage(folder).html(state, wall_clock()));
  std::cout << folder.report().string() << "\n";
  return kDone;
}

int export_wins(const Options& options) {
  const RunFolder folder = run_to_read(options);
  const fs::path to = options.to.empty() ? folder.exported() : fs::path(options.to);
  std::cout << export_run(folder, state_of(folder), fs::absolute(to));
  return kDone;
}

// What the loop makes of a model's reply, by the functions that it calls itself.
int try_reply(const Options& options) {
  const std::string source = read_file(options.source);
  const std::string printed = options.file == "-"
                                  ? std::string(std::istreambuf_iterator<char>(std::cin), {})
                                  : read_file(options.file);
  const auto edit = apply_reply(source, reply_in(printed), false, /*allow_whole_file=*/false);
  if (const auto* feedback = std::get_if<Feedback>(&edit)) {
    std::cout << "The reply does not apply to " << options.source
              << ". The model would be told:\n\n"
              << plain_text(
                     feedback_prompt({Failure::kEdit, feedback->text}, false, kMaxCalls - 1));
    return kError;
  }
  const auto& [proposal, edited] = std::get<Edit>(edit);
  std::cout << "The reply applies to " << options.source
            << ".\n\nidea: " << one_line(proposal.idea, 200)
            << "\nwhy:  " << one_line(proposal.why, 1000) << "\n";
  for (const std::string& next : proposal.next)
    std::cout << "next: " << one_line(next, 1000) << "\n";
  std::cout << "\n"
            << plain_text(unified_diff(source, edited, fs::path(options.source).filename()));
  return kDone;
}

int compare(const Options& options) {
  const auto state = [&](const std::string& tag) {
    Options one = options;
    one.tag = tag;
    return state_of(run_to_read(one));
  };
  std::cout << comparison_text(state(options.tag), state(options.other_tag));
  return kDone;
}

}  // namespace

bool says_yes(const std::string& question) {
  std::cout << question << " [y/N] " << std::flush;
  std::string answer;
  std::getline(std::cin, answer);
  answer = lower(trim(answer));
  return answer == "y" || answer == "yes";
}

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
  CLI::App* prune_command = add("prune", "show what no run needs, and remove it", prune);
  prune_command->add_flag("--yes", options->yes, "without asking");
  prune_command
      ->add_option("--older-than", options->older_than,
                   "also delete the runs in which nothing has happened for so many days")
      ->check(CLI::Range(0.01, 36500.0));
  add_for_a_run("pause", "let a run finish its experiment and wait", pause);
  add_for_a_run("resume", "let a paused run go on", resume);

  const auto add_reader = [&](const char* name, const char* what, int (*action)(const Options&)) {
    CLI::App* command = add(name, what, action);
    command->add_option("--tag", options->tag, "name of the run; without it the newest");
    return command;
  };
  CLI::App* status_command = add_reader("status", "where a run stands", status);
  status_command->add_flag("--watch", options->watch, "again every two seconds while it runs");
  status_command->add_flag("--json", options->json, "for programs");
  CLI::App* show_command = add_reader("show", "all about one experiment", show);
  show_command->add_option("N", options->n, "its number; 0 is the baseline")->required();
  show_command->add_flag("--diff", options->diff, "only its change");
  show_command->add_flag("--prompt", options->prompt, "only what the model was sent");
  add_reader("report", "write report.html anew and print where it is", report);
  add_reader("export", "write the kept changes as patches, and the champion's train.cpp",
             export_wins)
      ->add_option("--to", options->to, "folder; default: export/ in the run's folder");
  CLI::App* reply_command = add("reply", "what the loop would make of a model's reply", try_reply);
  reply_command->add_option("FILE", options->file, "the reply; - is stdin")->required();
  reply_command->add_option("--source", options->source, "the file that it edits")
      ->capture_default_str();
  CLI::App* compare_command = add("compare", "two runs side by side", compare);
  compare_command->add_option("A", options->tag, "name of a run")->required();
  compare_command->add_option("B", options->other_tag, "name of another")->required();
  return [options, chosen]() -> std::optional<int> {
    if (!*chosen) return std::nullopt;
    if (!options->data.empty()) setenv("AUTORESEARCH_DATA", options->data.c_str(), 1);
    return (*chosen)(*options);
  };
}

}  // namespace autoresearch
