// Text from outside, made safe for people, terminals, tables and prompts.
#include "common/text.h"

#include <gtest/gtest.h>

namespace autoresearch {
namespace {

TEST(PlainText, HasNoEscapeSequencesOfAnyKind) {
  EXPECT_EQ(plain_text("\x1b[1;32ma\x1b[0m b\x1b[2K\x1b[?25l"), "a b");
  EXPECT_EQ(plain_text("\u009b31ma\u009b0m"), "a");
  EXPECT_EQ(plain_text("\x1b]0;title\x07x\x1b]8;;http://a\x1b\\y\u009d0;t\u009cz"), "xyz");
  EXPECT_EQ(plain_text("\x1bPq#0\x1b\\a\x1b(Bb\x1b"
                       "7c\x1b=d"),
            "abcd");
  EXPECT_EQ(plain_text("a\x1b]0;never ended\nb"), "a\nb") << "at the latest with its line";
  EXPECT_EQ(plain_text("a\x1b"), "a");
  EXPECT_EQ(plain_text("a\x1b[\nb"), "a\nb");
}

TEST(PlainText, HasNoControlBidirectionalOrInvisibleCharacters) {
  EXPECT_EQ(plain_text(std::string("a\0b\b\x7f\u0080c", 8)), "abc");
  EXPECT_EQ(plain_text("\u202eabc\u202c\u2066d\u2069\u200e\u200f\u061c"), "abcd");
  EXPECT_EQ(plain_text("\ufeffa\u200bb\u200dc\u00add\u2060e\ufe0ff\U000e0041"), "abcdef");
  EXPECT_EQ(plain_text("\u00e4\u4e2d\U0001f4a1 \u2212"), "\u00e4\u4e2d\U0001f4a1 \u2212");
}

TEST(PlainText, KeepsLinesAndIsUtf8) {
  EXPECT_EQ(plain_text("a\tb\r\nc\u2028d\u2029e\u0085f"), "a\tb\r\nc\nd\ne\nf");
  EXPECT_EQ(plain_text("a\xff\x9b?"), "a???");
}

TEST(OneLine, MakesRunsOfBlanksOneAndCutsCharacters) {
  EXPECT_EQ(one_line(" a\n\t b\u00a0\u3000c \x1b[0m ", 100), "a b c");
  EXPECT_EQ(one_line("\u00e4\u00e4\u00e4", 2), "\u00e4\u00e4");
}

TEST(Description, IsNoFormula) {
  for (const std::string formula : {"=1+1", "+1", "-1", "@SUM(A1)", "\uff1d1", "\u200b =1", "\t=1"})
    EXPECT_EQ(description(formula, 100)[0], '\'') << formula;
  EXPECT_EQ(description("a = b", 100), "a = b");
  EXPECT_EQ(description("=1234", 3), "'=1");
  EXPECT_EQ(description(description("=1", 9), 9), "'=1");
  EXPECT_EQ(description("", 9), "");
}

TEST(UnescapedHtml, ReadsEachEntityOnce) {
  EXPECT_EQ(unescaped_html("a &lt; b &amp;&amp; c &gt; &quot;d&#39; &amp;lt; &copy; &"),
            "a < b && c > \"d' &lt; &copy; &");
}

}  // namespace
}  // namespace autoresearch
