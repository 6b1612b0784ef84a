// Every answer of an endpoint ends in a reply or in one line that says what to do; real sockets.
#include "agent/llm/llm.h"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <ctime>
#include <nlohmann/json.hpp>

#include "agent/llm/secret.h"
#include "common/error.h"
#include "common/files.h"
#include "common/process.h"
#include "tests/loopback_server.h"
#include "tests/support.h"

namespace autoresearch {
namespace {

using nlohmann::json;
using End = HttpAnswer::End;

const char kKey[] = "sk-test-0123456789abcdef";
const std::vector<Message> kQuestion = {{"system", "be brief"}, {"user", "hello"}};

class OpenAi : public testing::Test {
 protected:
  void SetUp() override {
    setenv("LLM_TEST_KEY", kKey, 1);
    for (const char* name : {"http_proxy", "all_proxy", "ALL_PROXY"}) unsetenv(name);
  }

  static std::unique_ptr<Provider> provider(const std::string& url, double retry_seconds = 30) {
    ProviderOptions options;
    options.kind = "openai";
    options.model = "test-model";
    options.base_url = url;
    options.key_env = "LLM_TEST_KEY";
    options.max_output_tokens = 77;
    options.retry_seconds = options.first_retry_seconds = retry_seconds;
    return make_provider(options);
  }

  static Reply ask(const std::string& url, double retry_seconds = 30) {
    const Reply reply = provider(url, retry_seconds)->ask(kQuestion);
    EXPECT_EQ(reply.problem.find(std::string(kKey).substr(0, 8)), std::string::npos)
        << reply.problem;
    EXPECT_EQ(reply.problem.find('\n'), std::string::npos) << reply.problem;
    EXPECT_TRUE(reply.problem.empty() || reply.text.empty());
    return reply;
  }

  static Reply ask(const LoopbackServer& server, double retry_seconds = 30) {
    return ask(server.url(), retry_seconds);
  }
};

#define EXPECT_LACKS(text, part) EXPECT_EQ((text).find(part), std::string::npos) << (text)

TEST_F(OpenAi, SendsTheConversationAndReadsTheReply) {
  const LoopbackServer server({chat_answer("h\xc3\xa9llo")});
  const Reply reply = ask(server);
  EXPECT_EQ(reply.text, "h\xc3\xa9llo");
  EXPECT_EQ(reply.problem, "");
  EXPECT_FALSE(reply.truncated);
  EXPECT_EQ(reply.tokens_in, 1200);
  EXPECT_EQ(reply.tokens_out, 34);
  EXPECT_GT(reply.seconds, 0);
  const HttpRequest request = server.requests().at(0);
  EXPECT_EQ(request.method + " " + request.path, "POST /v1/chat/completions");
  EXPECT_EQ(request.headers.at("authorization"), std::string("Bearer ") + kKey);
  EXPECT_EQ(request.headers.at("content-type"), "application/json");
  EXPECT_EQ(json::parse(request.body),
            json::parse(R"({"model": "test-model", "max_tokens": 77, "stream": true,
                "stream_options": {"include_usage": true}, "messages": [
                {"role": "system", "content": "be brief"}, {"role": "user", "content": "hello"}]})"));
}

// Of the tests' own server: who knocks at the wrong door must not shift a script.
TEST_F(OpenAi, AStrangersRequestUsesUpNoAnswer) {
  const LoopbackServer server({chat_answer("first"), chat_answer("second")});
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(server.port());
  const int stranger = socket(AF_INET, SOCK_STREAM, 0);
  ASSERT_EQ(connect(stranger, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  const std::string_view words = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
  ASSERT_EQ(send(stranger, words.data(), words.size(), 0), static_cast<ssize_t>(words.size()));
  char byte;
  EXPECT_EQ(recv(stranger, &byte, 1, 0), 1);
  close(stranger);
  EXPECT_EQ(ask(server).text, "first");
  EXPECT_EQ(server.requests().size(), 1u);
}

TEST_F(OpenAi, SendsNoAuthorizationWithoutAKey) {
  unsetenv("LLM_TEST_KEY");
  const LoopbackServer server({chat_answer("ok")});
  EXPECT_EQ(ask(server).text, "ok");
  EXPECT_EQ(server.requests().at(0).headers.count("authorization"), 0u);
}

TEST_F(OpenAi, TakesAddressesAsPeoplePasteThem) {
  const LoopbackServer server({chat_answer("ok")});
  for (const char* tail : {"", "/", "/chat/completions", "/chat/completions/"}) {
    EXPECT_EQ(ask(server.url() + tail).text, "ok") << tail;
  }
  for (const HttpRequest& request : server.requests()) {
    EXPECT_EQ(request.path, "/v1/chat/completions");
  }
}

TEST_F(OpenAi, ReadsContentInParts) {
  HttpAnswer answer;
  answer.body = R"({"choices": [{"message": {"content": [{"type": "thinking", "text": "hm"},
      {"type": "text", "text": "one "}, {"type": "text", "text": "two"}]}}]})";
  const LoopbackServer server({answer});
  EXPECT_EQ(ask(server).text, "one two");
}

TEST_F(OpenAi, SaysThatAReplyWasTruncated) {
  const LoopbackServer server({chat_answer("half", "length")});
  const Reply reply = ask(server);
  EXPECT_TRUE(reply.truncated);
  EXPECT_EQ(reply.text, "half");
}

TEST_F(OpenAi, ARefusalIsAProblemWithTheModelsWords) {
  HttpAnswer answer;
  answer.body = R"({"choices": [{"message": {"content": null, "refusal": "I can't help with it"},
      "finish_reason": "stop"}]})";
  const LoopbackServer server({answer});
  EXPECT_HAS(ask(server).problem, "refused to answer: I can't help with it");
}

// Whatever goes wrong on the way, the next good answer is the reply.
TEST_F(OpenAi, RetriesWhatMayPass) {
  HttpAnswer malformed = chat_answer("never"), other = chat_answer("never");
  malformed.body.resize(malformed.body.size() - 3);
  other.body = "<html>busy</html>";
  HttpAnswer dropped = chat_answer("never"), half = chat_answer("never");
  dropped.end = End::kDropped;
  half.end = End::kHalf;
  HttpAnswer inside = error_answer(200, "the server behind is busy");
  HttpAnswer routed;
  routed.body = R"({"error": {"code": 502, "message": "bad gateway"}})";
  for (const HttpAnswer& bad :
       {error_answer(408, "slow"), error_answer(409, "conflict"), error_answer(429, "too many"),
        error_answer(500, "oops"), error_answer(503, "loading"), error_answer(529, "overloaded"),
        malformed, other, dropped, half, inside, routed}) {
    const LoopbackServer server({bad, chat_answer("good")});
    const Reply reply = ask(server);
    EXPECT_EQ(reply.text, "good") << bad.status << " " << bad.body;
    EXPECT_EQ(reply.problem, "");
    EXPECT_EQ(server.requests().size(), 2u);
  }
}

std::string http_date(time_t when) {
  char text[64];
  tm parts{};
  strftime(text, sizeof text, "%a, %d %b %Y %H:%M:%S GMT", gmtime_r(&when, &parts));
  return text;
}

TEST_F(OpenAi, ObeysRetryAfterInSecondsAndAsADate) {
  for (const bool as_date : {false, true}) {
    const std::string wait = as_date ? http_date(time(nullptr) + 3) : "2";
    const LoopbackServer server(
        {error_answer(429, "too many", {"Retry-After: " + wait}), chat_answer("good")});
    const Reply reply = ask(server);
    EXPECT_EQ(reply.text, "good");
    EXPECT_GE(reply.seconds, as_date ? 1.0 : 2.0);  // our own first back-off is well below
  }
}

TEST_F(OpenAi, GivesUpAtOnceWhenTheWaitIsLongerThanItsPatience) {
  const LoopbackServer server({error_answer(429, "too many", {"Retry-After: 7200"})});
  const Reply reply = ask(server);
  EXPECT_EQ(server.requests().size(), 1u);
  EXPECT_HAS(reply.problem, "answered 429: too many");
  EXPECT_HAS(reply.problem, "wait 7200 s");
  EXPECT_FALSE(reply.fatal);
}

TEST_F(OpenAi, StopsRetryingWhenItsTimeIsUp) {
  const LoopbackServer server({error_answer(500, "oops")});
  const Reply reply = ask(server, 3);
  EXPECT_GE(server.requests().size(), 2u);
  EXPECT_HAS(reply.problem, "answered 500: oops");
  EXPECT_FALSE(reply.fatal);
}

TEST_F(OpenAi, ErrorsThatStayAreFatalAndNameWhatToCheck) {
  const std::vector<std::tuple<int, std::string, std::string>> cases = {
      {400, "no such parameter", "--model test-model"},
      {401, "Incorrect API key provided: " + std::string(kKey), "$LLM_TEST_KEY"},
      {402, "no credit", "credit"},
      {403, std::string("key ") + kKey + " is not allowed here", "$LLM_TEST_KEY"},
      {404, "the model does not exist", "--model test-model"},
      {429, "insufficient_quota", "credit"},
      {301, "moved", "--base-url"}};
  for (const auto& [status, message, expected] : cases) {
    const LoopbackServer server({error_answer(status, message), chat_answer("never")});
    const Reply reply = ask(server);
    EXPECT_TRUE(reply.fatal) << status;
    EXPECT_HAS(reply.problem, expected);
    EXPECT_HAS(reply.problem, server.url());
    EXPECT_EQ(server.requests().size(), 1u) << status;
  }
}

TEST_F(OpenAi, AKeyErrorInsideA200IsFatalToo) {
  HttpAnswer routed;
  routed.body = R"({"error": {"code": 401, "message": "User not found"}})";
  const LoopbackServer server({routed, chat_answer("never")});
  EXPECT_TRUE(ask(server).fatal);
}

TEST_F(OpenAi, WhatIsOnThisMachineIsAskedWithoutAProxy) {
  const std::string nowhere = "http://127.0.0.1:" + std::to_string(unused_port());
  for (const char* name : {"http_proxy", "all_proxy"}) setenv(name, nowhere.c_str(), 1);
  const LoopbackServer server({chat_answer("ok")});
  EXPECT_EQ(ask(server).text, "ok");
  for (const char* name : {"http_proxy", "all_proxy"}) unsetenv(name);
}

TEST_F(OpenAi, AFailureBehindAProxyNamesItsVariableAndNoPassword) {
  const std::string place = "127.0.0.1:" + std::to_string(unused_port());
  setenv("http_proxy", ("http://user:secret@" + place).c_str(), 1);
  const std::string problem = ask("http://models.example.com/v1", 0).problem;
  unsetenv("http_proxy");
  EXPECT_HAS(problem, "through the proxy " + place + " of $http_proxy");
  EXPECT_LACKS(problem, "secret");
}

TEST_F(OpenAi, HeadersOfTheUsersAreSentAndTheirValuesShownToNobody) {
  setenv("LLM_TEST_TENANT", "tenant with blanks 42", 1);
  const LoopbackServer server({error_answer(403, "no such tenant: tenant with blanks 42")});
  ProviderOptions options{.kind = "openai", .model = "m", .base_url = server.url()};
  options.key_env = "LLM_TEST_KEY";
  options.headers = {"X-Gateway-Tenant=LLM_TEST_TENANT", "Authorization=LLM_TEST_TENANT"};
  EXPECT_LACKS(make_provider(options)->ask(kQuestion).problem, "tenant with");
  EXPECT_EQ(server.requests().at(0).headers.at("x-gateway-tenant"), "tenant with blanks 42");
  EXPECT_EQ(server.requests().at(0).headers.at("authorization"), "tenant with blanks 42");
  for (const char* wrong :
       {"X-Tenant", "=LLM_TEST_TENANT", "X Tenant=LLM_TEST_TENANT", "X-Tenant=NOT_SET_ANYWHERE"}) {
    options.headers = {wrong};
    EXPECT_THROW(make_provider(options), Error) << wrong;
  }
  unsetenv("LLM_TEST_TENANT");
}

TEST_F(OpenAi, AMissingHeaderIsNamedWithTheOptionThatSendsIt) {
  const LoopbackServer server({error_answer(403, "the header X-Gateway-Tenant is missing")});
  EXPECT_HAS(ask(server).problem, "X-Gateway-Tenant is missing");
  EXPECT_HAS(ask(server).problem, "--header NAME=VARIABLE");
}

TEST_F(OpenAi, AMissingKeyIsNamed) {
  unsetenv("LLM_TEST_KEY");
  const LoopbackServer server({error_answer(401, "no key")});
  EXPECT_HAS(ask(server).problem, "export LLM_TEST_KEY=");
}

TEST_F(OpenAi, TheKeyDoesNotFollowARedirect) {
  const LoopbackServer elsewhere({chat_answer("stolen")});
  HttpAnswer redirect;
  redirect.status = 307;
  redirect.headers = {"Location: " + elsewhere.url() + "/chat/completions"};
  const LoopbackServer server({redirect});
  const Reply reply = ask(server);
  EXPECT_TRUE(reply.fatal);
  EXPECT_HAS(reply.problem, elsewhere.url());
  EXPECT_TRUE(elsewhere.requests().empty());
}

TEST_F(OpenAi, APathOfTheSameServerIsFollowedOnceAndRemembered) {
  const LoopbackServer server([](const HttpRequest& request, size_t) {
    if (request.path.ends_with("/")) return chat_answer("ok");
    HttpAnswer redirect;
    redirect.status = 308;
    redirect.headers = {"Location: " + request.path + "/"};
    return redirect;
  });
  const auto asked = provider(server.url());
  EXPECT_EQ(asked->ask(kQuestion).text, "ok");
  EXPECT_EQ(asked->ask(kQuestion).text, "ok");
  EXPECT_EQ(server.requests().size(), 3u);
  HttpAnswer circle;
  circle.status = 307;
  circle.headers = {"Location: /v1/chat/completions"};
  const LoopbackServer endless({circle});
  EXPECT_TRUE(ask(endless).fatal);
  EXPECT_EQ(endless.requests().size(), 2u);
}

TEST_F(OpenAi, RenamesMaxTokensOnceAndRemembersIt) {
  const LoopbackServer server([](const HttpRequest& request, size_t) {
    if (!json::parse(request.body).contains("max_tokens")) return chat_answer("good");
    return error_answer(400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens'.");
  });
  const auto asked = provider(server.url());
  EXPECT_EQ(asked->ask(kQuestion).text, "good");
  EXPECT_EQ(asked->ask(kQuestion).text, "good");
  ASSERT_EQ(server.requests().size(), 3u);
  EXPECT_EQ(json::parse(server.requests()[2].body).at("max_completion_tokens"), 77);
}

TEST_F(OpenAi, RefusesTheNewNameOnlyOnce) {
  const LoopbackServer server({error_answer(400, "max_completion_tokens is wrong as well")});
  EXPECT_TRUE(ask(server).fatal);
  EXPECT_EQ(server.requests().size(), 2u);
}

TEST_F(OpenAi, AClosedPortIsRetriedAndNamed) {
  const std::string url = "http://127.0.0.1:" + std::to_string(unused_port()) + "/v1";
  const Reply reply = ask(url, 3);
  EXPECT_EQ(reply.problem.rfind("can't reach " + url, 0), 0u) << reply.problem;
  EXPECT_HAS(reply.problem, "times)");
  EXPECT_FALSE(reply.fatal);
}

// It may be a mistake, or a machine whose network is not up yet.
TEST_F(OpenAi, AHostThatIsNotFoundIsAskedForAgainAndNamed) {
  const Reply reply = ask("http://user:secret@no-such-host.invalid/v1", 1);
  EXPECT_FALSE(reply.fatal);
  EXPECT_HAS(reply.problem, "no-such-host.invalid");
  EXPECT_HAS(reply.problem, "--base-url");
  EXPECT_LACKS(reply.problem, "secret");
}

TEST_F(OpenAi, AnInterruptEndsACallThatHangs) {
  HttpAnswer hang;
  hang.end = End::kHang;
  const LoopbackServer server({hang});
  // In a child: the interrupt flag of a process can't be taken back.
  const std::string url = server.url();
  const pid_t child = fork();
  if (child == 0) {
    watch_for_interrupt();
    const Reply reply = provider(url)->ask(kQuestion);
    _exit(reply.problem.find("interrupted") != std::string::npos && !reply.fatal ? 42 : 1);
  }
  while (server.requests().empty()) usleep(10000);
  kill(child, SIGINT);
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 42);
}

TEST_F(OpenAi, OptionsThatCannotWorkAreRefused) {
  ProviderOptions options;
  options.kind = "openai";
  EXPECT_THROW(make_provider(options), Error);  // no model
  options.model = "m";
  options.key_env = "LLM_TEST_KEY";
  setenv("LLM_TEST_KEY", "sk-a\r\nX-Injected: yes", 1);
  EXPECT_THROW(make_provider(options), Error);
  setenv("LLM_TEST_KEY", " sk-a\n", 1);  // a line break from a file does no harm
  EXPECT_EQ(make_provider(options)->name(), "openai:m");
  options.kind = "command";
  EXPECT_THROW(make_provider(options), Error);  // no command
  options.kind = "telepathy";
  EXPECT_THROW(make_provider(options), Error);
}

// ------------------------------------------------------------------------------------------------
// command

Reply ask_command(const std::string& command,
                  const std::vector<Message>& conversation = kQuestion) {
  ProviderOptions options;
  options.kind = "command";
  options.command = command;
  return make_provider(options)->ask(conversation);
}

TEST(CommandProvider, GetsTheWholeConversationAndAnswersOnStdout) {
  const Reply reply =
      ask_command("echo to-stderr >&2; echo \"reply:\"; cat",
                  {{"system", "be brief"}, {"user", "a"}, {"assistant", "b"}, {"user", "c"}});
  EXPECT_EQ(reply.problem, "");
  EXPECT_EQ(reply.text, "reply:\nbe brief\n\na\n\n# Your previous reply\n\nb\n\nc\n\n");
}

TEST(CommandProvider, InheritsTheEnvironment) {
  setenv("LLM_TEST_VARIABLE", "it's here", 1);
  EXPECT_EQ(ask_command("printf '%s' \"$LLM_TEST_VARIABLE\"").text, "it's here");
}

std::string temporary_script(const std::string& text) {
  std::string path = "/tmp/autoresearch-test-XXXXXX";
  const int fd = mkstemp(path.data());
  EXPECT_EQ(write(fd, text.data(), text.size()), static_cast<ssize_t>(text.size()));
  close(fd);
  return path;
}

// An assistant that edits or commits finds nothing of ours, and a terminal's colours are off.
TEST(CommandProvider, RunsInAnEmptyFolderThatGoesWithIt) {
  const Reply reply = ask_command("ls -A; echo x > train.cpp; pwd; echo $PWD $TERM $NO_COLOR");
  const size_t end = reply.text.find('\n');
  const std::string folder = reply.text.substr(0, end);
  EXPECT_TRUE(folder.starts_with("/")) << reply.text;
  EXPECT_EQ(reply.text.substr(end + 1), folder + " dumb 1\n");
  EXPECT_NE(access(folder.c_str(), F_OK), 0);
}

TEST(CommandProvider, RelativePathsOfItsFilesAreThoseOfTheAgentsFolder) {
  const std::string script = temporary_script("echo it ran");
  const std::string here = fs::current_path();
  fs::current_path("/tmp");
  EXPECT_EQ(ask_command("sh ./" + script.substr(5)).text, "it ran\n");
  EXPECT_EQ(ask_command("sh '../tmp/" + script.substr(5) + "'").text, "it ran\n");
  // A bare name may be one that the assistant is to write.
  EXPECT_HAS(ask_command("sh " + script.substr(5)).problem, "by their full paths");
  fs::current_path(here);
  unlink(script.c_str());
}

const char kEdit[] =
    "IDEA: x\n<<<<<<< SEARCH\nint a = 1;\nint b = 2;\nint c = 3;\n=======\nint a = 2;\nint b = "
    "2;\nint c = 3;\n>>>>>>> REPLACE\n";

TEST(CommandProvider, AWholeEditIsUsedWhateverTheProgramDoesAfterwards) {
  const std::string script = temporary_script(kEdit);
  const Reply reply = ask_command("cat " + script + "; echo 'no telemetry' >&2; exit 1");
  EXPECT_EQ(reply.text, kEdit);
  EXPECT_HAS(reply.note, "exited with 1");
  // Of another session, it holds our pipe and is not waited for.
  const Reply left = ask_command("(setsid sleep 100 &); cat " + script);
  EXPECT_EQ(left.text, kEdit);
  EXPECT_LT(left.seconds, 60);
  ProviderOptions hanging{.kind = "command", .command = "cat " + script + "; sleep 100"};
  hanging.patience = 1;
  EXPECT_EQ(make_provider(hanging)->ask(kQuestion).text, kEdit);
  EXPECT_EQ(ask_command("echo '<think>IDEA: a draft</think>'; cat " + script).text,
            "\n" + std::string(kEdit));
  const Reply flood = ask_command("yes 'thinking about it' | head -c 3000000; cat " + script);
  EXPECT_TRUE(flood.text.ends_with(kEdit));
  EXPECT_LE(flood.text.size(), size_t{256} << 10);
  unlink(script.c_str());
}

TEST(CommandProvider, ALimitOrALoginIsAFailedCallThoughItExitsWithZero) {
  const Reply limit = ask_command("echo 'Usage limit reached; try again in 2 hours.'");
  EXPECT_HAS(limit.problem, "gave no reply: Usage limit reached");
  EXPECT_EQ(limit.wait, 7200);
  EXPECT_FALSE(limit.fatal);
  EXPECT_EQ(ask_command("echo 'rate limit; try again in 2 hours' >&2; exit 1").wait, 7200);
  EXPECT_TRUE(ask_command("echo 'Invalid API key. Please run the login command.'").fatal);
  EXPECT_TRUE(ask_command("echo 'Prompt is too long'").too_long);
  EXPECT_EQ(ask_command("echo 'I need permission to go on.'").problem, "");
}

TEST(CommandProvider, AProgramThatDoesNotEndIsQuoted) {
  ProviderOptions options{.kind = "command", .command = "echo 'paste the code:'; sleep 100"};
  options.patience = 1;
  EXPECT_HAS(make_provider(options)->ask(kQuestion).problem, "it printed: paste the code:");
}

TEST(CommandProvider, KeysOfAnyFormAreTakenOutOfItsWords) {
  setenv("SOME_OTHER_API_KEY", "two words of some length", 1);
  EXPECT_EQ(ask_command("echo \"it is $SOME_OTHER_API_KEY\"").text.find("two words"),
            std::string::npos);
  EXPECT_EQ(ask_command("echo fine").text, "fine\n");
  unsetenv("SOME_OTHER_API_KEY");
}

TEST(CommandProvider, KeysOfAnyNameAreTakenOutOfItsErrors) {
  for (const char* name : {"SOME_AUTH_TOKEN", "SOME_SECRET", "SIGNING_KEY", "NAMED_BY_A_FLAG"}) {
    setenv(name, "0123456789-abcdefghij", 1);
    ProviderOptions options{.kind = "command", .key_env = "NAMED_BY_A_FLAG"};
    // Cut to a line's length, the key's beginning would stand at its end.
    options.command =
        std::string("printf '%s' \"") + std::string(235, 'x') + " $" + name + "\" >&2; exit 1";
    const Reply reply = make_provider(options)->ask(kQuestion);
    EXPECT_LACKS(reply.problem, "0123");
    EXPECT_HAS(reply.problem, "exited with 1");
    unsetenv(name);
  }
}

TEST(CommandProvider, AFailureIsAProblemWithItsLastLine) {
  const Reply reply = ask_command("echo out; echo first >&2; echo 'no model loaded' >&2; exit 3");
  EXPECT_HAS(reply.problem, "exited with 3: no model loaded");
  EXPECT_EQ(reply.text, "");
  EXPECT_FALSE(reply.fatal);
  EXPECT_HAS(ask_command("echo only out; exit 1").problem, "only out");
  EXPECT_HAS(ask_command("exit 1").problem, "printed nothing");
}

TEST(CommandProvider, AProgramThatIsNotThereIsFatal) {
  EXPECT_TRUE(ask_command("/no/such/program").fatal);
}

TEST(CommandProvider, ReplacesBytesThatAreNotText) {
  EXPECT_EQ(ask_command("printf 'a\\377b'").text, "a?b");
}

TEST(Secret, AKeyIsRemovedAndAWordThatIsNoneStaysInCode) {
  setenv("LLM_TEST_KEY", "local", 1);
  const std::string code = "auto locally = local_loss(x);";
  EXPECT_EQ(Secret::from_environment("LLM_TEST_KEY").removed_from(code), code);
  setenv("LLM_TEST_KEY", kKey, 1);
  EXPECT_EQ(Secret::from_environment("LLM_TEST_KEY").removed_from(std::string("you: ") + kKey),
            "you: ***");
  unsetenv("LLM_TEST_KEY");
}

}  // namespace
}  // namespace autoresearch
