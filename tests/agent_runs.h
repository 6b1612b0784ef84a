// What tests of whole runs share: a checkout, the agent's command, and what the run left on record.
#pragma once

#include <gtest/gtest.h>
#include <signal.h>

#include <functional>
#include <sstream>
#include <string>
#include <thread>
#include <variant>
#include <vector>

#include "agent/record/journal.h"
#include "common/process.h"
#include "common/run_folder.h"
#include "tests/support.h"

namespace autoresearch {

// The folder has checkout/, a Git repository with one commit, and data/, with the task `tiny`.
class AgentRuns : public FolderTest {
 protected:
  // The program: a path, from the folder on unless it is absolute.
  explicit AgentRuns(const fs::path& program) : program_(dir_ / program) {}

  std::string git(std::vector<std::string> args) const {
    args.insert(args.begin(), {"git", "-C", checkout_.string()});
    const Exit exit = run({.argv = args, .env = scrubbed_environment()});
    EXPECT_EQ(exit.code, 0) << exit.output;
    return exit.output;
  }

  void commit_checkout() const {
    git({"init", "-q"});
    git({"add", "."});
    git({"-c", "user.name=u", "-c", "user.email=u@x", "commit", "-qm", "start"});
  }

  Command agent(const std::vector<std::string>& more) const {
    Command command;
    // One thing after the other, as the scripts are written; the greedy rule measures no champion
    // again; and the machine that runs tests is busy.
    command.argv = {program_.string(), "run",  "--tag",  "t",      "--task",    "tiny",
                    "--device",        "cpu",  "--keep", "greedy", "--overlap", "off",
                    "--disturbed",     "count"};
    if (std::count(more.begin(), more.end(), "--verify") == 0)
      command.argv.insert(command.argv.end(), {"--verify", "off"});
    command.argv.insert(command.argv.end(), more.begin(), more.end());
    command.env = scrubbed_environment();
    command.env.push_back("AUTORESEARCH_DATA=" + (dir_ / "data").string());
    command.env.push_back("OPENAI_API_KEY=sk-secret-for-tests");
    command.cwd = checkout_;
    command.limit = 300;
    return command;
  }

  std::vector<std::string> statuses() const {
    std::istringstream in(read_file(run_.results()));
    std::vector<std::string> result;
    std::string line;
    std::getline(in, line);
    EXPECT_EQ(line, "commit\tval_bpb\tmemory_gb\tstatus\tdescription");
    while (std::getline(in, line)) {
      std::vector<std::string> columns;
      std::istringstream row(line);
      for (std::string column; std::getline(row, column, '\t');) columns.push_back(column);
      EXPECT_EQ(columns.size(), 5u) << line;
      result.push_back(columns.at(3));
    }
    return result;
  }

  // Until the journal has such an event.
  template <typename T>
  void wait_for(const std::function<bool(const T& event)>& wanted) const {
    for (int i = 0; i < 4500; ++i) {
      usleep(20'000);
      std::error_code missing;
      if (!fs::exists(run_.journal(), missing)) continue;
      for (const Entry& entry : read_journal(run_.journal()))
        if (const T* event = std::get_if<T>(&entry.event); event && wanted(*event)) return;
    }
  }

  // Until training of experiment `n` was started.
  void wait_until_it_trains(int64_t n = 0) const {
    wait_for<event::RunStarted>([n](const auto& event) { return event.n == n; });
  }

  // How many events of a kind the journal has.
  template <typename T>
  int count() const {
    int found = 0;
    for (const Entry& entry : read_journal(run_.journal()))
      found += std::holds_alternative<T>(entry.event);
    return found;
  }

  RunState state() const { return replay(read_journal(run_.journal())); }

  const fs::path program_;
  const fs::path checkout_ = dir_ / "checkout";
  const RunFolder run_{dir_ / "data/runs/t"};
};

}  // namespace autoresearch
