// What lies where in a run's folder: the one place that knows the names of its files. A candidate
// can write to `attempt` alone.
#pragma once

#include <string>
#include <vector>

#include "common/files.h"

namespace autoresearch {

inline constexpr char kOwnRepository[] = "repository.git";  // in RunFolder::git()

// <run>/experiments/NNNN
struct ExperimentFolder {
  fs::path path;

  fs::path source() const { return path / "train.cpp"; }
  fs::path diff() const { return path / "candidate.diff"; }
  fs::path prompt() const { return path / "prompt.md"; }  // all that was sent to a model
  fs::path conversation() const { return path / "conversation.json"; }  // to go on with it
  fs::path reply(int k) const;  // the k-th of a model, from 1: reply.md, reply-2.md, ...
  fs::path next_reply() const;  // the first that is not there yet
  fs::path build_log() const { return path / "build.log"; }
  fs::path log() const { return path / "run.log"; }        // all that the trainer printed
  fs::path record() const { return path / "train.json"; }  // what the trainer says of itself
  fs::path score() const { return path / "score.json"; }
  fs::path sealed() const { return path / "model.safetensors"; }
  fs::path program() const { return path / "train"; }
  fs::path attempt() const { return path / "attempt"; }  // the trainer's own, while it runs
  fs::path build() const { return path / "build"; }      // the compiler's, while it runs

  // Removes what only a measurement needs. Does not throw.
  void tidy() const;
};

// <data>/runs/<tag>
struct RunFolder {
  fs::path path;

  fs::path journal() const { return path / "journal.jsonl"; }
  fs::path lock() const { return journal().string() + ".lock"; }  // held while the run is alive
  fs::path results() const { return path / "results.tsv"; }
  fs::path report() const { return path / "report.html"; }
  fs::path paused() const { return path / "paused"; }  // agent pause has made it
  fs::path git() const { return path / "git"; }
  fs::path repository() const { return git() / kOwnRepository; }  // where the checkout has none
  fs::path champions() const { return path / "champion"; }
  // The source and the sealed model of each that is or was the champion.
  ExperimentFolder champion(const std::string& commit) const { return {champions() / commit}; }
  fs::path experiments() const { return path / "experiments"; }
  ExperimentFolder experiment(int64_t n) const;
  ExperimentFolder again() const { return {path / "again"}; }  // the champion, measured again
  ExperimentFolder canary() const { return {path / "canary"}; }
  fs::path proofs() const { return path / "proof"; }
  ExperimentFolder proof(int64_t arm) const { return {proofs() / std::to_string(arm)}; }
  fs::path remeasured() const { return path / "remeasured"; }  // while agent remeasure runs
  fs::path exported() const { return path / "export"; }        // where agent export writes

  // Those that are there, by number.
  std::vector<ExperimentFolder> all_experiments() const;
  // Each folder in which the loop builds or measures; `again` and `canary` may not exist.
  std::vector<ExperimentFolder> all_folders() const;
};

// In the data folder.
fs::path runs_dir(const fs::path& data = data_dir());
fs::path kits_dir(const fs::path& data = data_dir());
RunFolder run_folder(const std::string& tag);

// Whether write_file() was writing this when its process was killed, if that is not at it now.
bool is_half_written(const fs::path& path);

}  // namespace autoresearch
