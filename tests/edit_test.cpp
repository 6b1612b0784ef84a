// A reply becomes a source exactly as it says, or a sentence; never something in between.
#include "agent/edit/edit.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <random>
#include <sstream>

#include "agent/edit/constants.h"
#include "agent/edit/cpp_tokens.h"
#include "agent/edit/diff.h"
#include "common/files.h"
#include "common/text.h"
#include "tests/fuzz/reply_property.h"
#include "tests/support.h"

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

TEST(ApplyProposal, AFileWithCarriageReturnsKeepsThemOnEveryLine) {
  const auto as_crlf = [](const std::string& text) {
    std::string lines;
    for (const char c : text) lines += c == '\n' ? std::string("\r\n") : std::string(1, c);
    return lines;
  };
  EXPECT_EQ(edited(reply(kWiden), as_crlf(kSource)), as_crlf(edited(reply(kWiden))));
  EXPECT_HAS(refusal(reply(block("int nothing;\nof the;\nkind;\n", "")), as_crlf(kSource)), "not");
}

TEST(ParseReply, ThoughtsThatNeverEndAreNoReply) {
  EXPECT_HAS(refusal("<think>\n" + reply(kWiden)), "without your thoughts");
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
  EXPECT_EQ(parsed("IDEA: a\tb \x1b[31m\xff\n" + kWiden).idea, "a b ?");
}

TEST(ParseReply, FirstOfSeveralIdeasRunsAndTheRestBecomeNext) {
  const std::string other = block("int main() {\n  std::printf(\"%d\\n\", area(3));\n  return 0;\n",
                                  "int main() {\n  return 1;\n");
  const Proposal p = parsed(reply(kWiden) + "\nIDEA: quit early\nWHY: no\n" + other);
  EXPECT_EQ(p.idea, "try it");
  ASSERT_EQ(p.blocks.size(), 1u);
  EXPECT_EQ(p.next, (std::vector<std::string>{"something else", "quit early"}));
}

TEST(ParseReply, ADraftLeavesNothingBehind) {
  const std::string draft = "IDEA: a draft\nWHY: why not\n" + replaced(kWiden, "16", "32");
  const Proposal p = parsed("[THINK]\n" + draft + "NEXT: a\nb\n[/THINK]\n" + reply(kWiden));
  EXPECT_EQ(p.idea, "try it");
  EXPECT_EQ(p.why, "it may help. More steps.");
  EXPECT_EQ(p.blocks.size(), 1u);
  EXPECT_EQ(p.next, std::vector<std::string>{"something else"});
}

TEST(ParseReply, MissingIdeaOrBlockIsExplained) {
  EXPECT_HAS(refusal(""), "no IDEA");
  EXPECT_HAS(refusal("IDEA: nothing but words\n"), "no SEARCH/REPLACE block");
  EXPECT_HAS(refusal("IDEA: nothing but words\n"), "<<<<<<< SEARCH\n");  // says how to mend it
  EXPECT_HAS(refusal("IDEA: one\nIDEA: two\n"), "no SEARCH/REPLACE block");
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
       std::vector<std::pair<std::string, std::string>>{{"<<<<<<< SEARCH", "<<<<<<<SEARHC"},
                                                        {"<<<<<<< SEARCH", "<<<<<<< REPLACE"},
                                                        {"=======", "===== =="},
                                                        {">>>>>>> REPLACE", "======="},
                                                        {"=======\n", ""},
                                                        {"<<<<<<< SEARCH\n", ""},
                                                        {"=======\n", "```\nx\n=======\n"}}) {
    EXPECT_NE(refusal(replaced(reply(kWiden), from, to)), "") << from << " -> " << to;
  }
}

// A block that has lost all its markers would be taken for prose, and the other blocks would be
// applied without it.
TEST(ParseReply, CodeOutsideOfBlocksIsRefused) {
  const std::string lost =
      "int main() {\n  std::printf(\"%d\\n\", area(3));\n  return 0;  // done\n";
  EXPECT_HAS(refusal(reply(lost + kWiden)), "outside of a block");
  EXPECT_HAS(refusal(reply(kWiden + "\n" + lost)), "outside of a block");
  EXPECT_HAS(refusal(reply("```cpp\n" + lost + "```\n" + kWiden)), "outside of a block");
  EXPECT_EQ(refusal("A draft:\n" + lost + reply(kWiden)), "") << "before IDEA a model thinks aloud";
  EXPECT_EQ(refusal(reply("This is it, see above.\n" + kWiden) + "Good luck.\n"), "");
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

TEST(Apply, FewerThanThreeLinesMatchAsTextOnly) {
  EXPECT_EQ(edited(reply(block("  return kWidth * height;\n", "  return height;\n"))),
            replaced(kSource, "kWidth * height", "height"));
  EXPECT_EQ(edited(reply(block("  return kWidth * height;\n}\n", "  return 1;\n}\n"))),
            replaced(kSource, "kWidth * height", "1"));
  EXPECT_HAS(refusal(reply(block("  return kWidth*height;\n", "  return 1;\n"))),
             "not in the file");
  EXPECT_HAS(refusal(reply(block("}\n", "}\nint x;\n"))), "2 times");
  EXPECT_HAS(refusal(reply(block("", "int x;\n"))), "SEARCH is empty");
}

TEST(Apply, AmbiguousOverlappingAndMissingBlocksAreAllNamed) {
  const std::string twice = std::string(kSource) +
                            "int a() {\n  return 1;\n}\nint b() {\n"
                            "  return 1;\n}\nint a() {\n  return 1;\n}\n";
  EXPECT_HAS(refusal(reply(block("int a() {\n  return 1;\n}\n", "int c;\n")), twice), "2 times");
  EXPECT_HAS(refusal(reply(kWiden + replaced(kWiden, "16", "32"))), "Blocks 1 and 2 overlap");
  EXPECT_EQ(edited(reply(kWiden + kWiden)), edited(reply(kWiden))) << "what is said twice";
  const std::string missing = block("int x;\nint y;\nint z;\n", "");
  const std::string text = refusal(reply(missing + kWiden + block("int x;\nint y;\nint w;\n", "")));
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

// A line of SEARCH that was lost would otherwise stand in the file twice.
TEST(Apply, LinesThatSearchLostAreAskedBack) {
  const std::string lost_first = block("  // The obvious formula.\n  return kWidth * height;\n}\n",
                                       "int area(int height) {\n  // The obvious formula.\n"
                                       "  return 2 * kWidth * height;\n}\n");
  EXPECT_HAS(refusal(reply(lost_first)), "Block 1: REPLACE begins with");
  EXPECT_HAS(refusal(reply(lost_first)), "```cpp\n");
  const std::string lost_return =
      block("\nint main() {\n  std::printf(\"%d\\n\", area(3));\n",
            "\nint main() {\n  std::printf(\"%d\\n\", area(4));\n  return 0;\n");
  EXPECT_HAS(refusal(reply(lost_return)), "REPLACE ends with");
  const std::string lost_version = block(
      "constexpr double kRate = 0.5;  // per second\n\nint area(int height) {\n",
      "constexpr int kWidth = 9;    // columns\nconstexpr double kRate = 0.5;  // per second\n\n"
      "int area(int height) {\n");
  EXPECT_HAS(refusal(reply(lost_version)), "a version of a line");
  const std::string inserted =
      block("constexpr double kRate = 0.5;  // per second\n\nint area(int height) {\n",
            "constexpr int kDepth = 9;\nconstexpr double kRate = 0.5;  // per second\n\n"
            "int area(int height) {\n");
  EXPECT_EQ(refusal(reply(inserted)), "") << "a new constant beside others is none of that";
}

// The line that another block takes away may come back here: code was moved.
TEST(Apply, MovedLinesAreNoDoubles) {
  const std::string cut = block("#include <cstdio>\n\nconstexpr int kWidth = 8;    // columns\n",
                                "#include <cstdio>\n\n");
  const std::string paste = block(
      "constexpr double kRate = 0.5;  // per second\n\nint area(int height) {\n",
      "constexpr double kRate = 0.5;  // per second\nconstexpr int kWidth = 8;    // columns\n\n"
      "int area(int height) {\n");
  EXPECT_EQ(refusal(reply(cut + paste)), "");
}

TEST(Apply, WordsThatStandForCodeAreNeverApplied) {
  const std::string search = "int main() {\n  std::printf(\"%d\\n\", area(3));\n  return 0;\n";
  for (const char* words :
       {"  // ...", "  ...", "  // ... rest of main ...", "  /* existing code */",
        "  // rest of the code unchanged", "  // (unchanged)",
        "  // ... and everything that stood here before stays exactly as it has always been",
        "  \xe2\x80\xa6"})
    EXPECT_HAS(
        refusal(reply(block(search, std::string("int main() {\n") + words + "\n  return 0;\n"))),
        "stands for code")
        << words;
  for (const char* words : {"  // Prints the area, the rest of the program does nothing.",
                            "  // Three dots ... within a sentence."})
    EXPECT_EQ(refusal(reply(block(search, std::string("int main() {\n") + words +
                                              "\n  std::puts(\"\");\n  return 0;\n"))),
              "")
        << words;
}

// A list of phrases is never complete: what counts is that code gave way to a comment.
TEST(Apply, NoCommentTakesThePlaceOfCode) {
  const std::string search = "int main() {\n  std::printf(\"%d\\n\", area(3));\n  return 0;\n";
  for (const char* words : {"  // keep existing code", "  // [...]", "  // (...)", "  // as before",
                            "  // etc.", "  // -- snip --", "  // the printing stays",
                            "  /* no edits here */", "  // std::printf(\"%d\\n\", area(3));"})
    EXPECT_NE(
        refusal(reply(block(search, std::string("int main() {\n") + words + "\n  return 0;\n"))),
        "")
        << words;
  EXPECT_HAS(
      refusal(reply(block(search, "int main() {\n  return 1;  // less\n  // same as above\n"))),
      "stands where code is deleted");
  for (const char* replacement :
       {"int main() {\n  return 0;\n", "int main() {\n  return 1;\n",
        "int main() {\n  // Keep this.\n  std::puts(\"\");\n  return 0;\n"})
    EXPECT_EQ(refusal(reply(block(search, replacement))), "") << replacement;
}

// As the middle of a block that also changes a line and drops a comment, whatever the words are.
TEST(Apply, NoCommentTakesThePlaceOfCodeBesideLinesThatChange) {
  const std::string source =
      "void f() {\n  first(1);\n  // The middle.\n  second(2);\n  third(3);\n  last(4, 5);\n}\n"
      "void g() {\n  h();\n  h();\n  h();\n}\n";
  const auto result_of = [&](const std::string& replace) {
    const auto proposal = parse_reply(
        reply(block("  first(1);\n  // The middle.\n  second(2);\n  third(3);\n  last(4, 5);\n",
                    replace)),
        false, false);
    return apply_proposal(source, std::get<Proposal>(proposal));
  };
  for (const std::string words : {"same as above", "the two in between", "(values)"}) {
    for (const std::string& replace :
         {"  first(1);\n  // " + words + "\n  last_v2(4, 5);\n",
          "  first(1);\n  added(x);\n  // " + words + "\n  last(4, 5);\n"}) {
      const auto result = result_of(replace);
      ASSERT_TRUE(std::holds_alternative<Feedback>(result)) << replace;
      EXPECT_HAS(std::get<Feedback>(result).text, "stands where code is deleted");
    }
  }
  const auto shorter = result_of("  first(1);\n  // Both at once.\n  rest(2, 3, 4, 5);\n");
  EXPECT_TRUE(std::holds_alternative<std::string>(shorter));
}

TEST(Apply, ACommentAtTheEndOfSearchThatIsNotThereMakesItNoMatch) {
  const std::string search = "constexpr int kWidth = 8;    // columns\n  // width stays\n\n";
  EXPECT_HAS(refusal(reply(block(search, "constexpr int kWidth = 9;\n"))), "kRate = 0.5");
}

// To the lexer "// ..." is a comment: without a rule, the lines around it would match as
// neighbours.
TEST(Apply, AnElidedSearchMatchesNothingAndIsShownTheWholePassage) {
  const std::string elided = block(
      "// A small program.\n  // ...\nconstexpr int kWidth = 8;    // columns\n"
      "constexpr double kRate = 0.5;  // per second\n",
      "constexpr int kWidth = 9;\n");
  EXPECT_HAS(refusal(reply(elided)), "#include <cstdio>\n");
  const std::string middle =
      block("constexpr double kRate = 0.5;  // per second\n// ...\n  return 0;\n}\n", "int x;\n");
  const std::string text = refusal(reply(middle));
  for (const char* part :
       {"kRate = 0.5", "int area(int height) {", "int main() {", "  return 0;\n"})
    EXPECT_HAS(text, part);
}

TEST(Apply, TypographicCharactersAndEntitiesInCodeAreRefused) {
  const std::string search = "int main() {\n  std::printf(\"%d\\n\", area(3));\n  return 0;\n";
  const auto with = [&](const std::string& line) {
    return refusal(reply(block(search, "int main() {\n" + line + "\n  return 0;\n")));
  };
  EXPECT_HAS(with("  std::puts(\xe2\x80\x9chi\xe2\x80\x9d);"), "typographic");
  EXPECT_HAS(with("  int x = 3 \xe2\x80\x93 2;"), "typographic");
  EXPECT_HAS(with("  if (1 &lt; 2) std::puts(\"x\");"), "HTML");
  EXPECT_EQ(with("  std::puts(\"\xe2\x80\x9chi\xe2\x80\x9d\");"), "") << "in a string it is text";
  EXPECT_EQ(with("  std::puts(\"x\");  // a \xe2\x80\x93 b"), "");
}

TEST(Apply, BracketsThatDoNotMatchAreExplained) {
  const std::string search = "int main() {\n  std::printf(\"%d\\n\", area(3));\n  return 0;\n";
  EXPECT_HAS(refusal(reply(block(search, "int main() {\n  if (true) {\n  return 0;\n"))),
             "brackets");
  EXPECT_HAS(refusal(reply(block(search, "int main() {\n  f((1);\n  return 0;\n"))), "brackets");
  EXPECT_EQ(refusal(reply(block(search, "int main() {\n  std::puts(\"(\");\n  return 0;\n"))), "");
}

// What REPLACE leaves open swallows the lines below it.
TEST(Apply, BlocksThatCutThroughACommentOrAStringAreRefused) {
  const std::string search = "int main() {\n  std::printf(\"%d\\n\", area(3));\n  return 0;\n";
  for (const char* open : {"  /* a comment", "#define X \\", "  // goes on \\"})
    EXPECT_HAS(
        refusal(reply(block(search, std::string("int main() {\n  return 0;\n") + open + "\n"))),
        "leaves open")
        << open;
  const std::string inside = "int a;\n/* one\n int b;\n int c;\n int d;\n*/\nint e;\n";
  EXPECT_HAS(refusal(reply(block(" int b;\n int c;\n int d;\n", "*/ int z; /*\n")), inside),
             "leaves open");
}

TEST(Apply, MoreBlocksThanTheFileHasRoomForAreRefusedAtOnce) {
  std::string many;
  for (int i = 0; i < 2000; ++i) many += block("int a" + std::to_string(i) + ";\n", "");
  EXPECT_HAS(refusal(reply(many)), "more blocks");
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

// ------------------------------------------------------------------------------------------------
// Replies that are broken in any way: no crash, no hang, and all blocks applied or none

const std::string& train_cpp() {
  static const std::string text = read_file(SOURCE_DIR "/train.cpp");
  return text;
}

// A reply with one to three blocks around random lines of a file.
std::string random_reply(const std::string& source, std::mt19937& random) {
  const std::vector<std::string> lines = split_lines(source);
  std::string blocks;
  for (size_t n = 1 + random() % 3; n > 0; --n) {
    std::string search, replace;
    const size_t first = random() % (lines.size() - 12);
    for (size_t i = first; i < first + 3 + random() % 8; ++i) {
      search += lines[i] + "\n";
      if (random() % 6 != 0) replace += lines[i] + "\n";
      if (random() % 6 == 0) replace += "  added(" + std::to_string(random() % 100) + ");\n";
    }
    blocks += block(search, replace);
  }
  return reply(blocks);
}

std::string mutated(std::string text, std::mt19937& random) {
  static const std::vector<std::string> kPieces = {"<<<<<<< SEARCH\n",
                                                   "=======\n",
                                                   ">>>>>>> REPLACE\n",
                                                   "```cpp\n",
                                                   "<think>",
                                                   "</think>",
                                                   "IDEA: ",
                                                   "\r",
                                                   "\t",
                                                   "// ...\n",
                                                   "IDEA: y\n",
                                                   "Wait, no.\n",
                                                   "> ",
                                                   "\n+",
                                                   "\n-",
                                                   "1: ",
                                                   "&lt;",
                                                   "\xc2\xa0",
                                                   "\x1b[0m",
                                                   "/*",
                                                   "*/",
                                                   "\"",
                                                   "R\"(",
                                                   "\\\n",
                                                   "#if 0\n",
                                                   "{",
                                                   "\xe2\x80\x9c",
                                                   "\xff",
                                                   std::string(1, '\0')};
  for (size_t n = 1 + random() % 4; n > 0; --n) {
    const size_t at = random() % (text.size() + 1), length = random() % 40;
    switch (random() % 6) {
      case 0:
        text.erase(at, length);
        break;
      case 1:
        text.insert(at, text.substr(random() % (text.size() + 1), length));
        break;
      case 2:
        if (at < text.size()) text[at] = static_cast<char>(random());
        break;
      case 3: {  // a whole line goes
        const size_t line = text.rfind('\n', at), end = text.find('\n', at);
        if (line != std::string::npos && end != std::string::npos && line < end)
          text.erase(line, end - line);
        break;
      }
      default:
        text.insert(at, kPieces[random() % kPieces.size()]);
    }
  }
  return text;
}

// Most against a part of the real file, because they are many.
TEST(BrokenReplies, TenThousandMutationsApplyAllBlocksOrNone) {
  std::mt19937 random(7);
  const std::string part = train_cpp().substr(0, train_cpp().find("struct Layer {"));
  int applied = 0, refused = 0;
  for (int round = 0; round < 10000; ++round) {
    const std::string& source = round % 8 == 0 ? train_cpp() : part;
    const std::string bad = mutated(random_reply(source, random), random);
    bool was_applied = false;
    ASSERT_EQ(broken_property(source, bad, round % 16 == 0, round % 3 == 0, was_applied), "")
        << bad;
    ++(was_applied ? applied : refused);
  }
  EXPECT_GT(applied, 500);
  EXPECT_GT(refused, 500);
}

std::string repeated(const std::string& text, size_t bytes) {
  std::string all;
  while (all.size() < bytes) all += text;
  return all;
}

// A quadratic step would take minutes here, and run into the test's time limit.
TEST(BrokenReplies, AQuarterMegabyteOfAnythingIsReadInNoTime) {
  constexpr size_t kBytes = 256 * 1024;
  const std::string near = "  for (int64_t i = 0; i < config.depths; ++i) {\n";
  const std::string failing = block(repeated(near, 400), near);
  for (const std::string& piece : std::vector<std::string>{"</think>",
                                                           "<think>",
                                                           "<think></think>",
                                                           "R\"",
                                                           "R\"x(",
                                                           "`",
                                                           "```\n",
                                                           "\n",
                                                           " ",
                                                           "\\\n",
                                                           "a ",
                                                           "(",
                                                           "/*",
                                                           "//",
                                                           "'",
                                                           "IDEA: x\n",
                                                           "WHY: x\n",
                                                           "NEXT: 1. x\n",
                                                           "<<<<<<< SEARCH\n",
                                                           "=======\n",
                                                           kWiden,
                                                           failing,
                                                           block(near, near),
                                                           "x\r\n",
                                                           "#",
                                                           "#define f(",
                                                           "\xe2\x80\xa6",
                                                           "1'",
                                                           "> ",
                                                           "&lt;",
                                                           "1: x\n",
                                                           "\x1b[",
                                                           "\x1b]0;",
                                                           "\xc2\xa0",
                                                           "\"\\"}) {
    const std::string much = repeated(piece, kBytes);
    for (const std::string& bad :
         {much, reply(much), "IDEA: x\n" + much, reply(block(much + "\n", "int x;\n")),
          reply(block("int x;\nint y;\nint z;\n", much + "\n")),
          "IDEA: x\n```cpp\n" + much + "\n```\n"}) {
      bool applied = false;
      ASSERT_EQ(broken_property(train_cpp(), bad, false, true, applied), "") << piece;
    }
  }
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

}  // namespace
}  // namespace autoresearch
