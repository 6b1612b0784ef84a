// A conversation's rules: how many calls, who answers, what is sent again.
#include "agent/propose/dialogue.h"

#include <gtest/gtest.h>

#include "common/files.h"

namespace autoresearch {
namespace {

// A provider that says what it is told to say, and remembers what it was asked.
class Script : public Provider {
 public:
  Script(std::string name, std::vector<Reply> replies)
      : name_(std::move(name)), replies_(std::move(replies)) {}
  std::string name() const override { return name_; }
  Reply ask(const std::vector<Message>& conversation) override {
    asked.push_back(conversation);
    return replies_.at(std::min(asked.size(), replies_.size()) - 1);
  }
  std::vector<std::vector<Message>> asked;

 private:
  std::string name_;
  std::vector<Reply> replies_;
};

Reply says(const std::string& text) {
  Reply reply;
  reply.text = text;
  return reply;
}

Reply too_long() {
  Reply reply;
  reply.problem = "the conversation is too long";
  reply.too_long = true;
  return reply;
}

PromptInputs long_night() {
  PromptInputs in;
  in.program = "assignment";
  in.source = "the source";
  for (int i = 0; i < 200; ++i)
    in.past.push_back({i, "keep", 1, -0.1, std::string(100, 'x'), "", {}, {}});
  return in;
}

Dialogue dialogue(Provider& provider, Provider* repairer = nullptr) {
  return Dialogue(&provider, long_night(), "cpu", 1, nullptr, repairer);
}

TEST(Dialogue, GoesOnWithReplyAndFeedbackInTheSameConversation) {
  Script model("m", {says("first"), says("second")});
  Dialogue talk = dialogue(model);
  EXPECT_EQ(talk.next().text, "first");
  ASSERT_TRUE(talk.feed_back({Failure::kEdit, "it is nowhere"}));
  EXPECT_EQ(talk.next().text, "second");
  const auto& first = model.asked.at(0);
  const auto& second = model.asked.at(1);
  ASSERT_EQ(second.size(), first.size() + 2);
  for (size_t i = 0; i < first.size(); ++i) EXPECT_EQ(second[i].text, first[i].text);
  EXPECT_EQ(second[first.size()].role, "assistant");
  EXPECT_EQ(second[first.size()].text, "first");
  EXPECT_EQ(second.back().role, "user");
  EXPECT_NE(second.back().text.find("it is nowhere"), std::string::npos);
  EXPECT_NE(talk.transcript().find("it is nowhere"), std::string::npos);
  EXPECT_NE(talk.transcript().find("the source"), std::string::npos);
}

TEST(Dialogue, NoReplyIsSaidAgainOnceItIsReplaced) {
  Script model("m", {says("first"), says("second"), says("third")});
  Dialogue talk = dialogue(model);
  for (const char* problem : {"nowhere", "twice"}) {
    talk.next();
    ASSERT_TRUE(talk.feed_back({Failure::kEdit, problem}));
  }
  talk.next();
  std::string said;
  for (const Message& message : model.asked.at(2)) said += message.text + "\n";
  EXPECT_EQ(said.find("first\n"), std::string::npos);
  for (const char* part : {"nowhere", "second\n", "twice"})
    EXPECT_NE(said.find(part), std::string::npos) << part;
}

TEST(Dialogue, OnACpuNothingIsSaidOfCudaKernels) {
  PromptInputs in;
  in.kernels = "// A.\nint a();\n\n// B.\nclass CudaKernel {\n  int x;\n};\n\nint c();\n";
  Script model("m", {says("x")});
  for (const std::string device : {"cpu", "cuda"}) {
    const Dialogue talk(&model, in, device, 1, nullptr);
    EXPECT_EQ(talk.transcript().find("CudaKernel") == std::string::npos, device == "cpu");
    EXPECT_NE(talk.transcript().find("int c();"), std::string::npos);
  }
}

TEST(Dialogue, EndsAfterFourCalls) {
  Script model("m", {says("x")});
  Dialogue talk = dialogue(model);
  for (int call = 1; call <= 4; ++call) {
    talk.next();
    EXPECT_EQ(talk.feed_back({Failure::kEdit, "no"}), call < 4) << call;
  }
}

TEST(Dialogue, TwoRepairsOfBuildsOrRunsAreAllowed) {
  Script model("m", {says("x")});
  Dialogue talk = dialogue(model);
  talk.next();
  EXPECT_TRUE(talk.feed_back({Failure::kBuild, "error"}));
  talk.next();
  EXPECT_TRUE(talk.feed_back({Failure::kRun, "SIGSEGV"}));
  talk.next();
  EXPECT_FALSE(talk.feed_back({Failure::kBuild, "error"}));
  EXPECT_TRUE(talk.feed_back({Failure::kKnown, "measured"})) << "that is no repair";
}

TEST(Dialogue, AWholeFileIsTakenAfterTwoEditsThatFailed) {
  Script model("m", {says("x")});
  Dialogue talk = dialogue(model);
  for (const Failure failure : {Failure::kEdit, Failure::kKnown, Failure::kEdit}) {
    talk.next();
    EXPECT_FALSE(talk.may_send_whole_file());
    ASSERT_TRUE(talk.feed_back({failure, "no"}));
  }
  EXPECT_TRUE(talk.may_send_whole_file());
  talk.next();
  EXPECT_NE(model.asked.back().back().text.find("whole file now"), std::string::npos);
}

TEST(Dialogue, AnotherModelMendsAndTheProposerStaysTheFirst) {
  Script large("large", {says("idea")}), small("small", {says("mended")});
  Dialogue talk = dialogue(large, &small);
  EXPECT_EQ(talk.name(), "large");
  talk.next();
  ASSERT_TRUE(talk.feed_back({Failure::kBuild, "error"}));
  EXPECT_EQ(talk.name(), "small");
  EXPECT_EQ(talk.next().text, "mended");
  ASSERT_TRUE(talk.feed_back({Failure::kKnown, "measured"}));
  EXPECT_EQ(talk.name(), "large") << "a new idea is no repair";
  EXPECT_EQ(talk.next().text, "idea");
  EXPECT_EQ(talk.proposer(), "large");
  EXPECT_EQ(small.asked.size(), 1u);
}

TEST(Dialogue, WhatWasTooLongIsAskedAgainShorterAndIsNoCall) {
  Script model("m", {too_long(), says("x")});
  Dialogue talk = dialogue(model);
  EXPECT_TRUE(talk.next().too_long);
  ASSERT_TRUE(talk.shorten());
  EXPECT_EQ(talk.next().text, "x");
  EXPECT_LT(model.asked[1].back().text.size(), model.asked[0].back().text.size());
  EXPECT_EQ(model.asked[1][2].text, model.asked[0][2].text) << "train.cpp stays whole";
  for (int call = 2; call <= 4; ++call) {
    ASSERT_TRUE(talk.feed_back({Failure::kEdit, "no"})) << call;
    talk.next();
  }
  EXPECT_FALSE(talk.feed_back({Failure::kEdit, "no"}));
}

TEST(Dialogue, ShorteningComesToAnEndAndAnotherModelIsAskedInFull) {
  Script model("m", {too_long()});
  Dialogue talk = dialogue(model);
  const int64_t full = talk.prompt().tokens;
  int times = 0;
  while (talk.shorten()) ASSERT_LT(++times, 10);
  EXPECT_GT(times, 1);
  EXPECT_LT(talk.prompt().tokens, full);
  talk.restore();
  EXPECT_EQ(talk.prompt().tokens, full);
}

TEST(Dialogue, AHugeReplyIsCutBeforeItIsSentBack) {
  Script model("m", {says(std::string(4 << 20, 'x'))});
  Dialogue talk = dialogue(model);
  const Reply reply = talk.next();
  EXPECT_EQ(reply.text.size(), kLargestReply);
  EXPECT_TRUE(reply.truncated);
  ASSERT_TRUE(talk.feed_back({Failure::kEdit, "no"}));
  talk.next();
  EXPECT_EQ(model.asked[1][model.asked[0].size()].text.size(), kLargestReply);
}

TEST(Dialogue, WithoutAProviderTheTunerAnswersAndTakesNoFeedback) {
  PromptInputs in;
  in.source = read_file(SOURCE_DIR "/train.cpp");
  Dialogue talk(nullptr, in, "cpu", 1, [](const std::string&) { return false; });
  EXPECT_EQ(talk.name(), "builtin");
  EXPECT_NE(talk.next().text.find("IDEA: k"), std::string::npos);
  EXPECT_FALSE(talk.feed_back({Failure::kBuild, "error"}));
  EXPECT_FALSE(talk.shorten());
}

}  // namespace
}  // namespace autoresearch
