// What watching one child costs: the share of a core that run() takes, and what it would take if it
// read all of /proc each time. Among many other processes:
//   for i in $(seq 5000); do sleep 60 & done; build/bench/watch
#include <sys/resource.h>

#include <cstdio>
#include <utility>

#include "common/process.h"
#include "common/process_table.h"

using namespace autoresearch;

namespace {

double cpu_seconds() {
  rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
         1e-6 * static_cast<double>(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

// In percent, while a child with a limit of memory sleeps.
double share(std::function<void(double)> tick) {
  const double before = cpu_seconds();
  const Exit exit = run({.argv = {"sleep", "10"},
                         .env = {"PATH=/usr/bin:/bin"},
                         .max_rss_bytes = 1 << 30,
                         .tick = std::move(tick)});
  return 100 * (cpu_seconds() - before) / exit.seconds;
}

}  // namespace

int main() {
  adopt_orphans();  // as the agent does
  const double own = share({}), all = share([](double) { all_processes(); });
  std::printf(
      "%zu processes: watching one takes %.2f %% of a core, and would take %.2f %% if all "
      "were read\n",
      all_processes().size(), own, all);
}
