// Applies a proposal to a source. Pure. All blocks or none; a block applies where its SEARCH lines
// are equal exactly, or in their sequence of code tokens. Nothing nearer is ever applied: a similar
// match silently overwrites newer code. What reads as a slip of the pen (a lost line of SEARCH,
// "... rest unchanged" in REPLACE, typographic quotes) is asked back, because to apply it would
// change code that nobody meant. A file whose lines all end with CR LF stays one.
#pragma once

#include <string>
#include <variant>

#include "agent/edit/applied_check.h"
#include "agent/edit/reply.h"

namespace autoresearch {

// The edited source, or why there is none: a block that is nowhere in the file (with the nearest
// real lines), or there twice, overlaps another, or a result that breaks the limits.
std::variant<std::string, Feedback> apply_proposal(const std::string& source,
                                                   const Proposal& proposal);

// The same from the text of a reply on (agent/edit/reply.h).
struct Edit {
  Proposal proposal;
  std::string source;  // with the proposal's change
};
std::variant<Edit, Feedback> apply_reply(const std::string& source, const std::string& reply,
                                         bool truncated, bool allow_whole_file);

}  // namespace autoresearch
