#include "agent/loop/night.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "agent/edit/constants.h"
#include "agent/edit/cpp_tokens.h"
#include "agent/edit/edit_summary.h"
#include "agent/lab/proof.h"
#include "agent/loop/forecast.h"
#include "agent/loop/proving.h"
#include "agent/record/earlier_result.h"
#include "agent/record/history.h"
#include "agent/record/report.h"
#include "common/clock.h"
#include "common/error.h"
#include "common/text.h"

namespace autoresearch {
namespace {

// How it is told that a build failed by the machine's fault.
constexpr const char* kBuilderFailed = "the compiler can't do its work: ";

Draft draft_of(const event::Candidate& candidate, std::string source) {
  return {std::move(source), candidate.parent,   candidate.idea,
          candidate.why,     candidate.proposer, candidate.next};
}

event::Verdict crash(int64_t n, const std::string& reason) {
  event::Verdict verdict;
  verdict.n = n;
  verdict.status = Status::kCrash;
  verdict.reason = reason;
  return verdict;
}

std::string number(int64_t n) { return "#" + std::to_string(n); }

}  // namespace

Night::Night(Journal& journal, RunState state, Store& store, Workers& workers, Settings settings,
             double budget, Voice voice)
    : journal_(journal),
      state_(std::move(state)),
      store_(store),
      workers_(workers),
      settings_(settings),
      budget_(budget),
      voice_(std::move(voice)),
      started_(workers.now()) {}

step::Stop Night::run() {
  // A trainer of an agent that was killed would still hold the device.
  for (const Experiment& experiment : state_.experiments)
    if (experiment.open) workers_.kill_left_behind(experiment.pid, experiment.start_time);
  if (state_.proof && state_.proof->open)
    workers_.kill_left_behind(state_.proof->pid, state_.proof->start_time);
  bool tidy = false;
  while (true) {
    try {
      if (!std::exchange(tidy, true)) tidy_up();
      look_at_the_world();
      const Plan next = plan(state_, settings_, flight_, workers_.now());
      if (next.step) {
        if (const auto* stop = std::get_if<step::Stop>(&*next.step)) {
          close(*stop);
          return *stop;
        }
        std::visit([this](const auto& step) { take(step); }, *next.step);
      } else if (const auto done = workers_.wait(is_time_to_derive() ? 0 : next.look_again)) {
        std::visit([this](const auto& done) { take(done); }, *done);
      } else if (is_time_to_derive()) {
        derive();
      }
    } catch (const DurabilityError&) {
      throw;  // what follows from the journal would follow from nothing
    } catch (const std::exception& error) {
      survive(error);
    }
  }
}

// A trainer that is being started waits until it is on record.
bool Night::is_time_to_derive() const {
  const bool starts = (flight_.measuring && !state_.at(*flight_.measuring).open) ||
                      (flight_.proving && !state_.proof->open);
  return behind_ && !starts;
}

// What an earlier agent may have had still to do after its last verdict.
void Night::tidy_up() {
  for (const Experiment& experiment : state_.experiments)
    if (experiment.status != Status::kOpen) store_.tidy(experiment.n);
}

void Night::append(const Event& event) {
  apply(state_, journal_.append(event));
  const bool call =
      std::holds_alternative<CallOpened>(event) || std::holds_alternative<CallClosed>(event);
  behind_ = behind_ || !call;  // the next event tells what calls have cost
}

// What follows from the journal can be written again at any time: if it fails, that costs no pause.
void Night::derive() {
  behind_ = false;  // also if it fails: the next event tries again
  try {
    store_.derive(state_);
    not_derived_.clear();
  } catch (const DurabilityError&) {
    throw;
  } catch (const std::exception& error) {
    if (not_derived_ != error.what())
      voice_.warn(
          std::string(error.what()) +
          "; results.tsv and report.html follow as soon as they can be written, or with the "
          "next start");
    not_derived_ = error.what();
  }
}

void Night::look_at_the_world() {
  const World world = workers_.world();
  flight_.stop_soon = world.stop_soon;
  flight_.stop_now = world.stop_now;
  flight_.user_pauses = world.user_pauses;
  flight_.task_changed = world.task_changed;
  flight_.models_ready = world.models_ready;
  flight_.models_ready_in = world.models_ready_in;
  flight_.stuck = world.stuck;
}

// An error of the loop's own costs a pause, not the night. Before there is a champion it ends the
// run: a mistake in the set-up should be seen at once.
void Night::survive(const std::exception& error) {
  if (state_.champion.empty()) throw;
  append(event::Trouble{one_line(error.what(), 400)});
  voice_.warn(
      fmt::format("{}; going on in {:.0f} s", error.what(), trouble_pause(state_.troubles_in_row)));
}

// Jobs that end now may have paid for something: that is written down before the end is.
void Night::close(const step::Stop& stop) {
  for (const Done& done : workers_.finish()) {
    if (const auto* call = std::get_if<done::Call>(&done)) append(as_event(call->event));
    const auto* proposed = std::get_if<done::Proposed>(&done);
    if (proposed && !proposed->replied.empty())
      append(event::Replied{proposed->n, proposed->replied});
  }
  append(event::Stop{stop.why});
  not_derived_.clear();  // it is said once more
  try {
    derive();
  } catch (const DurabilityError& error) {  // the run has ended, and that is on disk
    voice_.warn(error.what());
  }
  voice_.notify(Notice::kEnd, stop.why);  // whoever is told may read them at once
}

// ------------------------------------------------------------------------------------------------
// Steps of the plan

void Night::take(const step::Baseline&) {
  voice_.say("building the baseline");
  take_draft(0, {store_.first_source(), "", "baseline", "", "baseline", {}});
}

void Night::take(const step::Propose& step) {
  if (const std::string program = workers_.world().program; program != state_.program) {
    if (!state_.program.empty())
      voice_.say("program.md has changed; " + number(step.n) + " is the first that sees it");
    append(event::Program{program});
  }
  workers_.start(job::Propose{step.n, step.builtin, measured_now()}, state_);
  flight_.talks[step.n] = Talk{};
}

// For the author of the next idea.
std::string Night::measured_now() const {
  if (flight_.proving) return "champion and baseline, once more";
  if (flight_.testing) return "a kept model, on other text";
  if (!flight_.measuring) return "";
  const int64_t n = *flight_.measuring;
  if (flight_.again) return "the best once more, to learn how far figures scatter";
  return fmt::format("experiment {}: {}", n, state_.at(n).candidate.idea);
}

void Night::take(const step::Reopen& step) {
  voice_.say("going on with the conversation about " + number(step.n) + ", which was interrupted");
  workers_.start(job::Reopen{step.n}, state_);
  flight_.talks[step.n] = Talk{};
}

void Night::take(const step::GoOn& step) {
  Talk& talk = flight_.talks.at(step.n);
  job::GoOn job{step.n, talk.failure, talk.problem};
  if (talk.stage == Talk::kDone) {
    job.failure = Failure::kRun;
    job.problem = why_void(*state_.at(step.n).measured, allowance_of(budget_, baseline()));
    voice_.say(number(step.n) + " " + one_line(job.problem, 100) + "; asking for a repair");
  }
  workers_.start(job, state_);
  talk.stage = Talk::kAsking;
}

void Night::take(const step::Rebase& step) {
  const bool recorded = step.n < state_.next_n();
  Draft draft = recorded ? draft_of(state_.at(step.n).candidate,
                                    store_.source_at(state_.at(step.n).candidate.commit))
                         : drafts_.at(step.n);
  const std::string champion = store_.source_at(state_.champion);
  const auto merged = store_.merge(store_.source_at(draft.base), draft.source, champion);
  if (!merged || *merged == champion)
    return withdraw(step.n, "its edit does not fit to " + number(state_.champion_n) +
                                ", which was kept meanwhile");
  draft.source = *merged;
  draft.base = state_.champion;
  if (const auto known = known_result(state_, draft.source))
    return withdraw(step.n, "on the new champion it is code that was measured already");
  store_.write_candidate(step.n, draft);
  Talk& talk = flight_.talks[step.n];
  talk.stage = Talk::kEdited;
  talk.base = draft.base;
  talk.may_go_on = talk.may_mend = false;  // its author knows another champion
  drafts_[step.n] = std::move(draft);
}

void Night::take(const step::Build& step) {
  const auto talk = flight_.talks.find(step.n);
  if (talk != flight_.talks.end() && talk->second.stage == Talk::kEdited) {
    workers_.start(job::Build{step.n, drafts_.at(step.n).source}, state_);
    talk->second.stage = Talk::kBuilding;
    return;
  }
  const Experiment& experiment = state_.at(step.n);
  voice_.say(fmt::format("going on with experiment {}, which was interrupted", step.n));
  const std::string source = store_.source_at(experiment.candidate.commit);
  store_.write_candidate(step.n, draft_of(experiment.candidate, source));
  workers_.start(job::Build{step.n, source}, state_);
  flight_.building = step.n;
}

void Night::take(const step::Measure& step) {
  const bool first = state_.champion.empty();
  const int attempt = state_.at(step.n).attempts + 1;
  job::Measure job;
  job.n = step.n;
  if (step.again) job.again = store_.source_at(state_.champion);
  job.seed = seed_of(fmt::format("{} {}", state_.start->tag, state_.start->seed), step.n, attempt);
  if (!first) job.baseline = baseline();
  if (!first) job.best = best_that_needs_no_proof();
  workers_.start(job, state_);
  flight_.measuring = step.n;
  flight_.again = step.again;
}

void Night::take(const step::Judge& step) {
  const Experiment& experiment = state_.at(step.n);
  const bool first = step.n == 0;
  std::string why = first ? why_void(*experiment.measured)
                          : why_void(*experiment.measured, allowance_of(budget_, baseline()));
  const std::string& words = experiment.measured->last_words;
  if (!why.empty() && !words.empty()) why += " (" + words + ")";
  check(!first || why.empty(),
        "the baseline failed: " + why +
            "; see experiments/0000/run.log in the run's folder, mend it and start a new --tag");
  // A repair that came to nothing leaves the folder as it was measured.
  const auto talk = flight_.talks.find(step.n);
  if (talk != flight_.talks.end() && talk->second.stage == Talk::kSetback) {
    voice_.say("      its repair came to nothing: " + one_line(talk->second.problem, 160));
    store_.write_candidate(
        step.n, draft_of(experiment.candidate, store_.source_at(experiment.candidate.commit)));
  }
  if (why.empty() && !first) return decide(step.n);
  event::Verdict verdict = crash(step.n, why);
  if (first) verdict.status = Status::kKeep;
  give_verdict(blame_machine(std::move(verdict)));
}

// A gain on a busy machine is one all the same; anything else there says nothing of the code.
event::Verdict Night::blame_machine(event::Verdict verdict) const {
  const std::string& busy = state_.at(verdict.n).measured->busy;
  if (busy.empty() || verdict.status == Status::kKeep) return verdict;
  verdict.machine = true;
  verdict.reason = "the machine was busy in every attempt (" + busy + "); " + verdict.reason;
  return verdict;
}

void Night::take(const step::Test& step) {
  workers_.start(job::Test{step.commit, baseline()}, state_);
  flight_.testing = step.commit;
}

// What can't be kept needs no full look at its causality: a figure above it.
double Night::best_that_needs_no_proof() const {
  if (settings_.keep == KeepRule::kGreedy) return state_.best_bpb;
  return bar_of(state_.evidence).value + noise_of(state_.evidence).sigma;
}

// Keep or discard, by what is known of the noise.
void Night::decide(int64_t n) {
  const Experiment& experiment = state_.at(n);
  const auto size = [&](const std::string& commit) {
    return static_cast<int64_t>(code_tokens(store_.source_at(commit)).size());
  };
  const Judgement judged =
      judge(state_.evidence, *experiment.measured->bpb,
            size(state_.champion) - size(experiment.candidate.commit), settings_.keep);
  event::Verdict verdict;
  verdict.n = n;
  verdict.status = is_keep(judged.decision) ? Status::kKeep : Status::kDiscard;
  verdict.decision = name_of(judged.decision);
  verdict.difference = judged.difference;
  verdict.sigma = judged.sigma;
  const std::string figures =
      fmt::format("{:+.4f} against the champion, noise {:.4f}", judged.difference, judged.sigma);
  if (judged.decision == Decision::kSimpler) verdict.reason = "equal and simpler: " + figures;
  if (judged.decision == Decision::kNoise) verdict.reason = "within the noise: " + figures;
  if (judged.decision == Decision::kNo) verdict.reason = "no gain: " + figures;
  give_verdict(blame_machine(std::move(verdict)));
}

// ------------------------------------------------------------------------------------------------
// The proof

// `source` without the change of a kept experiment; nothing if it can't be reversed there.
std::optional<std::string> Night::without(int64_t n, const std::string& source) {
  const event::Candidate& change = state_.at(n).candidate;
  auto reversed =
      store_.merge(store_.source_at(change.commit), store_.source_at(change.parent), source);
  if (reversed && *reversed == source) return std::nullopt;  // nothing of it is left
  return reversed;
}

// The plan goes to the journal as a whole, before the first measurement: after a kill the proof
// goes on with it.
void Night::take(const step::BeginProof& step) {
  const std::string tip = store_.source_at(state_.champion);
  const std::vector<int64_t> all = changes_of(state_);
  std::vector<std::pair<int64_t, std::string>> variants;
  // A single change is the whole gain: all measurements go to the pairs.
  if (all.size() > 1 || !state_.trimmed.empty())
    for (const int64_t n : all)
      if (auto reversed = without(n, tip)) variants.emplace_back(n, *std::move(reversed));

  const std::string name = "proof/" + std::to_string(state_.proofs + 1);
  const ProofPlan plan = plan_proof(step.budget, static_cast<int64_t>(variants.size()),
                                    state_.start->tag + " " + name);
  variants.resize(static_cast<size_t>(plan.variants));
  event::Proof proof{
      {state_.champion, state_.at(0).candidate.commit}, {}, plan.blocks, plan.reserved_pairs};
  for (const auto& [n, source] : variants) {
    const Draft draft{source, state_.champion, "without " + number(n), "", "agent", {}};
    proof.arms.push_back(store_.commit_aside(name + "-" + std::to_string(n), draft));
    proof.changes.push_back(n);
  }
  append(proof);
  voice_.say(
      fmt::format("proving what was kept: {} blocks, each of champion, baseline and {} variants",
                  plan.blocks.size(), variants.size()));
}

void Night::take(const step::MeasureArm& step) {
  const ProofSoFar& proof = *state_.proof;
  job::Measure job;
  job.n = kProofJob;
  job.arm = step.next.arm;
  job.again = store_.source_at(proof.plan.arms[static_cast<size_t>(step.next.arm)]);
  job.seed = seed_of(fmt::format("{} {} proof", state_.start->tag, state_.start->seed),
                     state_.proofs, proof.attempts + 1);
  job.baseline = baseline();
  // Code that may become the champion and never was one is looked at fully.
  const bool new_tip = step.next.arm == kTip && !proof.trimmed.empty();
  if (!new_tip) job.best = 0;
  workers_.start(job, state_);
  flight_.proving = step.next;
}

void Night::take(const step::Trim& step) {
  const ProofSoFar& proof = *state_.proof;
  std::string source;
  event::Trimmed trimmed;
  std::string names;
  for (const int64_t n : step.changes) {
    const auto at = std::find(proof.plan.changes.begin(), proof.plan.changes.end(), n);
    const auto arm = static_cast<size_t>(at - proof.plan.changes.begin() + kFirstVariant);
    // The first is a variant that was measured; a change that can't be reversed there too stays.
    const auto next = source.empty() ? store_.source_at(proof.plan.arms[arm]) : without(n, source);
    if (!next) continue;
    source = *next;
    trimmed.changes.push_back(n);
    names += (names.empty() ? "" : ", ") + number(n);
  }
  const std::string name = "proof/" + std::to_string(state_.proofs + 1);
  const Draft draft{source, state_.champion, "without " + names, "", "agent", {}};
  trimmed.commit = store_.commit_aside(name + "-tip", draft);
  trimmed.blocks = pairs_of(proof.plan.reserved_pairs, state_.start->tag + " " + name);
  append(trimmed);
  voice_.say("without " + names + " the champion measured better; it is measured anew");
}

// The end of a proof is one event; a tip that lost changes has its files on disk before it.
void Night::take(const step::EndProof&) {
  const event::Verified result = outcome_of(state_);
  if (result.tip != state_.champion) store_.keep_champion(kProofJob, result.tip);
  append(result);
  for (const std::string& line : {proof_line(state_), changes_line(state_)})
    if (!line.empty()) voice_.say(line);
}

void Night::take_arm(autoresearch::Measured measured, bool built) {
  const ArmOfBlock of = *std::exchange(flight_.proving, std::nullopt);
  if (built && measured.disturbed.empty()) measured.disturbed = disturbance(measured.machine);
  append(event::ProofMeasured{of.block, of.arm, state_.proof->attempts, built, measured});
  const std::string name = name_of_arm(state_.proof->plan, of.arm);
  std::string result = measured.bpb ? fmt::format("{:.6f}", *measured.bpb)
                       : built      ? "no figure: " + one_line(why_void(measured), 100)
                                    : "does not build";
  if (!measured.disturbed.empty()) result = "machine busy, measured again later";
  voice_.say(fmt::format("proof {} of {}  {:<14} {}", of.block + 1,
                         state_.proof->plan.blocks.size(), name, result));
}

// ------------------------------------------------------------------------------------------------
// Other steps

void Night::take(const step::GiveUp& step) {
  event::Verdict verdict = crash(step.n, step.reason);
  verdict.machine = step.machine;
  give_verdict(std::move(verdict));
}

void Night::take(const step::Refuse& step) {
  Talk talk;
  talk.proposer = "agent";
  talk.problem = "no model can be asked any more";
  if (const auto open = flight_.talks.find(step.n); open != flight_.talks.end())
    talk = open->second;
  flight_.unanswered.erase(step.n);
  store_.close_conversation(step.n);
  append(event::Refused{step.n, talk.proposer, talk.problem.substr(0, 2000)});
  flight_.talks.erase(step.n);
  workers_.forget(step.n);
  const std::string line = one_line(talk.problem, 160);
  if (line != said_) voice_.say("      " + talk.proposer + " came to nothing: " + line);
  said_ = line;
}

void Night::take(const step::Canary&) {
  voice_.say("the champion is run for a few steps, to see if the machine is whole");
  workers_.start(job::Canary{store_.source_at(state_.champion)}, state_);
  flight_.canary = true;
}

void Night::take(const step::Pause& step) {
  append(event::Paused{step.why});
  const bool user = step.why == kPausedByUser;
  const std::string line =
      user ? "paused; agent resume --tag " + state_.start->tag + " goes on"
           : "paused, because the machine is broken: " + one_line(step.why, 200) +
                 "; looking again every few minutes";
  user ? voice_.say(line) : voice_.warn(line);
  voice_.notify(user ? Notice::kPause : Notice::kBreakage, line);
}

void Night::take(const step::Resume&) {
  append(event::Resumed{});
  voice_.say("going on");
}

void Night::take(const step::RestModels& step) {
  append(event::Rest{step.seconds});
  voice_.warn(fmt::format(
      "half of the last 20 proposals of models came to nothing; the builtin proposer has "
      "the word for {:.0f} minutes",
      step.seconds / 60));
}

void Night::take(const step::Again& step) {
  append(event::Reopened{step.n});
  voice_.say(number(step.n) + " is measured anew: it was the machine that failed");
}

void Night::take(const step::Tell& step) {
  append(event::Told{step.what});
  voice_.say(step.what);
  voice_.notify(Notice::kPlateau, step.what);
}

// ------------------------------------------------------------------------------------------------
// Ends of jobs

void Night::take(const done::Proposed& done) {
  if (!done.replied.empty()) append(event::Replied{done.n, done.replied});
  if (!flight_.talks.contains(done.n)) return;  // the experiment ended meanwhile
  Talk& talk = flight_.talks.at(done.n);
  talk.proposer = done.proposer;
  talk.may_go_on = done.may_go_on;
  talk.may_mend = done.may_mend;
  if (done.fits) append(*done.fits);
  const bool repair = done.n < state_.next_n();
  const auto set_back = [&](const std::string& problem, bool may_go_on) {
    talk.stage = Talk::kSetback;
    talk.failure = Failure::kEdit;
    talk.problem = problem;
    talk.may_go_on = may_go_on;
  };
  switch (done.kind) {
    case done::Proposed::kDraft:
      return take_draft(done.n, done.draft);
    case done::Proposed::kSetback:
      return set_back(done.problem, done.may_go_on);
    case done::Proposed::kNoReply:
      if (repair) return set_back(done.problem, false);
      flight_.talks.erase(done.n);
      flight_.unanswered.insert(done.n);
      return workers_.forget(done.n);
    case done::Proposed::kNothing:
      append(event::Exhausted{done.problem});
      flight_.talks.erase(done.n);
      return workers_.forget(done.n);
    case done::Proposed::kNoMemory:
      return set_back("no conversation about it can go on", false);
  }
}

// From an edit to what may be built: code that was measured already costs no device time.
void Night::take_draft(int64_t n, Draft draft) {
  Talk& talk = flight_.talks[n];
  const bool repair = n < state_.next_n();
  if (repair && code_fingerprint(draft.source) == state_.at(n).candidate.fingerprint) {
    // The reply that made the candidate: after a restart its author is told what came of it.
    talk.stage = Talk::kDone;
    talk.may_go_on = talk.may_mend;
    return;
  }
  if (const auto known = n > 0 ? known_result(state_, draft.source) : std::nullopt) {
    talk.stage = Talk::kSetback;
    talk.failure = Failure::kKnown;
    talk.problem = *known;
    return;
  }
  try {
    store_.write_candidate(n, draft);
  } catch (...) {  // the reply lies in the folder: the conversation is opened again after the pause
    flight_.talks.erase(n);
    throw;
  }
  talk.stage = Talk::kEdited;
  talk.base = draft.base;
  talk.broken_at = 0;
  drafts_[n] = std::move(draft);
}

// Seconds of the slot: what is built while something is measured costs it nothing.
void Night::count_build(int64_t n, double seconds) {
  if (seconds > 0) append(event::Built{n, seconds});
}

void Night::take(const done::Built& done) {
  if (!flight_.is_measuring()) count_build(done.n, done.seconds);
  if (flight_.building == done.n) {
    flight_.building.reset();
    if (done.ok) {
      flight_.built.insert(done.n);
      return;
    }
    check(done.broken.empty(), kBuilderFailed + done.broken);
    check(done.n > 0,
          "train.cpp does not build again; see experiments/0000/build.log in the run's "
          "folder and start a new --tag");
    return give_verdict(crash(done.n, "did not build again after an interruption"));
  }
  if (done.ok) return record_candidate(done.n);
  check(done.n > 0, "train.cpp does not build; see experiments/0000/build.log in the run's folder");
  Talk& talk = flight_.talks.at(done.n);
  if (!done.broken.empty() && talk.broken_at == 0) {
    talk.broken_at = workers_.now();  // the machine is looked at, then this is built once more
    talk.stage = Talk::kEdited;
    return voice_.warn(kBuilderFailed + done.broken);
  }
  append(event::NotBuilt{done.n, code_fingerprint(drafts_.at(done.n).source), done.errors});
  if (done.n < state_.next_n() && !state_.at(done.n).measured)
    return withdraw(done.n, "on the new champion its edit does not build");
  talk.stage = Talk::kSetback;
  talk.failure = Failure::kBuild;
  talk.problem = done.errors;
  talk.may_go_on = talk.may_mend;
}

void Night::record_candidate(int64_t n) {
  const Draft& draft = drafts_.at(n);
  Talk& talk = flight_.talks.at(n);
  talk.stage = Talk::kEdited;  // if what follows fails, it is built and tried again
  event::Candidate candidate{n,
                             store_.commit(n, draft),
                             draft.base,
                             draft.idea,
                             draft.why,
                             draft.proposer,
                             code_fingerprint(draft.source),
                             {},
                             {},
                             draft.next};
  if (n > 0) {
    const Change change = describe_change(store_.source_at(draft.base), draft.source);
    candidate.constants = change.constants;
    candidate.areas = change.areas;
  }
  append(candidate);
  flight_.built.insert(n);
  talk.stage = Talk::kDone;
  talk.may_go_on = talk.may_mend;
  if (n == 0) voice_.say(experiment_header());
}

void Night::withdraw(int64_t n, const std::string& why) {
  store_.close_conversation(n);
  append(event::Withdrawn{n, why});
  flight_.talks.erase(n);
  flight_.built.erase(n);
  drafts_.erase(n);
  workers_.forget(n);
  store_.tidy(n);
  voice_.say("      the next idea is asked for again: " + why);
}

void Night::take(const done::Began& done) {
  if (done.n == kProofJob) {
    append(event::ProofStarted{flight_.proving->block, flight_.proving->arm,
                               state_.proof->attempts + 1, done.pid, done.start_time});
    return workers_.acknowledge();
  }
  append(event::RunStarted{done.n, state_.at(done.n).attempts + 1, done.pid, done.start_time});
  workers_.acknowledge();
}

void Night::take(const done::Call& done) {
  append(as_event(done.event));
  workers_.acknowledge();
  estimate_cost();
}

// What was usual in the latest measurements that count is no disturbance.
std::string Night::disturbance(const MachineState& machine) const {
  if (!settings_.repeat_disturbed) return "";
  constexpr size_t kPeers = 20;
  std::vector<MachineState> peers;
  for (auto e = state_.experiments.rbegin(); e != state_.experiments.rend(); ++e)
    if (e->measured && e->measured->bpb && peers.size() < kPeers) {
      peers.push_back(e->measured->machine);
      // What an earlier program had and this one never did can't be missed.
      peers.back().cores = std::min(peers.back().cores, settings_.cores);
    }
  return disturbed(machine, peers).value_or("");
}

void Night::take(const done::Measured& done) {
  count_build(done.n, done.build_seconds);
  if (done.n == kProofJob) return take_arm(done.measured, done.built);
  flight_.measuring.reset();
  autoresearch::Measured measured = done.measured;
  if (measured.disturbed.empty()) measured.disturbed = disturbance(measured.machine);
  // A machine that is always busy is its own measure: a candidate's last repeat counts, for what it
  // is. What is measured once more is not needed so much.
  const Experiment& experiment = state_.at(done.n);
  if (experiment.status == Status::kOpen && experiment.spoilt >= kMostDisturbances)
    measured.busy = std::exchange(measured.disturbed, "");
  append(event::Measurement{done.n, state_.at(done.n).attempts, measured});
  if (!measured.disturbed.empty())
    voice_.say(number(done.n) +
               " machine busy, measured again later: " + one_line(measured.disturbed, 160));
}

void Night::take(const done::Tested& done) {
  const std::string commit = *std::exchange(flight_.testing, std::nullopt);
  append(event::Tested{commit, done.score.bpb, done.score.problem, done.score.seconds});
  if (!done.score.problem.empty())
    voice_.warn(History::short_id(commit) +
                " has no score on the test split: " + one_line(done.score.problem, 160));
  if (const std::string line = fits_validation(state_); commit == state_.champion && !line.empty())
    voice_.warn(line);
}

void Night::take(const done::Canary& done) {
  flight_.canary = false;
  count_build(kCanaryJob, done.build_seconds);
  append(event::Canary{done.problem});
}

// The job is over and its experiment as it was; the plan finds what is missing.
void Night::take(const done::Failed& done) {
  if (done.not_on_disk) throw DurabilityError(done.what);
  if (flight_.measuring == done.n) {
    flight_.measuring.reset();
    // A champion that can't be built or run again must not hold up the night.
    if (flight_.again) append(event::Told{no_repeat_of(done.n)});
  }
  if (flight_.building == done.n) flight_.building.reset();
  if (done.n == kCanaryJob) flight_.canary = false;
  if (done.n == kProofJob) flight_.proving.reset();
  if (done.n == kTestJob) flight_.testing.reset();
  const auto talk = flight_.talks.find(done.n);
  if (talk != flight_.talks.end() && talk->second.stage == Talk::kBuilding)
    talk->second.stage = Talk::kEdited;
  else if (talk != flight_.talks.end() && talk->second.stage == Talk::kAsking)
    flight_.talks.erase(talk);
  throw Error(done.what);
}

// ------------------------------------------------------------------------------------------------
// Verdicts

Baseline Night::baseline() const { return baseline_of(*state_.at(0).measured); }

// The commit point. For a keep, the champion's files are on disk before it.
void Night::give_verdict(event::Verdict verdict) {
  const int64_t n = verdict.n;
  const bool keep = verdict.status == Status::kKeep;
  const std::string& commit = state_.at(n).candidate.commit;
  if (keep) store_.keep_champion(n, commit);
  verdict.champion = keep ? commit : state_.champion;
  append(verdict);
  flight_.talks.erase(n);
  flight_.built.erase(n);
  drafts_.erase(n);
  workers_.forget(n);
  speak_after(n);
  store_.tidy(n);
}

// After the first calls that were answered, what the night will cost. That a model was there, which
// is asked before the first experiment, tells nothing of it.
void Night::estimate_cost() {
  constexpr int64_t kTellingCalls = 3;
  const Spending& spending = state_.on_experiments;
  if (state_.told.contains("estimate") || spending.answered() < kTellingCalls) return;
  append(event::Told{"estimate"});
  voice_.say(night_estimate(spending, std::max<int64_t>(1, state_.next_n()), left()));
}

double Night::left() {
  return experiments_left(state_, settings_, budget_, started_, workers_.now());
}

// That the user can go: an experiment went all the way, and a model that is to propose has
// answered.
void Night::say_safe_to_leave(int64_t n) {
  const bool answered = !settings_.models || state_.at(n).replies > 0;
  const bool crashed = state_.at(n).status == Status::kCrash;
  if (n == 0 || crashed || !answered || state_.told.contains("safe")) return;
  append(event::Told{"safe"});
  if (const double count = left(); count >= 1)
    voice_.say(fmt::format("safe to leave: about {:.0f} more experiments by {}", count,
                           clock_time(count * seconds_each(state_, budget_))));
}

void Night::speak_after(int64_t n) {
  voice_.say(experiment_line(state_, n, store_.won(state_, n)));
  if (const std::string slow = slow_operations(state_); n == 0 && !slow.empty()) voice_.warn(slow);
  const bool first_keep = n > 0 && state_.champion_n == n && !state_.told.contains("first keep");
  if (first_keep) {
    append(event::Told{"first keep"});
    voice_.notify(Notice::kFirstKeep, state_.at(n).candidate.idea);
  }
  say_safe_to_leave(n);
}

}  // namespace autoresearch
