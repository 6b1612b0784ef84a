#include "agent/edit/reply.h"

#include <algorithm>
#include <cctype>
#include <functional>
#include <initializer_list>
#include <optional>
#include <set>
#include <string_view>
#include <utility>

#include "agent/edit/cpp_tokens.h"
#include "agent/edit/doubts.h"
#include "agent/edit/dress.h"
#include "agent/edit/markers.h"
#include "agent/edit/thoughts.h"
#include "common/text.h"

namespace autoresearch {

const char kReplyFormat[] =
    "IDEA: one line, at most 100 characters; becomes the description in results.tsv\n"
    "WHY: at most two sentences: mechanism, expected change of val_bpb as a number, such as -0.01\n"
    "<<<<<<< SEARCH\n"
    "whole lines, copied exactly, unique in the file; three or more are safest\n"
    "=======\n"
    "new lines, or none to delete those above\n"
    ">>>>>>> REPLACE\n"
    "NEXT: optional, at most two lines, other ideas, no code\n";

namespace {

constexpr size_t kMaxIdea = 100, kMaxWhy = 400, kMaxNext = 200;
const char kNoIdea[] = "(no idea given)";

// An edit of the reply: what follows one IDEA line, or stands before the first.
struct Section {
  std::string idea, why;
  bool titled = false;
  bool quoted = false;  // something stands before the lines of its last block
  std::vector<Block> blocks;
  std::vector<std::string> next;
  std::vector<std::string> before;  // prose before its label
  bool interrupted = false;         // there is prose between its blocks ...
  bool doubtful = false;            // ... by which one of them may take the place of another
};

// Lines in a row outside of all blocks that end like code. One line may be prose; several, or one
// just behind a block, are no accident.
struct Passage {
  bool behind_block;
  std::vector<std::string> lines;
  bool is_code() const { return behind_block || lines.size() > 1; }
};

const char kCutOff[] =
    "Your reply was cut off before its end, so nothing was applied. Send it again, whole and "
    "shorter: smaller SEARCH blocks around the lines that change, and less prose.";

bool has_any(const std::string& line, std::initializer_list<std::string_view> words) {
  const std::string text = lower(line);
  return std::any_of(words.begin(), words.end(),
                     [&](std::string_view word) { return text.find(word) != std::string::npos; });
}

// Whether a line calls what follows it the last word, as a heading, a sentence or the end of
// thoughts does.
bool announces(const std::string& line) {
  constexpr size_t kLongest = 80;  // a longer line argues
  return line.size() <= kLongest &&
         has_any(line, {"final", "correct", "revised", "my reply", "my answer", "answer:", "[/",
                        "</", "|>"}) &&
         !has_any(line, {"alternativ", "draft", "option", "another", "first", "second", "not ",
                         "</answer", "</final", "</response", "</reply"});
}

// A word of a chat template, which says nothing: "</answer>", "<|end|>".
bool is_tag(const std::string& line) {
  const bool brackets = (line.starts_with("<") && line.ends_with(">")) ||
                        (line.starts_with("[") && line.ends_with("]"));
  return brackets && line.find(' ') == std::string::npos;
}

// Prose hardly ever ends like this, and a line comment hides nothing of it. No code has so many
// words in a row.
bool ends_like_code(const std::string& line) {
  constexpr int kWords = 4;
  static const std::set<std::string> kKeywords = {"static",   "const", "constexpr", "inline",
                                                  "unsigned", "long",  "return"};
  const std::vector<std::string> tokens = code_tokens(line);
  int words = 0;
  for (const std::string& token : tokens) {
    const bool word = std::isalpha(static_cast<unsigned char>(token[0])) != 0;
    words = word && !kKeywords.contains(token) ? words + 1 : 0;
    if (words >= kWords) return false;
  }
  return !tokens.empty() && (tokens.back() == ";" || tokens.back() == "{" || tokens.back() == "}");
}

std::string escaped(const std::string& marker) {
  return "The line '" + one_line(marker, 60) +
         "' is an escaped marker. Send <, = and > themselves: no entities such as &lt;, no codes "
         "such as %3C or \\u003c, and no backslashes.";
}

// Reads a reply line by line. `problem` is set at the first line that can't be trusted.
class Reader {
 public:
  explicit Reader(const std::vector<std::string>& lines) : lines_(lines) {}

  void read() {
    while (pos_ < lines_.size() && problem.empty()) {
      const std::string& line = lines_[pos_++];
      if (const auto prefix = before_block(line)) {
        read_block(*prefix);
      } else if (const Marker marker = marker_of(line);
                 marker == Marker::kNone || marker == Marker::kDivider) {
        read_prose(line);  // a rule by itself may underline a heading
      } else {
        problem = "The line '" + one_line(line, 60) +
                  "' is a marker without a block around it. Marker lines are exactly '<<<<<<< "
                  "SEARCH', '=======' and '>>>>>>> REPLACE', with nothing else on them.";
        if (marker == Marker::kEscaped) problem = escaped(line);
      }
    }
  }

  std::vector<Section> sections;
  std::vector<std::string> talk;     // prose since the last block or label IDEA
  std::vector<std::string> outside;  // Proposal::outside
  std::string problem;
  std::vector<Passage> passages;

 private:
  void read_prose(const std::string& line) {
    const bool after_block = std::exchange(after_block_, false);
    const bool after_code = std::exchange(after_code_, false);
    const std::string text = trim(line);
    const bool underlined = pos_ < lines_.size() && is_rule(lines_[pos_]);
    if (const auto idea = labelled(underlined ? "# " + text : line, "IDEA"))
      return begin_section(*idea);
    if (begins_within(line)) return;
    if (const auto why = labelled(line, "WHY")) {
      label_ = 'W';
      return add_why(*why);
    }
    if (const auto other = labelled(line, "NEXT")) {
      label_ = 'N';
      return add_next(*other);
    }
    if (text.empty() || is_rule(text) || is_fence(line)) {
      after_code_ = after_code;
      if (label_ != 'I') label_ = ' ';
      return;
    }
    // Quoted below a block that is not, it is spoken of.
    const bool quotes = text.starts_with("> ") && !sections.empty() &&
                        !sections.back().blocks.empty() && !sections.back().quoted;
    if (!sections.empty() && !quotes) {
      outside.push_back(line);
      // Two lines of NEXT may name values as code does.
      after_code_ = ends_like_code(line) && (label_ != 'N' || sections.back().next.size() > 1);
      if (after_code_ && !after_code) passages.push_back({after_block, {}});
      if (after_code_) passages.back().lines.push_back(line);
    }
    read_on(text);
  }

  // What goes on with a label's text, or is prose of no label.
  void read_on(const std::string& text) {
    if (label_ == 'I') {
      sections.back().idea =
          description(labelled("IDEA: " + text, "IDEA").value_or(text), kMaxIdea);
      label_ = ' ';
    } else if (label_ == 'W') {
      add_why(text);
    } else if (label_ == 'N') {
      add_next(text);
      if (text.find_first_of("-*+0123456789") != 0) talk.push_back(text);  // no item of a list
    } else if (!is_tag(text) || announces(text)) {
      talk.push_back(text);
    }
  }

  void begin_section(const std::string& idea) {
    Section section;
    section.idea = description(idea, kMaxIdea);
    section.titled = true;
    section.before = std::exchange(talk, {});
    if (label_ == 'I') {  // the label again, in place of its text
      section.before.insert(section.before.begin(), sections.back().before.begin(),
                            sections.back().before.end());
      sections.pop_back();
    }
    sections.push_back(std::move(section));
    said_.clear();
    label_ = idea.empty() ? 'I' : ' ';
  }

  // "assistantfinalIDEA: ...": a template's words that nobody cut off stand before the label.
  // "My final idea: ...": a few words of the model's own do.
  bool begins_within(const std::string& line) {
    constexpr size_t kTold = 60;  // bytes of those words
    constexpr size_t kFew = 32;   // bytes of a few words
    const size_t capitals = line.find("IDEA:");
    const size_t at =
        capitals == std::string::npos ? lower(line.substr(0, kFew)).find("idea") : capitals;
    if (at == std::string::npos || labelled(line, "WHY") || labelled(line, "NEXT")) return false;
    const std::string words = line.substr(0, at);
    const size_t behind = std::min(line.find_first_not_of("*_`'\")]", at + 4), line.size() - 1);
    const bool named =  // below a title, such words are prose
        !sections.empty() && sections.back().titled && sections.back().blocks.empty();
    const bool few = !named && line[behind] == ':' && words.ends_with(' ') &&
                     words.find_first_of(",.:;()") == std::string::npos;
    if (at != capitals && !few) return false;
    talk.push_back(one_line(words.substr(words.size() - std::min(words.size(), kTold)), kTold));
    begin_section(labelled(line.substr(at), "IDEA").value_or(""));
    return true;
  }

  void add_why(const std::string& text) {
    if (sections.empty()) return;
    std::string& why = sections.back().why;
    why = one_line(why + " " + text, kMaxWhy);
  }

  // At most two lines; a list's bullet or number is dropped.
  void add_next(const std::string& text) {
    if (sections.empty()) return;
    const std::string line = one_line(labelled("NEXT: " + text, "NEXT").value_or(""), kMaxNext);
    std::vector<std::string>& next = sections.back().next;
    if (next.size() < 2 && !line.empty()) next.push_back(line);
  }

  // `prefix`: what stands before the block's first marker, and so before each of its lines.
  void read_block(const std::string& prefix) {
    if (sections.empty()) sections.emplace_back().before = std::exchange(talk, {});
    Section& section = sections.back();
    const std::vector<std::string> said = std::exchange(talk, {});
    label_ = ' ';
    section.quoted = !trim(prefix).empty();
    const std::string name = "Block " + std::to_string(section.blocks.size() + 1);
    std::vector<std::string> search, replace;
    if (!read_part(Marker::kDivider, name, prefix, search) ||
        !read_part(Marker::kReplace, name, prefix, replace))
      return;
    Block block;
    if (!add_lines(search, name, block.search) || !add_lines(replace, name, block.replace)) return;
    // What is said twice is meant once.
    const std::string text = block.search + "=======\n" + block.replace;
    if (said_.insert(text).second) {
      if (!section.blocks.empty() && !said.empty()) {
        section.interrupted = true;
        section.doubtful |=
            std::any_of(said.begin(), said.end(), replaces) || !introduces(said.back(), text);
      }
      section.blocks.push_back(std::move(block));
    }
    after_block_ = true;
  }

  // The lines up to `end`; any other marker in between makes the block ambiguous. The prefix stands
  // before all of them or, if it dresses the markers only, before none.
  bool read_part(Marker end, const std::string& name, const std::string& prefix,
                 std::vector<std::string>& part) {
    const std::string sign = trim(prefix);
    bool with = false, without = false;  // the prefix, before a line that is not blank
    for (; pos_ < lines_.size(); ++pos_) {
      const std::string& line = lines_[pos_];
      const bool prefixed = line.starts_with(prefix);
      const std::string text = prefixed ? line.substr(prefix.size()) : line;
      const Marker marker = marker_of(text);
      const bool rule = marker == Marker::kNone && end == Marker::kDivider && is_divider(text);
      if (marker == Marker::kNone && !rule) {
        const bool blank = trim(line).empty() || sign.starts_with(trim(line));
        with = with || (prefixed && !blank);
        without = without || (!prefixed && !blank);
        const bool place = text.starts_with(":start_line:") || text.starts_with(":end_line:");
        if (!part.empty() || !place) part.push_back(line);
        continue;
      }
      if (rule && part.empty()) continue;  // below ":start_line:57", which one tool has there
      if (with && !sign.empty() && (without || !prefixed)) break;
      ++pos_;
      if (marker == end || rule) {
        for (std::string& have : part)
          if (!without) have.erase(0, prefix.size());
        return true;
      }
      problem = name + ": the line '" + one_line(line, 60) + "' stands where '" +
                (end == Marker::kDivider ? "=======" : ">>>>>>> REPLACE") +
                "' should close this part. Every block has the three markers once, in order.";
      if (marker == Marker::kEscaped) problem = name + ": " + escaped(line);
      return false;
    }
    problem = name + " has no closing '>>>>>>> REPLACE' line. " + kCutOff;
    return false;
  }

  // A rule that is no line of C++ divides as well as "=======" does.
  static bool is_divider(const std::string& line) {
    constexpr size_t kLeast = 5;
    const std::string text = trim(line);
    return text.size() >= kLeast && is_rule(text) &&
           (std::string_view("=-_~").find(text[0]) < 4 ||
            static_cast<unsigned char>(text[0]) >= 0x80);
  }

  // A fence around all the lines of a part is no code.
  bool add_lines(std::vector<std::string> lines, const std::string& name, std::string& part) {
    if (!lines.empty() && is_fence(lines.front())) lines.erase(lines.begin());
    if (!lines.empty() && is_fence(lines.back())) lines.pop_back();
    for (const std::string& line : lines) {
      if (is_fence(line)) {
        problem = name + " has a ``` line between its markers; only code is allowed there.";
        return false;
      }
      part += line + "\n";
    }
    return true;
  }

  const std::vector<std::string>& lines_;
  size_t pos_ = 0;
  std::set<std::string> said_;  // blocks of the present section
  char label_ = ' ';            // which label's text goes on: I, W, N or none
  bool after_block_ = false, after_code_ = false;
};

Feedback format_problem(const std::string& what) {
  return {what + "\n\nAnswer in exactly this format:\n\n" + kReplyFormat};
}

// The content of the only fence of a reply.
std::variant<std::string, Feedback> fenced_file(const std::vector<std::string>& lines) {
  std::vector<size_t> fences;
  for (size_t i = 0; i < lines.size(); ++i) {
    if (is_fence(lines[i])) fences.push_back(i);
  }
  // A fence around the whole reply is not the file's.
  if (fences.size() == 4) fences = {fences[1], fences[2]};
  if (fences.size() == 1)
    return Feedback{std::string("The file's fence is never closed. ") + kCutOff};
  if (fences.size() != 2 || trim(lines[fences[1]]) != "```") {
    return format_problem("A whole file must be complete, in exactly one ```cpp fence.");
  }
  std::string file;
  for (size_t i = fences[0] + 1; i < fences[1]; ++i) file += lines[i] + "\n";
  return file;
}

// ------------------------------------------------------------------------------------------------
// Which of several edits is meant

bool same_blocks(const Section& a, const Section& b) {
  return std::equal(a.blocks.begin(), a.blocks.end(), b.blocks.begin(), b.blocks.end(),
                    [](const Block& x, const Block& y) {
                      return x.search == y.search && x.replace == y.replace;
                    });
}

// Whether two edits search for a line of code in common, so that they can't both be meant.
bool touch_same_lines(const Section& a, const Section& b) {
  constexpr size_t kTelling = 3;  // tokens that are no mere bracket
  std::set<std::string> lines;
  for (const Block& block : a.blocks)
    for (const std::string& line : split_lines(block.search)) lines.insert(trim(line));
  return std::any_of(b.blocks.begin(), b.blocks.end(), [&](const Block& block) {
    const std::vector<std::string> search = split_lines(block.search);
    return std::any_of(search.begin(), search.end(), [&](const std::string& line) {
      return lines.contains(trim(line)) && code_tokens(line).size() >= kTelling;
    });
  });
}

// The reply format itself, which some repeat before they answer.
bool is_echo(const Section& section) {
  constexpr size_t kTelling = 20;  // characters
  return section.idea.size() >= kTelling &&
         std::string_view(kReplyFormat).find(section.idea) != std::string_view::npos;
}

Feedback ask_which(const std::vector<Section*>& edits) {
  std::string ideas;
  for (const Section* edit : edits)
    ideas += (ideas.empty() ? "'" : ", '") + (edit->idea.empty() ? kNoIdea : edit->idea) + "'";
  return {"Your reply has several drafts of an edit (" + one_line(ideas, 300) +
          "), and it is not clear which one you mean, so nothing was applied. Send only that one, "
          "with one IDEA and without your thoughts."};
}

// The edit to run; null: none has blocks. `only_thoughts`: the reply has nothing but thoughts of
// which nobody marked the end, and what they hold may be a draft.
std::variant<Section*, Feedback> edit_that_is_meant(Reader& reader, bool only_thoughts) {
  std::vector<Section*> edits;
  for (Section& section : reader.sections)
    if (!section.blocks.empty() && !is_echo(section)) edits.push_back(&section);
  if (edits.empty()) return nullptr;
  Section* const last = edits.back();
  const auto differs = [&](const Section* edit) { return !same_blocks(*edit, *last); };
  const auto any = [&](auto test) { return std::any_of(edits.begin(), edits.end(), test); };
  if (last->doubtful) return ask_which(edits);
  if (std::any_of(reader.talk.begin(), reader.talk.end(), withdraws)) return ask_which(edits);
  if (only_thoughts) return ask_which(edits);
  if (!any(differs)) return last;
  const bool announced = !last->before.empty() && announces(last->before.back());
  if (announced && reader.talk.empty()) return last;
  // A mere list, of which the first is run: no word of doubt, and room for all of them.
  const auto doubtful = [&](const Section* edit) {
    return edit != edits.front() && !edit->before.empty();
  };
  const auto collides = [&](const Section* edit) {
    return edit != edits.front() && touch_same_lines(*edit, *edits.front());
  };
  const auto rejected = [](const Section* edit) {
    return has_any(edit->idea,
                   {"~~", "reject", "abandon", "discard", "scrap", "withdrawn", "draft"});
  };
  const Section& first = *edits.front();
  const bool silent = reader.talk.empty() && first.before.empty() && !first.interrupted &&
                      first.quoted == last->quoted && !any(rejected);
  if (silent && first.titled && !any(doubtful) && !any(collides)) return edits.front();
  return ask_which(edits);
}

// The title of an edit without one: that of an IDEA without an edit, else what was said before it.
void give_title(Section& edit, std::vector<Section>& sections) {
  for (Section& other : sections) {
    if (!edit.idea.empty() || !other.blocks.empty()) continue;
    edit.idea = std::exchange(other.idea, "");
    edit.why = other.why;
    edit.next.insert(edit.next.end(), other.next.begin(), other.next.end());
  }
  const auto said = std::find_if_not(edit.before.begin(), edit.before.end(), is_tag);
  if (edit.idea.empty() && said != edit.before.end()) edit.idea = description(*said, kMaxIdea);
  if (edit.idea.empty()) edit.idea = kNoIdea;
}

// What a reply without blocks is instead, if it is something.
std::string other_notation(const std::string& text, const std::vector<std::string>& lines) {
  const auto has_line = [&](std::string_view start) {
    return std::any_of(lines.begin(), lines.end(),
                       [&](const std::string& line) { return trim(line).starts_with(start); });
  };
  if (has_line("@@") || has_line("*** Begin Patch") || has_line("+++ ") || has_line("```diff") ||
      has_line("***************"))
    return "Your reply is a diff or a patch, which is not accepted. ";
  if (has_line("<tool_call") || has_line("<function"))
    return "Your reply calls a tool, but there are no tools here. ";
  if (trim(text).starts_with("{") || trim(text).starts_with("["))
    return "Your reply is JSON, but it must be plain text. ";
  if (lines.size() < 3 && text.find("\\n") != std::string::npos)
    return "Your reply has \\n in place of line breaks. ";
  return "";
}

// A test for lines that a block of the edit has as well: outside of it they are quoted, as they are
// by those who show what was there and what will be.
auto quoted_from(const Section& edit) {
  std::set<std::vector<std::string>> lines;
  for (const Block& block : edit.blocks)
    for (const std::string& line : split_lines(block.search + block.replace))
      lines.insert(code_tokens(line));
  return [lines](const std::string& line) {
    const bool sign = line.starts_with('+') || line.starts_with('-');  // in a diff
    return lines.contains(code_tokens(line.substr(sign)));
  };
}

// The first line of what seems to be a block without markers, or a hunk of a diff; empty: none.
std::string lost_code(const Reader& reader, const Section& edit) {
  const auto quoted = quoted_from(edit);
  for (const Passage& passage : reader.passages) {
    if (!passage.is_code()) continue;
    const auto own =
        std::find_if_not(passage.lines.begin(), passage.lines.end(), std::cref(quoted));
    if (own != passage.lines.end()) return *own;
  }
  bool in_hunk = false;
  for (const std::string& line : reader.outside) {
    in_hunk = in_hunk || line.starts_with("@@ -");
    if (in_hunk && (line.starts_with('+') || line.starts_with('-')) && !quoted(line)) return line;
  }
  return "";
}

// The proposal of one edit; the ideas beside it become further ones, but drafts of it don't.
Proposal proposal_of(Reader& reader, Section& edit) {
  give_title(edit, reader.sections);
  Proposal proposal;
  proposal.idea = edit.idea;
  proposal.why = edit.why;
  proposal.next = edit.next;
  const bool had_drafts = !edit.blocks.empty() && &edit != &reader.sections.front();
  for (const Section& other : reader.sections) {
    const bool draft = had_drafts && !other.blocks.empty();
    if (&other != &edit && !other.idea.empty() && !draft) proposal.next.push_back(other.idea);
  }
  proposal.outside = std::move(reader.outside);
  const auto quoted = quoted_from(edit);
  std::erase_if(proposal.outside, std::cref(quoted));
  proposal.blocks = std::move(edit.blocks);
  return proposal;
}

}  // namespace

std::variant<Proposal, Feedback> parse_reply(const std::string& reply, bool truncated,
                                             bool allow_whole_file) {
  if (truncated) return Feedback{kCutOff};
  const CutText cut = cut_thoughts(undressed(reply));
  const bool only_thoughts = trim(cut.answer).empty();
  const std::string& text = only_thoughts ? cut.unclosed : cut.answer;
  const std::vector<std::string> lines = split_lines(text);
  Reader reader(lines);
  reader.read();
  if (!reader.problem.empty()) return format_problem(reader.problem);
  auto meant = edit_that_is_meant(reader, only_thoughts);
  if (auto* feedback = std::get_if<Feedback>(&meant)) return std::move(*feedback);
  if (Section* edit = std::get<Section*>(meant)) {
    const std::string code = lost_code(reader, *edit);
    if (code.empty()) return proposal_of(reader, *edit);
    return format_problem("The line '" + one_line(code, 60) +
                          "' is code outside of a block, so a block's markers seem to be missing. "
                          "Code is allowed between markers only.");
  }
  // No blocks: a whole file, if that is allowed, under the first idea.
  if (reader.sections.empty())
    return format_problem(other_notation(text, lines) + "There is no IDEA line in your reply.");
  if (!allow_whole_file)
    return format_problem(other_notation(text, lines) +
                          "There is no SEARCH/REPLACE block under your IDEA.");
  auto file = fenced_file(lines);
  if (auto* feedback = std::get_if<Feedback>(&file)) return std::move(*feedback);
  Proposal proposal = proposal_of(reader, reader.sections.front());
  proposal.whole_file = std::move(std::get<std::string>(file));
  proposal.outside.clear();
  return proposal;
}

}  // namespace autoresearch
