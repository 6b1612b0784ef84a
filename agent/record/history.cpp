#include "agent/record/history.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <vector>

#include "common/error.h"
#include "common/files.h"
#include "common/folder.h"
#include "common/run_folder.h"

namespace autoresearch {
namespace {

using Words = std::vector<std::string>;

std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

std::string chomp(std::string text) {
  if (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

std::vector<std::string> split(const std::string& text, char end) {
  std::vector<std::string> parts;
  for (size_t at = 0; at < text.size();) {
    size_t stop = std::min(text.find(end, at), text.size());
    parts.push_back(text.substr(at, stop - at));
    at = stop + 1;
  }
  return parts;
}

// Tried for real, because permission bits say nothing about read-only mounts and full disks.
bool can_write(const fs::path& folder) {
  std::string name = (folder / "autoresearch-XXXXXX").string();
  int fd = mkstemp(name.data());
  if (fd < 0) return false;
  close(fd);
  return unlink(name.c_str()) == 0;
}

std::string hash_blob(const Git& git, const std::string& bytes) {
  return chomp(git.must({"hash-object", "-w", "--stdin"}, bytes));
}

std::string index_line(const std::string& mode, const std::string& id, const std::string& path) {
  return mode + " " + id + "\t" + path + '\0';
}

// git fsyncs an object before it renames it into its folder, but never the folder: without this a
// power cut could keep the journal's line and lose the commit that it names.
class ObjectFolders {
 public:
  explicit ObjectFolders(fs::path objects) : objects_(std::move(objects)), before_(times()) {}

  void sync_changed() const {
    for (const auto& [folder, time] : times()) {
      auto old = before_.find(folder);
      if (old == before_.end() || old->second != time) sync_path(folder);
    }
  }

 private:
  std::map<fs::path, fs::file_time_type> times() const {
    std::map<fs::path, fs::file_time_type> times = {{objects_, fs::last_write_time(objects_)}};
    for (const auto& entry : fs::directory_iterator(objects_)) {
      std::error_code gone;  // a gc of the user's may remove an empty folder meanwhile
      auto time = fs::last_write_time(entry.path(), gone);
      if (!gone && entry.path().filename().string().size() == 2) times[entry.path()] = time;
    }
    return times;
  }

  fs::path objects_;
  std::map<fs::path, fs::file_time_type> before_;
};

// What `git diff-files --raw -z` found, as input for `git update-index -z --index-info`. A
// submodule stays at its commit; an unmerged file is taken as it lies there, markers included.
std::string edits_of_worktree(const Git& git) {
  Git::Place as_user = git.place();
  as_user.users_config = true;
  Git(as_user).ask({"update-index", "-q", "--ignore-submodules", "--refresh"});
  const Words question = {"diff-files", "--raw", "-z", "--no-renames", "--ignore-submodules=all"};
  Git::Reply reply = Git(as_user).ask(question);
  // A configuration that git can't read, or a filter that fails, must not stop a run.
  Words fields = split(reply.code == 0 ? reply.out : git.must(question), '\0');
  std::string edits;
  for (size_t i = 0; i + 1 < fields.size(); i += 2) {
    Words columns = split(fields[i], ' ');  // :mode mode id id status
    if (columns.size() != 5) continue;
    fs::path file = git.place().work_tree / fields[i + 1];
    std::error_code gone;
    fs::file_status status = fs::symlink_status(file, gone);
    if (!fs::exists(status) || fs::is_directory(status)) {
      edits += index_line("0", std::string(columns[2].size(), '0'), fields[i + 1]);
    } else if (fs::is_symlink(status)) {
      std::string id = hash_blob(git, fs::read_symlink(file).string());
      edits += index_line("120000", id, fields[i + 1]);
    } else if (fs::is_regular_file(status)) {
      bool keeps_mode = columns[4] != "U" && columns[1] != "000000";
      bool runs = (status.permissions() & fs::perms::owner_exec) != fs::perms::none;
      std::string mode = keeps_mode ? columns[1] : runs ? "100755" : "100644";
      edits += index_line(mode, hash_blob(git, read_file(file)), fields[i + 1]);
    }
  }
  return edits;
}

}  // namespace

History::History(fs::path checkout, fs::path scratch, std::string tag, std::string edited,
                 bool begun)
    : tag_(std::move(tag)), edited_(std::move(edited)) {
  check_tag(tag_);
  check(fs::is_directory(checkout), checkout.string() + " is not a folder; type the path of one");
  checkout_ = fs::canonical(checkout);
  fs::create_directories(scratch);
  scratch_ = fs::canonical(scratch);
  // A run stays in the repository that it began in.
  std::string reason = fs::exists(scratch_ / kOwnRepository / "HEAD")
                           ? "this run began with a repository of its own"
                           : find_repository();
  if (reason.empty()) return;
  check(!begun || fs::exists(scratch_ / kOwnRepository / "HEAD"),
        "run " + tag_ + " has its commits in a repository that can't be used here (" + reason +
            "); mend that, or type the command in the checkout in which it began");
  use_own_repository(reason);
}

void History::check_tag(const std::string& tag) {
  auto plain = [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
  };
  bool good = !tag.empty() && tag.size() <= 100 && plain(tag[0]) && tag.back() != '.' &&
              tag.find("..") == std::string::npos && !tag.ends_with(".lock");
  for (char c : tag) good = good && (plain(c) || c == '.' || c == '_' || c == '-');
  check(good, "'" + tag +
                  "' can't name a run; use letters, digits, '.', '_' and '-', such as --tag "
                  "nov23");
}

std::string History::find_repository() {
  const Git git({.cwd = checkout_});
  Git::Reply reply =
      git.ask({"rev-parse", "--path-format=absolute", "--git-common-dir", "--git-dir", "--git-path",
               "index", "--show-toplevel", "--show-prefix"});
  Words lines = split(reply.out, '\n');
  if (reply.code != 0) return first_line(reply.err);
  if (lines.size() != 5) return "git names no folder of files for " + checkout_.string();
  if (git.ask({"check-ignore", "-q", "--", edited_}).code == 0) {
    return lines[3] + " ignores " + edited_;
  }
  for (const char* folder : {"objects", "refs"}) {
    if (!can_write(fs::path(lines[0]) / folder)) return lines[0] + " can't be written";
  }
  git_dir_ = lines[0], worktree_git_dir_ = lines[1], index_ = lines[2], top_ = lines[3];
  prefix_ = lines[4];
  return "";
}

void History::use_own_repository(const std::string& reason) {
  git_dir_ = scratch_ / kOwnRepository;
  own_reason_ = reason;
  prefix_.clear();
  // Its HEAD is the run's branch, so that a plain `git clone` of it shows the champion.
  Git({.cwd = scratch_})
      .must({"init", "-q", "--bare", "--template=", "--initial-branch=autoresearch/" + tag_,
             git_dir_.string()});
}

Git History::repository_git() const { return Git({.cwd = scratch_, .git_dir = git_dir_}); }

std::string History::edited_path() const { return prefix_ + edited_; }

std::string History::tree_of_checkout(const std::string& blob) const {
  const fs::path index = scratch_ / "start.index";
  const Git git({.cwd = top_, .git_dir = worktree_git_dir_, .work_tree = top_, .index = index});
  for (const char* name : {"start.index", "start.index.lock"}) fs::remove(scratch_ / name);
  if (fs::exists(index_)) {
    // With its time: git reads a file again whose time is not older than the index's.
    auto time = fs::last_write_time(index_);
    copy_file_cheaply(index_, index);
    fs::last_write_time(index, time);
  } else if (!head().empty()) {
    git.must({"read-tree", "HEAD"});
  }
  std::string edits = edits_of_worktree(git);
  edits += index_line("100644", blob, edited_path());
  git.must({"update-index", "-z", "--index-info"}, edits);
  return chomp(git.must({"write-tree", "--missing-ok"}));
}

std::string History::head() const {
  const Git git({.cwd = scratch_, .git_dir = worktree_git_dir_});
  if (git.ask({"rev-parse", "-q", "--verify", "HEAD"}).code != 0) return "";
  return chomp(git.must({"rev-parse", "--verify", "HEAD^{commit}"}));
}

std::string History::write_commit(const std::string& tree, const std::string& parent,
                                  const std::string& message) const {
  Words words = {"commit-tree", tree, "-F", "-"};
  if (!parent.empty()) words.insert(words.end(), {"-p", parent});
  std::string text = message;
  std::replace(text.begin(), text.end(), '\0', ' ');
  return chomp(repository_git().must(words, text));
}

std::string History::commit_start(const std::string& source, const std::string& message) {
  if (!own_repository()) {
    try {
      ObjectFolders folders(git_dir_ / "objects");
      std::string blob = hash_blob(repository_git(), source);
      std::string tree = tree_of_checkout(blob);
      std::string id = write_commit(tree, head(), message);
      folders.sync_changed();
      return id;
    } catch (const Error& error) {
      use_own_repository(error.what());
    }
  }
  return commit("", source, message);
}

std::string History::commit(const std::string& parent, const std::string& source,
                            const std::string& message) {
  ObjectFolders folders(git_dir_ / "objects");
  const Git git(
      {.cwd = scratch_, .git_dir = git_dir_, .work_tree = scratch_, .index = scratch_ / "index"});
  // A git that was killed leaves its lock behind; nobody else uses this index.
  for (const char* name : {"index", "index.lock"}) fs::remove(scratch_ / name);
  if (!parent.empty()) git.must({"read-tree", parent});
  std::string blob = hash_blob(git, source);
  git.must({"update-index", "-z", "--index-info"}, index_line("100644", blob, edited_path()));
  std::string tree = chomp(git.must({"write-tree", "--missing-ok"}));
  std::string id = write_commit(tree, parent, message);
  folders.sync_changed();
  return id;
}

std::optional<std::string> History::merge(const std::string& base, const std::string& ours,
                                          const std::string& theirs) const {
  const fs::path folder = fresh_folder(scratch_ / "merge");
  write_file(folder / "base", base);
  write_file(folder / "ours", ours);
  write_file(folder / "theirs", theirs);
  const Git::Reply reply =
      Git({.cwd = folder}).ask({"merge-file", "-p", "-q", "ours", "base", "theirs"});
  remove_whatever(folder);
  if (reply.code == 0) return reply.out;
  // It ends with the number of conflicts, or beyond 127 if it failed.
  check(reply.code < 128, "git merge-file failed: " + first_line(reply.err));
  return std::nullopt;
}

std::string History::source_at(const std::string& commit) const {
  return repository_git().must({"cat-file", "blob", commit + ":" + edited_path()});
}

bool History::has(const std::string& commit) const {
  return resolve(commit + "^{commit}").has_value();
}

std::optional<std::string> History::resolve(const std::string& name) const {
  Git::Reply reply = repository_git().ask({"rev-parse", "-q", "--verify", name});
  if (reply.code != 0) return std::nullopt;
  return chomp(reply.out);
}

void History::update_ref(const std::string& ref, const std::string& commit,
                         const std::string& old) const {
  std::string order = old.empty() ? "create " + ref + " " + commit + "\n"
                                  : "update " + ref + " " + commit + " " + old + "\n";
  repository_git().must({"update-ref", "-m", "autoresearch", "--stdin"}, order);
  fs::path folder = (git_dir_ / ref).parent_path();
  for (; folder != git_dir_ && fs::is_directory(folder); folder = folder.parent_path()) {
    sync_path(folder);
  }
}

void History::set_ref(const std::string& name, const std::string& commit) {
  std::optional<std::string> now = ref(name);
  if (now != commit) update_ref("refs/autoresearch/" + tag_ + "/" + name, commit, now.value_or(""));
}

std::optional<std::string> History::ref(const std::string& name) const {
  return resolve("refs/autoresearch/" + tag_ + "/" + name);
}

std::optional<std::string> History::branch() const {
  return resolve("refs/heads/autoresearch/" + tag_);
}

std::string History::used_by() const {
  if (own_repository()) return "";
  std::string name = "refs/heads/autoresearch/" + tag_, folder;
  const Git git({.cwd = scratch_, .git_dir = git_dir_, .work_tree = scratch_});
  for (const std::string& line : split(git.must({"worktree", "list", "--porcelain", "-z"}), '\0')) {
    if (line.starts_with("worktree ")) folder = line.substr(9);
    if (line == "branch " + name) return folder;
  }
  // During a rebase HEAD is detached, and only these files say which branch will be moved at its
  // end.
  std::vector<fs::path> homes = {git_dir_};
  std::error_code none;
  for (const auto& entry : fs::directory_iterator(git_dir_ / "worktrees", none)) {
    homes.push_back(entry.path());
  }
  for (const fs::path& home : homes) {
    for (const char* state : {"rebase-merge", "rebase-apply"}) {
      fs::path file = home / state / "head-name";
      if (fs::exists(file) && chomp(read_file(file)) == name) return home.string();
    }
  }
  return "";
}

std::optional<std::string> History::move_branch(const std::string& commit,
                                                const std::string& expected) {
  std::optional<std::string> now = branch();
  if (now == commit) return std::nullopt;
  std::string name = "branch autoresearch/" + tag_ + " was left alone: ";
  std::string kept = "; the run's commits are under refs/autoresearch/" + tag_ + "/";
  if (now.value_or("") != expected) {
    return name + (now ? "somebody moved it to " + short_id(*now) : "somebody deleted it") + kept;
  }
  if (std::string folder = used_by(); !folder.empty()) {
    return name + "it is checked out in " + folder + kept;
  }
  try {
    update_ref("refs/heads/autoresearch/" + tag_, commit, expected);
  } catch (const Error& error) {
    return name + error.what() + kept;
  }
  return std::nullopt;
}

std::string History::short_id(const std::string& commit) { return commit.substr(0, 7); }

const fs::path& History::repository() const { return git_dir_; }

bool History::own_repository() const { return !own_reason_.empty(); }

const std::string& History::own_reason() const { return own_reason_; }

}  // namespace autoresearch
