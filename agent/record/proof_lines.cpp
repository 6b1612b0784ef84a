#include "agent/record/proof_lines.h"

#include <utility>

#include "agent/record/history.h"
#include "common/log.h"
#include "common/text.h"

namespace autoresearch {

std::string proof_line(const RunState& state) {
  if (state.champion_n <= 0) return "";
  if (!state.verified)
    return "not proven: the gain rests on the measurements that it was chosen by; build/agent "
           "verify --tag " +
           state.start->tag + " measures it anew";
  const event::Verified& proof = *state.verified;
  std::string line = proof.verified ? "verified: " : "not proven: ";
  if (!proof.problem.empty())
    line += one_line(proof.problem, 300);
  else
    line += format("%+.4f (95 %% interval %+.4f to %+.4f), %lld pairs", proof.mean, proof.low,
                   proof.high, static_cast<long long>(proof.pairs));
  if (proof.tip != state.champion)
    line +=
        ", of commit " + History::short_id(proof.tip) + "; what was kept after it is not proven";
  return line;
}

std::string changes_line(const RunState& state) {
  if (!state.verified || state.verified->changes.empty()) return "";
  std::string line;
  for (const std::string result : {"verified", "dropped", "unproven"}) {
    int count = 0;
    std::string names;
    for (const event::ProvenChange& change : state.verified->changes) {
      if (change.result != result) continue;
      ++count;
      names += (names.empty() ? "#" : " #") + std::to_string(change.n);
    }
    if (count == 0) continue;
    line += (line.empty() ? "changes: " : ", ") + std::to_string(count) + " " + result;
    if (result != "unproven") line += " (" + names + ")";
  }
  return line;
}

}  // namespace autoresearch
