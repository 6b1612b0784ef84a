// Is this a place for a night? What `agent run` looks at before it compiles anything, so that a
// mistake costs seconds, and `agent doctor` at any time. Each finding is one line: what there is,
// or what is wrong and what to type or to do.
#pragma once

#include <string>
#include <vector>

#include "agent/lab/measurement.h"
#include "agent/llm/models.h"
#include "common/failure.h"
#include "common/files.h"

namespace autoresearch {

struct Finding {
  std::string name;    // what was looked at, in a word
  std::string is;      // what there is; may be empty if that is nothing to tell of
  std::string fix;     // empty: it is well
  bool stops = false;  // with a fix: a run can't begin, or would be worthless
};

// Where a run is to take place, as the command line says.
struct Site {
  fs::path checkout;  // the folder with train.cpp
  fs::path build;     // with candidate.json and the programs
  fs::path run;       // the run's folder, which need not be there yet
  std::string task, device;
  bool model_written = false;    // code that a model wrote will run
  std::string sandbox = "auto";  // auto, landlock, try or off: what --sandbox says
};

// What a run needs beside that which its parts look at themselves (the kit at the compiler, the
// history at git). Fills `slot` with what follows for every measurement.
std::vector<Finding> survey(const Site& site, Slot& slot);

// The same for a run: throws Error for what stops it, and logs the rest.
Slot good_site(const Site& site);

// Those others: the compiler, git.
std::vector<Finding> survey_of_parts(const Site& site);

// What `look` says, or the message of the Error that it throws.
template <typename Look>
Finding finding(const std::string& name, Look look) {
  try {
    return {name, look(), ""};
  } catch (const std::exception& error) {
    return {name, "", failure_in_words(error), true};
  }
}

// `agent doctor`: prints all findings. Asks the models (none: nullptr) for a word only after the
// user said yes at a terminal. The exit code.
int doctor(const Site& site, Models* models);

// "sandbox   ok    bubblewrap: ...", a line for each.
std::string text_of(const std::vector<Finding>& findings);

}  // namespace autoresearch
