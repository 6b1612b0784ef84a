// What a user reads of a proof: only what is proven is called verified.
#include <gtest/gtest.h>

#include "agent/record/figures.h"
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
  EXPECT_EQ(proof_line(story.state),
            "not verified yet: the gain rests on the measurements that it was chosen by; "
            "build/agent verify --tag t measures it anew");
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

TEST(ProofLines, WhatWasKeptAfterTheProofIsNotVerifiedYet) {
  Story story = kept_twice();
  story.proof({}).tell(proof_of(story, true));
  EXPECT_EQ(certainty_of(story.state), Certainty::kVerified);
  story.experiment(3, Status::kKeep, 1.8);
  EXPECT_EQ(certainty_of(story.state), Certainty::kNotYet);
  EXPECT_EQ(proof_line(story.state),
            "not verified yet: #3 was kept after the proof of commit c2.3, which found -0.0123 (95 "
            "% interval -0.0150 to -0.0096), 4 pairs; build/agent verify --tag t measures it anew");
}

TEST(ProofLines, OneChangeIsCalledByWhatWasMeasuredOfIt) {
  Story story = kept_twice();
  const auto certainty = [&](event::ProvenChange change) {
    change.n = 1;
    story.state.experiments[1].proven = change;
    return certainty_of(story.state.at(1));
  };
  EXPECT_EQ(certainty_of(story.state.at(1)), Certainty::kNotYet);
  EXPECT_EQ(certainty({.effect = 0.1, .result = "verified"}), Certainty::kVerified);
  EXPECT_EQ(certainty({.effect = 0.1, .result = "unproven"}), Certainty::kNotProven);
  EXPECT_EQ(certainty({.result = "unproven"}), Certainty::kNotYet) << "it was not in question";
}

TEST(ProofLines, AfterATipLostAChangeTheBestIsThatTips) {
  Story story = kept_twice();
  story.proof({{0, 1, 2}}, {2}).tell(event::Trimmed{"trimmed", {2}, {{0, 1}}});
  story.arm(1, 0, measured_at(1.85)).arm(1, 1, measured_at(2));
  event::Verified proof = proof_of(story, true);
  proof.tip = "trimmed";
  proof.bpb = 1.85;
  story.tell(proof).experiment(3, Status::kDiscard, 1.87);
  const std::vector<Figures> figures = figures_of(story.state);
  EXPECT_EQ(figures[2].best, 1.9);
  EXPECT_EQ(figures[3].best, 1.85);
  EXPECT_NEAR(*figures[3].change, 0.02, 1e-9);
}

TEST(ProofLines, ARunThatKeptNothingClaimsNothing) {
  Story story;
  story.begun().experiment(1, Status::kDiscard);
  EXPECT_EQ(proof_line(story.state) + changes_line(story.state), "");
}

}  // namespace
}  // namespace autoresearch
