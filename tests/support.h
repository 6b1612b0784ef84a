// What several tests share: a folder that is gone afterwards, the words of an Error, a text's
// parts.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <string>

#include "common/error.h"
#include "common/files.h"

#define EXPECT_HAS(text, part) EXPECT_NE((text).find(part), std::string::npos) << (text)

namespace autoresearch {

// AddressSanitizer keeps freed memory for a while: how much a program takes can't be judged.
#ifdef __SANITIZE_ADDRESS__
constexpr bool kMemoryIsMeasured = false;
#else
constexpr bool kMemoryIsMeasured = true;
#endif

// A test with an empty folder of its own.
class FolderTest : public testing::Test {
 protected:
  explicit FolderTest(const fs::path& where = fs::temp_directory_path()) {
    std::string pattern = where / "autoresearch_test.XXXXXX";
    dir_ = mkdtemp(pattern.data());
  }
  ~FolderTest() override { fs::remove_all(dir_); }

  // A file below the folder, with the folders that lead to it.
  fs::path file(const std::string& name, const std::string& text) const {
    fs::create_directories((dir_ / name).parent_path());
    std::ofstream(dir_ / name, std::ios::binary) << text;  // no fsync: some tests write thousands
    return dir_ / name;
  }

  // What stands in such a file, empty if there is none.
  std::string text(const std::string& name) const {
    std::ifstream file(dir_ / name, std::ios::binary);
    return std::string((std::istreambuf_iterator<char>(file)), {});
  }

  fs::path dir_;
};

// What a message must be: one line that says the file it is about, and more.
inline void expect_says(const std::string& message, const std::string& name,
                        const std::string& words) {
  EXPECT_HAS(message, name);
  EXPECT_HAS(message, words);
  EXPECT_EQ(message.find('\n'), std::string::npos) << message;
}

// The message of the Error that `action` throws; empty when it throws none.
template <typename Action>
std::string error_of(Action action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

// `text` with the first `from` replaced, which must occur.
inline std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const size_t at = text.find(from);
  check(at != std::string::npos, "not found: " + from);
  return text.replace(at, from.size(), to);
}

}  // namespace autoresearch
