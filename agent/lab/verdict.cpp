#include "agent/lab/verdict.h"

#include <algorithm>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <cstring>

#include "common/budget.h"
#include "common/error.h"

namespace autoresearch {
namespace {

template <typename... Args>
std::string text(const char* format, Args... args) {
  char buffer[400];
  std::snprintf(buffer, sizeof buffer, format, args...);
  return buffer;
}

std::string describe_signal(int number) {
  const char* name = sigabbrev_np(number);
  std::string reason =
      name ? text("train was ended by SIG%s", name) : text("train was ended by signal %d", number);
  if (name && std::strcmp(name, "KILL") == 0)
    reason += ", as the kernel does where memory runs out";
  if (name && (std::strcmp(name, "SEGV") == 0 || std::strcmp(name, "BUS") == 0)) {
    reason += ": a read or write outside of a tensor or through a bad pointer";
  }
  if (name && std::strcmp(name, "ABRT") == 0)
    reason += ": an exception or a failed check; see run.log";
  return reason;
}

// Why the process gave no model; empty where it did.
std::string failure_of_run(const Outcome& outcome) {
  if (outcome.over_memory) {
    return "out of memory: train used more main memory than a run may; use a smaller model or "
           "micro-batch";
  }
  if (!outcome.over.empty()) return "train was ended: " + outcome.over;
  if (outcome.timed_out) {
    return text("timed out: train was still going after %.1f s and was ended",
                outcome.wall_seconds);
  }
  switch (outcome.train_exit) {
    case kDone:
      return outcome.sealed ? ""
                            : "no model: train ended well but left no sealed model; it must end "
                              "with run.finish()";
    case kDiverged:
      return "diverged: the loss became NaN or exceeded 100";
    case kOutOfMemory:
      return "out of memory: not even one row fits; use a smaller micro-batch or model";
    case kCannotSeal:
      return "can't be sealed: the model can't be traced, or the scorer would refuse it; see "
             "run.log";
    case 127:
      return "train could not be started; see run.log";
  }
  if (outcome.train_exit > 128 && outcome.train_exit <= 128 + 64)
    return describe_signal(outcome.train_exit - 128);
  return text("train ended with exit code %d; see run.log", outcome.train_exit);
}

// Why its time voids a run; empty if it doesn't.
std::string failure_of_clock(const Outcome& outcome, const Allowance& allowance) {
  const auto over = [](const char* what, double seconds, double limit) {
    return seconds <= limit
               ? ""
               : text("void: %s %.1f s of wall time, and %.1f s are allowed", what, seconds, limit);
  };
  std::string why = over("train took", outcome.wall_seconds, allowance.wall_limit());
  if (!why.empty() || !allowance.baseline) return why;
  if (!outcome.phases) return "void: train did not tell once when training began and when it ended";
  why = over("training took", outcome.phases->training, judged_training(allowance.budget));
  if (why.empty())
    why = over("before training, train took", outcome.phases->startup,
               allowance.phase_limit(allowance.baseline->startup));
  if (why.empty())
    why = over("after training, train took", outcome.phases->sealing,
               allowance.phase_limit(allowance.baseline->sealing));
  return why;
}

// Why the score of a sealed model counts for nothing; empty where it counts.
std::string failure_of_score(const Outcome& outcome) {
  if (!outcome.score_problem.empty()) return "not scored: " + outcome.score_problem;
  if (!outcome.bpb) return "not scored: the scorer gave no figure";
  if (!std::isfinite(*outcome.bpb)) return text("not scored: val_bpb is %f", *outcome.bpb);
  // No text has less than no information: such a figure shows a hole in the scorer, not a model.
  if (*outcome.bpb <= 0) return text("void: val_bpb is %f, which no model can reach", *outcome.bpb);
  return "";
}

}  // namespace

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

bool is_repairable(const Outcome& outcome) {
  if (outcome.timed_out || outcome.over_memory || !outcome.over.empty()) return false;
  switch (outcome.train_exit) {
    case kDone:
      return !outcome.sealed;
    case kDiverged:
    case kOutOfMemory:
    case kInterrupted:
    case 127:            // it could not be started
    case 128 + SIGKILL:  // the kernel's way of saying that memory ran out
      return false;
  }
  return true;
}

Verdict judge(const Outcome& outcome, const Allowance& allowance, std::optional<double> best) {
  if (std::string why = failure_of_run(outcome); !why.empty()) return {"crash", why};
  // The baseline's own time is what the allowance is made from.
  if (best)
    if (std::string why = failure_of_clock(outcome, allowance); !why.empty()) return {"crash", why};
  if (std::string why = failure_of_score(outcome); !why.empty()) return {"crash", why};
  if (!best || *outcome.bpb < *best) return {"keep", ""};
  // Four digits are what a user compares; more only where four show no difference.
  std::string ours = text("%.4f", *outcome.bpb), theirs = text("%.4f", *best);
  if (ours == theirs) ours = text("%.6f", *outcome.bpb), theirs = text("%.6f", *best);
  return {"discard", "no gain: " + ours + " against " + theirs};
}

}  // namespace autoresearch
