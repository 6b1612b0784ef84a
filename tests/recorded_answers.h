// What four protocols say on the wire, in the shapes of their API references and of servers as they
// were recorded; the text is the test's. For tests with the loopback server and without it.
#pragma once

#include <string>
#include <vector>

#include "tests/loopback_server.h"

namespace autoresearch {

struct Said {
  std::string text = "";
  std::string thought = "";  // reasoning before it
  bool cut = false;          // by the length limit
};

// Answer of `kind` (openai, openai-responses, anthropic, ollama), streamed or whole. It counts 1200
// tokens in, of which 1000 from the cache (ollama names none), and 34 out, of which 20 reasoning
// where the protocol says so.
HttpAnswer recorded_answer(const std::string& kind, bool stream, const Said& said);

// A 200 that ends in an error: in the middle of a stream after some text, or as the whole answer.
HttpAnswer recorded_inner_error(const std::string& kind, bool stream, const std::string& type,
                                const std::string& message);

// A status and the error body of that protocol.
HttpAnswer recorded_error(const std::string& kind, int status, const std::string& type,
                          const std::string& message, std::vector<std::string> headers = {});

}  // namespace autoresearch
