// Whether a long run stays as it began: thousands of stub experiments in one process of the agent,
// whose memory, descriptors and time for each experiment are printed as the run grows, and why any
// crashed.
//
//   build/bench/long [experiments, 2000]
#include <signal.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>
#include <thread>

#include "agent/record/journal.h"
#include "common/clock.h"
#include "common/process.h"
#include "common/run_folder.h"
#include "tests/stub_kit.h"

using namespace autoresearch;

namespace {

const char kTask[] = BUILD_DIR "/testdata/tiny";
constexpr double kBudget = 0.02;
constexpr int64_t kRowsOfTable = 10;

// Replies that change one number each, so that none was measured before; few of them gain.
const char* const kProposer = R"SH(#!/bin/sh
line=$(grep '^constexpr double kRate = ' | tail -n 1)
n=$(($(cat "$0.count" 2> /dev/null || echo 0) + 1))
echo $n > "$0.count"
printf 'IDEA: rate %s\nWHY: a bench.\n<<<<<<< SEARCH\n%s\n=======\n%s\n>>>>>>> REPLACE\n' \
  "$n" "$line" "constexpr double kRate = 0.$(printf '%06d' $((n * 7919 % 999983 + 1)));"
)SH";

int64_t experiments_on_record(const fs::path& results) {
  std::ifstream in(results);
  return std::count(std::istreambuf_iterator<char>(in), {}, '\n') - 1;
}

double resident_megabytes(pid_t pid) {
  std::ifstream in("/proc/" + std::to_string(pid) + "/statm");
  double all = 0, resident = 0;
  in >> all >> resident;
  return resident * 4096 / 1e6;
}

int64_t descriptors(pid_t pid) {
  std::error_code ended;
  const fs::directory_iterator open("/proc/" + std::to_string(pid) + "/fd", ended);
  return ended ? 0 : std::distance(begin(open), end(open));
}

// A row of the table each time that a further tenth of the experiments is on record.
void watch(pid_t pid, const RunFolder& folder, int64_t experiments) {
  std::printf("%12s %14s %12s %16s\n", "experiments", "resident MB", "descriptors",
              "s an experiment");
  int64_t last = 0;
  double since = wall_clock();
  while (last < experiments && kill(pid, 0) == 0) {
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    const int64_t now = experiments_on_record(folder.results());
    if (now < last + std::max<int64_t>(1, experiments / kRowsOfTable)) continue;
    const double at = wall_clock();
    std::printf("%12lld %14.1f %12lld %16.3f\n", static_cast<long long>(now),
                resident_megabytes(pid), static_cast<long long>(descriptors(pid)),
                (at - since) / static_cast<double>(now - last));
    std::fflush(stdout);
    last = now;
    since = at;
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (!fs::exists(kTask)) {
    std::fprintf(stderr, "the stubs' task is missing; make it: ctest --preset test -R tiny_task\n");
    return 1;
  }
  const int64_t experiments = argc > 1 ? std::atoll(argv[1]) : 2000;
  std::string pattern = fs::temp_directory_path() / "autoresearch_long.XXXXXX";
  const fs::path dir = mkdtemp(pattern.data());
  make_stub(dir, BUILD_DIR "/agent", kTask, kBudget);
  const fs::path proposer = dir / "checkout/propose";
  write_file(proposer, kProposer);
  fs::permissions(proposer, fs::perms::owner_all);

  Command agent;
  agent.argv = {(dir / "build/agent").string(), "run", "--tag", "long", "--task", "tiny"};
  for (const std::string& more :
       {std::string("--device"), std::string("cpu"), std::string("--overlap"), std::string("off"),
        std::string("--disturbed"), std::string("count"), std::string("--verify"),
        std::string("off"), std::string("--command"), proposer.string(),
        std::string("--max-experiments"), std::to_string(experiments)})
    agent.argv.push_back(more);
  agent.env = scrubbed_environment();
  agent.env.push_back("AUTORESEARCH_DATA=" + (dir / "data").string());
  agent.cwd = dir / "checkout";
  agent.limit = 4 * 3600;
  // The watcher needs the agent's number, which is known once it is started.
  std::thread watcher;
  agent.before_exec = [&](pid_t pid, uint64_t) {
    watcher = std::thread([&, pid] { watch(pid, RunFolder{dir / "data/runs/long"}, experiments); });
  };
  const Exit exit = run(agent);
  watcher.join();
  for (const Experiment& e :
       replay(read_journal(RunFolder{dir / "data/runs/long"}.journal())).experiments)
    if (e.status == Status::kCrash)
      std::printf("#%lld crashed: %s\n", static_cast<long long>(e.n), e.reason.c_str());
  std::fputs(
      exit.output.substr(exit.output.size() - std::min<size_t>(1500, exit.output.size())).c_str(),
      stdout);
  fs::remove_all(dir);
  return exit.code;
}
