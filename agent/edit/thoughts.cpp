#include "agent/edit/thoughts.h"

#include <algorithm>
#include <array>
#include <initializer_list>
#include <string_view>
#include <utility>

#include "common/text.h"

namespace autoresearch {
namespace {

using Words = std::initializer_list<std::string_view>;

constexpr std::string_view kBlanks = " \t\r\n";

size_t after_blanks(std::string_view text, size_t at = 0) {
  return std::min(text.find_first_not_of(kBlanks, at), text.size());
}

bool is_upper(char c) { return c >= 'A' && c <= 'Z'; }

bool is_one_of(std::string_view word, Words words) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

bool ends_with_any(std::string_view text, Words words) {
  return std::any_of(words.begin(), words.end(),
                     [&](std::string_view word) { return text.ends_with(word); });
}

// True if `text` begins with one of these, which is removed.
bool take_prefix(std::string_view& text, Words prefixes) {
  for (const std::string_view prefix : prefixes) {
    if (!text.starts_with(prefix)) continue;
    text.remove_prefix(prefix.size());
    return true;
  }
  return false;
}

bool take_suffix(std::string_view& text, Words suffixes) {
  for (const std::string_view suffix : suffixes) {
    if (!text.ends_with(suffix)) continue;
    text.remove_suffix(suffix.size());
    return true;
  }
  return false;
}

// ------------------------------------------------------------------------------------------------
// Tags

enum class Names { kNothing, kThought, kAnswer };

// What the name of a tag or a fence, or the words of a heading, speak of. A namespace does not
// count, nor whose it is: "seed:think", "longcat_think", "my_final_answer".
Names meaning_of(std::string_view name) {
  name.remove_prefix(name.rfind(':') + 1);
  if (is_one_of(name, {"analysis", "draft"}) ||
      ends_with_any(
          name, {"think", "thinking", "thought", "thoughts", "reasoning", "reflection", "reflect",
                 "scratchpad", "scratch_pad", "monologue", "ing_process", "thought_process"}))
    return Names::kThought;
  while (take_prefix(name, {"here_is_", "my_", "final_"})) continue;
  return is_one_of(name, {"answer", "response", "solution", "output", "reply", "final"})
             ? Names::kAnswer
             : Names::kNothing;
}

struct Tag {
  Names names = Names::kNothing;
  bool closes = false;
  size_t begin = 0, end = 0;
};

// The tag at `begin`; one that names nothing where there is none.
Tag tag_at(std::string_view text, size_t begin) {
  constexpr std::array<std::pair<std::string_view, std::string_view>, 5> kBrackets = {
      {{"<|", "|>"}, {"<", ">"}, {"[", "]"}, {"&lt;", "&gt;"}, {"\u25c1", "\u25b7"}}};
  constexpr size_t kLongestTag = 120;                  // bytes, attributes included
  if (begin > 0 && text[begin - 1] == '`') return {};  // it is spoken of
  text = text.substr(begin, kLongestTag);
  for (const auto& [open, close] : kBrackets) {
    if (!text.starts_with(open)) continue;
    const size_t end = text.find(close, open.size());
    if (end == std::string_view::npos) continue;
    std::string_view inside = text.substr(open.size(), end - open.size());
    bool closes = take_prefix(inside, {"/"});
    if (inside.find_first_of("<>[]\n") != std::string_view::npos) continue;
    // Attributes may follow, but what is in square brackets must be one word of capitals: others
    // are links and array indices.
    std::string_view word = inside.substr(0, inside.find(' '));
    if (open == "[" &&
        (word.size() < inside.size() || !std::all_of(word.begin(), word.end(), is_upper)))
      continue;
    const std::string name = lower(std::string(word));
    word = name;
    closes |= take_prefix(word, {"end_of_", "end_"});
    take_prefix(word, {"start_of_", "start_", "begin_of_", "begin_"});
    closes |= take_suffix(word, {"_end"});
    take_suffix(word, {"_start", "_begin"});
    if (const Names names = meaning_of(word); names != Names::kNothing)
      return {names, closes, begin, begin + end + close.size()};
  }
  return {};
}

bool begins_line(std::string_view text, size_t at) {
  while (at > 0 && (text[at - 1] == ' ' || text[at - 1] == '\t')) --at;
  return at == 0 || text[at - 1] == '\n';
}

// The text with the marks of Gemini, Gemma and MedGemma as tags.
std::string with_tags(const std::string& text) {
  constexpr std::array<std::pair<std::string_view, std::string_view>, 6> kMarks = {
      {{"<|channel>thought", "<think>"},
       {"<ctrl94>", "<think>"},
       {"<ctrl95>", "</think>"},
       {"<channel|>", "</think>"},
       {"<unused94>", "<think>"},
       {"<unused95>", "</think>"}}};
  std::string tagged;
  for (std::string_view rest = text; !rest.empty();) {
    size_t length = std::min(rest.find('<', 1), rest.size());
    for (const auto& [mark, tag] : kMarks) {
      if (!take_prefix(rest, {mark})) continue;
      tagged += tag;
      length = 0;
    }
    tagged += rest.substr(0, length);
    rest.remove_prefix(length);
  }
  return tagged;
}

// Pairs are cut wherever they stand. A chat template may have written the first opening tag itself,
// so all before a closing tag without one is thought. An opening tag that is never closed counts at
// the start of a line only: elsewhere it is spoken of.
CutText cut_tagged(const std::string& whole) {
  const std::string text = with_tags(whole);
  CutText cut;
  size_t rest = 0;      // what follows is not judged yet
  Tag open;             // not closed yet; names nothing if there is none
  bool nested = false;  // another one behind it
  for (size_t at = 0; (at = text.find_first_of("<[&\xe2", at)) != std::string::npos;) {
    const Tag tag = tag_at(text, at);
    at = tag.names == Names::kNothing ? at + 1 : tag.end;
    if (tag.names != Names::kThought) continue;
    const bool is_open = open.names != Names::kNothing;
    if (!tag.closes) {
      nested = is_open;
      if (!is_open) open = tag;
      continue;
    }
    if (is_open) {
      cut.answer.append(text, rest, open.begin - rest);
    } else {
      cut.unclosed = cut.answer.append(text, rest, tag.begin - rest);
      cut.answer.clear();
    }
    cut.thought = true;
    rest = tag.end;
    open = {};
  }
  const bool unclosed = open.names != Names::kNothing && begins_line(text, open.begin);
  cut.answer.append(text, rest, unclosed ? open.begin - rest : std::string::npos);
  if (unclosed) {
    cut.thought = true;
    // Of two that nobody closed, the second may have been meant to close the first.
    if (!nested) cut.unclosed = text.substr(open.end);
  }
  return cut;
}

// ------------------------------------------------------------------------------------------------
// Harmony's channels, with their tokens or without:
//   <|channel|>analysis<|message|>...<|end|><|start|>assistant<|channel|>final<|message|>IDEA: ...
//   analysisLet me see...assistantfinalIDEA: ...

// The first place from `at` on where none of `words` stands.
size_t after_words(std::string_view text, size_t at, Words words) {
  std::string_view rest = text.substr(after_blanks(text, at));
  while (take_prefix(rest, words)) rest.remove_prefix(after_blanks(rest));
  return text.size() - rest.size();
}

// What follows a channel's name, up to the token that ends it.
std::string body_of(std::string_view text, size_t at) {
  text.remove_prefix(after_words(text, at, {"<|message|>", "message"}));
  for (const std::string_view end : {"<|end|>", "<|return|>", "<|call|>", "<|start|>"})
    text = text.substr(0, text.find(end));
  return std::string(text);
}

CutText cut_channels(const std::string& text) {
  const std::string_view all = text;
  const size_t start = after_words(all, 0, {"<|start|>", "assistant", "<|channel|>", "channel"});
  std::string_view begun = all.substr(start);
  const bool speaks = take_prefix(begun, {"final"});
  const bool thinks = !speaks && take_prefix(begun, {"analysis", "commentary", "thought"});
  const bool marked = text.find("<|message|>") != std::string::npos;
  // Without its tokens a channel's name is one where the text goes on without a blank.
  const bool begins = begun.starts_with("<|message|>") || begun.starts_with("message") ||
                      (!begun.empty() && is_upper(begun[0]));
  for (size_t at = thinks || marked ? text.size() : 0;
       at > 0 && (at = text.rfind("final", at - 1)) != std::string::npos;) {
    const std::string_view before = all.substr(0, all.substr(0, at).find_last_not_of(kBlanks) + 1);
    if (ends_with_any(before, {"assistant", "channel", "<|channel|>"}))
      return {.answer = body_of(all, at + 5), .thought = !speaks};
  }
  if (!begins || (start == 0 && !speaks && !thinks)) return {text};
  if (!thinks) return {.answer = body_of(begun, 0)};
  const size_t last = all.rfind("<|message|>");  // of several, the last message may be the answer
  return {.thought = true,
          .unclosed = last == std::string_view::npos ? std::string(begun) : body_of(all, last)};
}

// ------------------------------------------------------------------------------------------------
// Fences and headings

// "**Reasoning**" ... "## Final answer", "Thinking..." ... "...done thinking.": what the words of a
// line that is nothing but a heading speak of.
Names heading(std::string_view line) {
  constexpr std::string_view kDress = " \t\r#*_:=-.";
  constexpr size_t kLongest = 40;  // a longer line is a sentence
  const size_t begin = std::min(line.find_first_not_of(kDress), line.size());
  line = line.substr(begin, line.find_last_not_of(kDress) + 1 - begin);
  std::string words = lower(std::string(line));
  std::replace(words.begin(), words.end(), ' ', '_');
  if (words.size() > kLongest) return Names::kNothing;
  return words == "done_thinking" ? Names::kAnswer : meaning_of(words);
}

// "```thinking" ... "```", with other fences in it or not.
CutText cut_fenced(const std::string& text) {
  constexpr size_t kFence = 3;  // characters
  size_t thoughts = 0;          // where they begin
  int depth = 0;                // of fences, once they have begun
  for (size_t begin = 0, end = 0; begin < text.size(); begin = end) {
    end = std::min(text.find('\n', begin), text.size() - 1) + 1;
    const std::string line = lower(trim(std::string_view(text).substr(begin, end - begin)));
    if (!line.starts_with("```") && !line.starts_with("~~~")) continue;
    const std::string language = line.substr(kFence);
    if (depth == 0 && meaning_of(language) != Names::kThought) continue;
    if (depth == 0) thoughts = begin;
    depth += language.empty() ? -1 : 1;
    if (depth == 0) return {.answer = text.substr(0, thoughts) + text.substr(end), .thought = true};
  }
  if (depth == 0) return {text};
  return {.answer = text.substr(0, thoughts), .thought = true, .unclosed = text.substr(thoughts)};
}

// ------------------------------------------------------------------------------------------------
// Answers

// What stands before an answer is none of it: before a heading for it, if the text begins with one
// for thoughts, or before a tag of its own, if the answer is whole there, its title and its blocks.
CutText cut_before_answer(const std::string& text) {
  bool thinks = false, first = true, tagged = false;
  for (size_t begin = after_blanks(text), end = 0; begin < text.size(); begin = end + 1) {
    end = std::min(text.find('\n', begin), text.size());
    const Names names = heading(std::string_view(text).substr(begin, end - begin));
    const Tag tag = tag_at(text, std::min(text.find_first_not_of(" \t", begin), end));
    if (tag.names == Names::kAnswer && !tag.closes && !std::exchange(tagged, true)) {
      const std::string rest = text.substr(tag.end), words = lower(rest);
      if (has_any(words, {"idea"}) && has_any(words, {"search"}))
        return {.answer = rest, .thought = !first};
    }
    if (std::exchange(first, false))
      thinks = names == Names::kThought;
    else if (thinks && names == Names::kAnswer)
      return {.answer = text.substr(std::min(end + 1, text.size())), .thought = true};
  }
  return {text};
}

// Whether a tag is of a template or a page, and ends something: "<|im_end|>", "</s>", "<eos>".
bool ends_turn(std::string_view tag) {
  if (tag.find_first_of(kBlanks) != std::string_view::npos) return false;
  if (tag.starts_with("[")) return is_one_of(tag, {"[/INST]", "[EOS]", "[END]", "[DONE]"});
  if (!tag.starts_with("<") || !tag.ends_with(">")) return false;
  const std::string inside = lower(std::string(tag.substr(1, tag.size() - 2)));
  return has_any(inside.substr(0, 3), {"|", "/", "\uff5c"}) ||
         has_any(inside, {"end", "eos", "eot"});
}

// Without what ends a turn, and without tags around the whole answer.
std::string bare(const std::string& text) {
  std::string_view rest = text;
  if (const Tag tag = tag_at(rest, after_blanks(rest)); tag.names == Names::kAnswer && !tag.closes)
    rest.remove_prefix(tag.end);
  while (true) {
    const std::string_view whole = rest.substr(0, rest.find_last_not_of(kBlanks) + 1);
    const size_t last = std::min(whole.find_last_of("<["), whole.size());
    if (!ends_turn(whole.substr(last))) return std::string(rest);
    rest = rest.substr(0, last);
  }
}

// Up to a user's turn, in the tokens of a template, that a server let the model write itself behind
// an edit of its own.
CutText cut_turns(const std::string& text) {
  const std::string words = lower(text);
  const size_t edit = words.find("replace");
  for (size_t at = edit; at < words.size() && (at = words.find("user", at + 1)) < words.size();) {
    const std::string_view before = std::string_view(words).substr(0, at);
    if (!ends_with_any(before, {"<|", "|>", "<\uff5c", "\uff5c>", "<start_of_turn>"})) continue;
    return {text.substr(0, before.rfind('<'))};
  }
  const size_t instruction = std::min(edit, text.size());
  return {text.substr(0, text.find("[INST]", instruction))};
}

}  // namespace

CutText cut_thoughts(const std::string& text) {
  CutText all{text};
  for (const auto cut : {cut_turns, cut_channels, cut_tagged, cut_fenced, cut_before_answer}) {
    CutText next = cut(all.answer);
    all.answer = std::move(next.answer);
    all.thought |= next.thought;
    if (!next.unclosed.empty()) all.unclosed = std::move(next.unclosed);
  }
  all.answer = bare(all.answer);
  return all;
}

}  // namespace autoresearch
