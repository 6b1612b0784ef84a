// The referee's program as a user meets it: what is wrong is said in one line.
#include <gtest/gtest.h>

#include "tests/prepare_program.h"

namespace autoresearch {
namespace {

class ScoreCliTest : public PrepareProgramTest {
 protected:
  Output score(const std::string& arguments) const {
    return run_in_shell("'" SCORE_PROGRAM "' " + arguments, "stdout");
  }
  void expect_error(const std::string& arguments, const std::string& part, int code = 1) const {
    const Output result = score(arguments);
    EXPECT_EQ(result.code, code) << arguments << "\n" << result.err;
    EXPECT_EQ(result.out, "") << arguments;
    EXPECT_EQ(result.err.find("score: error: "), 0u) << result.err;
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
    EXPECT_NE(result.err.find(part), std::string::npos) << result.err;
  }
  void make_task() {
    std::string text;
    for (int i = 0; i < 3000; ++i) text += "line " + std::to_string(i * 7919) + "\n\n";
    write_file(dir_ / "corpus.txt", text);
    const Output made = prepare(
        "--source corpus.txt --task small --vocab 300 --seq-len 16 --eval-tokens 64 "
        "--doc-separator '\n\n'");
    ASSERT_EQ(made.code, 0) << made.err;
  }
};

TEST_F(ScoreCliTest, BadArgumentsAreRefusedInOneLine) {
  expect_error("m --split train", "train", 2);
  expect_error("sample m --temperature nan", "--temperature", 2);
  expect_error("sample m --top-k -1", "1048576", 2);
  expect_error("", "MODEL", 2);
  expect_error("m --probe deep", "--probe", 2);
}

TEST_F(ScoreCliTest, WithoutATaskTheCommandThatMakesOneIsNamed) {
  expect_error("model", "build/prepare --source demo");
  expect_error("sample model --task demo", "build/prepare --source demo");
}

TEST_F(ScoreCliTest, AMissingOrForeignModelIsAnError) {
  make_task();
  write_file(dir_ / "foreign", "this is no model");
  expect_error("none.sealed", "no sealed model at none.sealed");
  expect_error("foreign --json nowhere/score.json", "can't write nowhere/score.json");
  for (const char* sandbox : {"off", "auto", "landlock"}) {
    expect_error(std::string("foreign --sandbox ") + sandbox, "is not a sealed model");
    expect_error(std::string("sample foreign --sandbox ") + sandbox, "is not a sealed model");
  }
}

}  // namespace
}  // namespace autoresearch
