// From a model's reply to a new source file, or to a sentence that tells the model what was wrong.
// Pure functions; the reply format is in program.md and ../README.md. Nothing nearer than token
// equality is ever applied: a similar match silently overwrites newer code.
#pragma once

#include <string>
#include <variant>
#include <vector>

namespace autoresearch {

// The reply format as a model is told it, in the prompt and in feedback.
extern const char kReplyFormat[];

struct Block {
  std::string search, replace;  // whole lines, each ending in '\n'
};

struct Proposal {
  std::string idea;  // at most 100 characters, one line; results.tsv's description
  std::string why;
  std::vector<Block> blocks;
  std::string whole_file;         // instead of blocks, after failed rounds only
  std::vector<std::string> next;  // further ideas, unproven
};

// What was wrong, in words for the model (and for build.log): it says how to mend it.
struct Feedback {
  std::string text;
};

// Parses a reply. `truncated`: the provider said the answer was cut by its length limit.
std::variant<Proposal, Feedback> parse_reply(const std::string& reply, bool truncated,
                                             bool allow_whole_file);

// The edited source, or why not: a block that matches nowhere (with the nearest real lines), twice,
// overlaps another, or the result breaks the limits of lines and bytes.
std::variant<std::string, Feedback> apply_proposal(const std::string& source,
                                                   const Proposal& proposal);

constexpr size_t kMaxLines = 700, kMaxBytes = 32 * 1024;

// The C++ tokens of a source, comments and white space dropped; equal for equal code.
std::vector<std::string> code_tokens(const std::string& source);
// SHA-256 over code_tokens: the identity of a measured point.
std::string code_fingerprint(const std::string& source);
// A unified diff with three lines of context, for candidate.diff.
std::string unified_diff(const std::string& before, const std::string& after,
                         const std::string& name);

}  // namespace autoresearch
