#include "prepare/find.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "common/error.h"
#include "tests/compressed.h"
#include "tests/support.h"

namespace autoresearch {
namespace {

using Names = std::vector<std::string>;

class FindTest : public FolderTest {
 protected:
  // Names relative to the test's folder of what is found below `paths`.
  std::vector<std::string> found(const std::vector<fs::path>& paths) const {
    std::vector<std::string> names;
    for (const fs::path& path : find_files(paths, options_)) {
      names.push_back(path.lexically_relative(dir_).string());
    }
    return names;
  }

  ReadOptions options_;
};

TEST_F(FindTest, FoldersGiveTheirTextAndSourceFilesSorted) {
  file("b.txt", "b");
  file("a/z.py", "z");
  file("a/README", "r");
  file("a/LOUD.TXT", "l");
  file("a/picture.png", "p");
  file("a/noextension", "n");
  file(".git/config.txt", "hidden");
  file("a/.cache/x.txt", "hidden");
  file("a/._z.jsonl", std::string("\0\5\x16\7 of a Mac", 12));
  EXPECT_EQ(found({dir_}), (Names{"a/LOUD.TXT", "a/README", "a/z.py", "b.txt"}));
  EXPECT_EQ(found({dir_ / "a", dir_, dir_ / "b.txt"}), found({dir_}));
}

TEST_F(FindTest, FoldersGiveParquetJsonLinesAndCompressedFilesToo) {
  for (const char* name : {"a.parquet", "b.jsonl", "c.ndjson", "d.jsonl.gz", "e.NDJSON.ZST"}) {
    file(name, "unread");
  }
  file("f.txt.zst", zstd("text"));
  file("g.txt.zst", zstd(std::string("te\0xt", 5)));
  file("README.zst", zstd("text"));
  file("left.json", "{\n  \"name\": \"a package\"\n}\n");
  file("rows.json", "{\"text\": \"one\"}\n{\"text\": \"two\"}\n");
  file("rows.data", "{\"text\": \"one\"}\n{\"text\": \"two\"}\n");
  file("other.json", "{\"name\": \"one\"}\n{\"name\": \"two\"}\n");
  for (const char* name : {"h.parquet.gz", "i.png.gz", "j.gz", "k.tar.zst", "l.zip"}) {
    file(name, "unread");
  }
  EXPECT_EQ(found({dir_}), (Names{"README.zst", "a.parquet", "b.jsonl", "c.ndjson", "d.jsonl.gz",
                                  "e.NDJSON.ZST", "f.txt.zst", "rows.data", "rows.json"}));
  EXPECT_EQ(options_.findings->left_out("", ""),
            "2 .gz, 2 .json, 1 .parquet in another file, 1 .zip, 1 .zst, 1 binary file .txt");
  EXPECT_NE(error_of([&] { find_files({dir_ / "g.txt.zst"}, options_); }).find("binary"),
            std::string::npos);
}

TEST_F(FindTest, ADamagedFileInAFolderIsNamedNotPassedOver) {
  file("a.txt", "text");
  file("b.txt.gz", "\x1f\x8b\x08 cut short");
  EXPECT_NE(error_of([&] { find_files({dir_}, options_); }).find("b.txt.gz"), std::string::npos);
}

TEST_F(FindTest, WhatAFolderLeavesOutIsCountedByKind) {
  for (int i = 0; i < 3; ++i) file(std::to_string(i) + ".png", "p");
  file("late.txt", std::string("\xff\xfe", 2) + std::string("t\0", 2));
  file("unmarked.txt", std::string("t\0e\0", 4));
  file("binary", std::string(9, '\0'));
  file(".git/config.txt", "hidden");
  fs::create_directory_symlink(".", dir_ / "link");
  fs::create_symlink("nowhere", dir_ / "dangling.txt");
  EXPECT_EQ(found({dir_}), Names{"late.txt"});
  EXPECT_EQ(options_.findings->left_out("left out: ", "."),
            "left out: 3 .png, 1 UTF-16 without a mark .txt, 1 hidden folder, 1 link to a folder, "
            "1 link to nothing, 1 without extension.");
}

TEST_F(FindTest, StdinIsTakenUnderItsNames) {
  const std::vector<fs::path> paths = {file("a.txt", "text"), "-.jsonl", "-", "-"};
  EXPECT_EQ(find_files(paths, options_), (std::vector<fs::path>{"-", "-.jsonl", dir_ / "a.txt"}));
}

TEST_F(FindTest, AnEmptyFileIsFound) { EXPECT_EQ(found({file("a.txt", "")}), Names{"a.txt"}); }

TEST_F(FindTest, ANamedLoopOfLinksIsOneLine) {
  fs::create_symlink("b", dir_ / "a");
  fs::create_symlink("a", dir_ / "b");
  EXPECT_NE(error_of([&] {
              find_files({dir_ / "a"}, options_);
            }).find("Too many levels of symbolic links"),
            std::string::npos);
}

TEST_F(FindTest, ANamedFileIsTakenWhateverItsExtension) {
  EXPECT_EQ(found({file("notes.xyz", "text")}), Names{"notes.xyz"});
  EXPECT_EQ(found({file(".notes", "text")}), Names{".notes"});
}

TEST_F(FindTest, BinaryFilesArePassedOverInFoldersAndRefusedByName) {
  file("a.txt", "text");
  const fs::path binary = file("b.txt", std::string("te\0xt", 5));
  file("late.txt", std::string(9000, 'x') + std::string(1, '\0'));
  EXPECT_EQ(found({dir_}), (Names{"a.txt", "late.txt"}));
  EXPECT_NE(error_of([&] { find_files({binary}, options_); }).find("binary"), std::string::npos);
}

TEST_F(FindTest, AFileOfSeveralNamesIsTakenOnce) {
  file("a.txt", "a");
  fs::create_symlink("a.txt", dir_ / "link.txt");
  fs::create_hard_link(dir_ / "a.txt", dir_ / "twin.txt");
  EXPECT_EQ(found({dir_, dir_ / "." / "a.txt"}).size(), 1u);
}

TEST_F(FindTest, APipeIsReferredToStdin) {
  ASSERT_EQ(mkfifo((dir_ / "pipe").c_str(), 0600), 0);
  const std::string error = error_of([&] { find_files({dir_ / "pipe"}, options_); });
  EXPECT_NE(error.find("--source -"), std::string::npos) << error;
}

TEST_F(FindTest, LoopsOfLinksAndDanglingLinksEnd) {
  file("a/x.txt", "text");
  fs::create_directory_symlink("..", dir_ / "a" / "up");
  fs::create_directory_symlink("a", dir_ / "again");
  fs::create_symlink("loop.txt", dir_ / "loop.txt");
  fs::create_symlink("nowhere", dir_ / "dangling.txt");
  file(".elsewhere/y.txt", "text");
  fs::create_symlink(".elsewhere/y.txt", dir_ / "link.txt");
  EXPECT_EQ(found({dir_}), (Names{"a/x.txt", "link.txt"}));
  EXPECT_EQ(found({dir_ / "again"}), Names{"again/x.txt"});  // a link that is named is followed
}

TEST_F(FindTest, WhatCannotBeReadIsNamed) {
  EXPECT_NE(error_of([&] { find_files({dir_ / "none"}, options_); }).find("none"),
            std::string::npos);
  EXPECT_NE(error_of([&] { find_files({dir_}, options_); }).find("no text, source code"),
            std::string::npos);
}

TEST_F(FindTest, AnUnreadableFileIsNamedNotPassedOver) {
  if (geteuid() == 0) GTEST_SKIP() << "root reads everything";
  fs::permissions(file("secret.txt", "x"), fs::perms::none);
  EXPECT_NE(error_of([&] { find_files({dir_}, options_); }).find("Permission denied"),
            std::string::npos);
}

TEST_F(FindTest, TheDemoTakesHeadersUpToItsSizeWithoutCopies) {
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
