// The files of a run beside its journal: experiments' folders, the git history, the champion's
// files, and what follows from the journal.
#pragma once

#include <functional>
#include <set>
#include <string>

#include "agent/loop/workers.h"
#include "agent/record/history.h"
#include "agent/record/page.h"
#include "common/run_folder.h"

namespace autoresearch {

class LocalStore : public Store {
 public:
  // `first`: the file that the baseline is made of. `history` outlives this. `warn`: about links
  // and branches that were left alone.
  LocalStore(fs::path checkout, fs::path first, RunFolder run, std::string tag, History& history,
             std::function<void(const std::string&)> warn);

  std::string first_source() override;
  std::string source_at(const std::string& commit) override;
  void write_candidate(int64_t n, const Draft& draft) override;
  std::string commit(int64_t n, const Draft& draft) override;
  std::optional<std::string> merge(const std::string& base, const std::string& ours,
                                   const std::string& theirs) override;
  std::string commit_aside(const std::string& name, const Draft& draft) override;
  void keep_champion(int64_t n, const std::string& commit) override;
  std::string won(const RunState& state, int64_t n) override;
  void derive(const RunState& state) override;
  void tidy(int64_t n) override;
  void close_conversation(int64_t n) override;

 private:
  void move_branch(const RunState& state);

  const fs::path checkout_, first_;
  const RunFolder run_;
  const std::string tag_;
  ReportPage page_{run_};
  History& history_;
  std::function<void(const std::string&)> warn_;
  std::string said_;            // about the branch
  std::set<std::string> told_;  // about links
};

}  // namespace autoresearch
