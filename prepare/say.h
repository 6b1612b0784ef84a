// Lines for the user.
#pragma once

#include <fmt/format.h>

#include <cstdio>
#include <utility>

namespace autoresearch {

// Prints on stdout. Unlike fmt::print it never throws: main asks in the end whether all of it could
// be written.
template <typename... Arguments>
void say(fmt::format_string<Arguments...> text, Arguments&&... arguments) {
  std::fputs(fmt::format(text, std::forward<Arguments>(arguments)...).c_str(), stdout);
}

}  // namespace autoresearch
