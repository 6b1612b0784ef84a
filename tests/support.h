// What several tests share: a folder that is gone afterwards, and the words of an Error.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <string>

#include "common/error.h"
#include "common/files.h"

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
  FolderTest() {
    std::string pattern = fs::temp_directory_path() / "autoresearch_test.XXXXXX";
    dir_ = mkdtemp(pattern.data());
  }
  ~FolderTest() override { fs::remove_all(dir_); }

  // A file below the folder, with the folders that lead to it.
  fs::path file(const std::string& name, const std::string& text) const {
    fs::create_directories((dir_ / name).parent_path());
    std::ofstream(dir_ / name, std::ios::binary) << text;  // no fsync: some tests write thousands
    return dir_ / name;
  }

  fs::path dir_;
};

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

}  // namespace autoresearch
