// Replies as models, assistants and servers really give them: one edit of the real train.cpp in
// many dresses. Each prints a line with what is expected and what is seen.
//
//   build/tests/replies_test [FILE...]    also says what becomes of the replies in those files
#include <gtest/gtest.h>

#include <cstdio>
#include <functional>
#include <nlohmann/json.hpp>

#include "agent/edit/cpp_tokens.h"
#include "agent/edit/doubts.h"
#include "agent/edit/edit.h"
#include "common/files.h"
#include "common/text.h"

namespace autoresearch {
namespace {

using Lines = std::vector<std::string>;

const std::string& train_cpp() {
  static const std::string text = read_file(SOURCE_DIR "/train.cpp");
  return text;
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  for (size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size())
    text.replace(at, from.size(), to);
  return text;
}

std::string joined(const Lines& lines, const std::string& before = "",
                   const std::string& after = "\n") {
  std::string text;
  for (const std::string& line : lines) text += before + line + after;
  return text;
}

// The edit that every reply means: the three lines around a constant, whose value changes.
struct Edit {
  Lines search, replace;
};

Edit edit_of(const std::string& name, const std::string& value) {
  const Lines lines = split_lines(train_cpp());
  for (size_t i = 1; i + 1 < lines.size(); ++i) {
    const size_t at = lines[i].find(name + " = ");
    if (at == std::string::npos || !lines[i].starts_with("constexpr double")) continue;
    const size_t begin = at + name.size() + 3, end = lines[i].find(';', begin);
    const std::string changed = lines[i].substr(0, begin) + value + lines[i].substr(end);
    return {{lines[i - 1], lines[i], lines[i + 1]}, {lines[i - 1], changed, lines[i + 1]}};
  }
  ADD_FAILURE() << "train.cpp has no " << name;
  return {};
}

const Edit kEdit = edit_of("kEmbeddingLr", "0.582");
const Edit kDraftEdit = edit_of("kEmbeddingLr", "0.3");
const Edit kOtherEdit = edit_of("kWarmdown", "0.7");
const std::string kSearch = "<<<<<<< SEARCH\n", kDivider = "=======\n",
                  kReplace = ">>>>>>> REPLACE\n";

std::string block(const Edit& edit = kEdit, const std::string& search = kSearch,
                  const std::string& divider = kDivider, const std::string& replace = kReplace) {
  return search + joined(edit.search) + divider + joined(edit.replace) + replace;
}

const std::string kIdea = "embeddings learn a little slower";
const std::string kHead = "IDEA: " + kIdea + "\nWHY: less noise late. Expect no change of speed.\n";
const std::string kGood = kHead + block() + "NEXT: the same for the head\n";
const std::string kDraft = "IDEA: embeddings at half the rate\n" + block(kDraftEdit);

struct Case {
  const char* name;
  std::string reply;
  std::string refusal = "";  // a part of the feedback; empty: the edit is applied
  std::string idea = kIdea;
};

std::string each_line(const std::string& text, const std::string& before,
                      const std::string& after = "") {
  return joined(split_lines(text), before, after + "\n");
}

Edit changed(const std::function<std::string(const std::string&)>& change) {
  Edit edit = kEdit;
  for (Lines* lines : {&edit.search, &edit.replace})
    for (std::string& line : *lines) line = change(line);
  return edit;
}

Edit swapped(const std::string& from, const std::string& to) {
  return changed([&](const std::string& line) { return replaced(line, from, to); });
}

std::string numbered(const std::string& separator, size_t first) {
  Edit edit = kEdit;
  for (Lines* lines : {&edit.search, &edit.replace})
    for (size_t i = 0; i < lines->size(); ++i)
      (*lines)[i] = std::to_string(first + i) + separator + (*lines)[i];
  return block(edit);
}

std::string signed_block(const std::string& context, const std::string& gone,
                         const std::string& added) {
  Edit edit = kEdit;
  for (const size_t i : {0, 2})
    for (Lines* lines : {&edit.search, &edit.replace}) (*lines)[i].insert(0, context);
  if (context.empty()) edit = kEdit;
  edit.search[1].insert(0, gone);
  edit.replace[1].insert(0, added);
  return block(edit);
}

std::vector<Case> labels() {
  const auto all = [](const std::string& idea, const std::string& why, const std::string& next) {
    return replaced(replaced(replaced(kGood, "IDEA: ", idea), "WHY: ", why), "NEXT: ", next);
  };
  return {
      {"control", kGood},
      {"full-width colon", replaced(kGood, ": ", "\uff1a")},
      {"ratio sign as colon", replaced(kGood, "IDEA:", "IDEA\u2236")},
      {"full-width letters", replaced(kGood, "IDEA:", "\uff29\uff24\uff25\uff21\uff1a")},
      {"title case", all("Idea: ", "Why: ", "Next: ")},
      {"small letters", all("idea: ", "why: ", "next: ")},
      {"byte order mark", "\ufeff" + kGood},
      {"zero-width space", replaced(kGood, "IDEA", "\u200bIDEA")},
      {"no-break space before the colon", replaced(kGood, "IDEA:", "IDEA\u00a0:")},
      {"numbered", all("1. IDEA: ", "2. WHY: ", "3. NEXT: ")},
      {"numbered in brackets", all("(1) Idea: ", "(2) Why: ", "(3) Next: ")},
      {"headings", all("## IDEA\n", "## WHY\n", "## NEXT\n")},
      {"headings with blank lines", all("### Idea\n\n", "### Why\n\n", "### Next\n\n")},
      {"bold on its own line", all("**IDEA:**\n", "**WHY:**\n", "**NEXT:**\n")},
      {"bold, colon outside", all("**Idea**: ", "**Why**: ", "**Next**: ")},
      {"backticks", all("`IDEA:` ", "`WHY:` ", "`NEXT:` ")},
      {"brackets", all("[IDEA]: ", "[WHY]: ", "[NEXT]: ")},
      {"list items", all("- IDEA: ", "- WHY: ", "- NEXT: ")},
      {"picture", replaced(kGood, "IDEA:", "\U0001f4a1 IDEA:")},
      {"picture with a variation selector", replaced(kGood, "IDEA:", "\u2699\ufe0f **Idea:**")},
      {"dash", all("IDEA - ", "WHY - ", "NEXT - ")},
      {"em dash", all("Idea \u2014 ", "Why \u2014 ", "Next \u2014 ")},
      {"idea with a number", replaced(kGood, "IDEA:", "IDEA #1:")},
      {"equals sign", all("IDEA = ", "WHY = ", "NEXT = ")},
      {"brackets without a colon", all("[IDEA] ", "[WHY] ", "[NEXT] ")},
      {"bold without a colon", all("**IDEA** ", "**WHY** ", "**NEXT** ")},
      {"tags of a page", all("<b>IDEA:</b> ", "<b>WHY:</b> ", "<b>NEXT:</b> ")},
      {"elements", replaced(kGood, "IDEA: " + kIdea, "<idea>" + kIdea + "</idea>")},
      {"underlined", all("IDEA\n====\n", "WHY\n---\n", "NEXT\n----\n")},
      {"underlined by seven", all("IDEA\n=======\n", "WHY\n=======\n", "NEXT\n=======\n")},
      {"arrow", all("IDEA -> ", "WHY -> ", "NEXT -> ")},
      {"picture behind", replaced(kGood, "IDEA:", "IDEA \U0001f4a1:")},
      {"brackets of another language",
       all("\u3010IDEA\u3011", "\u3010WHY\u3011", "\u3010NEXT\u3011")},
      {"brackets around", replaced(kGood, kIdea, kIdea + "[/IDEA]")},
      {"table", replaced(kGood, "IDEA: " + kIdea, "| IDEA | " + kIdea + " |")},
      {"comment of a page", replaced(kGood, "IDEA: " + kIdea, "<!-- IDEA: " + kIdea + " -->")},
      {"key of JSON", replaced(kGood, "IDEA: " + kIdea, "\"IDEA\": \"" + kIdea + "\",")},
      {"element with a label",
       replaced(kGood, "IDEA: " + kIdea, "<idea>IDEA: " + kIdea + "</idea>")},
      {"underlined by a box's line", replaced(kGood, "IDEA: ", "IDEA\n\u2500\u2500\u2500\n")},
      {"mathematical letters", replaced(kGood, "IDEA", "\U0001d408\U0001d403\U0001d404\U0001d400")},
      {"quotes of another language",
       all("\u00abIDEA:\u00bb ", "\u00abWHY\u00bb: ", "\u00abNEXT\u00bb ")},
      {"quotes around the text", replaced(kGood, kIdea, "\u00ab" + kIdea + "\u00bb")},
      {"brackets of another language around all",
       replaced(kGood, "IDEA: " + kIdea, "\u3010IDEA\uff1a" + kIdea + "\u3011")},
      {"commands of LaTeX", all("\\textbf{IDEA:} ", "\\textbf{WHY}: ", "\\item NEXT: ")},
      {"a command of LaTeX around all",
       replaced(kGood, "IDEA: " + kIdea, "\\textbf{\\textit{IDEA: " + kIdea + "}}")},
      {"a section of LaTeX", replaced(kGood, "IDEA: ", "\\section*{IDEA}\n")},
      {"words before it", replaced(kGood, "IDEA:", "My idea:")},
      {"such words below a label", kHead + "A good idea: it was tried elsewhere.\n" + block()},
      {"words and Markdown before it", replaced(kGood, "IDEA:", "**Here is the final idea:**")},
      {"words behind it", replaced(kGood, "IDEA:", "**Idea #2 (one line):**")},
      {"comment of code", all("// IDEA: ", "/* WHY: ", "# NEXT: ")},
      {"key of YAML", replaced(kGood, "IDEA: ", "idea: >-\n  ")},
      {"an arrow alone", all("IDEA \u2192 ", "WHY => ", "NEXT >> ")},
      {"a box", replaced(kGood, "IDEA: " + kIdea, "\u2502 IDEA: " + kIdea + " \u2502")},
      {"underlined, with a blank line", replaced(kGood, "IDEA: ", "Idea\n====\n\n")},
      {"Markdown around the text", replaced(kGood, kIdea, "**" + kIdea + "**")},
      {"a bullet behind it", replaced(kGood, kIdea, "1. " + kIdea)},
      {"pairs within the text", replaced(kGood, kIdea, "`kLr` down (0.6 to **0.5**)"), "",
       "`kLr` down (0.6 to **0.5**)"},
      {"idea behind the block", block() + kHead},
      {"no idea, but a sentence", kIdea + "\n\n" + block()},
      {"no idea at all", block(), "", "(no idea given)"},
      {"several ideas, one edit", "IDEA: wider\nIDEA: " + kIdea + "\n" + block()},
      {"preface", "Sure! Here is my reply.\n\n" + kGood + "\nGood luck!\n"}};
}

std::vector<Case> prose() {
  return {
      {"next ends in a brace",
       kHead + block() + "NEXT: other betas for the head,\nfor instance {0.8, 0.95}, {0.9}\n"},
      {"why ends in a semicolon",
       "IDEA: " + kIdea + "\nWHY: the rate is set in one place,\nconstexpr double kRate;\n" +
           block()},
      {"the rest stays", kHead + "The rest stays as it is;\n\n" + block()},
      {"two lines of prose",
       kHead + "First we set the rate;\nthen we look at the loss;\n" + block()},
      {"the rest stays, behind the block", kHead + block() + "The rest stays as it is;\n"},
      {"quotes the new line within the fence",
       kHead + "```\n" + block() + "> " + kEdit.replace[1] + "\n```\n"},
      {"a quoted block that lost its markers",
       kHead + each_line(block() + joined(kOtherEdit.search) + joined(kOtherEdit.replace), "> "),
       "outside of a block"},
      {"quotes the old line", kHead + "The line is `" + kEdit.search[1] + "`\n" + block()},
      {"sign-off", kGood + "\nLet me know how it goes! {smile}\n"},
      {"a line of the file outside of blocks", kHead + kOtherEdit.search[1] + "\n\n" + block(),
       "stands outside of a block"},
      {"a block that lost its markers",
       kHead + joined(kOtherEdit.search) + joined(kOtherEdit.replace) + "\n" + block(),
       "outside of a block"},
      {"shows what was there and what will be", kHead + "Before:\n```cpp\n" + joined(kEdit.search) +
                                                    "```\nAfter:\n```cpp\n" +
                                                    joined(kEdit.replace) + "```\n" + block()},
      {"shows the change as a diff", kHead + "```diff\n@@ -57 +57 @@\n-" + kEdit.search[1] + "\n+" +
                                         kEdit.replace[1] + "\n```\n" + block()},
      {"a hunk of another change", kHead + block() + "```diff\n@@ -1 +1 @@\n+int kNew;\n```\n",
       "outside of a block"},
      {"a new version of a line",
       kHead + block() + "And this line:\n" + kOtherEdit.replace[1] + "\n", "outside of a block"},
      {"values behind next", kHead + block() + "NEXT: kA = 0.3;\nkB = 0.4;\n"},
      {"new code between blocks", kHead + "int helper() {\n  return 3;\n}\n\n" + block(),
       "outside of a block"},
      {"new code behind a block", kHead + block() + "constexpr int kNew = 3;\n",
       "outside of a block"}};
}

std::vector<Case> markers() {
  const std::string new_lines = joined(kEdit.replace), old_lines = joined(kEdit.search);
  return {
      {"dashes and plus signs",
       kHead + block(kEdit, "------- SEARCH\n", kDivider, "+++++++ REPLACE\n")},
      {"two styles in one block", kHead + block(kEdit, "------- SEARCH\n")},
      {"SEARCH>", kHead + block(kEdit, "<<<<<<< SEARCH>\n")},
      {"file name behind SEARCH", kHead + block(kEdit, "<<<<<<< SEARCH train.cpp\n")},
      {"file name before SEARCH", kHead + block(kEdit, "<<<<<<< train.cpp SEARCH\n")},
      {"lines' numbers behind SEARCH", kHead + block(kEdit, "<<<<<<< SEARCH (lines 57-59)\n")},
      {"words and numbers behind SEARCH",
       kHead + block(kEdit, "<<<<<<< SEARCH (train.cpp, around line 57)\n", kDivider,
                     ">>>>>>> REPLACE `train.cpp` #57\n")},
      {"code behind SEARCH", kHead + block(kEdit, "<<<<<<< SEARCH " + kEdit.search[0] + "\n"),
       "marker without a block"},
      {"a bold word", kHead + block(kEdit, "<<<<<<< **SEARCH**\n")},
      {"a comment behind SEARCH", kHead + block(kEdit, "<<<<<<< SEARCH // train.cpp:57\n")},
      {"a page's comment behind SEARCH", kHead + block(kEdit, "<<<<<<< SEARCH <!-- here -->\n")},
      {"the end of a turn behind REPLACE", trim(kHead + block()) + "<|END_OF_TURN_TOKEN|>"},
      {"a page's tags behind REPLACE", trim(kHead + block()) + "</code></pre>"},
      {"a fence before SEARCH", kHead + "```" + trim(block()) + "```\n"},
      {"quoted without blanks", kHead + each_line(block(), ">")},
      {"an underscore before the word",
       kHead + block(kEdit, "<<<<<<<_SEARCH\n", kDivider, ">>>>>>>_REPLACE\n")},
      {"twenty characters", kHead + block(kEdit, std::string(20, '<') + " SEARCH\n", kDivider,
                                          std::string(20, '>') + " REPLACE\n")},
      {"three characters", kHead + block(kEdit, "<<< SEARCH\n", "===\n", ">>> REPLACE\n")},
      {"a dash before the word",
       kHead + block(kEdit, "<<<<<<<-SEARCH\n", kDivider, ">>>>>>>-REPLACE\n")},
      {"REPLACE END", kHead + block(kEdit, kSearch, kDivider, ">>>>>>> REPLACE END\n")},
      {"signs apart", kHead + block(kEdit, "< < < < < < < SEARCH\n", "= = = = = = =\n",
                                    "> > > > > > > REPLACE\n")},
      {"arrows of quotes", kHead + block(kEdit, replaced(kSearch, "<", "\u2039"), kDivider,
                                         replaced(kReplace, ">", "\u203a"))},
      {"a heading's signs before the first marker", kHead + "### " + block()},
      {"a comment's signs before all lines", kHead + each_line(block(), "// ")},
      {"a bar before all lines", kHead + each_line(block(), "\u2502 ")},
      {"a comment's signs before markers only",
       kHead + block(kEdit, "# " + kSearch, "# " + kDivider, "# " + kReplace)},
      {"a double line divides", kHead + block(kEdit, kSearch, replaced(kDivider, "=", "\u2550"))},
      {"a line of a box divides", kHead + block(kEdit, kSearch, replaced(kDivider, "=", "\u2500"))},
      {"dashes divide, below a start line",
       kHead + block(kEdit, kSearch + ":start_line:57\n-------\n", "-------\n")},
      {"two rules divide", kHead + block(kEdit, kSearch, "-------\n" + kDivider),
       "should close this part"},
      {"quoted within a fence", kHead + "```\n" + each_line(block(), "> ") + "```\n"},
      {"bold markers",
       kHead + block(kEdit, "**<<<<<<< SEARCH**\n", "**=======**\n", "**>>>>>>> REPLACE**\n")},
      {"slanted markers",
       kHead + block(kEdit, "_<<<<<<< SEARCH_\n", "_=======_\n", "_>>>>>>> REPLACE_\n")},
      {"backticks around markers",
       kHead + block(kEdit, "`<<<<<<< SEARCH`\n", "`=======`\n", "`>>>>>>> REPLACE`\n")},
      {"full-width markers", kHead + block(kEdit, replaced("<<<<<<< SEARCH\n", "<", "\uff1c"),
                                           replaced("=======\n", "=", "\uff1d"),
                                           replaced(">>>>>>> REPLACE\n", ">", "\uff1e"))},
      {"file name above", kHead + "train.cpp\n```cpp\n" + block() + "```\n"},
      {"six characters", kHead + block(kEdit, "<<<<<< SEARCH\n", "======\n", ">>>>>> REPLACE\n")},
      {"nine characters",
       kHead + block(kEdit, "<<<<<<<<< SEARCH\n", "=========\n", ">>>>>>>>> REPLACE\n")},
      {"small letters", kHead + block(kEdit, "<<<<<<< search\n", kDivider, ">>>>>>> replace\n")},
      {"no blank", kHead + block(kEdit, "<<<<<<<SEARCH\n", kDivider, ">>>>>>>REPLACE\n")},
      {"one divider too many",
       kHead + kSearch + old_lines + kDivider + new_lines + kDivider + kReplace,
       "should close this part"},
      {"original and updated",
       kHead + block(kEdit, "<<<<<<< ORIGINAL\n", kDivider, ">>>>>>> UPDATED\n"),
       "marker without a block"},
      {"conflict of git", kHead + block(kEdit, "<<<<<<< HEAD\n", kDivider, ">>>>>>> slower\n"),
       "marker without a block"},
      {"start line", kHead + block(kEdit, kSearch + ":start_line:57\n-------\n")},
      {"start and end line", kHead + block(kEdit, kSearch + ":start_line:57\n:end_line:59\n"
                                                            "-------\n")},
      {"backslashes before markers",
       kHead + block(kEdit, "\\<<<<<<< SEARCH\n", "\\=======\n", "\\>>>>>>> REPLACE\n"),
       "escaped marker"},
      {"a backslash before the divider", kHead + block(kEdit, kSearch, "\\=======\n"),
       "escaped marker"},
      {"quoted block", kHead + each_line(block(), "> ")},
      {"quoted reply", each_line(kGood, "> ")},
      {"quoted block, half", kHead + replaced(each_line(block(), "> "), "> =", "="), "cut off"},
      {"indented block", kHead + each_line(block(), "    ")},
      {"code behind a marker", kHead + block(kEdit, "<<<<<<< SEARCH " + kEdit.search[0] + "\n"),
       "nothing else on them"},
      {"four backticks around", kHead + "````diff\n" + block() + "````\n"},
      {"four backticks inside",
       kHead + block(kEdit, kSearch + "````cpp\n", "````\n" + kDivider + "````cpp\n",
                     "````\n" + kReplace)},
      {"tildes inside", kHead + block(kEdit, kSearch + "~~~cpp\n", "~~~\n" + kDivider + "~~~cpp\n",
                                      "~~~\n" + kReplace)},
      {"no final line break", trim(kHead + block())},
      {"block twice", kHead + block() + block()},
      {"one line, exact and unique",
       kHead + kSearch + kEdit.search[1] + "\n" + kDivider + kEdit.replace[1] + "\n" + kReplace},
      {"two lines, exact and unique",
       kHead + block({{kEdit.search[1], kEdit.search[2]}, {kEdit.replace[1], kEdit.replace[2]}})},
      {"one line, spaced otherwise",
       kHead + kSearch + replaced(kEdit.search[1], " = ", "=") + "\n" + kDivider +
           kEdit.replace[1] + "\n" + kReplace,
       "not in the file"}};
}

std::string json_of(const nlohmann::json& document) { return document.dump(); }

nlohmann::json pair_of(const Edit& edit) {
  return {{"old_string", trim(joined(edit.search))}, {"new_string", trim(joined(edit.replace))}};
}

nlohmann::json rejected(nlohmann::json edit) {
  edit["status"] = "rejected";
  return edit;
}

std::vector<Case> notations() {
  const std::string hunk = " " + kEdit.search[0] + "\n-" + kEdit.search[1] + "\n+" +
                           kEdit.replace[1] + "\n " + kEdit.search[2] + "\n";
  return {
      {"unified diff",
       kHead + "```diff\n--- a/train.cpp\n+++ b/train.cpp\n@@ -56,3 +56,3 @@\n" + hunk + "```\n",
       "diff or a patch"},
      {"patch",
       kHead + "*** Begin Patch\n*** Update File: train.cpp\n@@\n" + hunk + "*** End Patch\n",
       "diff or a patch"},
      {"JSON", "{\"idea\": \"slower\", \"edit\": \"...\"}\n", "JSON"},
      {"one string of JSON",
       "\"" + replaced(replaced(replaced(kGood, "\\", "\\\\"), "\"", "\\\""), "\n", "\\n") + "\""},
      {"such a string in other quotes",
       "'" + replaced(replaced(replaced(kGood, "\\", "\\\\"), "\"", "\\\""), "\n", "\\n") + "'"},
      {"lists of lines",
       json_of({{"idea", kIdea}, {"search", kEdit.search}, {"replace", kEdit.replace}})},
      {"a diff without hunks", kHead + "--- train.cpp\n+++ train.cpp\n" + hunk, "diff or a patch"},
      {"a document of JSON with the reply in it", json_of({{"type", "result"}, {"result", kGood}})},
      {"such a document in a fence", "```json\n" + json_of({{"reply", kGood}}) + "\n```\n"},
      {"a document with thoughts", json_of({{"reasoning", kDraft}, {"content", kGood}})},
      {"a document with the question", json_of({{"prompt", kDraft}, {"completion", kGood}})},
      {"a document whose key is the title", json_of({{"idea", kIdea}, {"edit", block()}})},
      {"lines of JSON behind a banner",
       "Loaded.\n" + json_of({{"type", "thinking"}, {"text", kDraft}}) + "\n" +
           json_of({{"type", "result"}, {"result", kGood}}) + "\n"},
      {"a document of a text to find and a new one",
       json_of({{"idea", kIdea}, {"edit", pair_of(kEdit)}})},
      {"such a document in a fence below a title",
       kHead + "```json\n" + nlohmann::json(pair_of(kEdit)).dump(2) + "\n```\n"},
      {"the arguments of a tool for edits",
       "<tool_call>\n" + json_of({{"arguments", pair_of(kEdit)}}) + "\n</tool_call>\n", "",
       "(no idea given)"},
      {"the same block twice in a list", json_of({{"idea", kIdea}, {"edits", {block(), block()}}})},
      {"a list of two drafts", json_of({{"idea", kIdea}, {"edits", {block(kDraftEdit), block()}}}),
       "Block"},
      {"alternatives", json_of({{"idea", kIdea}, {"options", {block(kOtherEdit), block()}}}),
       "JSON"},
      {"samples", json_of({{"idea", kIdea}, {"choices", {block(kOtherEdit), block()}}}), "JSON"},
      {"candidates",
       json_of({{"idea", kIdea}, {"candidates", {pair_of(kOtherEdit), pair_of(kEdit)}}}), "JSON"},
      {"versions", json_of({{"idea", kIdea}, {"v1", pair_of(kOtherEdit)}, {"v2", pair_of(kEdit)}}),
       "JSON"},
      {"an edit that says it was rejected",
       json_of({{"idea", kIdea}, {"edits", {rejected(pair_of(kOtherEdit)), pair_of(kEdit)}}})},
      {"messages",
       json_of({{"idea", kIdea},
                {"messages",
                 {{{"role", "assistant"}, {"content", block(kOtherEdit)}},
                  {{"role", "assistant"}, {"content", block()}}}}}),
       "JSON"},
      {"a document with two edits", json_of({{"first", kDraft}, {"second", kGood}}), "JSON"},
      {"tool call", "<tool_call>\n{\"name\": \"edit\"}\n</tool_call>\n", "calls a tool"},
      {"signs of a diff on all lines",
       kHead + block({split_lines(each_line(joined(kEdit.search), "-")),
                      split_lines(each_line(joined(kEdit.replace), "+"))})},
      {"signs of a diff and context", kHead + signed_block(" ", "-", "+")},
      {"signs of a diff on what changes", kHead + signed_block("", "-", "+"), "not in the file"},
      {"line numbers, colon", kHead + numbered(": ", 57)},
      {"line numbers, bar", kHead + numbered(" | ", 9)},
      {"line numbers, tab", kHead + numbered("\t", 98)}};
}

std::vector<Case> characters() {
  return {{"entities in the markers of a reply without < and >",
           kHead + block(kEdit, "&lt;&lt;&lt;&lt;&lt;&lt;&lt; SEARCH\n", kDivider,
                         "&gt;&gt;&gt;&gt;&gt;&gt;&gt; REPLACE\n")},
          {"entities in the markers beside < and >",
           kHead + "It is < 1.\n" +
               block(kEdit, "&lt;&lt;&lt;&lt;&lt;&lt;&lt; SEARCH\n", kDivider,
                     "&gt;&gt;&gt;&gt;&gt;&gt;&gt; REPLACE\n"),
           "escaped marker"},
          {"a page with entities",
           "<!DOCTYPE html>\n<p>" + kHead + "</p><pre class=\"x\"><code>\n" +
               replaced(replaced(block(), "<", "&lt;"), ">", "&gt;") + "</code></pre>\n"},
          {"entities by number", kHead + block(kEdit, replaced(kSearch, "<", "&#60;"), kDivider,
                                               replaced(kReplace, ">", "&#x3E;"))},
          {"entities, escaped twice", kHead + block(kEdit, replaced(kSearch, "<", "&amp;lt;"),
                                                    kDivider, replaced(kReplace, ">", "&amp;gt;"))},
          {"markers as in an address",
           kHead + block(kEdit, replaced(kSearch, "<", "%3C"), kDivider,
                         replaced(kReplace, ">", "%3E")),
           "escaped marker"},
          {"markers as in a string of JSON",
           kHead + block(kEdit, replaced(kSearch, "<", "\\u003c"), kDivider,
                         replaced(kReplace, ">", "\\u003e")),
           "escaped marker"},
          {"markers as in a mail",
           kHead + block(kEdit, replaced(kSearch, "<", "=3C"), replaced(kDivider, "=", "=3D"),
                         replaced(kReplace, ">", "=3E")),
           "escaped marker"},
          {"only one marker escaped", kHead + block(kEdit, kSearch, "%3D%3D%3D%3D%3D%3D%3D\n"),
           "escaped marker"},
          {"markers by octal numbers",
           kHead + block(kEdit, replaced(kSearch, "<", "\\074"), kDivider,
                         replaced(kReplace, ">", "\\076")),
           "escaped marker"},
          {"no-break spaces in code", kHead + block(swapped("  //", "\u00a0\u00a0//"))},
          {"no-break spaces everywhere", kHead + block(swapped(" ", "\u00a0"))},
          {"full-width semicolons", kHead + block(swapped(";", "\uff1b"))},
          {"zero-width spaces in code", kHead + block(swapped(" = ", " \u200b= "))},
          {"minus sign in a comment",
           kHead + block({kEdit.search,
                          split_lines(replaced(joined(kEdit.replace), "//", "// \u2212 3 %:"))})},
          {"line separators", replaced(kGood, "\n", "\u2028")},
          {"carriage returns alone", replaced(kGood, "\n", "\r")},
          {"CR LF", replaced(kGood, "\n", "\r\n")},
          {"NUL inside", replaced(kGood, "less noise", std::string("less\0noise", 10))},
          {"two blanks behind each line", each_line(kGood, "", "  ")}};
}

std::vector<Case> terminals() {
  return {{"colours", each_line(kGood, "\x1b[32m", "\x1b[0m")},
          {"colours in 8 bits", each_line(kGood, "\u009b32m", "\u009b0m")},
          {"character sets", each_line(kGood, "\x1b(B\x1b[m")},
          {"spinner", "\u280b thinking\r\u2819 thinking\r\x1b[2K" + kGood},
          {"spinner on the idea's line", "thinking ...\r" + kGood},
          {"spinner of backspaces", "|\b/\b-\b\\\b" + kGood},
          {"banner",
           "Loaded cached credentials.\nworkdir: /tmp\n--------\n" + kGood + "\ntokens used\n9\n"},
          {"banner of equals signs", std::string(40, '=') + "\n" + kGood},
          {"window title", "\x1b]0;assistant: working\x07" + kGood},
          {"window title, ended by ST", "\x1b]0;assistant: working\x1b\\" + kGood},
          {"hyperlink", replaced(kGood, kIdea, "\x1b]8;;http://x\x07" + kIdea + "\x1b]8;;\x07")}};
}

std::vector<Case> no_edits() {
  return {{"limit reached", "You've hit your session limit. It resets at 5am (UTC).\n", "no IDEA"},
          {"not logged in", "Invalid API key. Please run the login command.\n", "no IDEA"},
          {"asks for leave", "I need permission to edit train.cpp. Shall I go on?\n", "no IDEA"},
          {"did it itself", "Done. I changed kEmbeddingLr from 0.6 to 0.582.\n", "no IDEA"},
          {"refuses", "I'm sorry, but I can't help with that.\n", "no IDEA"}};
}

std::vector<Case> drafts() {
  const std::string harmony = "Too much.<|end|><|start|>assistant<|channel|>final<|message|>";
  const std::string elsewhere = "IDEA: a longer decay\n" + block(kOtherEdit);
  const std::string format = "IDEA: one line, at most 100 characters\n" + kSearch +
                             "whole lines\n" + kDivider + "new lines\n" + kReplace;
  const std::string which = "Send only that one";
  return {
      {"thoughts in square brackets",
       "[THINK]\nPerhaps\n" + kDraft + "Too much.\n[/THINK]\n" + kGood},
      {"thoughts whose draft is elsewhere and has a next",
       "<seed:think>\nFirst:\n" + elsewhere + "NEXT: x\nNot good.\n</seed:think>\n" + kGood},
      {"thoughts, the opening tag is missing", kDraft + "Too much.\n</reflection>\n" + kGood},
      {"channels", "<|channel|>analysis<|message|>Perhaps\n" + kDraft + harmony + kGood},
      {"channels, draft with a next",
       "analysis\n" + kDraft + "NEXT: more<|end|><|channel|>final<|message|>" + kGood},
      {"channels, the draft is elsewhere",
       "<|channel|>analysis<|message|>" + elsewhere + harmony + kGood},
      {"channels without brackets",
       "analysisPerhaps\n" + kDraft + "Too much.assistantfinal" + kGood},
      {"thoughts that never end", "<seed:think>\nPerhaps\n" + kGood, which},
      {"channels, no final one", "<|channel|>analysis<|message|>Perhaps\n" + kGood, which},
      {"channels without brackets, no final one", "analysisPerhaps\n" + kGood, which},
      {"an analysis that is none", "Analysis: the rate is too high.\n\n" + kGood},
      {"channels, the draft has a channel's name",
       "<|start|>assistant<|channel|>analysis<|message|>" + elsewhere +
           "<|end|>\n<|start|>assistant<|channel|>final <|constrain|>text<|message|>" + kGood +
           "<|return|>"},
      {"marks of Gemma", "<|channel>thought\n" + elsewhere + "<channel|>" + kGood},
      {"an element that nobody knows", "<plan>\n" + elsewhere + "</plan>\n" + kGood},
      {"words before the last label", kDraft + "Final idea:\n" + kGood},
      {"thoughts that end are no reply", "<think>\n" + kGood + "</think>\n", "no IDEA"},
      {"a tag that is spoken of", replaced(kGood, "less noise", "the `</think>` tag; less noise")},
      {"headings", "**Reasoning**\n\n" + kDraft + "\n**Final answer**\n\n" + kGood},
      {"corrected", kDraft + "Wait, that is too much. Corrected reply:\n" + kGood},
      {"the format is repeated",
       "The reply must look like this:\n" + format + "\nMy reply:\n" + kGood},
      {"the format is repeated without a word", format + "\n" + kGood},
      {"the same reply twice", kGood + "\n" + kGood},
      {"two ideas", kGood + "\nIDEA: a longer decay\nWHY: as well\n" + block(kOtherEdit)},
      {"no word between two versions", kDraft + kGood, which},
      {"doubt between two edits elsewhere", elsewhere + "Hmm, that was tried.\n" + kGood, which},
      {"doubt within a list's next", elsewhere + "NEXT: x\nNo, that was tried.\n" + kGood, which},
      {"doubt behind the last",
       kDraft + "Final answer:\n" + kGood + "On reflection, the first one is better.\n", which},
      {"the only one is taken back", kDraft + "Wait, no: do not run this one.\n", which},
      {"two answers in tags",
       "<answer>\n" + kDraft + "</answer>\n<answer>\n" + kGood + "</answer>\n", which},
      {"a rejected title in a list", "IDEA: x (rejected)\n" + block(kOtherEdit) + kGood, which},
      {"a user's turn that the model wrote",
       kGood + "<|im_end|>\n<|im_start|>user\nWorse.<|im_end|>\n<|im_start|>assistant\n" +
           elsewhere},
      {"another template's", kGood + "<end_of_turn>\n<start_of_turn>user\nWorse.\n" + elsewhere},
      {"a prompt that is echoed", "<|im_start|>user\nEdit it.<|im_end|>\n" + kGood},
      {"a list below a word", "Perhaps\n" + elsewhere + "\n---\n" + kGood, which},
      {"a quoted draft", each_line(elsewhere, "> ") + "\n" + kGood, which},
      {"an alternative", kDraft + "Alternatively, as a final answer:\n" + kGood, which},
      {"a draft without a title", "Perhaps:\n" + block(kDraftEdit) + "Too much.\n" + kGood, which},
      {"two edits under one title", kHead + block(kOtherEdit) + "Wait, that was tried.\n" + block(),
       which},
      {"two versions under one title", kHead + block(kDraftEdit) + block(), "not meant"}};
}

TEST(Replies, ProseBetweenBlocksLeadsOnOrMakesThemDrafts) {
  const auto applied = [](const std::string& line) {
    return std::holds_alternative<Proposal>(
        parse_reply(kHead + block(kOtherEdit) + line + "\n" + block(), false, false));
  };
  for (const char* line : {"And in the schedule:", "Second block:", "**2. Embeddings**", "2)",
                           "In `Muon::step`:", "To keep the scale correct:", "The embeddings too:",
                           "Part 2", "Außerdem die Lernrate:", "Et le taux :", "同时修改学习率：",
                           "И скорость обучения:", "学習率も下げます："})
    EXPECT_TRUE(applied(line)) << line;
  for (const char* line : {"Alternatively:",
                           "Or:",
                           "Option 2:",
                           "**B:**",
                           "Take 2",
                           "v2",
                           "My pick:",
                           "Better:",
                           "Too risky. A smaller step:",
                           "Let me try again:",
                           "That does not compile.",
                           "Use only the next one:",
                           "Nein, das wurde schon probiert.",
                           "Non, plutôt ceci :",
                           "Espera, mejor así:",
                           "等等，这不对。",
                           "或：",
                           "いや、違う。",
                           "Нет, это уже пробовали.",
                           "아니, 다시:"})
    EXPECT_FALSE(applied(line)) << line;
}

TEST(Replies, ProseBehindAnEditMayTakeItBack) {
  const auto applied = [](const std::string& line) {
    return std::holds_alternative<Proposal>(
        parse_reply(kHead + block() + line + "\n", false, false));
  };
  for (const char* line :
       {"Nothing else changes.", "Waiting for the result.", "Sorry for the long wait.",
        "If it does not help, revert it.", "I did not run it.", "Wait for 300 steps at least.",
        "Ignore the warmup.", "No other line changes.", "Sonst ändert sich nichts."})
    EXPECT_TRUE(applied(line)) << line;
  for (const char* line :
       {"Scratch that.", "Hold on, this was tried in experiment 4.", "I take it back.",
        "Please ignore.", "Bitte ignorieren.", "Superseded.", "Revert this.", "Skip this edit.",
        "This was just a draft.", "Nope.", "Wait, the sign is wrong.", "(do not apply)",
        "Nicht ausführen!", "不要运行这个。", "Не применять.", "No lo apliques.",
        "これは使わないでください。"})
    EXPECT_FALSE(applied(line)) << line;
}

std::vector<Case> descriptions() {
  const auto with = [](const std::string& idea) { return replaced(kGood, kIdea, idea); };
  std::string umlauts, half;
  for (int i = 0; i < 150; ++i) umlauts += "\u00e4";
  for (int i = 0; i < 100; ++i) half += "\u00e4";
  return {{"tab", with("embeddings\tlearn \"slower\", 3 % | x"), "",
           "embeddings learn \"slower\", 3 % | x"},
          {"formula", with("=1+1 slower"), "", "'=1+1 slower"},
          {"formula of another sign", with("@SUM(A1) slower"), "", "'@SUM(A1) slower"},
          {"formula behind an invisible character", with("\u200b=1+1"), "", "'=1+1"},
          {"formula, full-width", with("\uff1d1+1"), "", "'\uff1d1+1"},
          {"right-to-left override", with("slo\u202eewer\u2066"), "", "sloewer"},
          {"C1 controls", with("slow\u009b31mer \u0090x\u009c\u0085end"), "", "slower"},
          {"tag characters", with("slower\U000e0041\U000e0042"), "", "slower"},
          {"HTML, which is the report's to escape", with("<img src=x onerror=alert(1)> slower"), "",
           "<img src=x onerror=alert(1)> slower"},
          {"600 characters", with(umlauts), "", half}};
}

// What becomes of a reply: the idea under which it is applied, or the feedback's first line.
struct Seen {
  bool applied = false;
  std::string words, source;
};

Seen seen_of(const std::string& reply) {
  const auto parsed = parse_reply(reply, false, false);
  if (const auto* feedback = std::get_if<Feedback>(&parsed)) return {false, feedback->text, ""};
  const auto& proposal = std::get<Proposal>(parsed);
  const auto result = apply_proposal(train_cpp(), proposal);
  if (const auto* feedback = std::get_if<Feedback>(&result)) return {false, feedback->text, ""};
  return {true, proposal.idea, std::get<std::string>(result)};
}

void expect_as_foretold(const std::vector<Case>& cases) {
  const std::string intended = replaced(train_cpp(), joined(kEdit.search), joined(kEdit.replace));
  for (const Case& c : cases) {
    const Seen seen = seen_of(c.reply);
    std::printf("%-44s expected: %-34s seen: %s%s\n", c.name,
                (c.refusal.empty() ? "applied" : "\"" + c.refusal + "\"").c_str(),
                seen.applied ? "applied as " : "refused: ", one_line(seen.words, 120).c_str());
    EXPECT_EQ(seen.applied, c.refusal.empty()) << c.name << "\n" << seen.words;
    EXPECT_TRUE(!seen.applied || code_tokens(seen.source) == code_tokens(intended)) << c.name;
    EXPECT_TRUE(!seen.applied || seen.words == c.idea) << c.name << ": " << seen.words;
    EXPECT_NE(seen.words.find(c.refusal), std::string::npos) << c.name << "\n" << seen.words;
  }
}

TEST(Replies, LabelsInAnyDress) { expect_as_foretold(labels()); }
TEST(Replies, ProseThatEndsLikeCode) { expect_as_foretold(prose()); }
TEST(Replies, MarkersOfOtherTools) { expect_as_foretold(markers()); }
TEST(Replies, OtherNotations) { expect_as_foretold(notations()); }
TEST(Replies, OtherCharacters) { expect_as_foretold(characters()); }
TEST(Replies, WhatTerminalsAreSent) { expect_as_foretold(terminals()); }
// Whether code is new is for those to judge who know what was measured.
TEST(Replies, AnEditWithoutEffectIsTheCodeThatItWas) {
  Edit comment{kEdit.search, kEdit.search};
  comment.replace[1] = replaced(comment.replace[1], "AdamW", "adamw");
  for (const Edit& edit : {Edit{kEdit.search, kEdit.search}, comment}) {
    const Seen seen = seen_of(kHead + block(edit));
    EXPECT_TRUE(seen.applied) << seen.words;
    EXPECT_EQ(code_tokens(seen.source), code_tokens(train_cpp()));
  }
}

TEST(Replies, EditsSideBySideInJsonAreOne) {
  const std::string first = replaced(train_cpp(), joined(kEdit.search), joined(kEdit.replace));
  const std::string intended =
      replaced(first, joined(kOtherEdit.search), joined(kOtherEdit.replace));
  for (const nlohmann::json& edits : std::vector<nlohmann::json>{
           nlohmann::json{pair_of(kEdit), pair_of(kOtherEdit)},
           {block(), block(kOtherEdit)},
           {{{"file", "train.cpp"}, {"block", block()}}, {{"block", block(kOtherEdit)}}},
           {{"edit_1", block()}, {"edit_2", block(kOtherEdit)}}}) {
    const Seen seen = seen_of(nlohmann::json{{"idea", kIdea}, {"edits", edits}}.dump(2));
    EXPECT_TRUE(seen.applied && seen.words == kIdea) << edits << "\n" << seen.words;
    EXPECT_EQ(code_tokens(seen.source), code_tokens(intended)) << edits;
  }
}

TEST(Replies, WhatIsNoEdit) { expect_as_foretold(no_edits()); }
TEST(Replies, OfSeveralDraftsTheMeantOneIsRun) { expect_as_foretold(drafts()); }
TEST(Replies, DescriptionsMisleadNobody) { expect_as_foretold(descriptions()); }

TEST(Doubts, ProseAboutAModelIsNone) {
  for (const char* line :
       {"Note that we do not apply weight decay to the embeddings.",
        "Weight decay should not be applied to the norms.", "The skip connection makes this cheap.",
        "This fixes a mistake of the baseline.", "Actually, this also saves memory."})
    EXPECT_FALSE(withdraws(line)) << line;
  for (const char* line : {"And then the final head learning rate:",
                           "And simply lower the head learning rate as well:", "Then the head."})
    EXPECT_FALSE(replaces(line)) << line;
  for (const char* line : {"Ignore this.", "Please skip the edit above.", "Do not apply this.",
                           "That was a mistake.", "Actually, this is wrong."})
    EXPECT_TRUE(withdraws(line)) << line;
  for (const char* line : {"The final version:", "Or simpler:", "A better one:"})
    EXPECT_TRUE(replaces(line)) << line;
}

}  // namespace
}  // namespace autoresearch

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  for (int i = 1; i < argc; ++i) {
    const auto seen = autoresearch::seen_of(autoresearch::read_file(argv[i]));
    std::printf("%s: %s%s\n", argv[i], seen.applied ? "applied as " : "refused: ",
                autoresearch::one_line(seen.words, 160).c_str());
  }
  return RUN_ALL_TESTS();
}
