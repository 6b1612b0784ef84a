#include "agent/record/earlier_result.h"

#include <fmt/format.h>

#include <algorithm>

#include "agent/edit/constants.h"
#include "common/text.h"

namespace autoresearch {
namespace {

std::string result_of(const Experiment& experiment) {
  const bool figure = experiment.measured && experiment.measured->bpb;
  return (figure ? fmt::format("val_bpb {:.6f}, ", *experiment.measured->bpb) : "") +
         (experiment.status == Status::kKeep ? "kept" : name_of(experiment.status)) +
         (experiment.reason.empty() ? "" : ": " + experiment.reason);
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
    return fmt::format(
        "This is code that crashed as a part of experiment {} and was replaced there.", e.n);
  if (e.status == Status::kOpen)
    return e.measured ? "This is the code whose run has just failed."
                      : fmt::format(
                            "This is the code of experiment {}, which is built and is "
                            "measured now or next.",
                            e.n);
  // Without a measurement, or on a machine that was not itself, nothing is known of the code.
  if (!e.measured || e.machine) return std::nullopt;
  const std::string which =
      e.candidate.commit == state.champion ? ", the best so far that you were given" : "";
  return fmt::format(
      "This code was measured already, as experiment {}{} ({}; idea: {}). Comments, white space, "
      "the order of constants and the way in which a number is written make no difference.",
      e.n, which, result_of(e), e.candidate.idea);
}

}  // namespace autoresearch
