#include "prepare/corpus.h"

#include <algorithm>
#include <set>

#include "tests/support.h"

namespace autoresearch {
namespace {

class CorpusTest : public FolderTest {
 protected:
  std::set<std::string> read_all(const std::vector<fs::path>& files, int64_t workers) {
    ShuffledDocuments documents(dir_ / "documents");
    read_files(files, {}, workers, documents, [&](int64_t bytes) { heard_ = bytes; });
    documents.finish();
    std::set<std::string> texts;
    const auto reader = documents.read();
    for (std::string text; reader->next(text);) texts.insert(text);
    return texts;
  }

  std::vector<fs::path> numbered_files(int count) const {
    std::vector<fs::path> files;
    for (int i = 0; i < count; ++i) {
      const std::string number = std::to_string(i);
      files.push_back(file("files/" + number + ".txt", "text " + number));
    }
    return files;
  }

  int64_t heard_ = 0;
};

TEST_F(CorpusTest, FilesInOrderAreOneStream) {
  const std::vector<fs::path> files = {
      file("b.txt", "first"), file("empty.txt", ""),
      file("a.jsonl", "{\"text\": \"second\"}\n{\"text\": \"3\"}\n")};
  const auto reader = open_in_order(files, {});
  std::vector<std::string> texts;
  for (std::string text; reader->next(text);) texts.push_back(text);
  EXPECT_EQ(texts, (std::vector<std::string>{"first", "second", "3"}));
  EXPECT_EQ(reader->position(), total_bytes(files));
}

TEST_F(CorpusTest, EveryFileIsReadOnceByAnyNumberOfThreads) {
  const std::vector<fs::path> files = numbered_files(200);
  const std::set<std::string> one = read_all(files, 1);
  EXPECT_EQ(one.size(), 200u);
  EXPECT_EQ(heard_, total_bytes(files));
  EXPECT_EQ(read_all(files, 8), one);
}

TEST_F(CorpusTest, AnErrorInOneFileEndsTheReadingAndNamesIt) {
  std::vector<fs::path> files = numbered_files(50);
  files.insert(files.begin() + 20, file("bad.jsonl", "{}\n"));
  const std::string error = error_of([&] { read_all(files, 3); });
  EXPECT_NE(error.find("bad.jsonl:1"), std::string::npos) << error;
}

TEST_F(CorpusTest, WhatTheListenerThrowsEndsTheReading) {
  const std::vector<fs::path> files = numbered_files(50);
  ShuffledDocuments documents(dir_ / "documents");
  const auto stop = [](int64_t) { throw Error("enough"); };
  EXPECT_EQ(error_of([&] { read_files(files, {}, 2, documents, stop); }), "enough");
}

TEST_F(CorpusTest, BadLinesCountByTheCorpusNotByTheFile) {
  std::string lines;
  for (int i = 0; i < 2000; ++i) lines += "{\"text\": \"" + std::to_string(i) + "\"}\n";
  const fs::path large = file("large.jsonl", lines), small = file("small.jsonl", "{}\n{}\n");
  EXPECT_EQ(read_all({large, small}, 2).size(), 2000u);
  EXPECT_NE(error_of([&] {
              read_all({large, small, file("third.jsonl", "{}\n")}, 2);
            }).find("small.jsonl:1 is no object"),
            std::string::npos);
}

TEST_F(CorpusTest, AByteOrderMarkIsDroppedFromEachDocument) {
  const std::string mark = "\xEF\xBB\xBF";
  EXPECT_EQ(read_all({file("a.txt", mark + "one"),
                      file("b.jsonl", "{\"text\": \"" + mark + "two\"}\n{\"text\": \"three\"}")},
                     1),
            (std::set<std::string>{"one", "two", "three"}));
}

TEST_F(CorpusTest, LongTextsAreCutInPartsOfAFortiethWithinReason) {
  EXPECT_EQ(part_bytes({file("small.txt", "x")}), 4 << 10);
  EXPECT_EQ(part_bytes({file("large.txt", std::string(400'000, 'x'))}), 10'000);
  const fs::path huge = file("huge.txt", std::string(9'000'000, 'x'));
  EXPECT_EQ(part_bytes({huge}), 225'000);
  EXPECT_EQ(part_bytes({huge, file("other.txt", std::string(9'000'000, 'y'))}), 256 << 10);
}

TEST_F(CorpusTest, HowATextIsCutDoesNotDependOnItsCompression) {
  const std::string text(4'000'000, 'x');
  const fs::path plain = file("plain.txt", text);
  ASSERT_EQ(std::system(("gzip --keep " + plain.string()).c_str()), 0);
  EXPECT_EQ(part_bytes({dir_ / "plain.txt.gz"}), 100'000);
  const std::string line = "{\"text\": \"" + text + "\"}\n";
  EXPECT_EQ(part_bytes({plain, file("rows.jsonl", line)}), 100'000);
}

TEST_F(CorpusTest, SkippingMoreThanThereIsIsAnError) {
  const std::vector<fs::path> files = {file("a.txt", "one")};
  const auto reader = open_in_order(files, {});
  skip(*reader, 1);
  EXPECT_NE(error_of([&] { skip(*reader, 1); }).find("has changed"), std::string::npos);
}

}  // namespace
}  // namespace autoresearch
