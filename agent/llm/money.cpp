#include "agent/llm/money.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <utility>

#include "common/error.h"
#include "common/log.h"

namespace autoresearch {
namespace {

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

Ledger::Ledger(Prices prices, double max_usd, const std::vector<CallEvent>& earlier)
    : prices_(std::move(prices)), max_usd_(max_usd) {
  take_earlier(earlier);
}

// What was spent, the dearest call of each provider that states its cost, and the calls of an
// earlier day that had no price then.
void Ledger::take_earlier(const std::vector<CallEvent>& events) {
  Spending sum;
  std::map<int64_t, CallOpened> unpriced;
  std::map<int64_t, std::string> providers;
  for (const CallEvent& event : events) {
    sum.take(event);
    if (const auto* call = std::get_if<CallOpened>(&event)) {
      next_id_ = std::max(next_id_, call->id + 1);
      providers[call->id] = call->provider;
      if (!call->largest_usd) unpriced[call->id] = *call;
      continue;
    }
    const auto& done = std::get<CallClosed>(event);
    if (done.stated) {
      double& most = stated_[providers[done.id]];
      most = std::max(most, done.usd.value_or(0));
    }
    if (unpriced.contains(done.id) && !done.usd) spent_ += late_cost(unpriced[done.id], &done);
    unpriced.erase(done.id);
  }
  for (const auto& [id, call] : unpriced) spent_ += late_cost(call, nullptr);
  spent_ += sum.usd;
}

// Of a call that had no price when it was made. `done` null: it was never closed. The record does
// not say which of a model's prices is meant: the highest counts.
double Ledger::late_cost(const CallOpened& call, const CallClosed* done) const {
  const std::string& provider = call.provider;
  const std::string model = provider.substr(provider.find(':') + 1);
  const bool known = done && !done->assumed;
  Reply reply;
  if (known) {
    reply.tokens_in = done->tokens_in;
    reply.tokens_cached = done->tokens_cached;
    reply.tokens_cache_written = done->tokens_cache_written;
    reply.tokens_out = done->tokens_out;
  }
  double most = 0;
  for (const auto& [name, price] : prices_) {
    if (name != model && name != provider && !name.starts_with(provider + "@")) continue;
    most = std::max(most,
                    known ? cost_of(price, reply)
                          : largest_cost(price, static_cast<size_t>(call.prompt_bytes), call.room));
  }
  return most;
}

void Ledger::record_with(Record record) {
  record_ = std::move(record);
  for (const CallEvent& event : std::exchange(unrecorded_, {})) record_(event);
}

void Ledger::note(const CallEvent& event) {
  if (record_)
    record_(event);
  else
    unrecorded_.push_back(event);
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
  note(CallOpened{id, 0, provider, static_cast<int64_t>(prompt_bytes), room, call.largest});
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
  note(CallClosed{id, reply.tokens_in, reply.tokens_cached, reply.tokens_cache_written,
                  reply.tokens_out, reply.tokens_reasoning, reply.seconds, reply.problem, usd,
                  billed == Billed::kUnknown, stated});
}

void Spending::take(const CallEvent& event) {
  if (const auto* call = std::get_if<CallOpened>(&event)) {
    ++calls;
    open[call->id] = call->largest_usd;
    unpriced += !call->largest_usd;
    usd += call->largest_usd.value_or(0);
    assumed_usd += call->largest_usd.value_or(0);
    return;
  }
  const auto& done = std::get<CallClosed>(event);
  const auto opened = open.find(done.id);
  if (opened == open.end()) return;
  const double largest = opened->second.value_or(0);
  if (!opened->second && done.usd) --unpriced;
  open.erase(opened);
  failed += !done.problem.empty();
  untold += done.problem.empty() && done.tokens_in == 0;
  tokens_in += done.tokens_in;
  tokens_cached += done.tokens_cached;
  tokens_out += done.tokens_out;
  tokens_reasoning += done.tokens_reasoning;
  usd += done.usd.value_or(0) - largest;
  assumed_usd += (done.assumed ? done.usd.value_or(0) : 0) - largest;
  seconds += done.seconds;
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
