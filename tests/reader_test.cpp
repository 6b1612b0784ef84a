#include "prepare/reader.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <random>

#include "common/error.h"
#include "prepare/bytes.h"
#include "tests/compressed.h"
#include "tests/support.h"

namespace autoresearch {
namespace {

using Documents = std::vector<std::string>;

std::string repeated(const std::string& text, int times) {
  std::string all;
  for (int i = 0; i < times; ++i) all += text;
  return all;
}

Documents documents_of(const fs::path& file, const ReadOptions& options = {}) {
  const auto reader = open_documents(file, options);
  Documents documents;
  for (std::string document; reader->next(document);) documents.push_back(document);
  EXPECT_EQ(reader->group_ended(), false);
  options.findings->check_lines();
  return documents;
}

std::string joined(const Documents& documents) {
  std::string all;
  for (const std::string& document : documents) all += document;
  return all;
}

class ReaderTest : public FolderTest {
 protected:
  std::string error_in(const std::string& name, const std::string& content,
                       const ReadOptions& options = {}) const {
    const fs::path path = file(name, content);
    return error_of([&] { documents_of(path, options); });
  }
};

// ------------------------------------------------------------------------------------------------
// Plain text

TEST_F(ReaderTest, ATextFileIsADocumentByteForByte) {
  const std::string text = " one\r\n\xff\xfe\x80 no UTF-8\n\n";
  EXPECT_EQ(documents_of(file("a.txt", text)), Documents{text});
  EXPECT_EQ(documents_of(file("a.unknown", text)), Documents{text});
}

TEST_F(ReaderTest, AnEmptyFileHoldsNothing) {
  for (const char* name : {"a.txt", "a.jsonl"})
    EXPECT_EQ(documents_of(file(name, "")), Documents{});
  EXPECT_EQ(documents_of(file("b.txt", ""), {.doc_separator = "\n"}), Documents{});
  EXPECT_EQ(documents_of(file("a.txt.gz", gzip(""))), Documents{});
  EXPECT_EQ(documents_of(file("a.txt.zst", zstd(""))), Documents{});
}

TEST_F(ReaderTest, ALongTextIsCutAtLineEnds) {
  std::string book;
  for (int i = 0; i < 50'000; ++i) book += "line " + std::to_string(i) + " of a long book\n";
  const Documents parts = documents_of(file("book.txt", book), {.part_bytes = 40'000});
  EXPECT_GT(parts.size(), 30u);
  for (const std::string& part : parts) {
    EXPECT_EQ(part.back(), '\n');
    EXPECT_LE(part.size(), 80'000u);
  }
  EXPECT_EQ(joined(parts), book);
}

TEST_F(ReaderTest, ALongTextWithoutLineEndsIsCutBetweenCharacters) {
  std::string endless;
  for (int i = 0; endless.size() < 200'000; ++i)
    endless += std::to_string(i) + "\u00e9\u65e5\U0001F600";
  for (const int64_t part_bytes : {4, 1001, 1002, 1003, 1004}) {
    const Documents parts = documents_of(file("a.txt", endless), {.part_bytes = part_bytes});
    EXPECT_GT(parts.size(), 100u);
    for (const std::string& part : parts) {
      ASSERT_NE(static_cast<unsigned char>(part[0]) & 0xC0, 0x80);
    }
    EXPECT_EQ(joined(parts), endless);
  }
}

TEST_F(ReaderTest, TextIsCutAlikeHoweverItIsCompressed) {
  const std::string text = repeated("some line of text\n", 20'000) + std::string(100'000, 'x');
  const ReadOptions options{.part_bytes = 30'000};
  const Documents parts = documents_of(file("a.txt", text), options);
  EXPECT_EQ(documents_of(file("a.txt.gz", gzip(text)), options), parts);
  EXPECT_EQ(documents_of(file("a.txt.zst", zstd(text)), options), parts);
}

TEST_F(ReaderTest, SeparatorsEndDocumentsAndBelongToNone) {
  const ReadOptions options{.doc_separator = "<|end|>"};
  EXPECT_EQ(documents_of(file("a.txt", "one\n<|end|>two<|end<|end|><|end|>last"), options),
            (Documents{"one\n", "two<|end", "", "last"}));
  EXPECT_EQ(documents_of(file("b.txt", "one<|end|>"), options), Documents{"one"});
  std::string text;
  Documents documents;
  for (int i = 0; i < 3000; ++i) {
    documents.push_back(std::string(static_cast<size_t>(i) % 977, 'a') + std::to_string(i));
    text += documents.back() + options.doc_separator;
  }
  EXPECT_EQ(documents_of(file("long.txt", text), options), documents);
}

TEST_F(ReaderTest, ABinaryFileIsRefusedInEveryForm) {
  const std::string binary("te\0xt", 5);
  expect_says(error_in("a.txt", binary), "a.txt", "binary");
  expect_says(error_in("a.txt", binary, {.doc_separator = "x"}), "a.txt", "binary");
  expect_says(error_in("a.txt.gz", gzip(binary)), "a.txt.gz", "binary");
  expect_says(error_in("a.jsonl.zst", zstd(binary)), "a.jsonl.zst", "binary");
}

TEST_F(ReaderTest, WhatIsNoTextIsCalledByItsName) {
  const std::string nul("\0", 1);
  expect_says(error_in("a.txt", "PK\x03\x04" + nul), "a.txt", "is a zip archive; unpack it");
  expect_says(error_in("a.jsonl.xz", "\xFD\x37zXZ" + nul), "a.jsonl.xz", "is an xz file");
  expect_says(error_in("a.jsonl.bz2", "BZh91AY&SY\xFF\xFE"), "a.jsonl.bz2", "is a bzip2 file");
  expect_says(error_in("a.tar.gz", gzip(std::string(257, '\0') + "ustar")), "a.tar.gz",
              "tar archive");
  expect_says(error_in("a.txt", "PAR1\x15" + nul), "a.txt", "can't be read as parquet");
  expect_says(error_in("a.gz", gzip("PAR1\x15" + nul)), "a.gz", "unpack it");
  expect_says(error_in("a.parquet", "<html>404"), "a.parquet", "page of HTML");
  expect_says(error_in("a.jsonl", "\n<?xml version='1.0'?><Error/>"), "a.jsonl", "page of HTML");
  expect_says(error_in("a.parquet", "version https://git-lfs.github.com/spec/v1\n"), "a.parquet",
              "git lfs pull");
  expect_says(error_in("a.json", "[{\"text\": \"a\"}]"), "a.json", "jq -c");
  expect_says(error_in("a.json", "{\n  \"text\": \"a\"\n}\n"), "a.json", "jq -c . FILE");
  expect_says(error_in("a.gz", "\x80\x90\xa0\xb0\xff"), "a.gz", "can't be decompressed");
  expect_says(error_in("a.Z", "\x1F\x9D\x90\xFF"), "a.Z", "is a file packed by compress");
  expect_says(error_in("a.txt", "%PDF-1.4\n1 0 obj\n"), "a.txt", "PDF document");
  expect_says(error_in("a.txt", "\xFF\xFF\xFF\xFF\xE8" + nul), "a.txt", "is an Arrow stream");
  expect_says(error_in("a.txt", std::string("a\0b\0", 4)), "a.txt", "iconv -f UTF-16LE");
  expect_says(error_in("a.txt", std::string("\0a\0b", 4)), "a.txt", "iconv -f UTF-16BE");
  expect_says(error_in("a.txt", std::string("\xFF\xFE\0\0a\0\0\0", 8)), "a.txt", "UTF-32");
}

TEST_F(ReaderTest, AByteOrderMarkIsNoText) {
  const std::string mark = "\xEF\xBB\xBF", text = repeated("a line\n", 3000);
  const ReadOptions options{.part_bytes = 4096};
  EXPECT_EQ(documents_of(file("a.txt", mark + text), options),
            documents_of(file("b.txt", text), options));
  EXPECT_EQ(documents_of(file("a.txt.gz", gzip(mark + "text"))), Documents{"text"});
  EXPECT_NE(options.findings->report().find("byte order marks dropped: 1 ("), std::string::npos);
}

TEST_F(ReaderTest, Utf16WithAMarkIsReadAsUtf8) {
  const std::u16string text = u"z\u00f6lf \u65e5\u672c \U0001F600\n";
  const auto encoded = [](const std::u16string& units, bool big_endian) {
    std::string bytes;
    for (const char16_t unit : u"\uFEFF" + units) {
      const char high = static_cast<char>(unit >> 8), low = static_cast<char>(unit);
      bytes += big_endian ? high : low;
      bytes += big_endian ? low : high;
    }
    return bytes;
  };
  for (const bool big_endian : {false, true}) {
    EXPECT_EQ(documents_of(file("a.txt", encoded(text, big_endian))),
              Documents{"z\u00f6lf \u65e5\u672c \U0001F600\n"});
    EXPECT_EQ(documents_of(file("a.jsonl", encoded(u"{\"text\": \"\u00e9\"}", big_endian))),
              Documents{"\u00e9"});
    const std::u16string halves = {u'a', 0xD83D, u'b', 0xDE00, u'c', 0xD83D};
    EXPECT_EQ(documents_of(file("b.txt", encoded(halves, big_endian))),
              Documents{"a\uFFFDb\uFFFDc\uFFFD"});
    EXPECT_EQ(documents_of(file("c.txt", encoded(u"ab", big_endian) + "x")), Documents{"ab\uFFFD"});
  }
  std::u16string book;
  for (int i = 0; i < 100'000; ++i) book += u"\U0001F600 a line\n";
  EXPECT_EQ(joined(documents_of(file("d.txt", encoded(book, false)))),
            repeated("\U0001F600 a line\n", 100'000));
}

TEST_F(ReaderTest, WhatCannotBeOpenedIsNamed) {
  expect_says(error_of([&] { documents_of(dir_ / "none.txt"); }), "none.txt", "No such file");
  expect_says(error_of([&] { documents_of(dir_); }), dir_, "Is a directory");
}

// ------------------------------------------------------------------------------------------------
// JSON lines

TEST_F(ReaderTest, ALineOfJsonIsADocument) {
  const std::string text =
      "\xEF\xBB\xBF{\"text\": \"one\\n\\u0000\\\"\\/\"}\r\n \n"
      "{\"id\": [1, {\"text\": \"inner\"}], \"text\": \"zw\\u00f6lf \\ud83d\\ude00\"}\n"
      "{\"text\": null}\n"
      "{\"text\": \"\", \"x\": 1e9}";
  const Documents documents = {std::string("one\n\0\"/", 7), "zw\u00f6lf \U0001F600", ""};
  for (const char* name : {"a.jsonl", "a.ndjson", "A.JSONL"}) {
    EXPECT_EQ(documents_of(file(name, text)), documents);
  }
  EXPECT_EQ(documents_of(file("a.jsonl.gz", gzip(text))), documents);
  EXPECT_EQ(documents_of(file("a.ndjson.zst", zstd(text))), documents);
}

TEST_F(ReaderTest, LinesOfJsonAreKnownWhateverTheirName) {
  const std::string text = "{\"text\": \"one\"}\n\n{\"text\": \"two\"}\n";
  const Documents documents = {"one", "two"};
  for (const char* name : {"a.json", "data", "a.txt", "a.parquet", "-x.log"}) {
    EXPECT_EQ(documents_of(file(name, text)), documents) << name;
    EXPECT_EQ(documents_of(file(std::string(name) + ".gz", gzip(text))), documents) << name;
  }
  EXPECT_EQ(documents_of(file("b.json", "{\"text\": \"one\"}")), Documents{"one"});
  const std::string long_line = "{\"text\": \"" + std::string(200'000, 'x') + "\"}\n";
  EXPECT_EQ(documents_of(file("c.json", long_line)), Documents{std::string(200'000, 'x')});
  const ReadOptions options;
  documents_of(file("a.txt.gz", gzip(text)), options);
  EXPECT_NE(options.findings->report().find("read as lines of JSON"), std::string::npos);
  EXPECT_EQ(documents_of(file("f", "# made by hand\n" + repeated(text, 999))).size(), 1998u);
  // What a user calls text by its separator is text, and so is prose that begins alike.
  EXPECT_EQ(documents_of(file("d.txt", text), {.doc_separator = "\n\n"}).size(), 2u);
  for (const std::string prose : {"{\"text\": \"one\"}\n", "{name}\n{place}\n", "[1] a\n[2] b\n",
                                  "{\"a\": 1}\nThat is JSON.\n"}) {
    EXPECT_EQ(documents_of(file("e.txt", prose)), Documents{prose});
  }
}

TEST_F(ReaderTest, JsonThatIsNoLinesIsNeverTakenForText) {
  const std::string one = "{\"text\": \"a\"}", pretty = "{\n  \"text\": \"a\"\n}\n";
  for (const std::string& json : Documents{pretty + pretty, one + "\r" + one + "\r", one + one,
                                           "[\n" + one + ",\n" + one + "]", "[\"a\", \"b\"]"}) {
    for (const char* name : {"a.json", "a.jsonl", "a", "a.txt", "a.dump"}) {
      expect_says(error_in(name, json), name, "jq -c ");
    }
  }
  for (const std::string& bad :
       Documents{"{'text': 'a'}\n", one + ",\n" + one + ",\n", "\"a\"\n\"b\"\n"}) {
    expect_says(error_in("a.json", bad), "a.json:1", "is no ");
  }
  for (const std::string prose : {"[1] [2]\n", "[\"a\"] is a list\n", "{\"a\": {\"b\": \"c\"}}"}) {
    EXPECT_EQ(documents_of(file("b.txt", prose)), Documents{prose});
  }
}

TEST_F(ReaderTest, WhatAFileSystemOrAnotherFileLeavesInALineIsNoPartOfIt) {
  const std::string line = "{\"text\": \"a\"}\n", mark = "\xEF\xBB\xBF";
  EXPECT_EQ(documents_of(file("a.jsonl", mark + line + mark + line + mark + mark + line)).size(),
            3u);
  EXPECT_EQ(documents_of(file("b.jsonl", repeated(line, 999) + std::string(9000, '\0'))).size(),
            999u);
  const std::string cut = repeated(line, 999) + "{\"text\": \"cu" + std::string(9000, '\0');
  EXPECT_EQ(documents_of(file("c.jsonl", cut)).size(), 999u);
}

TEST_F(ReaderTest, ADottedColumnLeadsIntoObjectsAndBracketsIntoLists) {
  const auto read = [&](const std::string& column, const std::string& line) {
    return documents_of(file("a.jsonl", line), {.column = column});
  };
  EXPECT_EQ(read("raw.text", "{\"text\": \"no\", \"raw\": {\"x\": 1, \"text\": \"yes\"}}"),
            Documents{"yes"});
  EXPECT_EQ(read("raw.text", "{\"raw.text\": \"as it is written\"}"),
            Documents{"as it is written"});
  EXPECT_EQ(read("a.b.c", "{\"a\": {\"b\": {\"c\": \"deep\"}, \"c\": \"no\"}}"), Documents{"deep"});
  EXPECT_EQ(read("raw.text", "{\"raw\": null}"), Documents{});
  EXPECT_EQ(read("parts[]", "{\"parts\": [\"a\", null, \"\", \"b\"]}"), Documents{"a\n\nb"});
  EXPECT_EQ(read("parts[]", "{\"parts\": []}"), Documents{});
  EXPECT_EQ(read("parts[][]", "{\"parts\": [[\"a\"], [\"b\", \"c\"]]}"), Documents{"a\nb\nc"});
  EXPECT_EQ(read("messages[].content",
                 "{\"messages\": [{\"role\": \"user\", \"content\": \"Why?\"}, "
                 "{\"content\": null}, {\"content\": \"So.\"}]}"),
            Documents{"Why?\nSo."});
  for (const auto& [column, line] : {std::pair{"parts[]", "{\"parts\": [\"a\", 1]}"},
                                     {"parts[]", "{\"parts\": \"a\"}"},
                                     {"raw.text", "{\"raw\": {\"title\": \"x\"}}"},
                                     {"raw", "{\"raw\": {\"text\": \"x\"}}"}}) {
    EXPECT_NE(error_of([&] { read(column, std::string(line) + "\n"); }), "") << line;
  }
}

TEST_F(ReaderTest, AColumnThatIsNotThereIsRefusedWithThoseThatAre) {
  expect_says(error_in("a.jsonl",
                       "{\"id\": 1, \"body\": \"x\", \"m\": [{\"content\": \"y\"}], "
                       "\"raw\": {\"text\": \"z\"}}\n"),
              "a.jsonl:1", "but has: body, m[].content, raw.text");
}

TEST_F(ReaderTest, AFileOfOneObjectIsToldFromAFileOfLines) {
  expect_says(error_in("a.json", "{\"text\": [3]}"), "a.json:1", "write each document as a line");
}

TEST_F(ReaderTest, AFewBadLinesAreSkippedAndCountedManyAreRefused) {
  const std::string good = "{\"text\": \"good\"}\n", bad = "{\"text\": \"never clo\n";
  const ReadOptions options;
  EXPECT_EQ(
      documents_of(file("a.jsonl", repeated(good, 1500) + bad + repeated(good, 600) + bad), options)
          .size(),
      2100u);
  EXPECT_NE(options.findings->report().find("lines skipped: 2 of 2102"), std::string::npos)
      << options.findings->report();
  expect_says(error_in("b.jsonl", repeated(good, 1500) + bad + bad), "b.jsonl:1501",
              "2 of 1502 lines can't be used");
  expect_says(error_in("c.jsonl", repeated(bad, 5'000'000 / 20)), "c.jsonl:1 ", "100 of 100 lines");
}

TEST_F(ReaderTest, ALastLineThatIsCutOffIsSkipped) {
  const std::string good = "{\"text\": \"good\"}\n";
  for (const std::string rest :
       {"{\"text\": \"cut o", "{", "{\"text\": \"a\"", "{\"text\": \"\\ud8"}) {
    const ReadOptions options;
    EXPECT_EQ(documents_of(file("a.jsonl", good + rest), options), Documents{"good"}) << rest;
    EXPECT_NE(options.findings->report().find("cut off: 1 ("), std::string::npos);
  }
}

TEST_F(ReaderTest, TheColumnNamesTheKey) {
  EXPECT_EQ(documents_of(file("a.jsonl", "{\"text\": \"no\", \"content\": \"yes\"}\n"),
                         {.column = "content"}),
            Documents{"yes"});
}

TEST_F(ReaderTest, TheLastOfEqualKeysCountsAndItsBytesAreLeftAlone) {
  EXPECT_EQ(documents_of(file("b.jsonl", "{\"text\": \"first\", \"text\": \"\xff\x80\"}")),
            Documents{"\xff\x80"});
}

TEST_F(ReaderTest, LinesThatAParserMightChokeOnAreReadOrRefused) {
  const std::string deep = "{\"text\": \"a\", \"x\": " + repeated("[", 900) + repeated("]", 900);
  EXPECT_EQ(documents_of(file("c.jsonl", deep + "}")), Documents{"a"});
  expect_says(error_in("d.jsonl", "{\"text\": \"a\"}\n" + repeated("[", 1'000'000)), "d.jsonl:2",
              "too deeply");
  expect_says(error_in("e.jsonl", std::string(9000, ' ') + std::string("{\"text\": \"a\"}\0x", 16)),
              "e.jsonl:1", "NUL");
}

TEST_F(ReaderTest, NaNAndInfinityBesideTheTextAreReadAsPythonWritesThem) {
  const std::string line = "{\"score\": NaN, \"text\": \"a\", \"x\": [-Infinity, Infinity]}\n";
  EXPECT_EQ(documents_of(file("nan.jsonl", line)), Documents{"a"});
  expect_says(error_in("b.jsonl", "{\"text\": NaN}\n"), "b.jsonl:1", "type string");
}

TEST_F(ReaderTest, ABadLineOfJsonIsNamedByNumber) {
  for (const std::string line :
       {"{\"text\": ", "{\"body\": \"x\"}", "{\"text\": 3}", "[1]", "3", "{\"text\": \"a\"} x",
        "{\"text\": \"a\", \"b\": tru}", "{\"text\": \"\\ud8\"}", "{\"text\": \"a\tb\"}",
        "{\"text\": \"a\", \"n\": 1e999}", "\"text\"", "{\"text\": {\"text\": \"x\"}}",
        "[{\"text\": \"x\"}]"}) {
    const std::string message = error_in("b.jsonl", "{\"text\": \"one\"}\n\n" + line + "\n");
    expect_says(message, "b.jsonl:3", "line");
  }
}

TEST_F(ReaderTest, SurrogatesWithoutAPartnerBecomeTheReplacementCharacter) {
  const auto read = [&](const std::string& escaped) {
    return documents_of(file("a.jsonl", "{\"text\": \"" + escaped + "\"}"));
  };
  EXPECT_EQ(read("a\\ud83db"), Documents{"a\uFFFDb"});
  EXPECT_EQ(read("\\uDE00"), Documents{"\uFFFD"});
  EXPECT_EQ(read("\\ude00\\ud83d"), Documents{"\uFFFD\uFFFD"});
  EXPECT_EQ(read("\\ud83d\\ud83d\\ude00"), Documents{"\uFFFD\U0001F600"});
  EXPECT_EQ(read("\\ud83d\\n\\ude00"), Documents{"\uFFFD\n\uFFFD"});
  EXPECT_EQ(read("\\\\ud83d \\uD83D\\uDE00"), Documents{"\\ud83d \U0001F600"});
}

// ------------------------------------------------------------------------------------------------
// Compressed streams

TEST_F(ReaderTest, AllMembersAndFramesOfAStreamAreRead) {
  const std::string one = "first half\n", two = repeated("second half\n", 10'000);
  EXPECT_EQ(documents_of(file("a.txt.gz", gzip(one) + gzip("") + gzip(two))), Documents{one + two});
  EXPECT_EQ(documents_of(file("a.txt.zst", zstd(one) + zstd("") + zstd(two))),
            Documents{one + two});
  const std::string skippable("\x50\x2a\x4d\x18\x03\0\0\0abc", 11);
  EXPECT_EQ(documents_of(file("b.txt.zst", zstd(one) + skippable + zstd(two))),
            Documents{one + two});
}

TEST_F(ReaderTest, ZerosBehindAGzipStreamArePadding) {
  EXPECT_EQ(documents_of(file("a.txt.gz", gzip("text") + std::string(512, '\0'))),
            Documents{"text"});
}

TEST_F(ReaderTest, AStreamThatIsCutShortIsNeverTakenForAWholeOne) {
  const std::string text = repeated("{\"text\": \"some line\"}\n", 40);
  for (const auto& [name, packed] : {std::pair{"a.jsonl.gz", gzip(text) + gzip(text)},
                                     std::pair{"a.jsonl.zst", zstd(text) + zstd(text)}}) {
    for (size_t size = 0; size < packed.size(); ++size) {
      if (size == packed.size() / 2) continue;  // one whole member or frame
      expect_says(error_in(name, packed.substr(0, size)), name, "copy or download it again");
    }
    EXPECT_EQ(documents_of(file(name, packed)).size(), 80u);
  }
}

TEST_F(ReaderTest, FlippedBytesOfAStreamAreNoticed) {
  std::mt19937 random(1);
  std::string text;
  for (int i = 0; i < 2000; ++i) text += std::to_string(random()) + (i % 7 == 0 ? "\n" : " ");
  for (const auto& [name, packed] :
       {std::pair{"a.txt.gz", gzip(text)}, std::pair{"a.txt.zst", zstd(text)}}) {
    int noticed = 0;
    for (int i = 0; i < 1000; ++i) {
      std::string damaged = packed;
      damaged[random() % damaged.size()] ^= static_cast<char>(1 + random() % 255);
      const fs::path path = file(name, damaged);
      Documents documents;
      const std::string message = error_of([&] { documents = documents_of(path); });
      noticed += !message.empty();
      // Some bytes of the header are about the time and the system.
      if (message.empty()) {
        ASSERT_EQ(documents, Documents{text});
      }
    }
    EXPECT_GT(noticed, 990) << name;
  }
}

TEST_F(ReaderTest, WhatFollowsWholeCompressedDataIsIgnoredWithANote) {
  for (const std::string rest : {"\n", "junk that a server added\r\n", "\xff"}) {
    for (const auto& [name, packed] :
         {std::pair{"a.txt.gz", gzip("text")}, std::pair{"a.txt.zst", zstd("text")}}) {
      const ReadOptions options;
      EXPECT_EQ(documents_of(file(name, packed + rest), options), Documents{"text"})
          << name << rest;
      EXPECT_NE(options.findings->report().find("behind the compressed data"), std::string::npos);
    }
  }
}

TEST_F(ReaderTest, CompressionIsKnownByItsFirstBytesWhateverTheName) {
  const std::string text = repeated("a line\n", 10);
  for (const auto& packed : {gzip(text), zstd(text), gzip(gzip(text)), gzip(zstd(text)), text}) {
    for (const char* name : {"a.txt", "a.txt.gz", "a.txt.zst", "a.gz.gz"}) {
      EXPECT_EQ(documents_of(file(name, packed)), Documents{text}) << name;
    }
  }
  const ReadOptions options;
  documents_of(file("b.txt.gz", text), options);
  EXPECT_NE(options.findings->report().find("not compressed, whatever the name says: 1 ("),
            std::string::npos);
  expect_says(error_in("a.txt.gz", "\x80\x90\xa0\xb0\xff\xfe no text"), "a.txt.gz",
              "can't be decompressed");
}

TEST_F(ReaderTest, AFrameThatAsksForTooMuchMemoryIsRefused) {
  expect_says(error_in("a.txt.zst", zstd(std::string(1000, 'x'), 30)), "a.txt.zst", "128 MiB");
}

// ------------------------------------------------------------------------------------------------
// Sizes

TEST_F(ReaderTest, ALineOfTwoGigabytesIsCutIfItIsTextElseABadOne) {
  const std::string packed = zstd(std::string(64 << 20, 'x'));
  const fs::path text = file("a.txt.zst", repeated(packed, 32));
  const auto reader = open_documents(text, {});
  int64_t bytes = 0;
  for (std::string part; reader->next(part);) {
    ASSERT_LE(part.size(), size_t{512} << 10);
    bytes += static_cast<int64_t>(part.size());
  }
  EXPECT_EQ(bytes, int64_t{2} << 30);
  EXPECT_EQ(reader->position(), static_cast<int64_t>(fs::file_size(text)));

  const ReadOptions options{.doc_separator = "\n"};
  const auto cut = open_documents(text, options);
  int documents = 0;
  for (std::string part; cut->next(part); ++documents) ASSERT_LE(part.size(), kLargestDocument);
  EXPECT_EQ(documents, 256);
  EXPECT_NE(options.findings->report().find("documents longer than 16 MiB, cut: 1 ("),
            std::string::npos);
  expect_says(
      error_in("b.jsonl.zst", zstd("{\"text\": \"y\"}\n{\"text\": \"") + repeated(packed, 32)),
      "b.jsonl.zst:2", "longer than memory allows");
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  if (kMemoryIsMeasured) {
    EXPECT_LT(usage.ru_maxrss, 1'000'000) << "KB of memory at most";
  }
}

TEST_F(ReaderTest, ALongLineOfJsonIsCutIntoDocuments) {
  const std::string line = std::string(9'999'999, 'x') + "\n" + std::string(20'000'000, 'y');
  const std::string escaped = std::string(9'999'999, 'x') + "\\n" + std::string(20'000'000, 'y');
  const Documents documents =
      documents_of(file("a.jsonl", "{\"text\": \"" + escaped + "\"}\n{\"text\": \"next\"}\n"));
  EXPECT_EQ(documents[0], line.substr(0, 10'000'000));
  EXPECT_EQ(documents.back(), "next");
  EXPECT_TRUE(joined(documents) == line + "next");
  for (const std::string& document : documents) EXPECT_LE(document.size(), kLargestDocument);
}

TEST_F(ReaderTest, ALongDocumentIsCutAlikeInEveryForm) {
  const auto alike = [&](const std::string& text) {
    const ReadOptions options{.doc_separator = "<|end|>"};
    const std::string separated = "one<|end|>" + text + "<|end|>two";
    std::string lines = "{\"text\": \"one\"}\n{\"text\": \"" + text + "\"}\n{\"text\": \"two\"}\n";
    for (size_t at = 0; (at = lines.find("\n ", at)) != lines.npos;) lines.replace(at, 1, "\\n");
    const Documents documents = documents_of(file("a.jsonl", lines));
    EXPECT_EQ(joined(documents), "one" + text + "two");
    EXPECT_TRUE(documents == documents_of(file("a.txt", separated), options)) << text.size();
    EXPECT_TRUE(documents == documents_of(file("a.txt.zst", zstd(separated)), options));
  };
  for (const int more : {-1, 0, 1, 5, 8 << 20, (8 << 20) + 1}) {
    alike(std::string(kLargestDocument + static_cast<size_t>(more), 'x'));
  }
  alike(repeated(std::string(5'000'000, 'x') + "\n ", 5));
  alike(repeated(std::string(8'000'000, 'x') + "\n ", 3));
}

TEST_F(ReaderTest, ALineOfJustUnderTheLimitIsRead) {
  const std::string quarter(4 << 20, 'x');
  const fs::path path =
      file("a.jsonl.zst", zstd("{\"text\": \"") + repeated(zstd(quarter), 3) +
                              zstd(quarter.substr(100)) + zstd("\"}\n{\"text\": \"next\"}\n"));
  const auto reader = open_documents(path, {});
  std::string document;
  ASSERT_TRUE(reader->next(document));
  EXPECT_EQ(document.size(), (size_t{16} << 20) - 100);
  ASSERT_TRUE(reader->next(document));
  EXPECT_EQ(document, "next");
}

TEST_F(ReaderTest, ThePositionGrowsToTheSizeOfTheFile) {
  std::mt19937 random(1);
  std::string text;
  for (int i = 0; i < 200'000; ++i) text += "{\"text\": \"" + std::to_string(random()) + "\"}\n";
  for (const auto& [name, content] : {std::pair{"a.jsonl", text}, {"a.jsonl.gz", gzip(text)}}) {
    const fs::path path = file(name, content);
    const auto reader = open_documents(path, {});
    int64_t last = 0, steps = 0;
    for (std::string document; reader->next(document);) {
      ASSERT_GE(reader->position(), last);
      steps += reader->position() > last;
      last = reader->position();
    }
    EXPECT_GT(steps, 2);
    EXPECT_EQ(last, static_cast<int64_t>(fs::file_size(path)));
  }
}

// ------------------------------------------------------------------------------------------------
// stdin

// Lets stdin be a pipe that holds `content` (less than a pipe's room) and ends.
class Piped {
 public:
  explicit Piped(const std::string& content) : saved_(dup(STDIN_FILENO)) {
    int ends[2];
    EXPECT_EQ(pipe(ends), 0);
    EXPECT_EQ(write(ends[1], content.data(), content.size()), static_cast<ssize_t>(content.size()));
    close(ends[1]);
    dup2(ends[0], STDIN_FILENO);
    close(ends[0]);
  }
  ~Piped() {
    dup2(saved_, STDIN_FILENO);
    close(saved_);
  }

 private:
  int saved_;
};

class StdinTest : public ReaderTest {
 protected:
  Documents piped(const std::string& content, const std::string& name = "-",
                  const ReadOptions& options = {}) const {
    const Piped pipe(content);
    make_stdin_a_file(dir_, [] {});
    EXPECT_EQ(documents_of(name, options), documents_of(name, options));  // as often as one likes
    EXPECT_TRUE(fs::is_empty(dir_));
    return documents_of(name, options);
  }
};

TEST_F(StdinTest, StdinIsReadAsAFileIs) {
  const std::string text = "a line\nand one more\n";
  for (const std::string& content : {text, gzip(text), zstd(text)}) {
    EXPECT_EQ(piped(content), Documents{text});
    EXPECT_EQ(piped(content, "-", {.doc_separator = "\n"}), (Documents{"a line", "and one more"}));
  }
  EXPECT_EQ(piped(""), Documents{});
  EXPECT_EQ(piped("abc"), Documents{"abc"});
}

TEST_F(StdinTest, StdinMayBeJsonLinesAndMaySaySo) {
  const std::string text = "{\"text\": \"one\"}\n{\"text\": \"two\"}\n";
  for (const std::string& content : {text, gzip(text), zstd(text)}) {
    EXPECT_EQ(piped(content, "-.jsonl"), (Documents{"one", "two"}));
    EXPECT_EQ(piped(content, "-"), (Documents{"one", "two"}));
  }
  expect_says(error_of([&] { piped("{}", "-.jsonl"); }), "stdin:1", "text");
}

TEST_F(StdinTest, StdinThatIsNoTextIsRefused) {
  expect_says(error_of([&] { piped(std::string("a\0b", 3)); }), "stdin", "binary");
  expect_says(error_of([&] { piped("PAR1\x15..."); }), "stdin", "parquet");
  expect_says(error_of([&] { piped(gzip("text").substr(0, 15)); }), "stdin", "ends in the middle");
}

TEST_F(StdinTest, ASilentPipeIsWaitedForAsLongAsTheCallerLikes) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  ASSERT_EQ(write(ends[1], "text", 4), 4);
  const int saved = dup(STDIN_FILENO);
  dup2(ends[0], STDIN_FILENO);
  int waits = 0;
  const auto wait = [&] { check(++waits < 3, "enough"); };
  EXPECT_EQ(error_of([&] { make_stdin_a_file(dir_, wait); }), "enough");
  dup2(saved, STDIN_FILENO);
  for (const int fd : {ends[0], ends[1], saved}) close(fd);
}

// ------------------------------------------------------------------------------------------------
// Any bytes at all

TEST_F(ReaderTest, DamagedFilesOfEveryFormGiveDocumentsOrOneLine) {
  std::mt19937 random(2);
  const std::string text =
      repeated("{\"text\": \"some \\ud83d\\ude00 line\", \"n\": [1, 2]}\n", 20);
  const std::pair<const char*, std::string> forms[] = {
      {"a.txt", text},           {"a.jsonl", text},
      {"a.txt.gz", gzip(text)},  {"a.jsonl.gz", gzip(text)},
      {"a.txt.zst", zstd(text)}, {"a.jsonl.zst", zstd(text)}};
  for (const auto& [name, whole] : forms) {
    for (int i = 0; i < 200; ++i) {
      std::string damaged = whole.substr(0, random() % 2 ? whole.size() : random() % whole.size());
      for (size_t flips = random() % 4; flips > 0 && !damaged.empty(); --flips) {
        damaged[random() % damaged.size()] = static_cast<char>(random());
      }
      for (const std::string separator : {"", "line"}) {
        const std::string message =
            error_in(name, damaged, {.doc_separator = separator, .part_bytes = 64});
        if (!message.empty()) expect_says(message, name, ";");
      }
    }
  }
}

}  // namespace
}  // namespace autoresearch
