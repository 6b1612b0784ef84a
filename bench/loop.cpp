// How long the device waits in the real loop: real builds of train.cpp as candidates, a proposer
// that takes 5 s, and a stub in the trainer's place that holds the slot for 12 s and leaves the
// processor free, as a GPU would. Prints what the slot's time went to.
//
//   build/bench/loop [experiments, 8]        needs a whole build and bubblewrap or none
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include "agent/record/journal.h"
#include "common/process.h"
#include "common/run_folder.h"
#include "tests/stub_kit.h"

using namespace autoresearch;
using nlohmann::json;

namespace {

const char kTask[] = BUILD_DIR "/testdata/tiny";
constexpr double kBudget = 12;

// The real steps of a build, and then the stub in the place of what they built.
void make_recipe(const fs::path& dir) {
  json spec = json::parse(read_file(BUILD_DIR "/candidate.json"));
  for (json& file : spec["files"])
    file["from"] = (fs::path(BUILD_DIR) / file["from"].get<std::string>()).string();
  spec["files"].push_back({{"from", (dir / "checkout/stub").string()}, {"to", "stub"}});
  for (json& file : spec["files"])
    if (file["to"] == "score") file["from"] = (dir / "checkout/score").string();
  spec["build"].push_back({"/usr/bin/install", "-m", "755", "{kit}/stub", "{program}"});
  write_file(dir / "build/candidate.json", spec.dump());
}

// Replies that change one number of train.cpp each, so that none was measured before.
const char* const kProposer = R"SH(#!/bin/sh
cat > /dev/null
sleep 5
n=$(($(cat "$0.count" 2> /dev/null || echo 0) + 1))
echo $n > "$0.count"
line=$(grep -m1 '^constexpr double kMatrixLr = ' "$(dirname "$0")/train.cpp")
printf 'IDEA: matrix rate %s\nWHY: a bench.\n<<<<<<< SEARCH\n%s\n=======\n%s\n>>>>>>> REPLACE\n' \
  "$n" "$line" "$(echo "$line" | sed "s/= [0-9.]*/= 0.01$n/")"
)SH";

void write_program(const fs::path& path, const std::string& text) {
  write_file(path, text);
  fs::permissions(path, fs::perms::owner_all);
}

// What lies between the end of a measurement and the beginning of the next training, which may
// measure the champion once more. From the first training on: the baseline's build is no gap
// between two trainings.
void print_gaps(const std::vector<Entry>& entries) {
  double first = 0, measured = 0, last = 0, idle = 0;
  int gaps = 0;
  for (const Entry& entry : entries) {
    const double at = seconds_of_utc(entry.time).value_or(0);
    if (std::holds_alternative<event::Measurement>(entry.event)) measured = last = at;
    if (!std::holds_alternative<event::RunStarted>(entry.event)) continue;
    if (first == 0) first = at;
    if (std::exchange(measured, 0) == 0) continue;
    idle += at - last;
    ++gaps;
  }
  const double each = idle / gaps;
  std::printf(
      "\n%d gaps between trainings, %.3f s each: the slot idles %.1f %% of the time; with "
      "trainings "
      "of 300 s it would %.2f %%\n",
      gaps, each, 100 * idle / (last - first), 100 * each / (300 + each));
}

}  // namespace

int main(int argc, char** argv) {
  if (!fs::exists(kTask)) {
    std::fprintf(stderr, "the stubs' task is missing; make it: ctest --preset test -R tiny_task\n");
    return 1;
  }
  const std::string experiments = argc > 1 ? argv[1] : "8";
  std::string pattern = fs::temp_directory_path() / "autoresearch_loop.XXXXXX";
  const fs::path dir = mkdtemp(pattern.data());
  make_stub(dir, BUILD_DIR "/agent", kTask, kBudget);
  fs::copy_file(SOURCE_DIR "/train.cpp", dir / "checkout/train.cpp",
                fs::copy_options::overwrite_existing);
  write_program(dir / "checkout/stub",
                fmt::format("#!/bin/sh\nprintf b >&5\nsleep {:g}\necho 2 > model.safetensors\n"
                            "echo '{{}}' > train.json\nprintf e >&5\n",
                            kBudget));
  write_program(dir / "checkout/score", "#!/bin/sh\necho '{\"val_bpb\": 2}'\n");
  write_program(dir / "checkout/propose", kProposer);
  make_recipe(dir);

  Command agent;
  agent.argv = {(dir / "build/agent").string(),
                "run",
                "--tag",
                "bench",
                "--task",
                "tiny",
                "--device",
                "cpu",
                "--overlap",
                "on",
                "--command",
                (dir / "checkout/propose").string(),
                "--max-experiments",
                experiments};
  agent.env = scrubbed_environment();
  agent.env.push_back("AUTORESEARCH_DATA=" + (dir / "data").string());
  agent.cwd = dir / "checkout";
  agent.limit = 3600;
  const Exit exit = run(agent);
  std::fputs(exit.output.c_str(), stdout);
  print_gaps(read_journal(RunFolder{dir / "data/runs/bench"}.journal()));
  fs::remove_all(dir);
  return exit.code;
}
