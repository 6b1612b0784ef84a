// Where the replies of one experiment come from: a conversation with a model, or the builtin tuner.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "agent/llm.h"
#include "agent/prompt.h"

namespace autoresearch {

class Dialogue {
 public:
  // `provider` null: the tuner answers, from the champion's source, what was tried, and `measured`,
  // which tells whether a source is known already.
  Dialogue(Provider* provider, PromptInputs inputs, std::string device, uint64_t seed,
           std::function<bool(const std::string& source)> measured);

  // The next reply to all that was said so far.
  Reply next();

  // Tells the model what came of its reply. False when no further reply is allowed: one repair is.
  bool feed_back(const std::string& stage, const std::string& problem);

  std::string name() const;  // of the provider, or "builtin"
  bool is_model() const { return provider_ != nullptr; }
  std::string transcript() const;  // everything sent, for prompt.md

 private:
  Provider* provider_;
  PromptInputs inputs_;
  std::string device_;
  uint64_t seed_;
  std::function<bool(const std::string&)> measured_;
  std::vector<Message> messages_;
  int repairs_ = 0;
};

}  // namespace autoresearch
