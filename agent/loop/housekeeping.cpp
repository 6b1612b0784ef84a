#include "agent/loop/housekeeping.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <set>

#include "agent/lab/recipe.h"
#include "agent/loop/place.h"
#include "agent/record/history.h"
#include "agent/record/journal.h"
#include "common/error.h"
#include "common/failure.h"
#include "common/folder.h"
#include "common/git.h"
#include "common/run_folder.h"
#include "common/text.h"

namespace autoresearch {
namespace {

constexpr const char* kDeleted = ".deleted-";  // how a run's folder is called while it goes
constexpr std::time_t kAtWork = 3600;  // seconds in which a partial folder may still be filled

std::time_t changed_at(const fs::path& path) {
  struct stat status = {};
  return lstat(path.c_str(), &status) == 0 ? status.st_mtime : 0;
}

// The entries of a folder in order; none if it isn't there.
std::vector<fs::path> entries_of(const fs::path& folder) {
  std::vector<fs::path> paths;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) paths.push_back(entry.path());
  check(!error || error == std::errc::no_such_file_or_directory,
        "can't read " + folder.string() + ": " + error.message());
  std::sort(paths.begin(), paths.end());
  return paths;
}

std::string counted(size_t count, const std::string& noun) {
  return fmt::format("{} {}{}", count, noun, count == 1 ? "" : "s");
}

// The process that runs it, for a user who wants to stop it.
std::string process_of(const RunSummary& run) {
  return run.holder.empty() ? "" : " (" + run.holder + ")";
}

void look_at(const fs::path& run_dir, RunSummary& run) {
  const fs::path journal = RunFolder{run_dir}.journal();
  run.last_activity = changed_at(run_dir);
  run.holder = holder_of(RunFolder{run_dir}.lock()).value_or("");
  run.paused = is_paused(run_dir);
  run.bytes = disk_usage(run_dir);
  if (!fs::exists(journal)) return;
  run.last_activity = changed_at(journal);
  const RunState state = replay(read_journal(journal));
  if (!state.start) return;
  run.task = state.start->task_name;
  run.kit = state.start->kit;
  run.machine = state.start->machine;
  if (!state.champion.empty()) run.best = state.best_bpb;
  for (const Experiment& e : state.experiments) {
    run.experiments += e.n > 0 && e.status != Status::kOpen;
    if (e.status == Status::kDiscard || e.status == Status::kCrash) run.discarded.push_back(e.n);
  }
  run.finished = !state.stopped.empty() && !state.stopped.starts_with("interrupted");
}

}  // namespace

// ------------------------------------------------------------------------------------------------
// Runs

RunSummary summary_of(const fs::path& run_dir) {
  RunSummary run{.folder = run_dir, .tag = run_dir.filename()};
  // What can't be read, or contradicts itself, must not hide the other runs.
  try {
    look_at(run_dir, run);
  } catch (const std::exception& error) {
    run.problem = failure_in_words(error);
  }
  return run;
}

std::vector<RunSummary> all_runs(const fs::path& data) {
  std::vector<RunSummary> runs;
  for (const fs::path& path : entries_of(runs_dir(data)))
    if (fs::is_directory(path) && !path.filename().string().starts_with('.'))
      runs.push_back(summary_of(path));
  std::stable_sort(runs.begin(), runs.end(), [](const RunSummary& a, const RunSummary& b) {
    return a.last_activity > b.last_activity;
  });
  return runs;
}

std::string state_of(const RunSummary& run) {
  if (!run.problem.empty()) return "damaged";
  if (!run.holder.empty()) return run.paused ? "paused" : "running";
  if (run.task.empty()) return "not started";
  if (run.finished) return "finished";
  return run.paused ? "stopped, paused" : "stopped";
}

std::string runs_table(const std::vector<RunSummary>& runs) {
  size_t tag = 3, task = 4;
  for (const RunSummary& run : runs) {
    tag = std::max(tag, run.tag.size());
    task = std::max(task, run.task.size());
  }
  const auto line = [&](const auto& name, const auto& on, const auto&... others) {
    return fmt::format("{:<{}}  {:<{}}  {:<17}  {:>10}  {:>11}  {:>8}  {}\n", name, tag, on, task,
                       others...);
  };
  std::string table = line("tag", "task", "state", "best", "experiments", "size", "last activity");
  for (const RunSummary& run : runs)
    table += line(run.tag, run.task, state_of(run) + process_of(run),
                  run.best ? fmt::format("{:.6f}", *run.best) : "-", run.experiments,
                  human_bytes(run.bytes),
                  local_time(static_cast<double>(run.last_activity), "%Y-%m-%d %H:%M"));
  for (const RunSummary& run : runs)
    if (!run.problem.empty()) table += "run " + run.tag + " is damaged: " + run.problem + "\n";
  return table;
}

std::string local_time(double seconds_since_1970, const char* pattern) {
  const auto time = static_cast<std::time_t>(seconds_since_1970);
  tm local = {};
  localtime_r(&time, &local);
  char text[64];
  std::strftime(text, sizeof text, pattern, &local);
  return text;
}

int64_t disk_usage(const fs::path& path) {
  const auto blocks_of = [](const fs::path& file) {
    struct stat status = {};
    return lstat(file.c_str(), &status) == 0 ? int64_t{status.st_blocks} * 512 : 0;
  };
  int64_t bytes = blocks_of(path);
  std::error_code gone;  // a run that is alive removes files meanwhile
  fs::recursive_directory_iterator at(path, fs::directory_options::skip_permission_denied, gone);
  for (; !gone && at != fs::recursive_directory_iterator(); at.increment(gone))
    bytes += blocks_of(at->path());
  return bytes;
}

std::string human_bytes(int64_t bytes) {
  const auto count = static_cast<double>(bytes);
  if (count < 1e6) return fmt::format("{:.0f} kB", count / 1e3);
  return count < 1e9 ? fmt::format("{:.1f} MB", count / 1e6)
                     : fmt::format("{:.1f} GB", count / 1e9);
}

// ------------------------------------------------------------------------------------------------
// Deleting a run

namespace {

// That a run's journal names; empty if there is none.
std::string first_commit_of(const fs::path& folder) {
  try {
    return first_commit(replay(read_journal(RunFolder{folder}.journal())));
  } catch (const Error&) {  // there is no journal, or it is damaged
    return "";
  }
}

// The run's refs and its branch. A branch at a commit that the run did not make is the user's own.
// `first`: the run's first commit, if it is known; refs of another one are of another run.
void find_refs(Remains& remains, const fs::path& checkout, const std::string& first) {
  const std::string branch = "refs/heads/autoresearch/" + remains.tag;
  const Git::Reply listed = Git({.cwd = checkout})
                                .ask({"for-each-ref", "--format=%(refname) %(objectname)",
                                      "refs/autoresearch/" + remains.tag, branch});
  if (listed.code != 0) return;  // in no repository
  remains.repository = checkout;
  std::set<std::string> commits;
  std::string branch_at;
  for (const std::string& line : split_lines(listed.out)) {
    const size_t blank = line.find(' ');
    const std::string name = line.substr(0, blank), commit = line.substr(blank + 1);
    if (name != branch && name.ends_with("/0000") && !first.empty() && commit != first) {
      remains.refs.clear();
      remains.left_alone = "refs/autoresearch/" + remains.tag + "/* in " + checkout.string() +
                           " are of another run of that name, and stay";
      return;
    }
    if (name == branch) {
      branch_at = commit;
    } else {
      remains.refs.push_back(name);
      commits.insert(commit);
    }
  }
  if (branch_at.empty()) return;
  if (commits.contains(branch_at))
    remains.branch = "autoresearch/" + remains.tag;
  else
    remains.left_alone = "branch autoresearch/" + remains.tag +
                         " stays: it is at a commit that this run did not make; to delete it: git "
                         "branch -D autoresearch/" +
                         remains.tag;
}

}  // namespace

Remains remains_of(const fs::path& data, const std::string& tag, const fs::path& checkout) {
  History::check_tag(tag);
  Remains remains{.tag = tag};
  const fs::path folder = runs_dir(data) / tag;
  if (fs::exists(folder)) {
    const auto holder = holder_of(RunFolder{folder}.lock());
    check(!holder, "run " + tag + " is running (process " + holder.value_or("") +
                       "); stop it first: kill -INT " + holder.value_or(""));
    remains.folder = folder;
    remains.bytes = disk_usage(folder);
  }
  find_refs(remains, checkout, first_commit_of(folder));
  std::error_code none;
  const fs::path link = checkout / "results.tsv";
  if (fs::read_symlink(link, none) == RunFolder{folder}.results() && !none) remains.results = link;
  check(!remains.folder.empty() || !remains.refs.empty(),
        "no run " + tag + " in " + runs_dir(data).string() +
            " and no commits of it in this folder's repository; see: build/agent runs");
  if (remains.refs.empty() && remains.left_alone.empty() &&
      !fs::exists(RunFolder{folder}.repository()))
    remains.left_alone =
        "no commits of it are in the repository of " + checkout.string() +
        "; if it began in another checkout, type there: build/agent delete --tag " + tag;
  return remains;
}

std::string describe(const Remains& remains) {
  std::string text;
  if (!remains.folder.empty())
    text += "  " + remains.folder.string() + "  " + human_bytes(remains.bytes) + "\n";
  if (!remains.refs.empty())
    text += fmt::format("  refs/autoresearch/{}/*  {} in the repository of {}\n", remains.tag,
                        counted(remains.refs.size(), "ref"), remains.repository.string());
  if (!remains.branch.empty()) text += "  branch " + remains.branch + "\n";
  if (!remains.results.empty()) text += "  " + remains.results.string() + ", a link\n";
  if (!remains.left_alone.empty()) text += remains.left_alone + "\n";
  return text;
}

void remove(const Remains& remains) {
  std::optional<FileLock> lock;  // so that nobody goes on with the run meanwhile
  if (!remains.folder.empty()) lock.emplace(RunFolder{remains.folder}.lock());
  const Git git({.cwd = remains.repository});
  if (!remains.branch.empty()) {
    const Git::Reply deleted = git.ask({"branch", "-q", "-D", remains.branch});
    check(deleted.code == 0,
          "git can't delete its branch, so this run stays: " + one_line(deleted.err, 300));
  }
  if (!remains.refs.empty()) {
    std::string orders;
    for (const std::string& ref : remains.refs) orders += "delete " + ref + "\n";
    git.must({"update-ref", "--stdin"}, orders);
  }
  if (!remains.results.empty()) fs::remove(remains.results);
  if (remains.folder.empty()) return;
  // Out of the list of runs at once; the lock goes with it.
  const fs::path going = remains.folder.parent_path() / (kDeleted + remains.tag);
  remove_whatever(going);
  fs::rename(remains.folder, going);
  check(remove_whatever(going), "can't remove all of " + going.string() +
                                    "; remove it as its owner: rm -r '" + going.string() + "'");
}

// ------------------------------------------------------------------------------------------------
// What nobody needs

namespace {

class Collector {
 public:
  void add(const fs::path& path, const std::string& what) {
    found_.push_back({path, what, disk_usage(path)});
  }
  std::vector<Leftover> found() { return std::move(found_); }

 private:
  std::vector<Leftover> found_;
};

bool is_fingerprint(const std::string& name) {
  return name.size() == 64 && name.find_first_not_of("0123456789abcdef") == std::string::npos;
}

// Whether a run may use any of the kits, because it does not say which one.
bool may_use_any_kit(const RunSummary& run) {
  return run.kit.empty() && (!run.holder.empty() || !run.problem.empty());
}

void collect_kits(const fs::path& kits, const std::vector<RunSummary>& runs, std::time_t now,
                  Collector& collector) {
  std::set<std::string> used;
  for (const RunSummary& run : runs) used.insert(run.kit);
  const bool all_known = std::none_of(runs.begin(), runs.end(), may_use_any_kit);
  for (const fs::path& path : entries_of(kits)) {
    const std::string name = path.filename();
    if (name.starts_with(kPartialKit) && now - changed_at(path) >= kAtWork)
      collector.add(path, "a kit that was never finished");
    if (is_fingerprint(name) && all_known && !used.contains(name))
      collector.add(path, "a kit that no run uses");
  }
}

void collect_from(const RunSummary& run, Collector& collector) {
  for (const fs::path& path : entries_of(RunFolder{run.folder}.champions()))
    if (path.filename().string().starts_with('.'))
      collector.add(path, "a champion's copy that was never finished");
  for (const int64_t n : run.discarded) {
    const fs::path model = RunFolder{run.folder}.experiment(n).sealed();
    if (fs::exists(fs::symlink_status(model)))
      collector.add(model, "the sealed model of a discarded experiment");
  }
}

}  // namespace

std::vector<RunSummary> take_idle(std::vector<RunSummary>& runs, std::time_t now, double days) {
  const auto idle = std::stable_partition(runs.begin(), runs.end(), [&](const RunSummary& run) {
    // What has no task in a journal may be a folder of the user's.
    return !run.holder.empty() || run.task.empty() ||
           std::difftime(now, run.last_activity) < 86400 * days;
  });
  std::vector<RunSummary> taken(idle, runs.end());
  runs.erase(idle, runs.end());
  return taken;
}

std::vector<Leftover> leftovers(const fs::path& data, const std::vector<RunSummary>& runs,
                                std::time_t now) {
  Collector collector;
  collect_kits(kits_dir(data), runs, now, collector);
  for (const fs::path& path : entries_of(runs_dir(data)))
    if (path.filename().string().starts_with(kDeleted))
      collector.add(path, "the rest of a deleted run");
  for (const RunSummary& run : runs)
    if (run.holder.empty()) collect_from(run, collector);
  return collector.found();
}

std::string why_kits_stay(const std::vector<RunSummary>& runs) {
  const auto run = std::find_if(runs.begin(), runs.end(), may_use_any_kit);
  if (run == runs.end()) return "";
  return "all kits stay, since run " + run->tag + " does not say which one it uses; " +
         (run->holder.empty() ? "if you don't need it: build/agent delete --tag " + run->tag
                              : "it has just begun, try again in a minute");
}

std::string describe(const std::vector<Leftover>& leftovers) {
  if (leftovers.empty()) return "";
  std::string text;
  int64_t sum = 0;
  for (const Leftover& leftover : leftovers) {
    text += fmt::format("  {:>8}  {}  ({})\n", human_bytes(leftover.bytes), leftover.path.string(),
                        leftover.what);
    sum += leftover.bytes;
  }
  return text + fmt::format("  {:>8}  in all\n", human_bytes(sum));
}

void remove(const std::vector<Leftover>& leftovers) {
  fs::path stays;
  for (const Leftover& leftover : leftovers)
    if (!remove_whatever(leftover.path) && stays.empty()) stays = leftover.path;
  check(stays.empty(), "can't remove all of " + stays.string() +
                           "; remove it as its owner: rm -r '" + stays.string() + "'");
}

}  // namespace autoresearch
