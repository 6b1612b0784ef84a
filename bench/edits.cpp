// How well edits land: 1,000 edits of the real train.cpp, each spoilt in one way in which models
// spoil them, through agent/reply and agent/edit.
//
//   cmake --build build --target bench_edits && build/bench/edits [EDITS] [SEED]
//
// An edit has one or two blocks, with at least one unchanged line of code on either side of what
// changes, as the prompt's example has. Its result is known, so every outcome can be told:
//   at once   the spoilt reply gave the intended code
//   lines     feedback showed real lines, and a reply with those as SEARCH gave the intended code
//   rule      feedback named the rule that was broken, and the clean reply followed
//   lost      neither
//   wrong     a reply was applied and gave other code than intended: must never happen
// `rule` supposes a model that does what it is told; `lines` supposes one that can copy. Code is
// compared as tokens. The same seed gives the same edits.
#include <algorithm>
#include <array>
#include <cstdio>
#include <functional>
#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "agent/edit/cpp_tokens.h"
#include "agent/edit/edit.h"
#include "agent/edit/reply.h"
#include "common/files.h"
#include "common/text.h"

namespace autoresearch {
namespace {

using Lines = std::vector<std::string>;
using Random = std::mt19937;

size_t below(Random& random, size_t n) { return random() % n; }

std::string join(const Lines& lines) {
  std::string text;
  for (const std::string& line : lines) text += line + "\n";
  return text;
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  for (size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size())
    text.replace(at, from.size(), to);
  return text;
}

bool has_code(const std::string& line) { return !code_tokens(line).empty(); }

// ------------------------------------------------------------------------------------------------
// Edits whose result is known

struct BlockOfLines {
  Lines search, replace;
};

struct Edit {
  std::vector<BlockOfLines> blocks;
  std::string intended;  // the whole file afterwards
};

// A number becomes another one, or a name gets a letter more.
std::string changed_line(const std::string& line, Random& random) {
  const size_t comment = std::min(line.find("//"), line.size());
  for (size_t i = 0; i < comment; ++i) {
    const bool starts = i == 0 || (!std::isalnum(static_cast<unsigned char>(line[i - 1])) &&
                                   line[i - 1] != '_' && line[i - 1] != '.');
    if (starts && line[i] >= '1' && line[i] <= '9')
      return line.substr(0, i) + std::to_string(10 + below(random, 80)) + line.substr(i + 1);
  }
  for (size_t i = 1; i < comment; ++i)
    if (std::islower(static_cast<unsigned char>(line[i - 1])) && line[i] == '(')
      return line.substr(0, i) + "_v2" + line.substr(i);
  return "";
}

// Changes one to three neighbouring lines of `region`, never its first or last line of code.
Lines changed_region(const Lines& region, Random& random) {
  size_t first = 0, last = region.size();
  while (first < last && !has_code(region[first])) ++first;
  while (last > first && !has_code(region[last - 1])) --last;
  if (last < first + 3) return {};
  const size_t at = first + 1 + below(random, last - first - 2);
  Lines result = region;
  const std::string indent = region[at].substr(0, region[at].find_first_not_of(' '));
  switch (below(random, 4)) {
    case 0:
      if (!has_code(region[at]) || code_tokens(region[at]).back() != ";") return {};
      result.erase(result.begin() + static_cast<ptrdiff_t>(at));
      break;
    case 1:
      result.insert(result.begin() + static_cast<ptrdiff_t>(at),
                    indent + "added_" + std::to_string(below(random, 1000)) + "(x);");
      break;
    default:
      result[at] = changed_line(region[at], random);
      if (result[at].empty()) return {};
  }
  return result;
}

bool applies(const std::string& source, const std::string& reply, std::string& result,
             std::string& feedback) {
  const auto parsed = parse_reply(reply, false, false);
  if (const auto* problem = std::get_if<Feedback>(&parsed)) {
    feedback = problem->text;
    return false;
  }
  const auto applied = apply_proposal(source, std::get<Proposal>(parsed));
  if (const auto* problem = std::get_if<Feedback>(&applied)) {
    feedback = problem->text;
    return false;
  }
  result = std::get<std::string>(applied);
  return true;
}

std::string text_of(const std::vector<BlockOfLines>& blocks) {
  std::string text = "IDEA: one change\nWHY: It is an example. Expect what comes.\n";
  for (const BlockOfLines& block : blocks)
    text += "<<<<<<< SEARCH\n" + join(block.search) + "=======\n" + join(block.replace) +
            ">>>>>>> REPLACE\n";
  return text + "NEXT: another change\n";
}

// An edit that applies when it is sent as it should be.
Edit random_edit(const Lines& source, Random& random) {
  while (true) {
    Edit edit;
    Lines result = source;
    size_t end = source.size();
    for (size_t n = 1 + below(random, 2); n > 0 && end > 20; --n) {
      const size_t size = 4 + below(random, 12);
      const size_t first = below(random, end - size);
      const auto at = source.begin() + static_cast<ptrdiff_t>(first);
      const Lines region(at, at + static_cast<ptrdiff_t>(size));
      const Lines change = changed_region(region, random);
      if (change.empty()) continue;
      edit.blocks.insert(edit.blocks.begin(), {region, change});
      const auto place = result.begin() + static_cast<ptrdiff_t>(first);
      result.erase(place, place + static_cast<ptrdiff_t>(size));
      result.insert(result.begin() + static_cast<ptrdiff_t>(first), change.begin(), change.end());
      end = first;
    }
    if (edit.blocks.empty()) continue;
    edit.intended = join(result);
    std::string got, feedback;
    if (!applies(join(source), text_of(edit.blocks), got, feedback)) continue;
    if (code_tokens(got) == code_tokens(edit.intended)) return edit;
  }
}

// ------------------------------------------------------------------------------------------------
// Errors, as models make them

// Spoils the text of a reply; `block` is the one of its blocks that is hit.
using Spoil = std::function<std::string(std::vector<BlockOfLines>, size_t block, Random&)>;

// An error inside of one block's lines.
Spoil in_lines(std::function<void(BlockOfLines&, Random&)> spoil) {
  return [spoil](std::vector<BlockOfLines> blocks, size_t block, Random& random) {
    spoil(blocks[block], random);
    return text_of(blocks);
  };
}

// The same error in every line of SEARCH and REPLACE.
Spoil in_each_line(std::function<std::string(const std::string&, Random&)> spoil) {
  return in_lines([spoil](BlockOfLines& block, Random& random) {
    for (Lines* lines : {&block.search, &block.replace})
      for (std::string& line : *lines) line = spoil(line, random);
  });
}

// An error that the markers or the whole text suffer.
Spoil in_text(std::function<std::string(const std::string&, Random&)> spoil) {
  return [spoil](const std::vector<BlockOfLines>& blocks, size_t, Random& random) {
    return spoil(text_of(blocks), random);
  };
}

void stale_context(BlockOfLines& block, Random& random) {
  for (int tries = 0; tries < 20; ++tries) {
    const size_t at = below(random, block.search.size());
    const std::string old = block.search[at], stale = changed_line(old, random);
    if (stale.empty()) continue;
    block.search[at] = stale;
    std::replace(block.replace.begin(), block.replace.end(), old, stale);
    return;
  }
}

void dropped_lines(BlockOfLines& block, Random& random) {
  for (size_t n = 1 + below(random, 2); n > 0 && block.search.size() > 1; --n) {
    const size_t at = below(random, 3) == 0   ? 0
                      : below(random, 2) == 0 ? block.search.size() - 1
                                              : below(random, block.search.size());
    block.search.erase(block.search.begin() + static_cast<ptrdiff_t>(at));
  }
}

void elided_middle(BlockOfLines& block, Random& random) {
  static const std::vector<std::string> kWords = {"    // ...",
                                                  "  // ... existing code ...",
                                                  "  // rest of the function unchanged",
                                                  "...",
                                                  "  // [...]",
                                                  "  // (...)",
                                                  "  // keep existing code",
                                                  "  // same as above",
                                                  "  // as before",
                                                  "  // attention and mlp unchanged",
                                                  "  // [rest unchanged]",
                                                  "  // (same as original)",
                                                  "  // -- snip --",
                                                  "  // etc.",
                                                  "  // loop as it was",
                                                  "  /* no edits here */",
                                                  "  // (setup code)",
                                                  "  // body elided",
                                                  "  // lines 40 to 52",
                                                  "  // everything else here",
                                                  "  // <snipped>",
                                                  "  // the loop from before",
                                                  "  // values table and gate"};
  const std::string words = kWords[below(random, kWords.size())];
  const auto elide = [&](Lines& lines) {
    if (lines.size() < 5) return;
    lines.erase(lines.begin() + 2, lines.end() - 2);
    lines.insert(lines.begin() + 2, words);
  };
  const size_t which = below(random, 3);
  if (which != 1) elide(block.search);
  if (which != 0) elide(block.replace);
}

void joined_lines(BlockOfLines& block, Random& random) {
  const size_t at = below(random, block.search.size() - 1);
  if (block.search[at].find("//") != std::string::npos) return;
  if (block.search[at].starts_with("#") || block.search[at + 1].starts_with("#")) return;
  block.search[at] += " " + trim(block.search[at + 1]);
  block.search.erase(block.search.begin() + static_cast<ptrdiff_t>(at) + 1);
}

std::string without_markers(const std::string& text, Random& random) {
  static const std::array<std::string, 3> kMarkers = {"<<<<<<< SEARCH\n", "=======\n",
                                                      ">>>>>>> REPLACE\n"};
  const size_t which = below(random, 4);
  std::string spoilt = text;
  for (size_t i = 0; i < kMarkers.size(); ++i)
    if (which == i || which == 3) spoilt.erase(spoilt.find(kMarkers[i]), kMarkers[i].size());
  return spoilt;
}

std::string typographic(const std::string& line) {
  std::string text = replaced(line, " \"", " \xe2\x80\x9c");
  text = replaced(replaced(text, "\"", "\xe2\x80\x9d"), "'", "\xe2\x80\x99");
  return replaced(replaced(text, " - ", " \xe2\x80\x93 "), "--", "\xe2\x80\x94");
}

std::string with_entities(const std::string& line) {
  return replaced(replaced(replaced(line, "&", "&amp;"), "<", "&lt;"), ">", "&gt;");
}

std::string fenced_inside(const std::string& text, Random& random) {
  std::string spoilt = replaced(text, "<<<<<<< SEARCH\n", "<<<<<<< SEARCH\n```cpp\n");
  spoilt = replaced(spoilt, "=======\n", "```\n=======\n");
  return below(random, 2) ? spoilt : replaced(text, ">>>>>>> REPLACE\n", "```\n>>>>>>> REPLACE\n");
}

// ------------------------------------------------------------------------------------------------
// Dialects: nothing is wrong with the edit, but it is written as some model or tool does

std::string one_of(Random& random, const std::vector<std::string>& all) {
  return all[below(random, all.size())];
}

std::string each_line(const std::string& text, const std::string& before,
                      const std::string& after) {
  std::string result;
  for (const std::string& line : split_lines(text)) result += before + line + after + "\n";
  return result;
}

std::string other_label(const std::string& text, Random& random) {
  const std::string form =
      one_of(random, {"Idea: ", "idea\xef\xbc\x9a", "**IDEA:**\n", "## Idea\n\n", "1. IDEA: ",
                      "\xf0\x9f\x92\xa1 IDEA: ", "IDEA - ", "`IDEA:` ", "\xef\xbb\xbfIDEA #1: "});
  return replaced(text, "IDEA: ", form);
}

std::string other_markers(const std::string& text, Random& random) {
  std::string result = text;
  if (below(random, 4) == 0)
    result = replaced(result, "=======\n", one_of(random, {"======\n", "=========\n"}));
  if (below(random, 2) == 0)
    result =
        replaced(result, ">>>>>>> REPLACE", one_of(random, {"+++++++ REPLACE", ">>>>>>> replace"}));
  return replaced(
      result, "<<<<<<< SEARCH",
      one_of(random, {"------- SEARCH", "<<<<<<< SEARCH>", "<<<<<<< SEARCH train.cpp",
                      "<<<<<< SEARCH", "<<<<<<<SEARCH", "<<<<<<< SEARCH\n:start_line:9\n-------"}));
}

std::string quoted_blocks(const std::string& text, Random& random) {
  const size_t begin = text.find("<<<<<<<"), end = text.rfind("NEXT");
  return text.substr(0, begin) +
         each_line(text.substr(begin, end - begin), one_of(random, {"> ", "    ", "> > "}), "") +
         text.substr(end);
}

std::string escaped_markers(const std::string& text, Random& random) {
  if (below(random, 2) == 0) return replaced(text, "\n<<<<<<<", "\n\\<<<<<<<");
  return replaced(replaced(text, "<<<<<<<", "&lt;&lt;&lt;&lt;&lt;&lt;&lt;"), ">>>>>>>",
                  "&gt;&gt;&gt;&gt;&gt;&gt;&gt;");
}

std::string from_a_terminal(const std::string& text, Random& random) {
  switch (below(random, 4)) {
    case 0:
      return each_line(text, "\x1b[32m", "\x1b[0m");
    case 1:
      return "\xe2\xa0\x8b thinking\r\x1b[2K\xe2\xa0\x99 thinking\r\x1b[2K" + text;
    case 2:
      return "\x1b]0;assistant\x07" + text + "\ntokens used\n1,234\n";
    default:
      return replaced(text, "\n", one_of(random, {"\r", "\xe2\x80\xa8"}));
  }
}

std::string prose_like_code(const std::string& text, Random& random) {
  const std::string line = one_of(random, {"for instance {0.8, 0.95}, {0.9, 0.99}",
                                           "The rest stays as it is;", "Thanks! {smile}"});
  return below(random, 2) ? text + line + "\n" : replaced(text, "WHY:", "WHY: so,\n" + line);
}

// A draft of the same block, which must not be run, before the reply.
std::string after_a_draft(std::vector<BlockOfLines> blocks, size_t block, Random& random) {
  const std::string reply = text_of(blocks);
  blocks[block].replace.insert(blocks[block].replace.begin() + 1, "  rejected(draft);");
  const std::string draft = replaced(text_of({blocks[block]}), "one change", "a draft");
  switch (below(random, 4)) {
    case 0:
      return "[THINK]\n" + draft + "Too much.\n[/THINK]\n" + reply;
    case 1:
      return "analysis" + draft + "Too much.<|end|>assistant<|channel|>final<|message|>" + reply;
    case 2:
      return draft + "\nWait, that is too much. Corrected reply:\n\n" + reply;
    default:
      return draft + "\n" + reply;  // nobody can know: it is asked for
  }
}

void signed_lines(BlockOfLines& block, Random&) {
  for (std::string& line : block.search) line.insert(0, "-");
  for (std::string& line : block.replace) line.insert(0, "+");
}

// The lines that change and no others, as a strong model sends them.
void least_context(BlockOfLines& block, Random&) {
  const auto drop = [&](bool at_end) {
    const auto line = [&](Lines& lines) { return at_end ? lines.end() - 1 : lines.begin(); };
    block.search.erase(line(block.search));
    block.replace.erase(line(block.replace));
  };
  while (block.search.size() > 1 && !block.replace.empty() &&
         block.search.front() == block.replace.front())
    drop(false);
  while (block.search.size() > 1 && !block.replace.empty() &&
         block.search.back() == block.replace.back())
    drop(true);
}

const std::vector<std::pair<std::string, Spoil>>& errors() {
  static const std::vector<std::pair<std::string, Spoil>> all = {
      {"stale context", in_lines(stale_context)},
      {"wrong indentation", in_each_line([](const std::string& line, Random& random) {
         return std::string(below(random, 9), ' ') + trim(line);
       })},
      {"dropped lines", in_lines(dropped_lines)},
      {"trailing blanks", in_each_line([](const std::string& line, Random& random) {
         return line + std::string(below(random, 4), ' ');
       })},
      {"elided middle", in_lines(elided_middle)},
      {"doubled block",
       [](std::vector<BlockOfLines> blocks, size_t block, Random&) {
         blocks.push_back(blocks[block]);
         return text_of(blocks);
       }},
      {"code fence inside", in_text(fenced_inside)},
      {"CRLF",
       in_text([](const std::string& text, Random&) { return replaced(text, "\n", "\r\n"); })},
      {"tabs",
       in_each_line([](const std::string& line, Random&) { return replaced(line, "  ", "\t"); })},
      {"typographic characters",
       in_each_line([](const std::string& line, Random&) { return typographic(line); })},
      {"HTML entities",
       in_each_line([](const std::string& line, Random&) { return with_entities(line); })},
      {"line numbers", in_lines([](BlockOfLines& block, Random& random) {
         size_t number = 1 + below(random, 600);
         for (Lines* lines : {&block.search, &block.replace}) {
           size_t n = number;
           for (std::string& line : *lines) line = std::to_string(n++) + ": " + line;
         }
       })},
      {"missing markers", in_text(without_markers)},
      {"cut off", in_text([](const std::string& text, Random& random) {
         const size_t begin = text.find("<<<<<<<"), end = text.rfind(">>>>>>>") + 14;
         return text.substr(0, begin + below(random, end - begin));
       })},
      {"other comments", in_each_line([](const std::string& line, Random&) {
         const size_t at = line.find("//");
         return at == std::string::npos ? line : line.substr(0, at) + "// as it was";
       })},
      {"lines joined", in_lines(joined_lines)},
      {"invented line", in_lines([](BlockOfLines& block, Random& random) {
         block.search.insert(
             block.search.begin() + static_cast<ptrdiff_t>(below(random, block.search.size())),
             "  const int64_t heads = config.heads;");
       })},
      {"lines swapped", in_lines([](BlockOfLines& block, Random& random) {
         const size_t at = below(random, block.search.size() - 1);
         std::swap(block.search[at], block.search[at + 1]);
       })},
      {"misspelt name", in_lines([](BlockOfLines& block, Random& random) {
         std::string& line = block.search[below(random, block.search.size())];
         for (size_t i = 1; i < line.size(); ++i)
           if (std::isalpha(static_cast<unsigned char>(line[i])) &&
               std::isalpha(static_cast<unsigned char>(line[i - 1]))) {
             line.erase(i, 1);
             return;
           }
       })},
      {"other label", in_text(other_label)},
      {"other markers", in_text(other_markers)},
      {"quoted or indented", in_text(quoted_blocks)},
      {"escaped markers", in_text(escaped_markers)},
      {"from a terminal", in_text(from_a_terminal)},
      {"prose like code", in_text(prose_like_code)},
      {"after a draft", after_a_draft},
      {"signs of a diff", in_lines(signed_lines)},
      {"no-break blanks", in_each_line([](const std::string& line, Random&) {
         return replaced(line, " ", "\xc2\xa0");
       })},
      {"full-width characters", in_each_line([](const std::string& line, Random&) {
         return replaced(replaced(line, ";", "\xef\xbc\x9b"), ", ", "\xef\xbc\x8c");
       })},
      {"least context", in_lines(least_context)}};
  return all;
}

// ------------------------------------------------------------------------------------------------
// A model that answers feedback with the real lines it was shown

// The passages of real lines in a feedback, by the number of the block that they are shown for.
std::map<size_t, std::vector<Lines>> passages_of(const std::string& feedback) {
  std::map<size_t, std::vector<Lines>> passages;
  size_t block = 0;
  bool inside = false;
  for (const std::string& line : split_lines(feedback)) {
    if (line.starts_with("```")) {
      inside = !inside;
      if (inside) passages[block].emplace_back();
    } else if (inside) {
      passages[block].back().push_back(line);
    } else if (line.starts_with("Block ")) {
      block = std::stoul(line.substr(6));
    }
  }
  return passages;
}

// The block again, with `passage` as SEARCH; false where the passage lacks what was to change.
bool copy_lines(const Lines& passage, const BlockOfLines& meant, BlockOfLines& copied) {
  const auto at =
      std::search(passage.begin(), passage.end(), meant.search.begin(), meant.search.end());
  if (at == passage.end()) return false;
  copied = {passage, {passage.begin(), at}};
  copied.replace.insert(copied.replace.end(), meant.replace.begin(), meant.replace.end());
  copied.replace.insert(copied.replace.end(), at + static_cast<ptrdiff_t>(meant.search.size()),
                        passage.end());
  return true;
}

constexpr double kLeastAtOnce = 60;  // percent of spoilt edits, or the dialects have got lost

enum Outcome { kAtOnce, kLines, kRule, kLost, kWrong, kOutcomes };

Outcome outcome_of(const std::string& source, const Edit& edit, const std::string& spoilt) {
  std::string result, feedback;
  const auto right = [&] { return code_tokens(result) == code_tokens(edit.intended); };
  if (applies(source, spoilt, result, feedback)) return right() ? kAtOnce : kWrong;
  std::vector<BlockOfLines> second = edit.blocks;
  const bool told_format = feedback.find("exactly this format") != std::string::npos;
  const auto shown = told_format ? decltype(passages_of("")){} : passages_of(feedback);
  for (const auto& [number, passages] : shown) {
    if (number == 0 || number > second.size()) continue;
    bool copied = false;
    for (const Lines& passage : passages)
      copied = copied || copy_lines(passage, edit.blocks[number - 1], second[number - 1]);
    if (!copied) return kLost;
  }
  if (!applies(source, text_of(second), result, feedback)) return kLost;
  return !right() ? kWrong : shown.empty() ? kRule : kLines;
}

void print_row(const std::string& name, const std::array<int, kOutcomes>& counts) {
  int all = 0;
  for (const int count : counts) all += count;
  std::printf("%-24s %6d %8d %6d %6d %6d %6d\n", name.c_str(), all, counts[kAtOnce], counts[kLines],
              counts[kRule], counts[kLost], counts[kWrong]);
}

int main_program(int edits, unsigned seed) {
  const std::string source = read_file(SOURCE_DIR "/train.cpp");
  const Lines lines = split_lines(source);
  Random random(seed);
  std::map<std::string, std::array<int, kOutcomes>> by_error;
  std::array<int, kOutcomes> total{};
  for (int i = 0; i < edits; ++i) {  // errors in turn, so that each gets as many edits
    const Edit edit = random_edit(lines, random);
    const auto& [name, spoil] = errors()[static_cast<size_t>(i) % errors().size()];
    const std::string spoilt = spoil(edit.blocks, below(random, edit.blocks.size()), random);
    const Outcome outcome = outcome_of(source, edit, spoilt);
    ++by_error[name][outcome];
    ++total[outcome];
    if (outcome == kWrong)
      std::printf("wrong, edit %d (%s):\n%s\n", i, name.c_str(), spoilt.c_str());
  }
  std::printf("%-24s %6s %8s %6s %6s %6s %6s\n", "error", "edits", "at once", "lines", "rule",
              "lost", "wrong");
  for (const auto& [name, spoil] : errors()) print_row(name, by_error[name]);
  print_row("all", total);
  const auto share = [&](int count) { return 100.0 * count / edits; };
  std::printf("---\napplied at once:                 %5.1f %%\n", share(total[kAtOnce]));
  std::printf("recovered by one round, lines:   %5.1f %%\n", share(total[kLines]));
  std::printf("recovered by one round, rule:    %5.1f %%\n", share(total[kRule]));
  std::printf("not recovered by one round:      %5.1f %%\n", share(total[kLost]));
  std::printf("wrong applications:              %5d\n", total[kWrong]);
  const bool enough = share(total[kAtOnce]) >= kLeastAtOnce;
  if (!enough) std::printf("fewer than %.0f %% were applied at once\n", kLeastAtOnce);
  return total[kWrong] == 0 && enough ? 0 : 1;
}

}  // namespace
}  // namespace autoresearch

int main(int argc, char** argv) {
  return autoresearch::main_program(argc > 1 ? std::atoi(argv[1]) : 1000,
                                    argc > 2 ? static_cast<unsigned>(std::atoi(argv[2])) : 1);
}
