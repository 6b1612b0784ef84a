#include "agent/loop/proposer.h"

#include "tests/story.h"
#include "tests/support.h"

namespace autoresearch {
namespace {

// A model that counts its calls and always says the same, asked about a run that has a baseline.
class ProposerTest : public FolderTest {
 protected:
  ProposerTest() {
    file("program.md", "Be bold.\n");
    const fs::path reply = file("said.md",
                                "IDEA: wider\nWHY: a test.\n<<<<<<< SEARCH\nconstexpr int kWidth = "
                                "1;\n=======\nconstexpr int kWidth = 2;\n>>>>>>> REPLACE\n");
    ModelOptions options;
    options.first.command =
        "echo >> " + (dir_ / "calls").string() + "; cat > /dev/null; cat " + reply.string();
    models_ = make_models(options, {});
    story_.begun();
  }

  // Of an agent that has just started.
  Proposer proposer() {
    Proposer::Setup setup;
    setup.checkout = dir_;
    setup.run = run_;
    setup.headers = SOURCE_DIR;
    setup.source_at = [](const std::string&) { return "constexpr int kWidth = 1;\n"; };
    setup.left = [](const RunState&) { return std::nullopt; };
    return {std::move(setup), models_.get()};
  }

  size_t calls() const { return text("calls").size(); }

  const RunFolder run_{dir_ / "run"};
  std::unique_ptr<Models> models_;
  Story story_;
};

TEST_F(ProposerTest, AReplyThatIsNotOnRecordIsNotAskedForTwice) {
  const auto turn = [&] {
    Proposer agent = proposer();
    return agent.turn(*agent.begin({1}, story_.state));
  };
  EXPECT_EQ(turn().draft.idea, "wider");  // and killed before its event
  const done::Proposed again = turn();
  EXPECT_EQ(again.kind, done::Proposed::kDraft) << again.problem;
  EXPECT_EQ(again.draft.idea, "wider");
  EXPECT_NE(again.replied, "") << "it is still to be counted";
  EXPECT_EQ(calls(), 1u);
  EXPECT_FALSE(fs::exists(run_.experiment(1).reply(2)));
  fs::remove(run_.experiment(1).conversation());  // what a refusal does
  turn();
  EXPECT_EQ(calls(), 2u);
}

TEST_F(ProposerTest, ThePromptNamesWhatOccupiesTheSlot) {
  Proposer agent = proposer();
  agent.turn(*agent.begin({1, false, "experiment 0: baseline"}, story_.state));
  EXPECT_HAS(read_file(run_.experiment(1).prompt()), "\nexperiment 0: baseline\n");
}

TEST_F(ProposerTest, ACandidateOfALaterChampionIsNotRepairedOnItsFirstOne) {
  Proposer agent = proposer();
  agent.turn(*agent.begin({1}, story_.state));
  story_.tell(event::Replied{1, "model"}).candidate(1);
  EXPECT_NE(agent.reopen(1, story_.state), nullptr);
  story_.tell(event::Withdrawn{1, "the champion was replaced"});
  event::Candidate rebased = story_.candidate(1).state.at(1).candidate;
  story_.tell(event::Withdrawn{1, "again"});
  rebased.parent = "a later champion";
  story_.tell(rebased);
  EXPECT_EQ(agent.reopen(1, story_.state), nullptr);
}

// Lines that were tried in other words don't take the places of older ones that were not.
TEST_F(ProposerTest, TheBacklogReachesBackBehindWhatWasTried) {
  const auto tried = [&](int64_t n, const std::string& idea, const std::string& next) {
    event::Candidate candidate = story_.candidate(n).state.at(n).candidate;
    candidate.idea = idea;
    candidate.next = {next};
    story_.tell(event::Withdrawn{n, "to be told again"}).tell(candidate);
    story_.measured(n, measured_at(2.1)).verdict(n, Status::kDiscard);
  };
  tried(1, "wider", "a gate on the residual stream");
  for (int64_t n = 2; n < 16; ++n)
    tried(n, "rate number" + std::to_string(n) + " of the head",
          "try rate number" + std::to_string(n + 1) + " of the head");
  EXPECT_HAS(proposer().first_prompt_of(story_.state, "").messages.back().text,
             "- a gate on the residual stream\n");
}

}  // namespace
}  // namespace autoresearch
