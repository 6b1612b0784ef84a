// A model behind an HTTP endpoint: one Wire (agent/llm/wire.h), and the patience that a night
// needs.
#pragma once

#include <memory>
#include <random>

#include "agent/llm.h"
#include "agent/llm/api_error.h"
#include "agent/llm/http.h"
#include "agent/llm/secret.h"
#include "agent/llm/wire.h"

namespace autoresearch {

// Seconds before the next try: doubles from `first` on up to a minute, with a quarter of jitter
// either way, so that several agents don't come back together.
double back_off(double first, int attempt, std::mt19937& random);

class Endpoint : public Provider {
 public:
  Endpoint(const ProviderOptions& options, std::unique_ptr<Wire> wire);
  std::string name() const override { return options_.kind + ":" + options_.model; }
  Reply ask(const std::vector<Message>& conversation) override;

 private:
  // What to do after one request.
  enum class Next { kDone, kWait, kAgain };
  struct Step {
    Reply reply;
    Next next = Next::kDone;
    bool sent = true;      // it may have been worked on, and billed
    bool counted = false;  // the reply's tokens are the endpoint's own figures
    bool silent = false;   // it was taken and never answered
  };

  Reply ask_until_done(const std::vector<Message>& conversation);
  Step ask_once(const std::vector<Message>& conversation);
  Step exchange(const std::string& body);
  Step judge_transport(const HttpResponse& response) const;
  Step judge_error(const ApiError& error, const HttpResponse& response);
  bool adapt(const ApiError& error, Remedy remedy);
  Step judge_answer(const Answer& answer);
  Step judge_text(const Answer& answer, Step step);

  std::string request_body(const std::vector<Message>& conversation) const;
  std::string quoted(const std::string& words) const;
  std::string advice_for(long status) const;
  Step problem(const std::string& text, Next next) const;
  Step fatal(const std::string& text) const;
  bool widen();

  const ProviderOptions options_;
  const std::unique_ptr<Wire> wire_;
  const std::string url_, shown_;
  const std::string key_env_;
  const Secret key_;
  CallSettings settings_;  // what this endpoint refused once is not sent again
  // Tokens of room: what the next conversation begins with, the most that the model gives, and the
  // most that it gives this conversation, whose length may count against it.
  int64_t room_, most_room_, room_here_;
  std::mt19937 random_;
  double patience_;  // seconds of waiting in the next ask(); 0 after one that failed: a single try
  double most_stall_;  // seconds without a byte in the next ask()
  int empties_ = 0;    // empty answers within this ask()
};

}  // namespace autoresearch
