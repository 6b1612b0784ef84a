// The jobs of a night on this machine: proposals on a thread, builds and measurements as child
// processes that a thread watches. At most one proposal, one build and one measurement at a time.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <future>
#include <map>
#include <mutex>
#include <thread>

#include "agent/lab/measurement.h"
#include "agent/lab/recipe.h"
#include "agent/loop/proposer.h"
#include "agent/loop/workers.h"

namespace autoresearch {

class LocalWorkers : public Workers {
 public:
  // All of them outlive this. `models` null: only the builtin proposer. `task_sha256`: of task.json
  // as the run knows it. `clock`: the journal's.
  LocalWorkers(const Kit& kit, Slot slot, RunFolder run, Proposer& proposer, Models* models,
               std::string task_sha256, std::function<double()> clock);
  ~LocalWorkers() override;

  double now() override;
  World world() override;
  void start(const Job& job, const RunState& state) override;
  std::optional<Done> wait(double seconds) override;
  void acknowledge() override;
  void forget(int64_t n) override;
  void kill_left_behind(pid_t pid, uint64_t start_time) override;
  std::vector<Done> finish() override;

 private:
  struct Post {
    Done done;
    std::shared_ptr<std::promise<void>> acknowledged;  // null: nobody waits
  };

  void begin(const job::Propose& job, const RunState& state);
  void begin(const job::Reopen& job, const RunState& state);
  void begin(const job::GoOn& job, const RunState& state);
  void begin(const job::Build& job, const RunState& state);
  void begin(const job::Measure& job, const RunState& state);
  void begin(const job::Canary& job, const RunState& state);
  void begin(const job::Test& job, const RunState& state);
  void run_canary(const std::string& source);
  void take_turn(std::shared_ptr<Proposer::Talk> talk, int64_t n);
  // Runs `work` on `thread`; an exception becomes done::Failed of `n`.
  void run_on(std::thread& thread, int64_t n, std::function<void()> work);
  BuildResult build_again(const ExperimentFolder& folder, const std::string& source);
  void hold_slot(int64_t n, const ProcessId& child);
  void post(Done done);
  void post_and_wait(Done done);  // until acknowledged; throws Error if that never comes

  const Kit& kit_;
  const Slot slot_;
  const RunFolder run_;
  Proposer& proposer_;
  Models* models_;
  const std::string task_sha256_;
  const std::function<double()> clock_;
  std::map<int64_t, std::shared_ptr<Proposer::Talk>> talks_;
  int64_t asking_for_ = 0;  // the experiment that a call to a model belongs to

  std::mutex mutex_;  // of what follows
  std::condition_variable posted_;
  std::deque<Post> posts_;
  bool closing_ = false;
  std::optional<ProcessId> stuck_;  // a child that can't be ended holds the slot

  std::shared_ptr<std::promise<void>> last_;  // of the completion that wait() returned last
  std::thread talking_, building_, measuring_;
};

}  // namespace autoresearch
