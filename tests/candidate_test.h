// Candidates that are built, trained and scored as the loop does it: tests/cheats/honest.cpp with
// code put at its marks.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <optional>
#include <string>
#include <vector>

#include "agent/lab/measurement.h"
#include "agent/lab/recipe.h"
#include "agent/lab/verdict.h"
#include "agent/record/events.h"
#include "common/error.h"
#include "common/sandbox.h"
#include "task/task.h"

namespace autoresearch {

class CandidateTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    root_ = fs::temp_directory_path() / ("candidate_test." + std::to_string(getpid()));
    fs::create_directories(root_);
    kit_ = Kit::create(BUILD_DIR, root_ / "kit");
    slot_.task = fs::path(TEST_DATA) / "tiny";
    slot_.budget = load_task(slot_.task).time_budget;
    slot_.device = "cpu";
    slot_.memory_bytes = int64_t{8} << 30;
    slot_.sandboxed = !sandbox_problem();
    const auto honest = attempt("honest", {});
    honest_ = honest.measured.bpb.value_or(0);
    baseline_ = baseline_of(honest.measured);
  }
  static void TearDownTestSuite() { fs::remove_all(root_); }

  struct Insert {
    std::string mark, code;
  };

  static std::string source_with(const std::vector<Insert>& inserts) {
    std::string source = read_file(SOURCE_DIR "/tests/cheats/honest.cpp");
    for (const auto& [mark, code] : inserts) {
      const size_t at = source.find("// @" + mark);
      if (at == std::string::npos) throw Error("no mark @" + mark);
      source.replace(at, mark.size() + 4, code);
    }
    return source;
  }

  static BuildResult build(const std::string& name, const std::vector<Insert>& inserts) {
    const ExperimentFolder folder{root_ / name};
    fs::create_directories(folder.path);
    write_file(folder.source(), source_with(inserts));
    return kit_->build(folder, slot_.sandboxed);
  }

  // Builds and measures; the build must work.
  static Measurement attempt(const std::string& name, const std::vector<Insert>& inserts) {
    const BuildResult built = build(name, inserts);
    if (!built.ok) throw Error(name + " does not build: " + built.log);
    return measure(*kit_, slot_, baseline_, {root_ / name}, nullptr, name);
  }

  // By the greedy rule, against the honest candidate.
  struct Verdict {
    Status status;
    std::string reason;
  };
  static Verdict verdict_on(const Measurement& m) {
    const std::string why = why_void(m.measured, allowance_of(slot_.budget, baseline_));
    if (!why.empty()) return {Status::kCrash, why};
    return {*m.measured.bpb < honest_ ? Status::kKeep : Status::kDiscard, ""};
  }

  // Scored, and not far better than the honest candidate. The budget is one of time, so that a busy
  // machine moves both figures; answers that were read from somewhere halve them.
  static void expect_honest_score(const Measurement& m) {
    EXPECT_EQ(m.measured.train_exit, 0) << words(m);
    ASSERT_TRUE(m.measured.bpb.has_value()) << m.measured.score_problem;
    EXPECT_GT(*m.measured.bpb, 0.75 * honest_);
  }

  static std::string words(const Measurement& m) { return m.measured.last_words; }
  // What the journal holds of it.
  static std::string record_of(const Measurement& m) {
    return to_json({event::Measurement{1, 1, m.measured}, ""}).dump();
  }

  static inline fs::path root_;
  static inline std::optional<Kit> kit_;
  static inline Slot slot_;
  static inline Baseline baseline_;
  static inline double honest_ = 0;
};

#define NEEDS_SANDBOX() \
  if (!slot_.sandboxed) GTEST_SKIP() << "bubblewrap does not work here: " << *sandbox_problem()

}  // namespace autoresearch
