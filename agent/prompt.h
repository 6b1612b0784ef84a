// The words sent to a model. Pure: the same inputs give the same text. Stable parts come first, so
// that the provider's cache hits.
#pragma once

#include <string>
#include <vector>

#include "agent/llm.h"

namespace autoresearch {

// One line of the run so far.
struct Past {
  int64_t n = 0;
  std::string status;          // "keep", "discard" or "crash"
  double bpb = 0, change = 0;  // change against the champion of its time; 0 for a crash
  std::string idea, reason;    // reason: of a crash
};

struct PromptInputs {
  std::string program;               // program.md, as it is now
  std::string harness, kernels;      // the two headers
  std::string source;                // the champion's train.cpp
  std::vector<Past> past;            // oldest first
  std::vector<std::string> backlog;  // NEXT lines, unproven
  std::string measurements;          // the champion's and the last run's figures, as JSON text
};

// System and user message of a fresh conversation.
std::vector<Message> first_prompt(const PromptInputs& inputs);

// The user's turn after a reply that did not apply, did not build or could not be sealed.
std::string repair_prompt(const std::string& stage, const std::string& problem);

}  // namespace autoresearch
