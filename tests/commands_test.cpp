#include "agent/loop/commands.h"

#include <unistd.h>

#include "tests/support.h"

namespace autoresearch {
namespace {

// What is typed after "agent", with no terminal on stdin.
class CommandsTest : public FolderTest {
 protected:
  std::optional<int> type(const std::string& words) {
    CLI::App app;
    app.add_subcommand("run");
    const auto housekeeping = add_commands(app);
    app.parse(words);
    testing::internal::CaptureStdout();
    try {
      const auto code = housekeeping();
      said_ = testing::internal::GetCapturedStdout();
      return code;
    } catch (...) {
      testing::internal::GetCapturedStdout();
      throw;
    }
  }
  std::string error(const std::string& words) {
    return error_of([&] { type(words); });
  }
  void SetUp() override { ASSERT_NE(freopen("/dev/null", "r", stdin), nullptr); }

  const std::string data_ = " --data " + dir_.string();
  std::string said_;
};

TEST_F(CommandsTest, LeaveTheOthersToTheAgent) { EXPECT_EQ(type("run"), std::nullopt); }

TEST_F(CommandsTest, FindTheDataWhereTheUserSaysItIs) {
  file("runs/monday/results.tsv", "");
  EXPECT_EQ(type("runs" + data_), kDone);
  EXPECT_NE(said_.find("monday"), std::string::npos) << said_;
}

TEST_F(CommandsTest, RemoveNothingThatNobodyHasConfirmed) {
  const fs::path run = file("runs/monday/results.tsv", "");
  const fs::path rest = file("runs/.deleted-x/results.tsv", "");
  EXPECT_NE(error("delete --tag monday" + data_).find("add --yes"), std::string::npos);
  EXPECT_EQ(type("prune" + data_), kDone);
  EXPECT_NE(said_.find("nothing was removed; add --yes"), std::string::npos) << said_;
  EXPECT_TRUE(fs::exists(run) && fs::exists(rest));
  EXPECT_EQ(type("prune --yes" + data_), kDone);
  EXPECT_FALSE(fs::exists(rest));
  EXPECT_EQ(type("delete --yes --tag monday" + data_), kDone);
  EXPECT_FALSE(fs::exists(run));
}

TEST_F(CommandsTest, TellAUserWhatWasWrongAndWhatHelps) {
  file("runs/monday/results.tsv", "");
  for (const char* words : {"pause --tag tuesday", "resume --tag tuesday", "pause --tag monday",
                            "resume --tag monday", "delete --yes --tag tuesday"})
    EXPECT_TRUE(error(words + data_).ends_with("; see: build/agent runs")) << words;
  EXPECT_NE(error("pause --tag ../monday" + data_).find("can't name a run"), std::string::npos);
}

}  // namespace
}  // namespace autoresearch
