#include "prepare/find.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>

#include "common/error.h"
#include "tests/support.h"

namespace autoresearch {
namespace {

using Names = std::vector<std::string>;

class FindTest : public FolderTest {
 protected:
  // Names relative to the test's folder of what is found below `paths`.
  std::vector<std::string> found(const std::vector<fs::path>& paths) const {
    std::vector<std::string> names;
    for (const fs::path& path : find_files(paths)) {
      names.push_back(path.lexically_relative(dir_).string());
    }
    return names;
  }
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
  EXPECT_EQ(found({dir_}), (Names{"a/LOUD.TXT", "a/README", "a/z.py", "b.txt"}));
  EXPECT_EQ(found({dir_ / "a", dir_, dir_ / "b.txt"}), found({dir_}));
}

TEST_F(FindTest, ANamedFileIsTakenWhateverItsExtension) {
  EXPECT_EQ(found({file("notes.xyz", "text")}), Names{"notes.xyz"});
}

TEST_F(FindTest, BinaryFilesArePassedOverInFoldersAndRefusedByName) {
  file("a.txt", "text");
  const fs::path binary = file("b.txt", std::string("te\0xt", 5));
  file("late.txt", std::string(9000, 'x') + std::string(1, '\0'));
  EXPECT_EQ(found({dir_}), (Names{"a.txt", "late.txt"}));
  EXPECT_NE(error_of([&] { find_files({binary}); }).find("binary"), std::string::npos);
}

TEST_F(FindTest, LoopsOfLinksAndDanglingLinksEnd) {
  file("a/x.txt", "text");
  fs::create_directory_symlink("..", dir_ / "a" / "up");
  fs::create_directory_symlink("a", dir_ / "again");
  fs::create_symlink("loop.txt", dir_ / "loop.txt");
  fs::create_symlink("nowhere", dir_ / "dangling.txt");
  fs::create_symlink("a/x.txt", dir_ / "link.txt");
  EXPECT_EQ(found({dir_}), (Names{"a/x.txt", "link.txt"}));
  EXPECT_EQ(found({dir_ / "again"}), Names{"again/x.txt"});  // a link that is named is followed
}

TEST_F(FindTest, WhatCannotBeReadIsNamed) {
  EXPECT_NE(error_of([&] { find_files({dir_ / "none"}); }).find("none"), std::string::npos);
  EXPECT_NE(error_of([&] { find_files({dir_}); }).find("no text, source code"), std::string::npos);
}

TEST_F(FindTest, AnUnreadableFileIsNamedNotPassedOver) {
  if (geteuid() == 0) GTEST_SKIP() << "root reads everything";
  fs::permissions(file("secret.txt", "x"), fs::perms::none);
  EXPECT_NE(error_of([&] { find_files({dir_}); }).find("Permission denied"), std::string::npos);
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
