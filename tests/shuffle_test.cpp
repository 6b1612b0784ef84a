#include "prepare/shuffle.h"

#include <algorithm>
#include <map>
#include <random>
#include <set>
#include <thread>

#include "tests/support.h"

namespace autoresearch {
namespace {

class ShuffleTest : public FolderTest {
 protected:
  static std::vector<std::string> all(const ShuffledDocuments& documents) {
    std::vector<std::string> texts;
    const auto reader = documents.read();
    for (std::string text; reader->next(text);) texts.push_back(text);
    return texts;
  }

  // What comes out when `texts` go in.
  std::vector<std::string> shuffled(const std::vector<std::string>& texts) {
    ShuffledDocuments documents(dir_ / "documents");
    for (const std::string& text : texts) documents.add(text);
    documents.finish();
    return all(documents);
  }
};

std::vector<std::string> numbered(int count) {
  std::vector<std::string> texts;
  for (int i = 0; i < count; ++i) texts.push_back("document " + std::to_string(i));
  return texts;
}

// The rule, in other words: order of the SHA-256, each text once.
std::vector<std::string> expected(const std::vector<std::string>& texts) {
  std::map<std::string, std::string> by_hash;
  for (const std::string& text : texts) by_hash.emplace(sha256(text), text);
  std::vector<std::string> result;
  for (const auto& [hash, text] : by_hash) result.push_back(text);
  return result;
}

TEST_F(ShuffleTest, DocumentsComeInOrderOfTheirHashEachOnce) {
  std::vector<std::string> texts = numbered(5000);
  texts.insert(texts.end(), {"document 17", "document 17", "document 4999"});
  EXPECT_EQ(shuffled(texts), expected(texts));
}

TEST_F(ShuffleTest, TheOrderInWhichTheyAreAddedDoesNotMatter) {
  std::vector<std::string> texts = numbered(3000);
  const auto before = shuffled(texts);
  std::shuffle(texts.begin(), texts.end(), std::mt19937(7));
  EXPECT_EQ(shuffled(texts), before);
}

TEST_F(ShuffleTest, SeveralThreadsMayAdd) {
  const std::vector<std::string> texts = numbered(20'000);
  ShuffledDocuments documents(dir_ / "documents");
  {
    std::vector<std::jthread> threads;
    for (size_t t = 0; t < 4; ++t) {
      threads.emplace_back([&, t] {
        for (size_t i = t; i < texts.size(); i += 4) documents.add(texts[i]);
        documents.add("of all four");
      });
    }
  }
  documents.finish();
  EXPECT_EQ(documents.documents(), 20'001);
  EXPECT_EQ(documents.duplicates(), 3);
  std::vector<std::string> with = texts;
  with.push_back("of all four");
  EXPECT_EQ(all(documents), expected(with));
}

TEST_F(ShuffleTest, WhatIsCountedIsWhatComesOut) {
  ShuffledDocuments documents(dir_ / "documents");
  for (const char* text : {"one", "two", "one", " \n\t", "", "three"}) documents.add(text);
  int64_t heard = 0;
  documents.finish([&](int64_t bytes) { heard = bytes; });
  EXPECT_EQ(documents.documents(), 3);
  EXPECT_EQ(documents.duplicates(), 1);
  EXPECT_EQ(documents.bytes(), 11);
  EXPECT_EQ(documents.added_bytes(), 14);
  EXPECT_EQ(heard, 14);
  const auto reader = documents.read();
  std::string text;
  while (reader->next(text)) {
  }
  EXPECT_EQ(reader->position(), 11);
}

TEST_F(ShuffleTest, TwoTextsThatComeThousandsOfTimesEndAsTwo) {
  ShuffledDocuments documents(dir_ / "documents");
  for (int i = 0; i < 5000; ++i) documents.add(i % 2 ? "again and again" : "and again");
  documents.finish();
  EXPECT_EQ(documents.documents(), 2);
  EXPECT_EQ(documents.duplicates(), 4998);
  EXPECT_EQ(all(documents).size(), 2u);
}

TEST_F(ShuffleTest, ALargeDocumentStaysWhole) {
  const std::string large(20'000'000, 'x');
  EXPECT_EQ(shuffled({large, "small"}), expected({large, "small"}));
}

TEST_F(ShuffleTest, TheCopyOfTheTextGoesWithTheObject) {
  shuffled(numbered(10));
  EXPECT_FALSE(fs::exists(dir_ / "documents"));
}

TEST_F(ShuffleTest, AFolderThatCanNotBeWrittenIsNamed) {
  ShuffledDocuments documents(dir_ / "documents");
  documents.add("text");
  fs::remove_all(dir_ / "documents");
  const std::string error = error_of([&] { documents.finish(); });
  EXPECT_NE(error.find("can't write " + (dir_ / "documents").string()), std::string::npos);
}

}  // namespace
}  // namespace autoresearch
