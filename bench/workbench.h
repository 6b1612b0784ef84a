// What the benches share: candidates built and measured as the loop does it, in a temporary folder.
#pragma once

#include <unistd.h>

#include <cstdio>
#include <map>
#include <regex>
#include <string>

#include "agent/lab/machine.h"
#include "agent/lab/measurement.h"
#include "agent/lab/recipe.h"
#include "common/error.h"
#include "common/files.h"
#include "common/nvidia.h"
#include "common/sandbox.h"
#include "task/task.h"

namespace autoresearch {

class Workbench {
 public:
  Workbench(const fs::path& build, const std::string& task)
      : root_(fs::temp_directory_path() / ("autoresearch-bench." + std::to_string(getpid()))),
        kit_(make_kit(build, root_)) {
    slot.task = fs::absolute(task_dir(task));
    slot.budget = load_task(slot.task).time_budget;
    slot.device = "auto";
    slot.gpu = has_nvidia_device();
    slot.sandboxed = !sandbox_problem();
    slot.memory_bytes = usable_memory();
  }
  ~Workbench() {
    std::error_code ignored;
    fs::remove_all(root_, ignored);
  }

  // Builds `source` under `name`; throws with the compiler's words when it does not build.
  BuildResult build(const std::string& name, const std::string& source) const {
    const ExperimentFolder folder{root_ / name};
    fs::create_directories(folder.path);
    write_file(folder.source(), source);
    const BuildResult result = kit_.build(folder, slot.sandboxed);
    check(result.ok, name + " does not build: " + result.log);
    return result;
  }

  // Trains what was built under `name` and scores it; throws when either fails.
  Measured measure(const std::string& name) const {
    const Measured measured =
        autoresearch::measure(kit_, slot, {}, {root_ / name}, nullptr, name).measured;
    check(measured.bpb.has_value(), name + ": " + measured.last_words + measured.score_problem);
    return measured;
  }

  Slot slot;

 private:
  static Kit make_kit(const fs::path& build, const fs::path& root) {
    fs::create_directories(root);
    return Kit::create(build, root / "kit");
  }
  fs::path root_;
  Kit kit_;
};

// The source with `constexpr ... name = <value>;` set to another value.
inline std::string with_constant(const std::string& source, const std::string& name,
                                 const std::string& value) {
  const std::regex line("(constexpr [^\\n]* " + name + " = )[^;]+;");
  check(std::regex_search(source, line), "train.cpp has no constant " + name);
  return std::regex_replace(source, line, "$01" + value + ";");
}

}  // namespace autoresearch
