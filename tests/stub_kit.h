// A recipe whose candidates build and train in no time: train.cpp is a shell script with
// hyperparameters that the builtin proposer finds, and the score follows from them and from the
// seed. For tests and benches of the loop with real processes.
#pragma once

#include <fmt/format.h>

#include <cmath>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "common/error.h"
#include "common/files.h"

namespace autoresearch {

// The val_bpb of a source, as the stub's score says it: best at a rate of 0.5 and a width of 8.
inline double stub_bpb(double rate, double width) {
  return 1 + std::pow(std::log(rate / 0.5), 2) / 10 + std::pow(std::log(width / 8), 2) / 10;
}

// What a seed adds to it.
inline double stub_noise(uint64_t seed) { return (static_cast<double>(seed % 1000) - 500) * 1e-6; }

inline double stub_value(const std::string& source, const std::string& name) {
  const size_t at = source.find("double " + name + " = ");
  if (at == std::string::npos) throw Error("no " + name + " in the source");
  return std::strtod(source.c_str() + at + name.size() + 10, nullptr);
}

// Makes <dir>/build (with a copy of the agent), <dir>/checkout and <dir>/data/tiny, a copy of
// `task` with another budget. The trainer sleeps so long and touches nothing else.
inline void make_stub(const fs::path& dir, const fs::path& agent, const fs::path& task,
                      double seconds) {
  const auto write = [&](const std::string& name, const std::string& text) {
    fs::create_directories((dir / name).parent_path());
    std::ofstream(dir / name, std::ios::binary) << text;
  };
  fs::create_directories(dir / "build");
  fs::copy_file(agent, dir / "build" / "agent");
  for (const char* header : {"harness/harness.h", "kernels/kernels.h"})
    write(std::string("build/kit/") + header, "// nothing\n");
  write("build/score", R"(#!/bin/sh
[ "$1" = --help ] && exit  # does it load?
rate=$(sed -n 's/.*kRate = \([0-9.e-]*\);.*/\1/p' "$1")
width=$(sed -n 's/.*kWidth = \([0-9.e-]*\);.*/\1/p' "$1")
seed=$(sed -n 's/^seed //p' "$1")
case " $* " in *" --split test "*) name=test_bpb ;; *) name=val_bpb ;; esac
awk "BEGIN { printf \"{\\\"$name\\\": %.12f}\\n\",
      1 + log($rate / 0.5)^2 / 10 + log($width / 8)^2 / 10 + ($seed % 1000 - 500) * 1e-6 }"
)");
  fs::permissions(dir / "build" / "score", fs::perms::owner_all);
  const auto file = [&](const std::string& from, const std::string& to) {
    return nlohmann::json{{"from", (dir / "build" / from).string()}, {"to", to}};
  };
  const nlohmann::json spec = {
      {"edited", "train.cpp"},
      {"build", {{"/usr/bin/install", "-m", "755", "{source}", "{program}"}}},
      {"files",
       {file("kit/harness/harness.h", "harness/harness.h"),
        file("kit/kernels/kernels.h", "kernels/kernels.h"), file("score", "score")}},
      {"system", nlohmann::json::array()}};
  write("build/candidate.json", spec.dump());
  const std::string rule = "// " + std::string(90, '-') + "\n";
  write("checkout/train.cpp", "#!/bin/sh\n: <<'END'\n" + rule +
                                  "// Hyperparameters\n"
                                  "constexpr double kRate = 0.01;\n"
                                  "constexpr double kWidth = 64;\n"
                                  "constexpr double kBeta = 0.9;\n"
                                  "constexpr double kDecay = 0.1;\n"
                                  "constexpr double kClip = 1.0;\n"
                                  "constexpr double kWarmup = 0.05;\n" +
                                  rule +
                                  "// The program: a constant that nothing uses would not count\n"
                                  "use(kRate, kWidth, kBeta, kDecay, kClip, kWarmup);\n"
                                  "END\nprintf b >&5\nsleep " +
                                  fmt::format("{:g}", seconds) +
                                  "\ngrep '^constexpr double k' \"$0\" > model.safetensors\n"
                                  "while [ $# -gt 0 ]; do\n"
                                  "  [ \"$1\" = --seed ] && echo \"seed $2\" >> model.safetensors\n"
                                  "  shift\ndone\n"
                                  "echo '{}' > train.json\nprintf e >&5\n");
  write("checkout/program.md", "Lower val_bpb.\n");
  fs::create_directories(dir / "data");
  fs::copy(task, dir / "data" / "tiny", fs::copy_options::recursive);
  nlohmann::json info = nlohmann::json::parse(read_file(task / "task.json"));
  info["time_budget"] = seconds;
  write("data/tiny/task.json", info.dump(1));
}

}  // namespace autoresearch
