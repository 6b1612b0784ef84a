// The models of a run, from the command line or the TOML file: the chain that proposes, the one
// that repairs, the account of both.
#pragma once

#include <CLI/CLI.hpp>
#include <memory>
#include <string>
#include <vector>

#include "agent/llm/chain.h"
#include "agent/llm/llm.h"
#include "agent/llm/money.h"

namespace autoresearch {

struct ModelOptions {
  ProviderOptions first;               // first.kind empty: what the other options imply
  std::string replay;                  // an earlier run, for first.kind "replay"
  std::vector<std::string> fallbacks;  // KIND:MODEL[@URL][#KEY_ENV], asked in this order; builtin
  std::string repair_model;            // the same, or a model of the first one's endpoint
  std::vector<std::string> prices;     // MODEL=IN,CACHED,OUT, also KIND:MODEL= and KIND:MODEL@URL=
  double max_usd = 0;                  // 0: no limit
  double retry_minutes = 5;            // until a model that failed is tried again
};

void add_model_options(CLI::App& run, ModelOptions& options);

// "openai:gpt-5-mini", "openai:deepseek-chat@https://api.deepseek.com/v1#DEEPSEEK_API_KEY",
// "ollama:qwen3:32b", "command:./ask.sh", "replay:monday". What it does not name is as in `base`,
// whose key and headers go to no other host. Throws Error.
ProviderOptions parse_model(const std::string& text, const ProviderOptions& base);

class Models {
 public:
  // `earlier`: the calls in the run's journal, which count. Throws Error for options that can't
  // work, and where --max-usd is set and a price is not known.
  Models(const ModelOptions& options, const std::vector<CallEvent>& earlier);

  // Chain::introduce for every model, once each. At a first start one must answer, unless the user
  // named the builtin proposer as a fallback.
  void introduce(bool first_start = false);

  // Chain::pass_over for the model that gave `reply`, in whichever chain it stands.
  void pass_over(const Reply& reply) { (repairers_ ? *repairers_ : *proposers_).pass_over(reply); }

  Chain& proposers() { return *proposers_; }
  Provider* repairer() { return repairers_ ? repairers_.get() : proposers_.get(); }
  Ledger& ledger() { return ledger_; }

 private:
  Ledger ledger_;
  bool builtin_is_enough_ = false;  // --fallback builtin
  std::unique_ptr<Chain> proposers_, repairers_;
};

// Null where only the builtin proposer is wanted.
std::unique_ptr<Models> make_models(ModelOptions options, const std::vector<CallEvent>& earlier);

}  // namespace autoresearch
