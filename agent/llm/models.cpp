#include "agent/llm/models.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <utility>

#include "agent/llm/http.h"
#include "agent/llm/wire.h"
#include "common/clock.h"
#include "common/error.h"
#include "common/log.h"

namespace autoresearch {
namespace {

std::vector<std::string> provider_kinds() {
  std::vector<std::string> kinds = wire_kinds();
  kinds.insert(kinds.end(), {"command", "replay", "builtin"});
  return kinds;
}

constexpr double kIntroductionSeconds = 5;  // of retries in the first call: a mistake shows at once

bool names_a_kind(const std::string& text) {
  const std::string kind = text.substr(0, text.find(':'));
  const std::vector<std::string> kinds = provider_kinds();
  return text.find(':') != std::string::npos &&
         std::find(kinds.begin(), kinds.end(), kind) != kinds.end();
}

// Without --provider: what the other options imply, else the builtin proposer.
std::string implied_kind(const ModelOptions& options) {
  if (!options.first.kind.empty()) return options.first.kind;
  if (!options.replay.empty()) return "replay";
  if (!options.first.command.empty()) return "command";
  const bool endpoint = !options.first.model.empty() || !options.first.base_url.empty();
  return endpoint ? "openai" : "builtin";
}

Prices prices_of(const std::vector<std::string>& texts) {
  Prices prices;
  for (const std::string& text : texts)
    prices.insert_or_assign(parse_price(text).first, parse_price(text).second);
  return prices;
}

void say(const std::string& line) { log_info("model       " + line); }

// Where its calls go, as far as a key is concerned; empty for what is no endpoint.
std::string origin_of_calls(const ProviderOptions& options) {
  const auto wire = make_wire(options.kind);
  if (!wire) return "";
  return origin_of(options.base_url.empty() ? wire->default_base_url() : options.base_url);
}

// Many compatible endpoints are used with OPENAI_API_KEY: the first model's address was given for
// it, whatever the host.
std::string key_of_first(const ProviderOptions& first) {
  const auto wire = make_wire(first.kind);
  return first.key_env.empty() && wire ? wire->default_key_env() : first.key_env;
}

// The most exact of the names that have a price.
std::string price_name(const ProviderOptions& options, const Ledger& ledger) {
  const std::string named = options.kind + ":" + options.model;
  for (const std::string& name : {named + "@" + options.base_url, named})
    if (ledger.price_of(name)) return name;
  return options.model;
}

void check_price(const ProviderOptions& options, const Ledger& ledger) {
  const bool limited = ledger.max_usd() > 0;
  if (options.kind == "replay") return;
  if (options.kind == "command") {
    const auto price = ledger.price_of("command");
    check(price ? largest_cost(*price, 1, 1) == 0 : !limited,
          "what a command spends can't be counted; add --price command=0 if it costs nothing, "
          "or leave --max-usd and --price command=... out");
    return;
  }
  check(!limited || ledger.price_of(options.price_name),
        "--max-usd needs the price of " + options.model + "; add --price " + options.model +
            "=IN,CACHED,OUT in USD per million tokens, or --price " + options.model +
            "=0 if it costs nothing");
}

std::shared_ptr<Link> make_link(ProviderOptions options, Ledger& ledger) {
  options.ledger = &ledger;
  options.first_retry_seconds = kIntroductionSeconds;
  options.price_name = price_name(options, ledger);
  check_price(options, ledger);
  auto link = std::make_shared<Link>();
  link->introduced = options.kind == "replay";  // a word to it would use up a reply
  link->provider = make_provider(options);
  if (options.kind == "replay")
    say(link->provider->name() + ", recorded replies: no model is asked");
  return link;
}

}  // namespace

void add_model_options(CLI::App& run, ModelOptions& options) {
  ProviderOptions& first = options.first;
  run.add_option("--provider", first.kind,
                 "who proposes; default: what --model, --base-url, --command or --replay imply, "
                 "else builtin")
      ->check(CLI::IsMember(provider_kinds()));
  run.add_option("--model", first.model, "name of the model at the endpoint");
  run.add_option("--base-url", first.base_url,
                 "address of the endpoint, up to /v1; default: the provider's");
  run.add_option("--api-key-env", first.key_env,
                 "environment variable with the key; default: OPENAI_API_KEY or ANTHROPIC_API_KEY");
  run.add_option("--header", first.headers,
                 "NAME=VARIABLE: a header with the value of that environment variable, for the "
                 "first model's host; repeat for more")
      ->allow_extra_args(false);
  run.add_option("--command", first.command,
                 "program for --provider command: prompt on stdin, reply on stdout");
  run.add_option(
      "--replay", options.replay,
      "give the replies of an earlier run again: its tag, or its folder (written with a slash)");
  run.add_option("--fallback", options.fallbacks,
                 "model to ask if those before it fail: KIND:MODEL[@URL][#KEY_ENV]; repeat for "
                 "more; builtin: begin even if no model answers")
      ->allow_extra_args(false);
  run.add_option("--repair-model", options.repair_model,
                 "a cheaper model for repairs: as --fallback, or a model of the same endpoint");
  run.add_option("--price", options.prices,
                 "MODEL=IN,CACHED,OUT in USD per million tokens, or MODEL=0; KIND:MODEL[@URL]= "
                 "if one name has two prices; repeat for more")
      ->allow_extra_args(false);
  run.add_option("--max-usd", options.max_usd,
                 "ask no model beyond this sum; the builtin proposer continues")
      ->check(CLI::Range(1e-6, 1e6));
  run.add_option("--max-output-tokens", first.max_output_tokens,
                 "most tokens of a reply, reasoning included; one that is cut gets twice as many")
      ->check(CLI::Range(int64_t{256}, int64_t{1} << 20))
      ->capture_default_str();
  run.add_option("--reasoning-effort", first.reasoning_effort,
                 "low, medium or high; default: the endpoint's")
      ->check(CLI::IsMember({"low", "medium", "high"}));
  run.add_option("--temperature", first.temperature, "default: the endpoint's")
      ->check(CLI::Range(0.0, 2.0));
  run.add_flag("--stream,!--no-stream", first.stream,
               "receive replies as streams (default) or whole");
  run.add_option(
         "--patience", first.patience,
         "seconds that a model may be silent while it reads a prompt or thinks; default: 90 "
         "to 240, 900 on this machine")
      ->check(CLI::Range(1.0, 86400.0));
  run.add_option("--retry-minutes", options.retry_minutes,
                 "minutes until a model that failed is tried again; doubles up to an hour")
      ->check(CLI::Range(0.001, 60.0))
      ->capture_default_str();
}

ProviderOptions parse_model(const std::string& text, const ProviderOptions& base) {
  check(names_a_kind(text) && !text.starts_with("builtin:"),
        fmt::format("'{}' names no model; write KIND:MODEL[@URL][#KEY_ENV], where KIND is one of "
                    "{}, or command:CMD; builtin always comes last",
                    text, fmt::join(wire_kinds(), ", ")));
  ProviderOptions options = base;
  const size_t colon = text.find(':');
  options.kind = text.substr(0, colon);
  options.model = options.base_url = options.command = "";
  std::string rest = text.substr(colon + 1);
  if (options.kind == "command") {
    options.command = rest;
    return options;
  }
  options.key_env = "";
  if (const size_t url = rest.find("@http"); url != std::string::npos) {
    options.base_url = rest.substr(url + 1);
    rest.resize(url);
  }
  std::string& last = options.base_url.empty() ? rest : options.base_url;
  if (const size_t key = last.find('#'); key != std::string::npos) {
    options.key_env = last.substr(key + 1);
    last.resize(key);
  }
  options.model = rest;
  const std::string origin = origin_of_calls(options);
  const bool same_host = !origin.empty() && origin == origin_of_calls(base);
  if (options.key_env.empty() && same_host) options.key_env = base.key_env;
  if (!same_host) options.headers.clear();
  return options;
}

Models::Models(const ModelOptions& options, const std::vector<CallEvent>& earlier)
    : ledger_(prices_of(options.prices), options.max_usd, earlier) {
  const double first_wait = 60 * options.retry_minutes;
  ProviderOptions first = options.first;
  first.key_env = key_of_first(first);
  first.retry_seconds = std::min(first.retry_seconds, first_wait);
  std::vector<std::shared_ptr<Link>> links = {make_link(first, ledger_)};
  for (const std::string& fallback : options.fallbacks) {
    if (fallback == "builtin") {  // it is the last of every chain
      builtin_is_enough_ = true;
      continue;
    }
    links.push_back(make_link(parse_model(fallback, first), ledger_));
  }
  proposers_ = std::make_unique<Chain>(links, first_wait, boot_seconds, say);
  if (options.repair_model.empty()) return;
  ProviderOptions repair = first;
  repair.model = options.repair_model;
  if (names_a_kind(options.repair_model)) repair = parse_model(options.repair_model, first);
  links.insert(links.begin(), make_link(repair, ledger_));
  repairers_ = std::make_unique<Chain>(links, first_wait, boot_seconds, say);
}

void Models::introduce(bool first_start) {
  const bool one_must_answer = first_start && !builtin_is_enough_;
  proposers_->introduce(one_must_answer);
  if (repairers_) repairers_->introduce(one_must_answer);
}

std::unique_ptr<Models> make_models(ModelOptions options, const std::vector<CallEvent>& earlier) {
  options.first.kind = implied_kind(options);
  if (options.first.kind == "replay") options.first.model = options.replay;
  if (options.first.kind != "builtin") return std::make_unique<Models>(options, earlier);
  check(options.first.model.empty() && options.first.base_url.empty() &&
            options.first.command.empty() && options.replay.empty(),
        "--provider builtin asks no model; leave it out, or --model, --base-url, --command and "
        "--replay");
  check(options.fallbacks.empty() && options.repair_model.empty(),
        "--fallback and --repair-model need a first model; add --provider and --model");
  return nullptr;
}

}  // namespace autoresearch
