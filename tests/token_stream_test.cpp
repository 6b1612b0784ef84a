#include "prepare/token_stream.h"

#include <cerrno>
#include <cstring>
#include <random>

#include "tests/support.h"
#include "tests/train_on.h"

namespace autoresearch {
namespace {

class StreamTest : public FolderTest {
 protected:
  using Stream = void (*)(const Tokenizer&, std::FILE*, std::FILE*, bool);

  // What `stream` writes when it reads `input`.
  std::string through(Stream stream, const std::string& input, bool binary = false) {
    write_file(dir_ / "in", input);
    std::FILE* in = std::fopen((dir_ / "in").c_str(), "rb");
    std::FILE* out = std::fopen((dir_ / "out").c_str(), "wb");
    try {
      stream(tokenizer_, in, out, binary);
    } catch (...) {
      std::fclose(in);
      std::fclose(out);
      throw;
    }
    std::fclose(in);
    std::fclose(out);
    return read_file(dir_ / "out");
  }

  Tokenizer tokenizer_ = train_on({"the cat and the other cat, 123 123"}, 275);
};

TEST_F(StreamTest, IdsAreNumbersOnOneLineOrLittleEndian) {
  std::vector<uint16_t> ids;
  tokenizer_.encode("the cat", ids);
  std::string numbers, binary;
  for (const uint16_t id : ids) {
    numbers += (numbers.empty() ? "" : " ") + std::to_string(id);
    binary += {static_cast<char>(id & 255), static_cast<char>(id >> 8)};
  }
  EXPECT_EQ(through(encode_stream, "the cat"), numbers + "\n");
  EXPECT_EQ(through(encode_stream, "the cat", true), binary);
  EXPECT_EQ(through(encode_stream, ""), "\n");
  EXPECT_EQ(through(encode_stream, "", true), "");
}

// Some megabytes, so that it is read in several parts, which end anywhere.
TEST_F(StreamTest, PartsOfALongTextGiveTheIdsOfTheWhole) {
  std::mt19937 random(3);
  const std::vector<std::string> words = {"the ",  "cat", "\r\n", "  ",   "\n\n  ", "é世界",
                                          "12345", "'ll", "!?!",  "\xff", "🙂"};
  std::string text;
  while (text.size() < 5'000'000) text += words[random() % words.size()];
  std::vector<uint16_t> ids;
  tokenizer_.encode(text, ids);
  const std::string binary(reinterpret_cast<const char*>(ids.data()), 2 * ids.size());
  EXPECT_TRUE(through(encode_stream, text, true) == binary);
  EXPECT_TRUE(through(decode_stream, binary, true) == text);
  EXPECT_TRUE(through(decode_stream, through(encode_stream, text)) == text);
}

TEST_F(StreamTest, APieceLongerThanAPartIsOnePiece) {
  const std::string text(20'000'000, 'a');
  EXPECT_TRUE(through(decode_stream, through(encode_stream, text, true), true) == text);
}

TEST_F(StreamTest, WhatIsNoIdIsNamed) {
  const auto error = [&](const std::string& input, bool binary = false) {
    return error_of([&] { through(decode_stream, input, binary); });
  };
  EXPECT_NE(error("1 2 cat").find("\"cat\" is no token id"), std::string::npos);
  EXPECT_NE(error("-1").find("\"-1\" is no token id"), std::string::npos);
  EXPECT_NE(error("1 275").find("out of range"), std::string::npos);
  EXPECT_NE(error("99999999999999999999").find("is no token id"), std::string::npos);
  EXPECT_NE(error("abc", true).find("ends within an id"), std::string::npos);
  EXPECT_NE(error(std::string(5 << 20, '1')).find("no list of token ids"), std::string::npos);
  EXPECT_EQ(through(decode_stream, " 116\n104\t101  "), "the");
}

TEST_F(StreamTest, AFailedWriteIsReportedWithItsOwnReason) {
  std::string text;
  for (int i = 0; i < 100'000; ++i) text += "the cat ";
  write_file(dir_ / "in", text);
  std::FILE* in = std::fopen((dir_ / "in").c_str(), "rb");
  std::FILE* full = std::fopen("/dev/full", "wb");
  const std::string error = error_of([&] { encode_stream(tokenizer_, in, full, false); });
  std::fclose(in);
  std::fclose(full);
  EXPECT_NE(error.find(std::strerror(ENOSPC)), std::string::npos) << error;
}

}  // namespace
}  // namespace autoresearch
