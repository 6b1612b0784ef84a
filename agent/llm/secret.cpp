#include "agent/llm/secret.h"

#include <algorithm>
#include <cstdlib>

#include "common/error.h"
#include "common/text.h"

namespace autoresearch {

Secret Secret::of(const std::string& value) {
  Secret secret;
  secret.value_ = trim(value);
  return secret;
}

Secret Secret::from_environment(const std::string& name) {
  const char* value = name.empty() ? nullptr : std::getenv(name.c_str());
  Secret secret = of(value ? value : "");
  check(std::all_of(secret.value_.begin(), secret.value_.end(),
                    [](char c) { return c > ' ' && c < 127; }),
        "the key in $" + name + " has blanks or special characters inside; set the variable again");
  return secret;
}

Secret Secret::header_from_environment(const std::string& name) {
  const char* value = std::getenv(name.c_str());
  Secret secret = of(value ? value : "");
  check(!secret.empty(), "$" + name + " holds no header's value; export " + name + "=...");
  check(std::all_of(secret.value_.begin(), secret.value_.end(),
                    [](char c) { return c >= ' ' && c < 127; }),
        "the value of $" + name + " has characters that no header can carry");
  return secret;
}

std::string Secret::removed_from(std::string words) const {
  constexpr size_t kTelling = 8;    // characters that give a key away
  constexpr size_t kShortest = 16;  // "local", "dummy" and the like are no keys, but occur in code
  if (value_.size() < kShortest) return words;
  const std::string beginning = value_.substr(0, kTelling);
  for (size_t at = 0; (at = words.find(beginning, at)) != std::string::npos;) {
    const size_t end = std::min(words.find_first_of(" \t\r\n\"',;", at), words.size());
    words.replace(at, std::max(end - at, beginning.size()), "***");
    at += 3;
  }
  return words;
}

}  // namespace autoresearch
