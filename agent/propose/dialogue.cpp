#include "agent/propose/dialogue.h"

#include <algorithm>

#include "agent/propose/tuner.h"

namespace autoresearch {

Dialogue::Dialogue(Provider* provider, PromptInputs inputs, std::string device, uint64_t seed,
                   std::function<bool(const std::string& source)> measured, Provider* repairer)
    : provider_(provider),
      repairer_(repairer),
      inputs_(std::move(inputs)),
      max_tokens_(inputs_.max_tokens),
      device_(std::move(device)),
      seed_(seed),
      measured_(std::move(measured)) {
  inputs_.cuda = device_ != "cpu";
  if (provider_) prompt_ = first_prompt(inputs_);
}

Reply Dialogue::next() {
  if (provider_) {
    std::vector<Message> conversation = prompt_.messages;
    conversation.insert(conversation.end(), turns_.begin(), turns_.end());
    Reply reply = asked()->ask(conversation);
    if (!reply.too_long) ++calls_;
    if (reply.text.size() > kLargestReply) {
      reply.text.resize(kLargestReply);
      reply.truncated = true;
    }
    if (!mending_ && !reply.provider.empty()) proposer_ = reply.provider;
    if (reply.problem.empty()) take(reply.text);
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

void Dialogue::take(const std::string& reply) {
  for (Message& turn : turns_)
    if (turn.role == "assistant") turn.text = "(This reply was replaced by a later one.)";
  turns_.push_back({"assistant", reply});
}

bool Dialogue::shorten() {
  if (!provider_) return false;
  const int64_t before = prompt_.tokens;
  inputs_.max_tokens = before - before / 4;
  prompt_ = first_prompt(inputs_);
  return prompt_.tokens < before;
}

void Dialogue::restore() {
  inputs_.max_tokens = max_tokens_;
  prompt_ = first_prompt(inputs_);
}

bool Dialogue::feed_back(const Setback& setback) {
  if (!provider_ || calls_ >= kMaxCalls) return false;
  const bool ran = setback.failure == Failure::kBuild || setback.failure == Failure::kRun;
  if (ran && repairs_ == kMaxRepairs) return false;
  repairs_ += ran;
  failed_edits_ += setback.failure == Failure::kEdit;
  mending_ = setback.failure != Failure::kKnown;
  turns_.push_back({"user", feedback_prompt(setback, may_send_whole_file(), kMaxCalls - calls_)});
  return true;
}

nlohmann::json Dialogue::memory() const {
  const auto said = [](const std::vector<Message>& messages) {
    nlohmann::json list = nlohmann::json::array();
    for (const Message& m : messages) list.push_back({m.role, m.text, m.cache_after});
    return list;
  };
  return {{"prompt", said(prompt_.messages)},
          {"turns", said(turns_)},
          {"proposer", proposer_},
          {"calls", calls_},
          {"repairs", repairs_},
          {"mending", mending_},
          {"failed_edits", failed_edits_},
          {"tokens", prompt_.tokens}};
}

bool Dialogue::recall(const nlohmann::json& memory) {
  const auto heard = [](const nlohmann::json& list) {
    std::vector<Message> messages;
    for (const auto& m : list) messages.push_back({m.at(0), m.at(1), m.at(2)});
    return messages;
  };
  try {
    prompt_.messages = heard(memory.at("prompt"));
    turns_ = heard(memory.at("turns"));
    proposer_ = memory.at("proposer");
    calls_ = memory.at("calls");
    repairs_ = memory.at("repairs");
    mending_ = memory.at("mending");
    failed_edits_ = memory.at("failed_edits");
    prompt_.tokens = memory.at("tokens");
  } catch (const std::exception&) {
    return false;
  }
  return provider_ != nullptr;
}

std::string Dialogue::open_reply() const {
  return !turns_.empty() && turns_.back().role == "assistant" ? turns_.back().text : "";
}

int64_t Dialogue::replies() const {
  return std::count_if(turns_.begin(), turns_.end(),
                       [](const Message& turn) { return turn.role == "assistant"; });
}

std::string Dialogue::proposer() const { return proposer_.empty() ? name() : proposer_; }

std::string Dialogue::name() const { return provider_ ? asked()->name() : "builtin"; }

std::string Dialogue::transcript() const {
  std::string text;
  for (const auto* messages : {&prompt_.messages, &turns_}) {
    for (const Message& message : *messages)
      text += "# " + message.role + "\n\n" + message.text + "\n\n";
  }
  return text;
}

}  // namespace autoresearch
