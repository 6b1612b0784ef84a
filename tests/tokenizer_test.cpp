// data/tokenizer_golden.json holds what rustbpe 0.1.0 and tiktoken make of the same text; made by
//   python tests/data/tokenizer_golden.py > tests/data/tokenizer_golden.json

#include "task/tokenizer.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <set>
#include <thread>
#include <utility>

#include "common/error.h"
#include "task/bpe_counts.h"
#include "task/bpe_merges.h"
#include "task/splitter.h"
#include "tests/pieces.h"
#include "tests/support.h"
#include "tests/train_on.h"

namespace autoresearch {
namespace {

struct Golden {
  nlohmann::json json = nlohmann::json::parse(
      read_file(fs::path(SOURCE_DIR) / "tests" / "data" / "tokenizer_golden.json"));
  std::vector<std::string> documents = json["documents"];
  int64_t tokens = static_cast<int64_t>(json["tokens"].size());
  Tokenizer tokenizer = train_on(documents, tokens + Tokenizer::kSpecialTokens);
};

const Golden& golden() {
  static const Golden golden;
  return golden;
}

class TokenizerTest : public FolderTest {};

std::vector<uint16_t> encode(const Tokenizer& tokenizer, std::string_view text) {
  std::vector<uint16_t> ids;
  tokenizer.encode(text, ids);
  return ids;
}

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

TEST_F(TokenizerTest, APieceThatIsATokenIsThatTokenAsInTiktoken) {
  std::string file;
  for (size_t i = 0; i < golden().json["odd_tokens"].size(); ++i) {
    file += golden().json["odd_tokens"][i].get<std::string>() + " " + std::to_string(i) + "\n";
  }
  write_file(dir_ / "t", file);
  const Tokenizer tokenizer = Tokenizer::load(dir_ / "t");
  for (const auto& [key, entry] : golden().json["odd_texts"].items()) {
    const std::string text = entry["text"];
    EXPECT_EQ(encode(tokenizer, text), entry["ids"].get<std::vector<uint16_t>>()) << text;
  }
}

// The merges that the definition gives: all pairs are counted anew for each.
std::vector<std::string> merges_by_definition(const std::vector<std::string>& documents,
                                              size_t size) {
  std::vector<std::string> tokens;
  for (int byte = 0; byte < 256; ++byte) tokens.emplace_back(1, static_cast<char>(byte));
  std::vector<std::vector<size_t>> words;
  for (const std::string& document : documents) {
    for (const std::string_view piece : split(document)) {
      words.emplace_back();
      for (const char c : piece) words.back().push_back(static_cast<unsigned char>(c));
    }
  }
  while (tokens.size() < size) {
    std::map<std::pair<size_t, size_t>, int64_t> counts;
    for (const auto& word : words) {
      for (size_t i = 0; i + 1 < word.size(); ++i) ++counts[{word[i], word[i + 1]}];
    }
    if (counts.empty()) break;
    const auto less = [](const auto& a, const auto& b) { return a.second < b.second; };
    const auto best =
        std::max_element(counts.begin(), counts.end(), less)->first;  // the first such
    for (auto& word : words) {
      for (size_t i = 0; i + 1 < word.size(); ++i) {
        if (std::pair(word[i], word[i + 1]) != best) continue;
        word[i] = tokens.size();
        word.erase(word.begin() + static_cast<ptrdiff_t>(i) + 1);
      }
    }
    tokens.push_back(tokens[best.first] + tokens[best.second]);
  }
  return tokens;
}

TEST_F(TokenizerTest, MergesAreThoseOfTheDefinitionHoweverFewPairsAreFollowed) {
  for (uint64_t seed = 0; seed < 30; ++seed) {
    std::mt19937_64 random(seed);
    std::string document;
    for (int word = 0; word < 300; ++word) {
      const uint64_t letters = 1 + random() % 4;  // few: many ties, and runs of one letter
      for (uint64_t left = random() % 9; left > 0; --left) document += "abcd"[random() % letters];
      document += random() % 8 ? " " : "--\n";
    }
    const std::vector<std::string> expected = merges_by_definition({document}, 500);
    for (const size_t occurrences : {kOccurrences, size_t{1}}) {
      PieceCounts counts;
      counts.add({document});
      EXPECT_EQ(learn_merges(counts, 500, {}, occurrences), expected) << seed;
    }
  }
}

std::function<bool(std::string&)> one_by_one(const std::vector<std::string>& documents) {
  return [&documents, i = size_t{0}](std::string& document) mutable {
    if (i == documents.size()) return false;
    document = documents[i++];
    return true;
  };
}

TEST_F(TokenizerTest, MergesDoNotDependOnTheNumberOfWorkers) {
  std::vector<std::string> documents;
  for (uint64_t seed = 0; seed < 2'000; ++seed) {  // several batches' worth
    std::string document = golden().documents[seed % golden().documents.size()];
    document.erase(0, seed % 97);
    documents.push_back(document + random_bytes(2'000, seed) + std::to_string(seed));
  }
  std::vector<std::string> files;
  for (const int64_t workers : {1, 2, 5}) {
    Tokenizer::train(one_by_one(documents), 1'500, workers).save(dir_ / "t");
    files.push_back(read_file(dir_ / "t"));
  }
  EXPECT_EQ(files[1], files[0]);
  EXPECT_EQ(files[2], files[0]);
}

TEST_F(TokenizerTest, WhatTheCallerThrowsEndsTheTraining) {
  const auto next = [count = 0](std::string& document) mutable {
    if (++count > 1'000) throw Error("no more of it");
    document.assign(9'000, 'a');
    return true;
  };
  EXPECT_THROW(Tokenizer::train(next, 300, 3), Error);
  EXPECT_THROW(Tokenizer::train(one_by_one(golden().documents), 300, 2,
                                [](int64_t) { throw Error("enough"); }),
               Error);
}

TEST_F(TokenizerTest, NoDocumentIsAskedForOnceABillionCharactersAreThere) {
  int64_t asked = 0;
  const auto next = [&](std::string& document) {
    ++asked;
    document.assign(20'000, 'a');  // of which 10,000 count
    return asked < 110'000;
  };
  Tokenizer::train(next, 300, 2);
  EXPECT_EQ(asked, 100'000);
}

TEST_F(TokenizerTest, CountsBytesAsUpstreamWhereAskedTo) {
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

TEST_F(TokenizerTest, EndlessRunsAreEncoded) {
  for (const std::string unit : {"a", " ", "\n", "-", "7", "\u00e9", "\xff"}) {
    std::string text;
    while (text.size() < 1'000'000) text += unit;
    EXPECT_EQ(golden().tokenizer.decode(encode(golden().tokenizer, text)), text);
  }
}

TEST_F(TokenizerTest, ALongPieceIsMergedAsAShortOneIs) {
  // Merging goes by the scan up to 64 bytes and by a heap above: the definition for all of them.
  std::map<std::string, uint16_t> ranks;
  for (int64_t id = 0; id < golden().tokens; ++id) {
    ranks.emplace(golden().tokenizer.token(id), static_cast<uint16_t>(id));
  }
  std::mt19937_64 random(9);
  for (size_t size = 1; size < 300; ++size) {
    std::string piece;
    while (piece.size() < size) piece += "kathestroqu"[random() % 11];
    std::vector<std::string> parts;
    for (const char c : piece) parts.emplace_back(1, c);
    while (true) {
      size_t best = parts.size();
      uint16_t lowest = UINT16_MAX;
      for (size_t i = 0; i + 1 < parts.size(); ++i) {
        const auto found = ranks.find(parts[i] + parts[i + 1]);
        if (found != ranks.end() && found->second < lowest) lowest = found->second, best = i;
      }
      if (best == parts.size()) break;
      parts[best] += parts[best + 1];
      parts.erase(parts.begin() + static_cast<ptrdiff_t>(best) + 1);
    }
    std::vector<uint16_t> expected;
    for (const std::string& part : parts) expected.push_back(ranks.at(part));
    EXPECT_EQ(encode(golden().tokenizer, piece), expected) << piece;
  }
}

// The ids of a piece by the definition, with an ordered set of what may be merged.
std::vector<uint16_t> merged_as_a_whole(const Tokenizer& tokenizer, const std::string& piece) {
  std::map<std::string, uint16_t, std::less<>> ranks;
  for (int64_t id = 0; id < tokenizer.bos(); ++id) {
    ranks.emplace(tokenizer.token(id), static_cast<uint16_t>(id));
  }
  std::map<size_t, size_t> ends;  // of parts, by where they begin
  std::set<std::pair<uint16_t, size_t>> wanted;
  const auto rank_at = [&](size_t begin, size_t end) {
    const auto found = ranks.find(std::string_view(piece).substr(begin, end - begin));
    return found == ranks.end() ? UINT16_MAX : found->second;
  };
  const auto change = [&](size_t begin, auto how) {  // in `wanted`, of a part and the one behind it
    const auto part = ends.find(begin), right = std::next(part);
    const uint16_t rank = right == ends.end() ? UINT16_MAX : rank_at(begin, right->second);
    if (rank != UINT16_MAX) how(std::pair(rank, begin));
  };
  const auto offer = [&](auto pair) { wanted.insert(pair); };
  const auto withdraw = [&](auto pair) { wanted.erase(pair); };
  for (size_t i = 0; i < piece.size(); ++i) ends[i] = i + 1;
  for (size_t i = 0; i < piece.size(); ++i) change(i, offer);
  while (!wanted.empty()) {
    const size_t begin = wanted.begin()->second;
    const auto part = ends.find(begin), right = std::next(part);
    for (const size_t i : {begin, right->first}) change(i, withdraw);
    if (part != ends.begin()) change(std::prev(part)->first, withdraw);
    part->second = right->second;
    ends.erase(right);
    change(begin, offer);
    if (part != ends.begin()) change(std::prev(part)->first, offer);
  }
  std::vector<uint16_t> ids;
  for (const auto& [begin, end] : ends) ids.push_back(rank_at(begin, end));
  return ids;
}

TEST_F(TokenizerTest, APieceOfManyChunksIsMergedAsAWhole) {
  std::vector<std::string> pieces;
  std::string fibonacci = "a", longer = "ab";
  while (longer.size() < 60'000) fibonacci = std::exchange(longer, longer + fibonacci);
  pieces.push_back(longer);
  std::mt19937_64 random(4);
  for (const std::string letters : {"a", "ab", "abc", "kathestroqu", "aaaaaaaaab"}) {
    std::string piece;
    while (piece.size() < 60'000 + pieces.size()) piece += letters[random() % letters.size()];
    pieces.push_back(piece);
  }
  std::vector<std::string> lessons(pieces);  // so that the tokens are of these, and long ones too
  lessons.insert(lessons.end(), golden().documents.begin(), golden().documents.end());
  const Tokenizer others[] = {train_on(lessons, 280), train_on(lessons, 2000)};
  for (const Tokenizer& tokenizer : others) {
    for (const std::string& piece : pieces) {
      EXPECT_TRUE(encode(tokenizer, piece) == merged_as_a_whole(tokenizer, piece))
          << piece.substr(0, 40);
    }
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
  const Tokenizer tokenizer = train_on({filler + "zqzqzqzqzqzq"}, 300);
  EXPECT_EQ(encode(tokenizer, "zq").size(), 2u);
  std::string wide;  // characters, not bytes
  for (int i = 0; i < 5'000; ++i) wide += "\u00e9";
  const Tokenizer other = train_on({wide + "!zqzqzqzqzqzq"}, 300);
  EXPECT_EQ(encode(other, "zq").size(), 1u);
  const Tokenizer third = train_on({std::string(10'000, '\xff') + "zqzqzqzq"}, 300);
  EXPECT_EQ(encode(third, "zq").size(), 2u);  // a byte that is no UTF-8 is a character
}

TEST_F(TokenizerTest, LearnsFewerTokensWhereTheTextEnds) {
  const Tokenizer tokenizer = train_on({"ab ab"}, 1000);
  EXPECT_EQ(tokenizer.vocab_size(), 256 + 2 + Tokenizer::kSpecialTokens);  // "ab", " ab"
  EXPECT_EQ(train_on(std::vector<std::string>{}, 1000).vocab_size(), Tokenizer::kMinVocab);
}

TEST_F(TokenizerTest, ImpossibleVocabulariesAndIdsAreRefused) {
  EXPECT_THROW(train_on({"x"}, 259), Error);
  EXPECT_THROW(train_on({"x"}, 65536), Error);
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
