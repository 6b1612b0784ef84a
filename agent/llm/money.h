// What the calls of a run cost, and the limit on it. Prices come from the user (`--price`, or
// `price = [...]` under [run] in agent's TOML file); where an endpoint states the cost itself
// (OpenRouter's usage.cost), its word is taken.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "agent/llm/llm.h"

namespace autoresearch {

struct Price {  // USD per million tokens
  double in = 0;
  double cached = 0;       // of input that was read from the provider's cache
  double out = 0;          // reasoning included
  double cache_write = 0;  // of input that is written into the cache for an hour (Anthropic)
};
using Prices = std::map<std::string, Price>;  // by model, or KIND:MODEL, or KIND:MODEL@URL

// "MODEL=IN,CACHED,OUT" with a fourth figure where writing into the cache costs something else than
// twice IN, or "MODEL=0" for one that costs nothing. Throws Error.
std::pair<std::string, Price> parse_price(const std::string& text);

double cost_of(const Price& price, const Tokens& tokens);

// The most that one request can cost: no token is shorter than a byte.
double largest_cost(const Price& price, size_t prompt_bytes, int64_t room);

// A request to a model, before it is sent. `n`: the experiment that it is for; 0: to see if the
// model answers.
struct CallOpened {
  int64_t id = 0, n = 0;
  std::string provider;
  int64_t prompt_bytes = 0;
  int64_t room = 0;                   // tokens of its answer at most
  std::optional<double> largest_usd;  // the most that it can cost; nothing: no price is known
};

// What came of it.
struct CallClosed : Tokens {
  int64_t id = 0;
  double seconds = 0;
  std::string problem;
  std::optional<double> usd;
  bool assumed = false;  // it broke off, and `usd` is the most that it could cost
  bool stated = false;   // `usd` is the endpoint's own word
};

using CallEvent = std::variant<CallOpened, CallClosed>;

// The account of a run. Every request to a model is opened here, with the most it can cost, before
// it is sent, and closed with what it did cost; both go to the journal, so that a request that a
// power cut left open still counts in full. Used by one thread at a time.
class Ledger {
 public:
  using Record = std::function<void(const CallEvent& event)>;

  // `max_usd` 0: no limit. `earlier`: the calls in the run's journal; those without a price are
  // counted at the price that is known now.
  Ledger(Prices prices, double max_usd, const std::vector<CallEvent>& earlier);

  // From now on events are recorded as they come; those since the construction first.
  void record_with(Record record);

  std::optional<Price> price_of(const std::string& priced) const;
  double max_usd() const { return max_usd_; }
  double spent() const { return spent_; }  // USD; what is open counts with the most it can cost

  // `priced`: the name of its price. Returns the request's number; none where it might pass the
  // limit, or where there is a limit and no price: it must not be sent then. What is free always
  // may, unless its endpoint stated a cost before: then that is the most it can cost.
  std::optional<int64_t> open(const std::string& provider, const std::string& priced,
                              size_t prompt_bytes, int64_t room);
  enum class Billed {
    kNothing,   // it never arrived, or was refused
    kReported,  // the reply's figures are the endpoint's
    kUnknown,   // it broke off: the most it could cost is taken for its cost
  };
  void close(int64_t id, const Reply& reply, Billed billed);

 private:
  void note(const CallEvent& event);
  void take_earlier(const std::vector<CallEvent>& events);
  double late_cost(const CallOpened& call, const CallClosed* done) const;

  struct Open {
    std::string provider, priced;
    std::optional<double> largest;
  };
  const Prices prices_;
  const double max_usd_;
  Record record_;
  std::vector<CallEvent> unrecorded_;
  std::map<std::string, double>
      stated_;  // by provider, the most that a call of it was said to cost
  std::map<int64_t, Open> open_;
  int64_t next_id_ = 0;
  double spent_ = 0;
};

// All calls of a run, added up as they come. An open one counts with the most that it can cost.
struct Spending {
  int64_t calls = 0, failed = 0, unpriced = 0;
  int64_t untold = 0;  // answered calls of which nobody said how many tokens they took: commands'
  int64_t tokens_in = 0, tokens_cached = 0, tokens_out = 0, tokens_reasoning = 0;
  double usd = 0;
  double assumed_usd = 0;  // of it, for calls that broke off or were never closed
  double seconds = 0;      // of waiting for replies
  std::map<int64_t, std::optional<double>> open = {};  // by id, the most that each can cost

  void take(const CallEvent& event);
  int64_t answered() const { return calls - failed - static_cast<int64_t>(open.size()); }
};

// One line of a summary: calls, tokens, and where prices are known the cost in all, per experiment
// and per kept change.
std::string spending_line(const Spending& spending, int64_t experiments, int64_t kept);

// What a night will cost, from the calls so far: printed once, after the third call. What calls
// that broke off might have cost is left out.
std::string night_estimate(const Spending& so_far, int64_t experiments,
                           double expected_experiments);

}  // namespace autoresearch
