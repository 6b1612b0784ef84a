// A key out of the environment: where it may be seen, and how it is kept out of all other places.
#pragma once

#include <string>

namespace autoresearch {

class Secret {
 public:
  // The value of the environment variable `name`, blanks at its ends removed; empty where it is not
  // set. Throws Error for one that no HTTP header can carry.
  static Secret from_environment(const std::string& name);

  // The same for a header's whole value, which may have blanks inside.
  static Secret header_from_environment(const std::string& name);

  // Any value, to be removed from words and for no header.
  static Secret of(const std::string& value);

  bool empty() const { return value_.empty(); }
  const std::string& value() const { return value_; }  // for a request's header, nothing else

  // Another program's words without the key: some servers repeat it, whole or the first half. What
  // is shorter than any key ("none", "local", as local servers are given) stays: it occurs in code.
  std::string removed_from(std::string words) const;

 private:
  std::string value_;
};

}  // namespace autoresearch
