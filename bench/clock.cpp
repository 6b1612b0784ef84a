// How true the parent's clock is: from the last act of a program in a sandbox, which it tells by
// the machine's clock, to the moment at which run() says that all had ended. That holds the time
// that the kernel takes to end what is left.
//
//   build/bench/clock [TIMES]    for each way to end, the median and the longest of so many, in ms
#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "common/process.h"
#include "common/sandbox.h"

namespace autoresearch {
namespace {

// The kin of tests/redteam/escapes.h as shell scripts; each tells the time last.
const std::pair<const char*, const char*> kEnds[] = {
    {"ends by itself", ""},
    {"two forks", "(sleep 60 &) &"},
    {"a session of its own", "setsid sleep 60 2> /dev/null &"},
    {"stops its group", "(sleep 0.2; kill -CONT $$) & kill -STOP $$;"},
    {"a writer lives on", "(while :; do echo x > notes; done) &"},
    {"hundred processes", "for i in {1..100}; do sleep 60 & done;"},
};

double wall_seconds() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

// Milliseconds that the clock ran on, once.
double late_by(const std::string& script, const fs::path& folder) {
  Command command{.argv = {"bash", "-c", script + " echo $EPOCHREALTIME"},
                  .env = scrubbed_environment(),
                  .limit = 60};
  command = confine(std::move(command), {.writable = folder});
  command.max_rss_bytes = int64_t{4} << 30;  // watched as a training is
  double start = 0;
  command.before_exec = [&](pid_t, uint64_t) { start = wall_seconds(); };
  const Exit exit = run(command);
  return 1000 * (start + exit.seconds - std::atof(exit.output.c_str()));
}

void measure(const char* sandbox, int times, const fs::path& folder) {
  if (const auto problem = choose_sandbox(sandbox)) {
    fmt::print("{}: {}\n", sandbox, *problem);
    return;
  }
  for (const auto& [name, script] : kEnds) {
    std::vector<double> late;
    for (int i = 0; i < times; ++i) late.push_back(late_by(script, folder));
    std::sort(late.begin(), late.end());
    fmt::print("{:10}  {:22}{:7.1f}{:7.1f}\n", sandbox, name, late[late.size() / 2], late.back());
  }
}

}  // namespace
}  // namespace autoresearch

int main(int argc, char** argv) {
  using namespace autoresearch;
  std::string pattern = fs::temp_directory_path() / "autoresearch_clock.XXXXXX";
  const fs::path folder = mkdtemp(pattern.data());
  const int times = argc > 1 ? std::max(1, std::atoi(argv[1])) : 20;
  for (const char* sandbox : {"bubblewrap", "landlock"}) measure(sandbox, times, folder);
  fs::remove_all(folder);
}
