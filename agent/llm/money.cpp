#include "agent/llm/money.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <utility>

#include "common/error.h"
#include "common/log.h"

namespace autoresearch {
namespace {

using nlohmann::json;

constexpr double kMillion = 1e6;
constexpr size_t kTemplateBytes = 4096;  // what a server's own chat template may add

// "1,234" thousands are not needed: millions are.
std::string tokens(int64_t count) {
  if (count < 10'000) return std::to_string(count);
  if (count < 1'000'000) return format("%.0f k", static_cast<double>(count) / 1e3);
  return format("%.1f M", static_cast<double>(count) / 1e6);
}

std::string dollars(double usd) { return format(usd < 1 ? "$%.4f" : "$%.2f", usd); }

}  // namespace

std::pair<std::string, Price> parse_price(const std::string& text) {
  const std::string usage =
      "'" + text + "' is no price; write MODEL=IN,CACHED,OUT in USD per million tokens, or MODEL=0";
  const size_t equals = text.rfind('=');
  check(equals != std::string::npos && equals > 0, usage);
  std::vector<double> figures;
  const char* at = text.c_str() + equals + 1;
  while (true) {
    char* end = nullptr;
    const double figure = std::strtod(at, &end);
    check(end != at && std::isfinite(figure) && figure >= 0, usage);
    figures.push_back(figure);
    if (*end == '\0') break;
    check(*end == ',', usage);
    at = end + 1;
  }
  const std::string model = text.substr(0, equals);
  if (figures.size() == 1 && figures[0] == 0) return {model, Price{}};
  check(figures.size() == 3 || figures.size() == 4, usage);
  const double cache_write = figures.size() == 4 ? figures[3] : 2 * figures[0];
  return {model, {figures[0], figures[1], figures[2], cache_write}};
}

double cost_of(const Price& price, const Reply& reply) {
  const int64_t fresh =
      std::max<int64_t>(0, reply.tokens_in - reply.tokens_cached - reply.tokens_cache_written);
  return (static_cast<double>(fresh) * price.in +
          static_cast<double>(reply.tokens_cached) * price.cached +
          static_cast<double>(reply.tokens_cache_written) * price.cache_write +
          static_cast<double>(reply.tokens_out) * price.out) /
         kMillion;
}

double largest_cost(const Price& price, size_t prompt_bytes, int64_t room) {
  const double most_in = std::max({price.in, price.cached, price.cache_write});
  return (static_cast<double>(prompt_bytes + kTemplateBytes) * most_in +
          static_cast<double>(room) * price.out) /
         kMillion;
}

Ledger::Ledger(Prices prices, double max_usd, const std::vector<json>& earlier)
    : prices_(std::move(prices)), max_usd_(max_usd), spent_(spending_of(earlier).usd) {
  take_earlier(earlier);
}

void Ledger::take_earlier(const std::vector<json>& events) {
  std::map<int64_t, json> unpriced;
  std::map<int64_t, std::string> providers;
  for (const json& event : events) {
    const std::string name = event.value("event", "");
    const int64_t id = event.value("id", int64_t{0});
    if (name == "call") {
      next_id_ = std::max(next_id_, id + 1);
      providers[id] = event.value("provider", "");
      if (!event.contains("largest_usd")) unpriced[id] = event;
    } else if (name == "call_done") {
      if (event.value("stated", false)) {
        double& most = stated_[providers[id]];
        most = std::max(most, event.value("usd", 0.0));
      }
      if (unpriced.contains(id) && !event.contains("usd")) spent_ += late_cost(unpriced[id], event);
      unpriced.erase(id);
    }
  }
  for (const auto& [id, call] : unpriced) spent_ += late_cost(call, nullptr);
}

// Of a call that had no price when it was made. `done` null: it was never closed. The record does
// not say which of a model's prices is meant: the highest counts.
double Ledger::late_cost(const json& call, const json& done) const {
  const std::string provider = call.value("provider", "");
  const std::string model = provider.substr(provider.find(':') + 1);
  const bool known = done.is_object() && !done.value("assumed", false);
  Reply reply;
  if (known) {
    reply.tokens_in = done.value("tokens_in", int64_t{0});
    reply.tokens_cached = done.value("tokens_cached", int64_t{0});
    reply.tokens_cache_written = done.value("tokens_cache_written", int64_t{0});
    reply.tokens_out = done.value("tokens_out", int64_t{0});
  }
  double most = 0;
  for (const auto& [name, price] : prices_) {
    if (name != model && name != provider && !name.starts_with(provider + "@")) continue;
    most = std::max(most, known ? cost_of(price, reply)
                                : largest_cost(price, call.value("prompt_bytes", size_t{0}),
                                               call.value("room", int64_t{0})));
  }
  return most;
}

void Ledger::record_with(Record record) {
  record_ = std::move(record);
  for (json& event : std::exchange(unrecorded_, {})) record_(std::move(event));
}

void Ledger::note(json event) {
  if (record_)
    record_(std::move(event));
  else
    unrecorded_.push_back(std::move(event));
}

std::optional<Price> Ledger::price_of(const std::string& priced) const {
  const auto it = prices_.find(priced);
  return it == prices_.end() ? std::nullopt : std::optional(it->second);
}

std::optional<int64_t> Ledger::open(const std::string& provider, const std::string& priced,
                                    size_t prompt_bytes, int64_t room) {
  Open call{provider, priced, std::nullopt};
  if (const auto price = price_of(priced)) {
    const auto stated = stated_.find(provider);
    call.largest = std::max(largest_cost(*price, prompt_bytes, room),
                            stated == stated_.end() ? 0.0 : stated->second);
  }
  const bool free = call.largest == 0.0;
  const bool fits = call.largest && spent_ + *call.largest <= max_usd_;
  if (max_usd_ > 0 && !free && !fits) return std::nullopt;
  const int64_t id = next_id_++;
  json event = {{"event", "call"},
                {"id", id},
                {"provider", provider},
                {"prompt_bytes", prompt_bytes},
                {"room", room}};
  if (call.largest) event["largest_usd"] = *call.largest;
  note(std::move(event));
  spent_ += call.largest.value_or(0);
  open_[id] = call;
  return id;
}

void Ledger::close(int64_t id, const Reply& reply, Billed billed) {
  const Open call = open_.at(id);
  open_.erase(id);
  std::optional<double> usd = call.largest;
  if (billed == Billed::kNothing) usd = 0;
  const bool stated = billed == Billed::kReported && reply.cost;
  if (stated) usd = reply.cost;
  if (stated) stated_[call.provider] = std::max(stated_[call.provider], *reply.cost);
  if (billed == Billed::kReported && !reply.cost && call.largest)
    usd = cost_of(*price_of(call.priced), reply);
  spent_ += usd.value_or(0) - call.largest.value_or(0);
  json event = {{"event", "call_done"},           {"id", id},
                {"tokens_in", reply.tokens_in},   {"tokens_cached", reply.tokens_cached},
                {"tokens_out", reply.tokens_out}, {"tokens_reasoning", reply.tokens_reasoning},
                {"seconds", reply.seconds},       {"problem", reply.problem}};
  if (usd) event["usd"] = *usd;
  if (reply.tokens_cache_written > 0) event["tokens_cache_written"] = reply.tokens_cache_written;
  if (billed == Billed::kUnknown) event["assumed"] = true;
  if (stated) event["stated"] = true;
  note(std::move(event));
}

Spending spending_of(const std::vector<json>& events, int64_t from_experiment) {
  Spending sum;
  std::map<int64_t, std::optional<double>> open;  // what each can cost
  for (const json& event : events) {
    const std::string name = event.value("event", "");
    const int64_t id = event.value("id", int64_t{-1});
    if (name == "call" && event.value("n", int64_t{0}) >= from_experiment) {
      ++sum.calls;
      open[id] = event.contains("largest_usd") ? std::optional(event.value("largest_usd", 0.0))
                                               : std::nullopt;
      sum.unpriced += !open[id];
    } else if (name == "call_done" && open.contains(id)) {
      if (!open[id] && event.contains("usd")) --sum.unpriced;
      open.erase(id);
      const bool failed = !event.value("problem", "").empty();
      sum.failed += failed;
      sum.untold += !failed && event.value("tokens_in", int64_t{0}) == 0;
      sum.tokens_in += event.value("tokens_in", int64_t{0});
      sum.tokens_cached += event.value("tokens_cached", int64_t{0});
      sum.tokens_out += event.value("tokens_out", int64_t{0});
      sum.tokens_reasoning += event.value("tokens_reasoning", int64_t{0});
      sum.usd += event.value("usd", 0.0);
      if (event.value("assumed", false)) sum.assumed_usd += event.value("usd", 0.0);
      sum.seconds += event.value("seconds", 0.0);
    }
  }
  for (const auto& [id, largest] : open) {
    sum.usd += largest.value_or(0);
    sum.assumed_usd += largest.value_or(0);
  }
  return sum;
}

std::string spending_line(const Spending& sum, int64_t experiments, int64_t kept) {
  std::string line =
      format("%lld calls (%lld failed), %s tokens in (%s cached), %s out (%s reasoning)",
             static_cast<long long>(sum.calls), static_cast<long long>(sum.failed),
             tokens(sum.tokens_in).c_str(), tokens(sum.tokens_cached).c_str(),
             tokens(sum.tokens_out).c_str(), tokens(sum.tokens_reasoning).c_str());
  if (sum.untold > 0)
    line +=
        format(" without those of %lld calls that name none", static_cast<long long>(sum.untold));
  if (sum.usd == 0 && sum.unpriced > 0) return line + "; no price is known, see --price";
  line += ": " + dollars(sum.usd);
  if (sum.unpriced > 0)
    line += format(" without %lld calls that have no price", static_cast<long long>(sum.unpriced));
  if (experiments > 0)
    line += ", " + dollars(sum.usd / static_cast<double>(experiments)) + " an experiment";
  if (kept > 0) line += ", " + dollars(sum.usd / static_cast<double>(kept)) + " a kept change";
  return line;
}

std::string night_estimate(const Spending& sum, int64_t experiments, double expected_experiments) {
  const double calls = static_cast<double>(std::max<int64_t>(1, sum.calls - sum.failed));
  const double per_experiment = calls / static_cast<double>(std::max<int64_t>(1, experiments));
  std::string line = format("estimate    %.0f tokens in and %.0f out a call",
                            static_cast<double>(sum.tokens_in) / calls,
                            static_cast<double>(sum.tokens_out) / calls);
  if (sum.tokens_in == 0) line = "estimate    the calls name no tokens";
  if (sum.unpriced > 0) return line + "; no price is known, --price MODEL=IN,CACHED,OUT tells it";
  const double expected_calls = expected_experiments * per_experiment;
  const double usd = sum.usd - sum.assumed_usd;
  return line + ", " + dollars(usd / calls) + " each: about " +
         dollars(usd + usd / calls * expected_calls) +
         format(" when %.0f more experiments are done", expected_experiments);
}

}  // namespace autoresearch
