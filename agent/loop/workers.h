// Who does the jobs of a night. Jobs are begun and end by a completion; nothing but the loop
// (agent/loop/night.h) writes to the record. LocalWorkers runs them on this machine, the simulation
// plays them with a clock of its own.
#pragma once

#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "agent/lab/measurement.h"
#include "agent/propose/prompt.h"
#include "agent/record/run_state.h"

namespace autoresearch {

// An edit that was applied: the whole file, and what its author says of it.
struct Draft {
  std::string source;
  std::string base;  // the commit that it was made from
  std::string idea, why, proposer;
  std::vector<std::string> next;
};

// The numbers of jobs that belong to no experiment.
constexpr int64_t kCanaryJob = -1, kProofJob = -2, kTestJob = -3;

namespace job {

struct Propose {  // a fresh conversation about experiment n
  int64_t n = 0;
  bool builtin = false;
  std::string measured_now = {};  // what occupies the slot meanwhile; empty: nothing
};
struct Reopen {  // the conversation that was kept in the experiment's folder
  int64_t n = 0;
};
struct GoOn {  // tells the author what was wrong, and asks again
  int64_t n = 0;
  Failure failure = Failure::kEdit;
  std::string problem;  // of a run, the trainer's log belongs to it
};
struct Build {
  int64_t n = 0;
  std::string source;
};
struct Measure {
  int64_t n = 0;
  // The source of a champion that is measured once more, or of an arm of a proof (n: kProofJob);
  // built if need be.
  std::string again = {};
  int64_t arm = 0;
  uint64_t seed = 0;
  Baseline baseline;
  std::optional<double> best;  // a model that is better is probed fully; nothing: it is anyhow
};
struct Canary {
  std::string source;
};
struct Test {  // the kept model of a commit is scored on the test split
  std::string commit;
  Baseline baseline;
};

}  // namespace job

using Job = std::variant<job::Propose, job::Reopen, job::GoOn, job::Build, job::Measure,
                         job::Canary, job::Test>;

namespace done {

struct Proposed {
  int64_t n = 0;
  enum Kind {
    kDraft,     // a reply was applied
    kSetback,   // a reply could not be read or applied; `problem` is for its author
    kNoReply,   // the call failed: nobody's mistake, and the chain knows whom to ask next
    kNothing,   // the builtin proposer has nothing left; `problem` says why
    kNoMemory,  // Reopen: no conversation in the folder can go on
  } kind = kNothing;
  Draft draft;
  std::string problem, proposer;
  std::string replied;     // the model whose reply lies in the folder and is paid for; or none
  bool may_go_on = false;  // one more reply is allowed in this conversation
  bool may_mend = false;   // also if what it proposed fails to build or to run
  std::optional<event::Fits> fits;
};
struct Built {
  int64_t n = 0;
  bool ok = false;
  std::string errors;
  double seconds = 0;
  std::string broken = {};  // what a failed build said of the machine
};
// A trainer exists and waits until the loop has written it down and calls acknowledge().
struct Began {
  int64_t n = 0;
  pid_t pid = 0;
  uint64_t start_time = 0;
};
struct Call {  // of the account; waits likewise
  CallEvent event;
};
struct Measured {
  int64_t n = 0;
  autoresearch::Measured measured;
  bool built = true;  // false: an arm of a proof does not build; measured.last_words says why
  double build_seconds = 0;  // of what was built on the slot
};
struct Tested {
  HeldoutScore score;
};
struct Canary {
  std::string problem;  // empty: the machine is whole
  double build_seconds = 0;
};
// The job of experiment n, or of a number above, failed by a mistake that is not the candidate's,
// as a full disk.
struct Failed {
  int64_t n = 0;
  std::string what;
  bool not_on_disk = false;  // what was written may be lost: the run must end (DurabilityError)
};

}  // namespace done

using Done = std::variant<done::Proposed, done::Built, done::Began, done::Call, done::Measured,
                          done::Tested, done::Canary, done::Failed>;

// What the world asks of the loop, beside the ends of jobs.
struct World {
  bool stop_soon = false, stop_now = false;
  bool user_pauses = false;
  bool task_changed = false;
  bool models_ready = false;
  double models_ready_in = 0;  // seconds; infinite: never again
  std::string program;         // SHA-256 of program.md
  std::string stuck;           // a child that can't die holds the slot
};

class Workers {
 public:
  virtual ~Workers() = default;

  virtual double now() = 0;  // seconds since 1970
  virtual World world() = 0;
  // Begins a job and returns. `state` is read before it returns.
  virtual void start(const Job& job, const RunState& state) = 0;
  // The next completion; nothing after `seconds`, or as soon as the world may have changed.
  virtual std::optional<Done> wait(double seconds) = 0;
  // After Began and Call: it is on record. Without it the job never goes on.
  virtual void acknowledge() = 0;
  // Forgets the conversation about n, whose experiment is over.
  virtual void forget(int64_t n) = 0;
  // Ends the trainer of an earlier agent that may still run.
  virtual void kill_left_behind(pid_t pid, uint64_t start_time) = 0;
  // Ends all jobs at once, and returns what is to be written down of them.
  virtual std::vector<Done> finish() = 0;
};

// What lies on disk beside the journal.
class Store {
 public:
  virtual ~Store() = default;

  virtual std::string first_source() = 0;  // what the baseline is made of
  virtual std::string source_at(const std::string& commit) = 0;
  // The candidate's file and its difference to the champion's, in the folder of n.
  virtual void write_candidate(int64_t n, const Draft& draft) = 0;
  // A commit on draft.base, and its ref; both on disk when it returns. n 0: the run's first.
  virtual std::string commit(int64_t n, const Draft& draft) = 0;
  // `theirs` with the change from `base` to `ours`; nothing if the two touch the same place.
  virtual std::optional<std::string> merge(const std::string& base, const std::string& ours,
                                           const std::string& theirs) = 0;
  // A commit on draft.base that is no candidate, kept by the ref `name`; both on disk.
  virtual std::string commit_aside(const std::string& name, const Draft& draft) = 0;
  // The champion's files, whole and on disk when it returns; n: kProofJob for the tip of a proof.
  virtual void keep_champion(int64_t n, const std::string& commit) = 0;
  // What n won by beside the champion that it edits, in words; empty if nobody knows.
  virtual std::string won(const RunState&, int64_t /*n*/) { return ""; }
  // All that follows from the journal. Idempotent.
  virtual void derive(const RunState& state) = 0;
  virtual void tidy(int64_t n) = 0;
  // Before it is on record that a proposal came to nothing: its replies are never read again.
  virtual void close_conversation(int64_t n) = 0;
};

}  // namespace autoresearch
