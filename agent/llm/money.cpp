#include "agent/llm/money.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <utility>

#include "common/error.h"

namespace autoresearch {
namespace {

constexpr double kMillion = 1e6;
constexpr size_t kTemplateBytes = 4096;  // what a server's own chat template may add

template <typename Count>
double real(Count count) {
  return static_cast<double>(count);
}

std::string tokens(int64_t count) {
  if (count < 10'000) return fmt::to_string(count);
  if (count < 1'000'000) return fmt::format("{:.0f} k", real(count) / 1e3);
  return fmt::format("{:.1f} M", real(count) / 1e6);
}

std::string dollars(double usd) { return fmt::format("${:.{}f}", usd, usd < 1 ? 4 : 2); }

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

double cost_of(const Price& price, const Tokens& tokens) {
  const double cached = real(tokens.tokens_cached), written = real(tokens.tokens_cache_written);
  const double fresh = std::max(0.0, real(tokens.tokens_in) - cached - written);
  return (fresh * price.in + cached * price.cached + written * price.cache_write +
          real(tokens.tokens_out) * price.out) /
         kMillion;
}

double largest_cost(const Price& price, size_t prompt_bytes, int64_t room) {
  const double most_in = std::max({price.in, price.cached, price.cache_write});
  return (real(prompt_bytes + kTemplateBytes) * most_in + real(room) * price.out) / kMillion;
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
  double most = 0;
  for (const auto& [name, price] : prices_) {
    if (name != model && name != provider && !name.starts_with(provider + "@")) continue;
    most = std::max(most,
                    known ? cost_of(price, *done)
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
  note(
      CallClosed{reply, id, reply.seconds, reply.problem, usd, billed == Billed::kUnknown, stated});
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
      fmt::format("{} calls ({} failed), {} tokens in ({} cached), {} out ({} reasoning)",
                  sum.calls, sum.failed, tokens(sum.tokens_in), tokens(sum.tokens_cached),
                  tokens(sum.tokens_out), tokens(sum.tokens_reasoning));
  if (sum.untold > 0) line += fmt::format(" without those of {} calls that name none", sum.untold);
  if (sum.usd == 0 && sum.unpriced > 0) return line + "; no price is known, see --price";
  line += ": " + dollars(sum.usd);
  if (sum.unpriced > 0) line += fmt::format(" without {} calls that have no price", sum.unpriced);
  if (experiments > 0)
    line += fmt::format(", {} an experiment", dollars(sum.usd / real(experiments)));
  if (kept > 0) line += fmt::format(", {} a kept change", dollars(sum.usd / real(kept)));
  return line;
}

std::string night_estimate(const Spending& sum, int64_t experiments, double expected_experiments) {
  const double calls = real(std::max<int64_t>(1, sum.calls - sum.failed));
  const double per_experiment = calls / real(std::max<int64_t>(1, experiments));
  const std::string line =
      sum.tokens_in == 0 ? "estimate    the calls name no tokens"
                         : fmt::format("estimate    {:.0f} tokens in and {:.0f} out a call",
                                       real(sum.tokens_in) / calls, real(sum.tokens_out) / calls);
  if (sum.unpriced > 0) return line + "; no price is known, --price MODEL=IN,CACHED,OUT tells it";
  const double usd = sum.usd - sum.assumed_usd;
  return fmt::format(
      "{}, {} each: about {} when {:.0f} more experiments are done", line, dollars(usd / calls),
      dollars(usd + usd / calls * expected_experiments * per_experiment), expected_experiments);
}

}  // namespace autoresearch
