// `agent status`: where a run stands, from its folder alone, whoever runs it and whether anybody
// does.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "agent/record/run_state.h"
#include "common/run_folder.h"

namespace autoresearch {

// What is under way, as far as the journal and the files show it.
struct Doing {
  std::string phase;   // "training", "scoring", "building", ...
  int64_t n = -1;      // the experiment that holds the slot; -1: none does
  std::string what;    // holds the slot: "#3", "#3 again", "proof 2 of 4, champion"; empty: nothing
  double seconds = 0;  // since it began
  std::optional<double> left;                  // of its training, as it should last
  std::optional<int64_t> step;                 // that its log told last
  std::optional<double> loss, champions_loss;  // there, and the champion's at the same step
  std::string asking;  // the model that a reply is awaited from; empty: none
  double asking_seconds = 0;
};

struct RunStatus {
  RunFolder folder;
  RunState state;
  std::string holder;  // the process that runs it; empty: none does
  bool user_pauses = false;
  Doing doing;
  double now = 0;  // seconds since 1970
};

// Throws Error if there is no journal, or if it is damaged.
RunStatus status_of(const RunFolder& folder, double now);

// "running", "paused", "ended" (a reason is on record) or "killed" (none is, and nobody runs it).
std::string condition_of(const RunStatus& status);

// For a terminal that is so many characters wide; with colours if they are wanted.
std::string status_text(const RunStatus& status, size_t columns, bool colours);
// The same for programs: all times in seconds, all figures as numbers.
nlohmann::json status_json(const RunStatus& status);

// The step and the loss in the last line of progress that a trainer printed; nothing if there is
// none.
std::optional<std::pair<int64_t, double>> progress_in(const std::string& log);

// The beginning of a text that fills at most so many columns of a terminal, in which characters of
// East Asia and pictures take two.
std::string first_columns(const std::string& text, size_t columns);

}  // namespace autoresearch
