// JSON from outside, a candidate's or a server's, whatever it may hold.
#pragma once

#include <nlohmann/json.hpp>
#include <string_view>

namespace autoresearch {

// The value of `text`; null when it is no JSON. What is nested deeper than 16 levels is left out:
// copying and printing recurse, and a megabyte of brackets would overflow the stack.
inline nlohmann::json parse_untrusted(std::string_view text) {
  constexpr int kDepth = 16;
  const auto shallow = [](int depth, nlohmann::json::parse_event_t, nlohmann::json&) {
    return depth <= kDepth;
  };
  auto value = nlohmann::json::parse(text, shallow, /*allow_exceptions=*/false);
  return value.is_discarded() ? nlohmann::json() : value;
}

}  // namespace autoresearch
