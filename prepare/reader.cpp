#include "prepare/reader.h"

#include <algorithm>
#include <cstring>
#include <span>
#include <utility>
#include <vector>

#include "common/error.h"
#include "common/text.h"
#include "prepare/form.h"
#include "prepare/json_line.h"
#include "prepare/parquet.h"

namespace autoresearch {
namespace {

constexpr size_t kChunk = 64 << 10;  // bytes asked for at a time

// Where text that is too long for a document is cut: behind a line end in [part, 2 * part), else
// between two characters.
size_t part_end(std::string_view text, size_t part) {
  if (text.size() <= part) return text.size();
  const size_t line_end = text.substr(0, 2 * part).find('\n', part - 1);
  if (line_end != text.npos) return line_end + 1;
  size_t end = part;
  while (end > part - 3 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
  return end;
}

// ------------------------------------------------------------------------------------------------
// Plain text, in parts

class PartReader : public DocumentReader {
 public:
  PartReader(std::unique_ptr<ByteStream> bytes, const ReadOptions& options)
      : bytes_(std::move(bytes)), part_(static_cast<size_t>(options.part_bytes)) {
    check(part_ >= 4, "a part of a document has at least four bytes");
  }

  bool next(std::string& document) override {
    fill();
    if (text_.empty()) return false;
    const size_t end = part_end(text_, part_);
    document.assign(text_, 0, end);
    text_.erase(0, end);
    return true;
  }

  int64_t position() const override { return bytes_->position(); }

 private:
  // Two parts of text, or what is left. Grows slowly, since most files are small.
  void fill() {
    while (!ended_ && text_.size() < 2 * part_) {
      const size_t size = text_.size();
      text_.resize(std::min(2 * part_, size + std::max(kChunk, size)));
      const size_t count = bytes_->read(text_.data() + size, text_.size() - size);
      text_.resize(size + count);
      ended_ = count == 0;
    }
  }

  std::unique_ptr<ByteStream> bytes_;
  size_t part_;
  std::string text_;
  bool ended_ = false;
};

// ------------------------------------------------------------------------------------------------
// Pieces between delimiters

// A stream cut at a delimiter, which belongs to no piece; one at the very end of the stream begins
// no further piece. A piece of more than `most` bytes comes in parts, cut as CutReader cuts.
class PieceReader {
 public:
  PieceReader(const fs::path& file, std::unique_ptr<ByteStream> bytes, std::string delimiter,
              size_t most)
      : name_(display_name(file)),
        bytes_(std::move(bytes)),
        delimiter_(std::move(delimiter)),
        most_(most) {}

  // The next piece, to be used until the next call, and to be changed if that helps; false at the
  // end. The byte behind it may be written, and kJsonPadding bytes be read, whatever they hold.
  bool next(std::span<char>& piece) {
    const size_t part = most_ / 2, uncut = goes_on_ ? part : most_;  // bytes
    number_ += !goes_on_;
    for (;;) {
      const std::string_view text(buffer_.data(), end_);
      const size_t found = text.find(delimiter_, scanned_);
      const bool last = found == text.npos;
      // A delimiter may have begun at the end of what was read, so a cut stays clear of it.
      if (last && !ended_ && end_ - begin_ < most_ + delimiter_.size()) {
        scanned_ = std::max(begin_, end_ - std::min(end_, delimiter_.size() - 1));
        fill();
        continue;
      }
      if (last && begin_ == end_) return false;
      const std::string_view rest = text.substr(begin_, (last ? end_ : found) - begin_);
      const size_t size = rest.size() > uncut ? part_end(rest, part) : rest.size();
      goes_on_ = size < rest.size();
      piece = {buffer_.data() + begin_, size};
      ended_without_delimiter_ = last && !goes_on_;
      begin_ += size + (last || goes_on_ ? 0 : delimiter_.size());
      scanned_ = begin_;
      return true;
    }
  }

  bool goes_on() const { return goes_on_; }  // with the next piece: it was too long
  bool ended_without_delimiter() const { return ended_without_delimiter_; }

  // Of the piece returned last.
  int64_t number() const { return number_; }
  std::string where() const { return name_ + ":" + std::to_string(number_); }
  int64_t position() const { return bytes_->position(); }

 private:
  // Reads on behind what is not used yet.
  void fill() {
    const size_t used = end_ - begin_;
    std::memmove(buffer_.data(), buffer_.data() + begin_, used);
    scanned_ -= begin_;
    begin_ = 0;
    end_ = used;
    if (buffer_.size() < used + kChunk + kJsonPadding) {
      buffer_.resize(std::min(2 * used, most_ + kChunk) + kChunk + kJsonPadding);
    }
    const size_t count = bytes_->read(buffer_.data() + end_, buffer_.size() - kJsonPadding - end_);
    end_ += count;
    ended_ = count == 0;
  }

  std::string name_;
  std::unique_ptr<ByteStream> bytes_;
  std::string delimiter_;
  size_t most_;
  std::vector<char> buffer_ = std::vector<char>(kChunk + kJsonPadding);
  size_t begin_ = 0, scanned_ = 0, end_ = 0;  // of what was read; no delimiter in [begin, scanned)
  int64_t number_ = 0;
  bool ended_ = false, goes_on_ = false, ended_without_delimiter_ = false;
};

constexpr char kCut[] = "documents longer than 16 MiB, cut";

class SeparatedReader : public DocumentReader {
 public:
  SeparatedReader(const fs::path& file, std::unique_ptr<ByteStream> bytes,
                  const ReadOptions& options)
      : pieces_(file, std::move(bytes), options.doc_separator, kLargestDocument),
        findings_(*options.findings) {}

  bool next(std::string& document) override {
    std::span<char> piece;
    const bool within = pieces_.goes_on();
    if (!pieces_.next(piece)) return false;
    if (pieces_.goes_on() && !within) findings_.note(kCut, pieces_.where());
    document.assign(piece.data(), piece.size());
    return true;
  }

  int64_t position() const override { return pieces_.position(); }

 private:
  PieceReader pieces_;
  Findings& findings_;
};

// ------------------------------------------------------------------------------------------------
// JSON lines

// RapidJSON, because simdjson can't be had: libparquet exports another version of it, and whichever
// comes first in the process crashes the other. Parsing in place, it is not the slowest part.
class JsonLinesReader : public DocumentReader {
 public:
  JsonLinesReader(const fs::path& file, std::unique_ptr<ByteStream> bytes,
                  const ReadOptions& options)
      // A line may lie in memory up to four times, while it grows and while its text is copied.
      : lines_(file, std::move(bytes), "\n", static_cast<size_t>(options.memory / 4)),
        parser_(options.column),
        findings_(*options.findings) {}

  bool next(std::string& document) override {
    for (std::span<char> line; lines_.next(line);) {
      if (lines_.goes_on()) {
        skip_rest();
        bad("is longer than memory allows");
        continue;
      }
      line = mended(line);
      if (is_blank({line.data(), line.size()})) continue;
      ++count_;
      if (count_ == 1) first_.assign(line.data(), line.size());
      std::string reason;
      const auto outcome = parser_.parse(line, document, reason);
      if (outcome == JsonLineParser::kDocument) return true;
      if (outcome == JsonLineParser::kCutOff && lines_.ended_without_delimiter() && count_ > 1) {
        findings_.note("last lines skipped, which are cut off", lines_.where());
      } else if (outcome != JsonLineParser::kNothing) {
        bad(reason);
      }
    }
    findings_.count_lines(std::exchange(count_, 0));
    return false;
  }

  int64_t position() const override { return lines_.position(); }

 private:
  // Without what is no part of it: the byte order mark of a file that was appended to another, and
  // the zeros at the end that a file system leaves of what a crash kept from the disk.
  std::span<char> mended(std::span<char> line) {
    while (std::string_view(line.data(), line.size()).starts_with(kByteOrderMark)) {
      line = line.subspan(kByteOrderMark.size());
      findings_.note("byte order marks dropped", lines_.where());
    }
    while (lines_.ended_without_delimiter() && !line.empty() && line.back() == '\0') {
      line = line.first(line.size() - 1);
    }
    return line;
  }

  void skip_rest() {
    ++count_;
    for (std::span<char> rest; lines_.goes_on() && lines_.next(rest);) {
    }
  }

  // Most of what is bad is bad throughout: that is not worth hours of reading.
  void bad(std::string reason) {
    constexpr int64_t kEnoughToJudge = 100;
    if (const std::string columns = count_ == 1 ? text_columns_of(first_) : ""; !columns.empty()) {
      reason += ", but has: " + columns;
    } else if (count_ == 1 && lines_.ended_without_delimiter()) {
      reason += ", and is all of the file: write each document as a line";
    }
    findings_.bad_line(lines_.where(), reason);
    ++bad_;
    if (bad_ >= kEnoughToJudge && 2 * bad_ > count_) throw findings_.bad_lines(bad_, count_);
  }

  PieceReader lines_;
  JsonLineParser parser_;
  Findings& findings_;
  std::string first_;            // line of the file
  int64_t count_ = 0, bad_ = 0;  // lines that are not blank
};

// ------------------------------------------------------------------------------------------------
// Rows and lines that are too long for a document

// The rest of the program holds several documents at a time, so their length has a limit.
class CutReader : public DocumentReader {
 public:
  CutReader(const fs::path& file, std::unique_ptr<DocumentReader> whole, const ReadOptions& options)
      : name_(display_name(file)), whole_(std::move(whole)), findings_(*options.findings) {}

  bool next(std::string& document) override {
    if (rest_.empty()) {
      if (!whole_->next(document)) return false;
      if (document.size() <= kLargestDocument) return true;
      findings_.note(kCut, name_);
      rest_.swap(document);
    }
    const size_t end = part_end(rest_, kLargestDocument / 2);
    document.assign(rest_, 0, end);
    rest_.erase(0, end);
    return true;
  }

  int64_t position() const override { return whole_->position(); }
  bool group_ended() const override { return rest_.empty() && whole_->group_ended(); }

 private:
  std::string name_;
  std::unique_ptr<DocumentReader> whole_;
  Findings& findings_;
  std::string rest_;
};

}  // namespace

std::unique_ptr<DocumentReader> open_documents(const fs::path& file, const ReadOptions& options) {
  OpenedFile opened = open_file(file, *options.findings, !options.doc_separator.empty());
  check(opened.look.unfit.empty(), display_name(file) + " " + opened.look.unfit);
  if (opened.look.form == Form::kText) {
    if (options.doc_separator.empty()) {
      return std::make_unique<PartReader>(std::move(opened.bytes), options);
    }
    return std::make_unique<SeparatedReader>(file, std::move(opened.bytes), options);
  }
  std::unique_ptr<DocumentReader> reader;
  if (opened.look.form == Form::kParquet) {
    reader = open_parquet(file, options);
  } else {
    reader = std::make_unique<JsonLinesReader>(file, std::move(opened.bytes), options);
  }
  return std::make_unique<CutReader>(file, std::move(reader), options);
}

}  // namespace autoresearch
