#include "agent/lab/verdict.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <csignal>
#include <cstring>

#include "common/budget.h"
#include "common/error.h"

namespace autoresearch {
namespace {

constexpr std::array kStatusNames = {"open", "keep", "discard", "crash"};  // in Status' order

std::string describe_signal(int number) {
  const char* name = sigabbrev_np(number);
  const std::string reason = name ? fmt::format("train was ended by SIG{}", name)
                                  : fmt::format("train was ended by signal {}", number);
  switch (number) {
    case SIGKILL:
      return reason + ", as the kernel does if memory runs out";
    case SIGSEGV:
    case SIGBUS:
      return reason + ": a read or write outside of a tensor or through a bad pointer";
    case SIGILL:
      return reason +
             ": an instruction that this processor does not have (build/agent doctor says what it "
             "lacks), or code that must never be reached, such as the end of a function without "
             "its return";
    case SIGABRT:
      return reason + ": an exception or a failed check; see run.log";
  }
  return reason;
}

// Why the process gave no model; empty if it did.
std::string failure_of_run(const Measured& measured) {
  if (measured.over_memory) {
    return "out of memory: train used more main memory than a run may; use a smaller model or "
           "micro-batch";
  }
  if (!measured.over.empty()) return "train was ended: " + measured.over;
  if (measured.timed_out) {
    return fmt::format("timed out: train was still going after {:.1f} s and was ended",
                       measured.wall_seconds);
  }
  // The codes that the harness gives the ends of a run (common/error.h).
  switch (measured.train_exit) {
    case kDone:
      return measured.sealed ? ""
                             : "no model: train ended well but left no sealed model; it must end "
                               "with run.finish()";
    case kDiverged:
      return fmt::format("diverged: the loss became NaN or exceeded {:.0f}", kMostLoss);
    case kOutOfMemory:
      return "out of memory: not even one row fits; use a smaller micro-batch or model";
    case kCannotSeal:
      return "can't be sealed: the model can't be traced, or the scorer would refuse it; see "
             "run.log";
    case 127:
      return "train could not be started; see run.log";
  }
  if (measured.train_exit > 128 && measured.train_exit <= 128 + 64)
    return describe_signal(measured.train_exit - 128);
  return fmt::format("train ended with exit code {}; see run.log", measured.train_exit);
}

// Why its time voids a run; empty if it doesn't.
std::string failure_of_clock(const Measured& measured, const Allowance& allowance) {
  const auto over = [](const char* what, double seconds, double limit) {
    return seconds <= limit
               ? ""
               : fmt::format("void: {} {:.1f} s of wall time, and {:.1f} s are allowed", what,
                             seconds, limit);
  };
  std::string why = over("train took", measured.wall_seconds, allowance.wall_limit());
  if (!why.empty() || !allowance.baseline) return why;
  if (!measured.phases)
    return "void: train did not tell once when training began and when it ended";
  why = over("training took", measured.phases->training, judged_training(allowance.budget));
  if (why.empty())
    why = over("before training, train took", measured.phases->startup,
               allowance.phase_limit(allowance.baseline->startup));
  if (why.empty())
    why = over("after training, train took", measured.phases->sealing,
               allowance.phase_limit(allowance.baseline->sealing));
  return why;
}

// Why the score of a sealed model counts for nothing; empty if it counts.
std::string failure_of_score(const Measured& measured) {
  if (!measured.score_problem.empty()) return "not scored: " + measured.score_problem;
  if (!measured.bpb) return "not scored: the scorer gave no figure";
  if (!std::isfinite(*measured.bpb))
    return fmt::format("not scored: val_bpb is {:f}", *measured.bpb);
  // No text has less than no information: such a figure shows a hole in the scorer, not a model.
  if (*measured.bpb <= 0)
    return fmt::format("void: val_bpb is {:f}, which no model can reach", *measured.bpb);
  return "";
}

}  // namespace

const char* name_of(Status status) { return kStatusNames[static_cast<size_t>(status)]; }

std::optional<Status> status_of(const std::string& name) {
  for (size_t i = 0; i < kStatusNames.size(); ++i)
    if (name == kStatusNames[i]) return static_cast<Status>(i);
  return std::nullopt;
}

double Allowance::wall_limit() const {
  return budget + baseline_overhead + std::max(0.01 * budget, 3.0);
}

double Allowance::phase_limit(double baselines) const {
  return 1.25 * baselines + std::max(0.01 * budget, 2.0);
}

std::optional<Phases> phases_of(const std::vector<Told>& told, double wall_seconds) {
  if (told.size() != 2 || told[0].word != kBegins || told[1].word != kEnds) return std::nullopt;
  return Phases{told[0].seconds, told[1].seconds - told[0].seconds, wall_seconds - told[1].seconds};
}

bool is_repairable(const Measured& measured) {
  if (measured.timed_out || measured.over_memory || !measured.over.empty()) return false;
  switch (measured.train_exit) {
    case kDone:
      return !measured.sealed;
    case kDiverged:
    case kOutOfMemory:
    case kInterrupted:
    case 127:            // it could not be started
    case 128 + SIGKILL:  // the kernel's way of saying that memory ran out
      return false;
  }
  return true;
}

std::string why_void(const Measured& measured, const std::optional<Allowance>& allowance) {
  std::string why = failure_of_run(measured);
  if (why.empty() && allowance) why = failure_of_clock(measured, *allowance);
  return why.empty() ? failure_of_score(measured) : why;
}

}  // namespace autoresearch
