// What a user reads of a proof: only what is proven is called verified.
#include <gtest/gtest.h>

#include "agent/record/report.h"
#include "tests/story.h"

namespace autoresearch {
namespace {

Story kept_twice() {
  Story story;
  story.begun().experiment(1, Status::kKeep, 1.95).experiment(2, Status::kKeep, 1.9);
  return story;
}

event::Verified proof_of(const Story& story, bool verified) {
  event::Verified proof;
  proof.tip = story.state.champion;
  proof.verified = verified;
  proof.pairs = 4;
  proof.mean = -0.0123;
  proof.low = -0.015;
  proof.high = verified ? -0.0096 : 0.0003;
  proof.changes = {{1, 0.01, 0.002, 0.001, "verified"}, {2, -0.01, 0.002, 1, "dropped"}};
  return proof;
}

TEST(ProofLines, AVerifiedGainHasItsIntervalAndItsPairs) {
  Story story = kept_twice();
  story.proof({}).tell(proof_of(story, true));
  EXPECT_EQ(proof_line(story.state),
            "verified: -0.0123 (95 % interval -0.0150 to -0.0096), 4 pairs");
  EXPECT_EQ(changes_line(story.state), "changes: 1 verified (#1), 1 dropped (#2)");
}

TEST(ProofLines, AGainThatIsNotProvenIsNeverCalledVerified) {
  Story story = kept_twice();
  EXPECT_EQ(proof_line(story.state).find("verified"), std::string::npos);
  EXPECT_NE(proof_line(story.state).find("build/agent verify --tag t "), std::string::npos);
  Story unproven = story, failed = story;
  unproven.proof({}).tell(proof_of(story, false));
  EXPECT_EQ(proof_line(unproven.state),
            "not proven: -0.0123 (95 % interval -0.0150 to +0.0003), 4 pairs");
  event::Verified problem = proof_of(story, false);
  problem.problem = "the baseline gave no figure: train was ended by SIGSEGV\nand more";
  failed.proof({}).tell(problem);
  EXPECT_EQ(proof_line(failed.state),
            "not proven: the baseline gave no figure: train was ended by SIGSEGV and more");
}

TEST(ProofLines, WhatWasKeptAfterTheProofIsNotProven) {
  Story story = kept_twice();
  story.proof({}).tell(proof_of(story, true)).experiment(3, Status::kKeep, 1.8);
  EXPECT_NE(proof_line(story.state).find("what was kept after it is not proven"),
            std::string::npos);
}

TEST(ProofLines, ARunThatKeptNothingClaimsNothing) {
  Story story;
  story.begun().experiment(1, Status::kDiscard);
  EXPECT_EQ(proof_line(story.state) + changes_line(story.state), "");
}

}  // namespace
}  // namespace autoresearch
