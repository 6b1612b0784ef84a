// Prices, the account of a run, its limit, and what a user is told of it.
#include "agent/llm/money.h"

#include <gtest/gtest.h>

#include "agent/record/journal.h"
#include "tests/story.h"
#include "tests/support.h"

namespace autoresearch {
namespace {

const Prices kPrices = {{"m", {.in = 2, .cached = 0.2, .out = 10, .cache_write = 4}}};

Reply reply_of(int64_t in, int64_t cached, int64_t out) {
  Reply reply;
  reply.text = "x";
  reply.tokens_in = in;
  reply.tokens_cached = cached;
  reply.tokens_out = out;
  return reply;
}

TEST(Price, IsReadFromOneWord) {
  const auto [model, price] = parse_price("openai/gpt-5:floor=1.25,0.125,10");
  EXPECT_EQ(model, "openai/gpt-5:floor");
  EXPECT_EQ(price.in, 1.25);
  EXPECT_EQ(price.cached, 0.125);
  EXPECT_EQ(price.out, 10);
  EXPECT_EQ(price.cache_write, 2.5);
  EXPECT_EQ(parse_price("m=1,2,3,4").second.cache_write, 4);
  EXPECT_EQ(parse_price("m=0").second.out, 0);
  for (const char* wrong : {"m", "=1,2,3", "m=", "m=1", "m=1,2", "m=1,2,x", "m=1,2,-3",
                            "m=1,2,3,4,5", "m=1,,3", "m=nan,1,2"})
    EXPECT_HAS(error_of([&] { parse_price(wrong); }), "MODEL=IN,CACHED,OUT");
}

TEST(Price, CachedTokensCostTheirOwn) {
  Reply reply = reply_of(1'000'000, 600'000, 100'000);
  reply.tokens_cache_written = 100'000;
  EXPECT_NEAR(cost_of(kPrices.at("m"), reply), 0.3 * 2 + 0.6 * 0.2 + 0.1 * 4 + 0.1 * 10, 1e-9);
}

TEST(Price, NoCallCostsMoreThanItsLargest) {
  const Price price = kPrices.at("m");
  // One token a byte, everything written into the cache, the whole room used.
  Reply worst = reply_of(5000, 0, 700);
  worst.tokens_cache_written = 5000;
  EXPECT_GE(largest_cost(price, 5000, 700), cost_of(price, worst));
}

TEST(Ledger, WhatIsOpenCountsWithTheMostItCanCost) {
  Ledger ledger(kPrices, 0, {});
  const auto id = ledger.open("openai:m", "m", 0, 100'000);
  ASSERT_TRUE(id);
  EXPECT_GT(ledger.spent(), 1.0);
  ledger.close(*id, reply_of(1000, 0, 1000), Ledger::Billed::kReported);
  EXPECT_NEAR(ledger.spent(), 0.012, 1e-9);
}

TEST(Ledger, ACallThatMightPassTheLimitIsNotOpened) {
  Ledger ledger(kPrices, 1.5, {});
  const auto id = ledger.open("openai:m", "m", 0, 100'000);  // a dollar and a bit
  ASSERT_TRUE(id);
  EXPECT_FALSE(ledger.open("openai:m", "m", 0, 100'000));
  ledger.close(*id, reply_of(1000, 0, 10'000), Ledger::Billed::kReported);
  EXPECT_TRUE(ledger.open("openai:m", "m", 0, 100'000));
  EXPECT_FALSE(ledger.open("openai:unknown", "unknown", 0, 1));
}

TEST(Ledger, WhatIsFreeIsAskedBeyondTheLimitToo) {
  Prices prices = kPrices;
  prices["free"] = {};
  const auto events = [] {
    std::vector<CallEvent> events;
    Ledger earlier(kPrices, 0, {});
    earlier.record_with([&](const CallEvent& event) { events.push_back(event); });
    earlier.open("openai:m", "m", 0, 100'000);
    return events;
  }();
  Ledger ledger(prices, 0.5, events);  // a dollar is gone
  EXPECT_FALSE(ledger.open("openai:m", "m", 0, 1));
  EXPECT_TRUE(ledger.open("ollama:free", "free", 0, 1));
}

TEST(Ledger, WhatAnEndpointStatesIsTaken) {
  Ledger ledger({}, 0, {});
  Reply reply = reply_of(1000, 0, 1000);
  reply.cost = 0.5;
  const auto id = ledger.open("openai:m", "m", 0, 100);
  ledger.close(*id, reply, Ledger::Billed::kReported);
  EXPECT_EQ(ledger.spent(), 0.5);
}

// --price m=0 was a mistake, and the endpoint says so.
TEST(Ledger, AStatedCostOfWhatWasCalledFreeCountsAgainstTheLimit) {
  std::vector<CallEvent> events;
  Reply reply = reply_of(1000, 0, 1000);
  reply.cost = 0.4;
  {
    Ledger ledger({{"m", {}}}, 1, {});
    ledger.record_with([&](const CallEvent& event) { events.push_back(event); });
    for (int i = 0; i < 2; ++i) {
      const auto id = ledger.open("openai:m", "m", 0, 100);
      ASSERT_TRUE(id);
      ledger.close(*id, reply, Ledger::Billed::kReported);
    }
    EXPECT_FALSE(ledger.open("openai:m", "m", 0, 100));
    EXPECT_TRUE(ledger.open("ollama:m", "m", 0, 100));  // which stated nothing
  }
  Ledger again({{"m", {}}}, 1, events);
  EXPECT_FALSE(again.open("openai:m", "m", 0, 100));
  EXPECT_TRUE(Ledger({{"m", {}}}, 1.3, events).open("openai:m", "m", 0, 100));
}

// A run without --price is gone on with under --max-usd.
TEST(Ledger, EarlierCallsWithoutAPriceCountAtThePriceThatIsKnownNow) {
  std::vector<CallEvent> events;
  {
    Ledger ledger({}, 0, {});
    ledger.record_with([&](const CallEvent& event) { events.push_back(event); });
    const auto told = ledger.open("openai:m", "m", 5000, 100);
    ledger.close(*told, reply_of(1'000'000, 0, 100'000), Ledger::Billed::kReported);
    const auto broken = ledger.open("openai:m", "m", 5000, 1'000'000);
    ledger.close(*broken, failed_reply("broke off", false), Ledger::Billed::kUnknown);
    const auto refused = ledger.open("openai:m", "m", 5000, 100);
    ledger.close(*refused, failed_reply("busy", false), Ledger::Billed::kNothing);
    ledger.open("openai:m", "m", 5000, 1'000'000);  // a power cut
    const auto other = ledger.open("openai:other", "other", 5000, 100);
    ledger.close(*other, reply_of(1'000'000, 0, 0), Ledger::Billed::kReported);
  }
  const double largest = largest_cost(kPrices.at("m"), 5000, 1'000'000);
  EXPECT_NEAR(Ledger(kPrices, 100, events).spent(), 2 + 1 + 2 * largest, 1e-9);
  const Prices exact = {{"openai:m@http://x/v1", kPrices.at("m")}};
  EXPECT_NEAR(Ledger(exact, 100, events).spent(), 2 + 1 + 2 * largest, 1e-9);
  EXPECT_EQ(Ledger({}, 0, events).spent(), 0);
}

using LedgerFile = FolderTest;

// kill -9 between a call and its end: what it may have cost is not forgotten.
TEST_F(LedgerFile, AnUnclosedCallOfAKilledRunCountsInFull) {
  double largest = 0;
  {
    Journal journal(dir_ / "journal.jsonl");
    Ledger ledger(kPrices, 0, {});
    const auto early = ledger.open("openai:m", "m", 100, 50'000);  // before the journal is open
    ledger.close(*early, reply_of(10, 0, 10), Ledger::Billed::kReported);
    ledger.record_with([&](const CallEvent& call) { journal.append(as_event(call)); });
    ASSERT_TRUE(ledger.open("openai:m", "m", 100, 50'000));
    largest = largest_cost(kPrices.at("m"), 100, 50'000);
  }
  const std::vector<Entry> entries = read_journal(dir_ / "journal.jsonl");
  const std::vector<CallEvent> events = calls_in(entries);
  ASSERT_EQ(events.size(), 3u);
  EXPECT_NE(std::get<CallOpened>(events[0]).id, std::get<CallOpened>(events[2]).id);
  Ledger again(kPrices, 0, events);
  EXPECT_NEAR(again.spent(), largest + 120e-6, 1e-9);
  EXPECT_NEAR(replay(entries).spending.usd, again.spent(), 1e-9);
  EXPECT_FALSE(Ledger(kPrices, 2 * largest, events).open("openai:m", "m", 100, 50'000));
  EXPECT_TRUE(Ledger(kPrices, 2.1 * largest, events).open("openai:m", "m", 100, 50'000));
}

std::vector<CallEvent> a_nights_events(bool priced) {
  std::vector<CallEvent> events;
  Ledger ledger(priced ? kPrices : Prices{}, 0, {});
  ledger.record_with([&](const CallEvent& event) { events.push_back(event); });
  for (int i = 0; i < 4; ++i) {
    const auto id = ledger.open("openai:m", "m", 66'000, 12'000);
    ledger.close(*id, i == 0 ? failed_reply("busy", false) : reply_of(22'000, 11'000, 3'000),
                 i == 0 ? Ledger::Billed::kNothing : Ledger::Billed::kReported);
  }
  return events;
}

Spending spending_of(const std::vector<CallEvent>& events) {
  Spending spending;
  for (const CallEvent& event : events) spending.take(event);
  return spending;
}

TEST(Spending, TheSummaryNamesTheCostOfAnExperimentAndOfAKeptChange) {
  const Spending priced = spending_of(a_nights_events(true));
  EXPECT_NEAR(priced.usd, 3 * (0.022 + 0.0022 + 0.03), 1e-9);
  EXPECT_EQ(spending_line(priced, 3, 1),
            "4 calls (1 failed), 66 k tokens in (33 k cached), 9000 out (0 reasoning): $0.1626, "
            "$0.0542 an experiment, $0.1626 a kept change");
  EXPECT_HAS(spending_line(spending_of(a_nights_events(false)), 3, 1), "no price is known");
}

TEST(Spending, TheEstimateCountsCallsPerExperiment) {
  const Spending priced = spending_of(a_nights_events(true));
  // 0.0542 a call, one call an experiment: what was spent, and a hundred more.
  EXPECT_EQ(night_estimate(priced, 3, 100),
            "estimate    22000 tokens in and 3000 out a call, $0.0542 each: about $5.58 when 100 "
            "more experiments are done");
  EXPECT_HAS(night_estimate(spending_of(a_nights_events(false)), 3, 100), "--price");
}

TEST(Spending, TheEstimateLeavesOutWhatBrokenCallsMightHaveCost) {
  std::vector<CallEvent> events = a_nights_events(true);
  const std::string without = night_estimate(spending_of(events), 3, 100);
  CallOpened opened;
  CallClosed closed;
  opened.id = closed.id = 99;
  opened.largest_usd = closed.usd = 7.0;
  closed.problem = "broke off";
  closed.assumed = true;
  events.insert(events.end(), {opened, closed});
  EXPECT_NEAR(spending_of(events).usd, spending_of(a_nights_events(true)).usd + 7, 1e-9);
  EXPECT_EQ(night_estimate(spending_of(events), 3, 100), without);
}

TEST(Spending, TheEstimateLeavesOutWhatWasAskedBeforeTheFirstExperiment) {
  Story story;
  for (CallEvent& event : a_nights_events(true)) {
    if (auto* opened = std::get_if<CallOpened>(&event)) opened->n = opened->id == 1 ? 0 : 1;
    story.tell(as_event(event));
  }
  EXPECT_EQ(story.state.spending.calls, 4);
  EXPECT_EQ(story.state.on_experiments.calls, 3);
  EXPECT_EQ(story.state.on_experiments.tokens_in, 44'000);
}

TEST(Spending, CallsThatNameNoTokensAreSaidToBeThere) {
  std::vector<CallEvent> events;
  Ledger ledger({{"command", {}}}, 1, {});
  ledger.record_with([&](const CallEvent& event) { events.push_back(event); });
  const auto id = ledger.open("command:./ask.sh", "command", 66'000, 0);
  ledger.close(*id, reply_of(0, 0, 0), Ledger::Billed::kReported);
  EXPECT_HAS(spending_line(spending_of(events), 1, 0), "without those of 1 calls that name none");
  EXPECT_HAS(night_estimate(spending_of(events), 1, 10), "name no tokens");
}

TEST(Spending, CallsWithoutAPriceAreNamedBesideThoseWithOne) {
  std::vector<CallEvent> events = a_nights_events(true);
  for (CallEvent& later : a_nights_events(false)) {
    std::visit([](auto& event) { event.id += 4; }, later);
    events.push_back(later);
  }
  const Spending both = spending_of(events);
  EXPECT_EQ(both.calls, 8);
  EXPECT_EQ(both.unpriced, 3);  // the failed one cost nothing
  EXPECT_HAS(spending_line(both, 6, 0), "$0.1626 without 3 calls that have no price");
}

}  // namespace
}  // namespace autoresearch
