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
  std::string idea;  // at most 100 characters, one line, safe to show; results.tsv's description
  std::string why;
  std::vector<Block> blocks;
  std::string whole_file;         // instead of blocks, after failed rounds only
  std::vector<std::string> next;  // further ideas, unproven
  // Lines between and behind the blocks: if one is a line of the file, it belongs to a block that
  // lost its markers.
  std::vector<std::string> outside;
};

// What was wrong, in words for the model (and for build.log): it says how to mend it.
struct Feedback {
  std::string text;
};

// `truncated`: the provider said that the answer was cut by its length limit. A reply with a block
// that can't be read for certain is refused as a whole, as is one with a passage of code outside of
// its blocks: that would be a block whose markers were lost. Of several edits the one that the
// reply itself calls its last word is taken, or the first of a mere list; else, and if the last one
// is taken back, the model is asked which one it means. Two are never merged.
std::variant<Proposal, Feedback> parse_reply(const std::string& reply, bool truncated,
                                             bool allow_whole_file);

}  // namespace autoresearch
