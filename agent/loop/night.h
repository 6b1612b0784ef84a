// A night: looks at the journal, does what is missing, until there is a reason to stop. Begins,
// goes on after a crash and survives errors in the same way (agent/loop/plan.h). The only writer of
// the record.
#pragma once

#include <functional>
#include <map>
#include <string>

#include "agent/loop/notify.h"
#include "agent/loop/plan.h"
#include "agent/loop/workers.h"
#include "agent/record/journal.h"

namespace autoresearch {

// What the loop tells the user; `notify` for --notify.
struct Voice {
  std::function<void(const std::string& line)> say = [](const std::string&) {};
  std::function<void(const std::string& line)> warn = [](const std::string&) {};
  std::function<void(Notice notice, const std::string& words)> notify = [](Notice,
                                                                           const std::string&) {};
};

class Night {
 public:
  // `state`: of the journal so far, with this start in it. `budget`: seconds of a training.
  Night(Journal& journal, RunState state, Store& store, Workers& workers, Settings settings,
        double budget, Voice voice);

  // Returns why it stopped; the reason is on record. Throws Error if the baseline is not whole, and
  // DurabilityError if the journal can't be written.
  step::Stop run();

  const RunState& state() const { return state_; }

 private:
  void append(const Event& event);
  void tidy_up();
  bool is_time_to_derive() const;
  void derive();
  void look_at_the_world();
  void survive(const std::exception& error);
  void close(const step::Stop& stop);

  void take(const step::Baseline&);
  void take(const step::Propose& step);
  void take(const step::Reopen& step);
  void take(const step::GoOn& step);
  void take(const step::Rebase& step);
  void take(const step::Build& step);
  void take(const step::Measure& step);
  void take(const step::Judge& step);
  void take(const step::Test& step);
  void take(const step::BeginProof& step);
  void take(const step::MeasureArm& step);
  void take(const step::Trim& step);
  void take(const step::EndProof&);
  void take(const step::GiveUp& step);
  void take(const step::Refuse& step);
  void take(const step::Canary&);
  void take(const step::Pause& step);
  void take(const step::Resume&);
  void take(const step::RestModels& step);
  void take(const step::Again& step);
  void take(const step::Tell& step);
  void take(const step::Stop&) {}

  void take(const done::Proposed& done);
  void take(const done::Built& done);
  void take(const done::Began& done);
  void take(const done::Call& done);
  void take(const done::Measured& done);
  void take(const done::Tested& done);
  void take(const done::Canary& done);
  void take(const done::Failed& done);

  void take_draft(int64_t n, Draft draft);
  void record_candidate(int64_t n);
  void withdraw(int64_t n, const std::string& why);
  void decide(int64_t n);
  std::string measured_now() const;
  void count_build(int64_t n, double seconds);
  std::optional<std::string> without(int64_t n, const std::string& source);
  void take_arm(autoresearch::Measured measured, bool built);
  double best_that_needs_no_proof() const;
  void give_verdict(event::Verdict verdict);
  void speak_after(int64_t n);
  void say_safe_to_leave(int64_t n);
  void estimate_cost();
  double left();  // experiments that this run will still make, about
  std::string disturbance(const MachineState& machine) const;
  event::Verdict blame_machine(event::Verdict verdict) const;
  Baseline baseline() const;

  Journal& journal_;
  RunState state_;
  Store& store_;
  Workers& workers_;
  const Settings settings_;
  const double budget_;
  Voice voice_;
  InFlight flight_;
  const double started_;             // seconds since 1970
  std::map<int64_t, Draft> drafts_;  // that wait for their build, or were recorded
  // The journal is ahead of what follows from it: results, report and branch. They are written when
  // there is nothing to begin and to record, so that a training hardly ever waits for them.
  bool behind_ = true;
  std::string not_derived_;  // why, as it was said
  std::string said_;         // the last line about a proposal that came to nothing
};

}  // namespace autoresearch
