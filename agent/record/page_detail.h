// What report.html and `agent show` tell of one experiment beside its row: read from its folder,
// in which a candidate's and a model's words lie.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "agent/lab/speed.h"
#include "agent/record/run_state.h"
#include "common/run_folder.h"

namespace autoresearch {

// The loss curve of a trainer's record, as far as it is one.
Curve curve_of(const nlohmann::json& record);

// The experiment whose candidate experiment n was made from, if it is on record.
const Experiment* parent_of(const RunState& state, int64_t n);

// Experiment n beside its parent; nothing if one of them has no curve.
std::optional<SpeedAndLearning> against_parent(const RunFolder& run, const RunState& state,
                                               int64_t n);

// A text that is at most `bytes` long, its beginning or its end, with a line that says what was
// cut. Cleaned: common/text.h.
enum class Part { kBeginning, kEnd };
std::string excerpt(const std::string& text, size_t bytes, Part part);

// {"folder": path, "curve": [[step, seconds, loss], ...], "texts": [[file name, text], ...]} in
// about `bytes`: the diff, the replies, the end of the prompt, the end of the logs. A file that is
// not there is left out.
nlohmann::json detail_of(const ExperimentFolder& folder, size_t bytes);

}  // namespace autoresearch
