#include "tests/simulation.h"

#include <fstream>

#include "agent/lab/proof.h"
#include "agent/record/report.h"
#include "common/error.h"
#include "common/text.h"

namespace autoresearch {
namespace {

// A source is its tokens: "base +12 +15!build". A token's number decides what it is worth.
std::vector<std::string> tokens_of(const std::string& source) {
  std::vector<std::string> tokens;
  for (size_t at = 0; at < source.size();) {
    const size_t end = std::min(source.find(' ', at), source.size());
    tokens.push_back(source.substr(at, end - at));
    at = end + 1;
  }
  return tokens;
}

// A reply that holds no edit.
const std::string kNoEdit = "?";

int64_t verdicts_in(const RunState& state) {
  return static_cast<int64_t>(state.experiments.size() - state.open.size());
}

}  // namespace

Simulation::Simulation(SimulatedNight night, uint64_t seed, fs::path journal)
    : night_(std::move(night)), random_(seed), path_(std::move(journal)) {
  end_ = now_ + 3600 * night_.hours;
}

void Simulation::run() {
  Settings settings = night_.settings;
  settings.deadline = end_;
  settings.given = 3600 * night_.hours;
  // Not forever: a night that never ends is reported by check().
  for (starts_ = 1; starts_ < 1000; ++starts_) {
    try {
      armed_ = true;
      stopping_ = false;
      Journal journal(path_, [this] {
        maybe_kill();
        return now_;
      });
      RunState state = replay(journal.earlier());
      event::Start start;
      start.tag = "t";
      apply(state, journal.append(start));
      Night loop(journal, std::move(state), *this, *this, settings, night_.budget, voice());
      const step::Stop stop = loop.run();
      if (stop.kind != step::Stop::kInterrupted) break;
    } catch (const Killed&) {
      ++kills_;
      lose_what_was_not_on_disk();
    }
    now_ += 30;
  }
  armed_ = false;
  state_ = replay(read_journal(path_));
}

Voice Simulation::voice() {
  Voice voice;
  voice.say = voice.warn = [this](const std::string& line) { said_.push_back(line); };
  voice.notify = [this](Notice notice, const std::string&) { ++notices_[notice]; };
  return voice;
}

int64_t Simulation::times_said(const std::string& words) const {
  return std::count_if(said_.begin(), said_.end(), [&](const std::string& line) {
    return line.find(words) != std::string::npos;
  });
}

// A power cut may leave a part of a line that was being written.
void Simulation::lose_what_was_not_on_disk() {
  if (chance(0.5)) {
    const std::string bytes = read_file(path_);
    const size_t end = bytes.rfind('\n', bytes.size() - 2);
    const std::string line = bytes.substr(end == std::string::npos ? 0 : end + 1);
    std::ofstream(path_, std::ios::app)
        << line.substr(0, std::uniform_int_distribution<size_t>(1, line.size() - 1)(random_));
  }
  talks_.clear();
  programs_.clear();
  events_ = {};
  turns_ = 0;
  unacknowledged_.reset();
}

bool Simulation::chance(double share) {
  return std::uniform_real_distribution<>(0, 1)(random_) < share;
}

double Simulation::about(double mean) {
  return mean * std::uniform_real_distribution<>(0.7, 1.3)(random_);
}

void Simulation::maybe_kill() {
  if (armed_ && chance(night_.kill)) throw Killed{};
}

void Simulation::maybe_fail() {
  maybe_kill();
  // Before there is a champion an error ends the run, as it should.
  if (armed_ && !champion_.empty() && chance(night_.trouble))
    throw Error("no space left on device");
}

void Simulation::later(double seconds, Done done) {
  if (std::holds_alternative<done::Proposed>(done) && ++turns_ > 1)
    wrong_.push_back("two authors are asked at once");
  events_.push({now_ + seconds, ++order_, std::move(done)});
}

// ------------------------------------------------------------------------------------------------
// The truth

double Simulation::truth(const std::string& source) const {
  double bpb = 1;
  for (const std::string& token : tokens_of(source)) {
    if (token[0] != '+' || !night_.effects) continue;
    std::mt19937_64 worth(std::hash<std::string>()(token.substr(0, token.find('!'))));
    // Most changes hurt, some do nothing, few gain.
    bpb += std::normal_distribution<>(1.5e-3, 2e-3)(worth);
  }
  return bpb;
}

bool Simulation::is_bad(const std::string& source, const char* how) const {
  return source.find(how) != std::string::npos;
}

autoresearch::Measured Simulation::measure(int64_t n, const std::string& source) {
  autoresearch::Measured result;
  result.phases = Phases{night_.startup, night_.budget, night_.sealing};
  result.wall_seconds = night_.startup + night_.budget + night_.sealing;
  result.overhead_seconds = night_.startup + night_.sealing;
  result.score_seconds = night_.scoring;
  result.score_rss_bytes = result.sealed_bytes = 1000;
  const bool broken = now_ < broken_until_;
  if (broken || is_bad(source, "!crash")) {  // soon after it began
    result.phases = std::nullopt;
    result.wall_seconds = night_.startup;
    result.score_seconds = 0;
  }
  if (broken) {
    result.train_exit = 127;
    result.broken = "error while loading shared libraries: libgomp.so.1";
  } else if (is_bad(source, "!crash")) {
    result.train_exit = 139;
  } else {
    result.sealed = true;
    result.bpb = truth(source) + std::normal_distribution<>(0, night_.noise)(random_);
    measured_[{n, *result.bpb}] = source;
  }
  if (!broken && n != 0 && chance(night_.disturbed)) {
    result.disturbed = "a neighbour took a core";
    ++disturbed_;
  }
  return result;
}

// ------------------------------------------------------------------------------------------------
// Workers

World Simulation::world() {
  maybe_kill();
  if (armed_ && !stopping_ && chance(night_.stop)) stopping_ = true;
  World world;
  world.stop_now = stopping_;
  world.models_ready = true;
  world.program = now_ < end_ - 1800 * night_.hours ? "p" : "changed";
  return world;
}

void Simulation::start(const Job& job, const RunState& state) {
  maybe_kill();
  champion_ = state.champion;
  if (std::holds_alternative<job::Measure>(job)) owed_ = verdicts_in(state);
  on_record_ = state.replies;
  parent_.clear();
  if (const auto* again = std::get_if<job::Reopen>(&job); again && again->n < state.next_n()) {
    on_record_ = state.at(again->n).replies;
    parent_ = state.at(again->n).candidate.parent;
  }
  std::visit([this](const auto& job) { begin(job); }, job);
}

void Simulation::begin(const job::Propose& job) {
  const auto paid = conversations_.find(job.n);
  if (!job.builtin && paid != conversations_.end() && !paid->second.open_reply.empty())
    return begin(job::Reopen{job.n});
  conversations_.erase(job.n);
  talks_[job.n] = {};
  talks_[job.n].builtin = job.builtin;
  talks_[job.n].base = champion_;
  reply(job.n, false);
}

void Simulation::begin(const job::Reopen& job) {
  const auto kept = conversations_.find(job.n);
  done::Proposed done;
  done.n = job.n;
  const bool goes_on =
      kept != conversations_.end() && (parent_.empty() || kept->second.base == parent_);
  if (!goes_on) {
    done.kind = done::Proposed::kNoMemory;
    return later(0, done);
  }
  Talk& talk = talks_[job.n] = kept->second;
  if (talk.open_reply.empty()) return reply(job.n, talk.repairs > 0);
  done.kind = talk.open_reply == kNoEdit ? done::Proposed::kSetback : done::Proposed::kDraft;
  done.proposer = "model";
  if (talk.replies > on_record_) done.replied = "model";
  done.draft = {talk.open_reply, talk.base, "idea " + talk.open_reply, "", "model", {}};
  done.may_go_on = talk.calls < 4;
  done.may_mend = done.may_go_on && talk.repairs < 2;
  later(0, done);
}

void Simulation::begin(const job::GoOn& job) {
  Talk& talk = talks_.at(job.n);
  const bool ran = job.failure == Failure::kRun || job.failure == Failure::kBuild;
  talk.repairs += ran;
  talk.open_reply.clear();
  conversations_[job.n] = talk;
  reply(job.n, ran);
}

// A call of so many seconds. Its reply lies in the folder when the completion comes.
void Simulation::reply(int64_t n, bool mending) {
  Talk& talk = talks_.at(n);
  done::Proposed done;
  done.n = n;
  done.proposer = talk.builtin ? "builtin" : "model";
  const double seconds = talk.builtin ? 0.1 : about(night_.proposal);
  ++talk.calls;
  done.may_go_on = !talk.builtin && talk.calls < 4;
  done.may_mend = done.may_go_on && talk.repairs < 2;
  if (!talk.builtin && chance(night_.no_reply)) {
    done.kind = done::Proposed::kNoReply;
    return later(seconds, done);
  }
  if (!talk.builtin) done.replied = "model";
  if (!talk.builtin) ++talk.replies;
  if (chance(night_.bad_edit)) {
    talk.open_reply = kNoEdit;
    done.kind = done::Proposed::kSetback;
    done.problem = "the block occurs nowhere";
    return later(seconds, done);
  }
  std::string token = "+" + std::to_string(++next_token_);
  const bool mended = mending && night_.mend && chance(0.5);
  if (!mended && chance(night_.no_build)) token += "!build";
  if (!mended && chance(night_.crash)) token += "!crash";
  done.kind = done::Proposed::kDraft;
  done.draft = {
      commits_.at(talk.base) + " " + token, talk.base, "idea " + token, "", done.proposer, {}};
  talk.open_reply = done.draft.source;
  later(seconds, done);
}

void Simulation::begin(const job::Build& job) {
  folders_[job.n] = job.source;
  done::Built done{job.n, !is_bad(job.source, "!build"), "error: no", about(night_.build)};
  if (now_ < broken_until_) {
    done.ok = false;
    done.broken = "cc1plus is gone";
  }
  if (done.ok) programs_[job.n] = job.source;
  later(done.seconds, done);
}

void Simulation::begin(const job::Measure& job) {
  if (!job.again.empty()) programs_[job.n] = job.again;
  // Some changes can't be taken away from the code that was built on them.
  if (job.arm >= kFirstVariant && std::hash<std::string>()(job.again) % 10 == 0)
    return later(0.1, done::Measured{job.n, {}, false});
  if (!trainers_.empty()) wrong_.push_back("two trainers at once");
  if (!programs_.contains(job.n)) wrong_.push_back("a program that was not built is measured");
  if (job.n > 0 && chance(night_.breaks)) broken_until_ = now_ + about(900);
  later(0.1, done::Began{job.n, ++next_pid_, 1});
}

void Simulation::begin(const job::Canary&) {
  later(about(10), done::Canary{now_ < broken_until_ ? "libgomp.so.1 is gone" : ""});
}

void Simulation::begin(const job::Test& job) {
  if (!champions_.contains(job.commit)) wrong_.push_back("a model that is not kept is scored");
  HeldoutScore score;
  score.bpb = truth(commits_.at(job.commit)) + 0.01;
  score.seconds = night_.scoring;
  later(night_.scoring, done::Tested{score});
}

std::optional<Done> Simulation::wait(double seconds) {
  maybe_kill();
  if (events_.empty() || events_.top().at > now_ + seconds) {
    now_ += std::min(seconds, 600.0);
    return std::nullopt;
  }
  now_ = std::max(now_, events_.top().at);
  Done done = events_.top().done;
  events_.pop();
  if (std::holds_alternative<done::Proposed>(done)) --turns_;
  if (std::holds_alternative<done::Began>(done)) unacknowledged_ = done;
  if (std::holds_alternative<done::Measured>(done)) {
    trainers_.clear();
    if (derived_ < owed_ && !stale_)
      wrong_.push_back("a whole measurement went by before a verdict stood in the results");
  }
  // A model's reply lies in the folder before anybody is told.
  if (const auto* proposed = std::get_if<done::Proposed>(&done);
      proposed && !proposed->replied.empty() && !talks_.contains(proposed->n)) {
    ++paid_;  // its experiment ended meanwhile
  } else if (proposed && !proposed->replied.empty()) {
    Talk& kept = conversations_[proposed->n];
    paid_ += talks_[proposed->n].replies - kept.replies;
    kept = talks_[proposed->n];
  }
  maybe_kill();
  return done;
}

// The trainer runs from here on, whatever becomes of the agent.
void Simulation::acknowledge() {
  const auto began = std::get<done::Began>(*unacknowledged_);
  unacknowledged_.reset();
  trainers_.insert(began.pid);
  const double seconds = night_.startup + night_.budget + night_.sealing + night_.scoring;
  autoresearch::Measured measured = measure(began.n, programs_.at(began.n));
  later(measured.train_exit == 0 ? seconds : night_.startup,
        done::Measured{began.n, std::move(measured)});
  maybe_kill();
}

void Simulation::kill_left_behind(pid_t pid, uint64_t) { trainers_.erase(pid); }

std::vector<Done> Simulation::finish() {
  trainers_.clear();
  events_ = {};
  turns_ = 0;
  talks_.clear();
  programs_.clear();
  return {};
}

// ------------------------------------------------------------------------------------------------
// The disk

std::string Simulation::source_at(const std::string& commit) { return commits_.at(commit); }

void Simulation::write_candidate(int64_t n, const Draft& draft) {
  maybe_fail();
  folders_[n] = draft.source;
}

std::string Simulation::commit(int64_t n, const Draft& draft) {
  maybe_fail();
  const std::string id = "c" + std::to_string(n) + "-" + std::to_string(commits_.size());
  commits_[id] = draft.source;
  maybe_kill();
  return id;
}

std::optional<std::string> Simulation::merge(const std::string& base, const std::string& ours,
                                             const std::string& theirs) {
  if (chance(0.2)) return std::nullopt;
  if (ours.size() < base.size()) {  // a change is reversed
    std::string reversed = theirs;
    const std::string change = base.substr(ours.size());
    if (const size_t at = (reversed + " ").find(change + " "); at != std::string::npos)
      reversed.erase(at, change.size());
    return reversed;
  }
  return theirs + ours.substr(std::min(base.size(), ours.size()));
}

std::string Simulation::commit_aside(const std::string& name, const Draft& draft) {
  maybe_fail();
  const std::string id = name + "." + std::to_string(commits_.size());
  commits_[id] = draft.source;
  maybe_kill();
  return id;
}

void Simulation::keep_champion(int64_t, const std::string& commit) {
  maybe_fail();
  champions_.insert(commit);
  maybe_kill();
}

void Simulation::derive(const RunState& state) {
  champion_ = state.champion;
  stale_ = true;  // until the next derive(), if this one fails
  maybe_fail();
  stale_ = false;
  derived_ = verdicts_in(state);
  branch_ = state.champion;
}

void Simulation::tidy(int64_t) { maybe_fail(); }

void Simulation::close_conversation(int64_t n) {
  maybe_fail();
  conversations_.erase(n);
  maybe_kill();
}

// ------------------------------------------------------------------------------------------------

double Simulation::true_effect(int64_t n) const {
  const event::Candidate& change = state_.at(n).candidate;
  return truth(commits_.at(change.parent)) - truth(commits_.at(change.commit));
}

double Simulation::true_gain(const std::string& tip) const {
  return truth(commits_.at(tip)) - truth(commits_.at(state_.at(0).candidate.commit));
}

// No arm of a block is measured twice, and every figure is of the arm's code. The variants are the
// tip without their change.
void Simulation::check_proof(const Entry& entry, std::optional<ProofSoFar>& proof,
                             std::set<std::pair<int64_t, int64_t>>& done,
                             std::vector<std::string>& wrong) const {
  const auto expect = [&](bool holds, const char* what) {
    if (!holds) wrong.push_back(what);
  };
  const auto source_of = [&](int64_t arm) {
    return commits_.at(proof->plan.arms.at(static_cast<size_t>(arm)));
  };
  if (const auto* e = std::get_if<event::ProofMeasured>(&entry.event)) {
    if (!e->measured.bpb || !e->measured.disturbed.empty()) return;
    expect(done.insert({e->block, e->arm}).second, "an arm of a block is measured twice");
    const auto seen = measured_.find({kProofJob, *e->measured.bpb});
    expect(seen != measured_.end() && seen->second == source_of(e->arm),
           "a figure of a proof is of other code");
  } else if (const auto* e = std::get_if<event::Proof>(&entry.event)) {
    done.clear();
    for (size_t i = 0; i < e->changes.size(); ++i)
      expect(std::abs(truth(source_of(kTip)) + true_effect(e->changes[i]) -
                      truth(source_of(kFirstVariant + static_cast<int64_t>(i)))) < 1e-12,
             "a variant is not the tip without its change");
  } else if (const auto* e = std::get_if<event::Verified>(&entry.event)) {
    expect(commits_.contains(e->tip) && champions_.contains(e->tip),
           "the tip of a proof has no commit or no files");
    expect(!e->verified || e->pairs >= kFewestPairs, "verified by too few pairs");
    if (e->problem.empty())
      expect(static_cast<int64_t>(done.size()) >= 2 * e->pairs, "pairs that were not measured");
  }
}

std::vector<std::string> Simulation::check() const {
  std::vector<std::string> wrong = wrong_;
  const auto expect = [&](bool holds, const std::string& what) {
    if (!holds) wrong.push_back(what);
  };
  std::optional<ProofSoFar> proof;
  std::set<std::pair<int64_t, int64_t>> arms;
  int64_t replied = 0;
  RunState told;  // verdict by verdict, because a repair may end after the experiment behind it
  for (const Entry& entry : read_journal(path_)) {
    const bool first = told.champion.empty();
    const double best = told.best_bpb;
    replied += std::holds_alternative<event::Replied>(entry.event);
    const auto* verdict = std::get_if<event::Verdict>(&entry.event);
    const auto measured = verdict ? told.at(verdict->n).measured : std::nullopt;
    apply(told, entry);
    if (told.proof) proof = told.proof;
    check_proof(entry, proof, arms, wrong);
    if (!verdict) continue;
    const std::string name = "#" + std::to_string(verdict->n) + ": ";
    if (night_.settings.keep != KeepRule::kGreedy) continue;
    if (verdict->status == Status::kKeep)
      expect(first || *measured->bpb < best, name + "kept without a gain");
    if (verdict->status == Status::kDiscard)
      expect(*measured->bpb >= best, name + "discarded though it was better");
  }
  for (const Experiment& e : state_.experiments) {
    const std::string name = "#" + std::to_string(e.n) + ": ";
    const auto source = commits_.find(e.candidate.commit);
    expect(source != commits_.end(), name + "its commit is lost");
    if (source == commits_.end()) continue;
    if (e.measured && e.measured->bpb) {
      const auto seen = measured_.find({e.n, *e.measured->bpb});
      expect(seen != measured_.end() && seen->second == source->second,
             name + "the figure is of other code");
    }
    if (e.status == Status::kKeep)
      expect(champions_.contains(e.candidate.commit), name + "kept without its files");
    for (const double figure : e.again) {
      const auto seen = measured_.find({e.n, figure});
      expect(seen != measured_.end() && seen->second == source->second,
             name + "a repeat is of other code");
    }
    if (e.status == Status::kCrash && e.measured)
      expect(e.measured->broken.empty() || !state_.paused.empty(),
             name + "blamed for a broken machine");
  }
  // At the end one may still lie in its folder, for the next start.
  for (const auto& [n, talk] : conversations_)
    replied += talk.replies - (n < state_.next_n() ? state_.at(n).replies : state_.replies);
  expect(replied == paid_, "a reply that was paid for is not on record, or twice");
  expect(stale_ || branch_ == state_.champion, "the branch is not at the champion");
  expect(starts_ < 1000, "the night never ended");
  return wrong;
}

}  // namespace autoresearch
