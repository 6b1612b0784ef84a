// data/tokenizer_classes.json holds the classes that tiktoken's regular expressions see, as ranges
// of code points; made by tests/data/tokenizer_classes.py. bench/splitter.cpp makes the comparison
// with PCRE2 at length.

#include "task/splitter.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <random>

#include "common/files.h"
#include "task/unicode.h"
#include "tests/random_text.h"
#include "tests/reference_splitter.h"

namespace autoresearch {
namespace {

using Pieces = std::vector<std::string>;

Pieces pieces(std::string_view text) {
  const std::vector<std::string_view> views = split(text);
  return {views.begin(), views.end()};
}

const ReferenceSplitter& reference() {
  static const ReferenceSplitter reference;
  return reference;
}

TEST(SplitterTest, EveryCodePointHasTheClassThatTiktokenSees) {
  const auto json = nlohmann::json::parse(
      read_file(fs::path(SOURCE_DIR) / "tests" / "data" / "tokenizer_classes.json"));
  std::vector<CharacterClass> expected(0x110000, kOther);
  for (const auto& [name, kind] : {std::pair{"letters", kLetter},
                                   {"numbers", kNumber},
                                   {"white_space", kSpace},
                                   {"line_ends", kNewline}}) {
    for (const auto& range : json[name]) {
      for (uint32_t c = range[0]; c <= range[1]; ++c) expected[c] = kind;
    }
  }
  for (uint32_t c = 0; c < 0x110000; ++c) {
    if (is_surrogate(c)) continue;
    ASSERT_EQ(class_of(c), expected[c]) << std::hex << c;
    const std::string text = utf8(c);
    const ClassedCharacter character = character_at(text.data(), text.data() + text.size());
    ASSERT_EQ(character.kind, expected[c]) << std::hex << c;
    ASSERT_EQ(character.length, text.size()) << std::hex << c;
  }
}

TEST(SplitterTest, WhereThePcre2OfTheTestsDiffersItTakesTheCharacterForUnassigned) {
  const Pcre2 unassigned("\\p{Cn}");
  int differing = 0;
  for (uint32_t c = 0; c < 0x110000; ++c) {
    if (is_surrogate(c) || !reference().differs(c)) continue;
    ++differing;
    ASSERT_GT(unassigned.match(utf8(c), 0), 0u) << std::hex << c;
    ASSERT_EQ(reference().pcre2_class(c), kOther) << std::hex << c;
  }
  EXPECT_LT(differing, 20'000);  // of 1,112,064: the comparisons below leave out little
}

TEST(SplitterTest, EachAlternativeOfThePattern) {
  EXPECT_EQ(pieces(""), Pieces{});
  // '(?i:[sdmt]|ll|ve|re)
  EXPECT_EQ(pieces("it's I'D'm'T"), (Pieces{"it", "'s", " I", "'D", "'m", "'T"}));
  EXPECT_EQ(pieces("we'll'VE're"), (Pieces{"we", "'ll", "'VE", "'re"}));
  EXPECT_EQ(pieces("'sabc 'lx 'r 'v"), (Pieces{"'s", "abc", " '", "lx", " '", "r", " '", "v"}));
  EXPECT_EQ(pieces("'la ''s"), (Pieces{"'la", " ''", "s"}));
  EXPECT_EQ(pieces("'\u017fo '\u212a"), (Pieces{"'\u017f", "o", " '", "\u212a"}));
  // [^\r\n\p{L}\p{N}]?+\p{L}+
  EXPECT_EQ(pieces("Hello world"), (Pieces{"Hello", " world"}));
  EXPECT_EQ(pieces("\tx-y\u3000z!!w\nv"), (Pieces{"\tx", "-y", "\u3000z", "!!", "w", "\n", "v"}));
  EXPECT_EQ(pieces("caf\u00e9 e\u0301a"), (Pieces{"caf\u00e9", " e", "\u0301a"}));
  // \p{N}{1,2}
  EXPECT_EQ(pieces("12345 x678"), (Pieces{"12", "34", "5", " x", "67", "8"}));
  EXPECT_EQ(pieces("1\u0663\u21672"), (Pieces{"1\u0663", "\u21672"}));
  //  ?[^\s\p{L}\p{N}]++[\r\n]*
  EXPECT_EQ(pieces("a, (b)--\r\n\n  -c"),
            (Pieces{"a", ",", " (", "b", ")--\r\n\n", " ", " -", "c"}));
  EXPECT_EQ(pieces("\t- \u00a0-"), (Pieces{"\t", "-", " ", "\u00a0", "-"}));
  // \s*[\r\n]
  EXPECT_EQ(pieces("x \t\r\n  y"), (Pieces{"x", " \t\r\n", " ", " y"}));
  EXPECT_EQ(pieces("a\n \n \n b"), (Pieces{"a", "\n \n \n", " b"}));
  EXPECT_EQ(pieces("a-\n \n\tb"), (Pieces{"a", "-\n", " \n", "\tb"}));
  // \s+(?!\S)|\s+
  EXPECT_EQ(pieces("a   b  1 2  "), (Pieces{"a", "  ", " b", " ", " ", "1", " ", "2", "  "}));
  EXPECT_EQ(pieces("  \u2003\u3000!"), (Pieces{"  \u2003", "\u3000", "!"}));
}

TEST(SplitterTest, TheMongolianVowelSeparatorIsNoWhiteSpace) {
  EXPECT_EQ(pieces(" \u180ex"), (Pieces{" \u180e", "x"}));
}

TEST(SplitterTest, BytesThatAreNoCharactersArePiecesOfTheirOwn) {
  EXPECT_EQ(pieces("a\xff\xfe"
                   "b  \xc3"),
            (Pieces{"a", "\xff\xfe", "b", "  ", "\xc3"}));
  EXPECT_EQ(pieces("\xe2\x82x \xed\xa0\x80"), (Pieces{"\xe2\x82", "x", " ", "\xed\xa0\x80"}));
  EXPECT_EQ(invalid_utf8_bytes(""), 0);
  EXPECT_EQ(invalid_utf8_bytes("plain, long enough for the words of ASCII; caf\u00e9 \U0001f600"),
            0);
  EXPECT_EQ(invalid_utf8_bytes("a\xff\xfe"
                               "b \xe2\x82 then text \xed\xa0\x80 and text again \xf0\x9f\x98"),
            10);
}

TEST(SplitterTest, RandomTextIsCutAsPcre2CutsIt) {
  RandomText text(reference(), 1);
  for (int i = 0; i < 300'000; ++i) {
    const std::string sample = text(i % 10 == 0 ? 300 : 30);
    if (!reference().comparable(sample)) continue;
    ASSERT_EQ(split(sample), reference().split(sample))
        << i << ": " << testing::PrintToString(sample);
  }
  for (int i = 0; i < 300; ++i) {
    const std::string sample = text.long_run(20'000);
    ASSERT_EQ(split(sample), reference().split(sample)) << i;
  }
}

// Bytes that a text may go on with.
std::string continued(const std::string& text, RandomText& more) { return text + more(20); }

TEST(SplitterTest, NoContinuationChangesASafePrefix) {
  RandomText random(reference(), 2);
  std::mt19937_64 cut(3);
  for (int i = 0; i < 100'000; ++i) {
    const std::string whole = random(i % 10 == 0 ? 300 : 20);
    const std::string text = whole.substr(0, cut() % (whole.size() + 1));
    const size_t safe = safe_prefix(text);
    ASSERT_LE(safe, text.size());
    const std::vector<std::string_view> before = split(std::string_view(text).substr(0, safe));
    for (const std::string& more : {whole, text, continued(text, random)}) {
      std::vector<std::string_view> after = split(more);
      ASSERT_GE(after.size(), before.size());
      after.resize(before.size());
      ASSERT_EQ(Pieces(after.begin(), after.end()), Pieces(before.begin(), before.end()))
          << i << ": " << testing::PrintToString(text) << " then " << testing::PrintToString(more);
    }
  }
}

TEST(SplitterTest, TextInPartsIsCutAsTheWhole) {
  RandomText random(reference(), 4);
  std::mt19937_64 size(5);
  for (int i = 0; i < 2'000; ++i) {
    const std::string text = random(2'000);
    Pieces parts;
    std::string buffer;
    for (size_t at = 0; at < text.size();) {
      const size_t read = std::min<size_t>(1 + size() % 50, text.size() - at);
      buffer += text.substr(at, read);
      at += read;
      const size_t safe = at == text.size() ? buffer.size() : safe_prefix(buffer);
      for (const std::string_view piece : split({buffer.data(), safe})) parts.emplace_back(piece);
      buffer.erase(0, safe);
    }
    ASSERT_EQ(parts, pieces(text)) << i;
  }
}

TEST(SplitterTest, OrdinaryTextIsSafeUpToItsLastWord) {
  EXPECT_EQ(safe_prefix("The quick brown fox"), std::string("The quick brown").size());
  EXPECT_EQ(safe_prefix("x = 1234567"), std::string("x =").size());
  EXPECT_EQ(safe_prefix("12345"), 4u);  // numbers only: in twos
  EXPECT_EQ(safe_prefix("123456"), 6u);
  EXPECT_EQ(safe_prefix(""), 0u);
  EXPECT_EQ(safe_prefix(std::string(100'000, 'a')), 0u);
}

}  // namespace
}  // namespace autoresearch
