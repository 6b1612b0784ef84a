// What a main function prints of an exception that nobody made a sentence of.
#pragma once

#include <exception>
#include <filesystem>
#include <string>

namespace autoresearch {

inline std::string failure_in_words(const std::exception& error) {
  const auto* failure = dynamic_cast<const std::filesystem::filesystem_error*>(&error);
  if (!failure) return error.what();
  const std::string path = failure->path1().string();
  return "can't use " + (path.empty() ? "the current folder" : path) + ": " +
         failure->code().message() + "; name a path that is there and that you may write to";
}

}  // namespace autoresearch
