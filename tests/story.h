// A run told event by event, for tests of what is made of it: with a clock that moves by itself.
#pragma once

#include <string>
#include <vector>

#include "agent/record/run_state.h"

namespace autoresearch {

inline Measured measured_at(double bpb) {
  Measured measured;
  measured.wall_seconds = 12;
  measured.overhead_seconds = 2;
  measured.phases = Phases{1, 10, 1};
  measured.sealed = true;
  measured.sealed_bytes = 1000;
  measured.score_seconds = 3;
  measured.score_rss_bytes = 1000;
  if (bpb > 0) measured.bpb = bpb;
  return measured;
}

inline Measured crashed(int exit_code = 139) {
  Measured measured = measured_at(0);
  measured.sealed = false;
  measured.train_exit = exit_code;
  return measured;
}

struct Story {
  RunState state;
  std::vector<Entry> entries;  // what was told so far, as a journal gives it back
  double now = 1.7e9;

  Story& tell(Event event, double seconds = 1) {
    now += seconds;
    entries.push_back({std::move(event), utc_text(now)});
    apply(state, entries.back());
    return *this;
  }
  Story& start() {
    event::Start start;
    start.tag = "t";
    return tell(start);
  }
  Story& candidate(int64_t n, const std::string& proposer = "openai:m") {
    event::Candidate candidate;
    candidate.n = n;
    candidate.commit = "c" + std::to_string(n) + "." + std::to_string(++candidates_);
    candidate.parent = state.champion;
    candidate.idea = "idea " + std::to_string(n);
    candidate.proposer = n == 0 ? "baseline" : proposer;
    candidate.fingerprint = "f" + candidate.commit;
    return tell(candidate);
  }
  Story& run(int64_t n) { return tell(event::RunStarted{n, state.at(n).attempts + 1, 100, 200}); }
  Story& measured(int64_t n, const Measured& measured) {
    return run(n).tell(event::Measurement{n, state.at(n).attempts, measured}, 15);
  }
  Story& verdict(int64_t n, Status status, const std::string& reason = "") {
    event::Verdict verdict;
    verdict.n = n;
    verdict.status = status;
    verdict.reason = reason;
    verdict.champion = status == Status::kKeep ? state.at(n).candidate.commit : state.champion;
    verdict.decision = status == Status::kKeep ? "kept" : "no";
    return tell(verdict);
  }
  Story& experiment(int64_t n, Status status, double bpb = 2) {
    candidate(n);
    measured(n, status == Status::kCrash ? crashed() : measured_at(bpb));
    return verdict(n, status,
                   status == Status::kCrash     ? "train was ended by SIGSEGV"
                   : status == Status::kDiscard ? "no gain"
                                                : "");
  }
  // A run whose baseline stands.
  Story& begun() {
    start().experiment(0, Status::kKeep, 2);
    return measured(0, measured_at(2.001)).measured(0, measured_at(1.999));
  }

  // A proof of champion against baseline, and of the champion without each of `changes`.
  Story& proof(const std::vector<std::vector<int64_t>>& blocks,
               const std::vector<int64_t>& changes = {}) {
    event::Proof proof;
    proof.arms = {state.champion, state.at(0).candidate.commit};
    for (const int64_t n : changes) proof.arms.push_back("without " + std::to_string(n));
    proof.changes = changes;
    proof.blocks = blocks;
    proof.reserved_pairs = changes.empty() ? 0 : 4;
    return tell(proof);
  }
  Story& run_arm(int64_t block, int64_t arm) {
    return tell(event::ProofStarted{block, arm, state.proof->attempts + 1, 100, 200});
  }
  Story& arm(int64_t block, int64_t arm, const Measured& measured) {
    run_arm(block, arm);
    return tell(event::ProofMeasured{block, arm, state.proof->attempts, true, measured}, 15);
  }

 private:
  int candidates_ = 0;
};

}  // namespace autoresearch
