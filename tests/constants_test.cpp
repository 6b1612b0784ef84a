// What a source's constants are worth, and when two sources say the same.
#include "agent/edit/constants.h"

#include <gtest/gtest.h>

#include <random>

#include "agent/edit/cpp_tokens.h"
#include "agent/edit/edit_summary.h"
#include "common/files.h"
#include "tests/support.h"

namespace autoresearch {
namespace {

const std::string& source() {
  static const std::string text = read_file(SOURCE_DIR "/train.cpp");
  return text;
}

// Whether the real train.cpp says the same after the change.
bool says_the_same(const std::string& from, const std::string& to) {
  return code_fingerprint(source()) == code_fingerprint(replaced(source(), from, to));
}

// ------------------------------------------------------------------------------------------------
// Values

// What the compiler makes of it is the judge of what evaluate() makes of it.
TEST(Evaluate, ReadsANumberAsTheCompilerDoes) {
#define AGREES(expression) EXPECT_EQ(evaluate(#expression), static_cast<double>(expression))
  AGREES(1 << 19);
  AGREES(1L << 40);
  AGREES(-7);
  AGREES(-0.5);
  AGREES(0x10);
  AGREES(0b11);
  AGREES(010);
  AGREES(1'000);
  AGREES(3'000'000'000);
  AGREES(4e-2);
  AGREES(0.1f);
#undef AGREES
}

TEST(Evaluate, LeavesAloneWhatItCannotBeSureOf) {
  for (const char* text :
       {"", "x", "-", "- -1", "1 +", "2 * 4", "(1)", "1 2", "1 << 31", "1 << -1", "1 << 2 << 3",
        "1.5 << 2", "1 << 2.0", "-1 << 2", "1u", "0xffffffff", "std::sqrt(2)", "1e999", "08"})
    EXPECT_FALSE(evaluate(text)) << text;
}

TEST(FindConstants, ReadsThoseOfTheRealFile) {
  size_t found = 0;
  for (const Constant& constant : find_constants(source())) {
    if (constant.name == "kGpuTotalBatch") {
      EXPECT_EQ(constant.type, "int64_t");
      EXPECT_EQ(constant.value, "524288");
      ++found;
    }
    if (constant.name == "kWindowPattern") {
      EXPECT_EQ(constant.written, "\"SSSL\"");
      EXPECT_FALSE(constant.value);
      ++found;
    }
    EXPECT_NE(constant.name, "kCoefficients") << "it is inside of a function";
  }
  EXPECT_EQ(found, 2u);
}

TEST(FindConstants, ConvertsToTheirTypes) {
  const auto constants = find_constants(
      "constexpr int kA = 7;\nnamespace n {\nconstexpr double kB = kA / 2;\n"
      "inline constexpr int64_t kC = 3.5;\nconstexpr float kD = 0.1;\n}\n"
      "void f() { constexpr int kE = 1; }\n#if X\nconstexpr int kF = 1;\n#endif\n"
      "constexpr int kG = 1;\nnamespace m { constexpr int kG = 2; }\n"
      "constexpr auto kH = 3;\nconstexpr int kI = later();\n");
  std::string all;
  for (const Constant& c : constants) all += c.name + "=" + c.value.value_or("?") + " ";
  EXPECT_EQ(all, "kA=7 kB=? kC=3 kD=0.10000000149011612 kH=? kI=? ");
}

// ------------------------------------------------------------------------------------------------
// Identity

TEST(CodeFingerprint, ARestatedConstantIsTheSame) {
  EXPECT_TRUE(says_the_same("kMatrixLr = 0.04;", "kMatrixLr = 4e-2;"));
  EXPECT_TRUE(says_the_same("kMatrixLr = 0.04;", "kMatrixLr = 0.040;  // tuned"));
  EXPECT_TRUE(says_the_same("kGpuTotalBatch = 524288;", "kGpuTotalBatch = 1 << 19;"));
  EXPECT_TRUE(says_the_same("kRopeBase = 10000;", "kRopeBase = 10'000.0;"));
  EXPECT_TRUE(says_the_same("constexpr double kRopeBase", "static constexpr double kRopeBase"));
}

TEST(CodeFingerprint, TheOrderOfConstantsAndUnusedOnesMakeNoDifference) {
  const std::string a = "constexpr double kHeadLr = 0.004;     // AdamW, output head\n";
  const std::string b =
      "constexpr double kResidLr = 0.005;    // AdamW, weight of the residual stream in each "
      "layer\n";
  EXPECT_TRUE(says_the_same(a + b, b + a));
  EXPECT_TRUE(says_the_same(a, a + "constexpr double kUnused = 0.1;\n"));
}

TEST(CodeFingerprint, RestatedLiteralsInsideOfFunctionsAreTheSame) {
  EXPECT_TRUE(says_the_same("* 1.02 + 1e-6", "* 1.020 + 0.000001"));
  EXPECT_TRUE(says_the_same("6.0 * (count", "6. * (count"));
}

TEST(CodeFingerprint, WhatMayMeanSomethingElseIsSomethingElse) {
  EXPECT_FALSE(says_the_same("kMatrixLr = 0.04;", "kMatrixLr = 0.01 * 4;")) << "for a compiler";
  EXPECT_FALSE(says_the_same("kMatrixLr = 0.04;", "kMatrixLr = 0.05;"));
  EXPECT_FALSE(says_the_same("kMatrixLr = 0.04;", "kMatrixLr = 0.04f;"));
  EXPECT_FALSE(says_the_same("constexpr double kMatrixLr", "constexpr float kMatrixLr"));
  EXPECT_FALSE(says_the_same("kWindowPattern = \"SSSL\"", "kWindowPattern = \"SSLL\""));
  EXPECT_FALSE(says_the_same("6.0 * (count", "6 * (count"));
  EXPECT_FALSE(says_the_same("momentum, weight_decay;\n", "weight_decay, momentum;\n"));
  EXPECT_FALSE(
      says_the_same("kSoftcap * at::tanh(raw / kSoftcap)", "at::tanh(raw / kSoftcap) * kSoftcap"));
  EXPECT_FALSE(says_the_same("kWeightDecay * (1 - progress)", "kWeightDecay * (1 - -progress)"));
}

TEST(CodeFingerprint, EveryTokenOfTheRealFileCounts) {
  // Each single token that is dropped gives other code, unused names aside.
  const std::vector<std::string> tokens = code_tokens(source());
  const std::string whole = code_fingerprint(source());
  std::mt19937 random(5);
  for (int round = 0; round < 60; ++round) {
    const size_t dropped = random() % tokens.size();
    std::string text;
    for (size_t i = 0; i < tokens.size(); ++i)
      if (i != dropped) text += tokens[i] + (tokens[i] == "\n" ? "" : " ");
    EXPECT_NE(code_fingerprint(text), whole) << tokens[dropped];
  }
}

TEST(CodeFingerprint, SurvivesAnyBytes) {
  std::mt19937 random(3);
  const std::vector<std::string> words = {"constexpr", " int ", "k",  "=", "1", ";",  "{",  "}",
                                          "namespace", "#if",   "\n", "(", "-", "<<", "\"", "0x"};
  for (int round = 0; round < 20000; ++round) {
    std::string text;
    for (size_t i = random() % 24; i > 0; --i) text += words[random() % words.size()];
    EXPECT_EQ(code_fingerprint(text).size(), 64u);
  }
}

// ------------------------------------------------------------------------------------------------
// What an edit touched

using Words = std::vector<std::string>;

TEST(DescribeChange, NamesConstantsWithOldAndNewValues) {
  const std::string after =
      replaced(replaced(source(), "kMatrixLr = 0.04;", "kMatrixLr = 0.05;"),
               "constexpr double kWarmup = 0.0;    // share with rising learning rates\n",
               "constexpr double kWarm = 1;  // seconds\n");
  const Change change = describe_change(source(), after);
  EXPECT_EQ(change.constants, (Words{"kMatrixLr 0.05 (was 0.04)", "kWarm = 1", "kWarmup removed"}));
  EXPECT_EQ(change.areas, (Words{"Learning rates", "Schedules"}));
}

TEST(DescribeChange, NamesTheBannersOfTheCodeThatChanged) {
  const Change model =
      describe_change(source(), replaced(source(), "std::move(summed.sum), hidden", "x0, hidden"));
  EXPECT_EQ(model.areas, Words{"Model"});
  EXPECT_TRUE(model.constants.empty());
  const Change muon =
      describe_change(source(), replaced(source(), "* 1.02 + 1e-6", "* 1.01 + 1e-6"));
  EXPECT_EQ(muon.areas, Words{"Optimizer"});
}

TEST(DescribeChange, CommentsAreNoChange) {
  const Change change =
      describe_change(source(), replaced(source(), "// Architecture, everywhere.", "// Design."));
  EXPECT_TRUE(change.areas.empty());
  EXPECT_TRUE(change.constants.empty());
}

TEST(DescribeChange, AFileWithoutBannersHasNoAreas) {
  EXPECT_TRUE(describe_change("int a;\nint b;\n", "int a;\nint c;\n").areas.empty());
}

}  // namespace
}  // namespace autoresearch
