// Where the replies of one experiment come from: a conversation with a model, or the builtin tuner.
// Every experiment begins a fresh one; what came of a reply is told in it, and answered in it.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "agent/llm/llm.h"
#include "agent/propose/prompt.h"

namespace autoresearch {

// Replies per experiment, and those of them that may mend a build or a run that failed.
constexpr int kMaxCalls = 4, kMaxRepairs = 2;
// Bytes of a reply; what is longer is cut. Eight times the largest train.cpp.
constexpr size_t kLargestReply = 256 * 1024;
// Replies that could not be applied, until a whole file is taken instead of blocks.
constexpr int kEditsBeforeWholeFile = 2;

class Dialogue {
 public:
  // `provider` null: the tuner answers, from the champion's source, what was tried, and `measured`,
  // which tells whether a source is known already. `repairer` answers what mends an earlier reply;
  // null: `provider` does.
  Dialogue(Provider* provider, PromptInputs inputs, std::string device, uint64_t seed,
           std::function<bool(const std::string& source)> measured, Provider* repairer = nullptr);

  // The next reply to all that was said so far.
  Reply next();

  // After a reply that was too long for the endpoint: less history, by the prompt's fixed rules.
  // False where there is nothing left to leave out. What was refused for its length was no reply.
  bool shorten();

  // The prompt as it was before it was shortened, for another model.
  void restore();

  // Tells the model what came of its reply. False when no further reply is allowed.
  bool feed_back(const Setback& setback);

  // What was said so far, to go on with after a restart; recall() takes it up in a fresh dialogue,
  // and is false if it is no such thing.
  nlohmann::json memory() const;
  bool recall(const nlohmann::json& memory);
  // The reply that nothing was said to yet: the last turn, after recall(); empty if it is the
  // author's turn.
  std::string open_reply() const;

  // Whether feed_back() would allow a further reply, and one after a failed build or run.
  bool may_answer_again() const { return provider_ && calls_ < kMaxCalls; }
  bool may_mend_run() const { return provider_ && calls_ < kMaxCalls && repairs_ < kMaxRepairs; }
  bool may_send_whole_file() const { return failed_edits_ >= kEditsBeforeWholeFile; }
  bool is_model() const { return provider_ != nullptr; }
  bool has_begun() const { return !turns_.empty(); }  // a reply was given
  int64_t replies() const;                            // of models, so far
  std::string proposer() const;    // whose idea it is: the model that answered, or "builtin"
  std::string name() const;        // of whom the next reply comes from
  std::string transcript() const;  // everything sent, for prompt.md
  const Prompt& prompt() const { return prompt_; }  // as it was first sent, or last shortened

 private:
  // A reply becomes a turn. Each is whole, so that the ones before it need not be said again.
  void take(const std::string& reply);
  Provider* asked() const { return mending_ && repairer_ ? repairer_ : provider_; }

  Provider *provider_, *repairer_;
  PromptInputs inputs_;
  int64_t max_tokens_;  // before it was shortened
  std::string device_;
  uint64_t seed_;
  std::function<bool(const std::string&)> measured_;
  Prompt prompt_;
  std::vector<Message> turns_;  // after the prompt
  std::string proposer_;        // empty before the first reply
  int calls_ = 0, repairs_ = 0, failed_edits_ = 0;
  bool mending_ = false;
};

}  // namespace autoresearch
