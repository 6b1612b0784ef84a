#include "prepare/parquet.h"

#include <arrow/io/file.h>
#include <arrow/memory_pool.h>
#include <parquet/column_reader.h>
#include <parquet/exception.h>
#include <parquet/file_reader.h>
#include <parquet/metadata.h>
#include <parquet/schema.h>

#include <algorithm>
#include <cctype>
#include <vector>

#include "common/error.h"

namespace autoresearch {
namespace {

constexpr int64_t kReadBytes = 1 << 20;     // of the file at a time
constexpr int64_t kBatch = 1024;            // values; they lie in the page, not in a copy
constexpr int64_t kMostMemory = 192 << 20;  // bytes; a damaged page may ask for any amount

// What Arrow's exceptions say, of which there are several lines.
std::string first_line(const std::exception& error) {
  const std::string what = error.what();
  return what.substr(0, what.find('\n'));
}

// A plain column of strings or bytes, not a list. Large strings, string views and dictionaries of
// strings are the same in a file.
bool holds_text(const parquet::ColumnDescriptor& column) {
  if (column.physical_type() != parquet::Type::BYTE_ARRAY || column.max_repetition_level() > 0) {
    return false;
  }
  const auto& type = column.logical_type();
  return type == nullptr || type->is_none() || type->is_string() || type->is_JSON() ||
         type->is_enum();
}

std::string name_of(const parquet::ColumnDescriptor& column) {
  return column.path()->ToDotString();
}

// For a message.
std::string type_of(const parquet::ColumnDescriptor& column) {
  const auto& logical = column.logical_type();
  const std::string type = logical == nullptr || logical->is_none()
                               ? parquet::TypeToString(column.physical_type())
                               : logical->ToString();
  return column.max_repetition_level() > 0 ? "a list of " + type : "of type " + type;
}

// For a message: a name out of a file may be anything.
std::string printable(std::string name) {
  for (char& c : name) c = std::iscntrl(static_cast<unsigned char>(c)) ? '?' : c;
  return name;
}

// The columns of text, for a message: "body, title".
std::string text_columns(const parquet::SchemaDescriptor& schema) {
  constexpr int kShown = 10;
  std::string names;
  int count = 0;
  for (int i = 0; i < schema.num_columns(); ++i) {
    if (!holds_text(*schema.Column(i)) || ++count > kShown) continue;
    names += (names.empty() ? "" : ", ") + printable(name_of(*schema.Column(i)));
  }
  return count > kShown ? names + ", ..." : names;
}

class ParquetReader : public DocumentReader {
 public:
  ParquetReader(const fs::path& file, const std::string& column)
      : name_(file.string()), pool_(arrow::system_memory_pool(), kMostMemory) {
    guarded([&] { open(); });
    choose_column(column);
    guarded([&] { advance(); });
  }

  bool next(std::string& document) override {
    if (at_ == values_.size()) return false;
    const parquet::ByteArray& value = values_[at_++];
    check(value.len <= kLargestDocument, name_ + ": a value in row group " +
                                             std::to_string(group_) +
                                             " is longer than 16 MiB; cut it, or leave it out");
    document.assign(reinterpret_cast<const char*>(value.ptr), value.len);
    group_ended_ = false;
    if (at_ == values_.size()) guarded([&] { advance(); });
    return true;
  }

  // Other columns are passed over, hence the share of the rows.
  int64_t position() const override {
    const int64_t rows = metadata_->num_rows();
    const double share = rows > 0 ? static_cast<double>(rows_read_) / static_cast<double>(rows) : 1;
    return static_cast<int64_t>(std::min(share, 1.0) * static_cast<double>(bytes_));
  }

  bool group_ended() const override { return group_ended_; }

 private:
  // Runs what calls Arrow, and puts the exceptions it throws into a line.
  template <typename Action>
  void guarded(const Action& action) const {
    try {
      action();
    } catch (const std::exception& error) {
      const auto* failed = dynamic_cast<const parquet::ParquetStatusException*>(&error);
      const std::string where =
          name_ + (group_ < 0 ? "" : " (row group " + std::to_string(group_) + ")");
      if (failed != nullptr && failed->status().IsOutOfMemory()) {
        throw Error(where + " takes more than 192 MiB to read; write it with smaller pages");
      }
      throw DamagedParquet(name_, where + " can't be read as parquet (" + first_line(error) +
                                      "); copy or download it again");
    }
  }

  void open() {
    parquet::ReaderProperties properties(&pool_);
    properties.enable_buffered_stream();  // else a row group's column is read as a whole
    properties.set_buffer_size(kReadBytes);
    properties.set_page_checksum_verification(true);
    PARQUET_ASSIGN_OR_THROW(auto source, arrow::io::ReadableFile::Open(name_, &pool_));
    PARQUET_ASSIGN_OR_THROW(bytes_, source->GetSize());
    file_ = parquet::ParquetFileReader::Open(source, properties);
    metadata_ = file_->metadata();
  }

  void choose_column(const std::string& wanted) {
    const parquet::SchemaDescriptor& schema = *metadata_->schema();
    std::string type;  // of the column where it is no text
    for (int i = 0; i < schema.num_columns(); ++i) {
      const parquet::ColumnDescriptor& column = *schema.Column(i);
      if (name_of(column) != wanted) continue;
      if (holds_text(column)) column_ = i;
      type = type_of(column);
    }
    if (column_ >= 0) return;
    const std::string others = text_columns(schema);
    throw Error(
        name_ + " has no column \"" + wanted + "\" of text" +
        (type.empty() ? "" : " (it is " + type + ")") + "; " +
        (others.empty() ? "no other has text: leave it out" : "give --column one of: " + others));
  }

  // The next values, of this row group or of one that follows; none at the end of the file.
  void advance() {
    values_.clear();
    at_ = 0;
    while (values_.empty()) {
      if (rows_left_ > 0) {
        read_batch();
      } else {
        group_ended_ = true;
        if (++group_ >= metadata_->num_row_groups()) return;
        reader_ = file_->RowGroup(group_)->Column(column_);
        rows_left_ = metadata_->RowGroup(group_)->num_rows();
      }
    }
  }

  void read_batch() {
    // Pages may end early where a length in the file is damaged.
    if (!reader_->HasNext()) throw parquet::ParquetException("it has fewer rows than it says");
    auto& values = static_cast<parquet::ByteArrayReader&>(*reader_);
    int64_t count = 0;
    values_.resize(kBatch);
    const int64_t rows = values.ReadBatch(std::min(kBatch, rows_left_), levels_.data(), nullptr,
                                          values_.data(), &count);
    values_.resize(static_cast<size_t>(count));  // nulls have a row, but no value
    rows_left_ -= rows;
    rows_read_ += rows;
  }

  std::string name_;
  int64_t bytes_ = 0;
  arrow::CappedMemoryPool pool_;
  std::unique_ptr<parquet::ParquetFileReader> file_;
  std::shared_ptr<parquet::FileMetaData> metadata_;
  std::shared_ptr<parquet::ColumnReader> reader_;  // of the row group at hand
  int column_ = -1, group_ = -1;
  int64_t rows_left_ = 0, rows_read_ = 0;  // in the row group; of the file
  std::vector<int16_t> levels_ = std::vector<int16_t>(kBatch);
  std::vector<parquet::ByteArray> values_;  // of one page
  size_t at_ = 0;                           // the next of them
  bool group_ended_ = false;
};

}  // namespace

std::unique_ptr<DocumentReader> open_parquet(const fs::path& file, const std::string& column) {
  return std::make_unique<ParquetReader>(file, column);
}

}  // namespace autoresearch
