// What the night does next: a pure function of the journal's state, of what is under way, and of
// the time. Starting, going on after a crash and surviving an error are the same question: what is
// missing? All policies of the loop stand in plan.cpp, each with a test in tests/plan_test.cpp.
#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "agent/lab/verdict.h"
#include "agent/propose/prompt.h"
#include "agent/record/run_state.h"

namespace autoresearch {

struct Settings {
  // Proposals are asked for while a training runs, and on a GPU also built: a build would disturb
  // a training on the same processor.
  bool overlap_proposals = true, overlap_builds = false;
  bool models = false;     // somebody else than the builtin proposer can be asked
  double tuner_share = 0;  // of the experiments, that are the builtin proposer's all the same
  KeepRule keep = KeepRule::kEvidence;
  int64_t max_experiments = 0;   // the baseline aside; 0: no limit
  bool repeat_disturbed = true;  // a measurement counts only when the machine was itself
  double cores = std::numeric_limits<double>::infinity();  // that this program began with
  double disturbed_pause = 20;  // seconds before a measurement that was spoilt is repeated
  double deadline = std::numeric_limits<double>::infinity();  // seconds since 1970
  double given = 0;         // seconds of it in all, if there is a deadline
  bool score_test = false;  // what is kept is also scored on the test split

  // The share of the night that proves what was kept, or how many measurements may
  // (agent/loop/proving.h). Both 0: nothing is proven.
  double proof_share = 0;
  int64_t proof_measurements = 0;
  bool only_proof = false;    // agent verify: nothing else is done
  int64_t proofs_wanted = 0;  // then: of this run, those before included

  bool may_prove() const { return proof_share > 0 || proof_measurements > 0; }
};

// A conversation about one experiment. It lives while its experiment is open, because a run that
// crashes goes back to its author.
struct Talk {
  enum Stage {
    kAsking,    // a reply is awaited
    kSetback,   // the reply led to nothing; `problem` says why
    kEdited,    // its edit waits to be built
    kBuilding,  // and is
    kDone,      // it is recorded as a candidate
  };
  Stage stage = kAsking;
  bool may_go_on = false;            // one more reply is allowed after what happened last
  bool may_mend = false;             // and after a failed build or run
  Failure failure = Failure::kEdit;  // of a setback
  std::string problem, proposer;
  std::string base;      // the champion that its edit was made from; empty before there is one
  double broken_at = 0;  // when its build failed by words about the machine; 0: it did not
};

// Of a proof; both count from 0.
struct ArmOfBlock {
  int64_t block = 0, arm = 0;
};

// What is under way. It is gone after a kill; then the journal alone says what is missing.
struct InFlight {
  std::map<int64_t, Talk> talks;
  std::optional<int64_t> building;  // a recorded candidate that is built once more
  std::optional<int64_t> measuring;
  bool again = false;  // what is measured is the champion once more
  bool canary = false;
  std::optional<ArmOfBlock> proving;
  std::optional<std::string> testing;  // the commit that is scored on the test split
  std::set<int64_t> built;             // candidates whose program is ready
  std::set<int64_t> unanswered;        // conversations whose last call was answered by nobody
  std::string stuck;                   // a child can't die: the slot is not usable; says why
  bool models_ready = false;
  double models_ready_in = 0;  // seconds; infinite: never again
  bool user_pauses = false;    // agent pause
  bool stop_soon = false;      // first Ctrl-C: the measurement ends, nothing else begins
  bool stop_now = false;       // second Ctrl-C, SIGTERM
  bool task_changed = false;

  bool slot_is_busy() const { return measuring || building || canary || proving || testing; }
  bool is_measuring() const { return measuring || proving || testing; }
};

namespace step {

struct Baseline {};  // train.cpp as the checkout has it becomes candidate 0
struct Propose {     // a fresh conversation about the next experiment
  int64_t n = 0;
  bool builtin = false;
};
struct Reopen {  // the conversation that lies in the folder goes on with its last reply
  int64_t n = 0;
};
struct GoOn {  // the author is told what came of the reply: `problem` of the talk, or of the run
  int64_t n = 0;
};
struct Rebase {  // the edit of a candidate is applied to the new champion
  int64_t n = 0;
};
struct Build {  // of a talk's edit, or of a candidate whose program is not there
  int64_t n = 0;
};
struct Measure {
  int64_t n = 0;
  bool again = false;  // the champion once more: what it truly scores, and how far figures scatter
};
struct Judge {  // a verdict from the measurement
  int64_t n = 0;
};
struct Test {  // a kept commit is scored on the test split
  std::string commit;
};
struct BeginProof {
  int64_t budget = 0;  // measurements
};
struct MeasureArm {
  ArmOfBlock next;
};
struct Trim {  // a tip without these changes is made, and has its own pairs
  std::vector<int64_t> changes;
};
struct EndProof {};
struct GiveUp {  // a verdict without one
  int64_t n = 0;
  std::string reason;
  bool machine = false;
};
struct Refuse {  // a proposal came to nothing
  int64_t n = 0;
};
struct Canary {};  // the champion is built and run for a few steps
struct Pause {
  std::string why;
};
struct Resume {};
struct RestModels {
  double seconds = 0;
};
struct Again {  // a crash was the machine's: Reopened
  int64_t n = 0;
};
struct Tell {  // said once: `what` is its name
  std::string what;
};
struct Stop {
  enum Why { kLimit, kInterrupted, kTaskChanged, kNothingLeft } kind = kLimit;
  std::string why;
};

}  // namespace step

using Step =
    std::variant<step::Baseline, step::Propose, step::Reopen, step::GoOn, step::Rebase, step::Build,
                 step::Measure, step::Judge, step::Test, step::BeginProof, step::MeasureArm,
                 step::Trim, step::EndProof, step::GiveUp, step::Refuse, step::Canary, step::Pause,
                 step::Resume, step::RestModels, step::Again, step::Tell, step::Stop>;

struct Plan {
  std::optional<Step> step;  // to be taken at once; then ask again
  double look_again = std::numeric_limits<double>::infinity();  // seconds, if there is no step
};

// `now`: seconds since 1970.
Plan plan(const RunState& state, const Settings& settings, const InFlight& flight, double now);

// The words of Paused events that the plan itself ends.
constexpr const char* kPausedByUser = "paused by agent pause";

// Limits that a message or a test quotes.
constexpr int kMostInterruptions = 1;  // of a candidate's training, before it is given up
constexpr int kMostDisturbances = 2;   // repeats of a measurement that the machine spoilt
constexpr int kMostProofFailures = 1;  // measurements of an arm without a figure, then it is lost
constexpr size_t kFailuresAlike = 3;   // crashes for one reason in a row, before the canary
constexpr int kRefusalsInARow = 3;     // proposals that came to nothing, then the tuner has a turn
constexpr int kGiveUpProposing = 16;   // in a row, the tuner's included: the run ends
constexpr int kTroublesInARow = 3;     // errors of the loop's own that cost the experiment
constexpr int64_t kPlateau = 20;       // verdicts since the last keep
constexpr double kCanaryAgain = 180;   // seconds between two looks at a broken machine
constexpr double kModelsRest = 1800;   // seconds without models after half of 20 came to nothing

// How it is on record that a champion can't be measured again.
std::string no_repeat_of(int64_t n);

// Seconds of the pause after `troubles` errors in a row: 5, 10, 20, ... at most 300.
double trouble_pause(int troubles);

}  // namespace autoresearch
