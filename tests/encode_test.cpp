#include "prepare/encode.h"

#include "tests/documents.h"
#include "tests/support.h"
#include "tests/train_on.h"

namespace autoresearch {
namespace {

std::vector<std::string> texts(int count) {
  std::vector<std::string> result;
  for (int i = 0; i < count; ++i) {
    result.push_back("text number " + std::to_string(i) +
                     std::string(static_cast<size_t>(i % 97), 'x'));
  }
  return result;
}

Tokenizer tokenizer() { return train_on({"text number text number"}, 270); }

struct Encoded {
  std::vector<uint16_t> ids;
  int64_t bytes, invalid_bytes;
  bool group_ended;
  bool operator==(const Encoded&) const = default;
};

std::vector<Encoded> encode(const std::vector<std::string>& documents, int64_t workers,
                            size_t group = 0) {
  static const Tokenizer tokens = tokenizer();
  std::vector<Encoded> result;
  ListedDocuments reader(documents, group);
  encode_documents(reader, tokens, workers, [&](const EncodedDocument& d) {
    result.push_back({{d.ids.begin(), d.ids.end()}, d.bytes, d.invalid_bytes, d.group_ended});
    return true;
  });
  return result;
}

TEST(Encode, EveryDocumentComesOnceAndInOrder) {
  const std::vector<std::string> documents = texts(60'000);  // several batches
  const std::vector<Encoded> encoded = encode(documents, 2);
  ASSERT_EQ(encoded.size(), documents.size());
  const Tokenizer tokens = tokenizer();
  for (size_t i = 0; i < documents.size(); i += 101) {
    EXPECT_EQ(tokens.decode(encoded[i].ids), documents[i]);
    EXPECT_EQ(encoded[i].bytes, static_cast<int64_t>(documents[i].size()));
  }
}

TEST(Encode, TheNumberOfThreadsDoesNotMatter) {
  const std::vector<std::string> documents = texts(60'000);
  EXPECT_EQ(encode(documents, 1), encode(documents, 5));
}

TEST(Encode, BytesThatAreNotUtf8AreCountedPerDocument) {
  const std::vector<Encoded> encoded = encode({"good",
                                               "b\xff\xfe"
                                               "d",
                                               "\xe4\xb8", ""},
                                              1);
  EXPECT_EQ(encoded[0].invalid_bytes, 0);
  EXPECT_EQ(encoded[1].invalid_bytes, 2);
  EXPECT_EQ(encoded[2].invalid_bytes, 2);
  EXPECT_EQ(encoded[3].invalid_bytes, 0);
  EXPECT_TRUE(encoded[3].ids.empty());
}

TEST(Encode, EndsOfGroupsAreHandedOn) {
  const std::vector<Encoded> encoded = encode(texts(10), 2, /*group=*/4);
  for (size_t i = 0; i < encoded.size(); ++i) EXPECT_EQ(encoded[i].group_ended, i % 4 == 3) << i;
}

TEST(Encode, EndsWhenItIsToldTo) {
  ListedDocuments reader(texts(60'000));
  int count = 0;
  encode_documents(reader, tokenizer(), 2, [&](const EncodedDocument&) { return ++count < 7; });
  EXPECT_EQ(count, 7);
}

TEST(Encode, WhatTheReaderThrowsIsThrown) {
  class Broken : public DocumentReader {
    bool next(std::string&) override { throw Error("broken"); }
    int64_t position() const override { return 0; }
  } reader;
  const auto encode_all = [&] {
    encode_documents(reader, tokenizer(), 3, [](const EncodedDocument&) { return true; });
  };
  EXPECT_EQ(error_of(encode_all), "broken");
}

TEST(Encode, SequencesBeginWithBosAndKeepTheirLengths) {
  TokenSequences sequences;
  sequences.add(std::vector<uint16_t>{1, 2}, 500);
  sequences.add({}, 500);
  ASSERT_EQ(sequences.size(), 2u);
  EXPECT_EQ(std::vector<uint16_t>(sequences[0].begin(), sequences[0].end()),
            (std::vector<uint16_t>{500, 1, 2}));
  EXPECT_EQ(sequences[1].size(), 1u);
}

}  // namespace
}  // namespace autoresearch
