#include "agent/edit/dress.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <string_view>
#include <vector>

#include "agent/edit/markers.h"
#include "common/json.h"
#include "common/text.h"

namespace autoresearch {
namespace {

// A carriage return alone ends a line that a spinner went on to draw over.
std::string without_returns(const std::string& text) {
  std::string lines;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool alone = text[i] == '\r' && i + 1 < text.size() &&
                       std::string_view("\r\n").find(text[i + 1]) == std::string_view::npos;
    if (alone) lines += '\n';
    if (text[i] != '\r') lines += text[i];
  }
  return lines;
}

// ------------------------------------------------------------------------------------------------
// JSON

using Json = nlohmann::json;

constexpr size_t kMost = 64;  // blocks; more are no edit, and comparing them would take long

struct Edits {
  std::vector<std::string> texts = {};                       // that hold blocks, each once
  std::map<std::string, std::set<std::string>> labels = {};  // "idea" and the like, from keys
  int depth = 0;        // of what is around the texts; 0: around a block
  bool joined = false;  // texts that were not sent as search and replace
};

bool names_no_answer(const std::string& name) {
  return has_any(lower(name), {"think", "thought", "reason", "draft", "prompt", "system", "user",
                               "alternativ", "option", "reject", "discard"});
}

// What holds several parts of one edit. Under any other name (candidates, attempts, v1 and v2) they
// may be drafts of which one was to be chosen.
bool may_hold_parts(const std::string& name) {
  return name.empty() || has_any(name, {"edit", "block", "change", "hunk", "patch", "diff",
                                        "replace", "modif", "call"});
}

// Whether an object says of itself that it is no answer: by a flag, or by what kind it is.
bool is_no_answer(const Json& object) {
  for (const auto& [key, part] : object.items()) {
    if (part.is_boolean() && part.get<bool>() && names_no_answer(key)) return true;
    const bool tells_kind = has_any(lower(key), {"type", "role", "status", "state", "kind"});
    if (tells_kind && part.is_string() && names_no_answer(part)) return true;
  }
  return false;
}

// Whether a text is nothing but blocks, from its first line to its last.
bool is_blocks(const std::string& text) {
  std::vector<std::string> lines = split_lines(trim(text));
  std::erase_if(lines, is_fence);
  return !lines.empty() && before_block(lines.front()) &&
         marker_of(lines.back()) == Marker::kReplace;
}

// A text, or one that is given as a list of its lines.
std::optional<std::string> text_in(const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (!value.is_array()) return std::nullopt;
  std::string text;
  for (const Json& line : value) {
    if (!line.is_string()) return std::nullopt;
    text += line.get<std::string>() + "\n";
  }
  return text;
}

// The block of an object that has what a tool for edits is given: a text to find and a new one.
std::string block_of(const Json& object) {
  std::vector<std::string> search, replace;
  for (const auto& [key, part] : object.items()) {
    const std::string name = lower(key);
    const auto text = text_in(part);
    if (!text) continue;
    if (has_any(name, {"new", "replace", "after", "updated"}))
      replace.push_back(*text);
    else if (has_any(name, {"old", "search", "find", "before", "original"}))
      search.push_back(*text);
  }
  if (search.size() != 1 || replace.size() != 1) return "";
  const auto lines = [](const std::string& text) {
    return text.empty() || text.ends_with('\n') ? text : text + "\n";
  };
  return "<<<<<<< SEARCH\n" + lines(search[0]) + "=======\n" + lines(replace[0]) +
         ">>>>>>> REPLACE\n";
}

void add(Edits& all, const Edits& more) {
  for (const std::string& text : more.texts)
    if (all.texts.size() <= kMost &&
        std::find(all.texts.begin(), all.texts.end(), text) == all.texts.end())
      all.texts.push_back(text);
  for (const auto& [label, texts] : more.labels)
    all.labels[label].insert(texts.begin(), texts.end());
  if (!more.texts.empty()) all.depth = std::max(all.depth, more.depth);
  all.joined |= more.joined;
}

// What a document says, but for what it calls thoughts or a question. Blocks side by side, as the
// items of a list or under keys that only count them, are one edit. `own_name`: the document's key,
// without numbers.
Edits edits_of(const Json& document, const std::string& own_name = "") {
  constexpr int kFar = 9;  // what two messages say is never one edit
  Edits edits;
  if (document.is_string()) {
    const auto text = document.get<std::string>();
    if (has_any(text, {"<<<<", "&lt;&lt;", "-- SEARCH"})) edits = {.texts = {text}, .depth = 1};
  }
  if (!document.is_structured()) return edits;
  const bool object = document.is_object(), message = object && document.contains("role");
  if (object && is_no_answer(document)) return {};
  if (const std::string block = object ? block_of(document) : ""; !block.empty())
    edits = {.texts = {block}, .depth = -1};
  std::set<std::string> names;  // of what holds blocks, without numbers
  for (const auto& [key, part] : document.items()) {
    std::string name = object ? lower(key) : "";
    if (names_no_answer(name)) continue;
    if (part.is_string() && (name == "idea" || name == "why" || name == "next"))
      edits.labels[name].insert(one_line(part.get<std::string>(), 400));
    std::erase_if(name, [](char c) { return c < 'a' || c > 'z'; });
    const Edits more = edits_of(part, name);
    if (!more.texts.empty()) names.insert(name);
    add(edits, more);
  }
  const bool blocks = std::all_of(edits.texts.begin(), edits.texts.end(), is_blocks);
  const bool several = edits.texts.size() > 1 && edits.texts.size() <= kMost;
  const bool parts =
      names.size() == 1 && may_hold_parts(*names.begin()) && may_hold_parts(own_name);
  if (several && blocks && parts && edits.depth <= 2 && !message) {
    std::string all;
    for (const std::string& text : edits.texts) all += text + "\n";
    edits.texts = {all};
    edits.joined |= edits.depth > 0;
  }
  edits.depth += message ? kFar : 1;
  return edits;
}

// The one edit that they are; empty: there is none, or it is uncertain which. Without a title,
// texts side by side may be samples of which one was to be chosen.
std::string reply_of(const Edits& edits) {
  const auto label = [&](const char* key, const char* name) {
    const auto found = edits.labels.find(key);
    return found == edits.labels.end() ? "" : name + *found->second.begin() + "\n";
  };
  const size_t ideas = edits.labels.contains("idea") ? edits.labels.at("idea").size() : 0;
  if (edits.texts.size() != 1 || ideas > 1 || (edits.joined && ideas == 0)) return "";
  const std::string text = edits.texts[0] + "\n";
  if (has_any(lower(text), {"idea"})) return text;
  return label("idea", "IDEA: ") + label("why", "WHY: ") + text + label("next", "NEXT: ");
}

// A text whose edit is in JSON, with the edit as it is meant: one document with words around it or
// not, or lines that are documents. Empty: there is no such edit, or it is uncertain which.
std::string edit_in_json(const std::string& text) {
  if (text.find("\":") == std::string::npos && !text.starts_with('"')) return "";
  size_t begin = std::string::npos, end = 0;  // of the document
  Edits of_lines;
  size_t at = 0;
  for (const std::string& line : split_lines(text)) {
    if (before_block(line)) return "";  // an edit outside of JSON
    if (line.find_first_of("\"{[") == 0) {
      begin = std::min(begin, at);
      add(of_lines, edits_of(parse_untrusted(line)));
    }
    if (!line.empty() && std::string_view("\"}]").find(line.back()) < 3) end = at + line.size();
    at += line.size() + 1;
  }
  if (begin >= end) return "";
  const std::string edit = reply_of(edits_of(parse_untrusted(text.substr(begin, end - begin))));
  if (edit.empty()) return reply_of(of_lines);
  return text.substr(0, begin) + undressed(edit) + text.substr(end);
}

// A reply on one line, as a string of a program is written, with its line breaks.
std::string of_string(const std::string& text) {
  constexpr std::string_view kQuotes = " \t\n\"'`";
  if (trim(text).find('\n') != std::string::npos || text.find("\\n") == std::string::npos)
    return text;
  const size_t begin = text.find_first_not_of(kQuotes), end = text.find_last_not_of(kQuotes);
  const Json value = parse_untrusted('"' + text.substr(begin, end + 1 - begin) + '"');
  return value.is_string() ? without_returns(value.get<std::string>()) : text;
}

// Without the tags that a page has around text.
std::string without_page(std::string_view text) {
  static const std::set<std::string> kNames = {"pre",      "code", "p",    "br", "div", "span",
                                               "html",     "body", "main", "b",  "i",   "strong",
                                               "!doctype", "head", "em",   "ul", "li"};
  constexpr size_t kLongest = 120;  // bytes of a tag
  std::string plain;
  while (!text.empty()) {
    const size_t end = text.substr(0, kLongest).find('>');
    const size_t name = text.starts_with("</") ? 2 : 1;
    const bool tag =
        text[0] == '<' && end != std::string_view::npos && end > name &&
        kNames.contains(lower(std::string(text.substr(
            name, std::min(end, text.substr(0, end).find_first_of(" /", name)) - name))));
    if (!tag) plain += text[0];
    text.remove_prefix(tag ? end + 1 : 1);
  }
  return plain;
}

}  // namespace

std::string undressed(const std::string& reply) {
  std::string text = of_string(without_returns(plain_text(reply)));
  if (std::string edit = edit_in_json(trim(text)); !edit.empty()) text = std::move(edit);
  // A page within a page has them escaped twice.
  if (text.find("&lt;&lt;&lt;") != std::string::npos) text = without_page(text);
  for (int layers = 0; layers < 2 && text.find_first_of("<>") == std::string::npos; ++layers)
    text = unescaped_html(text);
  return text;
}

}  // namespace autoresearch
