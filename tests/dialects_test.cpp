// What servers and assistants say in words of their own, read for what they mean: thoughts, ends,
// refusals, limits, half characters. Each table has more dialects than were met.

#include <gtest/gtest.h>

#include <cstdlib>
#include <nlohmann/json.hpp>

#include "agent/edit/thoughts.h"
#include "agent/llm/api_error.h"
#include "agent/llm/complaint.h"
#include "agent/llm/event_cutter.h"
#include "agent/llm/wire.h"
#include "common/http.h"
#include "common/text.h"

namespace autoresearch {
namespace {

// ------------------------------------------------------------------------------------------------
// Thoughts

const std::string kDraft =
    "Perhaps\nIDEA: a draft\n<<<<<<< SEARCH\nint a;\n=======\nint b;\n>>>>>>> REPLACE\nToo much.\n";
const std::string kAnswer =
    "IDEA: the answer\n<<<<<<< SEARCH\nint a;\n=======\nint c;\n>>>>>>> REPLACE\nNEXT: more";

TEST(Thoughts, AreCutInEveryDialect) {
  const std::vector<std::string> texts = {
      "<think>" + kDraft + "</think>" + kAnswer,
      "\n <thinking>\n" + kDraft + "</thinking>\n\n" + kAnswer,
      "<thought>" + kDraft + "</thought>" + kAnswer,
      "<reasoning>\n" + kDraft + "</reasoning>" + kAnswer,
      "<seed:think>" + kDraft + "</seed:think>" + kAnswer,
      "<think time=\"3\">" + kDraft + "</think>" + kAnswer,
      "[THINK]" + kDraft + "[/THINK]" + kAnswer,
      "\u25c1think\u25b7" + kDraft + "\u25c1/think\u25b7" + kAnswer,
      "&lt;think&gt;" + kDraft + "&lt;/think&gt;" + kAnswer,
      "<|START_THINKING|>" + kDraft + "<|END_THINKING|><|START_RESPONSE|>" + kAnswer +
          "<|END_RESPONSE|>",
      "<|begin_of_thought|>" + kDraft + "<|end_of_thought|>" + kAnswer + "</s>",
      "<scratch_pad>" + kDraft + "</scratch_pad>" + kAnswer,
      "<think_start>" + kDraft + "<think_end>" + kAnswer + "<eos>",
      "<ctrl94>thought\n" + kDraft + "<ctrl95>" + kAnswer + "</answer><|END_OF_TURN_TOKEN|>",
      "~~~thinking\n" + kDraft + "~~~\n" + kAnswer,
      kAnswer + "<|im_end|>\n<|im_start|>user\nWorse.<|im_end|>\n<|im_start|>assistant\n" + kDraft,
      kAnswer + "<\uff5cend\u2581of\u2581sentence\uff5c><\uff5cUser\uff5c>Worse." + kDraft,
      kAnswer + "</s>[INST] Worse. [/INST]" + kDraft,
      "<think>" + kDraft + "<think>" + kDraft + "</think>" + kDraft + "</think>" + kAnswer,
      "<think>" + kDraft + "</thinking>" + kAnswer,
      kDraft + "</think>" + kAnswer,  // the template wrote the opening tag
      "Thinking Process:\n" + kDraft + "</think>\n" + kAnswer,
      "<analysis>" + kDraft + "</analysis><answer>\n" + kAnswer + "\n</answer>",
      kAnswer + "\n<think>" + kDraft,  // a second turn that was cut
      "<|channel|>analysis<|message|>" + kDraft +
          "<|end|><|start|>assistant<|channel|>final<|message|>" + kAnswer + "<|return|>",
      "<|start|>assistant<|channel|>commentary to=x<|message|>{}<|call|><|channel|>final "
      "<|message|>" +
          kAnswer,
      "analysis<|message|>" + kDraft + "<|end|><|start|>assistant<|channel|>final<|message|>" +
          kAnswer,
      "analysisLet me try.\n" + kDraft + "assistantfinal" + kAnswer,
      "analysis" + kDraft + "assistantanalysis" + kDraft + "assistant\nfinal\n" + kAnswer,
      "assistantfinal" + kAnswer,
      "final" + kAnswer,
      "<|channel>thought\n" + kDraft + "<channel|>" + kAnswer,
      "<unused94>thought\n" + kDraft + "<unused95>" + kAnswer,
      "Thinking...\n" + kDraft + "...done thinking.\n\n" + kAnswer,
      "Here is my thought process:\n" + kDraft + "Here is my response:\n" + kAnswer,
      "**Reasoning**\n\n" + kDraft + "\n**Final answer**\n\n" + kAnswer,
      "## Thinking process:\n" + kDraft + "### Answer\n" + kAnswer,
      "### Thinking\n" + kDraft + "### Response\n" + kAnswer,
      "```thinking\nx\n```cpp\n" + kDraft + "```\n```\n" + kAnswer,
      "Let me think.\n" + kDraft + "\n<answer>\n" + kAnswer + "\n</answer>\n",
      "<draft>\n" + kDraft + "</draft>\n" + kAnswer,
      kDraft + "\n<answer format=\"blocks\">\n" + kAnswer + "\n</answer>\n",
      kDraft + "Too much.\n[ANSWER]\n" + kAnswer};
  for (const std::string& text : texts) {
    const CutText cut = cut_thoughts(text);
    EXPECT_EQ(trim(cut.answer), kAnswer) << text;
  }
}

TEST(Thoughts, WhatIsNoThoughtStays) {
  for (const std::string& text :
       {kAnswer, kDraft + kAnswer, "Thinking...\n" + kAnswer, "Analysis: it is slow.\n" + kAnswer,
        "WHY: the `<think>` tag is never closed\n" + kAnswer, "analysis of the loss\n" + kAnswer,
        std::string("std::array<thinking, 3> a; b[reasoning] = a[think](1);"), std::string("< |"),
        std::string("ready"), std::string()}) {
    const CutText cut = cut_thoughts(text);
    EXPECT_EQ(cut.answer, text);
    EXPECT_FALSE(cut.thought) << text;
  }
}

// Without an answer beside them they may hold it; thoughts that were closed do not.
TEST(Thoughts, ThoseThatNobodyClosedAreKeptAside) {
  for (const std::string& text :
       {"<think>" + kAnswer, kAnswer + "</think>", "<|channel|>analysis<|message|>" + kAnswer}) {
    const CutText cut = cut_thoughts(text);
    EXPECT_EQ(trim(cut.answer), "") << text;
    EXPECT_EQ(cut.unclosed, kAnswer) << text;
  }
  EXPECT_EQ(cut_thoughts("<think>" + kAnswer + "</think>").unclosed, "");
  // The second may have been meant to close the first, or not.
  EXPECT_EQ(cut_thoughts("<think>\n" + kDraft + "<think>\n" + kAnswer).unclosed, "");
}

TEST(Thoughts, AreCutInLinearTime) {
  for (const std::string part :
       {"<think>", "</think>", "<", "[THINK", "</s>", "<|message|>", "<|channel|>", "assistant ",
        "\u25c1", "analysis", "&lt;", "<|end|>", "</answer>"}) {
    std::string text = "analysis";
    while (text.size() < 1 << 20) text += part;
    EXPECT_LE(cut_thoughts(text).answer.size(), text.size());
  }
}

// ------------------------------------------------------------------------------------------------
// Half characters

TEST(Characters, HalvesAreJoinedAcrossEventsAndLoneOnesReplaced) {
  const auto read = [](std::initializer_list<std::string> pieces) {
    const auto wire = make_wire("openai");
    AnswerReader reader(*wire, /*streamed=*/true);
    for (const std::string& piece : pieces)
      reader.feed("data: {\"choices\":[{\"delta\":{\"content\":\"" + piece + "\"}}]}\n\n");
    reader.feed(
        "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n");
    const Answer answer = reader.finish();
    EXPECT_TRUE(answer.finished && !answer.malformed);
    return answer.text;
  };
  EXPECT_EQ(read({"a\\ud83d", "\\ude80b"}), "a\U0001F680b");
  EXPECT_EQ(read({"a\xf0\x9f",
                  "\x9a\x80"
                  "b"}),
            "a\U0001F680b");
  EXPECT_EQ(read({"\xf0", "\x9f", "\x9a", "\x80"}), "\U0001F680");
  EXPECT_EQ(read({"a\\ud83d", "b"}), "a\uFFFDb");
  EXPECT_EQ(read({"a\\ude80", "b"}), "a\uFFFDb");
  EXPECT_EQ(read({"a\xff", "b"}), "a\uFFFDb");
  EXPECT_EQ(read({"a\\ud83d\\ude80 \\\\ud83d", "\\u00e9"}), "a\U0001F680 \\ud83d\u00e9");
}

// ------------------------------------------------------------------------------------------------
// Shapes of answers

Answer read(const std::string& kind, bool stream, const std::string& bytes) {
  const auto wire = make_wire(kind);
  AnswerReader reader(*wire, stream);
  reader.feed(bytes);
  return reader.finish();
}

TEST(Shapes, AStreamIsReadHoweverItIsFramed) {
  const std::string first = R"({"choices":[{"delta":{"content":"a"}}]})";
  const std::string last =
      R"({"choices":[{"delta":{"content":"b"},"finish_reason":"stop"}],"x_groq":{"usage":)"
      R"({"prompt_tokens":"10","completion_tokens":2}}})";
  for (const std::string& bytes :
       {"data: data: " + first + "\n\ndata: data: " + last + "\n\n",
        "data: " + first + "\ndata: " + last + "\ndata: [DONE]\n",
        "data: [" + first + "]\n\ndata: [" + last + "]\n\n", "[" + first + ",\n" + last + "]"}) {
    const Answer answer = read("openai", true, bytes);
    EXPECT_EQ(answer.text, "ab") << bytes;
    EXPECT_TRUE(answer.finished && !answer.malformed) << bytes;
    EXPECT_EQ(answer.tokens_in, 10);
  }
  EXPECT_EQ(read("ollama", true, "data: {\"message\":{\"content\":\"ab\"},\"done\":true}\n\n").text,
            "ab");
}

TEST(Shapes, TheTextIsFoundInOtherServersPlaces) {
  const std::tuple<const char*, bool, const char*> cases[] = {
      {"openai", false, R"({"choices":[{"text":"ab","finish_reason":"stop"}]})"},
      {"openai", false, R"({"choices":[{"message":{"content":{"type":"text","text":"ab"}}}]})"},
      {"openai", false, R"({"code":0,"data":{"choices":[{"message":{"content":"ab"}}]}})"},
      {"openai", true,
       "data: {\"choices\":[{\"message\":{\"content\":\"a\"}}]}\n\n"
       "data: {\"choices\":[{\"message\":{\"content\":\"ab\"},\"finishReason\":\"stop\"}]}\n\n"},
      {"openai", true,
       "data: {\"choices\":[{\"delta\":{\"content\":\"ab\"},\"finish_reason\":1}]}\n\n"},
      {"openai-responses", false, R"({"status":"completed","output":[],"output_text":"ab"})"},
      {"anthropic", false, R"({"content":"ab","stop_reason":"end_turn"})"},
      {"anthropic", false, R"({"content":[{"text":"ab"}],"stop_reason":"end_turn"})"},
      {"ollama", false, R"({"response":"ab","done":true})"}};
  for (const auto& [kind, stream, bytes] : cases) {
    const Answer answer = read(kind, stream, bytes);
    EXPECT_EQ(answer.text, "ab") << bytes;
    EXPECT_TRUE(answer.finished && !answer.malformed) << bytes;
  }
  const Answer thought = read("openai", false, R"({"choices":[{"message":{"content":"",
      "reasoning_details":[{"type":"reasoning.text","text":"ab"}]}}]})");
  EXPECT_EQ(thought.thoughts, "ab");
}

// Without numbers a call would count as free.
TEST(Shapes, AUsageWithoutNumbersCountsNothing) {
  const std::string answer = R"({"choices":[{"message":{"content":"ab"}}],"usage":)";
  EXPECT_FALSE(read("openai", false, answer + "{}}").counted);
  EXPECT_FALSE(read("openai", false, answer + R"({"prompt_tokens":null}})").counted);
  const Answer other = read("openai", false, answer + R"({"input_tokens":10,"output_tokens":2}})");
  EXPECT_TRUE(other.counted);
  EXPECT_EQ(other.tokens_in + other.tokens_out, 12);
}

// ------------------------------------------------------------------------------------------------
// Ends

TEST(Ends, AreKnownByTheirParts) {
  for (const char* word : {"stop", "STOP", "end_turn", "eos_token", "completed", "stop_sequence"})
    EXPECT_EQ(ending_of(word), Ending::kNormal) << word;
  for (const char* word :
       {"length", "MAX_TOKENS", "max_output_tokens", "model_length", "token_limit",
        "model_context_window_exceeded", "truncated", "context_full", "out_of_tokens"})
    EXPECT_EQ(ending_of(word), Ending::kCut) << word;
  for (const char* word : {"content_filter", "SAFETY", "refusal", "guardrail_intervened", "blocked",
                           "content_policy_violation", "risk_control"})
    EXPECT_EQ(ending_of(word), Ending::kRefused) << word;
  for (const char* word :
       {"error", "network_error", "cancelled", "tool_calls", "pause_turn", "incomplete",
        "insufficient_system_resource", "preempted", "rate_limited", "deadline_exceeded"})
    EXPECT_EQ(ending_of(word), Ending::kBroken) << word;
  EXPECT_EQ(ending_of("normal"), Ending::kUnknown);
}

// ------------------------------------------------------------------------------------------------
// Refusals

ApiError error_of(long status, const std::string& message) {
  ApiError error;
  error.status = status;
  error.message = message;
  return error;
}

Remedy remedy(long status, const std::string& body) {
  return remedy_for(read_api_error(status, body));
}

// What does not begin as JSON stands in the usual object.
std::string body_of(const std::string& words) {
  return words.starts_with("{") || words.starts_with("<")
             ? words
             : nlohmann::json{{"error", {{"message", words}}}}.dump();
}

TEST(Refusals, APromptThatIsTooLongIsKnownInAnyWords) {
  const std::pair<long, std::string> cases[] = {
      {400, "This model's maximum prompt length is 8192 but the request contains 9120 tokens."},
      {422, "Input validation error: `inputs` must have less than 8192 tokens. Given: 9120"},
      {400, "The prompt (total length 9120) is too long to fit into the model (context 8192)."},
      {400, "The decoder prompt (length 9120) is longer than the maximum model length of 8192."},
      {400, "too many tokens: total number of tokens in the prompt cannot exceed 8192"},
      {400, "Prompt contains 9120 tokens, too large for model with 8192 maximum context length"},
      {400,
       "Trying to keep the first 9120 tokens when context the overflows. However, the model is "
       "loaded with context length of only 8192 tokens"},
      {400, "reduce the length of the messages"},
      {400, "Input length 9120 exceeds the maximum allowed input length of 8192 tokens."},
      {400, "Range of input length should be [1, 30720]"},
      {400, "Prompt too long"},
      {400, "Prompt exceeds max length"},
      {400, "tokens in request more than max tokens allowed"},
      {400, R"({"errorMessage":"Input is too long for requested model."})"},
      {400, R"({"code":"invalid","error":"the maximum prompt length is 8192"})"},
      {400,
       R"({"object":"error","message":"longer than the maximum model length of 8192 tokens"})"},
      {400, R"({"detail":[{"loc":["body","messages"],"msg":"does not fit into 4096 tokens"}]})"},
      {402, "Prompt tokens limit exceeded: 12000 > 8000. To increase, upgrade your account"},
      {413, "<html><h1>Request Entity Too Large</h1></html>"},
      {500, "the request exceeds the available context size"},
      {400, "the input token count is 40000 but model only supports up to 32768."},
      {400, "Token limit: 8192, got 9120"},
      {400, "The prompt needs 9120 tokens; this model handles 8192."},
      {400, "too many total text bytes: 11250000 > 9000000"},
      {400, "Sequence length 9000 exceeds 8192"},
      {400, R"({"error":{"code":"1261","message":"Prompt \u8d85\u957f"}})"},
      {400, "上下文长度超过限制: 40000 > 32768"},
      {424, "inputs tokens must be shorter than 8192"},
      {500, "llama_decode: no KV slot for 9120 tokens, n_ctx = 8192"}};
  for (const auto& [status, words] : cases)
    EXPECT_EQ(remedy(status, body_of(words)), Remedy::kShorten) << status << " " << words;
}

TEST(Refusals, WhatIsAboutSomethingElseIsNotTakenForLength) {
  const std::tuple<long, std::string, Remedy> cases[] = {
      {400, "temperature does not support 0 with this model. Only the default is supported.",
       Remedy::kGiveUp},
      {422, R"({"detail":[{"loc":["body","temperature"],"msg":"Input should be less than 2"}]})",
       Remedy::kGiveUp},
      {400, "Extra inputs are not permitted: stream_options", Remedy::kGiveUp},
      {400, "max_tokens: 32768 > 8192, which is the maximum allowed number of output tokens",
       Remedy::kLessRoom},
      {422,
       "`inputs` tokens + `max_new_tokens` must be <= 8192. Given: 6000 `inputs` tokens and "
       "4000 `max_new_tokens`",
       Remedy::kLessRoom},
      {400, "model is still being pulled", Remedy::kWait},
      {400, "max_tokens 12000 not supported, model allows 8192", Remedy::kLessRoom},
      {400, "The model is currently overloaded. Please try again later.", Remedy::kWait},
      {403, "The service is temporarily unavailable", Remedy::kWait},
      {404, "Model is scaling up, please retry", Remedy::kWait},
      {498, "Flex capacity exceeded", Remedy::kWait},
      {400, R"({"code":"Arrearage","message":"please make sure your account is in good standing"})",
       Remedy::kNoCredit},
      {400, "ExceededTokenBudget: Current spend for token: 7.2; Max Budget for Token: 2.0",
       Remedy::kNoCredit},
      {403, "Your free trial has expired.", Remedy::kNoCredit},
      {403, "用户额度不足, 剩余额度: 0.00", Remedy::kNoCredit},
      {429, "You exceeded your current quota, please check your plan and billing details.",
       Remedy::kNoCredit},
      {429,
       R"({"error":{"message":"Quota exceeded, please check your plan and billing details.",)"
       R"("details":[{"retryDelay":"27s"}]}})",
       Remedy::kWait},
      {403, "token has expired; maximum age exceeded", Remedy::kGiveUp},
      {429, "Too many input tokens per minute: the maximum is 30000", Remedy::kWait},
      {401, "token is longer than allowed", Remedy::kGiveUp},
      {404, "model 'qwen3:32b' not found", Remedy::kGiveUp},
      {451, "Service is not available in your region.", Remedy::kGiveUp},
      {429, "Insufficient balance or no resource package. Please recharge.", Remedy::kNoCredit},
      {429, "Usage limit reached for 5 hour. Your limit will reset at 05:00.", Remedy::kNoCredit}};
  for (const auto& [status, words, expected] : cases)
    EXPECT_EQ(remedy(status, body_of(words)), expected) << status << " " << words;
}

TEST(Refusals, TheRoomIsWhatTheWordsLeaveBesideThePrompt) {
  const auto room = [](const std::string& message, int64_t asked) {
    return smaller_room(error_of(400, message), asked);
  };
  EXPECT_EQ(room("must be <= 8192. Given: 6000 `inputs` tokens and 4000 `max_new_tokens`", 4000),
            2192);
  EXPECT_EQ(
      room("maximum context length is 32768 tokens. However, you requested 40000 tokens (28000 in "
           "the messages, 12000 in the completion)",
           12000),
      4768);
  EXPECT_EQ(
      room("maximum context length of 8192 tokens. You requested a total of 21120 tokens: 9120 "
           "tokens from the input messages and 12000 tokens for the completion.",
           12000),
      0);
  EXPECT_EQ(room("You requested up to 16384 tokens, but can only afford 3100.", 16384), 3100);
  EXPECT_EQ(room("You requested up to 16384 tokens, but can only afford 310.", 16384), 0);
  EXPECT_EQ(room("this model supports at most 4096 completion tokens", 12000), 4096);
  EXPECT_EQ(room("You requested about 72000 tokens (60000 of text input, 12000 in the output), and "
                 "the maximum context length is 65536 tokens",
                 12000),
            5536);
  const ApiError poor = error_of(402, "Insufficient credits: your balance covers 3100 tokens");
  EXPECT_TRUE(affords_less(poor));
  EXPECT_EQ(smaller_room(poor, 16384), 3100);
}

TEST(Refusals, CreditThatPaysForASmallerAnswerIsNoEnd) {
  for (const long status : {402, 403}) {
    const std::string words =
        R"({"error":{"message":"This request requires more credits, or fewer )"
        R"(max_tokens. You requested up to 16384 tokens, but can only afford )";
    EXPECT_EQ(remedy(status, words + R"(3100."}})"), Remedy::kLessRoom);
    EXPECT_EQ(remedy(status, words + R"(310."}})"), Remedy::kNoCredit);
  }
}

TEST(Refusals, ATemplateWithoutASystemRoleIsKnown) {
  for (const char* words :
       {"Only user and assistant roles are supported!", "System role not supported",
        "Conversation roles must alternate user/assistant/user/assistant/...",
        "template error: this template has no place for the role system",
        "Developer instruction is not enabled for models/gemma-3-27b-it",
        "This model has no system prompt", "Unknown message type: system",
        "The first message must be a user message"})
    EXPECT_TRUE(refuses_system_role(error_of(400, words))) << words;
  EXPECT_FALSE(refuses_system_role(error_of(400, "the model is overloaded")));
  EXPECT_FALSE(refuses_system_role(error_of(429, "role limit")));
  EXPECT_FALSE(refuses_system_role(error_of(500, "system error: the message was lost")));
}

TEST(Refusals, AnErrorThatSaysNothingIsNone) {
  for (const char* nothing :
       {"null", "false", "0", "\"\"", "{}", "[]", R"({"code":null,"message":""})"})
    EXPECT_FALSE(is_error(nlohmann::json::parse(nothing))) << nothing;
  for (const char* error : {"\"busy\"", R"({"code":502})", R"({"message":"busy"})"})
    EXPECT_TRUE(is_error(nlohmann::json::parse(error))) << error;
}

TEST(Refusals, TheirWordsAreFoundWhateverTheyStandIn) {
  const std::pair<std::string, std::string> cases[] = {
      {R"({"error":{"message":"m","type":"t"}})", "m"},
      {R"({"error":"m"})", "m"},
      {R"({"message":"m"})", "m"},
      {R"({"statusCode":400,"error":"Bad Request","message":"m"})", "m"},
      {R"({"code":40003,"msg":"m","data":null})", "m"},
      {R"({"base_resp":{"status_code":1008,"status_msg":"m"}})", "m"},
      {R"({"detail":"m"})", "m"},
      {R"({"detail":[{"loc":["body","x"],"msg":"m"}]})", "body.x: m"},
      {R"({"errors":[{"message":"m"}]})", "m"},
      {R"({"error":{"detail":{"msg":"m"}}})", "m"},
      {R"([{"error":{"message":"m","code":400}}])", "m"},
      {R"({"type":"about:blank","title":"m","status":400})", "m"},
      {R"({"odd":1})", R"({"odd":1})"},
      {"<html><head><title>m</title></head></html>", "m"},
      {"m", "m"}};
  for (const auto& [body, words] : cases)
    EXPECT_EQ(read_api_error(400, body).message, words) << body;
}

// ------------------------------------------------------------------------------------------------
// Limits and logins, and how long they last

constexpr time_t kNow = 1764374400;  // 2025-11-29 00:00:00 UTC

TEST(Complaints, TheTimeThatTheyNameIsRead) {
  const std::pair<std::string, double> cases[] = {
      {"You've hit your session limit. It resets at 5am (UTC).", 5 * 3600},
      {"resets 3:30 pm UTC", 15.5 * 3600},
      {"Your limit will reset at 05:00 UTC.", 5 * 3600},
      {"rate limit reached; try again in 2 hours", 7200},
      {"Please try again in 1h 30m 5.5s.", 5405.5},
      {"retry after 20s", 20},
      {"Please wait for 3 minutes", 180},
      {"usage limit reached|1764378000", 3600},
      {"Access returns on 2025-11-29T02:00:00Z", 7200},
      {"try again at Nov 30th, 2025 9:14 AM (UTC).", 33 * 3600 + 14 * 60},
      {"Weekly limit reached, resets Dec 5 at 3pm (UTC)", 6 * 86400 + 15 * 3600},
      {"Access returned on 2025-11-01T02:00:00Z", 0},
      {"limit for 5 hour reached", 0},
      {"in 3 models and 12 layers", 0},
      {"busy", 0}};
  for (const auto& [words, seconds] : cases)
    EXPECT_NEAR(seconds_named(words, kNow), seconds, 1e-6) << words;
}

TEST(Complaints, AreToldFromReplies) {
  const auto lasting = [](const std::string& text) { return complaint_in(text, kNow)->lasting; };
  for (const char* text : {"You've hit your session limit. It resets at 5am (UTC).",
                           "API Error: 529 overloaded",
                           "Error: rate limit exceeded",
                           "Quota exceeded for model",
                           "Weekly limit reached",
                           "Selected model is at capacity. Please try a different model.",
                           "Error: connect ECONNREFUSED 127.0.0.1:443",
                           "TypeError: fetch failed",
                           "You're out of extra usage \u00b7 resets 3am",
                           "You have no requests left today.",
                           "You've used up your allowance of messages. Try again tomorrow.",
                           "Error: 503 Service Unavailable",
                           "You exceeded your limit of tokens per day.",
                           "Error: terminated",
                           "We are experiencing high demand. Please retry.",
                           "curl: (28) Operation timed out",
                           "Temporary failure in name resolution",
                           "Request was aborted.",
                           "self signed certificate in certificate chain",
                           "使用量已达上限，请稍后重试",
                           "Nutzungslimit erreicht."}) {
    ASSERT_TRUE(complaint_in(text, kNow)) << text;
    EXPECT_FALSE(lasting(text)) << text;
  }
  for (const char* text :
       {"Invalid API key. Please run the login command.", "Not logged in \u00b7 Please run /login",
        "API Error: 401 unauthorized", "Credit balance is too low",
        "OAuth token has expired. Please obtain a new token.", "Error: model 'x-4.1' not found",
        "There's an issue with the selected model (x). It may not exist or you may not have "
        "access.",
        "Unknown model: x", "Insufficient credits. Add more to go on.", "HTTP 403 Forbidden",
        "Your account has been suspended.", "This tool is not available in your country.",
        "Your trial has expired.", "You are not authorized to use this model"}) {
    ASSERT_TRUE(complaint_in(text, kNow)) << text;
    EXPECT_TRUE(lasting(text)) << text;
  }
  for (const char* text : {"Prompt is too long", "Input length exceeds the model's context limit",
                           "API Error: 400 prompt is too long: 210000 tokens > 200000 maximum",
                           "Your input exceeds the context window. Adjust it and try again.",
                           "Error: prompt is 210000 tokens but the model takes 200000"}) {
    ASSERT_TRUE(complaint_in(text, kNow)) << text;
    EXPECT_TRUE(complaint_in(text, kNow)->too_long) << text;
    EXPECT_FALSE(lasting(text)) << text;
  }
  for (const std::string& text :
       {std::string("ready"), kAnswer, std::string("IDEA: limit the rate"),
        "IDEA: session limit reached, so try again in 2 hours\n" + kAnswer,
        std::string("Done. I changed the learning rate and checked that it builds."),
        std::string("I need permission to edit train.cpp. Shall I go on?"),
        std::string("I'm sorry, but I can't help with that."),
        std::string("Done. I changed the batch from 524288 to 262144 tokens."),
        std::string("The file was not found, so the model stays as it is."),
        std::string("limit reached ") + std::string(600, 'x')})
    EXPECT_FALSE(complaint_in(text, kNow)) << text;
}

// ------------------------------------------------------------------------------------------------
// The machine's proxies and authorities

class Surroundings : public testing::Test {
 protected:
  void SetUp() override { clear(); }
  void TearDown() override { clear(); }
  static void clear() {
    for (const char* name :
         {"http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "no_proxy",
          "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE"})
      unsetenv(name);
  }
};

TEST_F(Surroundings, ThisMachineIsKnownByAllItsNames) {
  for (const char* url :
       {"http://localhost:8080/v1", "https://LOCALHOST/", "http://127.0.0.1:1", "http://127.9.9.9",
        "http://[::1]:8080/v1", "http://u:p@localhost/", "http://a.localhost", "http://0.0.0.0:80"})
    EXPECT_TRUE(is_loopback(url)) << url;
  for (const char* url :
       {"http://localhost.example.com", "http://127.example.com", "http://10.0.0.1",
        "https://api.openai.com/v1", "http://example.com/localhost"})
    EXPECT_FALSE(is_loopback(url)) << url;
}

TEST_F(Surroundings, TheProxyIsNamedWithoutItsPassword) {
  const std::string url = "https://api.openai.com/v1";
  EXPECT_FALSE(proxy_for(url));
  setenv("all_proxy", "socks5://u:secret@proxy.example.com:1080", 1);
  EXPECT_EQ(proxy_for(url)->variable, "all_proxy");
  EXPECT_EQ(proxy_for(url)->address, "proxy.example.com:1080");
  setenv("HTTPS_PROXY", "proxy:3128", 1);
  EXPECT_EQ(proxy_for(url)->variable, "HTTPS_PROXY");
  EXPECT_EQ(proxy_for("http://example.com")->variable, "all_proxy");
  EXPECT_FALSE(proxy_for("http://localhost:8080"));
  setenv("no_proxy", "example.com, .openai.com", 1);
  EXPECT_FALSE(proxy_for(url));
  EXPECT_FALSE(proxy_for("http://example.com"));
  EXPECT_TRUE(proxy_for("http://notexample.com"));
}

TEST_F(Surroundings, AuthoritiesAreTakenFromEveryVariableInUse) {
  EXPECT_EQ(authorities().variable, "");
  setenv("REQUESTS_CA_BUNDLE", "/a/requests.pem", 1);
  EXPECT_EQ(authorities().file, "/a/requests.pem");
  setenv("SSL_CERT_FILE", "/a/ssl.pem", 1);
  EXPECT_EQ(authorities().file, "/a/ssl.pem");
  setenv("SSL_CERT_DIR", "/a/certs", 1);
  EXPECT_EQ(authorities().folder, "/a/certs");
  EXPECT_EQ(authorities().variable, "SSL_CERT_FILE");
}

}  // namespace
}  // namespace autoresearch
