#include "agent/dialogue.h"

#include "agent/tuner.h"

namespace autoresearch {
namespace {

constexpr int kRepairs = 1;

}  // namespace

Dialogue::Dialogue(Provider* provider, PromptInputs inputs, std::string device, uint64_t seed,
                   std::function<bool(const std::string& source)> measured)
    : provider_(provider),
      inputs_(std::move(inputs)),
      device_(std::move(device)),
      seed_(seed),
      measured_(std::move(measured)) {
  if (provider_) messages_ = first_prompt(inputs_);
}

Reply Dialogue::next() {
  if (provider_) {
    Reply reply = provider_->ask(messages_);
    if (reply.problem.empty()) messages_.push_back({"assistant", reply.text});
    return reply;
  }
  Reply reply;
  auto text = propose_by_tuning(inputs_.source, inputs_.past, seed_, device_, measured_);
  if (text) {
    reply.text = *text;
  } else {
    reply.problem = find_knobs(inputs_.source).empty()
                        ? "train.cpp has no hyperparameters that the builtin proposer can find"
                        : "every change that the builtin proposer knows has been measured";
    reply.fatal = true;
  }
  return reply;
}

bool Dialogue::feed_back(const std::string& stage, const std::string& problem) {
  if (!provider_ || repairs_ == kRepairs) return false;
  ++repairs_;
  messages_.push_back({"user", repair_prompt(stage, problem)});
  return true;
}

std::string Dialogue::name() const { return provider_ ? provider_->name() : "builtin"; }

std::string Dialogue::transcript() const {
  std::string text;
  for (const Message& message : messages_)
    text += "# " + message.role + "\n\n" + message.text + "\n\n";
  return text;
}

}  // namespace autoresearch
