// The named constants of a source, what they are worth, and the identity of a source whose
// constants and numbers may be written in many ways.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace autoresearch {

// One `constexpr <type> kName = <value>;` at namespace scope. Left out are constants between #if
// and #endif and names that occur twice: their meaning depends on the place.
struct Constant {
  std::string name, type;
  std::string written;               // the value as it stands, "1 << 19"
  std::optional<std::string> value;  // what it comes to, "524288"; nothing where that takes a
                                     // compiler
  size_t line;                       // 0-based
};
std::vector<Constant> find_constants(const std::string& source);

// The value of a literal, of one with a minus, or of `a << b`, as C++ computes it. Nothing for what
// overflows or needs more than that.
std::optional<double> evaluate(const std::string& expression);

// SHA-256 of what the code says: the identity of a measured point. White space, comments, the order
// of constants, constants that nothing uses and the way in which a number is written (0.04 or 4e-2,
// 1 << 19 or 524288) make no difference; everything else does.
std::string code_fingerprint(const std::string& source);

}  // namespace autoresearch
