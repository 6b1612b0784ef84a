// What a user reads, derived from the journal and never the other way round: results.tsv, one line
// an experiment, the last lines of a run. report.html is made by page.h.
#pragma once

#include <string>

#include "agent/record/run_state.h"
#include "common/run_folder.h"

namespace autoresearch {

// Upstream's five columns `commit val_bpb memory_gb status description`, tab separated, with
// its header; one row an experiment with a verdict; 0.000000 and 0.0 for a crash. Tabs and line
// breaks in a description become spaces, '"' becomes "'" (a reader such as pandas takes it for a
// quoted field), and none begins a formula of a spreadsheet or turns the order of what follows.
std::string results_tsv(const RunState& state);

// "#12  keep     1.874210  -0.003120   0.4 min  best 1.874210  matrix learning rate 0.04 -> 0.05"
// A crash has its reason after the idea, a keep what it `won` by if that is known (name_of(WonBy)).
// The change is against the best before it.
std::string experiment_line(const RunState& state, int64_t n, const std::string& won = "");
std::string experiment_header();  // the line above the first one

// Experiments per proposer with their keeps, and what the models cost; for the summary and
// `status`.
std::string proposer_lines(const RunState& state);

// What the device's time went to: "time: 81 % training, 9 % scoring, ..."; empty before any.
std::string time_line(const TimeSpent& spent);

// What is known of the gain. "verified: -0.0123 (95 % interval -0.0150 to -0.0096), 4 pairs", "not
// proven: ..." with the figures or the reason, "not verified yet: ..." with what helps; empty if
// the baseline is still the best. Only what is proven is called verified.
std::string proof_line(const RunState& state);

// "changes: 2 verified (#3 #7), 1 dropped (#4), 5 unproven"; empty without a proof.
std::string changes_line(const RunState& state);

// The last lines: total gain and how sure it is, why it stopped (`why` empty: it goes on),
// experiments per proposer with their keeps, where the files are, restore_line().
std::string closing_lines(const RunState& state, const std::string& why, const RunFolder& run);

// The command that puts the champion's train.cpp into the checkout, in which it is typed; empty if
// that is the baseline's.
std::string restore_line(const RunFolder& run, const RunState& state);

// A word as a shell takes it for itself, in quotes if it needs them.
std::string quoted(const std::string& word);

// Points `link` (results.tsv or runs in the checkout) to `target`, by a rename: a reader finds the
// old one or the new. A regular file or folder of that name is never replaced: returns one line
// saying so, or why there is no link (a read-only checkout must not end a run), else an empty
// string.
std::string point_link(const fs::path& link, const fs::path& target);

}  // namespace autoresearch
