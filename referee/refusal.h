// How the parts of the referee say no to a model, in one line.
#pragma once

#include <c10/util/Exception.h>

#include <string>

#include "common/error.h"

namespace autoresearch {

[[noreturn]] inline void refuse(const std::string& what) { throw Error(what, kCannotSeal); }

// The first line of an exception that came out of libtorch, without its C++ stack.
inline std::string first_line(const std::exception& e) {
  const auto* error = dynamic_cast<const c10::Error*>(&e);
  std::string text = error ? error->what_without_backtrace() : e.what();
  text.erase(0, text.find_first_not_of("\n "));
  text = text.substr(0, text.find('\n'));
  return text.size() > 300 ? text.substr(0, 300) + "..." : text;
}

}  // namespace autoresearch
