// What can happen in a run, one struct an event. The journal (agent/record/journal.h) holds them in
// order, one JSON object a line: {"event": NAME, ..., "time": UTC}. agent/record/events.cpp is the
// one place that knows the names of events and keys. Events of other names are for later versions
// and are passed over.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "agent/lab/verdict.h"
#include "agent/llm/money.h"

namespace autoresearch {

// The journal's version. An older one is not read: a run ends with the program that began it.
constexpr int kJournalVersion = 2;

namespace event {

// A program began to work on the run. The first one says what the run is; the others must agree.
struct Start {
  int version = kJournalVersion;
  std::string tag, task_name, provider;
  std::string task;  // SHA-256 of task.json
  std::string kit;   // its fingerprint
  std::string device, machine;
  int64_t seed = 0;
  std::string from;     // "TAG #N COMMIT": the baseline is another run's champion; empty: train.cpp
  std::string sandbox;  // "bubblewrap", "landlock", "off"; empty: a program before this wrote it
  // What ends this program by itself; 0: no such limit.
  double deadline = 0;          // seconds since 1970
  int64_t max_experiments = 0;  // of the run, the baseline aside
  bool only_proof = false;      // agent verify
};

// program.md is another than before.
struct Program {
  std::string sha256;
};

// A reply of a model lies in the experiment's folder and is paid for: after an interruption the
// experiment goes on with it.
struct Replied {
  int64_t n = 0;
  std::string proposer;
};

// A reply, applied to the champion, did not compile or link; it is not built again.
struct NotBuilt {
  int64_t n = 0;
  std::string fingerprint, errors;
};

// A built version of the edited file. Its commit and ref are on disk. A later one of the same n
// takes its place: a repair, or the same edit on a new champion.
struct Candidate {
  int64_t n = 0;
  std::string commit, parent, idea, why, proposer, fingerprint;
  std::vector<std::string> constants, areas;  // that it touched (agent/edit/edit_summary.h)
  std::vector<std::string> next;              // lines about what to try after it
};

// The draft or candidate n, which was not measured yet, does not fit to the new champion. Its
// number is used again.
struct Withdrawn {
  int64_t n = 0;
  std::string why;
};

// A proposal that never became a candidate. Its number is used again.
struct Refused {
  int64_t n = 0;
  std::string proposer, reason;
};

// The builtin proposer has nothing left to try on the present champion.
struct Exhausted {
  std::string why;
};

// A model that found a longer prompt too long took one of so many tokens.
struct Fits {
  std::string provider;
  int64_t tokens = 0;
};

// A build that held the slot, so that nothing could be measured meanwhile.
struct Built {
  int64_t n = 0;
  double seconds = 0;
};

// A training is about to begin: the child exists and waits until this is on disk. `attempt` counts
// from 1 within n.
struct RunStarted {
  int64_t n = 0;
  int attempt = 0;
  pid_t pid = 0;
  uint64_t start_time = 0;  // of the process, as /proc/<pid>/stat has it
};

// The attempt ended. One that was disturbed is no result and is repeated.
struct Measurement {
  int64_t n = 0;
  int attempt = 0;
  Measured measured;
};

// The commit point of an experiment. `champion`: the commit that is the best from here on.
struct Verdict {
  int64_t n = 0;
  Status status = Status::kOpen;
  std::string reason, champion;
  bool machine = false;  // a crash that is the machine's or the loop's: it says nothing of the code
  // Of a keep or a discard: how its figure differs from the champion's bar, and the noise of one
  // measurement as it was known then (agent/lab/evidence.h).
  std::string decision = {};
  double difference = 0, sigma = 0;
};

// The verdict or the measurement of n is void: the machine was broken. It is measured again.
struct Reopened {
  int64_t n = 0;
};

// Most proposals of models came to nothing: none is asked for so long.
struct Rest {
  double seconds = 0;
};

// The user was told what is said once in a run.
struct Told {
  std::string what;
};

// Something failed that is not a candidate's: a full disk, a folder that vanished, a repository
// that is locked. The run goes on after a pause.
struct Trouble {
  std::string what;
};

// The champion was built and run for a few steps, to see if the machine is whole. `problem` empty:
// it is.
struct Canary {
  std::string problem;
};

// A commit that is or was the champion was scored on the test split, which no prompt mentions. No
// figure: `problem` says why; it is not scored again.
struct Tested {
  std::string commit;
  std::optional<double> bpb;
  std::string problem;
  double seconds = 0;
};

// A proof begins (agent/lab/proof.h): all that it will measure. Arm a is the commit arms[a]: the
// tip, the baseline, then the tip without the kept change of experiment changes[a - kFirstVariant].
struct Proof {
  std::vector<std::string> arms;
  std::vector<int64_t> changes;
  std::vector<std::vector<int64_t>> blocks;  // the arms of each, in the order to measure them
  int64_t reserved_pairs = 0;
};

// As RunStarted and Measurement, of arm `arm` in block `block`, both from 0. `attempt` counts from
// 1 within the proof. Not `built`: the commit does not build.
struct ProofStarted {
  int64_t block = 0, arm = 0;
  int attempt = 0;
  pid_t pid = 0;
  uint64_t start_time = 0;
};
struct ProofMeasured {
  int64_t block = 0, arm = 0;
  int attempt = 0;
  bool built = true;
  Measured measured;
};

// The tip measured better without some changes. `commit` is the tip without them, and the tip of
// the further blocks: pairs with the baseline, which alone count for it.
struct Trimmed {
  std::string commit;
  std::vector<int64_t> changes;
  std::vector<std::vector<int64_t>> blocks;
};

// What a proof says of one kept change. The figures are 0 if it was not in question.
struct ProvenChange {
  int64_t n = 0;
  double effect = 0;  // what the tip loses without it: positive if it helps
  double standard_error = 0, p = 1;
  std::string result;  // "verified", "unproven", "dropped"
};

// The end of a proof. `tip` is the champion from here on: another commit than before only if
// changes were dropped.
struct Verified {
  std::string tip;
  bool verified = false;  // the whole gain; only then anything is called so
  std::string problem;    // why there are no figures; empty: there are
  int64_t pairs = 0;
  double mean = 0, low = 0, high = 0;  // tip less baseline and its 95 % interval
  double bpb = 0;                      // the tip's mean
  double sigma = 0;                    // of one measurement within a block; 0: not known
  std::vector<ProvenChange> changes;
};

// By the user's wish, or because the machine is broken; until then nothing is begun.
struct Paused {
  std::string why;
};
struct Resumed {};

struct Stop {
  std::string why;
};

}  // namespace event

using Event = std::variant<event::Start, event::Program, CallOpened, CallClosed, event::Replied,
                           event::NotBuilt, event::Candidate, event::Withdrawn, event::Refused,
                           event::Exhausted, event::Fits, event::Built, event::RunStarted,
                           event::Measurement, event::Verdict, event::Reopened, event::Rest,
                           event::Told, event::Trouble, event::Canary, event::Tested, event::Proof,
                           event::ProofStarted, event::ProofMeasured, event::Trimmed,
                           event::Verified, event::Paused, event::Resumed, event::Stop>;

// An event and when it was written: UTC, ISO 8601, milliseconds.
struct Entry {
  Event event;
  std::string time;
};

Event as_event(const CallEvent& call);

nlohmann::json to_json(const Entry& entry);
// Nothing for the event of a later version. Throws if a value is of another type, or if one is
// missing without which the event says nothing.
std::optional<Entry> entry_from(const nlohmann::json& object);

// Seconds since 1970 of such a time; nothing if the text is none.
std::optional<double> seconds_of_utc(const std::string& utc);
std::string utc_text(double seconds_since_1970);

}  // namespace autoresearch
