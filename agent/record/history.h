// The run's git history, by plumbing only: the user's worktree, index, HEAD and hooks are never
// touched. Every candidate is a commit that changes one file; refs/autoresearch/<tag>/NNNN and
// .../champion keep them; the branch autoresearch/<tag> follows the champion while no worktree has
// it checked out. A bare repository in the run's folder serves where the checkout is in no
// repository, its repository ignores the edited file, can't be written, or git fails on it.
//
// How: by common/git.h, and with an index of its own in the run's folder. Only the question whether
// a file is changed is answered under the user's configuration, as `git status` would. Bytes are
// stored as they lie in the folder: no filter, no line end conversion.
#pragma once

#include <optional>
#include <string>

#include "common/files.h"
#include "common/git.h"

namespace autoresearch {

class History {
 public:
  // `checkout`: the user's folder, in a repository or not. `scratch`: a folder of the run's, for
  // the index and, if needed, the bare repository; kept between calls. `edited`: "train.cpp",
  // relative to the checkout's folder. Throws Error when git is not installed (with the command to
  // install it), for a tag that check_tag() refuses, and if the run has `begun` and the repository
  // that it began in can't be used from here.
  History(fs::path checkout, fs::path scratch, std::string tag, std::string edited,
          bool begun = false);

  // Throws Error unless `tag` can name a folder and a branch: letters, digits, '.', '_' and '-'.
  static void check_tag(const std::string& tag);

  // The first commit of a run: HEAD's tree with all tracked edits of the checkout, uncommitted ones
  // included, and `source` as the edited file; its parent is HEAD where there is one. Full id.
  // Falls back to the bare repository when git fails in the checkout's; ask own_repository()
  // afterwards.
  std::string commit_start(const std::string& source, const std::string& message);

  // A commit on `parent` that differs in the edited file only. The object is on disk when it
  // returns. Nothing refers to it yet: call set_ref() next, or a `git gc --prune=now` may drop it.
  std::string commit(const std::string& parent, const std::string& source,
                     const std::string& message);

  // `theirs` with the change that leads from `base` to `ours`; nothing if both touch one place.
  std::optional<std::string> merge(const std::string& base, const std::string& ours,
                                   const std::string& theirs) const;

  bool has(const std::string& commit) const;

  // The edited file at a commit.
  std::string source_at(const std::string& commit) const;

  // refs/autoresearch/<tag>/<name>, name = "0007" or "champion". Idempotent.
  void set_ref(const std::string& name, const std::string& commit);
  std::optional<std::string> ref(const std::string& name) const;

  // Moves branch autoresearch/<tag> to `commit` by compare-and-swap from `expected` (empty: must
  // not exist). Idempotent. One line saying why when it was left alone: a worktree has it checked
  // out or is rebasing it, or somebody moved it.
  std::optional<std::string> move_branch(const std::string& commit, const std::string& expected);

  std::optional<std::string> branch() const;               // commit that the branch is at
  static std::string short_id(const std::string& commit);  // seven digits, as results.tsv has it
  const fs::path& repository() const;                      // the git directory in use
  bool own_repository() const;                             // true: the bare one in the run's folder
  const std::string& own_reason() const;  // why, in words for a user; empty otherwise

 private:
  std::string find_repository();  // why there is none to use; empty: found
  void use_own_repository(const std::string& reason);
  Git repository_git() const;
  std::string edited_path() const;  // from the top of the repository
  std::string head() const;         // the checkout's; empty: unborn
  std::string tree_of_checkout(const std::string& blob) const;
  std::string write_commit(const std::string& tree, const std::string& parent,
                           const std::string& message) const;
  std::optional<std::string> resolve(const std::string& name) const;
  void update_ref(const std::string& ref, const std::string& commit, const std::string& old) const;
  std::string used_by() const;  // folder of the worktree that has the branch; empty: none

  fs::path checkout_, scratch_;
  fs::path git_dir_;                   // shared by all worktrees: survives the removal of one
  fs::path worktree_git_dir_, index_;  // the checkout's own, read and never written
  fs::path top_;
  std::string tag_, edited_, prefix_;
  std::string own_reason_;
};

}  // namespace autoresearch
