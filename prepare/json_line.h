// Documents in lines of JSON, and what begins as such lines do.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace autoresearch {

constexpr size_t kJsonPadding = 64;

// Finds the document in a line: under a key of the object ("text"), below several ("raw.text"), or
// in a list, whose strings are joined by line ends ("paragraphs[]", "messages[].content").
class JsonLineParser {
 public:
  enum Outcome {
    kDocument,
    kNothing,  // null, or a list without strings: passed over
    kBad,
    kCutOff  // bad, and the line ends too early
  };

  explicit JsonLineParser(std::string column);
  ~JsonLineParser();

  // Parses `line`, which is overwritten, as is the byte behind it; kJsonPadding bytes behind it may
  // be read, whatever they hold. Fills in `document`, or the
  // `reason` why the line is bad: "is no JSON (...)".
  Outcome parse(std::span<char> line, std::string& document, std::string& reason);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// The columns that hold strings in a line, as JsonLineParser takes them: "id, messages[].content".
std::string text_columns_of(std::string_view line);

// Whether `start`, the first bytes of a file, reads as at least `least` lines of JSON objects. The
// last line may be cut off; one in ten may be bad.
bool begins_as_json_lines(std::string_view start, int least);

// Whether it reads as nothing but JSON that is not cut into lines of an object each: one value or
// more, in which at least `least` objects or strings stand alone or in a list.
bool begins_as_json(std::string_view start, int least);

}  // namespace autoresearch
