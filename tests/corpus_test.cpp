#include "prepare/corpus.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>

#include "common/error.h"
#include "tests/support.h"

namespace autoresearch {
namespace {

class CorpusTest : public FolderTest {
 protected:
  fs::path file(const std::string& name, const std::string& text) const {
    fs::create_directories((dir_ / name).parent_path());
    write_file(dir_ / name, text);
    return dir_ / name;
  }

  // Names relative to the test's folder of what is found below `paths`.
  std::vector<std::string> found(const std::vector<fs::path>& paths) const {
    std::vector<std::string> names;
    for (const fs::path& path : find_files(paths)) {
      names.push_back(path.lexically_relative(dir_).string());
    }
    return names;
  }

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

using Names = std::vector<std::string>;

TEST_F(CorpusTest, FoldersGiveTheirTextAndSourceFilesSorted) {
  file("b.txt", "b");
  file("a/z.py", "z");
  file("a/README", "r");
  file("a/LOUD.TXT", "l");
  file("a/picture.png", "p");
  file("a/noextension", "n");
  file(".git/config.txt", "hidden");
  file("a/.cache/x.txt", "hidden");
  EXPECT_EQ(found({dir_}), (Names{"a/LOUD.TXT", "a/README", "a/z.py", "b.txt"}));
  EXPECT_EQ(found({dir_ / "a", dir_, dir_ / "b.txt"}), found({dir_}));
}

TEST_F(CorpusTest, ANamedFileIsTakenWhateverItsExtension) {
  EXPECT_EQ(found({file("notes.xyz", "text")}), Names{"notes.xyz"});
}

TEST_F(CorpusTest, BinaryFilesArePassedOverInFoldersAndRefusedByName) {
  file("a.txt", "text");
  const fs::path binary = file("b.txt", std::string("te\0xt", 5));
  file("late.txt", std::string(9000, 'x') + std::string(1, '\0'));
  EXPECT_EQ(found({dir_}), (Names{"a.txt", "late.txt"}));
  EXPECT_NE(error_of([&] { find_files({binary}); }).find("binary"), std::string::npos);
}

TEST_F(CorpusTest, LoopsOfLinksAndDanglingLinksEnd) {
  file("a/x.txt", "text");
  fs::create_directory_symlink("..", dir_ / "a" / "up");
  fs::create_directory_symlink("a", dir_ / "again");
  fs::create_symlink("loop.txt", dir_ / "loop.txt");
  fs::create_symlink("nowhere", dir_ / "dangling.txt");
  fs::create_symlink("a/x.txt", dir_ / "link.txt");
  EXPECT_EQ(found({dir_}), (Names{"a/x.txt", "link.txt"}));
  EXPECT_EQ(found({dir_ / "again"}), Names{"again/x.txt"});  // a link that is named is followed
}

TEST_F(CorpusTest, WhatCannotBeReadIsNamed) {
  EXPECT_NE(error_of([&] { find_files({dir_ / "none"}); }).find("none"), std::string::npos);
  EXPECT_NE(error_of([&] { find_files({dir_}); }).find("no text or source code in"),
            std::string::npos);
}

TEST_F(CorpusTest, AnUnreadableFileIsNamedNotPassedOver) {
  if (geteuid() == 0) GTEST_SKIP() << "root reads everything";
  fs::permissions(file("secret.txt", "x"), fs::perms::none);
  EXPECT_NE(error_of([&] { find_files({dir_}); }).find("Permission denied"), std::string::npos);
}

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

TEST_F(CorpusTest, TheDemoTakesHeadersUpToItsSizeWithoutCopies) {
  for (int i = 0; i < 100; ++i) {
    file("torch/ATen/h" + std::to_string(i) + ".h", std::string(1000, 'a') + std::to_string(i));
  }
  file("torch/ATen/ops/generated.h", "generated");
  file("torch/big.h", std::string(300'000, 'b'));
  file("torch/readme.md", "no header");
  file("usr/copy.h", std::string(1000, 'a') + "7");
  const std::vector<fs::path> roots = {dir_ / "torch", dir_ / "none", dir_ / "usr"};
  const std::vector<fs::path> all = find_demo_files(roots, 1'000'000);
  EXPECT_EQ(all.size(), 100u);
  for (const fs::path& path : all) EXPECT_EQ(path.extension(), ".h");
  const std::vector<fs::path> some = find_demo_files(roots, 50'000);
  EXPECT_EQ(some.size(), 49u);
  EXPECT_TRUE(std::equal(some.begin(), some.end(), all.begin()));
  EXPECT_NE(error_of([&] { find_demo_files({dir_ / "none"}, 1000); }).find("--source PATH"),
            std::string::npos);
}

}  // namespace
}  // namespace autoresearch
