#include "prepare/parquet.h"

#include <arrow/api.h>
#include <arrow/io/file.h>
#include <gtest/gtest.h>
#include <parquet/arrow/writer.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <random>

#include "tests/support.h"

namespace autoresearch {
namespace {

using Documents = std::vector<std::string>;
using arrow::Type;

// Unwraps what Arrow returns; a test that can't write its file can't go on.
template <typename T>
T value_of(arrow::Result<T> result) {
  if (!result.ok()) throw std::runtime_error(result.status().ToString());
  return std::move(result).ValueOrDie();
}

void expect_ok(const arrow::Status& status) { ASSERT_TRUE(status.ok()) << status.ToString(); }

// A column of strings; "null" is none.
template <typename Builder = arrow::StringBuilder>
std::shared_ptr<arrow::Array> column(const Documents& values) {
  Builder builder;
  for (const std::string& value : values) {
    expect_ok(value == "null" ? builder.AppendNull() : builder.Append(value));
  }
  return value_of(builder.Finish());
}

using Columns = std::vector<std::pair<std::string, std::shared_ptr<arrow::Array>>>;

std::shared_ptr<parquet::WriterProperties> properties(
    arrow::Compression::type codec = arrow::Compression::SNAPPY, bool dictionary = true) {
  parquet::WriterProperties::Builder builder;
  builder.compression(codec)->enable_page_checksum()->data_pagesize(4096);
  dictionary ? builder.enable_dictionary() : builder.disable_dictionary();
  return builder.build();
}

void write_parquet(const fs::path& file, const Columns& columns, int64_t group_rows = 1000,
                   std::shared_ptr<parquet::WriterProperties> how = properties()) {
  arrow::FieldVector fields;
  arrow::ArrayVector arrays;
  for (const auto& [name, array] : columns) {
    fields.push_back(arrow::field(name, array->type()));
    arrays.push_back(array);
  }
  const auto table = arrow::Table::Make(arrow::schema(fields), arrays);
  const auto out = value_of(arrow::io::FileOutputStream::Open(file.string()));
  expect_ok(parquet::arrow::WriteTable(*table, arrow::default_memory_pool(), out, group_rows, how));
  expect_ok(out->Close());
}

Documents documents_of(const fs::path& file, const std::string& column = "text") {
  const auto reader = open_documents(file, {.column = column});
  Documents documents;
  for (std::string document; reader->next(document);) documents.push_back(document);
  return documents;
}

// Texts of many lengths, in which some occur again and again.
Documents many(int count, unsigned seed = 1) {
  std::mt19937 random(seed);
  Documents documents;
  for (int i = 0; i < count; ++i) {
    const std::string text = std::to_string(random() % (i % 3 == 0 ? 10 : 1'000'000'000));
    std::string document;
    for (size_t times = random() % 30; times > 0; --times) document += text + " ";
    documents.push_back(document);
  }
  return documents;
}

class ParquetTest : public FolderTest {
 protected:
  const fs::path path_ = dir_ / "a.parquet";

  std::string error_in_column(const std::string& name) const {
    return error_of([&] { documents_of(path_, name); });
  }
};

TEST_F(ParquetTest, ARowIsADocumentInEveryCodecAndEncoding) {
  const Documents documents = many(5000);
  for (const auto codec :
       {arrow::Compression::UNCOMPRESSED, arrow::Compression::SNAPPY, arrow::Compression::GZIP,
        arrow::Compression::ZSTD, arrow::Compression::LZ4, arrow::Compression::BROTLI}) {
    for (const bool dictionary : {false, true}) {
      write_parquet(path_, {{"text", column(documents)}}, 1500, properties(codec, dictionary));
      ASSERT_EQ(documents_of(path_), documents) << codec;
    }
  }
}

TEST_F(ParquetTest, EveryEncodingOfStringsIsRead) {
  const Documents documents = many(3000);
  for (const auto encoding : {parquet::Encoding::PLAIN, parquet::Encoding::DELTA_LENGTH_BYTE_ARRAY,
                              parquet::Encoding::DELTA_BYTE_ARRAY}) {
    for (const auto version :
         {parquet::ParquetDataPageVersion::V1, parquet::ParquetDataPageVersion::V2}) {
      parquet::WriterProperties::Builder how;
      how.disable_dictionary()->encoding(encoding)->data_page_version(version)->data_pagesize(4096);
      write_parquet(path_, {{"text", column(documents)}}, 2000, how.build());
      ASSERT_EQ(documents_of(path_), documents);
    }
  }
}

TEST_F(ParquetTest, EveryTypeOfStringsIsRead) {
  const Documents documents = many(300);
  arrow::StringDictionaryBuilder dictionary;
  for (const std::string& document : documents) expect_ok(dictionary.Append(document));
  const std::shared_ptr<arrow::Array> arrays[] = {
      column(documents), column<arrow::LargeStringBuilder>(documents),
      column<arrow::BinaryBuilder>(documents), column<arrow::StringViewBuilder>(documents),
      value_of(dictionary.Finish())};
  for (const auto& array : arrays) {
    write_parquet(path_, {{"id", column(many(300, 2))}, {"text", array}}, 100);
    ASSERT_EQ(documents_of(path_), documents) << array->type()->ToString();
  }
}

TEST_F(ParquetTest, NullsArePassedOverAndEmptyTextsAreNot) {
  write_parquet(path_, {{"text", column({"null", "a", "", "null", "null", "null", "b", "null"})}},
                2);
  EXPECT_EQ(documents_of(path_), (Documents{"a", "", "b"}));
  write_parquet(path_, {{"text", column({"null", "null"})}});
  EXPECT_EQ(documents_of(path_), Documents{});
  write_parquet(path_, {{"text", column({})}});
  EXPECT_EQ(documents_of(path_), Documents{});
}

TEST_F(ParquetTest, TheEndsOfRowGroupsAreTold) {
  write_parquet(path_, {{"text", column({"a", "b", "c", "null", "null", "null", "d", "e", "f"})}},
                2);
  const auto reader = open_documents(path_, {});
  Documents ends;
  int64_t last = 0;
  for (std::string document; reader->next(document);) {
    if (reader->group_ended()) ends.push_back(document);
    EXPECT_GE(reader->position(), last);
    last = reader->position();
  }
  EXPECT_EQ(ends, (Documents{"b", "c", "e", "f"}));
  EXPECT_EQ(last, static_cast<int64_t>(fs::file_size(path_)));
}

TEST_F(ParquetTest, AFieldOfAStructIsNamedByItsPath) {
  const auto inner = value_of(
      arrow::StructArray::Make({column({"a", "null", "c"})}, std::vector<std::string>{"text"}));
  write_parquet(path_, {{"meta", inner}});
  EXPECT_EQ(documents_of(path_, "meta.text"), (Documents{"a", "c"}));
  expect_says(error_in_column("text"), "a.parquet", "give --column one of: meta.text");
}

TEST_F(ParquetTest, AColumnThatIsNotThereOrNoTextIsRefusedWithThoseThatAre) {
  arrow::Int64Builder numbers;
  expect_ok(numbers.AppendValues({1, 2}));
  arrow::ListBuilder lists(arrow::default_memory_pool(), std::make_shared<arrow::StringBuilder>());
  for (int i = 0; i < 2; ++i) {
    expect_ok(lists.Append());
    expect_ok(static_cast<arrow::StringBuilder*>(lists.value_builder())->Append("x"));
  }
  const auto id = value_of(numbers.Finish());
  write_parquet(path_, {{"id", id},
                        {"body", column({"a", "b"})},
                        {"tags", value_of(lists.Finish())},
                        {"title", column({"c", "d"})}});
  for (const char* name : {"text", "id", "tags", "tags.list.element", ""}) {
    expect_says(error_in_column(name), "a.parquet", "give --column one of: body, tags[], title");
  }
  write_parquet(path_, {{"a\nb", column({"a", "b"})}});
  expect_says(error_in_column("text"), "a.parquet", "give --column one of: a?b");
  Columns wide;
  for (int i = 0; i < 40; ++i) wide.emplace_back("c" + std::to_string(i), column({"a"}));
  write_parquet(path_, wide);
  expect_says(error_in_column("text"), "a.parquet", "c8, c9, ...");
  write_parquet(path_, {{"id", id}});
  expect_says(error_in_column("text"), "a.parquet", "no other has text");
  expect_says(error_in_column("id"), "a.parquet", "it is of type");
}

TEST_F(ParquetTest, WhatIsNoParquetFileIsOneLine) {
  for (const std::string& content :
       {std::string(), std::string("PAR1"), std::string(100'000, 'x'),
        "PAR1" + std::string(8, '\0') + "PAR1", std::string("prose that is no parquet\n")}) {
    file("a.parquet", content);
    expect_says(error_in_column("text"), "a.parquet", "can't be read as parquet");
  }
  fs::remove(path_);
  expect_says(error_in_column("text"), "a.parquet", "No such file");
  fs::create_directory(path_);
  expect_says(error_in_column("text"), "a.parquet", "Is a directory");
}

TEST_F(ParquetTest, AFileThatIsCutShortIsNeverTakenForAWholeOne) {
  write_parquet(path_, {{"text", column(many(300))}}, 100);
  const std::string whole = read_file(path_);
  for (size_t size = 0; size < whole.size(); size += 1 + size % 37) {
    file("a.parquet", whole.substr(0, size));
    expect_says(error_in_column("text"), "a.parquet", "copy or download it again");
  }
}

TEST_F(ParquetTest, DamagedBytesGiveOneLineOrLeaveTheDocumentsAlone) {
  std::mt19937 random(3);
  const Documents documents = many(400);
  for (const bool dictionary : {false, true}) {
    write_parquet(path_, {{"text", column(documents)}}, 150,
                  properties(arrow::Compression::SNAPPY, dictionary));
    const std::string whole = read_file(path_);
    int noticed = 0;
    for (int i = 0; i < 700; ++i) {
      std::string damaged = whole;
      damaged[random() % damaged.size()] ^= static_cast<char>(1 + random() % 255);
      file("a.parquet", damaged);
      Documents read;
      const std::string message = error_of([&] { read = documents_of(path_); });
      noticed += !message.empty();
      if (!message.empty()) {
        expect_says(message, "a.parquet", ";");
      } else {
        ASSERT_EQ(read, documents) << i;  // page headers and footer have bytes nobody needs
      }
    }
    EXPECT_GT(noticed, 350);
  }
}

// Runs `action` in a process of its own. Returns the most memory that it had, in MB.
template <typename Action>
int64_t peak_megabytes(const Action& action) {
  const pid_t child = fork();
  if (child == 0) {
    const std::string message = error_of(action);
    std::fputs(message.c_str(), stderr);
    _exit(message.empty() && !testing::Test::HasFailure() ? 0 : 1);
  }
  int status = 0;
  rusage usage;
  EXPECT_EQ(wait4(child, &status, 0, &usage), child);
  EXPECT_EQ(status, 0);
  return usage.ru_maxrss / 1024;
}

// One row group of `batches` times these values.
void write_row_group(const fs::path& file, const std::shared_ptr<arrow::Array>& values, int batches,
                     const std::shared_ptr<parquet::WriterProperties>& how) {
  const auto out = value_of(arrow::io::FileOutputStream::Open(file.string()));
  const auto schema = arrow::schema({arrow::field("text", values->type())});
  const auto writer =
      value_of(parquet::arrow::FileWriter::Open(*schema, arrow::default_memory_pool(), out, how));
  expect_ok(writer->NewBufferedRowGroup());
  for (int i = 0; i < batches; ++i) {
    expect_ok(
        writer->WriteRecordBatch(*arrow::RecordBatch::Make(schema, values->length(), {values})));
  }
  expect_ok(writer->Close());
  expect_ok(out->Close());
}

// What /proc says of this process: "Threads", "SigCgt".
std::string process_status(const std::string& key) {
  std::ifstream in("/proc/self/status");
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with(key + ":")) return line.substr(key.size() + 1);
  }
  return "";
}

TEST_F(ParquetTest, ReadingStartsNoThreadAndCatchesNoSignal) {
  write_parquet(path_, {{"text", column(many(3000))}}, 500);
  peak_megabytes([&] {
    const std::string caught = process_status("SigCgt");
    const auto reader = open_documents(path_, {});
    for (std::string document; reader->next(document);) {
    }
    EXPECT_EQ(process_status("Threads"), "\t1");
    EXPECT_EQ(process_status("SigCgt"), caught);
  });
}

TEST_F(ParquetTest, AHugeRowGroupIsReadPageByPage) {
  const int rows = 1000, batches = 300;
  Documents documents;
  std::mt19937 random(1);
  for (int i = 0; i < rows; ++i) {
    documents.push_back(std::to_string(i));
    while (documents.back().size() < 1000) documents.back() += " " + std::to_string(random());
  }
  for (const auto codec : {arrow::Compression::UNCOMPRESSED, arrow::Compression::ZSTD}) {
    for (const bool dictionary : {false, true}) {
      peak_megabytes([&] {
        write_row_group(path_, column(documents), batches, properties(codec, dictionary));
      });
      const int64_t peak = peak_megabytes([&] {
        const auto reader = open_documents(path_, {});
        int i = 0;
        for (std::string document; reader->next(document); ++i) {
          ASSERT_EQ(document, documents[static_cast<size_t>(i % rows)]);
        }
        EXPECT_EQ(i, rows * batches);
      });
      if (kMemoryIsMeasured) {
        EXPECT_LT(peak, 200) << "of " << batches << " MB";
      }
    }
  }
}

TEST_F(ParquetTest, AValueOfMoreThanADocumentHoldsIsCut) {
  peak_megabytes([&] {
    write_parquet(path_, {{"text", column({"a", std::string(kLargestDocument + 1, 'x'), "b"})}}, 3,
                  properties(arrow::Compression::ZSTD, false));
  });
  const Documents documents = documents_of(path_);
  EXPECT_EQ(documents, (Documents{"a", std::string(kLargestDocument / 2, 'x'),
                                  std::string(kLargestDocument / 2, 'x'), "x", "b"}));
}

TEST_F(ParquetTest, APageIsReadWithinTheMemoryThatIsGiven) {
  peak_megabytes([&] {  // one page, since the writer looks at its size each 1,024 values only
    write_parquet(path_, {{"text", column(Documents(300, std::string(1'000'000, 'x')))}}, 300,
                  properties(arrow::Compression::ZSTD, false));
  });
  EXPECT_NE(error_of([&] {
              const auto reader = open_documents(path_, {.memory = 100 << 20});
              for (std::string document; reader->next(document);) {
              }
            }).find("more than 100 MiB to read"),
            std::string::npos);
  peak_megabytes([&] {
    const auto reader = open_documents(path_, {.memory = int64_t{1} << 30});
    int count = 0;
    for (std::string document; reader->next(document); ++count) {
    }
    EXPECT_EQ(count, 300);
  });
}

TEST_F(ParquetTest, TheStringsOfAListAreJoinedIfTheyAreAskedFor) {
  const auto strings = std::make_shared<arrow::StringBuilder>();
  arrow::ListBuilder lists(arrow::default_memory_pool(), strings);
  Documents expected;
  const auto append = [&](const Documents& values) {
    expect_ok(lists.Append());
    for (const std::string& value : values) {
      expect_ok(value == "null" ? strings->AppendNull() : strings->Append(value));
    }
  };
  append({"a", "null", "b"});
  append({});
  expect_ok(lists.AppendNull());
  append({"null"});
  append({"c"});
  append({"", "d"});               // as in lines of JSON
  for (int i = 0; i < 500; ++i) {  // over the ends of batches, pages and row groups
    append(many(9, static_cast<unsigned>(i)));
    std::string joined;
    for (const std::string& value : many(9, static_cast<unsigned>(i))) joined += "\n" + value;
    expected.push_back(joined.substr(1));
  }
  const auto tags = value_of(lists.Finish());
  write_parquet(path_, {{"tags", tags}}, 100);
  const Documents documents = documents_of(path_, "tags[]");
  EXPECT_EQ(Documents(documents.begin(), documents.begin() + 3), (Documents{"a\nb", "c", "\nd"}));
  EXPECT_EQ(Documents(documents.begin() + 3, documents.end()), expected);
  expect_says(error_in_column("tags"), "a.parquet", "give --column one of: tags[]");
}

TEST_F(ParquetTest, TheTurnsOfAConversationAreAColumn) {
  const auto roles = std::make_shared<arrow::StringBuilder>();
  const auto contents = std::make_shared<arrow::StringBuilder>();
  const auto type =
      arrow::struct_({arrow::field("role", arrow::utf8()), arrow::field("content", arrow::utf8())});
  const auto turn = std::make_shared<arrow::StructBuilder>(
      type, arrow::default_memory_pool(),
      std::vector<std::shared_ptr<arrow::ArrayBuilder>>{roles, contents});
  arrow::ListBuilder messages(arrow::default_memory_pool(), turn);
  for (const char* question : {"Why?", "How?"}) {
    expect_ok(messages.Append());
    for (const auto& [role, content] : {std::pair{"user", question}, {"assistant", "So."}}) {
      expect_ok(turn->Append());
      expect_ok(roles->Append(role));
      expect_ok(contents->Append(content));
    }
  }
  write_parquet(path_, {{"messages", value_of(messages.Finish())}});
  EXPECT_EQ(documents_of(path_, "messages[].content"), (Documents{"Why?\nSo.", "How?\nSo."}));
  expect_says(error_in_column("text"), "a.parquet",
              "give --column one of: messages[].role, messages[].content");
}

TEST_F(ParquetTest, EveryCutOfAFileIsSeenInItsFooter) {
  write_parquet(path_, {{"text", column({"a", "b"})}});
  EXPECT_EQ(parquet_problem(path_), std::nullopt);
  const std::string whole = read_file(path_);
  const auto problem = [&](const std::string& bytes) {
    return parquet_problem(file("cut.parquet", bytes));
  };
  for (size_t size = 0; size < whole.size(); ++size)
    EXPECT_NE(problem(whole.substr(0, size)), std::nullopt) << size;
  EXPECT_NE(problem("<html>404</html>"), std::nullopt);
  EXPECT_NE(parquet_problem(dir_ / "none"), std::nullopt);
  EXPECT_NE(parquet_problem(dir_), std::nullopt);
}

}  // namespace
}  // namespace autoresearch
