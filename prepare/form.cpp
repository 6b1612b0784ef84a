#include "prepare/form.h"

#include <algorithm>
#include <array>
#include <fstream>
#include <iterator>
#include <utility>

#include "prepare/json_line.h"
#include "prepare/utf16.h"
#include "task/unicode.h"

namespace autoresearch {
namespace {

using std::string_view_literals::operator""sv;

constexpr size_t kMostMarkBytes = 4;
constexpr size_t kLookBytes = 64 << 10;
constexpr size_t kBinaryProbe = 8192;  // bytes without a NUL: text, as git tells it
constexpr std::string_view kParquetMagic = "PAR1", kLittleEndian = "\xFF\xFE",
                           kBigEndian = "\xFE\xFF";

struct Magic {
  std::string_view bytes;
  size_t at;
  const char *kind, *help;
};
constexpr const char* kUnpack = "unpack it";
constexpr Magic kKnown[] = {
    {"BZh", 0, "bzip2 file", kUnpack},
    {"\xFD\x37zXZ\0"sv, 0, "xz file", kUnpack},
    {"\x04\x22\x4D\x18", 0, "lz4 file", kUnpack},
    {"LZIP", 0, "lzip file", kUnpack},
    {"\x1F\x9D", 0, "file packed by compress", kUnpack},
    {"PK\x03\x04", 0, "zip archive", kUnpack},
    {"PK\x05\x06", 0, "zip archive", kUnpack},
    {"7z\xBC\xAF\x27\x1C", 0, "7-zip archive", kUnpack},
    {"Rar!", 0, "rar archive", kUnpack},
    {"ustar", 257, "tar archive", kUnpack},
    {"%PDF-", 0, "PDF document", "take the text out of it, as pdftotext does"},
    {"ARROW1", 0, "Arrow file", "write it as parquet"},
    {"\xFF\xFF\xFF\xFF", 0, "Arrow stream", "write it as parquet"},
    {"ORC", 0, "ORC file", "write it as parquet"},
    {"Obj\x01", 0, "Avro file", "write it as parquet"},
    {"SQLite format 3", 0, "SQLite database", "write a table as .jsonl"},
    {"\x89HDF", 0, "HDF5 file", "write it as parquet"}};

Look unfit(const std::string& kind, const std::string& help) {
  const bool vowel = kind[0] == 'A' || kind[0] == 'O' || kind.starts_with("xz");
  return {.unfit = (vowel ? "is an " : "is a ") + kind + "; " + help, .kind = kind};
}

// The byte order of text in which every other byte is zero, as UTF-16 without a mark has it.
const char* unmarked_utf16(std::string_view start) {
  if (start.size() < 4) return nullptr;
  std::array<size_t, 2> zeros{};
  for (size_t i = 0; i < start.size(); ++i) zeros[i % 2] += start[i] == '\0';
  const size_t many = start.size() / 4, few = start.size() / 100;
  if (zeros[0] > many && zeros[1] <= few) return "UTF-16BE";
  return zeros[1] > many && zeros[0] <= few ? "UTF-16LE" : nullptr;
}

const Magic* known(std::string_view start) {
  const auto begins = [&](const Magic& magic) {
    return start.size() > magic.at && start.substr(magic.at).starts_with(magic.bytes);
  };
  const Magic* found = std::find_if(std::begin(kKnown), std::end(kKnown), begins);
  return found == std::end(kKnown) ? nullptr : found;
}

// Of what is surely no text.
Look look_at_binary(std::string_view start) {
  if (const Magic* magic = known(start)) return unfit(magic->kind, magic->help);
  if (start.starts_with("\xFF\xFE\0\0"sv) || start.starts_with("\0\0\xFE\xFF"sv)) {
    return {.unfit = "is UTF-32; convert it: iconv -f UTF-32 -t UTF-8", .kind = "UTF-32"};
  }
  if (const char* order = unmarked_utf16(start)) {
    return {.unfit = std::string("seems to be ") + order +
                     " without a byte order mark; convert it: iconv -f " + order + " -t UTF-8",
            .kind = "UTF-16 without a mark"};
  }
  return unfit("binary file",
               "give --source text, source code, .jsonl or .parquet files, or folders");
}

// What servers and git put in the place of a file; nullptr kind if it is none.
Look look_for_stand_in(std::string_view start, bool holds_data) {
  if (start.starts_with("version https://git-lfs.github.com/spec/")) {
    return unfit("Git LFS pointer", "fetch the file itself: git lfs pull");
  }
  const size_t first = start.find_first_not_of(" \t\r\n");
  if (holds_data && first != start.npos && start[first] == '<') {
    return unfit("page of HTML or XML", "the download has failed: look into it, and repeat it");
  }
  return {};
}

// It is read from many places, so it can't be unpacked on the way.
bool is_packed_parquet(const fs::path& file, ByteStream& unpacked) {
  char magic[kParquetMagic.size()] = {};
  std::ifstream(system_path(file), std::ios::binary).read(magic, sizeof magic);
  return unpacked.peek(sizeof magic) == kParquetMagic &&
         std::string_view(magic, sizeof magic) != kParquetMagic;
}

// A file that begins with `start` (its first kLookBytes, or all of it). The name decides only what
// the bytes leave open: a .json or .jsonl may begin with a bad line, and a .parquet that does not
// begin as one is a damaged one, unless it is something else that is known.
Look look_at(const fs::path& file, std::string_view start, bool is_text) {
  const std::string extension = lower_extension(plain_name(file));
  const bool parquet = extension == ".parquet";
  const bool json_lines = extension == ".jsonl" || extension == ".ndjson";
  const bool json = json_lines || extension == ".json";
  // Behind the magic number comes a page's header, whose first byte is no character.
  const bool page_follows = start.size() > 4 && (start[4] == '\x15' || start[4] == '\0');
  if (start.starts_with(kParquetMagic) && (parquet || page_follows)) {
    return {.form = Form::kParquet};
  }
  if (Look stand_in = look_for_stand_in(start, parquet || json); !stand_in.unfit.empty()) {
    return stand_in;
  }
  const std::string_view probe = start.substr(0, kBinaryProbe);
  const bool binary = probe.find('\0') != probe.npos || start.starts_with("%PDF-") ||
                      (known(start) != nullptr && invalid_utf8_bytes(probe) > 0);
  if (parquet && (binary || !begins_as_json_lines(start, 1))) return {.form = Form::kParquet};
  if (binary) return look_at_binary(start);
  if (is_text && !json_lines) return {};
  const int least = json || parquet || extension.empty() ? 1 : 2;  // one value may also be a text
  if (begins_as_json_lines(start, least)) return {.form = Form::kJsonLines};
  if (begins_as_json(start, least)) {
    const bool list = start[start.find_first_not_of(" \t\r\n\v\f")] == '[';
    return {.unfit = std::string("holds JSON, but not an object in each line; write it as lines: "
                                 "jq -c ") +
                     (list ? "'.[]'" : ".") + " FILE > FILE.jsonl",
            .kind = "JSON without lines"};
  }
  return {.form = json ? Form::kJsonLines : Form::kText};
}

}  // namespace

OpenedFile open_file(const fs::path& file, Findings& findings, bool is_text) {
  OpenedFile opened;
  opened.bytes = open_bytes(file, findings);
  const std::string_view start = opened.bytes->peek(kMostMarkBytes);
  const bool utf32 = start.starts_with("\xFF\xFE\0\0"sv);
  if (!utf32 && (start.starts_with(kLittleEndian) || start.starts_with(kBigEndian))) {
    const bool big_endian = start.starts_with(kBigEndian);
    char mark[2];
    opened.bytes->read(mark, sizeof mark);
    opened.bytes = utf8_of_utf16(std::move(opened.bytes), big_endian);
    findings.note("converted from UTF-16", display_name(file));
  } else if (start.starts_with(kByteOrderMark)) {
    char mark[kByteOrderMark.size()];
    opened.bytes->read(mark, sizeof mark);
    findings.note("byte order marks dropped", display_name(file));
  }
  opened.look = look_at(file, opened.bytes->peek(kLookBytes), is_text);
  if (opened.look.form == Form::kParquet && is_packed_parquet(file, *opened.bytes)) {
    opened.look = unfit("parquet file in another file", kUnpack);
  }
  const std::string extension = lower_extension(plain_name(file));
  const bool json = extension.starts_with(".json") || extension == ".ndjson";
  if (opened.look.form == Form::kJsonLines && !json && !is_stdin(file)) {
    findings.note("read as lines of JSON, whatever the name says", display_name(file));
  }
  return opened;
}

}  // namespace autoresearch
