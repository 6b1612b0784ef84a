#include "agent/lab/recipe.h"

#include <fmt/ranges.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <utility>

#include "common/budget.h"
#include "common/error.h"
#include "common/folder.h"
#include "common/text.h"

namespace autoresearch {

NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(CandidateSpec::File, from, to)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(CandidateSpec, edited, build, files, system)

namespace {

using nlohmann::json;
using Hashes = std::map<std::string, std::string>;  // path in the kit -> SHA-256
using Stamps = std::map<std::string, std::string>;  // path in the kit -> stamp_of

constexpr const char* kManifest = "kit.json";  // the spec, and of all other files hash and stamp
constexpr const char* kScorer = "score";       // the program of the kit that scores
constexpr const char* kBuildFirst = "; build first: cmake --workflow --preset demo";
constexpr double kStepSeconds = 300;              // for each step of a build
constexpr int64_t kStepBytes = int64_t{8} << 30;  // templates can ask a compiler for any amount
constexpr uint64_t kStepFileBytes = uint64_t{1} << 30;   // one file that a step writes
constexpr int64_t kStepTasks = 256;                      // processes and threads of a step
constexpr uint64_t kTrainFileBytes = uint64_t{8} << 30;  // one file that training writes
constexpr int64_t kTrainTasks = 4096;

// A relative path that stays below the folder it is joined to.
fs::path inner_path(const std::string& text) {
  fs::path path = fs::path(text).lexically_normal();
  check(path.is_relative() && path.has_filename() && *path.begin() != ".." && path != "." &&
            path != kManifest,
        "\"" + text + "\" is not a path within the kit");
  return path;
}

CandidateSpec spec_from(const json& value) {
  auto spec = value.get<CandidateSpec>();
  spec.edited = inner_path(spec.edited).string();
  for (CandidateSpec::File& file : spec.files) file.to = inner_path(file.to.string());
  check(!spec.build.empty() && !spec.build.front().empty(), "\"build\" has no steps");
  return spec;
}

// Where the build folder is says nothing about what was built: `files` does not count.
std::string fingerprint_of(const CandidateSpec& spec, const Hashes& hashes) {
  json identity = spec;
  identity["files"] = hashes;
  return sha256(identity.dump());
}

CandidateSpec read_spec(const fs::path& build) {
  const fs::path file = build / "candidate.json";
  std::error_code ignored;
  check(fs::exists(file, ignored), "no candidate.json in " + build.string() + kBuildFirst);
  try {
    return spec_from(json::parse(read_file(file)));
  } catch (const std::exception& error) {
    throw Error(file.string() + " can't be used (" + error.what() + ")" + kBuildFirst);
  }
}

// The file that the build made for a place in the kit.
fs::path built_file(const fs::path& build, const fs::path& from) {
  const fs::path source = build / from;
  check(fs::is_regular_file(source), source.string() + " is missing" + kBuildFirst);
  return source;
}

// The kit that `build` would make now.
std::string fingerprint_of_build(const fs::path& build, const CandidateSpec& spec) {
  Hashes hashes;
  for (const auto& [from, to] : spec.files)
    hashes[to.string()] = sha256_of_file(built_file(build, from));
  return fingerprint_of(spec, hashes);
}

// What changes with a file's bytes and costs nothing to look at; empty if there is no plain file.
// The second time, of the last change, can't be set back by who writes to a file.
std::string stamp_of(const fs::path& file) {
  struct stat status = {};
  if (lstat(file.c_str(), &status) != 0 || !S_ISREG(status.st_mode)) return "";
  return fmt::format("{} {}.{} {}.{} {}", status.st_size, status.st_mtim.tv_sec,
                     status.st_mtim.tv_nsec, status.st_ctim.tv_sec, status.st_ctim.tv_nsec,
                     status.st_ino);
}

// Copies and hashes; what is on disk afterwards is what was hashed.
Hashes fill(const fs::path& kit, const fs::path& build, const CandidateSpec& spec) {
  Hashes hashes;
  for (const auto& [from, to] : spec.files) {
    const fs::path source = built_file(build, from);
    fs::create_directories((kit / to).parent_path());
    copy_file_cheaply(source, kit / to);
    sync_path(kit / to);
    hashes[to.string()] = sha256_of_file(kit / to);
  }
  for (const auto& entry : fs::recursive_directory_iterator(kit)) {
    if (entry.is_directory()) sync_path(entry.path());
  }
  return hashes;
}

// Why the files of a kit are not those that were hashed; empty when they are.
std::string difference(const fs::path& kit, const Hashes& hashes, const Stamps& stamps) {
  for (const auto& [name, hash] : hashes) {
    const std::string stamp = stamp_of(kit / name);
    if (stamp.empty()) return name + " is missing";
    const auto known = stamps.find(name);
    const bool untouched = known != stamps.end() && known->second == stamp;
    if (!untouched && sha256_of_file(kit / name) != hash) return name + " has changed";
  }
  for (const auto& entry : fs::recursive_directory_iterator(kit)) {
    const std::string name = entry.path().lexically_relative(kit).string();
    const bool folder = fs::is_directory(entry.symlink_status());
    if (!folder && name != kManifest && !hashes.contains(name)) return name + " was added";
  }
  return "";
}

// All places of `argument` that name a key, in one pass: a path may itself hold braces.
std::string expand(const std::string& argument, const std::map<std::string, fs::path>& values) {
  std::string result;
  for (size_t at = 0; at < argument.size();) {
    bool found = false;
    for (const auto& [key, value] : values) {
      if (argument.compare(at, key.size(), key) != 0) continue;
      result += value.string();
      at += key.size();
      found = true;
      break;
    }
    if (!found) result += argument[at++];
  }
  return result;
}

void add_to_log(const fs::path& log, const std::string& text) {
  write_file(log, (fs::exists(log) ? read_file(log) : "") + text);
}

std::string shown(const std::vector<std::string>& argv) {
  return fmt::format("$ {}\n", fmt::join(argv, " "));
}

std::string why_ended(const Exit& exit) {
  if (exit.interrupted) return "(interrupted)\n";
  if (exit.timed_out) return "(ended: it took more than 300 s)\n";
  if (exit.over_memory) return "(ended: it took more than 8 GiB of memory)\n";
  if (!exit.over.empty()) return "(ended: " + exit.over + ")\n";
  return exit.output.empty() ? fmt::format("(exit code {})\n", exit.code) : "";
}

}  // namespace

Kit::Kit(fs::path dir, CandidateSpec spec, std::string fingerprint)
    : dir_(std::move(dir)), spec_(std::move(spec)), fingerprint_(std::move(fingerprint)) {}

namespace {

// Before anything is copied: half a gigabyte would otherwise be written in vain.
void check_room(const fs::path& folder, const fs::path& build, const CandidateSpec& spec) {
  uintmax_t bytes = 0;
  for (const auto& file : spec.files) bytes += fs::file_size(built_file(build, file.from));
  const uintmax_t available = fs::space(folder).available;
  const auto mb = [](uintmax_t count) { return static_cast<double>(count) / 1e6; };
  check(
      bytes <= available,
      fmt::format("the kit takes {:.0f} MB, where {} has {:.0f} MB free; free some space, or give "
                  "--data another folder",
                  mb(bytes), folder.native(), mb(available)));
}

// Of a kit that is being made in the folder that runs share, by this agent alone.
std::string partial_name() {
  return fmt::format("{}{}-{}", kPartialKit, getpid(), std::random_device()());
}

// Fills `partial`, an empty folder that goes if this fails, and tells its fingerprint.
std::string make_in(const fs::path& partial, const fs::path& build, const CandidateSpec& spec) {
  try {
    check_room(partial, build, spec);
    const Hashes hashes = fill(partial, build, spec);
    Stamps stamps;
    for (const auto& [name, hash] : hashes) stamps[name] = stamp_of(partial / name);
    const json manifest = {{"spec", spec}, {"sha256", hashes}, {"stamps", stamps}};
    write_file(partial / kManifest, manifest.dump(1) + "\n");
    return fingerprint_of(spec, hashes);
  } catch (const std::exception& error) {
    remove_or_warn(partial);
    throw Error(error.what());
  }
}

Error damaged(const fs::path& kit, const std::string& why) {
  return Error("the kit " + kit.string() + " is damaged (" + why +
               "); remove it and type your command again: rm -r '" + kit.string() + "'");
}

// A kit that runs share: it is what it is called.
Kit open_shared(const fs::path& kit) {
  Kit opened = Kit::open(kit);
  if (opened.fingerprint() != kit.filename()) throw damaged(kit, "it is another kit");
  return opened;
}

// Gives a whole kit its place. False if another is there already; then this one is removed.
bool put_in_place(const fs::path& partial, const fs::path& kit) {
  if (::rename(partial.c_str(), kit.c_str()) == 0) {
    sync_path(kit.parent_path());
    return true;
  }
  const int reason = errno;
  remove_or_warn(partial);
  check(reason == EEXIST || reason == ENOTEMPTY,
        "can't put the kit into " + kit.string() + ": " + std::strerror(reason));
  return false;
}

}  // namespace

CandidateSpec spec_of(const fs::path& build) {
  CandidateSpec spec = read_spec(build);
  for (const std::vector<std::string>& step : spec.build)
    check(
        !step.at(0).starts_with('/') || fs::exists(step[0]),
        "no " + step[0] + " here to build candidates with; type: apt-get install build-essential");
  return spec;
}

Kit Kit::create(const fs::path& build, const fs::path& kit) {
  const fs::path dir = fs::absolute(kit).lexically_normal();
  CandidateSpec spec = spec_of(build);
  check(!fs::exists(dir), "the kit " + dir.string() + " exists already; start a new tag");
  const fs::path partial = fresh_folder(dir.string() + ".partial");
  std::string fingerprint = make_in(partial, build, spec);
  check(put_in_place(partial, dir), "the kit " + dir.string() + " was made by another agent");
  return Kit(dir, std::move(spec), std::move(fingerprint));
}

Kit Kit::open(const fs::path& kit) {
  const fs::path dir = fs::absolute(kit).lexically_normal();
  try {
    const json manifest = json::parse(read_file(dir / kManifest));
    CandidateSpec spec = spec_from(manifest.at("spec"));
    const auto hashes = manifest.at("sha256").get<Hashes>();
    const std::string problem = difference(dir, hashes, manifest.value("stamps", Stamps()));
    check(problem.empty(), problem);
    std::string fingerprint = fingerprint_of(spec, hashes);
    return Kit(dir, std::move(spec), std::move(fingerprint));
  } catch (const std::exception& error) {
    throw damaged(dir, error.what());
  }
}

Kit Kit::open_or_create(const fs::path& build, const fs::path& kits, const std::string& wanted) {
  const fs::path folder = fs::absolute(kits).lexically_normal();
  if (!wanted.empty() && fs::exists(folder / wanted)) return open_shared(folder / wanted);
  const CandidateSpec spec = spec_of(build);
  const auto check_wanted = [&](const std::string& made) {
    check(wanted.empty() || wanted == made,
          "the kit that this run began with is gone from " + folder.string() + ", and what " +
              build.string() + " holds is another by now; start a new run: agent run --tag NEW");
  };
  const std::string built = fingerprint_of_build(build, spec);
  check_wanted(built);
  if (fs::exists(folder / built)) return open_shared(folder / built);
  const fs::path partial = fresh_folder(folder / partial_name());
  // Named after what was copied: somebody may build anew between the two looks at a file.
  const std::string made = make_in(partial, build, spec);
  put_in_place(partial, folder / made);
  check_wanted(made);
  return open_shared(folder / made);
}

Command Kit::command(std::vector<std::string> argv, View view, bool sandboxed) const {
  Command command{.argv = std::move(argv), .env = scrubbed_environment(), .cwd = view.writable};
  view.read_only.insert(view.read_only.end(), spec_.system.begin(), spec_.system.end());
  return sandboxed ? confine(std::move(command), view) : command;
}

// A builder sees of the kit what is compiled and linked, and not the scorer.
std::vector<fs::path> Kit::parts_to_build_with() const {
  std::vector<fs::path> parts;
  for (const auto& file : spec_.files)
    if (file.to != kScorer) parts.push_back(dir_ / file.to);
  return parts;
}

std::string broken_machine(int exit_code, const std::string& log) {
  constexpr size_t kMost = 400;  // characters
  if (exit_code == 0) return "";
  std::string words;
  for (const std::string& line : split_lines(log))
    if (has_any(line, {"error while loading shared libraries", "No space left on device",
                       "Input/output error", "Read-only file system", "cannot execute",
                       "error trying to exec", "CUDA driver", "CUDA-capable device",
                       "device is lost", "bwrap: "}))
      words = line;
  return one_line(words, kMost);
}

std::string broken_build(int exit_code, const std::string& log, const std::string& edited) {
  constexpr size_t kMost = 400;  // characters
  if (const std::string words = broken_machine(exit_code, log); exit_code == 0 || !words.empty())
    return words;
  const std::string object = fs::path(edited).stem().string() + ".o";
  bool names_code = false;
  std::string first;
  for (const std::string& line : split_lines(log)) {
    const bool about_code = has_any(line, {edited, object, "undefined reference"});
    // "In file included from train.cpp:3:" comes before it.
    if (!about_code && line.find("No such file or directory") != std::string::npos)
      return one_line(line, kMost);
    names_code = names_code || about_code;
    if (first.empty()) first = line;
  }
  return names_code ? "" : one_line(first, kMost);
}

BuildResult Kit::build(const ExperimentFolder& folder, bool sandboxed) const {
  const ExperimentFolder here{fs::absolute(folder.path)};
  const fs::path source = here.path / spec_.edited, program = here.program();
  const fs::path work = fresh_folder(here.build());
  fs::remove(program);
  View view{.read_only = parts_to_build_with(), .writable = work, .builds = true};
  view.read_only.push_back(source);
  BuildResult result;
  std::string log;
  for (const auto& step : spec_.build) {
    std::vector<std::string> argv;
    for (const auto& argument : step) {
      argv.push_back(expand(argument, {{"{kit}", dir_},
                                       {"{source}", source},
                                       {"{object}", work / "train.o"},
                                       {"{program}", work / "train"}}));
    }
    // A template can make a compiler eat any machine.
    Command limited = command(argv, view, sandboxed);
    limited.limit = kStepSeconds;
    limited.max_rss_bytes = kStepBytes;
    limited.max_tasks = kStepTasks;
    limited.max_file_bytes = kStepFileBytes;
    limited.disk = work;
    const Exit exit = run(limited);
    result.seconds += exit.seconds;
    result.ok = exit.code == 0;
    result.interrupted = exit.interrupted && exit.code != 0;
    result.log = result.ok ? "" : exit.output + why_ended(exit);
    // A candidate can use up a compiler's time or memory; that is not the machine's fault.
    if (why_ended(exit).empty()) result.broken = broken_build(exit.code, exit.output, spec_.edited);
    log += shown(argv) + exit.output + (result.ok ? "" : why_ended(exit));
    if (!result.ok) break;
  }
  add_to_log(here.build_log(), log);
  // The program is all that leaves the folder that the candidate's code could reach.
  check(!result.ok || take_file(work, "train", kStepFileBytes, program),
        "the steps of candidate.json made no {program}");
  remove_or_warn(work);
  return result;
}

Command Kit::train(const ExperimentFolder& folder, const fs::path& task,
                   const std::vector<std::string>& args, bool sandboxed, bool gpu) const {
  const ExperimentFolder here{fs::absolute(folder.path)};
  const fs::path program = here.program();
  std::vector<std::string> argv = {program.string()};
  argv.insert(argv.end(), args.begin(), args.end());
  View view{.read_only = {task / "train", task / "task.json", program},
            .writable = fresh_folder(here.attempt()),
            .gpu = gpu};
  Command trainer = command(std::move(argv), std::move(view), sandboxed);
  trainer.log = here.log();
  trainer.max_file_bytes = kTrainFileBytes;
  trainer.max_tasks = kTrainTasks;
  trainer.disk = here.path;
  trainer.tells = true;
  trainer.env.push_back(kClockVariable + ("=" + std::to_string(kTellFd)));
  return trainer;
}

Command Kit::score(const fs::path& sealed, const std::vector<std::string>& args,
                   bool sandboxed) const {
  const fs::path model = fs::absolute(sealed);
  check(fs::is_regular_file(fs::symlink_status(model)), model.string() + " is not a file");
  const char* sandbox = !sandboxed ? "off" : landlock_is_chosen() ? "landlock" : "on";
  std::vector<std::string> argv = {(dir_ / kScorer).string(), model.string(), "--sandbox", sandbox};
  argv.insert(argv.end(), args.begin(), args.end());
  // The scorer runs none of the model, and puts the processes that do into sandboxes itself.
  return {.argv = std::move(argv), .env = scrubbed_environment(), .dies_with_caller = true};
}

}  // namespace autoresearch
