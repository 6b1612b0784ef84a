// A reply becomes a source exactly as it says, or a sentence; never something in between.
#include "agent/edit.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <random>
#include <sstream>

#include "agent/constants.h"
#include "agent/cpp_tokens.h"
#include "agent/diff.h"
#include "common/files.h"

namespace autoresearch {
namespace {

const char kSource[] =
    "// A small program.\n"
    "#include <cstdio>\n"
    "\n"
    "constexpr int kWidth = 8;    // columns\n"
    "constexpr double kRate = 0.5;  // per second\n"
    "\n"
    "int area(int height) {\n"
    "  // The obvious formula.\n"
    "  return kWidth * height;\n"
    "}\n"
    "\n"
    "int main() {\n"
    "  std::printf(\"%d\\n\", area(3));\n"
    "  return 0;\n"
    "}\n";

std::string block(const std::string& search, const std::string& replace) {
  return "<<<<<<< SEARCH\n" + search + "=======\n" + replace + ">>>>>>> REPLACE\n";
}

std::string reply(const std::string& blocks) {
  return "IDEA: try it\nWHY: it may help. More steps.\n" + blocks + "NEXT: something else\n";
}

const std::string kWiden = block(
    "\nconstexpr int kWidth = 8;    // columns\nconstexpr double kRate = 0.5;  // per second\n\n",
    "\nconstexpr int kWidth = 16;  // columns\nconstexpr double kRate = 0.5;  // per second\n\n");

// The edited source; a test fails with the feedback where there is none.
std::string edited(const std::string& reply, const std::string& source = kSource,
                   bool allow_whole_file = false) {
  const auto parsed = parse_reply(reply, false, allow_whole_file);
  if (const auto* feedback = std::get_if<Feedback>(&parsed)) {
    ADD_FAILURE() << feedback->text;
    return "";
  }
  const auto result = apply_proposal(source, std::get<Proposal>(parsed));
  if (const auto* feedback = std::get_if<Feedback>(&result)) {
    ADD_FAILURE() << feedback->text;
    return "";
  }
  return std::get<std::string>(result);
}

// The feedback, from whichever step says no; empty where the edit applied.
std::string refusal(const std::string& reply, const std::string& source = kSource,
                    bool truncated = false, bool allow_whole_file = false) {
  const auto parsed = parse_reply(reply, truncated, allow_whole_file);
  if (const auto* feedback = std::get_if<Feedback>(&parsed)) return feedback->text;
  const auto result = apply_proposal(source, std::get<Proposal>(parsed));
  const auto* feedback = std::get_if<Feedback>(&result);
  return feedback ? feedback->text : "";
}

Proposal parsed(const std::string& reply) {
  const auto result = parse_reply(reply, false, false);
  if (const auto* feedback = std::get_if<Feedback>(&result)) {
    ADD_FAILURE() << feedback->text;
    return {};
  }
  return std::get<Proposal>(result);
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return at == std::string::npos ? text : text.replace(at, from.size(), to);
}

#define EXPECT_HAS(text, part) EXPECT_NE((text).find(part), std::string::npos) << (text)
#define EXPECT_LACKS(text, part) EXPECT_EQ((text).find(part), std::string::npos) << (text)

// ------------------------------------------------------------------------------------------------
// parse_reply

TEST(ParseReply, ReadsIdeaWhyBlocksAndNext) {
  const Proposal p = parsed(reply(kWiden));
  EXPECT_EQ(p.idea, "try it");
  EXPECT_EQ(p.why, "it may help. More steps.");
  ASSERT_EQ(p.blocks.size(), 1u);
  EXPECT_EQ(p.next, std::vector<std::string>{"something else"});
}

TEST(ParseReply, RemovesThoughtsCarriageReturnsAndFences) {
  const std::string plain = reply(kWiden);
  std::string crlf;
  for (const char c : plain) crlf += c == '\n' ? std::string("\r\n") : std::string(1, c);
  const std::string expected = edited(plain);
  EXPECT_EQ(edited("<think>IDEA: a draft\n" + kWiden + "</think>\n" + plain), expected);
  EXPECT_EQ(edited("IDEA: a draft, its opening tag is in the template\n</think>" + plain),
            expected);
  EXPECT_EQ(edited("<thinking>hm</thinking>" + plain), expected);
  EXPECT_EQ(edited(crlf), expected);
  EXPECT_EQ(edited("```\n" + plain + "```\n"), expected);
  EXPECT_EQ(edited("Sure!\n\n" + reply("```cpp\n" + kWiden + "```\n") + "Good luck.\n"), expected);
  EXPECT_EQ(edited(replaced(plain, "<<<<<<< SEARCH\n", "<<<<<<< SEARCH  \n")), expected);
}

TEST(ParseReply, ThoughtsThatNeverEndAreNoReply) {
  EXPECT_HAS(refusal("<think>\n" + reply(kWiden)), "no IDEA");
}

TEST(ParseReply, ToleratesMarkdownAroundLabels) {
  const Proposal p =
      parsed("**IDEA:** wider\n## WHY: more\n" + kWiden + "**NEXT**:\n1. a\n- b\n- c\n");
  EXPECT_EQ(p.idea, "wider");
  EXPECT_EQ(p.why, "more");
  EXPECT_EQ(p.next, (std::vector<std::string>{"a", "b"}));
}

TEST(ParseReply, CutsTheIdeaAtAHundredCharactersNotBytes) {
  std::string umlauts;
  for (int i = 0; i < 150; ++i) umlauts += "\xc3\xa4";
  EXPECT_EQ(parsed("IDEA: " + umlauts + "\n" + kWiden).idea, umlauts.substr(0, 200));
  EXPECT_EQ(parsed("IDEA: a\tb \x1b[31m\xff\n" + kWiden).idea, "a b [31m?");
}

TEST(ParseReply, FirstOfSeveralIdeasRunsAndTheRestBecomeNext) {
  const std::string other = block("int main() {\n  std::printf(\"%d\\n\", area(3));\n  return 0;\n",
                                  "int main() {\n  return 1;\n");
  const Proposal p = parsed(reply(kWiden) + "\nIDEA: quit early\nWHY: no\n" + other);
  EXPECT_EQ(p.idea, "try it");
  ASSERT_EQ(p.blocks.size(), 1u);
  EXPECT_EQ(p.next, (std::vector<std::string>{"something else", "quit early"}));
}

TEST(ParseReply, MissingIdeaOrBlockIsExplained) {
  EXPECT_HAS(refusal(kWiden), "no IDEA");
  EXPECT_HAS(refusal(""), "no IDEA");
  EXPECT_HAS(refusal("IDEA: nothing but words\n"), "no SEARCH/REPLACE block");
  EXPECT_HAS(refusal("IDEA: nothing but words\n"), "<<<<<<< SEARCH\n");  // says how to mend it
  EXPECT_HAS(refusal("IDEA: one\nIDEA: two\n" + kWiden), "no SEARCH/REPLACE block");
}

TEST(ParseReply, ACutReplyIsNeverApplied) {
  const std::string whole = reply(kWiden);
  EXPECT_HAS(refusal(whole, kSource, true), "cut off");
  const size_t begin = whole.find("<<<<<<<"), end = whole.find(">>>>>>> REPLACE") + 15;
  for (size_t i = begin; i < end; ++i) EXPECT_NE(refusal(whole.substr(0, i)), "") << i;
  EXPECT_HAS(refusal(whole.substr(0, whole.find(">>>>>>>"))), "cut off");
}

TEST(ParseReply, MangledMarkersAreRefused) {
  for (const auto& [from, to] :
       std::vector<std::pair<std::string, std::string>>{{"<<<<<<< SEARCH", "<<<<<<<SEARCH"},
                                                        {"<<<<<<< SEARCH", "<<<<<< SEARCH"},
                                                        {"=======", "===== =="},
                                                        {"=======", "========"},
                                                        {">>>>>>> REPLACE", ">>>>>>> replace"},
                                                        {">>>>>>> REPLACE", "======="},
                                                        {"=======\n", ""},
                                                        {"<<<<<<< SEARCH\n", ""},
                                                        {"=======\n", "```\n=======\n"}}) {
    EXPECT_NE(refusal(replaced(reply(kWiden), from, to)), "") << from << " -> " << to;
  }
}

TEST(ParseReply, AWholeFileNeedsPermissionAndOneClosedFence) {
  const std::string file = replaced(kSource, "8;", "12;");
  const std::string whole = "IDEA: wider\n```cpp\n" + file + "```\n";
  EXPECT_HAS(refusal(whole), "no SEARCH/REPLACE block");
  EXPECT_EQ(edited(whole, kSource, true), file);
  EXPECT_EQ(edited("```\n" + whole + "```\n", kSource, true), file);
  EXPECT_HAS(refusal("IDEA: wider\n```cpp\n" + file, kSource, false, true), "never closed");
  EXPECT_HAS(refusal(whole + "```\nmore\n```\nand\n```\n```\n", kSource, false, true),
             "exactly one");
  EXPECT_HAS(refusal("IDEA: wider\n", kSource, false, true), "exactly one");
  EXPECT_HAS(refusal("IDEA: x\n```cpp\nint main() {}\n```\n", kSource, false, true),
             "more than half");
}

// ------------------------------------------------------------------------------------------------
// apply

TEST(Apply, ReplacesExactlyTheLinesItNames) {
  EXPECT_EQ(edited(reply(kWiden)), replaced(kSource, "kWidth = 8;    //", "kWidth = 16;  //"));
}

TEST(Apply, SeveralBlocksMatchTheOriginalInAnyOrder) {
  const std::string late = block("int main() {\n  std::printf(\"%d\\n\", area(3));\n  return 0;\n",
                                 "int main() {\n  std::printf(\"%d\\n\", area(4));\n  return 0;\n");
  EXPECT_EQ(edited(reply(late + kWiden)), edited(reply(kWiden + late)));
  EXPECT_EQ(edited(reply(late + kWiden)),
            replaced(replaced(kSource, "kWidth = 8;    //", "kWidth = 16;  //"), "3)", "4)"));
}

TEST(Apply, EqualTokensMatchWhateverTheWhiteSpaceAndComments) {
  const std::string expected = replaced(kSource, "  return kWidth * height;", "  return height;");
  EXPECT_EQ(edited(reply(block("int area( int height )\n{\n\t// Another comment.\n\treturn "
                               "kWidth*height;   \n}\n",
                               "int area(int height) {\n  // The obvious formula.\n  return "
                               "height;\n}\n"))),
            expected);
}

TEST(Apply, ACommentAtTheEdgeOfATokenMatchIsReplacedNotDoubled) {
  const std::string result =
      edited(reply(block("// A short program.\n#include <cstdio>\n\nconstexpr int kWidth = 8;\n",
                         "// A new program.\n#include <cstdio>\n\nconstexpr int kWidth = 9;\n")));
  EXPECT_LACKS(result, "A small program");
  EXPECT_HAS(result, "// A new program.\n#include <cstdio>");
  EXPECT_HAS(result, "constexpr double kRate");
}

TEST(Apply, NothingNearerThanTokenEqualityIsApplied) {
  const std::string stale = block(
      "constexpr int kWidth = 7;    // columns\nconstexpr double kRate = "
      "0.5;  // per second\n\nint area(int height) {\n",
      "int area(int height) {\n");
  const std::string text = refusal(reply(stale));
  EXPECT_HAS(text, "not in the file");
  EXPECT_HAS(text, "```cpp\n");
  EXPECT_HAS(text, "constexpr int kWidth = 8;    // columns\n");  // the real line, to copy
}

TEST(Apply, APartOfALineIsNoMatch) {
  EXPECT_HAS(refusal(reply(block("area(int height) {\nreturn kWidth * height;\n}\n", "\n"))),
             "not in the file");
}

TEST(Apply, FewerThanThreeLinesAreRefused) {
  EXPECT_HAS(refusal(reply(block("  return kWidth * height;\n", "  return height;\n"))), "three");
  EXPECT_HAS(refusal(reply(block("  return kWidth * height;\n}\n", "  return 1;\n"))), "three");
  EXPECT_HAS(refusal(reply(block("", "int x;\n"))), "three");
}

TEST(Apply, AmbiguousOverlappingAndMissingBlocksAreAllNamed) {
  const std::string twice = std::string(kSource) +
                            "int a() {\n  return 1;\n}\nint b() {\n"
                            "  return 1;\n}\nint a() {\n  return 1;\n}\n";
  EXPECT_HAS(refusal(reply(block("int a() {\n  return 1;\n}\n", "int c;\n")), twice), "2 times");
  EXPECT_HAS(refusal(reply(kWiden + kWiden)), "Blocks 1 and 2 overlap");
  const std::string missing = block("int x;\nint y;\nint z;\n", "");
  const std::string text = refusal(reply(missing + kWiden + missing));
  EXPECT_HAS(text, "Block 1:");
  EXPECT_LACKS(text, "Block 2:");
  EXPECT_HAS(text, "Block 3:");
}

// Whether an edit says anything new is for those to judge who know what was measured; but a block
// that replaces lines by themselves, beside others, has lost what it was to change.
TEST(Apply, ABlockThatReplacesLinesByThemselvesIsRefusedBesideOthers) {
  const std::string lines = "int main() {\n  std::printf(\"%d\\n\", area(3));\n  return 0;\n";
  EXPECT_EQ(edited(reply(block(lines, lines))), kSource);
  EXPECT_HAS(refusal(reply(kWiden + block(lines, lines))),
             "Block 2: SEARCH and REPLACE are the same");
}

TEST(Apply, LimitsOfTheFileHold) {
  std::string lines, bytes;
  for (size_t i = 0; i <= kMaxLines; ++i) lines += "int i" + std::to_string(i) + ";\n";
  for (size_t i = 0; i < 400; ++i)
    bytes += "int " + std::string(90, 'x') + std::to_string(i) + ";\n";
  const std::string search = "int main() {\n  std::printf(\"%d\\n\", area(3));\n  return 0;\n";
  EXPECT_HAS(refusal(reply(block(search, search + lines))), "700 lines");
  EXPECT_HAS(refusal(reply(block(search, search + bytes))), "32768 bytes");
  const std::string most(kSource, std::string(kSource).find("int area"));
  EXPECT_HAS(refusal(reply(block(std::string(kSource).substr(most.size()), "int main() {}\n"))),
             "more than half");
}

// Random damage to a good reply: the result is the right source or none. Replies are cut, lines are
// dropped, doubled and swapped; whatever applies must contain the source's own untouched lines.
TEST(Apply, DamagedRepliesNeverTouchOtherLines) {
  std::mt19937 random(7);
  const std::string good = reply(kWiden);
  int applied = 0;
  for (int round = 0; round < 3000; ++round) {
    std::string bad = good;
    for (int k = 0; k < 2; ++k) {
      const size_t at = random() % bad.size();
      switch (random() % 3) {
        case 0:
          bad.erase(at, 1 + random() % 20);
          break;
        case 1:
          bad.insert(at, bad.substr(random() % bad.size(), random() % 30));
          break;
        default:
          bad[at] = static_cast<char>(random());
      }
    }
    const auto proposal = parse_reply(bad, false, round % 2);
    if (!std::holds_alternative<Proposal>(proposal)) continue;
    const auto result = apply_proposal(kSource, std::get<Proposal>(proposal));
    if (!std::holds_alternative<std::string>(result)) continue;
    ++applied;
    EXPECT_HAS(std::get<std::string>(result),
               "int area(int height) {\n  // The obvious formula.\n");
    EXPECT_HAS(std::get<std::string>(result), "int main() {\n  std::printf(");
  }
  EXPECT_GT(applied, 0);
}

// ------------------------------------------------------------------------------------------------
// code_tokens

using Tokens = std::vector<std::string>;

TEST(CodeTokens, SeparatesTokensByMaximalMunch) {
  EXPECT_EQ(code_tokens("a+++b<<=c->*d...;x<=>y::z"),
            (Tokens{"a", "++", "+", "b", "<<=", "c", "->*", "d", "...", ";", "x", "<=>", "y",
                    "::", "z"}));
  EXPECT_NE(code_tokens("a - -b"), code_tokens("a--b"));
}

TEST(CodeTokens, ReadsNumbersWithSeparatorsExponentsAndSuffixes) {
  EXPECT_EQ(code_tokens("1'000'000 1e-5f .5 0x1p+3 1-2 '1' 3_km"),
            (Tokens{"1000000", "1e-5f", ".5", "0x1p+3", "1", "-", "2", "'1'", "3_km"}));
}

TEST(CodeTokens, KeepsStringsWholeAndCommentsOut) {
  EXPECT_EQ(code_tokens("\"a // b\" /* \" */ u8\"\\\"\" 'x' '\\'' L'y' \"s\"sv // end"),
            (Tokens{"\"a // b\"", "u8\"\\\"\"", "'x'", "'\\''", "L'y'", "\"s\"sv"}));
  EXPECT_EQ(code_tokens("R\"x(a )\" // \\\n)x\" b"), (Tokens{"R\"x(a )\" // \\\n)x\"", "b"}));
  EXPECT_EQ(code_tokens("a /* never closed"), Tokens{"a"});
  EXPECT_EQ(code_tokens("// goes on \\\nhere\nb"), Tokens{"b"});
}

TEST(CodeTokens, JoinsContinuedLines) {
  EXPECT_EQ(code_tokens("in\\\nt x\\\r\n;"), (Tokens{"int", "x", ";"}));
}

TEST(CodeTokens, TellsPreprocessorLinesApart) {
  EXPECT_NE(code_tokens("#define A\nint x;"), code_tokens("#define A int x;"));
  EXPECT_NE(code_tokens("#define A (x)\n"), code_tokens("#define A(x)\n"));
  EXPECT_EQ(code_tokens("#  define A 1 // one\n"), code_tokens("#define A 1"));
  EXPECT_EQ(code_tokens("int a;\nint b;"), code_tokens("int a; int b;"));
}

TEST(CodeTokens, SurvivesAnyBytes) {
  std::mt19937 random(3);
  const std::string alphabet =
      "R\"'()\\\n/*# ab1.e+-<>=\xc3\x00"
      "\r";
  for (int round = 0; round < 20000; ++round) {
    std::string text;
    for (size_t i = random() % 24; i > 0; --i) text += alphabet[random() % alphabet.size()];
    for (const std::string& token : code_tokens(text)) ASSERT_FALSE(token.empty());
  }
}

TEST(CodeFingerprint, DependsOnCodeOnly) {
  const std::string commented = replaced(kSource, "// columns", "/* pillars */");
  EXPECT_EQ(code_fingerprint(kSource), code_fingerprint(commented));
  EXPECT_NE(code_fingerprint(kSource), code_fingerprint(replaced(kSource, "= 8", "= 9")));
  EXPECT_NE(code_fingerprint("ab c"), code_fingerprint("a bc"));
  EXPECT_EQ(code_fingerprint(kSource).size(), 64u);
}

// ------------------------------------------------------------------------------------------------
// unified_diff

std::string patched(const std::string& before, const std::string& diff) {
  char folder[] = "/tmp/edit_test_XXXXXX";
  EXPECT_NE(mkdtemp(folder), nullptr);
  const fs::path dir = folder;
  std::ofstream(dir / "f.txt") << before;
  std::ofstream(dir / "d.diff") << diff;
  const std::string command =
      "cd " + dir.string() + " && git apply --unidiff-zero --whitespace=nowarn d.diff 2>&1";
  const int status = diff.empty() ? 0 : std::system(command.c_str());
  EXPECT_EQ(status, 0) << diff;
  std::stringstream text;
  text << std::ifstream(dir / "f.txt").rdbuf();
  fs::remove_all(dir);
  return text.str();
}

TEST(UnifiedDiff, ShowsThreeLinesOfContext) {
  EXPECT_EQ(unified_diff("1\n2\n3\n4\n5\n6\n7\n8\n", "1\n2\n3\n4\nfive\n6\n7\n8\n", "f"),
            "--- a/f\n+++ b/f\n@@ -2,7 +2,7 @@\n 2\n 3\n 4\n-5\n+five\n 6\n 7\n 8\n");
  EXPECT_EQ(unified_diff("a\n", "a\n", "f"), "");
}

TEST(UnifiedDiff, GitAppliesIt) {
  std::mt19937 random(11);
  for (int round = 0; round < 60; ++round) {
    std::string before, after;
    for (int i = 0; i < 40; ++i) {
      const std::string line = std::to_string(random() % 8) + "\n";
      const unsigned fate = random() % 12;
      if (fate != 0) before += line;
      if (fate != 1) after += line;
    }
    if (round % 3 == 1) before.pop_back();
    if (round % 4 == 1) after.pop_back();
    ASSERT_EQ(patched(before, unified_diff(before, after, "f.txt")), after);
  }
}

// ------------------------------------------------------------------------------------------------
// program.md

// The fenced example of program.md's chapter on the reply format.
std::string example_of_program() {
  std::stringstream text;
  text << std::ifstream(fs::path(__FILE__).parent_path().parent_path() / "program.md").rdbuf();
  const std::string all = text.str();
  const size_t begin = all.find("```\nIDEA:");
  const size_t end = all.find("\n```\n", begin);
  return begin == std::string::npos ? "" : all.substr(begin + 4, end - begin - 3);
}

TEST(ProgramMd, ItsExampleReplyParses) {
  const Proposal p = parsed(example_of_program());
  EXPECT_FALSE(p.idea.empty());
  EXPECT_FALSE(p.why.empty());
  EXPECT_FALSE(p.next.empty());
  ASSERT_EQ(p.blocks.size(), 1u);
}

}  // namespace
}  // namespace autoresearch
