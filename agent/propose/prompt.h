// The words sent to a model. Pure: the same inputs give the same text. Stable parts come first, so
// that the provider's cache hits.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "agent/llm/llm.h"

namespace autoresearch {

// One line of the run so far.
struct Past {
  int64_t n = 0;
  std::string status;          // "keep", "discard" or "crash"
  double bpb = 0, change = 0;  // change against the champion of its time; 0 for a crash
  std::string idea, reason;    // reason: of a crash
  std::vector<std::string> constants = {},
                           areas = {};  // what it touched: agent/edit/edit_summary.h
  std::optional<double> expected = {};  // change that its WHY foretold
  double tokens = 0;                    // seen in training; 0: unknown
  bool noise = false;                   // not kept, and not to be told from the champion
  bool verified = false;                // by the latest proof
};

// A context of 32,000 tokens holds a prompt of 22,000 and a reply of 10,000. A larger one is not
// used up: every experiment pays for its prompt.
constexpr int64_t kContextTokens = 32000;
constexpr int64_t kPromptTokens = 22000;
constexpr size_t kCharactersPerToken = 3;  // of code and figures: rather too few than too many

// The tokens that a prompt may have if the model's context has so many.
int64_t prompt_tokens(int64_t context_tokens);

struct PromptInputs {
  std::string program;               // program.md, as it is now
  std::string task;                  // agent/propose/task_text.h; empty: nothing is told of it
  std::string harness, kernels;      // the two headers
  std::string source;                // the champion's train.cpp
  std::vector<Past> past;            // oldest first
  std::vector<std::string> backlog;  // NEXT lines, unproven
  std::string measurements;          // of the champion and of the last run, as text
  std::string asked;                 // edits that the latest reply asked to see; empty: none
  std::string running;               // what is being measured now; empty: nothing
  double noise = 0;                  // standard deviation of one val_bpb; 0: not known yet
  int64_t since_keep = 0;            // experiments since the last one that was kept
  bool cuda = true;                  // whether the run's device is a GPU
  std::optional<int64_t> left = {};  // experiments that may still be made, this one included
  int64_t max_tokens = kPromptTokens;
};

struct Prompt {
  // System; assignment, task and headers; the champion's train.cpp; all that changes with every
  // experiment. A stable prefix ends after each of the first three.
  std::vector<Message> messages;
  int64_t tokens = 0;    // of all of them, estimated
  std::string left_out;  // what `max_tokens` cost, for a user; empty: nothing
};

// The beginning of a fresh conversation. If it would have more than `max_tokens`, the history
// shrinks by fixed rules, then kernels.h goes; the rest is always whole, so that `tokens` may
// remain larger. What only a GPU can do is left out if the run has none.
Prompt first_prompt(const PromptInputs& inputs);

// The experiments that a text names as "#7", the first few, each once: to see their edits.
std::vector<int64_t> named_in(const std::string& text);

// Where a reply failed.
enum class Failure {
  kEdit,   // it could not be read or applied
  kKnown,  // its code was measured before
  kBuild,  // it did not compile or link
  kRun,    // it trained and crashed, or its model can't be sealed
};

struct Setback {
  Failure failure;
  std::string text;  // what was wrong, for the model; of a build or a run: its cleaned output
};

// The change of val_bpb that a WHY foretells: its first number with a sign, a decimal point and no
// unit; nothing if there is none.
std::optional<double> foretold_change(const std::string& why);

// The user's turn after such a reply. `calls_left`: replies that are still allowed, this one
// included.
std::string feedback_prompt(const Setback& setback, bool whole_file_allowed, int calls_left);

}  // namespace autoresearch
