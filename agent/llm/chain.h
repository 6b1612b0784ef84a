// Failover: the first model that answers has the word; one that fails is left alone for a while and
// then tried again. Where none answers, the loop goes on with the builtin proposer.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "agent/llm/llm.h"

namespace autoresearch {

// One model of a chain. Two chains may share it, and what is known of its health.
struct Link {
  std::unique_ptr<Provider> provider;
  bool introduced = false;
  int failures = 0;                    // in a row
  std::atomic<double> not_before = 0;  // seconds of the chain's clock; read by other threads
  std::set<std::string> notes = {};    // that were said of it
  bool down() const { return failures > 0; }
};

class Chain : public Provider {
 public:
  // `first_wait`: seconds until a model that failed is tried again; doubles with each failure up to
  // an hour. Where the endpoint itself says how long to wait, its word is taken, up to an hour too:
  // a night has few. `clock` must count on while the machine sleeps. `say` is called once when a
  // model fails, once when it answers again, and once for each thing that is odd about it.
  Chain(std::vector<std::shared_ptr<Link>> links, double first_wait, std::function<double()> clock,
        std::function<void(const std::string&)> say);

  std::string name() const override;  // of the first model
  std::string next() const;           // of the one that the next ask() begins with
  // The reply of the first model that answers. A conversation that is too long, and an interrupt,
  // are the caller's to handle and no failure of the model's.
  Reply ask(const std::vector<Message>& conversation) override;

  // For a conversation that `reply` says is too long and that can't be made shorter: the model that
  // said so counts as failed, and the next one is asked instead, whose context may hold it.
  void pass_over(const Reply& reply);

  // Seconds until some model may be asked; 0: now. Infinite: never again in this run.
  double seconds_until_ready() const;
  bool ready() const { return seconds_until_ready() <= 0; }

  // Asks each model that was not introduced yet for a word, in the shape of a real call, so that a
  // mistake costs seconds and not the night. Throws Error where no waiting mends any of them (a
  // refused key, an unknown model, no credit), and if `one_must_answer` and none does; else one
  // that failed is said to have, is left alone and tried again later.
  void introduce(bool one_must_answer = false);

  const std::vector<std::shared_ptr<Link>>& links() const { return links_; }

 private:
  void went(Link& link, const Reply& reply);
  void came_back(Link& link);
  void pass_on(Link& link, const Reply& reply);

  std::vector<std::shared_ptr<Link>> links_;
  double first_wait_;
  std::function<double()> clock_;
  std::function<void(const std::string&)> say_;
};

}  // namespace autoresearch
