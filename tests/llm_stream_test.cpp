// How streams are cut into events, and ten thousand broken ones that do no harm.
#include <gtest/gtest.h>

#include <random>

#include "agent/llm/api_error.h"
#include "agent/llm/event_cutter.h"
#include "agent/llm/wire.h"
#include "tests/recorded_answers.h"

namespace autoresearch {
namespace {

std::vector<std::string> events_of(const std::string& bytes, size_t piece) {
  std::vector<std::string> events;
  const auto take = [&](const std::string& data) { events.push_back(data); };
  EventCutter cutter;
  for (size_t at = 0; at < bytes.size(); at += piece) cutter.feed(bytes.substr(at, piece), take);
  cutter.finish(take);
  return events;
}

using Events = std::vector<std::string>;

TEST(EventCutter, EventsMeanTheSameHoweverTheyArrive) {
  const std::string stream =
      "\xEF\xBB\xBF: a comment\n\ndata: one\n\nevent: ping\nid: 7\nretry: 10\n\n"
      "data:two\r\ndata:  three\r\n\r\ndata\r\rdata: four\r\rdata: \xc3\xa9\n\n\n\ndata: last";
  const Events expected = {"one", "two\n three", "", "four", "\xc3\xa9", "last"};
  for (size_t piece = 1; piece <= stream.size(); ++piece)
    EXPECT_EQ(events_of(stream, piece), expected) << piece;
}

TEST(EventCutter, FieldsOfOtherNamesAreNoData) {
  EXPECT_EQ(events_of("database: x\n\ndat: y\n\nDATA: z\n\n", 4), Events{});
}

TEST(LineCutter, ACarriageReturnInsideALineIsKept) {
  std::vector<std::string> lines;
  const auto take = [&](std::string_view line) { lines.emplace_back(line); };
  LineCutter cutter(/*lone_cr=*/false);
  cutter.feed("a\rb\n\nc", take);
  cutter.finish(take);
  EXPECT_EQ(lines, (std::vector<std::string>{"a\rb", "", "c"}));
}

// What models' servers and networks do to a stream: bytes changed, lost, doubled, moved, cut.
std::string mutated(std::string bytes, std::mt19937& random) {
  auto below = [&](size_t limit) { return limit == 0 ? 0 : random() % limit; };
  for (size_t round = 0; round <= below(4) && !bytes.empty(); ++round) {
    const size_t at = below(bytes.size()), length = 1 + below(40), to = below(bytes.size());
    const std::string part = bytes.substr(at, length);
    switch (below(7)) {
      case 0:
        bytes[at] = static_cast<char>(random());
        break;
      case 1:
        bytes.erase(at, length);
        break;
      case 2:
        bytes.insert(to, part);
        break;
      case 3:
        bytes.resize(at);
        break;
      case 4:
        bytes.insert(at, std::string(1 + below(2000), "[{\"\n:0"[below(6)]));
        break;
      case 5:
        bytes.insert(at, "-1e999");
        break;
      default:
        bytes.erase(at, length);
        bytes.insert(std::min(to, bytes.size()), part);
    }
  }
  return bytes;
}

TEST(AnswerReader, TenThousandBrokenAnswersAreReadWithoutHarm) {
  std::mt19937 random(20261125);
  const std::vector<std::string> kinds = wire_kinds();
  int whole = 0, broken = 0;
  for (int i = 0; i < 10'000; ++i) {
    const std::string& kind = kinds[i % kinds.size()];
    const bool stream = i / kinds.size() % 2 == 0;
    const auto wire = make_wire(kind);
    const HttpAnswer recorded =
        i % 5 == 0 ? recorded_inner_error(kind, stream, "overloaded_error", "busy")
                   : recorded_answer(kind, stream, {.text = "IDEA: an idea", .thought = "hm"});
    const std::string bytes = mutated(recorded.body, random);
    AnswerReader reader(*wire, stream);
    const size_t piece = 1 + random() % 97;
    for (size_t at = 0; at < bytes.size(); at += piece)
      if (!reader.feed(std::string_view(bytes).substr(at, piece))) break;
    const Answer answer = reader.finish();
    // A stream that was cut is never taken for a whole answer.
    const bool good = answer.finished && !answer.malformed && answer.error.is_null();
    (good ? whole : broken)++;
    EXPECT_GE(answer.tokens_in, 0);
    EXPECT_GE(answer.tokens_out, 0);
    EXPECT_LE(answer.text.size(), bytes.size());
    const ApiError error = read_api_error(429, bytes);
    EXPECT_LT(smaller_room(error, 12000), 12000);
    refused_parameter(error, wire->droppable());
  }
  EXPECT_GT(whole, 1000);
  EXPECT_GT(broken, 1000);
}

TEST(AnswerReader, NoPrefixOfAStreamIsAWholeAnswer) {
  for (const std::string& kind : wire_kinds()) {
    const auto wire = make_wire(kind);
    const std::string body = recorded_answer(kind, true, {.text = "IDEA: an idea"}).body;
    Answer full;
    for (size_t length = 0; length <= body.size(); ++length) {
      AnswerReader reader(*wire, true);
      reader.feed(std::string_view(body).substr(0, length));
      full = reader.finish();
      if (full.finished) {
        EXPECT_EQ(full.text, "IDEA: an idea") << kind << " " << length;
      }
    }
    EXPECT_TRUE(full.finished) << kind;
  }
}

TEST(AnswerReader, NestingWithoutEndOverflowsNoStack) {
  for (const std::string kind : {"openai", "ollama"}) {
    const auto wire = make_wire(kind);
    for (const bool stream : {false, true}) {
      AnswerReader reader(*wire, stream);
      reader.feed(stream && kind == "openai" ? "data: " : "");
      reader.feed(std::string(4 << 20, '['));
      EXPECT_TRUE(reader.finish().malformed);
    }
  }
}

}  // namespace
}  // namespace autoresearch
