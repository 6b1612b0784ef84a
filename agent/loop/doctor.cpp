#include "agent/loop/doctor.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <iostream>
#include <regex>
#include <system_error>

#include "agent/lab/machine.h"
#include "agent/loop/commands.h"
#include "agent/loop/place.h"
#include "agent/record/history.h"
#include "common/clock.h"
#include "common/folder.h"
#include "common/limits.h"
#include "common/log.h"
#include "common/nvidia.h"
#include "common/process.h"
#include "common/processor.h"
#include "common/progress.h"
#include "common/sandbox.h"
#include "common/text.h"
#include "task/task.h"

namespace autoresearch {
namespace {

std::string look_at_checkout(const Site& site) {
  for (const char* name : {"train.cpp", "program.md"})
    check(
        fs::exists(site.checkout / name),
        std::string("no ") + name + " in this folder; run agent in the top folder of the checkout");
  return "";
}

// A run can do without its words, so that it is a warning.
Finding look_at_program(const Site& site) {
  const fs::path program = site.checkout / "program.md";
  std::error_code unknown;
  const bool blank =
      site.model_written && fs::exists(program, unknown) && is_blank(read_file(program));
  return {"program", "",
          blank ? "program.md is empty, so models are told nothing of what to try; write it, or "
                  "type: git restore program.md"
                : ""};
}

std::string look_at_gpu(const Site& site, Slot& slot) {
  check(std::regex_match(site.device, std::regex("auto|cpu|cuda(:[0-9]{1,2})?")),
        "unknown device '" + site.device + "'; use --device auto, cpu, cuda or cuda:N");
  check(!site.device.starts_with("cuda") || has_nvidia_device(),
        "no NVIDIA device here; use --device cpu");
  slot.device = site.device;
  slot.gpu = site.device != "cpu" && has_nvidia_device();
  return slot.gpu              ? "NVIDIA, driver " + nvidia_driver()
         : has_nvidia_device() ? "not used: --device cpu"
                               : "none of NVIDIA's: trainings run on the CPU";
}

std::string look_at_task(const Site& site, Slot& slot) {
  slot.task = fs::absolute(task_dir(site.task));
  const TaskInfo task = load_task(slot.task);
  train_shards(slot.task, task);
  heldout_rows(slot.task, task, "val");
  slot.budget = task.time_budget;
  return fmt::format("{}: budget {}, {} scored tokens", task.name, human_seconds(task.time_budget),
                     task.val.rows * task.seq_len);
}

// Memory and cores that the machine and the container's limits leave.
Finding look_at_limits(Slot& slot) {
  constexpr int64_t kLeast = 2'000'000'000;  // bytes; compiling a candidate takes most of it
  slot.memory_bytes = usable_memory();
  const MemoryLimit memory = memory_limit();
  const CoreLimit cpu = core_limit();
  Finding limits{
      "limits",
      fmt::format("{} of memory for a training (limit: {}), {:.3g} cores (limit: {}); without a "
                  "GPU it uses {} of them",
                  human_bytes(slot.memory_bytes), memory.source, cpu.cores, cpu.source,
                  slot.threads),
      ""};
  if (memory.bytes < kLeast)
    limits.fix = "only " + human_bytes(memory.bytes) +
                 " of memory may be used here (limit: " + memory.source +
                 "), and a build takes up to " + human_bytes(kLeast) +
                 "; give the container more, as by docker run --memory 4g";
  return limits;
}

// Code that a model wrote runs in a sandbox, or not at all unless the user says so.
std::string look_at_sandbox(const Site& site, Slot& slot) {
  const bool wanted = site.sandbox != "off";
  const auto problem = wanted ? choose_sandbox(site.sandbox) : std::nullopt;
  if (problem && site.model_written && site.sandbox != "try")
    throw Error(*problem + ", which runs model-written code with your rights");
  slot.sandboxed = wanted && !problem;
  return slot.sandboxed       ? sandbox_in_words()
         : site.model_written ? "OFF: model-written code runs with your rights"
                              : "none: the builtin proposer only changes numbers and needs none";
}

// Space and the right to write.
std::string look_at_disk(const Site& site, const Slot& slot) {
  if (const auto problem =
          writing_problem(site.run, "make it writable, or name another folder: --data FOLDER"))
    throw Error(*problem);
  const Room room = room_of(site.run);
  if (const auto problem = room_problem(site.run, room_needed(0, slot.gpu), room))
    throw Error(*problem);
  return human_bytes(room.bytes) + " free in " + data_dir().string();
}

// The folders that the programs find libtorch in, whatever the search path says.
std::vector<fs::path> folders_of_libtorch(const fs::path& build) {
  try {
    return spec_of(build).system;
  } catch (const Error&) {  // the kit and look_at_libtorch tell what is wrong with the build
    return {};
  }
}

// What can make every candidate fail, and not by its own fault.
void look_at_platform(const Site& site, std::vector<Finding>& findings) {
  if (const auto problem = processor_problem(read_file("/proc/cpuinfo")))
    findings.push_back({"processor", "", *problem});
  if (const char* path = std::getenv("LD_LIBRARY_PATH"))
    if (const auto problem =
            library_problem(path, system_libraries(), folders_of_libtorch(site.build)))
      findings.push_back({"libraries", "", *problem});
}

// A clock that stands before the programs were built is wrong, and with it --until and all times.
Finding look_at_clock(const Site& site) {
  constexpr double kSlack = 86400;  // seconds; a disk from another machine is no fault
  Finding clock{"clock", "", ""};
  std::error_code unknown;
  const auto built = fs::last_write_time(site.build / "candidate.json", unknown);
  const auto now = fs::file_time_type::clock::now();
  if (!unknown && std::chrono::duration<double>(built - now).count() > kSlack)
    clock.fix =
        "this machine's clock is behind the programs that were built on it; set it: "
        "timedatectl set-ntp true";
  return clock;
}

// ------------------------------------------------------------------------------------------------
// What a run's parts look at themselves

std::string first_line_of(const std::string& program, const std::string& flag) {
  Command command{.argv = {program, flag}, .env = scrubbed_environment()};
  command.limit = 60;  // seconds; a cold disk takes its time
  const Exit exit = run(command);
  const std::vector<std::string> lines = split_lines(exit.output);
  check(exit.code == 0, program + " does not start: " +
                            (lines.empty() ? "it printed nothing" : one_line(lines.back(), 200)) +
                            "; build again: cmake --workflow --preset demo");
  return lines.empty() ? "" : one_line(lines[0], 100);
}

std::string look_at_libtorch(const Site& site) {
  first_line_of((site.build / "score").string(), "--help");
  for (const fs::path& folder : spec_of(site.build).system)
    if (fs::exists(folder / "libtorch_cpu.so")) return "loads, from " + folder.string();
  return "loads";
}

Finding look_at_git(const Site& site) {
  const fs::path scratch =
      fresh_folder(fs::temp_directory_path() / ("autoresearch-doctor-" + std::to_string(getpid())));
  Finding git = finding("git", [&] {
    const History history(site.checkout, scratch, "doctor", "train.cpp");
    if (!history.own_repository()) return "commits go to " + history.repository().string();
    return repository_note(history.own_reason(), site.checkout, "a repository in its folder");
  });
  remove_whatever(scratch);
  return git;
}

// ------------------------------------------------------------------------------------------------
// The models

// A word to a model may cost something, so the user is asked first; without a terminal nobody can.
Finding look_at_endpoint(Models* models) {
  if (!models) return {"endpoint", "none is named: the builtin proposer proposes", ""};
  const std::string name = models->proposers().name();
  if (name.starts_with("replay:")) return {"endpoint", "recorded replies: no model is asked", ""};
  if (isatty(STDIN_FILENO) != 1)
    return {"endpoint", "",
            name + " was not asked; type this in a terminal, where you can say yes"};
  if (!says_yes("Ask " + name + " for one word? It may cost a little."))
    return {"endpoint", "", name + " was not asked, as you wished"};
  return finding("endpoint", [&] {
    models->introduce(/*first_start=*/true);
    return name + " was asked";
  });
}

}  // namespace

std::vector<Finding> survey(const Site& site, Slot& slot) {
  std::vector<Finding> findings = {
      finding("checkout", [&] { return look_at_checkout(site); }),
      finding("GPU", [&] { return look_at_gpu(site, slot); }),
      look_at_limits(slot),
      finding("task", [&] { return look_at_task(site, slot); }),
      finding("sandbox", [&] { return look_at_sandbox(site, slot); }),
      finding("disk", [&] { return look_at_disk(site, slot); }),
      look_at_clock(site),
      look_at_program(site),
      {"links", "", link_problem(site.checkout, site.run).value_or("")},
  };
  look_at_platform(site, findings);  // before libtorch, which may die of it
  findings.push_back(finding("libtorch", [&] { return look_at_libtorch(site); }));
  if (slot.sandboxed && slot.gpu)
    if (const auto missing = make_nvidia_uvm()) findings.push_back({"GPU", "", *missing});
  findings.push_back(finding("runs", [&] {
    for (const std::string& other :
         other_runs(all_runs(data_dir()), site.run.filename(), machine_name()))
      findings.push_back({"machine", "", other});
    return std::string();
  }));
  return findings;
}

Slot good_site(const Site& site) {
  Slot slot;
  for (const Finding& f : survey(site, slot)) {
    check(f.fix.empty() || !f.stops, f.fix);
    if (!f.fix.empty()) log_warning(f.fix);
    if (f.fix.empty() && !f.is.empty()) log_info(fmt::format("{:<12}{}", f.name, f.is));
  }
  return slot;
}

std::vector<Finding> survey_of_parts(const Site& site) {
  return {
      finding("compiler",
              [&] { return first_line_of(spec_of(site.build).build.at(0).at(0), "--version"); }),
      look_at_git(site)};
}

std::string text_of(const std::vector<Finding>& findings) {
  std::string text;
  for (const Finding& f : findings) {
    const char* state = f.fix.empty() ? "ok" : f.stops ? "FIX" : "warn";
    const std::string& words = f.fix.empty() ? f.is : f.fix;
    text += words.empty() ? fmt::format("{:<9} {}\n", f.name, state)
                          : fmt::format("{:<9} {:<6}{}\n", f.name, state, words);
  }
  return text;
}

int doctor(const Site& site, Models* models) {
  Slot slot;
  std::vector<Finding> findings = survey(site, slot);
  for (Finding& part : survey_of_parts(site)) findings.push_back(std::move(part));
  std::cout << text_of(findings) << std::flush;
  findings.push_back(look_at_endpoint(models));
  std::cout << text_of({findings.back()}) << std::flush;
  const auto stopping = std::count_if(findings.begin(), findings.end(),
                                      [](const Finding& f) { return !f.fix.empty() && f.stops; });
  std::cout << (stopping == 0 ? "a run can begin\n"
                              : fmt::format("{} to mend before a run can begin\n", stopping));
  return stopping == 0 ? kDone : kError;
}

}  // namespace autoresearch
