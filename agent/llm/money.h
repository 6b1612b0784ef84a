// What the calls of a run cost, and the limit on it. Prices come from the user (`--price`, or
// `price = [...]` under [run] in agent's TOML file); where an endpoint states the cost itself
// (OpenRouter's usage.cost), its word is taken.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
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

double cost_of(const Price& price, const Reply& reply);

// The most that one request can cost: no token is shorter than a byte.
double largest_cost(const Price& price, size_t prompt_bytes, int64_t room);

// The account of a run. Every request to a model is opened here, with the most it can cost, before
// it is sent, and closed with what it did cost; both go to the journal, so that a request that a
// power cut left open still counts in full.
class Ledger {
 public:
  using Record = std::function<void(nlohmann::json event)>;

  // `max_usd` 0: no limit. `earlier`: the run's journal so far; its calls without a price are
  // counted at the price that is known now.
  Ledger(Prices prices, double max_usd, const std::vector<nlohmann::json>& earlier);

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
  void note(nlohmann::json event);
  void take_earlier(const std::vector<nlohmann::json>& events);
  double late_cost(const nlohmann::json& call, const nlohmann::json& done) const;

  struct Open {
    std::string provider, priced;
    std::optional<double> largest;
  };
  const Prices prices_;
  const double max_usd_;
  Record record_;
  std::vector<nlohmann::json> unrecorded_;
  std::map<std::string, double>
      stated_;  // by provider, the most that a call of it was said to cost
  std::map<int64_t, Open> open_;
  int64_t next_id_ = 0;
  double spent_ = 0;
};

// All calls of a run, from its journal. Unclosed ones count with the most they could cost.
struct Spending {
  int64_t calls = 0, failed = 0, unpriced = 0;
  int64_t untold = 0;  // answered calls of which nobody said how many tokens they took: commands'
  int64_t tokens_in = 0, tokens_cached = 0, tokens_out = 0, tokens_reasoning = 0;
  double usd = 0;
  double assumed_usd = 0;  // of it, for calls that broke off or were never closed
  double seconds = 0;      // of waiting for replies
};
// `from_experiment` 1 leaves out what was asked before the first, to see whether a model answers.
Spending spending_of(const std::vector<nlohmann::json>& events, int64_t from_experiment = 0);

// One line of a summary: calls, tokens, and where prices are known the cost in all, per experiment
// and per kept change.
std::string spending_line(const Spending& spending, int64_t experiments, int64_t kept);

// What a night will cost, from the calls so far: printed once, after the third call. What calls
// that broke off might have cost is left out.
std::string night_estimate(const Spending& so_far, int64_t experiments,
                           double expected_experiments);

}  // namespace autoresearch
