#include "prepare/corpus.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "common/error.h"
#include "prepare/find.h"
#include "tests/support.h"

namespace autoresearch {
namespace {

class CorpusTest : public FolderTest {
 protected:
  static std::vector<std::string> texts(const Corpus& corpus) {
    std::vector<std::string> texts;
    for (const Document& document : corpus.documents) texts.push_back(corpus.text(document));
    return texts;
  }

  static std::vector<std::string> sorted(std::vector<std::string> list) {
    std::sort(list.begin(), list.end());
    return list;
  }
};

TEST_F(CorpusTest, AFileIsADocumentAndALineOfJsonIsOne) {
  file("a.txt", "first\nfile\n");
  file("b.jsonl", "{\"text\": \"one\\n\"}\n\n{\"id\": 3, \"text\": \"zw\\u00f6lf\"}");
  const Corpus corpus = index_corpus(find_files({dir_}));
  EXPECT_EQ(sorted(texts(corpus)), sorted({"first\nfile\n", "one\n", "zw\u00f6lf"}));
  EXPECT_EQ(corpus.bytes, 11 + 4 + 6);
}

TEST_F(CorpusTest, ABadLineOfJsonIsNamedByNumber) {
  for (const std::string line : {"{\"text\": ", "{\"body\": \"x\"}", "{\"text\": 3}", "[1]"}) {
    const fs::path path = file("b.jsonl", "{\"text\": \"one\"}\n" + line + "\n");
    const std::string message = error_of([&] { index_corpus({path}); });
    EXPECT_NE(message.find("b.jsonl:2"), std::string::npos) << message;
  }
}

TEST_F(CorpusTest, DuplicatesAndBlankDocumentsAreLeftOut) {
  file("a.txt", "same");
  file("sub/b.txt", "same");
  file("c.jsonl", "{\"text\": \"same\"}\n{\"text\": \"other\"}\n");
  file("d.txt", " \n\t\n");
  file("e.txt", "");
  const Corpus corpus = index_corpus(find_files({dir_}));
  EXPECT_EQ(sorted(texts(corpus)), sorted({"same", "other"}));
  EXPECT_EQ(corpus.duplicates, 2);
}

TEST_F(CorpusTest, TheOrderDependsOnTheContentAlone) {
  std::vector<fs::path> one, two;
  for (int i = 0; i < 50; ++i) {
    one.push_back(file("one/" + std::to_string(i) + ".txt", "text " + std::to_string(i)));
    two.push_back(file("two/" + std::to_string(49 - i) + ".md", "text " + std::to_string(i)));
  }
  const std::vector<std::string> order = texts(index_corpus(one));
  EXPECT_EQ(texts(index_corpus(find_files({dir_ / "two"}))), order);
  EXPECT_NE(order, sorted(order));
}

TEST_F(CorpusTest, ALongFileIsCutAtLineEnds) {
  std::string book;
  for (int i = 0; i < 5000; ++i) book += "line " + std::to_string(i) + " of a long book\n";
  const Corpus corpus = index_corpus({file("book.txt", book)});
  EXPECT_GT(corpus.documents.size(), 20u);
  std::vector<Document> in_place = corpus.documents;
  std::sort(in_place.begin(), in_place.end(),
            [](const Document& a, const Document& b) { return a.offset < b.offset; });
  std::string joined;
  for (const Document& document : in_place) {
    joined += corpus.text(document);
    EXPECT_EQ(joined.back(), '\n');
  }
  EXPECT_EQ(joined, book);
}

TEST_F(CorpusTest, ALongFileWithoutLineEndsIsCutBetweenCharacters) {
  std::string endless;
  for (int i = 0; endless.size() < 200'000; ++i) endless += std::to_string(i) + "\u00e9\u65e5";
  const Corpus corpus = index_corpus({file("endless.txt", endless)});
  EXPECT_GT(corpus.documents.size(), 20u);
  for (const Document& document : corpus.documents) {
    EXPECT_NE(static_cast<unsigned char>(corpus.text(document)[0]) & 0xC0, 0x80);
  }
  EXPECT_EQ(corpus.bytes, static_cast<int64_t>(endless.size()));
}

TEST_F(CorpusTest, AFileThatChangesAfterIndexingIsNoticed) {
  const fs::path path = file("a.txt", "before");
  const Corpus corpus = index_corpus({path});
  write_file(path, "beFore");
  EXPECT_NE(error_of([&] { corpus.text(corpus.documents[0]); }).find("changed"), std::string::npos);
  write_file(path, "x");
  EXPECT_NE(error_of([&] { corpus.text(corpus.documents[0]); }).find("changed"), std::string::npos);
}

TEST_F(CorpusTest, WhatTheListenerThrowsEndsTheIndexing) {
  const fs::path path = file("a.txt", "text");
  EXPECT_EQ(error_of([&] { index_corpus({path}, [](int64_t) { throw Error("stop"); }); }), "stop");
}

}  // namespace
}  // namespace autoresearch
