// What must hold for every reply, however broken: the mutation test and the fuzz target share it.
#pragma once

#include <algorithm>
#include <string>
#include <tuple>
#include <utility>
#include <variant>
#include <vector>

#include "agent/edit/cpp_tokens.h"
#include "agent/edit/dialects.h"
#include "agent/edit/edit.h"
#include "agent/edit/reply.h"
#include "common/text.h"

namespace autoresearch {

// Where a block's SEARCH stands in the source: as text, else as the tokens of whole lines.
struct Place {
  size_t token, length, text;  // its first token, how many, and its offset where found as text
  bool found = false;
};

inline Place place_of(const Block& block, const std::string& source,
                      const std::vector<Token>& tokens) {
  const std::vector<std::string> search = code_tokens(block.search);
  const size_t text = ("\n" + source).find("\n" + block.search);
  // What is there as text begins after as many tokens as the text above it has.
  if (text != std::string::npos)
    return {code_tokens(source.substr(0, text)).size(), search.size(), text, true};
  for (size_t i = 0; !search.empty() && i + search.size() <= tokens.size(); ++i) {
    const size_t end = i + search.size();
    bool same = (i == 0 || tokens[i - 1].last_line < tokens[i].first_line) &&
                (end == tokens.size() || tokens[end].first_line > tokens[end - 1].last_line);
    for (size_t k = 0; same && k < search.size(); ++k) same = tokens[i + k].text == search[k];
    if (same) return {i, search.size(), 0, true};
  }
  return {};
}

// The first reading of a block that has a place.
inline Block meant_by(const Block& block, const std::string& source,
                      const std::vector<Token>& tokens) {
  for (const Block& reading : readings(block))
    if (place_of(reading, source, tokens).found) return reading;
  return block;
}

// The source's tokens with all of `blocks` replaced; empty where one has no place. Written another
// way than agent/edit on purpose: on one flat list of tokens.
inline std::vector<std::string> tokens_after(const std::string& source,
                                             const std::vector<Block>& blocks) {
  const std::vector<Token> tokens = lex(source);
  std::vector<std::pair<Place, const Block*>> changes;
  std::vector<Block> meant;
  for (const Block& block : blocks) meant.push_back(meant_by(block, source, tokens));
  for (const Block& block : meant) changes.push_back({place_of(block, source, tokens), &block});
  std::stable_sort(changes.begin(), changes.end(), [](const auto& a, const auto& b) {
    const auto key = [](const Place& p) { return std::tuple(p.token, p.length > 0, p.text); };
    return key(a.first) < key(b.first);
  });
  std::vector<std::string> result;
  size_t done = 0;
  const auto copy_until = [&](size_t end) {
    for (; done < end; ++done) result.push_back(tokens[done].text);
  };
  for (const auto& [place, block] : changes) {
    if (!place.found || place.token < done) return {};
    copy_until(place.token);
    for (std::string& token : code_tokens(block->replace)) result.push_back(std::move(token));
    done += place.length;
  }
  copy_until(tokens.size());
  return result;
}

// "" where all holds, else what does not. `applied`: whether the reply gave an edited source.
inline std::string broken_property(const std::string& source, const std::string& reply,
                                   bool truncated, bool allow_whole_file, bool& applied) {
  applied = false;
  const auto parsed = parse_reply(reply, truncated, allow_whole_file);
  if (const auto* feedback = std::get_if<Feedback>(&parsed))
    return feedback->text.empty() ? "a reply is refused without a word" : "";
  const auto& proposal = std::get<Proposal>(parsed);
  if (truncated) return "a truncated reply is taken";
  if (proposal.idea.empty() || first_chars(proposal.idea, 100) != proposal.idea)
    return "the idea is empty or longer than 100 characters";
  if (proposal.blocks.empty() == proposal.whole_file.empty() && !allow_whole_file)
    return "neither blocks nor a whole file, or both";
  const auto result = apply_proposal(source, proposal);
  if (const auto* feedback = std::get_if<Feedback>(&result)) {
    if (feedback->text.empty()) return "an edit is refused without a word";
    return feedback->text.size() > 64 * 1024 ? "a feedback has more than 64 KB" : "";
  }
  applied = true;
  const std::string& edited = std::get<std::string>(result);
  if (edited.size() > kMaxBytes || split_lines(edited).size() > kMaxLines)
    return "the edited file breaks the limits";
  if (proposal.blocks.empty())
    return edited == proposal.whole_file ? "" : "a whole file is not taken as it is";
  return code_tokens(edited) == tokens_after(source, proposal.blocks)
             ? ""
             : "the result is not the source with all blocks replaced";
}

}  // namespace autoresearch
