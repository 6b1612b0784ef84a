// Nights without a machine: the real loop (plan, night, journal, verdicts) with simulated workers,
// a simulated disk and a clock of its own. It can be killed at any call, loses what a power cut
// loses, and knows the truth about every measurement, so that check() can tell what the loop got
// wrong.
#pragma once

#include <map>
#include <queue>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "agent/loop/night.h"

namespace autoresearch {

struct SimulatedNight {
  Settings settings;
  double hours = 1;
  double budget = 300, startup = 8, sealing = 2, scoring = 15;  // seconds of a measurement
  double proposal = 30, build = 4;                              // mean seconds
  double noise = 5e-4;                                          // of val_bpb
  // Shares of what goes wrong.
  double no_reply = 0.02, bad_edit = 0.15, no_build = 0.1, crash = 0.06, disturbed = 0.04;
  double trouble = 0;   // of the disk's calls: an Error
  double kill = 0;      // of all calls: the process ends there
  double stop = 0;      // of looks at the world: a user stops the run and starts it again
  double breaks = 0;    // of measurements: the machine breaks, for some minutes
  bool effects = true;  // false: every edit scores as the baseline
  bool mend = true;     // models mend half of what crashed or did not build
};

// Where journals are best kept: in memory, because thousands of nights are many fsyncs.
inline fs::path folder_in_memory() {
  std::error_code ignored;
  return fs::is_directory("/dev/shm", ignored) ? fs::path("/dev/shm") : fs::temp_directory_path();
}

// Thrown where the process ends; not an error that anything could catch by mistake.
struct Killed {};

class Simulation : public Workers, public Store {
 public:
  // `journal`: a file that does not exist yet.
  Simulation(SimulatedNight night, uint64_t seed, fs::path journal);

  // From the first start to the end of the night, with as many starts as kills ask for.
  void run();
  // What is wrong with the record, one line each; empty: nothing.
  std::vector<std::string> check() const;

  const RunState& state() const { return state_; }
  int64_t times_said(const std::string& words) const;  // lines that hold them
  int noticed(Notice notice) const { return notices_.contains(notice) ? notices_.at(notice) : 0; }
  int kills() const { return kills_; }
  int disturbed() const { return disturbed_; }  // measurements that the machine spoilt
  // What the tip truly loses without the change of experiment n; positive if it helps.
  double true_effect(int64_t n) const;
  double true_gain(const std::string& tip) const;  // tip less baseline

  // Workers
  double now() override { return now_; }
  World world() override;
  void start(const Job& job, const RunState& state) override;
  std::optional<Done> wait(double seconds) override;
  void acknowledge() override;
  void forget(int64_t n) override { talks_.erase(n); }
  void kill_left_behind(pid_t pid, uint64_t start_time) override;
  std::vector<Done> finish() override;

  // Store
  std::string first_source() override { return "base"; }
  std::string source_at(const std::string& commit) override;
  void write_candidate(int64_t n, const Draft& draft) override;
  std::string commit(int64_t n, const Draft& draft) override;
  std::optional<std::string> merge(const std::string& base, const std::string& ours,
                                   const std::string& theirs) override;
  std::string commit_aside(const std::string& name, const Draft& draft) override;
  void keep_champion(int64_t n, const std::string& commit) override;
  void derive(const RunState& state) override;
  void tidy(int64_t n) override;
  void close_conversation(int64_t n) override;

 private:
  struct Talk {
    std::string base;
    int calls = 0, repairs = 0, replies = 0;
    bool builtin = false;
    std::string open_reply;  // that nothing was said to yet
  };
  struct Event {
    double at;
    uint64_t order;
    Done done;
    bool operator>(const Event& other) const {
      return std::tie(at, order) > std::tie(other.at, other.order);
    }
  };

  Voice voice();
  void maybe_kill();
  void maybe_fail();
  bool chance(double share);
  double about(double mean);
  void later(double seconds, Done done);
  void begin(const job::Propose& job);
  void begin(const job::Reopen& job);
  void begin(const job::GoOn& job);
  void begin(const job::Build& job);
  void begin(const job::Measure& job);
  void begin(const job::Canary& job);
  void begin(const job::Test& job);
  void reply(int64_t n, bool mending);
  autoresearch::Measured measure(int64_t n, const std::string& source);
  double truth(const std::string& source) const;
  bool is_bad(const std::string& source, const char* how) const;
  void lose_what_was_not_on_disk();
  void check_proof(const Entry& entry, std::optional<ProofSoFar>& plan,
                   std::set<std::pair<int64_t, int64_t>>& done,
                   std::vector<std::string>& wrong) const;

  const SimulatedNight night_;
  std::mt19937_64 random_;
  const fs::path path_;
  double now_ = 1.7e9, end_;
  uint64_t order_ = 0;
  int starts_ = 0, kills_ = 0, disturbed_ = 0, next_token_ = 0;
  pid_t next_pid_ = 100;
  bool armed_ = false, stopping_ = false;
  double broken_until_ = 0;

  // Survives a kill: the disk, and trainers that run on.
  std::map<std::string, std::string> commits_;  // sources
  std::map<int64_t, std::string> folders_;      // the edited file of each experiment
  std::map<int64_t, Talk> conversations_;       // as they lie in the folders
  std::set<std::string> champions_;             // whose files are kept
  std::string branch_;
  bool stale_ = false;              // what is derived was not written
  int64_t paid_ = 0;                // replies that lie in folders
  int64_t derived_ = 0, owed_ = 0;  // verdicts: in what is derived, when a measurement began
  std::set<pid_t> trainers_;        // alive
  std::map<std::pair<int64_t, double>, std::string> measured_;  // (n, figure) -> source
  std::vector<std::string> wrong_;
  std::vector<std::string> said_;
  std::map<Notice, int> notices_;

  // Is lost.
  std::map<int64_t, Talk> talks_;
  std::map<int64_t, std::string> programs_;  // what was built, by the source it came from
  std::priority_queue<Event, std::vector<Event>, std::greater<>> events_;
  std::optional<Done> unacknowledged_;
  std::string champion_;   // when the last job began
  int turns_ = 0;          // authors that are asked
  int64_t on_record_ = 0;  // replies then, about the experiment that it is of
  std::string parent_;     // of the candidate whose conversation it reopens
  RunState state_;
};

}  // namespace autoresearch
