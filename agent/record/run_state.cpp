#include "agent/record/run_state.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <unordered_set>
#include <utility>

#include "agent/lab/proof.h"
#include "common/error.h"
#include "common/text.h"

namespace autoresearch {
namespace {

Experiment& experiment_of(RunState& state, int64_t n) {
  check(n >= 0 && n < state.next_n(), fmt::format("experiment {} has no candidate", n));
  return state.experiments[static_cast<size_t>(n)];
}

Experiment& open_experiment_of(RunState& state, int64_t n) {
  Experiment& experiment = experiment_of(state, n);
  check(experiment.status == Status::kOpen, fmt::format("experiment {} has a verdict already", n));
  return experiment;
}

// One overload an event. `at`: when it was written.
struct Fold {
  RunState& state;
  const std::string& time;
  double at;

  void operator()(const event::Start& e) {
    check(e.version == kJournalVersion,
          fmt::format("it is of version {} and this program writes {}; go on with the program that "
                      "began it",
                      e.version, kJournalVersion));
    if (!state.start) {
      state.start = e;
      state.start_utc = time;
    }
    // The last start before the baseline was built says what the baseline is.
    if (state.experiments.empty()) state.start->from = e.from;
    state.start->deadline = e.deadline;
    state.start->max_experiments = e.max_experiments;
    state.start->only_proof = e.only_proof;
    // Every kind that experiments ran in is told.
    std::string& kinds = state.start->sandbox;
    if (kinds.find(e.sandbox) == std::string::npos)
      kinds += (kinds.empty() ? "" : ", then ") + e.sandbox;
    state.stopped.clear();
    if (state.paused.empty()) return;
    // The time between a stop and a start is nobody's, also of a run that is paused.
    state.spent.paused += std::max(0.0, state.last_event_at - state.paused_at);
    state.paused_at = at;
  }

  void operator()(const event::Program& e) {
    if (!state.program.empty()) state.program_changes.push_back(state.next_n());
    state.program = e.sha256;
  }

  void operator()(const CallOpened& e) {
    state.spending.take(e);
    if (e.n > 0) state.on_experiments.take(e);
    state.calls_for[e.id] = e.n;
  }

  void operator()(const CallClosed& e) {
    state.spending.take(e);
    state.on_experiments.take(e);
    state.usd_for[state.calls_for[e.id]] += e.usd.value_or(0);
  }

  void operator()(const event::Replied& e) {
    if (e.n < state.next_n())  // perhaps of a repair that came after the verdict
      ++experiment_of(state, e.n).replies;
    else
      ++state.replies;
  }

  void operator()(const event::NotBuilt& e) { state.not_built[e.fingerprint] = e.errors; }

  void operator()(const event::Candidate& e) {
    if (e.n == state.next_n()) {
      Experiment& fresh = state.experiments.emplace_back();
      fresh.n = e.n;
      fresh.start_utc = time;
      state.open.insert(e.n);
      fresh.replies = std::exchange(state.replies, 0);
    }
    Experiment& experiment = open_experiment_of(state, e.n);
    const bool rebased = !experiment.measured && experiment.attempts == 0;
    if (!experiment.candidate.fingerprint.empty() && !rebased)
      experiment.failed.push_back(experiment.candidate.fingerprint);
    if (rebased) forget_code(experiment);
    experiment.candidate = e;
    experiment.open = false;
    experiment.interrupted = experiment.reopened = 0;
    experiment.disturbed = experiment.spoilt = 0;
    experiment.measured.reset();
    remember_code(e);
    state.refusals_in_row = state.troubles_in_row = 0;
    state.next_lines.insert(state.next_lines.end(), e.next.begin(), e.next.end());
  }

  // The first measurement of a code is its result; code that was never measured is not known.
  void remember_code(const event::Candidate& e) {
    const auto [known, is_new] = state.measured_as.try_emplace(e.fingerprint, e.n);
    const Experiment& earlier = state.at(known->second);
    if (!is_new && (!earlier.measured || earlier.machine)) known->second = e.n;
  }

  void forget_code(const Experiment& experiment) {
    const auto known = state.measured_as.find(experiment.candidate.fingerprint);
    if (known != state.measured_as.end() && known->second == experiment.n)
      state.measured_as.erase(known);
  }

  void operator()(const event::Withdrawn& e) {
    if (e.n == state.next_n()) {  // it was a draft
      state.replies = 0;
      return;
    }
    const Experiment& experiment = open_experiment_of(state, e.n);
    check(e.n == state.next_n() - 1 && experiment.attempts == 0,
          "only the last candidate can be withdrawn, before it runs");
    forget_code(experiment);
    state.experiments.pop_back();
    state.open.erase(e.n);
  }

  void operator()(const event::Refused& e) {
    ++state.came_to_nothing[e.proposer];
    ++state.refusals_in_row;
    state.last_refusal = e.reason;
    count_proposal(e.proposer, true);
    state.replies = 0;
  }

  void operator()(const event::Exhausted& e) { state.exhausted = e.why; }
  void operator()(const event::Fits& e) { state.fits[e.provider] = e.tokens; }
  void operator()(const event::Built& e) { state.spent.building += e.seconds; }

  void operator()(const event::RunStarted& e) {
    Experiment& experiment = experiment_of(state, e.n);
    check(experiment.status == Status::kOpen || experiment.status == Status::kKeep,
          fmt::format("experiment {} was not kept and runs again", e.n));
    check(e.attempt == experiment.attempts + 1,
          fmt::format("attempt {} follows attempt {}", e.attempt, experiment.attempts));
    if (experiment.open) ++experiment.interrupted;
    experiment.attempts = e.attempt;
    experiment.open = true;
    experiment.pid = e.pid;
    experiment.start_time = e.start_time;
    if (experiment.status == Status::kOpen) experiment.measured.reset();
  }

  void operator()(const event::Measurement& e) {
    Experiment& experiment = experiment_of(state, e.n);
    check(experiment.open && e.attempt == experiment.attempts,
          "the measured attempt is not the open one");
    experiment.open = false;
    experiment.interrupted = 0;
    experiment.ended_at = at;
    count_time(e.measured);
    if (!e.measured.disturbed.empty()) {
      ++experiment.disturbed;
      ++experiment.spoilt;
      return;
    }
    experiment.spoilt = 0;
    if (experiment.status == Status::kOpen)
      experiment.measured = e.measured;
    else
      measured_again(experiment, e.measured);
  }

  void count_time(const Measured& measured) {
    const Phases phases = measured.phases.value_or(Phases{0, measured.wall_seconds, 0});
    state.spent.startup += phases.startup;
    state.spent.training += phases.training;
    state.spent.sealing += phases.sealing;
    state.spent.scoring += measured.score_seconds;
  }

  void measured_again(Experiment& experiment, const Measured& measured) {
    if (!measured.bpb) {
      ++experiment.failed_again;
      return;
    }
    const bool trimmed =
        experiment.n == state.champion_n && experiment.candidate.commit != state.champion;
    if (!trimmed) experiment.again.push_back(*measured.bpb);
    if (experiment.n == state.champion_n) add_repeat(state.evidence, *measured.bpb);
  }

  // The baseline is the first champion; every other figure was judged against one.
  void learn(const event::Verdict& e, const Measured& measured) {
    if (e.n == 0) return add_repeat(state.evidence, *measured.bpb);
    if (e.machine) return;
    const bool keep = e.status == Status::kKeep;
    const Decision decision =
        decision_of(e.decision).value_or(keep ? Decision::kKept : Decision::kNo);
    add_candidate(state.evidence, *measured.bpb, {decision, e.difference, e.sigma});
  }

  void operator()(const event::Verdict& e) {
    Experiment& experiment = open_experiment_of(state, e.n);
    if (e.status == Status::kKeep) {
      check(experiment.measured && experiment.measured->bpb,
            "a candidate without a measurement is kept");
      check(std::isfinite(*experiment.measured->bpb), "a figure that is not finite is kept");
      state.best_bpb = *experiment.measured->bpb;
      state.champion = experiment.candidate.commit;
      state.champion_n = e.n;
      if (e.n > 0) state.kept.push_back(e.n);
    }
    count_crashes(e);
    if (!e.machine) count_proposal(experiment.candidate.proposer, e.status == Status::kCrash);
    state.open.erase(e.n);
    experiment.status = e.status;
    experiment.reason = e.reason;
    experiment.decision = e.decision;
    experiment.machine = e.machine;
    experiment.difference = e.difference;
    if (e.status == Status::kKeep || e.status == Status::kDiscard) {
      check(experiment.measured && experiment.measured->bpb, "a verdict without a figure");
      learn(e, *experiment.measured);
    }
    experiment.end_utc = time;
    experiment.open = false;
    state.since_keep = e.status == Status::kKeep ? 0 : state.since_keep + 1;
    state.troubles_in_row = 0;
    state.exhausted.clear();  // a new champion, or one more neighbour that is known
    state.canary.reset();
  }

  // Figures differ where the fault is one: "after 12.3 s".
  static std::string without_figures(const std::string& reason) {
    std::string words;
    for (const char c : reason)
      if (!std::isdigit(static_cast<unsigned char>(c)) && c != '.') words += c;
    return words;
  }

  void count_crashes(const event::Verdict& e) {
    if (e.machine) return;
    if (e.status != Status::kCrash) return state.crashes_alike.clear();
    const std::string words = without_figures(e.reason);
    if (words != state.last_crash) state.crashes_alike.clear();
    state.crashes_alike.push_back(e.n);
    state.last_crash = words;
  }

  void count_proposal(const std::string& proposer, bool failed) {
    constexpr size_t kLatest = 20;
    if (proposer == "builtin" || proposer == "baseline") return;
    state.proposals_failed.push_back(failed);
    if (state.proposals_failed.size() > kLatest) state.proposals_failed.pop_front();
  }

  void operator()(const event::Reopened& e) {
    Experiment& experiment = experiment_of(state, e.n);
    check(experiment.status != Status::kKeep, "a kept experiment is not measured anew");
    ++experiment.reopened;
    experiment.status = Status::kOpen;
    experiment.measured.reset();
    experiment.reason = experiment.end_utc = "";
    experiment.disturbed = experiment.spoilt = experiment.interrupted = 0;
    state.open.insert(e.n);
    std::erase(state.crashes_alike, e.n);
  }

  void operator()(const event::Rest& e) {
    state.models_rest_until = at + e.seconds;
    state.proposals_failed.clear();
  }

  void operator()(const event::Told& e) { state.told.insert(e.what); }

  void operator()(const event::Trouble& e) {
    ++state.troubles_in_row;
    state.last_trouble = e.what;
    state.last_trouble_at = at;
  }

  void operator()(const event::Canary& e) {
    state.canary = e.problem;
    state.canary_at = at;
    if (!state.proof || !std::exchange(state.proof->broken, false)) return;
    // On a machine that is whole, the failure was the arm's own.
    if (e.problem.empty()) ++state.proof->failed.at(static_cast<size_t>(state.proof->arm));
  }

  void operator()(const event::Tested& e) {
    check(state.tested.emplace(e.commit, e).second, "a commit is scored on the test split twice");
    state.spent.scoring += e.seconds;
  }

  void operator()(const event::Proof& e) {
    check(!state.proof, "a proof is under way already");
    check(e.arms.size() == e.changes.size() + kFirstVariant && e.arms[kTip] == state.champion,
          "a proof of another tip, or with a variant that no change belongs to");
    ProofSoFar& proof = state.proof.emplace();
    proof.plan = e;
    proof.tip = state.champion;
    proof.plan.blocks.clear();
    proof.failed.resize(e.arms.size());
    proof.problems.resize(e.arms.size());
    proof.built.resize(e.arms.size(), true);
    add_blocks(proof, e.blocks);
  }

  static void add_blocks(ProofSoFar& proof, const std::vector<std::vector<int64_t>>& blocks) {
    for (const std::vector<int64_t>& arms : blocks) {
      for (const int64_t arm : arms)
        check(arm >= 0 && arm < static_cast<int64_t>(proof.plan.arms.size()), "no such arm");
      proof.plan.blocks.push_back(arms);
    }
    proof.figures.resize(proof.plan.blocks.size());
    proof.disturbed.resize(proof.plan.blocks.size());
  }

  ProofSoFar& proof_with(int64_t block, int64_t arm) {
    check(state.proof.has_value(), "no proof is under way");
    ProofSoFar& proof = *state.proof;
    check(block >= 0 && block < static_cast<int64_t>(proof.figures.size()), "no such block");
    const std::vector<int64_t>& arms = proof.plan.blocks[static_cast<size_t>(block)];
    check(std::count(arms.begin(), arms.end(), arm) == 1, "the block has no such arm");
    check(!proof.figures[static_cast<size_t>(block)].contains(arm), "the arm was measured already");
    return proof;
  }

  void operator()(const event::ProofStarted& e) {
    ProofSoFar& proof = proof_with(e.block, e.arm);
    check(e.attempt == proof.attempts + 1,
          fmt::format("attempt {} of the proof follows attempt {}", e.attempt, proof.attempts));
    // Code that may be what ended the agent; tip and baseline have run well before.
    if (proof.open && proof.arm >= kFirstVariant) ++proof.failed[static_cast<size_t>(proof.arm)];
    proof.attempts = e.attempt;
    proof.block = e.block;
    proof.arm = e.arm;
    proof.open = true;
    proof.pid = e.pid;
    proof.start_time = e.start_time;
  }

  void operator()(const event::ProofMeasured& e) {
    ProofSoFar& proof = proof_with(e.block, e.arm);
    const auto arm = static_cast<size_t>(e.arm), block = static_cast<size_t>(e.block);
    if (!e.built) {  // no attempt was begun
      proof.built[arm] = false;
      proof.problems[arm] = "it does not build: " + one_line(e.measured.last_words, 200);
      return;
    }
    check(proof.open && e.attempt == proof.attempts && e.block == proof.block && e.arm == proof.arm,
          "the measured attempt is not the open one");
    proof.open = false;
    proof.ended_at = at;
    count_time(e.measured);
    proof.broken = !e.measured.broken.empty();
    if (!e.measured.disturbed.empty()) {
      ++proof.disturbed[block][e.arm];
    } else if (e.measured.bpb && std::isfinite(*e.measured.bpb)) {
      proof.figures[block][e.arm] = *e.measured.bpb;
      state.troubles_in_row = 0;
    } else if (!proof.broken) {
      ++proof.failed[arm];
      proof.problems[arm] = why_void(e.measured);
    }
  }

  void operator()(const event::Trimmed& e) {
    check(state.proof && state.proof->trimmed.empty(), "no proof whose tip could lose a change");
    ProofSoFar& proof = *state.proof;
    proof.trimmed = e.changes;
    proof.plan.arms[kTip] = e.commit;
    proof.failed[kTip] = 0;
    proof.built[kTip] = true;
    proof.first_pair = proof.plan.blocks.size();
    add_blocks(proof, e.blocks);
  }

  void operator()(const event::Verified& e) {
    check(state.proof.has_value(), "a proof ends that never began");
    check(e.tip == state.proof->tip || e.tip == state.proof->plan.arms[kTip],
          "the proof was of another tip");
    if (e.tip != state.champion) replace_champion(e);
    for (const event::ProvenChange& change : e.changes)
      experiment_of(state, change.n).proven = change;
    state.verified = e;
    state.verified_at = at;
    ++state.proofs;
    state.proof.reset();
    state.troubles_in_row = 0;
  }

  // By the tip that lost changes. Its figures are the evidence of what it scores.
  void replace_champion(const event::Verified& e) {
    std::vector<double> figures;
    for (size_t block = state.proof->first_pair; block < state.proof->figures.size(); ++block)
      for (const auto& [arm, figure] : state.proof->figures[block])
        if (arm == kTip) figures.push_back(figure);
    check(!figures.empty(), "a tip becomes the champion that was never measured");
    state.evidence.bars.push_back(bar_of(state.evidence).value);
    state.evidence.repeats.push_back(std::move(figures));
    state.kept.push_back(-1);
    state.champion = e.tip;
    state.best_bpb = e.bpb;
    state.trimmed.push_back({e.tip, state.proof->trimmed, e.bpb, at});
    state.exhausted.clear();
  }

  void operator()(const event::Paused& e) {
    if (state.paused.empty()) state.paused_at = at;
    state.paused = e.why;
  }

  void operator()(const event::Resumed&) {
    if (!state.paused.empty()) state.spent.paused += std::max(0.0, at - state.paused_at);
    state.paused.clear();
  }

  // A user ended the run: the attempt that was open is no mark against its candidate.
  void operator()(const event::Stop& e) {
    for (const int64_t n : state.open) state.experiments[static_cast<size_t>(n)].open = false;
    if (state.proof) state.proof->open = false;
    state.stopped = e.why;
  }
};

}  // namespace

double TimeSpent::waiting() const {
  return std::max(0.0, total - startup - training - sealing - scoring - building - paused);
}

std::vector<std::string> RunState::backlog() const {
  constexpr size_t kLines = 10;
  std::unordered_set<std::string> known;
  for (const Experiment& experiment : experiments) known.insert(experiment.candidate.idea);
  std::vector<std::string> lines;
  for (auto line = next_lines.rbegin(); line != next_lines.rend() && lines.size() < kLines; ++line)
    if (known.insert(*line).second) lines.push_back(*line);
  std::reverse(lines.begin(), lines.end());
  return lines;
}

void apply(RunState& state, const Entry& entry) {
  const double at = seconds_of_utc(entry.time).value_or(state.last_event_at);
  if (!std::holds_alternative<event::Start>(entry.event) && state.last_event_at > 0)
    state.spent.total += std::max(0.0, at - state.last_event_at);
  std::visit(Fold{state, entry.time, at}, entry.event);
  state.last_event_at = at;
}

std::string first_commit(const RunState& state) {
  return state.experiments.empty() ? "" : state.experiments[0].candidate.commit;
}

RunState replay(const std::vector<Entry>& entries) {
  RunState state;
  for (size_t i = 0; i < entries.size(); ++i) {
    try {
      apply(state, entries[i]);
    } catch (const std::exception& problem) {
      throw Error(
          fmt::format("journal event {} contradicts those before it: {}; restore journal.jsonl, or "
                      "start a new run with another --tag",
                      i + 1, problem.what()));
    }
  }
  return state;
}

std::string fits_validation(const RunState& state) {
  if (state.champion_n <= 0) return "";
  const auto first = state.tested.find(state.at(0).candidate.commit);
  const auto last = state.tested.find(state.champion);
  for (const auto& found : {first, last})
    if (found == state.tested.end() || !found->second.bpb) return "";
  const double on_val = *state.at(0).measured->bpb - state.best_bpb;
  const double on_test = *first->second.bpb - *last->second.bpb;
  // A gap that grows by less than the noise of two figures, or by a tenth of the gain, says
  // nothing.
  const double tolerated = std::max(2 * noise_of(state.evidence).sigma, on_val / 10);
  if (on_val - on_test <= tolerated) return "";
  return fmt::format(
      "the loop may fit its validation rows: #{} gained {:.4f} on val and {:.4f} on test",
      state.champion_n, on_val, on_test);
}

std::string slow_operations(const RunState& state) {
  if (state.experiments.empty() || !state.experiments[0].measured) return "";
  const std::string& words = state.experiments[0].measured->fused_operations;
  return words == "all" ? "" : one_line(words, 400);
}

}  // namespace autoresearch
