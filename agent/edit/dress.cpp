#include "agent/edit/dress.h"

#include <set>

#include "agent/edit/markers.h"
#include "common/json.h"
#include "common/text.h"

namespace autoresearch {
namespace {

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

struct Edits {
  std::set<std::string> texts;   // with blocks
  std::set<std::string> titles;  // values named "idea"
};

bool names_no_answer(const std::string& name) {
  return has_any(lower(name), {"think", "thought", "reason", "draft", "prompt", "system", "user"});
}

// The strings of a document, but for what it calls thoughts or a question.
void collect(const nlohmann::json& document, Edits& edits) {
  if (document.is_string()) {
    const auto text = document.get<std::string>();
    if (has_any(text, {"<<<<", "&lt;&lt;", "-- SEARCH"})) edits.texts.insert(text);
  } else if (document.is_array()) {
    for (const auto& part : document) collect(part, edits);
  } else if (document.is_object()) {
    for (const char* kind : {"type", "role"})
      if (document.contains(kind) && document[kind].is_string() && names_no_answer(document[kind]))
        return;
    for (const auto& [key, part] : document.items()) {
      if (names_no_answer(key)) continue;
      if (lower(key) == "idea" && part.is_string()) edits.titles.insert(part.get<std::string>());
      collect(part, edits);
    }
  }
}

// All of the text as one document, in a fence or not, or the lines of it that are documents.
Edits edits_in_json(std::string text) {
  Edits edits;
  if (is_fence(text) && text.ends_with("\n```"))
    text = text.substr(text.find('\n'), text.rfind('\n') - text.find('\n'));
  collect(parse_untrusted(text), edits);
  if (!edits.texts.empty()) return edits;
  for (const std::string& line : split_lines(text)) {
    if (marker_of(line) == Marker::kSearch) return {};  // an edit outside of JSON
    if (line.find_first_of("\"{[") == 0) collect(parse_untrusted(line), edits);
  }
  return edits;
}

// The one edit that a text in JSON holds; empty: there is none, or it is uncertain which.
std::string edit_in_json(const std::string& text) {
  if (text.find("\":") == std::string::npos && !text.starts_with('"')) return "";
  const Edits edits = edits_in_json(text);
  if (edits.texts.size() != 1) return "";
  const bool untitled = edits.titles.size() == 1 && !has_any(lower(*edits.texts.begin()), {"idea"});
  return (untitled ? "IDEA: " + *edits.titles.begin() + "\n" : "") + *edits.texts.begin();
}

}  // namespace

std::string undressed(const std::string& reply) {
  std::string text = without_returns(plain_text(reply));
  if (const std::string edit = edit_in_json(trim(text)); !edit.empty()) return undressed(edit);
  // A page within a page has them escaped twice.
  for (int layers = 0; layers < 2 && text.find_first_of("<>") == std::string::npos; ++layers)
    text = unescaped_html(text);
  return without_thoughts(std::move(text));
}

}  // namespace autoresearch
