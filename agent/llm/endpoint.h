// A model behind an HTTP endpoint: one Wire (agent/llm/wire.h), and the patience that a night
// needs.
#pragma once

#include <memory>
#include <random>

#include "agent/llm/api_error.h"
#include "agent/llm/http.h"
#include "agent/llm/llm.h"
#include "agent/llm/secret.h"
#include "agent/llm/wire.h"

namespace autoresearch {

// How long an endpoint may be silent. Pure. `first`: the opening question, which has a model to
// load, but no long prompt to read, and for which the start of the run waits. `wanted`: --patience,
// 0 for what suits the address: a model on this machine may read a long prompt for minutes on a
// CPU; a public endpoint that says nothing is down.
Patience patience_for(const std::string& url, bool stream, bool first, double wanted);

// The factor on it after one more cut-off silence, which may have been reading: twice as long each
// time, up to four times. Pure.
double grown_patience(double factor);

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
  Patience patience() const;
  HttpResponse send(const std::string& body, AnswerReader& reader);
  Step judge(const Answer& answer, const HttpResponse& response);
  Step judge_transport(const HttpResponse& response) const;
  Step judge_error(const ApiError& error, const HttpResponse& response);
  Step judge_redirect(const HttpResponse& response) const;
  bool adapt(const ApiError& error, Remedy remedy);
  bool lower_room(const ApiError& error);
  Step judge_answer(const Answer& answer);
  Step judge_text(const Answer& answer, Step step);
  Step judge_empty(const Answer& answer, Step step);

  std::string request_body(const std::vector<Message>& conversation) const;
  std::vector<std::string> header_lines() const;
  std::string without_secrets(std::string words) const;
  std::string quoted(const std::string& words) const;
  std::string advice_for(const ApiError& error) const;
  std::string oddity_of(const Answer& answer) const;
  Step problem(const std::string& text, Next next) const;
  Step fatal(const std::string& text) const;
  bool widen();

  const ProviderOptions options_;
  const std::unique_ptr<Wire> wire_;
  std::string url_;
  const std::string shown_;
  const std::string key_env_;
  const Secret key_;
  std::vector<std::pair<std::string, Secret>> headers_;  // of --header
  CallSettings settings_;  // what this endpoint refused once is not sent again
  // Tokens of room: what the next conversation begins with, the most that the model gives, and the
  // most that it gives this conversation, whose length may count against it.
  int64_t room_, most_room_, room_here_;
  std::mt19937 random_;
  double retry_seconds_;  // of waiting in the next ask(); 0 after one that failed: a single try
  bool first_ = true;     // this is the opening question
  double patience_grown_ = 1;  // times what patience_for() says
  int empties_ = 0;            // empty answers within this ask()
  bool afforded_ = false;      // within this ask(), less was asked for since credit is short
};

}  // namespace autoresearch
