#include "agent/record/earlier_result.h"

#include <algorithm>
#include <cstdio>

#include "agent/edit/constants.h"

namespace autoresearch {
namespace {

std::string result_of(const Experiment& experiment) {
  char bpb[64] = "";
  if (experiment.measured && experiment.measured->contains("bpb"))
    std::snprintf(bpb, sizeof bpb, "val_bpb %.6f, ", experiment.measured->at("bpb").get<double>());
  const std::string words = experiment.status == "keep" ? "kept" : experiment.status;
  return bpb + words + (experiment.reason.empty() ? "" : ": " + experiment.reason);
}

}  // namespace

std::optional<std::string> known_result(const RunState& state, const std::string& source) {
  const std::string fingerprint = code_fingerprint(source);
  for (const Experiment& e : state.experiments) {
    if (std::find(e.failed.begin(), e.failed.end(), fingerprint) != e.failed.end())
      return "This is code that crashed as a part of experiment " + std::to_string(e.n) +
             " and was replaced there.";
    if (e.fingerprint != fingerprint || !e.measured) continue;
    if (e.status.empty()) return "This is the code whose run has just failed.";
    const std::string which =
        e.commit == state.champion ? ", the best so far that you were given" : "";
    return "This code was measured already, as experiment " + std::to_string(e.n) + which + " (" +
           result_of(e) + "; idea: " + e.idea +
           "). Comments, white space, the order of constants and the way in which a number is "
           "written make no difference.";
  }
  return std::nullopt;
}

}  // namespace autoresearch
