// An exception of the standard library in words for a user.
#pragma once

#include <exception>
#include <filesystem>
#include <string>

namespace autoresearch {

inline std::string failure_in_words(const std::exception& error) {
  const auto* failure = dynamic_cast<const std::filesystem::filesystem_error*>(&error);
  if (!failure) return error.what();
  const std::string path = failure->path1().string(), other = failure->path2().string();
  const std::string what = "can't use " + (path.empty() ? "the current folder" : path) +
                           (other.empty() ? "" : " or " + other) + ": " + failure->code().message();
  if (path.empty()) return what + "; go to a folder that is there";
  if (failure->code() == std::errc::no_space_on_device) return what + "; free some space";
  return what + "; see what is there and whose it is: ls -ld '" + path + "'";
}

}  // namespace autoresearch
