// The recipe: which file is edited, how a candidate is built, trained and scored, which figure
// counts. Ours is train.cpp; the loop knows GPTs only through this. The *kit* is the recipe's
// frozen copy: trusted objects, headers, precompiled header, the scorer and candidate.json, hashed,
// so that a rebuild or a pull in the checkout meanwhile changes nothing. Runs of the same kit share
// one copy, <data>/kits/<fingerprint>, and none of them writes to it.
#pragma once

#include <string>
#include <vector>

#include "common/files.h"
#include "common/process.h"
#include "common/run_folder.h"
#include "common/sandbox.h"

namespace autoresearch {

// What CMake writes to build/candidate.json, under the same names. In the argument lists {kit},
// {source}, {object} and {program} stand for paths.
struct CandidateSpec {
  struct File {
    fs::path from;  // absolute, or relative to the build folder
    fs::path to;    // relative to the kit
  };
  std::string edited = "train.cpp";
  std::vector<std::vector<std::string>> build;  // compile, localize, link: run in this order
  std::vector<File> files;                      // `score` is one of them
  std::vector<fs::path> system;  // read-only folders the sandbox needs, such as libtorch
};

// What stands in `build`/candidate.json. Throws Error, with the command that builds it, if it is
// not there, and if a program that candidates are built with is not.
CandidateSpec spec_of(const fs::path& build);

struct BuildResult {
  bool ok = false;
  double seconds = 0;
  std::string log;           // all output of the failed step, paths as the compiler printed them
  bool interrupted = false;  // it failed only because the user stopped the agent
  std::string broken = {};   // what it said of the machine (broken_machine()); empty: nothing
};

// What the output of a failed build or training says of the machine, not of the code: a library or
// a compiler's part that is gone, a device that is lost, a full disk; empty: nothing. A candidate
// can print such words itself: they only make the loop look at the machine.
std::string broken_machine(int exit_code, const std::string& log);

// The same of a failed build: also what the compiler or the linker says without naming the edited
// file or what was made of it, such as a library that is not found, and a header of others' that is
// gone. `edited`: the file's name, "train.cpp".
std::string broken_build(int exit_code, const std::string& log, const std::string& edited);

// How the names of folders begin in which an agent is making a kit, or was when it died.
constexpr const char* kPartialKit = ".partial-";

class Kit {
 public:
  // Copies what `build`/candidate.json names into `kit` (whole or not at all) and hashes it.
  static Kit create(const fs::path& build, const fs::path& kit);
  // Opens a kit; throws Error, with the command that mends it, if a file is missing, extra or
  // changed. A file whose size, times and inode are those that it was hashed with counts as
  // unchanged, any other is hashed again.
  static Kit open(const fs::path& kit);
  // The kit of `build` in the folder that runs share, made if it isn't there. If two agents make it
  // at once, both get the one that was there first. A run that goes on names the fingerprint that
  // it began with: an Error if that kit is gone and `build` makes another one by now.
  static Kit open_or_create(const fs::path& build, const fs::path& kits,
                            const std::string& wanted = "");

  // Builds `folder`/train.cpp to `folder`/train in the sandbox (`sandboxed`), which shows that one
  // source and what the kit builds with, nothing of the task and nothing else of the folder; the
  // output is also added to folder/build.log. Without success there is no folder/train.
  BuildResult build(const ExperimentFolder& folder, bool sandboxed) const;

  // Commands for one experiment in `folder`; the caller adds limits. The trainer sees <task>/train
  // and nothing of the kit, and may write to folder/attempt, empty at first; its output goes to
  // folder/run.log, and it tells when training begins and ends (common/budget.h). The scorer runs
  // no code of the model but in sandboxes of its own making (`sandboxed`); its output is
  // Exit::output.
  Command train(const ExperimentFolder& folder, const fs::path& task,
                const std::vector<std::string>& args, bool sandboxed, bool gpu) const;
  Command score(const fs::path& sealed, const std::vector<std::string>& args, bool sandboxed) const;

  // A hash over all files, part of a run's identity.
  const std::string& fingerprint() const { return fingerprint_; }
  const CandidateSpec& spec() const { return spec_; }
  const fs::path& folder() const { return dir_; }  // absolute; files are named as in `spec`

 private:
  Kit(fs::path dir, CandidateSpec spec, std::string fingerprint);
  // In the sandbox or not: the system read-only besides what `view` has.
  Command command(std::vector<std::string> argv, View view, bool sandboxed) const;
  std::vector<fs::path> parts_to_build_with() const;

  fs::path dir_;
  CandidateSpec spec_;
  std::string fingerprint_;
};

}  // namespace autoresearch
