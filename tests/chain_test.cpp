// Who is asked when, who is left alone for how long, and what a user hears of it.
#include "agent/llm/chain.h"

#include <gtest/gtest.h>

#include <cmath>
#include <deque>

#include "agent/llm/models.h"
#include "agent/loop/toml_config.h"
#include "tests/loopback_server.h"
#include "tests/support.h"

namespace autoresearch {
namespace {

// A provider whose next replies are written down; an empty text is a failure.
class Scripted : public Provider {
 public:
  explicit Scripted(std::string name) : name_(std::move(name)) {}
  std::string name() const override { return name_; }
  Reply ask(const std::vector<Message>& conversation) override {
    ++asked;
    heard = conversation;
    Reply reply;
    if (!next.empty()) {
      reply = next.front();
      next.pop_front();
    } else {
      reply.text = "an answer";
    }
    reply.provider = name_;
    return reply;
  }
  std::deque<Reply> next;
  std::vector<Message> heard;
  int asked = 0;

 private:
  std::string name_;
};

class Failover : public testing::Test {
 protected:
  Failover() : first(new Scripted("first")), second(new Scripted("second")) {
    links = {std::make_shared<Link>(), std::make_shared<Link>()};
    links[0]->provider.reset(first);
    links[1]->provider.reset(second);
    chain = make(links);
  }
  std::unique_ptr<Chain> make(std::vector<std::shared_ptr<Link>> which) {
    return std::make_unique<Chain>(
        std::move(which), /*first_wait=*/300, [this] { return now; },
        [this](const std::string& line) { said.push_back(line); });
  }

  Scripted *first, *second;
  std::vector<std::shared_ptr<Link>> links;
  std::unique_ptr<Chain> chain;
  double now = 1000;
  std::vector<std::string> said;
};

TEST_F(Failover, TheFirstThatAnswersHasTheWord) {
  EXPECT_EQ(chain->ask({}).provider, "first");
  EXPECT_EQ(second->asked, 0);
  EXPECT_TRUE(said.empty());
  EXPECT_EQ(chain->name(), "first");
}

TEST_F(Failover, TheNextTakesOverAndTheFirstIsTriedAgainLater) {
  first->next = {failed_reply("refuses the key", true), failed_reply("still", true)};
  EXPECT_EQ(chain->ask({}).provider, "second");
  ASSERT_EQ(said.size(), 1u);
  EXPECT_HAS(said[0], "refuses the key");
  EXPECT_HAS(said[0], "going on with the next model");
  now += 299;
  EXPECT_EQ(chain->ask({}).provider, "second");
  EXPECT_EQ(first->asked, 1);
  now += 2;  // the second time it fails, it is left alone for twice as long, and nothing is said
  EXPECT_EQ(chain->ask({}).provider, "second");
  EXPECT_EQ(first->asked, 2);
  now += 599;
  EXPECT_EQ(chain->ask({}).provider, "second");
  EXPECT_EQ(first->asked, 2);
  now += 2;
  EXPECT_EQ(chain->ask({}).provider, "first");
  ASSERT_EQ(said.size(), 2u);
  EXPECT_EQ(said[1], "first answers again");
}

TEST_F(Failover, ThePauseGrowsToAnHourAndNoFurther) {
  auto alone = make({links[0]});
  for (int i = 0; i < 12; ++i) {
    first->next = {failed_reply("down", false)};
    alone->ask({});
    now += alone->seconds_until_ready();
  }
  first->next = {failed_reply("down", false)};
  alone->ask({});
  EXPECT_EQ(alone->seconds_until_ready(), 3600);
  EXPECT_EQ(said.size(), 1u);
  EXPECT_HAS(said[0], "going on with the builtin proposer");
}

TEST_F(Failover, TheWaitThatAnEndpointNamesIsObeyed) {
  Reply busy = failed_reply("too many", false);
  busy.wait = 1800;
  first->next = {busy};
  auto alone = make({links[0]});
  EXPECT_EQ(alone->ask({}).problem, "too many");
  EXPECT_EQ(alone->seconds_until_ready(), 1800);
  EXPECT_NE(alone->ask({}).problem, "");
  EXPECT_EQ(first->asked, 1);  // nobody was asked
}

TEST_F(Failover, AWaitOfADayIsCutToAnHour) {
  Reply busy = failed_reply("too many", false);
  busy.wait = 86400;
  first->next = {busy};
  auto alone = make({links[0]});
  alone->ask({});
  EXPECT_EQ(alone->seconds_until_ready(), 3600);
}

TEST_F(Failover, AConversationThatIsTooLongIsNoFailure) {
  Reply long_one = failed_reply("too long", false);
  long_one.too_long = true;
  first->next = {long_one};
  EXPECT_TRUE(chain->ask({}).too_long);
  EXPECT_EQ(second->asked, 0);
  EXPECT_EQ(chain->ask({}).provider, "first");
  EXPECT_TRUE(said.empty());
}

TEST_F(Failover, WhereNothingIsLeftToShortenTheNextModelIsAsked) {
  Reply long_one = failed_reply("too long", false);
  long_one.too_long = true;
  first->next = {long_one};
  EXPECT_EQ(chain->next(), "first");
  chain->pass_over(chain->ask({}));
  EXPECT_EQ(chain->next(), "second");
  EXPECT_EQ(chain->ask({}).provider, "second");
  ASSERT_EQ(said.size(), 1u);
  EXPECT_HAS(said[0], "too long");
  EXPECT_HAS(said[0], "going on with the next model");
  now += 301;
  EXPECT_EQ(chain->ask({}).provider, "first");
}

TEST_F(Failover, AModelThatTheBudgetHasNoRoomForIsNotTriedAgain) {
  Reply dear = failed_reply("--max-usd has no room", true);
  dear.used_up = true;
  first->next = {dear};
  EXPECT_EQ(chain->ask({}).provider, "second");
  now += 1e6;
  EXPECT_EQ(chain->ask({}).provider, "second");
  EXPECT_EQ(first->asked, 1);
  second->next = {dear};
  chain->ask({});
  EXPECT_TRUE(std::isinf(chain->seconds_until_ready()));
}

TEST_F(Failover, TwoChainsKnowTheSameOfAModel) {
  auto repair = make({links[1], links[0]});
  first->next = {failed_reply("down", false)};
  chain->ask({});
  second->next = {failed_reply("down", false)};
  EXPECT_NE(repair->ask({}).problem, "");
  EXPECT_EQ(first->asked, 1);  // the other chain has seen it fail
}

TEST_F(Failover, AMistakeAtTheStartIsAnErrorAndAnEndpointThatIsDownIsNot) {
  first->next = {failed_reply("can't reach it", false)};
  chain->introduce();
  EXPECT_FALSE(links[0]->down() == false);
  EXPECT_TRUE(chain->ready());
  EXPECT_EQ(chain->ask({}).provider, "second");
  auto another = make({std::make_shared<Link>()});
  auto* wrong = new Scripted("wrong");
  another->links()[0]->provider.reset(wrong);
  wrong->next = {failed_reply("no such model", true)};
  EXPECT_EQ(error_of([&] { another->introduce(); }), "no such model");
  chain->introduce();  // nobody is asked twice
  EXPECT_EQ(first->asked, 1);
}

TEST_F(Failover, AFirstStartWantsAWordFromOneOfThem) {
  auto alone = make({links[0]});
  first->next = {failed_reply("can't reach it", false)};
  const std::string refusal = error_of([&] { alone->introduce(/*one_must_answer=*/true); });
  EXPECT_HAS(refusal, "can't reach it; no model has answered yet");
  EXPECT_HAS(refusal, "--fallback builtin");
  EXPECT_TRUE(said.empty()) << "a refusal is one line";
  links[0]->introduced = false;
  first->next = {failed_reply("can't reach it", false)};
  chain->introduce(/*one_must_answer=*/true);  // the second one answers
  EXPECT_EQ(said.size(), 2u);
}

TEST_F(Failover, AMistakeInOneModelDoesNotKeepTheOthersFromBeginning) {
  first->next = {failed_reply("refuses the key", true)};
  chain->introduce();
  ASSERT_EQ(said.size(), 2u);
  EXPECT_HAS(said[0], "second answered");
  EXPECT_HAS(said[1], "refuses the key");
  EXPECT_HAS(said[1], "going on with the next model");
  EXPECT_EQ(chain->ask({}).provider, "second");
}

TEST_F(Failover, AMistakeInEveryModelIsAnErrorWithTheFirstOnesWords) {
  first->next = {failed_reply("refuses the key", true)};
  second->next = {failed_reply("no such model", true)};
  EXPECT_EQ(error_of([&] { chain->introduce(); }), "refuses the key");
  EXPECT_TRUE(said.empty());
}

// A server may refuse a system turn, or a template may have no place for one: that is to show at
// once.
TEST_F(Failover, TheOpeningQuestionHasTheShapeOfARealCall) {
  chain->introduce();
  ASSERT_EQ(first->heard.size(), 2u);
  EXPECT_EQ(first->heard[0].role, "system");
  EXPECT_EQ(first->heard[1].role, "user");
}

TEST_F(Failover, WhatIsOddAboutAModelIsSaidOnce) {
  Reply odd;
  odd.text = "an answer";
  odd.note = "it ends with 'normal'";
  first->next = {odd, odd};
  chain->ask({});
  chain->ask({});
  EXPECT_EQ(said, std::vector<std::string>{"first: it ends with 'normal'"});
}

TEST_F(Failover, AModelThatOnlyReasonedIsThere) {
  Reply reasoned = failed_reply("only reasoned", false);
  reasoned.is_there = true;
  first->next = {reasoned};
  chain->introduce();
  EXPECT_EQ(chain->ask({}).provider, "first");
}

// ------------------------------------------------------------------------------------------------
// From the command line and the TOML file

TEST(Models, AFallbackIsNamedInOneWord) {
  ProviderOptions base{.kind = "openai", .model = "gpt-5", .base_url = "http://x/v1"};
  base.stream = false;
  base.max_output_tokens = 5000;
  const ProviderOptions plain = parse_model("anthropic:claude-sonnet-4-5", base);
  EXPECT_EQ(plain.kind, "anthropic");
  EXPECT_EQ(plain.model, "claude-sonnet-4-5");
  EXPECT_EQ(plain.base_url + plain.key_env, "");
  EXPECT_EQ(plain.max_output_tokens, 5000);
  EXPECT_FALSE(plain.stream);
  const ProviderOptions full =
      parse_model("openai:deepseek-chat@https://api.deepseek.com/v1#DEEPSEEK_API_KEY", base);
  EXPECT_EQ(full.model, "deepseek-chat");
  EXPECT_EQ(full.base_url, "https://api.deepseek.com/v1");
  EXPECT_EQ(full.key_env, "DEEPSEEK_API_KEY");
  const ProviderOptions local = parse_model("ollama:qwen3:32b", base);
  EXPECT_EQ(local.model, "qwen3:32b");
  EXPECT_EQ(parse_model("command:./ask.sh --fast #1", base).command, "./ask.sh --fast #1");
  for (const char* wrong : {"gpt-5", "telepathy:x", "builtin:x", ""})
    EXPECT_HAS(error_of([&] { parse_model(wrong, base); }), "KIND:MODEL");
}

ModelOptions parsed(std::vector<std::string> arguments) {
  ModelOptions options;
  CLI::App app("test");
  CLI::App& run = *app.add_subcommand("run", "");
  add_config_file(app, run);
  add_model_options(run, options);
  std::reverse(arguments.begin(), arguments.end());
  app.parse(arguments);
  return options;
}

using ModelsFile = FolderTest;

TEST_F(ModelsFile, TheTomlFileAndTheCommandLineSayTheSame) {
  write_file(dir_ / "night.toml", R"([run]
provider = "openai"
model = "gpt-5"
fallback = ["anthropic:claude-sonnet-4-5", "ollama:qwen3:32b@http://localhost:11434"]
repair-model = "gpt-5-mini"
price = ["gpt-5=1.25,0.125,10", "gpt-5-mini=0.25,0.025,2"]
max-usd = 5
max-output-tokens = 9000
patience = 600
header = ["X-Tenant=TENANT"]
stream = false
)");
  const ModelOptions file = parsed({"run", "--config", dir_ / "night.toml"});
  const ModelOptions line = parsed({"run",
                                    "--provider",
                                    "openai",
                                    "--model",
                                    "gpt-5",
                                    "--fallback",
                                    "anthropic:claude-sonnet-4-5",
                                    "--fallback",
                                    "ollama:qwen3:32b@http://localhost:11434",
                                    "--repair-model",
                                    "gpt-5-mini",
                                    "--price",
                                    "gpt-5=1.25,0.125,10",
                                    "--price",
                                    "gpt-5-mini=0.25,0.025,2",
                                    "--max-usd",
                                    "5",
                                    "--max-output-tokens",
                                    "9000",
                                    "--patience",
                                    "600",
                                    "--header",
                                    "X-Tenant=TENANT",
                                    "--no-stream"});
  for (const ModelOptions& options : {file, line}) {
    EXPECT_EQ(options.first.kind, "openai");
    EXPECT_EQ(options.fallbacks,
              (std::vector<std::string>{"anthropic:claude-sonnet-4-5",
                                        "ollama:qwen3:32b@http://localhost:11434"}));
    EXPECT_EQ(options.repair_model, "gpt-5-mini");
    EXPECT_EQ(options.prices,
              (std::vector<std::string>{"gpt-5=1.25,0.125,10", "gpt-5-mini=0.25,0.025,2"}));
    EXPECT_EQ(options.max_usd, 5);
    EXPECT_EQ(options.first.max_output_tokens, 9000);
    EXPECT_EQ(options.first.patience, 600);
    EXPECT_EQ(options.first.headers, std::vector<std::string>{"X-Tenant=TENANT"});
    EXPECT_FALSE(options.first.stream);
  }
}

TEST_F(ModelsFile, TheTomlFileIsReadAsTomlIs) {
  write_file(dir_ / "night.toml", R"([run]  # of tonight
model = 'gpt-5'
api-key-env = "FIRST_KEY"    # "quoted"
fallback = [
  "openai:deepseek-chat@https://api.deepseek.com/v1#DEEPSEEK_API_KEY",  # a spare
  "openai:grok@https://api.x.ai/v1#XAI_API_KEY",
]
price = []
temperature = 0.5
max-usd = 1_0
)");
  const ModelOptions options = parsed({"run", "--config", dir_ / "night.toml"});
  EXPECT_EQ(options.first.key_env, "FIRST_KEY");
  EXPECT_EQ(
      options.fallbacks,
      (std::vector<std::string>{"openai:deepseek-chat@https://api.deepseek.com/v1#DEEPSEEK_API_KEY",
                                "openai:grok@https://api.x.ai/v1#XAI_API_KEY"}));
  EXPECT_TRUE(options.prices.empty());
  EXPECT_EQ(options.first.temperature, 0.5);
  EXPECT_EQ(options.max_usd, 10);
}

TEST_F(ModelsFile, AMistakeInTheTomlFileIsNamedWithItsLine) {
  const auto error_in = [&](const std::string& text) {
    write_file(dir_ / "night.toml", text);
    return error_of([&] { parsed({"run", "--config", dir_ / "night.toml"}); });
  };
  const std::string file = (dir_ / "night.toml").string(), under = "; options stand under [run]";
  EXPECT_HAS(error_in("[run]\nmax-usd = 5\nmodel = \"gpt-5\nmax-hours = 9\n"), "line 3 of " + file);
  EXPECT_HAS(error_in("[run]\nmodel = 2026-11-25\n"), "line 2 of " + file + ": model must");
  EXPECT_HAS(error_in("[run]\nmodel = \"a\"\nmodel = \"b\"\n"), "line 3 of ");
  EXPECT_EQ(error_in("[run]\nmodle = \"gpt-5\"\n"),
            "line 2 of " + file + ": there is no option modle (did you mean model?)" + under);
  EXPECT_EQ(error_in("[run]\n\nmax_output_tokens = 9\n"),
            "line 3 of " + file +
                ": there is no option max_output_tokens (did you mean max-output-tokens?)" + under);
  EXPECT_EQ(error_in("[run]\nweather = 1\n"),
            "line 2 of " + file + ": there is no option weather" + under);
  EXPECT_EQ(error_in("base-url = \"http://x/v1\"\n"),
            "line 1 of " + file + ": base-url stands before any section" + under);
  EXPECT_EQ(error_in("modle = 1\n[run]\n"),
            "line 1 of " + file + ": there is no option modle (did you mean model?)" + under);
  EXPECT_EQ(error_in("# tonight\n[runs]\nmodel = \"a\"\n"),
            "line 2 of " + file + ": there is no section [runs]" + under);
  EXPECT_HAS(error_in("[run.model]\nname = 1\n"), "model must be a text");
}

TEST(ConfigFile, StandsInTheHelpOfRun) {
  CLI::App app("test");
  CLI::App& run = *app.add_subcommand("run", "");
  add_config_file(app, run);
  EXPECT_HAS(run.help(), "--config FILE");
}

// Who gets which key, of the first model's, of the one that a fallback names, and of the default.
TEST(Models, AKeyIsSentToItsOwnHostOnly) {
  const LoopbackServer first({chat_answer("ok")}), other({chat_answer("ok")});
  setenv("OPENAI_API_KEY", "sk-default-0123456789", 1);
  setenv("OTHER_API_KEY", "sk-other-0123456789", 1);
  ModelOptions options;
  options.first.model = "m";
  options.first.base_url = first.url();
  options.fallbacks = {"openai:same@" + first.url(), "openai:none@" + other.url(),
                       "openai:named@" + other.url() + "#OTHER_API_KEY"};
  const auto models = make_models(options, {});
  for (const auto& link : models->proposers().links()) link->provider->ask({{"user", "hi"}});
  unsetenv("OPENAI_API_KEY");
  unsetenv("OTHER_API_KEY");
  const auto key = [](const HttpRequest& request) {
    const auto header = request.headers.find("authorization");
    return header == request.headers.end() ? "none" : header->second;
  };
  EXPECT_EQ(key(first.requests().at(0)), "Bearer sk-default-0123456789");
  EXPECT_EQ(key(first.requests().at(1)), "Bearer sk-default-0123456789");
  EXPECT_EQ(key(other.requests().at(0)), "none");
  EXPECT_EQ(key(other.requests().at(1)), "Bearer sk-other-0123456789");
}

TEST(Models, HeadersGoToTheFirstModelsHostOnly) {
  const LoopbackServer first({chat_answer("ok")}), other({chat_answer("ok")});
  setenv("CHAIN_TEST_TENANT", "blue", 1);
  ModelOptions options;
  options.first.model = "m";
  options.first.base_url = first.url();
  options.first.headers = {"X-Tenant=CHAIN_TEST_TENANT"};
  options.fallbacks = {"openai:same@" + first.url(), "openai:other@" + other.url()};
  const auto models = make_models(options, {});
  for (const auto& link : models->proposers().links()) link->provider->ask({{"user", "hi"}});
  unsetenv("CHAIN_TEST_TENANT");
  EXPECT_EQ(first.requests().at(0).headers.at("x-tenant"), "blue");
  EXPECT_EQ(first.requests().at(1).headers.at("x-tenant"), "blue");
  EXPECT_EQ(other.requests().at(0).headers.count("x-tenant"), 0u);
}

TEST(Models, ABudgetWithoutAPriceIsRefused) {
  ModelOptions options;
  options.first.model = "gpt-5";
  options.fallbacks = {"openai:gpt-5-mini"};
  options.max_usd = 3;
  options.prices = {"gpt-5=1,0.1,10"};
  EXPECT_HAS(error_of([&] { make_models(options, {}); }), "--price gpt-5-mini=");
  options.prices.push_back("gpt-5-mini=0");
  EXPECT_NE(make_models(options, {}), nullptr);
  options.repair_model = "gpt-5-nano";
  EXPECT_HAS(error_of([&] { make_models(options, {}); }), "--price gpt-5-nano=");
  options.fallbacks = {"command:./ask.sh"};
  EXPECT_HAS(error_of([&] { make_models(options, {}); }), "--price command=0");
}

// Nobody can tell what a program spends: a sum of zeros would be no account.
TEST(Models, ACommandIsFreeOrHasNoPrice) {
  ModelOptions options;
  options.first.command = "./ask.sh";
  EXPECT_NE(make_models(options, {}), nullptr);
  options.prices = {"command=1,0.1,10"};
  EXPECT_HAS(error_of([&] { make_models(options, {}); }), "--price command=0");
  options.max_usd = 3;
  EXPECT_HAS(error_of([&] { make_models(options, {}); }), "--price command=0");
  options.prices = {"command=0"};
  EXPECT_NE(make_models(options, {}), nullptr);
}

// A name alone does not say whose price it is.
TEST(Models, OneModelAtTwoEndpointsHasTwoPrices) {
  const LoopbackServer server({chat_answer("ok")}), other({chat_answer("ok")});
  ModelOptions options;
  options.first.model = "m";
  options.first.base_url = server.url();
  options.fallbacks = {"openai:m@" + other.url()};
  options.prices = {"openai:m@" + other.url() + "=0,0,2000", "m=0,0,1000"};
  options.max_usd = 100;
  const auto models = make_models(options, {});
  const auto& links = models->proposers().links();
  links[0]->provider->ask({{"user", "hi"}});
  EXPECT_NEAR(models->ledger().spent(), 0.034, 1e-9);  // 34 tokens
  links[1]->provider->ask({{"user", "hi"}});
  EXPECT_NEAR(models->ledger().spent(), 0.034 + 0.068, 1e-9);
}

TEST(Models, TheBuiltinProposerIsEnoughForAFirstStartIfItIsNamed) {
  ModelOptions options;
  options.first.command = "exit 0";  // prints nothing
  options.retry_minutes = 0.001;
  EXPECT_HAS(error_of([&] { make_models(options, {})->introduce(true); }), "--fallback builtin");
  EXPECT_EQ(error_of([&] { make_models(options, {})->introduce(false); }), "") << "later starts";
  options.fallbacks = {"builtin"};
  EXPECT_EQ(error_of([&] { make_models(options, {})->introduce(true); }), "");
}

TEST(Models, WithoutAModelThereIsOnlyTheBuiltinProposer) {
  ModelOptions options;
  EXPECT_EQ(make_models(options, {}), nullptr);
  options.fallbacks = {"openai:gpt-5"};
  EXPECT_HAS(error_of([&] { make_models(options, {}); }), "--provider");
  options.fallbacks.clear();
  options.first.kind = "builtin";
  EXPECT_EQ(make_models(options, {}), nullptr);
  options.first.model = "gpt-5";
  EXPECT_HAS(error_of([&] { make_models(options, {}); }), "--provider builtin asks no model");
  options.first.model = "";
  options.first.base_url = "http://localhost:8080/v1";
  EXPECT_HAS(error_of([&] { make_models(options, {}); }), "--provider builtin asks no model");
}

TEST(Models, ARepairModelAnswersFirstAndTheChainBehindIt) {
  const LoopbackServer server([](const HttpRequest& request, size_t) {
    const bool repair = request.body.find("cheap-model") != std::string::npos;
    return repair ? error_answer(404, "no such model") : chat_answer("from the chain");
  });
  ModelOptions options;
  options.first.model = "dear-model";
  options.first.base_url = server.url();
  options.repair_model = "cheap-model";
  const auto models = make_models(options, {});
  EXPECT_EQ(models->repairer()->name(), "openai:cheap-model");
  const Reply reply = models->repairer()->ask({{"user", "mend it"}});
  EXPECT_EQ(reply.provider, "openai:dear-model");
  EXPECT_EQ(reply.text, "from the chain");
}

}  // namespace
}  // namespace autoresearch
