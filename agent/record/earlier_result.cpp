#include "agent/record/earlier_result.h"

#include <algorithm>
#include <cstdio>

#include "agent/edit/constants.h"
#include "common/text.h"

namespace autoresearch {
namespace {

std::string result_of(const Experiment& experiment) {
  char bpb[64] = "";
  if (experiment.measured && experiment.measured->bpb)
    std::snprintf(bpb, sizeof bpb, "val_bpb %.6f, ", *experiment.measured->bpb);
  const std::string words =
      experiment.status == Status::kKeep ? "kept" : name_of(experiment.status);
  return bpb + words + (experiment.reason.empty() ? "" : ": " + experiment.reason);
}

}  // namespace

std::optional<std::string> known_result(const RunState& state, const std::string& source) {
  const std::string fingerprint = code_fingerprint(source);
  if (const auto errors = state.not_built.find(fingerprint); errors != state.not_built.end())
    return "This code was tried before and did not build:\n" + fenced(errors->second, "");
  const auto found = state.measured_as.find(fingerprint);
  if (found == state.measured_as.end()) return std::nullopt;
  const Experiment& e = state.at(found->second);
  if (std::find(e.failed.begin(), e.failed.end(), fingerprint) != e.failed.end())
    return "This is code that crashed as a part of experiment " + std::to_string(e.n) +
           " and was replaced there.";
  if (e.status == Status::kOpen)
    return e.measured ? "This is the code whose run has just failed."
                      : "This is the code of experiment " + std::to_string(e.n) +
                            ", which is built and is measured now or next.";
  // Without a measurement, or on a machine that was not itself, nothing is known of the code.
  if (!e.measured || e.machine) return std::nullopt;
  const std::string which =
      e.candidate.commit == state.champion ? ", the best so far that you were given" : "";
  return "This code was measured already, as experiment " + std::to_string(e.n) + which + " (" +
         result_of(e) + "; idea: " + e.candidate.idea +
         "). Comments, white space, the order of constants and the way in which a number is "
         "written make no difference.";
}

}  // namespace autoresearch
