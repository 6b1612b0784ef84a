#include "agent/loop/local_workers.h"

#include <atomic>
#include <chrono>
#include <limits>
#include <utility>

#include "agent/lab/compiler_log.h"
#include "agent/lab/machine.h"
#include "agent/loop/place.h"
#include "common/clock.h"
#include "common/error.h"
#include "common/folder.h"
#include "common/process.h"
#include "common/text.h"

namespace autoresearch {
namespace {

constexpr int64_t kCanarySteps = 3;
constexpr double kLongestWait = 0.5;  // seconds after which the world is looked at again

done::Measured not_built(int64_t n, const std::string& errors) {
  done::Measured done{n, {}, false};
  done.measured.last_words = errors;
  return done;
}

}  // namespace

LocalWorkers::LocalWorkers(const Kit& kit, Slot slot, RunFolder run, Proposer& proposer,
                           Models* models, std::string task_sha256, std::function<double()> clock)
    : kit_(kit),
      slot_(std::move(slot)),
      run_(std::move(run)),
      proposer_(proposer),
      models_(models),
      task_sha256_(std::move(task_sha256)),
      clock_(std::move(clock)) {
  if (models_)
    models_->ledger().record_with([this](CallEvent event) {
      if (auto* call = std::get_if<CallOpened>(&event)) call->n = asking_for_;
      post_and_wait(done::Call{std::move(event)});
    });
}

LocalWorkers::~LocalWorkers() { finish(); }

double LocalWorkers::now() { return clock_(); }

World LocalWorkers::world() {
  World world;
  world.stop_now = interrupt_requested();
  world.stop_soon = stop_requested();
  world.user_pauses = is_paused(run_.path);
  try {
    world.task_changed = sha256_of_file(slot_.task / "task.json") != task_sha256_;
  } catch (const Error&) {  // it can't be read now; whoever trains with it will say so
  }
  {
    const std::lock_guard lock(mutex_);
    if (stuck_) world.stuck = what_holds(*stuck_);
    if (world.stuck.empty()) stuck_.reset();
  }
  world.program = sha256(proposer_.program());
  world.models_ready = models_ && models_->proposers().ready();
  world.models_ready_in = models_ ? models_->proposers().seconds_until_ready()
                                  : std::numeric_limits<double>::infinity();
  return world;
}

void LocalWorkers::start(const Job& job, const RunState& state) {
  std::visit([&](const auto& job) { begin(job, state); }, job);
}

// ------------------------------------------------------------------------------------------------
// Proposals

void LocalWorkers::begin(const job::Propose& job, const RunState& state) {
  talks_[job.n] = proposer_.begin(job, state);
  take_turn(talks_[job.n], job.n);
}

void LocalWorkers::begin(const job::Reopen& job, const RunState& state) {
  if (auto talk = proposer_.reopen(job.n, state)) {
    talks_[job.n] = talk;
    return take_turn(std::move(talk), job.n);
  }
  done::Proposed done;
  done.n = job.n;
  done.kind = done::Proposed::kNoMemory;
  done.proposer = "agent";
  post(std::move(done));
}

void LocalWorkers::begin(const job::GoOn& job, const RunState&) {
  const auto& talk = talks_.at(job.n);
  if (proposer_.go_on(talk, job)) return take_turn(talk, job.n);
  done::Proposed done;
  done.n = job.n;
  done.kind = done::Proposed::kSetback;
  done.problem = job.problem;
  post(std::move(done));
}

void LocalWorkers::take_turn(std::shared_ptr<Proposer::Talk> talk, int64_t n) {
  asking_for_ = n;
  run_on(talking_, n, [this, talk = std::move(talk)] {
    done::Proposed done = proposer_.turn(*talk);
    if (!interrupt_requested() || !done.replied.empty()) post(std::move(done));
  });
}

void LocalWorkers::forget(int64_t n) { talks_.erase(n); }

// ------------------------------------------------------------------------------------------------
// Builds and measurements

void LocalWorkers::begin(const job::Build& job, const RunState&) {
  run_on(building_, job.n, [this, job] {
    const ExperimentFolder folder = run_.experiment(job.n);
    fs::create_directories(folder.path);
    write_file(folder.source(), job.source);
    const BuildResult built = kit_.build(folder, slot_.sandboxed);
    if (built.interrupted || interrupt_requested()) return;
    post(done::Built{job.n, built.ok, built.ok ? "" : clean_compiler_output(built.log),
                     built.seconds, built.broken});
  });
}

void LocalWorkers::begin(const job::Measure& job, const RunState&) {
  run_on(measuring_, job.n, [this, job] {
    warm_files(kit_.spec().system);
    const bool proves = job.n == kProofJob;
    Slot slot = slot_;
    slot.seed = static_cast<int64_t>(job.seed);
    slot.best_bpb = job.best;
    const bool again = !job.again.empty();
    const ExperimentFolder folder = proves  ? run_.proof(job.arm)
                                    : again ? run_.again()
                                            : run_.experiment(job.n);
    // A candidate is built before it is measured, all other code here.
    double build_seconds = 0;
    if (again) {
      const BuildResult built = build_again(folder, job.again);
      if (built.interrupted) return;
      build_seconds = built.seconds;
      const std::string errors = one_line(clean_compiler_output(built.log), 300);
      check(built.ok || proves, "the champion does not build again: " + errors);
      if (!built.ok) return post(not_built(job.n, errors));
    }
    Measurement result = measure(
        kit_, slot, job.baseline, folder,
        [&](pid_t pid, uint64_t start_time) {
          post_and_wait(done::Began{job.n, pid, start_time});
        },
        proves ? "proof" : "#" + std::to_string(job.n));
    if (result.stuck) return hold_slot(job.n, *result.stuck);
    if (result.interrupted) return;
    if (job.n == 0 && !again) {
      const auto told = trainer_record(folder).value("fused_operations", nlohmann::json("all"));
      result.measured.fused_operations = told.is_string() ? told.get<std::string>() : "all";
    }
    post(done::Measured{job.n, std::move(result.measured), true, build_seconds});
  });
}

// The program of a champion that is measured again or of an arm of a proof, in a folder of its own:
// what was measured first stays as it was.
BuildResult LocalWorkers::build_again(const ExperimentFolder& folder, const std::string& source) {
  fs::create_directories(folder.path);
  std::error_code ignored;
  const bool built = fs::exists(folder.program(), ignored) &&
                     fs::exists(folder.source(), ignored) && read_file(folder.source()) == source;
  if (built) return {.ok = true, .seconds = 0, .log = {}, .interrupted = false};
  folder.tidy();
  write_file(folder.source(), source);
  return kit_.build(folder, slot_.sandboxed);
}

void LocalWorkers::begin(const job::Test& job, const RunState&) {
  run_on(measuring_, kTestJob, [this, job] {
    const fs::path sealed = run_.champion(job.commit).sealed();
    HeldoutScore score = score_on_test(kit_, slot_, job.baseline, sealed);
    if (score.stuck) return hold_slot(kTestJob, *score.stuck);
    if (!score.interrupted) post(done::Tested{std::move(score)});
  });
}

// The champion for a few steps, in a folder of its own: what fails there is not a candidate's
// fault.
void LocalWorkers::begin(const job::Canary& job, const RunState&) {
  run_on(measuring_, kCanaryJob, [this, job] {
    try {
      run_canary(job.source);
    } catch (const DurabilityError&) {
      throw;
    } catch (const std::exception& error) {  // a full disk: the machine is not whole
      post(done::Canary{error.what()});
    }
  });
}

void LocalWorkers::run_canary(const std::string& source) {
  const ExperimentFolder folder{fresh_folder(run_.canary().path)};
  write_file(folder.source(), source);
  const BuildResult built = kit_.build(folder, slot_.sandboxed);
  if (built.interrupted || interrupt_requested()) return;
  std::string problem;
  if (!built.ok) {
    problem = "the champion does not build: " + one_line(clean_compiler_output(built.log), 300);
  } else {
    Slot slot = slot_;
    slot.steps = kCanarySteps;
    const Measurement result = measure(kit_, slot, {}, folder, nullptr, "champion");
    if (result.stuck) return hold_slot(kCanaryJob, *result.stuck);
    if (result.interrupted) return;
    problem = why_void(result.measured);
    if (!problem.empty() && !result.measured.broken.empty()) problem = result.measured.broken;
  }
  post(done::Canary{problem, built.seconds});
  remove_whatever(folder.path);
}

// What the child uses stays in use; world() looks if it has gone.
void LocalWorkers::hold_slot(int64_t n, const ProcessId& child) {
  {
    const std::lock_guard lock(mutex_);
    stuck_ = child;
  }
  post(done::Failed{n, what_holds(child) + "; nothing is measured until it has gone"});
}

void LocalWorkers::kill_left_behind(pid_t pid, uint64_t start_time) {
  kill_orphan(pid, start_time);
}

// ------------------------------------------------------------------------------------------------
// Completions

void LocalWorkers::run_on(std::thread& thread, int64_t n, std::function<void()> work) {
  if (thread.joinable()) thread.join();  // it has posted its end
  thread = std::thread([this, n, work = std::move(work)] {
    try {
      work();
    } catch (const DurabilityError& error) {
      post(done::Failed{n, error.what(), true});
    } catch (const std::exception& error) {
      post(done::Failed{n, error.what()});
    }
  });
}

void LocalWorkers::post(Done done) {
  const std::lock_guard lock(mutex_);
  posts_.push_back({std::move(done), nullptr});
  posted_.notify_one();
}

void LocalWorkers::post_and_wait(Done done) {
  auto acknowledged = std::make_shared<std::promise<void>>();
  std::future<void> until = acknowledged->get_future();
  {
    const std::lock_guard lock(mutex_);
    check(!closing_ || std::holds_alternative<done::Call>(done), "the run ends");
    posts_.push_back({std::move(done), acknowledged});
    posted_.notify_one();
  }
  until.get();  // throws if the promise is dropped
}

std::optional<Done> LocalWorkers::wait(double seconds) {
  std::unique_lock lock(mutex_);
  posted_.wait_for(lock, std::chrono::duration<double>(std::min(seconds, kLongestWait)),
                   [this] { return !posts_.empty(); });
  if (posts_.empty()) return std::nullopt;
  Post post = std::move(posts_.front());
  posts_.pop_front();
  last_ = std::move(post.acknowledged);
  return std::move(post.done);
}

void LocalWorkers::acknowledge() {
  if (last_) last_->set_value();
  last_ = nullptr;
}

// Everything is interrupted. What waits to be written down is let go on, so that its thread ends;
// trainers that are not on record never begin.
std::vector<Done> LocalWorkers::finish() {
  request_interrupt();
  std::vector<Done> rest;
  std::atomic<int> ended = 0;
  {
    const std::lock_guard lock(mutex_);
    closing_ = true;
    last_ = nullptr;  // of whom the loop did not let go on, because the record could not be written
  }
  std::thread joiner([&] {
    for (std::thread* thread : {&talking_, &building_, &measuring_})
      if (thread->joinable()) thread->join();
    ++ended;
    posted_.notify_all();
  });
  while (true) {
    std::unique_lock lock(mutex_);
    posted_.wait_for(lock, std::chrono::milliseconds(50),
                     [&] { return !posts_.empty() || ended > 0; });
    for (Post& post : posts_) {
      const bool call = std::holds_alternative<done::Call>(post.done);
      if (post.acknowledged && call) post.acknowledged->set_value();
      rest.push_back(std::move(post.done));
    }
    const bool all = ended > 0 && posts_.empty();
    posts_.clear();  // drops the promises of trainers that wait to begin
    if (all) break;
  }
  joiner.join();
  return rest;
}

}  // namespace autoresearch
