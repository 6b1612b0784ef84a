// From the text of a reply to a proposal, or to a sentence that tells the model what was wrong.
// Pure, and linear in the length of the reply, whatever it holds. The format is design and
// program.md's: one for every model, chosen because whole lines survive where line numbers, JSON
// and diffs don't.
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

// `truncated`: the provider said that the answer was cut by its length limit. A reply with a block
// that can't be read for certain is refused as a whole, as is one with code outside of its blocks:
// that would be a block whose markers were lost.
std::variant<Proposal, Feedback> parse_reply(const std::string& reply, bool truncated,
                                             bool allow_whole_file);

}  // namespace autoresearch
