// Files of every form with any bytes in them: documents or one line, never a crash.
//
// The first byte of an input chooses the form; the rest is the file.

#include <arrow/api.h>
#include <arrow/io/memory.h>
#include <parquet/arrow/writer.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>

#include "common/error.h"
#include "prepare/bytes.h"
#include "prepare/reader.h"
#include "tests/compressed.h"

namespace autoresearch {
namespace {

struct Target {
  const char* file;
  std::string separator, column = "text";
};
const Target kTargets[] = {
    {"a.txt", ""},     {"a.txt", "\n\n"},         {"a.jsonl", ""},
    {"a.txt.gz", ""},  {"a.jsonl.gz", ""},        {"a.txt.zst", "ab"},
    {"a.parquet", ""}, {"a.json", "", "a.b[].c"}, {"a.parquet", "", "tags[]"}};

[[noreturn]] void fail(const std::string& what) {
  std::fprintf(stderr, "%s\n", what.c_str());
  std::abort();
}

void write(const std::string& file, std::string_view bytes) {
  std::ofstream out(file, std::ios::binary);
  out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  if (!out.flush()) fail("can't write " + file);
}

// The file that is read lies in memory, all names lead to it: a file system would cost most of the
// time.
int memory_file() {
  static const int fd = memfd_create("input", 0);
  return fd;
}

void link_to_memory(const fs::path& name) {
  fs::remove(name);
  fs::create_symlink("/proc/self/fd/" + std::to_string(memory_file()), name);
}

void fill_memory(std::string_view bytes) {
  if (ftruncate(memory_file(), 0) != 0 ||
      pwrite(memory_file(), bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size())) {
    fail("can't write to memory");
  }
}

// Text passes through: what was taken away are the separators, and one at the end.
void check_text(const std::string& joined, const std::string& separator, std::string_view text) {
  if (joined != text && joined + separator != text) fail("text was lost or added");
}

void read(const Target& target, std::string_view bytes) {
  fill_memory(bytes);
  const ReadOptions options{
      .column = target.column, .doc_separator = target.separator, .part_bytes = 100};
  std::string joined;
  try {
    const auto reader = open_documents(target.file, options);
    bool first = true;
    for (std::string document; reader->next(document); first = false) {
      joined += (first ? "" : target.separator) + document;
    }
  } catch (const Error& error) {
    const std::string message = error.what();
    if (message.find(target.file) == std::string::npos || message.find('\n') != std::string::npos) {
      fail("no line that names the file: " + message);
    }
    return;
  }
  // What is no plain text is noted.
  if (std::string_view(target.file) == "a.txt" && options.findings->report().empty()) {
    check_text(joined, target.separator, bytes);
  }
}

// ------------------------------------------------------------------------------------------------
// Inputs to begin with: a whole file of every form

// With a column of strings and one of lists of them.
std::string parquet_file() {
  arrow::StringBuilder builder;
  const auto strings = std::make_shared<arrow::StringBuilder>();
  arrow::ListBuilder lists(arrow::default_memory_pool(), strings);
  for (const char* text : {"one", "two", "two", "three"}) {
    PARQUET_THROW_NOT_OK(builder.Append(text));
    PARQUET_THROW_NOT_OK(lists.Append());
    for (int i = 0; i < text[0] % 3; ++i) PARQUET_THROW_NOT_OK(strings->Append(text));
  }
  PARQUET_THROW_NOT_OK(builder.AppendNull());
  PARQUET_THROW_NOT_OK(lists.AppendNull());
  PARQUET_ASSIGN_OR_THROW(auto array, builder.Finish());
  PARQUET_ASSIGN_OR_THROW(auto tags, lists.Finish());
  const auto table = arrow::Table::Make(
      arrow::schema({arrow::field("text", arrow::utf8()), arrow::field("tags", tags->type())}),
      {array, tags});
  PARQUET_ASSIGN_OR_THROW(auto out, arrow::io::BufferOutputStream::Create());
  PARQUET_THROW_NOT_OK(
      parquet::arrow::WriteTable(*table, arrow::default_memory_pool(), out, /*chunk_size=*/3));
  PARQUET_ASSIGN_OR_THROW(auto buffer, out->Finish());
  return buffer->ToString();
}

std::string file_for(const std::string& name) {
  const std::string text = "a line\nanother\n\nlast";
  const std::string lines =
      "{\"text\": \"a \\ud83d\\ude00\\n\", \"n\": [1.5, null]}\n{\"text\": \"b\"}\n";
  if (name == "a.parquet") return parquet_file();
  if (name == "a.json")
    return "{\"a\": {\"b\": [{\"c\": \"x\"}, {\"c\": \"y\"}]}}\n{\"a\": null}\n";
  const std::string plain = name.starts_with("a.jsonl") ? lines : text;
  return name.ends_with(".gz") ? gzip(plain) : name.ends_with(".zst") ? zstd(plain) : plain;
}

}  // namespace
}  // namespace autoresearch

// The last argument is the folder of the corpus.
extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  using namespace autoresearch;
  for (const Target& target : kTargets) link_to_memory(target.file);
  const fs::path folder = (*argv)[*argc - 1];
  if (!fs::is_directory(folder)) return 0;
  for (size_t i = 0; i < std::size(kTargets); ++i) {
    write(folder / ("begin" + std::to_string(i)),
          static_cast<char>(i) + file_for(kTargets[i].file));
  }
  write(folder / "utf16", std::string("\0\xff\xfe", 3) + std::string("a\0\n\0\x3d\xd8\0\xde", 8));
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace autoresearch;
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  read(kTargets[data[0] % std::size(kTargets)], bytes.substr(1));
  return 0;
}
