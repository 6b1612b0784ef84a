#include "prepare/reader.h"

#define RAPIDJSON_SSE2  // twice as fast; all x86-64 machines have it
#include <rapidjson/error/en.h>
#include <rapidjson/reader.h>

#include <algorithm>
#include <cctype>
#include <cstring>
#include <span>
#include <utility>
#include <vector>

#include "common/error.h"
#include "prepare/bytes.h"
#include "prepare/parquet.h"

namespace autoresearch {
namespace {

constexpr size_t kChunk = 64 << 10;  // bytes asked for at a time

// ------------------------------------------------------------------------------------------------
// Plain text, in parts

class PartReader : public DocumentReader {
 public:
  PartReader(const fs::path& file, const ReadOptions& options)
      : file_(file),
        bytes_(open_bytes(file, options.stop)),
        part_(options.part_bytes == 0 ? kSmallestPart : static_cast<size_t>(options.part_bytes)),
        grows_(options.part_bytes == 0) {
    check(part_ >= 4, "a part of a document has at least four bytes");
  }

  bool next(std::string& document) override {
    fill();
    if (text_.empty()) return false;
    if (std::exchange(first_, false)) check_is_text(file_, text_);
    const size_t end = part_end();
    document.assign(text_, 0, end);
    text_.erase(0, end);
    handed_on_ += end;
    if (grows_) part_ = std::clamp(handed_on_ / kPartsBefore, kSmallestPart, kLargestPart);
    return true;
  }

  int64_t position() const override { return bytes_->position(); }

 private:
  // Of parts whose length grows with what came before.
  static constexpr size_t kSmallestPart = 4 << 10, kLargestPart = 64 << 10, kPartsBefore = 40;

  // Two parts of text, or what is left. Grows slowly, since most files are small.
  void fill() {
    const size_t wanted = std::max(2 * part_, kBinaryProbe);
    while (!ended_ && text_.size() < wanted) {
      const size_t size = text_.size();
      text_.resize(std::min(wanted, size + std::max(kChunk, size)));
      const size_t count = bytes_->read(text_.data() + size, text_.size() - size);
      text_.resize(size + count);
      ended_ = count == 0;
    }
  }

  size_t part_end() const {
    if (text_.size() <= part_) return text_.size();
    const size_t line_end = std::string_view(text_).substr(0, 2 * part_).find('\n', part_ - 1);
    if (line_end != std::string::npos) return line_end + 1;
    size_t end = part_;
    while (end > part_ - 3 && (static_cast<unsigned char>(text_[end]) & 0xC0) == 0x80) --end;
    return end;
  }

  fs::path file_;
  std::unique_ptr<ByteStream> bytes_;
  size_t part_;
  bool grows_;
  size_t handed_on_ = 0;
  std::string text_;
  bool first_ = true, ended_ = false;
};

// ------------------------------------------------------------------------------------------------
// Pieces between delimiters

// A stream cut at a delimiter, which belongs to no piece; one at the very end of the stream begins
// no further piece.
class PieceReader {
 public:
  static constexpr size_t kPadding = 64;

  // `what` names a piece in an Error: "line".
  PieceReader(const fs::path& file, std::string delimiter, std::string what,
              const std::atomic<bool>* stop)
      : name_(display_name(file)),
        bytes_(open_bytes(file, stop)),
        delimiter_(std::move(delimiter)),
        what_(std::move(what)) {
    while (!ended_ && end_ < kBinaryProbe) fill();
    check_is_text(file, {buffer_.data(), end_});
  }

  // The next piece, to be used until the next call, and to be changed if that helps; false at the
  // end. The byte behind it may be written, and kPadding bytes be read, whatever they hold.
  bool next(std::span<char>& piece) {
    for (;;) {
      const std::string_view text(buffer_.data(), end_);
      const size_t found = text.find(delimiter_, scanned_);
      const bool last = found == std::string_view::npos;
      if (last && !ended_) {
        scanned_ = std::max(begin_, end_ - std::min(end_, delimiter_.size() - 1));
        fill();
        continue;
      }
      if (last && begin_ == end_) return false;
      const size_t piece_end = last ? end_ : found;
      piece = {buffer_.data() + begin_, piece_end - begin_};
      begin_ = scanned_ = last ? end_ : piece_end + delimiter_.size();
      ++number_;
      return true;
    }
  }

  // "FILE:NUMBER" of the piece returned last.
  std::string where() const { return name_ + ":" + std::to_string(number_); }
  int64_t position() const { return bytes_->position(); }

 private:
  // Reads on behind what is not used yet.
  void fill() {
    const size_t used = end_ - begin_;
    check(used <= kLargestDocument, name_ + ": " + what_ + " " + std::to_string(number_ + 1) +
                                        " is longer than 16 MiB; cut it, or leave it out");
    std::memmove(buffer_.data(), buffer_.data() + begin_, used);
    scanned_ -= begin_;
    begin_ = 0;
    end_ = used;
    if (buffer_.size() < used + kChunk + kPadding) {
      buffer_.resize(std::min(2 * used, kLargestDocument + kChunk) + kChunk + kPadding);
    }
    const size_t count = bytes_->read(buffer_.data() + end_, buffer_.size() - kPadding - end_);
    end_ += count;
    ended_ = count == 0;
  }

  std::string name_;
  std::unique_ptr<ByteStream> bytes_;
  std::string delimiter_, what_;
  std::vector<char> buffer_ = std::vector<char>(kChunk + kPadding);
  size_t begin_ = 0, scanned_ = 0, end_ = 0;  // of what was read; no delimiter in [begin, scanned)
  int64_t number_ = 0;
  bool ended_ = false;
};

class SeparatedReader : public DocumentReader {
 public:
  SeparatedReader(const fs::path& file, const ReadOptions& options)
      : pieces_(file, options.doc_separator, "document", options.stop) {}

  bool next(std::string& document) override {
    std::span<char> piece;
    if (!pieces_.next(piece)) return false;
    document.assign(piece.data(), piece.size());
    return true;
  }

  int64_t position() const override { return pieces_.position(); }

 private:
  PieceReader pieces_;
};

// ------------------------------------------------------------------------------------------------
// JSON lines

bool is_blank(std::string_view text) {
  return text.find_first_not_of(" \t\r\n\v\f") == std::string_view::npos;
}

// The code unit that "\uXXXX" at `at` stands for, if it is a surrogate, else 0.
int surrogate_at(std::string_view text, size_t at) {
  if (text.size() - at < 6 || text[at] != '\\' || text[at + 1] != 'u') return 0;
  int unit = 0;
  for (const char c : text.substr(at + 2, 4)) {
    if (!std::isxdigit(static_cast<unsigned char>(c))) return 0;
    unit = 16 * unit + (c <= '9' ? c - '0' : (c | 32) - 'a' + 10);
  }
  return unit >= 0xD800 && unit <= 0xDFFF ? unit : 0;
}

// Escaped surrogates that are no pair become "\ufffd", in place.
void replace_lone_surrogates(std::span<char> line) {
  const std::string_view text(line.data(), line.size());
  for (size_t at = text.find('\\'); at < text.size(); at = text.find('\\', at)) {
    const int unit = surrogate_at(text, at);
    if (unit == 0) {
      at += 2;
    } else if (unit < 0xDC00 && at + 6 < text.size() && surrogate_at(text, at + 6) >= 0xDC00) {
      at += 12;
    } else {
      std::memcpy(line.data() + at, "\\ufffd", 6);
      at += 6;
    }
  }
}

// What RapidJSON tells of one line, of which a single member counts: that of the outer object under
// the wanted key. The last one, where several have it.
class MemberHandler : public rapidjson::BaseReaderHandler<rapidjson::UTF8<>, MemberHandler> {
 public:
  enum Found { kNothing, kNull, kText, kOther };

  explicit MemberHandler(std::string_view key) : key_(key) {}

  bool Key(const char* text, unsigned size, bool) {
    if (depth_ == 1) wanted_ = std::string_view(text, size) == key_;
    return true;
  }
  bool String(const char* text, unsigned size, bool) {
    if (at_member()) text_ = {text, size};
    return note(kText);
  }
  bool Null() { return note(kNull); }
  bool Default() { return note(kOther); }  // numbers, true and false
  bool StartObject() { return enter(); }
  bool StartArray() { return enter(); }
  bool EndObject(unsigned) { return leave(); }
  bool EndArray(unsigned) { return leave(); }

  Found found() const { return found_; }
  std::string_view text() const { return text_; }

 private:
  static constexpr int kDeepest = 1000;  // the parser calls itself for each level

  bool at_member() const { return depth_ == 1 && wanted_; }
  bool note(Found found) {
    if (at_member()) found_ = found;
    return true;
  }
  bool enter() {
    note(kOther);
    return ++depth_ <= kDeepest;
  }
  bool leave() {
    --depth_;
    return true;
  }

  std::string_view key_, text_;
  Found found_ = kNothing;
  int depth_ = 0;
  bool wanted_ = false;  // the key in the outer object that was read last is the wanted one
};

// RapidJSON, because simdjson can't be had: libparquet exports another version of it, and whichever
// comes first in the process crashes the other. Parsing in place, it is not the slowest part.
class JsonLinesReader : public DocumentReader {
 public:
  JsonLinesReader(const fs::path& file, const ReadOptions& options)
      : lines_(file, "\n", "line", options.stop), column_(options.column) {}

  bool next(std::string& document) override {
    for (std::span<char> line; lines_.next(line);) {
      if (std::exchange(first_, false) && starts_with_bom(line)) line = line.subspan(3);
      if (is_blank({line.data(), line.size()})) continue;
      MemberHandler member(column_);
      parse(line, member);
      if (member.found() == MemberHandler::kNull) continue;
      check(member.found() == MemberHandler::kText,
            lines_.where() + " is no object with a \"" + column_ +
                "\" of type string; mend or remove the line, or give --column");
      document.assign(member.text());
      return true;
    }
    return false;
  }

  int64_t position() const override { return lines_.position(); }

 private:
  static bool starts_with_bom(std::span<char> line) {
    return std::string_view(line.data(), line.size()).starts_with("\xEF\xBB\xBF");
  }

  void parse(std::span<char> line, MemberHandler& member) {
    replace_lone_surrogates(line);
    line.data()[line.size()] = '\0';
    rapidjson::InsituStringStream stream(line.data());
    // Python's json writes NaN and Infinity, which JSON does not know.
    constexpr unsigned kFlags = rapidjson::kParseInsituFlag | rapidjson::kParseNanAndInfFlag;
    const rapidjson::ParseResult result = parser_.Parse<kFlags>(stream, member);
    if (!result.IsError() && stream.Tell() == line.size()) return;
    const std::string reason = !result.IsError()
                                   ? "It holds a NUL."  // which the parser takes for its end
                               : result.Code() == rapidjson::kParseErrorTermination
                                   ? "It is nested too deeply."
                                   : rapidjson::GetParseError_En(result.Code());
    throw Error(lines_.where() + " is no JSON (" + reason + "); mend or remove the line");
  }

  PieceReader lines_;
  std::string column_;
  rapidjson::Reader parser_;
  bool first_ = true;
};

}  // namespace

Form form_of(const fs::path& file) {
  if (lower_extension(file) == ".parquet") return Form::kParquet;
  const std::string extension = lower_extension(plain_name(file));
  return extension == ".jsonl" || extension == ".ndjson" ? Form::kJsonLines : Form::kText;
}

std::unique_ptr<DocumentReader> open_documents(const fs::path& file, const ReadOptions& options) {
  switch (form_of(file)) {
    case Form::kParquet:
      return open_parquet(file, options.column);
    case Form::kJsonLines:
      return std::make_unique<JsonLinesReader>(file, options);
    case Form::kText:
      break;
  }
  if (options.doc_separator.empty()) {
    return std::make_unique<PartReader>(file, options);
  }
  return std::make_unique<SeparatedReader>(file, options);
}

}  // namespace autoresearch
