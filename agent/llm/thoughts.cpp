#include "agent/llm/thoughts.h"

#include <algorithm>
#include <array>
#include <initializer_list>
#include <string_view>
#include <utility>

#include "common/text.h"

namespace autoresearch {
namespace {

constexpr std::string_view kBlanks = " \t\r\n";

size_t after_blanks(std::string_view text, size_t at = 0) {
  return std::min(text.find_first_not_of(kBlanks, at), text.size());
}

bool is_upper(char c) { return c >= 'A' && c <= 'Z'; }

template <size_t kCount>
bool is_one_of(std::string_view word, const std::array<std::string_view, kCount>& words) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

template <size_t kCount>
bool begins_with_any(std::string_view text, const std::array<std::string_view, kCount>& words) {
  return std::any_of(words.begin(), words.end(),
                     [&](std::string_view word) { return text.starts_with(word); });
}

// ------------------------------------------------------------------------------------------------
// Tags

enum class Names { kNothing, kThought, kAnswer };

struct Tag {
  Names names = Names::kNothing;
  bool closes = false;
  size_t begin = 0, end = 0;
};

// What a tag's name speaks of. A namespace does not count, nor which model's thinking it is:
// "seed:think", "longcat_think".
Names meaning_of(std::string_view name) {
  constexpr std::array<std::string_view, 9> kEnds = {"think",      "thinking",  "thought",
                                                     "thoughts",   "reasoning", "reflection",
                                                     "scratchpad", "monologue", "reflect"};
  constexpr std::array<std::string_view, 5> kThoughts = {"analysis", "draft", "thinking_process",
                                                         "thought_process", "reasoning_process"};
  constexpr std::array<std::string_view, 9> kAnswers = {
      "answer",       "response",       "solution",    "output", "reply",
      "final_answer", "final_response", "final_reply", "final"};
  name.remove_prefix(name.rfind(':') + 1);
  const bool thought = is_one_of(name, kThoughts) ||
                       std::any_of(kEnds.begin(), kEnds.end(),
                                   [&](std::string_view end) { return name.ends_with(end); });
  return thought ? Names::kThought : is_one_of(name, kAnswers) ? Names::kAnswer : Names::kNothing;
}

// True if `name` begins with one of these, which is removed.
bool take_prefix(std::string_view& name, std::initializer_list<std::string_view> prefixes) {
  for (const std::string_view prefix : prefixes) {
    if (!name.starts_with(prefix)) continue;
    name.remove_prefix(prefix.size());
    return true;
  }
  return false;
}

// The tag at `begin`; one that names nothing where there is none.
Tag tag_at(std::string_view text, size_t begin) {
  struct Brackets {
    std::string_view open, close;
  };
  constexpr std::array<Brackets, 5> kBrackets = {
      {{"<|", "|>"}, {"<", ">"}, {"[", "]"}, {"&lt;", "&gt;"}, {"\u25c1", "\u25b7"}}};
  constexpr size_t kLongestTag = 120;  // bytes, attributes included
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
    if (const Names names = meaning_of(word); names != Names::kNothing)
      return {names, closes, begin, begin + end + close.size()};
  }
  return {};
}

bool begins_line(std::string_view text, size_t at) {
  while (at > 0 && (text[at - 1] == ' ' || text[at - 1] == '\t')) --at;
  return at == 0 || text[at - 1] == '\n';
}

// Pairs are cut wherever they stand. A chat template may have written the first opening tag itself,
// so all before a closing tag without one is thought. An opening tag that is never closed counts at
// the start of a line only: elsewhere it is spoken of.
CutText cut_tagged(const std::string& text) {
  CutText cut;
  size_t rest = 0;  // what follows is not judged yet
  Tag open;         // not closed yet; names nothing if there is none
  for (size_t at = 0; (at = text.find_first_of("<[&\xe2", at)) != std::string::npos;) {
    const Tag tag = tag_at(text, at);
    at = tag.names == Names::kNothing ? at + 1 : tag.end;
    if (tag.names != Names::kThought) continue;
    const bool is_open = open.names != Names::kNothing;
    if (!tag.closes) {
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
    cut.unclosed = text.substr(open.end);
  }
  return cut;
}

// ------------------------------------------------------------------------------------------------
// Harmony: <|channel|>analysis<|message|>...<|end|><|start|>assistant<|channel|>final<|message|>...

CutText cut_channels(const std::string& text) {
  constexpr std::string_view kMessage = "<|message|>";
  constexpr std::array<std::string_view, 6> kEnds = {"<|end|>",   "<|return|>",  "<|call|>",
                                                     "<|start|>", "<|channel|>", kMessage};
  const std::string_view all = text;
  const auto end_of_body = [&](size_t at) {
    for (; (at = std::min(all.find("<|", at), all.size())) < all.size(); ++at)
      if (begins_with_any(all.substr(at), kEnds)) break;
    return at;
  };
  CutText cut;
  for (size_t header = 0, at; (at = all.find(kMessage, header)) != std::string_view::npos;) {
    const std::string_view head = all.substr(header, at - header);
    const size_t begin = at + kMessage.size();
    header = end_of_body(begin);
    const auto says = [&](const char* word) { return head.find(word) != std::string_view::npos; };
    const bool thought = says("analysis") || says("commentary") || says("thought");
    (thought ? cut.unclosed : cut.answer) = all.substr(begin, header - begin);
    cut.thought |= thought;
  }
  return cut;
}

size_t after_words(std::string_view text, size_t at, std::initializer_list<const char*> words) {
  for (bool found = true; found;) {
    at = after_blanks(text, at);
    found = false;
    for (const std::string_view word : words) {
      if (!text.substr(at).starts_with(word)) continue;
      at += word.size();
      found = true;
    }
  }
  return at;
}

// The same without its tokens: "analysisLet me see...assistantfinalIDEA: ...".
CutText cut_bare_channels(const std::string& text) {
  const size_t start = after_words(text, 0, {"<|start|>", "assistant", "<|channel|>", "channel"});
  const std::string_view begun = std::string_view(text).substr(start);
  const auto glued = [&](std::string_view word) {
    return begun.size() > word.size() && begun.starts_with(word) && is_upper(begun[word.size()]);
  };
  if (glued("final")) return {std::string(begun.substr(std::string_view("final").size()))};
  if (!begun.starts_with("analysis") && !begun.starts_with("commentary")) return {text};
  constexpr std::string_view kTurn = "assistant";
  for (size_t at = text.size();
       at > start && (at = text.rfind(kTurn, at - 1)) != std::string::npos;) {
    const size_t channel = after_words(text, at + kTurn.size(), {"<|channel|>", "channel"});
    if (text.compare(channel, 5, "final") != 0) continue;
    const size_t begin = after_words(text, channel + 5, {"message"});
    return {.answer = text.substr(begin), .thought = true};
  }
  if (!glued("analysis") && !begun.starts_with("analysismessage")) return {text};
  return {.answer = "", .thought = true, .unclosed = std::string(begun)};
}

CutText cut_harmony(const std::string& text) {
  return text.find("<|message|>") != std::string::npos ? cut_channels(text)
                                                       : cut_bare_channels(text);
}

// ------------------------------------------------------------------------------------------------
// Other marks

// Of Gemma, MedGemma, `ollama run` and Granite. At the start of the text only, and only if both are
// there.
CutText cut_marked(const std::string& text) {
  struct Marks {
    std::string_view begin, end;
  };
  constexpr std::array<Marks, 4> kMarks = {
      {{"<|channel>thought", "<channel|>"},
       {"<unused94>", "<unused95>"},
       {"Thinking...", "...done thinking."},
       {"Here is my thought process:", "Here is my response:"}}};
  for (const auto& [begin, end] : kMarks) {
    if (text.compare(after_blanks(text), begin.size(), begin) != 0) continue;
    const size_t close = text.find(end);
    if (close != std::string::npos)
      return {.answer = text.substr(close + end.size()), .thought = true};
  }
  return {text};
}

// "**Reasoning**" ... "## Final answer": the words of a line that is nothing but a heading.
std::string heading(std::string_view line) {
  constexpr std::string_view kDress = " \t\r#*_:=-";
  const size_t begin = line.find_first_not_of(kDress);
  if (begin == std::string_view::npos) return "";
  return lower(std::string(line.substr(begin, line.find_last_not_of(kDress) - begin + 1)));
}

CutText cut_headed(const std::string& text) {
  constexpr std::array<std::string_view, 7> kThoughts = {
      "reasoning", "thinking", "thinking process", "thought process",
      "thoughts",  "analysis", "my reasoning"};
  constexpr std::array<std::string_view, 9> kAnswers = {
      "final answer", "final response",  "final reply", "answer", "my answer",
      "response",     "my final answer", "reply",       "output"};
  bool first = true;
  for (size_t begin = after_blanks(text); begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const std::string words = heading(std::string_view(text).substr(begin, end - begin));
    begin = std::min(end + 1, text.size());
    if (std::exchange(first, false)) {
      if (!is_one_of(words, kThoughts)) break;
    } else if (is_one_of(words, kAnswers)) {
      return {.answer = text.substr(begin), .thought = true};
    }
  }
  return {text};
}

// "```thinking" ... "```", with other fences in it or not.
CutText cut_fenced(const std::string& text) {
  constexpr std::string_view kFence = "```";
  size_t thoughts = std::string::npos;  // where they begin
  int depth = 0;                        // of fences, once they have begun
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size() - 1) + 1;
    const std::string line = lower(trim(std::string_view(text).substr(begin, end - begin)));
    if (line.starts_with(kFence)) {
      const std::string language = line.substr(kFence.size());
      if (depth > 0) {
        depth += language.empty() ? -1 : 1;
      } else if (meaning_of(language) == Names::kThought) {
        thoughts = begin;
        depth = 1;
      }
      if (thoughts != std::string::npos && depth == 0)
        return {.answer = text.substr(0, thoughts) + text.substr(end), .thought = true};
    }
    begin = end;
  }
  if (depth == 0) return {text};
  return {.answer = text.substr(0, thoughts), .thought = true, .unclosed = text.substr(thoughts)};
}

// What stands before an answer with a tag of its own is none of it, if the answer is whole there:
// its title as well as its blocks.
CutText cut_before_answer(const std::string& text) {
  for (size_t at = 0; (at = text.find_first_of("<[", at)) != std::string::npos; ++at) {
    const Tag tag = tag_at(text, at);
    if (tag.names != Names::kAnswer || tag.closes || !begins_line(text, at)) continue;
    const std::string rest = text.substr(tag.end), words = lower(rest);
    if (!has_any(words, {"idea"}) || !has_any(words, {"search"})) break;
    return {.answer = rest, .thought = after_blanks(text) < at};
  }
  return {text};
}

// Without tokens that end a turn, and without tags around the whole answer.
std::string bare(const std::string& text) {
  constexpr std::array<std::string_view, 7> kEnds = {"<|return|>",   "<|end|>",       "<|im_end|>",
                                                     "<|eot_id|>",   "<|endoftext|>", "</s>",
                                                     "<end_of_turn>"};
  std::string_view rest = text;
  if (const Tag tag = tag_at(rest, after_blanks(rest)); tag.names == Names::kAnswer && !tag.closes)
    rest.remove_prefix(tag.end);
  while (true) {
    const std::string_view whole = rest.substr(0, rest.find_last_not_of(kBlanks) + 1);
    const size_t last = std::min(whole.rfind('<'), whole.size());
    const Tag tag = tag_at(whole, last);
    const bool closes = tag.names == Names::kAnswer && tag.closes && tag.end == whole.size();
    if (!closes && !is_one_of(whole.substr(last), kEnds)) return std::string(rest);
    rest = rest.substr(0, last);
  }
}

}  // namespace

CutText cut_thoughts(const std::string& text) {
  CutText all{text};
  for (const auto cut :
       {cut_harmony, cut_marked, cut_tagged, cut_fenced, cut_before_answer, cut_headed}) {
    CutText next = cut(all.answer);
    all.answer = std::move(next.answer);
    all.thought |= next.thought;
    if (!next.unclosed.empty()) all.unclosed = std::move(next.unclosed);
  }
  all.answer = bare(all.answer);
  return all;
}

}  // namespace autoresearch
