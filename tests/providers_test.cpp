// Every protocol, streamed and whole, over real sockets: what is asked, what is read, and every way
// in which an answer goes wrong.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <random>
#include <set>

#include "agent/llm/endpoint.h"
#include "agent/llm/llm.h"
#include "agent/llm/money.h"
#include "agent/llm/wire.h"
#include "common/back_off.h"
#include "common/run_folder.h"
#include "tests/loopback_server.h"
#include "tests/recorded_answers.h"
#include "tests/support.h"

namespace autoresearch {
namespace {

using nlohmann::json;
using End = HttpAnswer::End;

const char kKey[] = "sk-test-0123456789abcdef";
const std::string kText =
    "IDEA: h\xc3\xa9llo\n<<<<<<< SEARCH\nint a = 1;\nint b = 2;\nint c = 3;\n=======\nint a = "
    "2;\nint b = "
    "2;\nint c = 3;\n>>>>>>> REPLACE\n";
const std::string kThought = "Let me think about the learning rate.";
const std::vector<Message> kConversation = {{"system", "be brief", true},
                                            {"user", "the program", true},
                                            {"user", "the log"},
                                            {"assistant", "an edit"},
                                            {"user", "it does not build"}};

struct Setting {
  std::string kind;
  bool stream;
};

class Protocol : public testing::TestWithParam<Setting> {
 protected:
  void SetUp() override {
    setenv("LLM_TEST_KEY", kKey, 1);
    for (const char* name : {"http_proxy", "all_proxy", "ALL_PROXY"}) unsetenv(name);
  }

  ProviderOptions options(const std::string& url) const {
    ProviderOptions options;
    options.kind = GetParam().kind;
    options.model = "test-model";
    options.base_url = url;
    options.key_env = "LLM_TEST_KEY";
    options.stream = GetParam().stream;
    options.retry_seconds = options.first_retry_seconds = 30;
    options.first_wait = 0.01;
    return options;
  }

  Reply ask(const LoopbackServer& server) const {
    const Reply reply = make_provider(options(server.url()))->ask(kConversation);
    EXPECT_EQ(reply.problem.find('\n'), std::string::npos) << reply.problem;
    EXPECT_TRUE(reply.problem.empty() || reply.text.empty());
    EXPECT_EQ(reply.provider, GetParam().kind + ":test-model");
    return reply;
  }

  HttpAnswer good(const Said& said = {.text = kText}) const {
    return recorded_answer(GetParam().kind, GetParam().stream, said);
  }
  HttpAnswer inner_error(const std::string& type, const std::string& message) const {
    return recorded_inner_error(GetParam().kind, GetParam().stream, type, message);
  }
  HttpAnswer error(int status, const std::string& type, const std::string& message,
                   std::vector<std::string> headers = {}) const {
    return recorded_error(GetParam().kind, status, type, message, std::move(headers));
  }
};

std::vector<Setting> every_setting() {
  std::vector<Setting> settings;
  for (const std::string& kind : wire_kinds()) {
    settings.push_back({kind, true});
    settings.push_back({kind, false});
  }
  return settings;
}

INSTANTIATE_TEST_SUITE_P(, Protocol, testing::ValuesIn(every_setting()), [](const auto& info) {
  std::string name = info.param.kind + (info.param.stream ? "_stream" : "_whole");
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

// ------------------------------------------------------------------------------------------------
// What is sent and what is read

TEST_P(Protocol, ReadsTextAndTokensAndLeavesReasoningOut) {
  const LoopbackServer server({good({.text = kText, .thought = kThought})});
  const Reply reply = ask(server);
  EXPECT_EQ(reply.problem, "");
  EXPECT_EQ(reply.text, kText);
  EXPECT_FALSE(reply.truncated);
  EXPECT_EQ(reply.tokens_in, 1200);
  EXPECT_EQ(reply.tokens_out, 34);
  EXPECT_EQ(reply.tokens_cached, GetParam().kind == "ollama" ? 0 : 1000);
  EXPECT_EQ(reply.tokens_cache_written, GetParam().kind == "anthropic" ? 50 : 0);
  EXPECT_EQ(reply.tokens_reasoning, GetParam().kind.starts_with("openai") ? 20 : 0);
  EXPECT_FALSE(reply.cost);
  EXPECT_EQ(server.requests().size(), 1u);
}

TEST_P(Protocol, AsksInItsOwnShape) {
  const LoopbackServer server({good()});
  ask(server);
  const HttpRequest request = server.requests().at(0);
  const json body = json::parse(request.body);
  EXPECT_EQ(body.at("model"), "test-model");
  EXPECT_EQ(body.value("stream", false), GetParam().stream);
  EXPECT_EQ(request.headers.at("content-type"), "application/json");
  const std::string bearer = std::string("Bearer ") + kKey;
  if (GetParam().kind == "openai") {
    EXPECT_EQ(request.path, "/v1/chat/completions");
    EXPECT_EQ(request.headers.at("authorization"), bearer);
    EXPECT_EQ(body.at("max_tokens"), 12000);
    EXPECT_EQ(body.contains("stream_options"), GetParam().stream);
    EXPECT_EQ(body.at("messages"), json::parse(R"([
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "the program\nthe log"},
        {"role": "assistant", "content": "an edit"},
        {"role": "user", "content": "it does not build"}])"));
  } else if (GetParam().kind == "openai-responses") {
    EXPECT_EQ(request.path, "/v1/responses");
    EXPECT_EQ(request.headers.at("authorization"), bearer);
    EXPECT_EQ(body.at("max_output_tokens"), 12000);
    EXPECT_EQ(body.at("instructions"), "be brief");
    EXPECT_EQ(body.at("store"), false);
    EXPECT_EQ(body.at("input").size(), 3u);
  } else if (GetParam().kind == "ollama") {
    EXPECT_EQ(request.path, "/v1/api/chat");
    EXPECT_EQ(body.at("stream"), GetParam().stream);  // its default is true: it must be said
    EXPECT_EQ(body.at("options").at("num_predict"), 12000);
    EXPECT_EQ(body.at("options").at("num_ctx"), 16384);
    EXPECT_EQ(body.at("messages").size(), 4u);
  } else {
    EXPECT_EQ(request.path, "/v1/messages");
    EXPECT_EQ(request.headers.at("x-api-key"), kKey);
    EXPECT_EQ(request.headers.at("anthropic-version"), "2023-06-01");
    EXPECT_EQ(request.headers.at("authorization"), bearer);  // a gateway, not Anthropic's own host
    EXPECT_EQ(body.at("max_tokens"), 12000);
  }
}

TEST(Anthropic, CacheMarksOfAnHourStandAfterTheStableParts) {
  const LoopbackServer server({recorded_answer("anthropic", false, {.text = "ok"})});
  ProviderOptions options{.kind = "anthropic", .model = "m", .base_url = server.url()};
  EXPECT_EQ(make_provider(options)->ask(kConversation).text, "ok");
  const json body = json::parse(server.requests().at(0).body);
  EXPECT_EQ(body.at("system"), json::parse(R"([{"type": "text", "text": "be brief",
      "cache_control": {"type": "ephemeral", "ttl": "1h"}}])"));
  EXPECT_EQ(body.at("messages"), json::parse(R"([
      {"role": "user", "content": [
          {"type": "text", "text": "the program",
           "cache_control": {"type": "ephemeral", "ttl": "1h"}},
          {"type": "text", "text": "the log"}]},
      {"role": "assistant", "content": [{"type": "text", "text": "an edit"}]},
      {"role": "user", "content": [{"type": "text", "text": "it does not build"}]}])"));
}

TEST(OpenRouter, TheCostThatItStatesIsTaken) {
  HttpAnswer answer = chat_answer("ok");
  json body = json::parse(answer.body);
  body["usage"]["cost"] = 0.01234;
  answer.body = body.dump();
  const LoopbackServer server({answer});
  ProviderOptions options{.kind = "openai", .model = "m", .base_url = server.url()};
  EXPECT_EQ(make_provider(options)->ask({{"user", "hi"}}).cost, 0.01234);
}

TEST(OpenRouter, AnthropicModelsGetCacheMarksToo) {
  const LoopbackServer server({chat_answer("ok")});
  ProviderOptions options{
      .kind = "openai", .model = "anthropic/claude-sonnet", .base_url = server.url()};
  EXPECT_EQ(make_provider(options)->ask(kConversation).text, "ok");
  const json messages = json::parse(server.requests().at(0).body).at("messages");
  EXPECT_EQ(messages[0]["content"][0]["cache_control"]["ttl"], "1h");
  EXPECT_EQ(messages[1]["content"][0]["cache_control"]["ttl"], "1h");
  EXPECT_EQ(messages[2]["content"], "the log");
}

TEST(Gemini, ReasoningThatItLeavesOutOfTheAnswersTokensIsCounted) {
  HttpAnswer answer = chat_answer("ok");
  json body = json::parse(answer.body);
  body["usage"] = {{"prompt_tokens", 100}, {"completion_tokens", 30}, {"total_tokens", 630}};
  answer.body = body.dump();
  const LoopbackServer server({answer});
  ProviderOptions options{.kind = "openai", .model = "m", .base_url = server.url()};
  const Reply reply = make_provider(options)->ask({{"user", "hi"}});
  EXPECT_EQ(reply.tokens_out, 530);
  EXPECT_EQ(reply.tokens_reasoning, 500);
}

TEST(DeepSeek, ItsCacheHitsAndKeepAlivesAreUnderstood) {
  HttpAnswer answer = recorded_answer("openai", true, {.text = "ok"});
  const std::string details = R"("prompt_tokens_details":{"audio_tokens":0,"cached_tokens":1000},)";
  const size_t at = answer.body.find(details);
  ASSERT_NE(at, std::string::npos);
  answer.body.replace(at, details.size(), R"("prompt_cache_hit_tokens":900,)");
  answer.body.insert(0, "\n\n: keep-alive\n\n: keep-alive\n\n");
  const LoopbackServer server({answer});
  ProviderOptions options{.kind = "openai", .model = "m", .base_url = server.url()};
  const Reply reply = make_provider(options)->ask({{"user", "hi"}});
  EXPECT_EQ(reply.text, "ok");
  EXPECT_EQ(reply.tokens_cached, 900);
}

TEST_P(Protocol, AServerThatDoesNotStreamIsUnderstoodAllTheSame) {
  if (!GetParam().stream) GTEST_SKIP() << "whole answers were asked for";
  const LoopbackServer server({recorded_answer(GetParam().kind, false, {.text = kText})});
  EXPECT_EQ(ask(server).text, kText);
}

TEST_P(Protocol, AServerThatStreamsUnaskedIsUnderstoodAllTheSame) {
  if (GetParam().stream) GTEST_SKIP() << "a stream was asked for";
  const LoopbackServer server({recorded_answer(GetParam().kind, true, {.text = kText})});
  const Reply reply = ask(server);
  EXPECT_EQ(reply.text, kText);
  EXPECT_EQ(reply.tokens_out, 34);
  EXPECT_EQ(server.requests().size(), 1u);
}

TEST_P(Protocol, TheEndIsSeenThoughTheConnectionStaysOpen) {
  HttpAnswer open = good();
  open.end = End::kOpen;
  const LoopbackServer server({open});
  ProviderOptions impatient = options(server.url());
  impatient.patience = 2;
  EXPECT_EQ(make_provider(impatient)->ask(kConversation).text, kText);
}

TEST_P(Protocol, ThinkingThatALocalServerLeavesInTheTextIsCutOff) {
  const LoopbackServer server(
      {good({.text = "<think>\nhm\n</think>\n\nIDEA: x"}), good({.text = "hm\n</think>IDEA: y"})});
  const auto provider = make_provider(options(server.url()));
  EXPECT_EQ(provider->ask(kConversation).text, "\n\nIDEA: x");
  EXPECT_EQ(provider->ask(kConversation).text, "IDEA: y");
}

// What some gateways put between the events, and behind the last.
TEST_P(Protocol, LinesThatAreNoJsonCostNothing) {
  if (!GetParam().stream) GTEST_SKIP() << "a stream was not asked for";
  for (const std::string odd : {"ping", "null", "[]", "<html>502</html>", "\"text\"", "[DONE"}) {
    const bool events = GetParam().kind != "ollama";
    const std::string line = events ? "data: " + odd + "\n\n" : odd + "\n";
    HttpAnswer answer = good();
    const size_t first = answer.body.find(events ? "\n\n" : "\n") + (events ? 2 : 1);
    answer.body = line + answer.body.substr(0, first) + line + answer.body.substr(first) + line;
    const LoopbackServer server({answer});
    const Reply reply = ask(server);
    EXPECT_EQ(reply.text, kText) << odd;
    EXPECT_HAS(reply.note, "no JSON");
  }
}

// A line that began as JSON was a piece of the answer: without it the rest may be another edit.
TEST_P(Protocol, AnAnswerWithAHoleIsAskedForAgain) {
  if (!GetParam().stream) GTEST_SKIP() << "a stream was not asked for";
  HttpAnswer torn = good();
  const size_t middle = torn.body.find("SEAR");
  torn.body.erase(torn.body.find('}', middle), 1);
  const LoopbackServer server({torn, good()});
  EXPECT_EQ(ask(server).text, kText);
  EXPECT_EQ(server.requests().size(), 2u);
}

TEST_P(Protocol, AByteOrderMarkAndAStatusOf201DoNoHarm) {
  HttpAnswer answer = good();
  answer.body = "\xEF\xBB\xBF" + answer.body;
  answer.status = 201;
  const LoopbackServer server({answer});
  EXPECT_EQ(ask(server).text, kText);
}

TEST_P(Protocol, ErrorsThatSayNothingAreNone) {
  for (const char* nothing : {"\"\"", "false", "null", "{}"}) {
    HttpAnswer answer = good();
    for (size_t at = 0; (at = answer.body.find("{\"", at)) != std::string::npos; at += 10) {
      if (at > 0 && answer.body[at - 1] != ' ' && answer.body[at - 1] != '\n') continue;
      answer.body.insert(at + 1, std::string("\"error\":") + nothing + ",");
    }
    const LoopbackServer server({answer});
    EXPECT_EQ(ask(server).text, kText) << nothing;
  }
}

// MiniMax, DashScope, FastChat.
TEST_P(Protocol, ARefusalWithStatus200IsQuoted) {
  const std::pair<const char*, const char*> cases[] = {
      {R"({"choices":null,"base_resp":{"status_code":1008,"status_msg":"low balance"}})",
       "low balance"},
      {R"({"code":40003,"msg":"this token has no right to the model","data":null})", "no right"},
      {R"({"object":"error","code":40303,"message":"the prompt is too long"})", "too long"}};
  for (const auto& [body, words] : cases) {
    HttpAnswer answer = good();
    answer.body = body;
    const LoopbackServer server({answer});
    ProviderOptions impatient = options(server.url());
    impatient.first_retry_seconds = 0;
    const Reply reply = make_provider(impatient)->ask(kConversation);
    EXPECT_HAS(reply.problem, words);
    EXPECT_EQ(reply.too_long, std::string(words) == "too long");
  }
}

TEST(OpenAi, BareJsonLinesAreEvents) {
  HttpAnswer answer = recorded_answer("openai", true, {.text = kText});
  std::string lines;
  for (size_t at = 0; (at = answer.body.find("data: {", at)) != std::string::npos; ++at)
    lines += answer.body.substr(at + 6, answer.body.find('\n', at) - at - 5);
  answer.body = lines;
  const LoopbackServer server({answer});
  ProviderOptions options{.kind = "openai", .model = "m", .base_url = server.url()};
  EXPECT_EQ(make_provider(options)->ask(kConversation).text, kText);
}

TEST(OpenAi, OfTwoChoicesTheFirstIsTheAnswer) {
  HttpAnswer answer = recorded_answer("openai", true, {.text = kText});
  const std::string other =
      R"(data: {"choices":[{"index":1,"delta":{"content":"no"},"finish_reason":"stop"}]})"
      "\n\n";
  answer.body = other + answer.body;
  answer.body.insert(answer.body.find("data: ", answer.body.size() / 2), other);
  const LoopbackServer server({answer});
  ProviderOptions options{.kind = "openai", .model = "m", .base_url = server.url()};
  EXPECT_EQ(make_provider(options)->ask(kConversation).text, kText);
}

// KoboldCpp says "null" in each chunk, others "".
TEST(OpenAi, AWordForNoEndInEachChunkIsNone) {
  for (const char* word : {"\"null\"", "\"\""}) {
    HttpAnswer answer = recorded_answer("openai", true, {.text = kText});
    const std::string none = R"("finish_reason":null)";
    for (size_t at = 0; (at = answer.body.find(none, at)) != std::string::npos; ++at)
      answer.body.replace(at, none.size(), std::string(R"("finish_reason":)") + word);
    const LoopbackServer server({answer});
    ProviderOptions options{.kind = "openai", .model = "m", .base_url = server.url()};
    const Reply reply = make_provider(options)->ask(kConversation);
    EXPECT_EQ(reply.text, kText) << word;
    EXPECT_EQ(reply.note, "");
    EXPECT_EQ(server.requests().size(), 1u);
  }
}

// ------------------------------------------------------------------------------------------------
// What may pass is asked for again

TEST_P(Protocol, BusyAnswersAreAskedForAgain) {
  for (const int status : {408, 409, 429, 500, 502, 503, 504, 529}) {
    const LoopbackServer server({error(status, "overloaded_error", "busy"), good()});
    EXPECT_EQ(ask(server).text, kText) << status;
    EXPECT_EQ(server.requests().size(), 2u);
  }
}

TEST_P(Protocol, DroppedAnswersAreAskedForAgain) {
  HttpAnswer dropped = good(), half = good(), quiet = good(), nothing = good();
  dropped.end = End::kDropped;
  half.end = End::kHalf;
  quiet.end = End::kHalf;  // a clean end of the connection, in the middle of the protocol
  quiet.length = HttpAnswer::Length::kUntilClose;
  nothing.body = "";
  for (const HttpAnswer& bad : {dropped, half, quiet, nothing}) {
    const LoopbackServer server({bad, good()});
    const Reply reply = ask(server);
    EXPECT_EQ(reply.text, kText) << reply.problem;
    EXPECT_EQ(server.requests().size(), 2u);
  }
}

TEST_P(Protocol, AStalledAnswerIsAskedForAgain) {
  HttpAnswer stalled = good();
  stalled.body.resize(stalled.body.size() / 2);
  stalled.end = End::kOpen;
  const LoopbackServer server({stalled, good()});
  ProviderOptions impatient = options(server.url());
  impatient.patience = 1;
  EXPECT_EQ(make_provider(impatient)->ask(kConversation).text, kText);
  EXPECT_EQ(server.requests().size(), 2u);
}

// Minutes of an answer are no waiting: half a second of patience is enough for what breaks off
// later.
TEST(Endpoint, AnAnswerThatBreaksOffLateIsAskedForAgainOnce) {
  const HttpAnswer good = recorded_answer("openai", true, {.text = kText});
  HttpAnswer stalled = good;
  stalled.body.resize(stalled.body.size() / 2);
  stalled.end = End::kOpen;
  const LoopbackServer once({stalled, good}), always({stalled});
  for (const LoopbackServer* server : {&once, &always}) {
    ProviderOptions options{.kind = "openai", .model = "m", .base_url = server->url()};
    options.patience = 1;
    options.first_wait = 0.01;
    options.retry_seconds = options.first_retry_seconds = 0.5;
    const Reply reply = make_provider(options)->ask(kConversation);
    EXPECT_EQ(reply.text, server == &once ? kText : "") << reply.problem;
    EXPECT_EQ(server->requests().size(), 2u);
  }
}

// Silence is not asked again at once: the device may wait for the reply. Headers show that a
// streamed answer is under way, and one that was cut off while it read gets longer the next time.
TEST(Endpoint, ASilentServerIsGivenMoreTimeWhenItIsAskedAgainLater) {
  HttpAnswer silent, headers_only;
  silent.end = End::kHang;
  headers_only.end = End::kOpen;
  headers_only.length = HttpAnswer::Length::kChunked;
  const LoopbackServer server(
      {silent, silent, headers_only, recorded_answer("openai", true, {.text = "ok"})});
  ProviderOptions options{.kind = "openai", .model = "m", .base_url = server.url()};
  options.patience = 1;
  options.retry_seconds = options.first_retry_seconds = 0.5;
  const auto provider = make_provider(options);
  EXPECT_HAS(provider->ask(kConversation).problem, "nothing came for 1");  // the opening question
  EXPECT_HAS(provider->ask(kConversation).problem, "nothing came for 1");
  EXPECT_HAS(provider->ask(kConversation).problem, "nothing came for 2");
  EXPECT_EQ(server.requests().size(), 3u);
  EXPECT_EQ(provider->ask(kConversation).text, "ok");
}

TEST(Endpoint, PatienceSuitsTheAddress) {
  const auto silence = [](const std::string& url, bool first, double wanted = 0) {
    return patience_for(url, /*stream=*/true, first, wanted).silence;
  };
  EXPECT_EQ(silence("https://api.openai.com/v1", false), 90);
  EXPECT_EQ(silence("http://10.0.0.5:8000/v1", false), 240);
  EXPECT_EQ(silence("http://localhost:8080/v1", false), 900);
  EXPECT_EQ(silence("https://127.0.0.1:8080/v1", false), 900);
  EXPECT_EQ(silence("http://localhost:8080/v1", true), 300);  // the start waits for every model
  EXPECT_EQ(silence("https://api.openai.com/v1", false, 2000), 2000);
  EXPECT_EQ(patience_for("https://x/v1", /*stream=*/false, false, 0).silence, 240);
  EXPECT_GE(patience_for("http://[::1]:1/v1", true, false, 0).limit, 3600);
}

TEST(Endpoint, PatienceGrowsFourfoldWhateverItBeganWith) {
  EXPECT_EQ(grown_patience(1), 2);
  EXPECT_EQ(grown_patience(2), 4);
  EXPECT_EQ(grown_patience(4), 4);
}

TEST_P(Protocol, MalformedAnswersAreAskedForAgain) {
  HttpAnswer page = good(), cut = good(), list = good(), other = good();
  page.body = "<html><body>Welcome to the Wi-Fi</body></html>";
  cut.body = GetParam().kind == "ollama" ? "{\"message\": {\n" : "data: {\"choices\": [\n\n";
  list.body = "[]";
  other.body = "{}";
  for (const HttpAnswer& bad : {page, cut, list, other}) {
    const LoopbackServer server({bad, good()});
    EXPECT_EQ(ask(server).text, kText) << bad.body;
    EXPECT_EQ(server.requests().size(), 2u) << bad.body;
  }
}

// The same answer, with another word for its end.
HttpAnswer ended_by(HttpAnswer answer, const std::string& kind, const std::string& word) {
  const std::string normal = kind == "openai"             ? R"("finish_reason":"stop")"
                             : kind == "openai-responses" ? R"("status":"completed")"
                             : kind == "anthropic"        ? R"("stop_reason":"end_turn")"
                                                          : R"("done_reason":"stop")";
  const size_t at = answer.body.rfind(normal);
  EXPECT_NE(at, std::string::npos) << answer.body;
  const std::string name = normal.substr(0, normal.find(':') + 1);
  answer.body.replace(at, normal.size(), name + (word.empty() ? "null" : '"' + word + '"'));
  return answer;
}

TEST_P(Protocol, AnAnswerThatEndedOddlyIsAskedForAgain) {
  for (const char* word : {"error", "abort", "cancelled", "insufficient_system_resource",
                           "pause_turn", "tool_calls", "engine_error"}) {
    const LoopbackServer server({ended_by(good(), GetParam().kind, word), good()});
    const Reply reply = ask(server);
    EXPECT_EQ(reply.text, kText) << word;
    EXPECT_EQ(server.requests().size(), 2u) << word;
  }
  const LoopbackServer always({ended_by(good(), GetParam().kind, "abort")});
  ProviderOptions impatient = options(always.url());
  impatient.first_retry_seconds = 0;
  const Reply reply = make_provider(impatient)->ask(kConversation);
  EXPECT_EQ(reply.text, "");
  EXPECT_HAS(reply.problem, "ended its answer with 'abort'");
}

TEST_P(Protocol, ARefusalIsNoAnswerWhateverTextItHas) {
  for (const char* word : {"content_filter", "refusal", "SAFETY"}) {
    const LoopbackServer server({ended_by(good(), GetParam().kind, word), good()});
    const Reply reply = ask(server);
    EXPECT_HAS(reply.problem, std::string("refused to answer: ") + word);
    EXPECT_FALSE(reply.fatal);
    EXPECT_EQ(server.requests().size(), 1u) << word;
  }
}

TEST_P(Protocol, OtherWordsForANormalEndAreUnderstood) {
  for (const char* word : {"stop", "eos", "end_turn", "stop_sequence", "STOP", "completed",
                           "normal", "a word of next year"}) {
    const LoopbackServer server({ended_by(good(), GetParam().kind, word)});
    EXPECT_EQ(ask(server).text, kText) << word;
    EXPECT_EQ(server.requests().size(), 1u) << word;
  }
}

// [DONE] and message_stop end a stream, and say nothing of the answer in it.
TEST_P(Protocol, AStreamThatNamesNoEndIsNotWhole) {
  if (!GetParam().stream || GetParam().kind == "ollama" || GetParam().kind == "openai-responses")
    GTEST_SKIP() << "the end is an event's own type, or the answer came whole";
  const LoopbackServer server({ended_by(good(), GetParam().kind, ""), good()});
  EXPECT_EQ(ask(server).text, kText);
  EXPECT_EQ(server.requests().size(), 2u);
}

TEST_P(Protocol, AWholeAnswerNeedNotNameItsEnd) {
  if (GetParam().stream) GTEST_SKIP() << "a stream was asked for";
  const LoopbackServer server({ended_by(good(), GetParam().kind, "")});
  EXPECT_EQ(ask(server).text, kText);
}

TEST(OpenRouter, AnErrorInsideAChoiceIsAnError) {
  for (const bool stream : {false, true}) {
    HttpAnswer bad = recorded_answer("openai", stream, {.text = kText});
    const std::string end = R"("finish_reason":"stop")";
    bad.body.replace(bad.body.find(end), end.size(),
                     end + R"(,"error":{"code":502,"message":"Upstream error"})");
    const LoopbackServer server({bad, recorded_answer("openai", stream, {.text = "whole"})});
    ProviderOptions options{.kind = "openai", .model = "m", .base_url = server.url()};
    options.first_wait = 0.01;
    EXPECT_EQ(make_provider(options)->ask(kConversation).text, "whole");
    EXPECT_EQ(server.requests().size(), 2u);
  }
}

TEST(Responses, AnIncompleteAnswerIsNoAnswer) {
  HttpAnswer filtered = recorded_answer("openai-responses", false, {.text = kText});
  json body = json::parse(filtered.body);
  body["status"] = "incomplete";
  body["incomplete_details"] = {{"reason", "content_filter"}};
  filtered.body = body.dump();
  const LoopbackServer server({filtered});
  ProviderOptions options{.kind = "openai-responses", .model = "m", .base_url = server.url()};
  EXPECT_HAS(make_provider(options)->ask(kConversation).problem, "refused to answer");
}

TEST_P(Protocol, AnErrorInsideA200IsAnError) {
  const LoopbackServer busy({inner_error("overloaded_error", "Overloaded"), good()});
  EXPECT_EQ(ask(busy).text, kText);
  EXPECT_EQ(busy.requests().size(), 2u);
  if (GetParam().kind == "ollama") return;  // names no kind of error
  const LoopbackServer refuses({inner_error("authentication_error", "who are you"), good()});
  EXPECT_TRUE(ask(refuses).fatal);
  EXPECT_EQ(refuses.requests().size(), 1u);
}

TEST_P(Protocol, AnEmptyAnswerIsAskedForAgainThreeTimesAtMost) {
  const LoopbackServer once({good({.text = ""}), good()});
  EXPECT_EQ(ask(once).text, kText);
  const LoopbackServer always({good({.text = ""})});
  EXPECT_HAS(ask(always).problem, "empty answer");
  EXPECT_EQ(always.requests().size(), 3u);
}

// ------------------------------------------------------------------------------------------------
// Length

int64_t room_of(const HttpRequest& request) {
  const json body = json::parse(request.body);
  for (const char* name : {"max_tokens", "max_output_tokens", "max_completion_tokens"})
    if (body.contains(name)) return body.at(name);
  return body.at("options").at("num_predict");
}

TEST_P(Protocol, AnAnswerThatWasCutIsAskedForAgainWithMoreRoom) {
  const LoopbackServer server([&](const HttpRequest& request, size_t) {
    return good({.text = kText, .cut = room_of(request) < 20000});
  });
  const auto provider = make_provider(options(server.url()));
  const Reply reply = provider->ask(kConversation);
  EXPECT_EQ(reply.text, kText);
  EXPECT_FALSE(reply.truncated);
  EXPECT_EQ(server.requests().size(), 2u);
  provider->ask(kConversation);  // the room is remembered
  EXPECT_EQ(server.requests().size(), 3u);
}

TEST_P(Protocol, AnAnswerThatIsCutAgainIsGivenAsTruncated) {
  const LoopbackServer server({good({.text = kText, .cut = true})});
  const Reply reply = ask(server);
  EXPECT_TRUE(reply.truncated);
  EXPECT_EQ(reply.text, kText);
  EXPECT_EQ(server.requests().size(), 2u);
}

TEST_P(Protocol, ReasoningUpToTheLimitIsAskedForAgainWithMoreRoom) {
  const LoopbackServer server({good({.thought = kThought, .cut = true})});
  const Reply reply = ask(server);
  EXPECT_HAS(reply.problem, "only reasoned");
  EXPECT_HAS(reply.problem, "--max-output-tokens");
  EXPECT_FALSE(reply.fatal);
  EXPECT_EQ(server.requests().size(), 2u);
  EXPECT_EQ(room_of(server.requests()[1]), 2 * room_of(server.requests()[0]));
}

// More room would not have helped: the end was a normal one.
TEST_P(Protocol, ReasoningThatEndsWithoutAnAnswerIsAskedForAgainAsItWas) {
  const LoopbackServer server({good({.thought = kThought})});
  const Reply reply = ask(server);
  EXPECT_HAS(reply.problem, "only reasoned");
  EXPECT_TRUE(reply.is_there);
  EXPECT_EQ(server.requests().size(), 3u);
  EXPECT_EQ(room_of(server.requests()[2]), room_of(server.requests()[0]));
}

// A server's parser saw no closing tag.
TEST_P(Protocol, AWholeEditInTheFieldForReasoningIsUsed) {
  if (GetParam().kind == "openai-responses") GTEST_SKIP() << "its reasoning is not told";
  const LoopbackServer server({good({.thought = "Let's see\n" + kText})});
  const Reply reply = ask(server);
  EXPECT_EQ(reply.text, "Let's see\n" + kText);
  EXPECT_HAS(reply.note, "reasoning");
  EXPECT_EQ(server.requests().size(), 1u);
}

TEST_P(Protocol, AConversationThatIsTooLongIsTheCallersToShorten) {
  const char* const words[] = {
      ("This model's maximum context length is 8192 tokens. However, your messages resulted in "
       "22000 tokens. Please reduce the length of the messages."),
      "prompt is too long: 208310 tokens > 200000 maximum",
      "the request exceeds the available context size, try increasing it"};
  for (const std::string message : words) {
    const LoopbackServer server({error(400, "invalid_request_error", message), good()});
    const Reply reply = ask(server);
    EXPECT_TRUE(reply.too_long) << message;
    EXPECT_FALSE(reply.fatal);
    EXPECT_EQ(server.requests().size(), 1u);
  }
  const LoopbackServer llama_cpp(
      {error(500, "exceed_context_size_error", "the request exceeds the available context size"),
       good()});
  EXPECT_TRUE(ask(llama_cpp).too_long);
  // No pause mends it: the request alone has more tokens than a minute allows.
  const LoopbackServer minute(
      {error(429, "rate_limit_exceeded",
             "Request too large for test-model in organization org-1 on tokens per min (TPM): "
             "Limit 30000, Requested 35000. The input or output tokens must be reduced."),
       good()});
  EXPECT_TRUE(ask(minute).too_long);
  EXPECT_EQ(minute.requests().size(), 1u);
  const LoopbackServer large({error(413, "request_too_large", "too large"), good()});
  EXPECT_TRUE(ask(large).too_long);
}

TEST_P(Protocol, LessRoomIsAskedForWhereTheModelHasNoMore) {
  const LoopbackServer server([&](const HttpRequest& request, size_t) {
    if (room_of(request) <= 4096) return good();
    return error(400, "invalid_request_error",
                 "max_tokens is too large: 12000. This model supports at most 4096 completion "
                 "tokens, whereas you provided 12000.");
  });
  EXPECT_EQ(ask(server).text, kText);
  EXPECT_EQ(server.requests().size(), 2u);
}

TEST_P(Protocol, ARangeOfRoomIsNoRefusalOfItsName) {
  for (const char* words :
       {"Invalid max_tokens value, the valid range of max_tokens is [1, 8192]",
        "Range of max_tokens should be [1, 8192]", "max_tokens must be between 1 and 8192"}) {
    const LoopbackServer server([&](const HttpRequest& request, size_t) {
      const json body = json::parse(request.body);
      if (body.contains("max_completion_tokens")) return error(400, "", "what is that?");
      return room_of(request) <= 8192 ? good() : error(400, "invalid_request_error", words);
    });
    EXPECT_EQ(ask(server).text, kText) << words;
    ASSERT_EQ(server.requests().size(), 2u) << words;
    EXPECT_EQ(room_of(server.requests()[1]), 8192) << words;
  }
}

// One token less each time: no end of it is near.
TEST_P(Protocol, RequestsThatAreRefusedAgainAndAgainAreAFailedCall) {
  const LoopbackServer server([&](const HttpRequest& request, size_t) {
    const auto less = std::to_string(room_of(request) - 1);
    return error(400, "invalid_request_error", "max_tokens must be at most " + less);
  });
  const Reply reply = ask(server);
  EXPECT_HAS(reply.problem, "refused 24 requests in a row");
  EXPECT_EQ(reply.text, "");
  EXPECT_EQ(server.requests().size(), 24u);
}

// A long conversation's answer has little room; the next conversation's has all of it.
TEST_P(Protocol, TheRoomThatALongConversationTookIsThereAgainForTheNext) {
  const LoopbackServer server([&](const HttpRequest& request, size_t) {
    const size_t prompt = request.body.size() > 20'000 ? 28'000 : 1'000;
    const auto room = static_cast<size_t>(room_of(request));
    if (prompt + room <= 32'768) return good();
    return error(400, "invalid_request_error",
                 "This model's maximum context length is 32768 tokens. However, you requested " +
                     std::to_string(prompt + room) + " tokens (" + std::to_string(prompt) +
                     " in the messages, " + std::to_string(room) + " in the completion).");
  });
  const auto provider = make_provider(options(server.url()));
  EXPECT_EQ(provider->ask({{"user", std::string(30'000, 'x')}}).text, kText);
  EXPECT_LT(room_of(server.requests().back()), 12000);
  EXPECT_EQ(provider->ask(kConversation).text, kText);
  EXPECT_EQ(room_of(server.requests().back()), 12000);
}

// Its limit lies between the room that is asked for and the double that a cut answer gets.
TEST_P(Protocol, AModelThatGivesLittleMoreRoomIsNotAskedForMoreAgainAndAgain) {
  const LoopbackServer server([&](const HttpRequest& request, size_t) {
    if (room_of(request) <= 16000) return good({.text = kText, .cut = true});
    return error(400, "invalid_request_error",
                 "max_tokens: 24000 > 16000, which is the maximum of tokens for this model: must "
                 "be less than or equal to 16000");
  });
  const auto provider = make_provider(options(server.url()));
  EXPECT_TRUE(provider->ask(kConversation).truncated);
  EXPECT_EQ(server.requests().size(), 3u);  // 12000, 24000, 16000
  EXPECT_TRUE(provider->ask(kConversation).truncated);
  EXPECT_EQ(server.requests().size(), 4u);
  EXPECT_EQ(room_of(server.requests().back()), 16000);
}

// ------------------------------------------------------------------------------------------------
// What no second try mends

TEST_P(Protocol, WhatCannotBeMendedIsNotAskedAgain) {
  for (const int status : {400, 401, 402, 403, 404, 405, 422}) {
    const LoopbackServer server({error(status, "some_error", "no such thing"), good()});
    const Reply reply = ask(server);
    EXPECT_TRUE(reply.fatal) << status;
    EXPECT_FALSE(reply.too_long);
    EXPECT_EQ(server.requests().size(), 1u) << status;
  }
}

TEST_P(Protocol, AUsedUpQuotaOrSpendingLimitIsNotAskedAgain) {
  const char* const words[] = {
      "insufficient_quota", "Your credit balance is too low to access the API",
      "You have reached your specified API usage limits. Access returns on 2026-12-01: usage limit",
      "This request would exceed your organization's monthly spend limit"};
  for (const std::string message : words) {
    for (const int status : {400, 429}) {
      const LoopbackServer server({error(status, "rate_limit_error", message), good()});
      const Reply reply = ask(server);
      EXPECT_TRUE(reply.fatal) << message;
      EXPECT_HAS(reply.problem, "credit");
      EXPECT_EQ(server.requests().size(), 1u);
    }
  }
}

TEST_P(Protocol, XShouldRetryIsObeyed) {
  const LoopbackServer no({error(503, "api_error", "gone", {"x-should-retry: false"}), good()});
  EXPECT_TRUE(ask(no).fatal);
  EXPECT_EQ(no.requests().size(), 1u);
  const LoopbackServer yes({error(418, "api_error", "odd", {"x-should-retry: true"}), good()});
  EXPECT_EQ(ask(yes).text, kText);
}

TEST_P(Protocol, RetryAfterInMillisecondsIsObeyed) {
  const LoopbackServer server(
      {error(429, "rate_limit_error", "slow", {"retry-after-ms: 1500", "Retry-After: 3600"}),
       good()});
  const Reply reply = ask(server);
  EXPECT_EQ(reply.text, kText);
  EXPECT_GE(reply.seconds, 1.5);
}

TEST_P(Protocol, AFractionOfASecondIsPartOfTheWait) {
  const LoopbackServer server({error(429, "rate_limit_error", "slow down", {"Retry-After: 0.4"}),
                               error(429, "rate_limit_error", "slow down", {"Retry-After: 7.5"})});
  ProviderOptions impatient = options(server.url());
  impatient.first_retry_seconds = 1;
  EXPECT_EQ(make_provider(impatient)->ask(kConversation).wait, 7.5);
  EXPECT_EQ(server.requests().size(), 2u);
}

TEST(Endpoint, WaitsDoubleUpToAMinuteWithAQuarterOfJitter) {
  std::mt19937 random(1);
  for (int attempt = 0; attempt < 20; ++attempt) {
    const double middle = std::min(60.0, 0.5 * std::exp2(attempt));
    std::set<double> waits;
    for (int i = 0; i < 200; ++i) waits.insert(jittered(back_off(0.5, attempt, 60), random));
    EXPECT_GT(waits.size(), 190u);
    EXPECT_GE(*waits.begin(), 0.75 * middle);
    EXPECT_LT(*waits.begin(), 0.80 * middle);
    EXPECT_LE(*waits.rbegin(), 1.25 * middle);
    EXPECT_GT(*waits.rbegin(), 1.20 * middle);
  }
}

TEST_P(Protocol, AQueryInTheAddressStaysBehindThePath) {
  const LoopbackServer plain({good()}), server({good()});
  ask(plain);
  const std::string path = plain.requests().at(0).path;
  const std::string base = server.url().substr(0, server.url().size() - 3);  // without /v1
  for (const char* pasted : {"/v1", "/v1/", path.c_str()}) {
    EXPECT_EQ(
        make_provider(options(base + pasted + "?api-version=2026-01-01"))->ask(kConversation).text,
        kText);
    EXPECT_EQ(server.requests().back().path, path + "?api-version=2026-01-01");
  }
}

TEST_P(Protocol, AWaitBeyondItsPatienceIsHandedOn) {
  const LoopbackServer server(
      {error(429, "rate_limit_error", "slow", {"Retry-After: 5400"}), good()});
  const Reply reply = ask(server);
  EXPECT_EQ(reply.wait, 5400);
  EXPECT_FALSE(reply.fatal);
  EXPECT_EQ(server.requests().size(), 1u);
}

TEST_P(Protocol, AfterAFailedCallTheNextIsASingleTry) {
  const LoopbackServer server({error(500, "api_error", "oops")});
  ProviderOptions patient = options(server.url());
  patient.first_retry_seconds = 0.2;
  const auto provider = make_provider(patient);
  EXPECT_NE(provider->ask(kConversation).problem, "");
  const size_t before = server.requests().size();
  EXPECT_GE(before, 2u);
  EXPECT_NE(provider->ask(kConversation).problem, "");
  EXPECT_EQ(server.requests().size(), before + 1);
}

TEST_P(Protocol, RefusedParametersAreLeftOutOnceAndForAll) {
  ProviderOptions wordy;
  const LoopbackServer server([&](const HttpRequest& request, size_t) {
    const json body = json::parse(request.body);
    for (const char* name :
         {"temperature", "reasoning_effort", "reasoning", "thinking", "think", "stream_options"})
      if (body.contains(name))
        return error(400, "invalid_request_error",
                     std::string("Unsupported parameter: '") + name + "' is not supported.");
    return good();
  });
  wordy = options(server.url());
  wordy.temperature = 0.7;
  wordy.reasoning_effort = "low";
  const auto provider = make_provider(wordy);
  EXPECT_EQ(provider->ask(kConversation).text, kText);
  const size_t before = server.requests().size();
  EXPECT_GE(before, 2u);
  EXPECT_EQ(provider->ask(kConversation).text, kText);
  EXPECT_EQ(server.requests().size(), before + 1);
}

TEST_P(Protocol, ATemplateWithoutASystemRoleGetsItsWordsInTheUsersTurn) {
  for (const int status : {400, 500}) {
    const LoopbackServer server([&](const HttpRequest& request, size_t) {
      const json body = json::parse(request.body);
      const bool system = body.contains("system") || body.contains("instructions") ||
                          request.body.find(R"("role":"system")") != std::string::npos;
      return system ? error(status, "", "Only user and assistant roles are supported!") : good();
    });
    const auto provider = make_provider(options(server.url()));
    EXPECT_EQ(provider->ask(kConversation).text, kText);
    EXPECT_EQ(provider->ask(kConversation).text, kText);
    EXPECT_EQ(server.requests().size(), 3u);
    EXPECT_LT(server.requests()[1].body.find("be brief"),
              server.requests()[1].body.find("the program"));
  }
}

// OpenRouter: what is left pays for less.
TEST_P(Protocol, CreditForASmallerAnswerIsUsedOnce) {
  const auto poor = [&](int64_t tokens) {
    return error(402, "",
                 "This request requires more credits, or fewer max_tokens. You requested "
                 "up to 12000 tokens, but can only afford " +
                     std::to_string(tokens) + ".");
  };
  const LoopbackServer server({poor(3100), good()}), poorer({poor(3100), poor(2900)}),
      none({poor(90)});
  const Reply reply = ask(server);
  EXPECT_EQ(reply.text, kText);
  EXPECT_HAS(reply.note, "credit");
  EXPECT_EQ(room_of(server.requests().at(1)), 3100);
  for (const LoopbackServer* empty : {&poorer, &none}) {
    const Reply last = ask(*empty);
    EXPECT_TRUE(last.fatal);
    EXPECT_FALSE(last.too_long);
    EXPECT_HAS(last.problem, "credit");
  }
  EXPECT_EQ(poorer.requests().size(), 2u);
}

// A limit that says when it ends is waited for, though no credit is left until then.
TEST_P(Protocol, AUsageLimitThatNamesItsEndIsAPause) {
  const LoopbackServer server({error(429, "", "Usage limit reached. Try again in 2 hours.")});
  const Reply reply = ask(server);
  EXPECT_FALSE(reply.fatal);
  EXPECT_EQ(reply.wait, 7200);
  EXPECT_EQ(server.requests().size(), 1u);
}

TEST_P(Protocol, AServerThatRefusesToStreamIsAskedForTheWhole) {
  if (!GetParam().stream) GTEST_SKIP() << "whole answers were asked for";
  const LoopbackServer server([&](const HttpRequest& request, size_t) {
    if (!json::parse(request.body).value("stream", false))
      return recorded_answer(GetParam().kind, false, {.text = kText});
    return error(400, "unsupported_value", "'stream' must be false: verify your organization");
  });
  EXPECT_EQ(ask(server).text, kText);
  EXPECT_EQ(server.requests().size(), 2u);
}

// ------------------------------------------------------------------------------------------------
// Keys

TEST_P(Protocol, AnEchoedKeyIsInNoReplyAndNoProblem) {
  const std::string echo = std::string("you sent ") + kKey + ", or sk-test-0123";
  for (const HttpAnswer& answer :
       {error(403, "permission_error", echo), error(500, "api_error", echo),
        inner_error("api_error", echo), good({.text = echo})}) {
    const LoopbackServer server({answer});
    ProviderOptions impatient = options(server.url());
    impatient.first_retry_seconds = 0.1;
    const Reply reply = make_provider(impatient)->ask(kConversation);
    EXPECT_EQ((reply.text + reply.problem).find("sk-test"), std::string::npos)
        << reply.text << reply.problem;
    EXPECT_HAS(reply.text + reply.problem, "you sent ***");
  }
}

// ------------------------------------------------------------------------------------------------
// Money: every request is in the books

TEST_P(Protocol, EveryRequestIsOpenedAndClosedInTheLedger) {
  HttpAnswer dropped = good();
  dropped.end = End::kHalf;
  const LoopbackServer server({error(500, "api_error", "oops"), dropped, good()});
  std::vector<CallEvent> events;
  Ledger ledger({{"test-model", {.in = 1, .cached = 0.1, .out = 10, .cache_write = 2}}}, 0, {});
  ledger.record_with([&](const CallEvent& event) { events.push_back(event); });
  ProviderOptions counted = options(server.url());
  counted.ledger = &ledger;
  EXPECT_EQ(make_provider(counted)->ask(kConversation).text, kText);
  ASSERT_EQ(events.size(), 6u);
  std::vector<CallOpened> opened;
  std::vector<CallClosed> closed;
  for (const size_t call : {0, 2, 4}) {
    opened.push_back(std::get<CallOpened>(events[call]));
    closed.push_back(std::get<CallClosed>(events[call + 1]));
    EXPECT_EQ(closed.back().id, opened.back().id);
  }
  EXPECT_EQ(closed[0].usd, 0.0);                    // refused: not billed
  EXPECT_EQ(closed[1].usd, opened[1].largest_usd);  // broke off: all it could cost
  EXPECT_TRUE(closed[1].assumed);
  EXPECT_EQ(closed[2].tokens_in, 1200);
  const double cost = GetParam().kind == "ollama"      ? 1200e-6 + 340e-6
                      : GetParam().kind == "anthropic" ? 150e-6 + 100e-6 + 100e-6 + 340e-6
                                                       : 200e-6 + 100e-6 + 340e-6;
  EXPECT_NEAR(*closed[2].usd, cost, 1e-12);
  EXPECT_NEAR(ledger.spent(), *closed[1].usd + cost, 1e-12);
}

// Anthropic counts one token out at the beginning; an answer that ends early has cost more than
// that.
TEST_P(Protocol, AnAnswerThatEndsHalfWayCountsWithTheMostThatItCanCost) {
  HttpAnswer half = good();
  half.end = End::kHalf;
  half.length = HttpAnswer::Length::kUntilClose;
  const LoopbackServer server({half});
  Ledger ledger({{"test-model", {.in = 1, .cached = 0.1, .out = 10, .cache_write = 2}}}, 0, {});
  ProviderOptions counted = options(server.url());
  counted.ledger = &ledger;
  counted.first_retry_seconds = 0;
  EXPECT_NE(make_provider(counted)->ask(kConversation).problem, "");
  EXPECT_GE(ledger.spent(), 12000 * 10e-6);
}

TEST_P(Protocol, NoRequestIsSentThatMightPassTheLimit) {
  const LoopbackServer server({good()});
  Ledger ledger({{"test-model", {.in = 1, .cached = 1, .out = 10, .cache_write = 2}}}, 0.1, {});
  ProviderOptions counted = options(server.url());
  counted.ledger = &ledger;
  counted.max_output_tokens = 9000;  // 0.09 USD, and the prompt's part
  const auto provider = make_provider(counted);
  EXPECT_EQ(provider->ask(kConversation).text, kText);
  const Reply second =
      provider->ask({{"user", std::string(20'000, 'x')}});  // 0.09 + 0.04, on top of what was spent
  EXPECT_TRUE(second.used_up);
  EXPECT_HAS(second.problem, "--max-usd");
  EXPECT_EQ(server.requests().size(), 1u);
}

// ------------------------------------------------------------------------------------------------
// ollama and replay

TEST(Ollama, AnOwnContextIsKeptAndHoldsPromptAndAnswer) {
  const LoopbackServer server({recorded_answer("ollama", true, {.text = "ok"})});
  ProviderOptions options{.kind = "ollama", .model = "m", .base_url = server.url()};
  options.context_tokens = 32000;
  const auto provider = make_provider(options);
  const auto asked_for = [&](const char* name) {
    return json::parse(server.requests().back().body).at("options").at(name).get<int64_t>();
  };
  EXPECT_EQ(provider->ask({{"user", std::string(60'000, 'x')}}).text, "ok");
  EXPECT_EQ(asked_for("num_ctx"), 32000);
  EXPECT_EQ(asked_for("num_predict"), 12000);
  EXPECT_EQ(provider->ask({{"user", std::string(66'000, 'x')}}).text, "ok");
  EXPECT_EQ(asked_for("num_predict"), 10000);
  EXPECT_TRUE(provider->ask({{"user", std::string(75'000, 'x')}}).too_long);
  EXPECT_EQ(server.requests().size(), 2u);
}

using Replay = FolderTest;

TEST_F(Replay, GivesTheRepliesOfAnEarlierRunInTheirOrder) {
  setenv("AUTORESEARCH_DATA", dir_.c_str(), 1);
  const RunFolder monday = run_folder("monday");
  for (const int64_t n : {1, 2, 10}) fs::create_directories(monday.experiment(n).path);
  const ExperimentFolder first = monday.experiment(1);
  for (int k = 1; k <= 11; ++k) {
    EXPECT_EQ(first.next_reply(), first.reply(k));
    write_file(first.reply(k), "first " + std::to_string(k));
  }
  write_file(monday.experiment(10).path / "reply.md", "last");
  const auto provider = make_provider({.kind = "replay", .model = "monday"});
  for (int k = 1; k <= 11; ++k) EXPECT_EQ(provider->ask({}).text, "first " + std::to_string(k));
  EXPECT_EQ(provider->ask({}).text, "last");
  EXPECT_TRUE(provider->ask({}).used_up);
  EXPECT_EQ(provider->name(), "replay:monday");
  EXPECT_HAS(error_of([] { make_provider({.kind = "replay", .model = "sunday"}); }), "--replay");

  // A run that goes on goes on with the reply after those that its journal counts.
  const auto later =
      make_provider({.kind = "replay", .model = "monday", .given = {{"replay:monday", 10}}});
  EXPECT_EQ(later->ask({}).text, "first 11");
  const auto by_path = make_provider({.kind = "replay", .model = monday.path.string() + "/"});
  EXPECT_EQ(by_path->name(), "replay:monday");
  EXPECT_EQ(by_path->ask({}).text, "first 1");
}

}  // namespace
}  // namespace autoresearch
