// A model's thoughts, cut from its answer. Servers and quantised templates leave them in the text
// in many dialects, and a draft that the model rejected there must not be taken for its answer.
// Pure, and linear in the length of the text, whatever it holds.
//
// Dialects: tags that name thinking in the brackets in use (<think>, <thought>, <seed:think>,
// [THINK], <|START_THINKING|>, ...), also if only their end or only their beginning is there;
// harmony's channels with their tokens or without (llama.cpp#15181); the marks of Gemma, MedGemma,
// Granite and `ollama run`; a fence of thoughts; all before an answer with a tag of its own; and a
// heading for thoughts that is followed by one for the answer.
#pragma once

#include <string>

namespace autoresearch {

struct CutText {
  std::string answer = {};  // the text without thoughts and without tokens that end a turn
  bool thought = false;     // thoughts were cut
  // Thoughts of which nobody marked the beginning or the end. If there is no answer beside them,
  // the model may have forgotten a mark, and they may hold it.
  std::string unclosed = {};
};

CutText cut_thoughts(const std::string& text);

}  // namespace autoresearch
