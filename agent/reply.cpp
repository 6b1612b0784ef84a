#include "agent/reply.h"

#include <algorithm>
#include <optional>
#include <string_view>

#include "agent/cpp_tokens.h"
#include "agent/text.h"

namespace autoresearch {

const char kReplyFormat[] =
    "IDEA: one line, at most 100 characters; becomes the description in results.tsv\n"
    "WHY: at most two sentences: mechanism, expected change\n"
    "<<<<<<< SEARCH\n"
    "at least three whole lines, copied exactly, unique in the file\n"
    "=======\n"
    "new lines; empty deletes\n"
    ">>>>>>> REPLACE\n"
    "NEXT: optional, at most two lines, other ideas, no code\n";

namespace {

constexpr size_t kMaxIdea = 100, kMaxWhy = 400, kMaxNext = 200;

enum class Marker { kNone, kSearch, kDivider, kReplace, kMangled };

Marker marker_of(const std::string& line) {
  const std::string text = line.substr(0, line.find_last_not_of(" \t") + 1);
  if (text == "<<<<<<< SEARCH") return Marker::kSearch;
  if (text == "=======") return Marker::kDivider;
  if (text == ">>>>>>> REPLACE") return Marker::kReplace;
  // No line of C++ begins like this, so it was meant as a marker and the block can't be trusted.
  const std::string bare = trim(line);
  const bool arrows = bare.starts_with("<<<<<") || bare.starts_with(">>>>>");
  const bool rule = bare.size() >= 5 && bare.find_first_not_of('=') == std::string::npos;
  return arrows || rule ? Marker::kMangled : Marker::kNone;
}

bool is_fence(const std::string& line) { return trim(line).starts_with("```"); }

// Thoughts of reasoning models: between <think> and </think>; where a chat template has written the
// opening tag already, everything before the closing one.
std::string without_thoughts(std::string text) {
  for (const std::string tag : {"think", "thinking"}) {
    const std::string open = "<" + tag + ">", close = "</" + tag + ">";
    std::string rest;
    size_t at = 0, begin = text.find(open);
    for (size_t end; (end = text.find(close, at)) != std::string::npos; at = end + close.size()) {
      if (begin < at) begin = text.find(open, at);
      if (begin < end) {
        rest.append(text, at, begin - at);
      } else {
        rest.clear();
      }
    }
    text = rest.append(text, at);
    if (trim(text).starts_with(open)) return "";  // never closed: nothing but thoughts
  }
  return text;
}

// The text after "IDEA:" and the like, whatever Markdown a model puts around the label.
std::optional<std::string> labelled(const std::string& line, std::string_view label) {
  std::string_view rest = line;
  rest.remove_prefix(std::min(rest.find_first_not_of(" \t*#_>-"), rest.size()));
  if (!rest.starts_with(label)) return std::nullopt;
  rest.remove_prefix(label.size());
  rest.remove_prefix(std::min(rest.find_first_not_of("* _"), rest.size()));
  if (!rest.starts_with(":")) return std::nullopt;
  rest.remove_prefix(1);
  const std::string text = trim(rest);
  const size_t begin = text.find_first_not_of("*_ ");
  if (begin == std::string::npos) return "";
  return text.substr(begin, text.find_last_not_of("*_ ") - begin + 1);
}

struct Section {  // what follows one IDEA line
  std::string idea, why;
  std::vector<Block> blocks;
};

const char kCutOff[] =
    "Your reply was cut off before its end, so nothing of it was applied. Send it again, whole and "
    "shorter: smaller SEARCH blocks around the lines that change, and less prose.";

// Reads a reply line by line. `problem` is set at the first line that can't be trusted.
class Reader {
 public:
  explicit Reader(const std::vector<std::string>& lines) : lines_(lines) {}

  void read() {
    while (pos_ < lines_.size() && problem.empty()) {
      const std::string& line = lines_[pos_++];
      switch (marker_of(line)) {
        case Marker::kSearch:
          read_block();
          break;
        case Marker::kNone:
          read_prose(line);
          break;
        default:
          problem = "The line '" + one_line(line, 60) +
                    "' is a marker without a block around it. Marker lines are exactly '<<<<<<< "
                    "SEARCH', '=======' and '>>>>>>> REPLACE'.";
      }
    }
  }

  std::vector<Section> sections;
  std::vector<std::string> next;
  std::string problem;
  std::string stray_code;  // the first line of code outside of all blocks

 private:
  void read_prose(const std::string& line) {
    if (const auto idea = labelled(line, "IDEA")) {
      sections.push_back({one_line(*idea, kMaxIdea), "", {}});
      label_ = 'I';
    } else if (const auto why = labelled(line, "WHY")) {
      add_why(*why);
      label_ = 'W';
    } else if (const auto text = labelled(line, "NEXT")) {
      add_next(*text);
      label_ = 'N';
    } else if (trim(line).empty() || is_fence(line)) {
      label_ = ' ';
    } else if (!sections.empty() && is_code(line)) {
      if (stray_code.empty()) stray_code = one_line(line, 60);
    } else if (label_ == 'W') {
      add_why(line);
    } else if (label_ == 'N') {
      add_next(line);
    }
  }

  // Prose hardly ever ends like this, and a line comment hides nothing of it.
  static bool is_code(const std::string& line) {
    const std::vector<std::string> tokens = code_tokens(line);
    return !tokens.empty() &&
           (tokens.back() == ";" || tokens.back() == "{" || tokens.back() == "}");
  }

  void add_why(const std::string& text) {
    if (sections.empty()) return;
    std::string& why = sections.back().why;
    why = one_line(why + " " + text, kMaxWhy);
  }

  // At most two lines; a list's bullet or number is dropped.
  void add_next(const std::string& text) {
    std::string line = one_line(text, kMaxNext);
    size_t begin = line.find_first_not_of("-*+ ");
    if (begin == std::string::npos) return;
    const size_t after_number = line.find_first_not_of("0123456789", begin);
    if (after_number != std::string::npos && after_number > begin &&
        (line.compare(after_number, 2, ". ") == 0 || line.compare(after_number, 2, ") ") == 0)) {
      begin = after_number + 2;
    }
    if (next.size() < 2) next.push_back(line.substr(begin));
  }

  void read_block() {
    label_ = ' ';
    if (sections.empty()) {
      problem = "There is no IDEA line before the first block.";
      return;
    }
    const size_t number = sections.back().blocks.size() + 1;
    Block block;
    if (read_part(Marker::kDivider, number, block.search) &&
        read_part(Marker::kReplace, number, block.replace)) {
      sections.back().blocks.push_back(std::move(block));
    }
  }

  // The lines up to `end`; any other marker in between makes the block ambiguous.
  bool read_part(Marker end, size_t number, std::string& part) {
    const std::string block = "Block " + std::to_string(number);
    while (pos_ < lines_.size()) {
      const std::string& line = lines_[pos_++];
      const Marker marker = marker_of(line);
      if (marker == end) return true;
      if (marker != Marker::kNone) {
        problem = block + ": the line '" + one_line(line, 60) + "' stands where '" +
                  (end == Marker::kDivider ? "=======" : ">>>>>>> REPLACE") +
                  "' should close this part. Every block has the three markers once, in order.";
        return false;
      }
      if (is_fence(line)) {
        problem = block + " has a ``` line between its markers; only code may stand there.";
        return false;
      }
      part += line + "\n";
    }
    problem = block + " has no closing '>>>>>>> REPLACE' line. " + kCutOff;
    return false;
  }

  const std::vector<std::string>& lines_;
  size_t pos_ = 0;
  char label_ = ' ';  // which label's text goes on: I, W, N or none
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
    return format_problem("A whole file stands in exactly one ```cpp fence, complete.");
  }
  std::string file;
  for (size_t i = fences[0] + 1; i < fences[1]; ++i) file += lines[i] + "\n";
  return file;
}
}  // namespace

std::variant<Proposal, Feedback> parse_reply(const std::string& reply, bool truncated,
                                             bool allow_whole_file) {
  if (truncated) return Feedback{kCutOff};
  std::string text = reply;
  std::erase(text, '\r');
  text = without_thoughts(std::move(text));
  const std::vector<std::string> lines = split_lines(text);
  Reader reader(lines);
  reader.read();
  if (!reader.problem.empty()) return format_problem(reader.problem);
  if (reader.sections.empty() || reader.sections[0].idea.empty()) {
    return format_problem("There is no IDEA line in your reply.");
  }
  Section& first = reader.sections[0];
  Proposal proposal{first.idea, first.why, std::move(first.blocks), "", std::move(reader.next)};
  for (size_t i = 1; i < reader.sections.size(); ++i) {
    if (!reader.sections[i].idea.empty()) proposal.next.push_back(reader.sections[i].idea);
  }
  if (!proposal.blocks.empty() && !reader.stray_code.empty()) {
    return format_problem("The line '" + reader.stray_code +
                          "' is code outside of a block, so a block's markers seem to be missing. "
                          "Code stands between markers only.");
  }
  if (!proposal.blocks.empty()) return proposal;
  if (!allow_whole_file) return format_problem("There is no SEARCH/REPLACE block under your IDEA.");
  auto file = fenced_file(lines);
  if (auto* feedback = std::get_if<Feedback>(&file)) return std::move(*feedback);
  proposal.whole_file = std::move(std::get<std::string>(file));
  return proposal;
}

}  // namespace autoresearch
