// data/tokenizer_golden.json holds what rustbpe 0.1.0 and tiktoken make of the same text; made by
//   python tests/data/tokenizer_golden.py > tests/data/tokenizer_golden.json

#include "prepare/tokenizer.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <nlohmann/json.hpp>
#include <random>
#include <thread>

#include "common/error.h"
#include "prepare/splitter.h"

namespace autoresearch {
namespace {

struct Golden {
  nlohmann::json json = nlohmann::json::parse(
      read_file(fs::path(SOURCE_DIR) / "tests" / "data" / "tokenizer_golden.json"));
  std::vector<std::string> documents = json["documents"];
  int64_t tokens = static_cast<int64_t>(json["tokens"].size());
  Tokenizer tokenizer = Tokenizer::train(documents, tokens + Tokenizer::kSpecialTokens);
};

const Golden& golden() {
  static const Golden golden;
  return golden;
}

class TokenizerTest : public testing::Test {
 protected:
  TokenizerTest() {
    char pattern[] = "/tmp/tokenizer_test.XXXXXX";
    dir_ = mkdtemp(pattern);
  }
  ~TokenizerTest() override { fs::remove_all(dir_); }
  fs::path dir_;
};

std::vector<uint16_t> encode(const Tokenizer& tokenizer, std::string_view text) {
  std::vector<uint16_t> ids;
  tokenizer.encode(text, ids);
  return ids;
}

std::vector<std::string> pieces(std::string_view text) {
  const std::vector<std::string_view> views = split(text);
  return {views.begin(), views.end()};
}

using Pieces = std::vector<std::string>;

std::string random_bytes(size_t size, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::string bytes(size, '\0');
  for (char& byte : bytes) byte = static_cast<char>(random());
  return bytes;
}

TEST_F(TokenizerTest, LearnsTheMergesThatRustbpeLearns) {
  golden().tokenizer.save(dir_ / "t");
  std::string expected;
  for (int64_t i = 0; i < golden().tokens; ++i) {
    expected += golden().json["tokens"][i].get<std::string>() + " " + std::to_string(i) + "\n";
  }
  EXPECT_EQ(read_file(dir_ / "t"), expected);
}

TEST_F(TokenizerTest, EncodesAsTiktokenDoes) {
  for (const auto& [key, entry] : golden().json["texts"].items()) {
    const std::string text = entry["text"];
    EXPECT_EQ(encode(golden().tokenizer, text), entry["ids"].get<std::vector<uint16_t>>()) << text;
  }
}

TEST_F(TokenizerTest, CountsBytesAsTheAncestorWhereAskedTo) {
  const std::vector<int64_t> upstream = golden().json["upstream_bytes"];
  bool differs = false;
  for (int64_t id = 0; id < golden().tokens; ++id) {
    EXPECT_EQ(golden().tokenizer.token_bytes_upstream(id), upstream[static_cast<size_t>(id)]) << id;
    differs |= golden().tokenizer.token_bytes(id) != upstream[static_cast<size_t>(id)];
  }
  EXPECT_TRUE(differs);
  for (int64_t i = 0; i < Tokenizer::kSpecialTokens; ++i) {
    EXPECT_EQ(golden().tokenizer.token_bytes(golden().tokenizer.bos() + i), 0);
    EXPECT_EQ(golden().tokenizer.token_bytes_upstream(golden().tokenizer.bos() + i), 0);
  }
}

TEST_F(TokenizerTest, ALoadedTokenizerIsTheSavedOne) {
  golden().tokenizer.save(dir_ / "t");
  const Tokenizer loaded = Tokenizer::load(dir_ / "t");
  EXPECT_EQ(loaded.vocab_size(), golden().tokenizer.vocab_size());
  EXPECT_EQ(loaded.bos(), golden().tokens);
  for (const std::string& document : golden().documents) {
    EXPECT_EQ(encode(loaded, document), encode(golden().tokenizer, document));
  }
}

TEST_F(TokenizerTest, AnyBytesComeBackUnchanged) {
  for (uint64_t seed = 0; seed < 50; ++seed) {
    const std::string bytes = random_bytes(seed * 40, seed);
    EXPECT_EQ(golden().tokenizer.decode(encode(golden().tokenizer, bytes)), bytes) << seed;
  }
  for (const std::string text : {"caf\xc3", "\xe2\x82", "\xed\xa0\x80 x", "\xf0\x9f\x98",
                                 "\xc0\xaf", "ok \xff\xfe then", "\xf4\x90\x80\x80"}) {
    EXPECT_EQ(golden().tokenizer.decode(encode(golden().tokenizer, text)), text);
  }
}

TEST_F(TokenizerTest, SplitsAsThePatternSays) {
  EXPECT_EQ(pieces("Hello world's, 12345"),
            (Pieces{"Hello", " world", "'s", ",", " ", "12", "34", "5"}));
  EXPECT_EQ(pieces("a  b\n\n c"), (Pieces{"a", " ", " b", "\n\n", " c"}));
  EXPECT_EQ(pieces("x \t\r\n  y"), (Pieces{"x", " \t\r\n", " ", " y"}));
  EXPECT_EQ(pieces("'\u017fo 'So"), (Pieces{"'\u017f", "o", " '", "So"}));
  EXPECT_EQ(pieces("a\xff\xfe"
                   "b"),
            (Pieces{"a", "\xff\xfe", "b"}));
  EXPECT_EQ(pieces(""), Pieces{});
}

TEST_F(TokenizerTest, TheMongolianVowelSeparatorIsNoWhiteSpace) {
  // PCRE2's own \s has it as white space, Unicode since 6.3 has not.
  EXPECT_EQ(pieces(" \u180ex"), (Pieces{" \u180e", "x"}));
}

TEST_F(TokenizerTest, EndlessRunsAreEncoded) {
  for (const std::string unit : {"a", " ", "\n", "-", "7", "\u00e9", "\xff"}) {
    std::string text;
    while (text.size() < 300'000) text += unit;
    EXPECT_EQ(golden().tokenizer.decode(encode(golden().tokenizer, text)), text);
  }
}

TEST_F(TokenizerTest, ManyThreadsEncodeAsOneDoes) {
  std::vector<std::vector<uint16_t>> results(4);
  {
    std::vector<std::jthread> threads;
    for (auto& result : results) {
      threads.emplace_back([&result] {
        for (const std::string& document : golden().documents) {
          golden().tokenizer.encode(document, result);
        }
      });
    }
  }
  std::vector<uint16_t> expected;
  for (const std::string& document : golden().documents) {
    golden().tokenizer.encode(document, expected);
  }
  for (const auto& result : results) EXPECT_EQ(result, expected);
}

TEST_F(TokenizerTest, SpecialTokensInTextAreOrdinaryText) {
  const std::vector<uint16_t> ids = encode(golden().tokenizer, "<|reserved_0|>");
  EXPECT_GT(ids.size(), 1u);
  for (const uint16_t id : ids) EXPECT_LT(id, golden().tokenizer.bos());
  const std::vector<uint16_t> bos{static_cast<uint16_t>(golden().tokenizer.bos())};
  EXPECT_EQ(golden().tokenizer.decode(bos), "");
}

TEST_F(TokenizerTest, OnlyTheFirstTenThousandCharactersOfADocumentTeach) {
  const std::string filler(10'000, ' ');
  const Tokenizer tokenizer = Tokenizer::train({filler + "zqzqzqzqzqzq"}, 300);
  EXPECT_EQ(encode(tokenizer, "zq").size(), 2u);
  std::string wide;  // characters, not bytes
  for (int i = 0; i < 5'000; ++i) wide += "\u00e9";
  const Tokenizer other = Tokenizer::train({wide + "!zqzqzqzqzqzq"}, 300);
  EXPECT_EQ(encode(other, "zq").size(), 1u);
}

TEST_F(TokenizerTest, LearnsFewerTokensWhereTheTextEnds) {
  const Tokenizer tokenizer = Tokenizer::train({"ab ab"}, 1000);
  EXPECT_EQ(tokenizer.vocab_size(), 256 + 2 + Tokenizer::kSpecialTokens);  // "ab", " ab"
  EXPECT_EQ(Tokenizer::train(std::vector<std::string>{}, 1000).vocab_size(), Tokenizer::kMinVocab);
}

TEST_F(TokenizerTest, ImpossibleVocabulariesAndIdsAreRefused) {
  EXPECT_THROW(Tokenizer::train({"x"}, 259), Error);
  EXPECT_THROW(Tokenizer::train({"x"}, 65536), Error);
  EXPECT_THROW(golden().tokenizer.decode({static_cast<uint16_t>(golden().tokenizer.vocab_size())}),
               Error);
  EXPECT_THROW(golden().tokenizer.token_bytes(-1), Error);
}

TEST_F(TokenizerTest, ADamagedFileIsRefusedByLine) {
  golden().tokenizer.save(dir_ / "t");
  const std::string whole = read_file(dir_ / "t");
  const auto message = [&](const std::string& text) -> std::string {
    write_file(dir_ / "t", text);
    try {
      Tokenizer::load(dir_ / "t");
    } catch (const Error& e) {
      return e.what();
    }
    return "accepted";
  };
  EXPECT_NE(message(whole.substr(0, whole.size() - 3)).find("damaged"), std::string::npos);
  EXPECT_NE(message("").find("damaged"), std::string::npos);
  EXPECT_NE(message("AA== 1\n").find("at line 1"), std::string::npos);
  EXPECT_NE(message("AA== 0\n?? 1\n").find("at line 2"), std::string::npos);
  EXPECT_EQ(message(whole), "accepted");
}

}  // namespace
}  // namespace autoresearch
