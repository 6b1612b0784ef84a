#include "agent/loop/local_store.h"

#include <algorithm>
#include <utility>

#include "agent/edit/diff.h"
#include "agent/lab/proof.h"
#include "agent/record/journal.h"
#include "agent/record/page_detail.h"
#include "agent/record/report.h"
#include "common/folder.h"

namespace autoresearch {

namespace {

// Those of an agent that was killed; this one holds the run's lock. A candidate's own folder may
// hold anything, and is removed as a whole elsewhere.
void remove_half_written_files(const fs::path& folder) {
  std::vector<fs::path> half;
  std::error_code ignored;
  auto at = fs::recursive_directory_iterator(folder, fs::directory_options::skip_permission_denied,
                                             ignored);
  for (; at != fs::recursive_directory_iterator(); at.increment(ignored)) {
    const std::string name = at->path().filename();
    if (name == "attempt" || name == "build") at.disable_recursion_pending();
    if (is_half_written(at->path())) half.push_back(at->path());
  }
  for (const fs::path& path : half) fs::remove(path, ignored);
}

}  // namespace

LocalStore::LocalStore(fs::path checkout, fs::path first, RunFolder run, std::string tag,
                       History& history, std::function<void(const std::string&)> warn)
    : checkout_(std::move(checkout)),
      first_(std::move(first)),
      run_(std::move(run)),
      tag_(std::move(tag)),
      history_(history),
      warn_(std::move(warn)) {
  remove_half_written_files(run_.path);
  // If the agent was killed, what its compiler made is still there.
  for (const ExperimentFolder& folder : run_.all_folders()) remove_whatever(folder.build());
}

std::string LocalStore::first_source() { return read_file(first_); }

std::string LocalStore::source_at(const std::string& commit) { return history_.source_at(commit); }

void LocalStore::write_candidate(int64_t n, const Draft& draft) {
  const ExperimentFolder folder = run_.experiment(n);
  fs::create_directories(folder.path);
  write_file(folder.source(), draft.source);
  if (!draft.base.empty())
    write_file(folder.diff(),
               unified_diff(history_.source_at(draft.base), draft.source, "train.cpp"));
}

std::string LocalStore::commit(int64_t n, const Draft& draft) {
  const std::string about =
      "\n\nExperiment: " + tag_ + " " + std::to_string(n) + "\nProposed-by: " + draft.proposer;
  const std::string commit =
      n == 0 ? history_.commit_start(draft.source, "baseline of " + tag_)
             : history_.commit(draft.base, draft.source, draft.idea + "\n\n" + draft.why + about);
  history_.set_ref(run_.experiment(n).path.filename(), commit);
  return commit;
}

std::optional<std::string> LocalStore::merge(const std::string& base, const std::string& ours,
                                             const std::string& theirs) {
  return history_.merge(base, ours, theirs);
}

std::string LocalStore::commit_aside(const std::string& name, const Draft& draft) {
  const std::string commit =
      history_.commit(draft.base, draft.source, draft.idea + "\n\nProof: " + tag_ + " " + name);
  history_.set_ref(name, commit);
  return commit;
}

// champion/<commit>/: the sealed model and its source, whole or not at all.
void LocalStore::keep_champion(int64_t n, const std::string& commit) {
  const fs::path target = run_.champion(commit).path;
  if (fs::exists(target)) return;
  const ExperimentFolder partial = run_.champion("." + commit);
  fs::remove_all(partial.path);
  fs::create_directories(partial.path);
  const ExperimentFolder folder = n == kProofJob ? run_.proof(kTip) : run_.experiment(n);
  copy_file_cheaply(folder.sealed(), partial.sealed());
  sync_path(partial.sealed());
  write_file(partial.source(), history_.source_at(commit));
  sync_path(partial.path);
  fs::rename(partial.path, target);
  sync_path(run_.champions());
  // It is measured again soon, and is built already.
  const ExperimentFolder again = run_.again();
  std::error_code not_there;  // then it is built once more
  fs::remove(again.program(), not_there);
  fs::create_directories(again.path);
  write_file(again.source(), history_.source_at(commit));
  fs::rename(folder.program(), again.program(), not_there);
}

std::string LocalStore::won(const RunState& state, int64_t n) {
  const auto compared = against_parent(run_, state, n);
  return compared ? name_of(compared->won_by) : "";
}

void LocalStore::derive(const RunState& state) {
  write_file(run_.results(), results_tsv(state));
  write_file(run_.report(), page_.html(state, wall_clock()));
  if (!state.champion.empty()) move_branch(state);
  if (!state.proof) fs::remove_all(run_.proofs());
  for (const auto& [link, target] : {std::pair{checkout_ / "results.tsv", run_.results()},
                                     std::pair{checkout_ / "runs", run_.path.parent_path()}})
    if (const std::string note = point_link(link, target);
        !note.empty() && told_.insert(note).second)
      warn_(note);
}

// The champion's ref, and the branch while it is ours to move.
void LocalStore::move_branch(const RunState& state) {
  history_.set_ref("champion", state.champion);
  const auto at = history_.branch();
  if (at == state.champion) return said_.clear();
  const bool ours = !at ||
                    std::any_of(state.experiments.begin(), state.experiments.end(),
                                [&](const Experiment& e) { return e.candidate.commit == *at; }) ||
                    std::any_of(state.trimmed.begin(), state.trimmed.end(),
                                [&](const TrimmedTip& tip) { return tip.commit == *at; });
  const auto note = ours ? history_.move_branch(state.champion, at.value_or(""))
                         : std::optional<std::string>("branch autoresearch/" + tag_ +
                                                      " was moved by somebody else and is left "
                                                      "alone");
  if (note && *note != said_) warn_(*note);
  said_ = note.value_or("");
}

void LocalStore::tidy(int64_t n) { run_.experiment(n).tidy(); }

void LocalStore::close_conversation(int64_t n) { fs::remove(run_.experiment(n).conversation()); }

}  // namespace autoresearch
