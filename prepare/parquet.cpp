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
#include "prepare/bytes.h"

namespace autoresearch {
namespace {

constexpr int64_t kReadBytes = 1 << 20;  // of the file at a time
constexpr int64_t kBatch = 1024;         // values; they lie in the page, not in a copy

// What Arrow's exceptions say, of which there are several lines.
std::string first_line(const std::exception& error) {
  const std::string what = error.what();
  return what.substr(0, what.find('\n'));
}

// A column of strings or bytes, or of lists of them. Large strings, string views and dictionaries
// of strings are the same in a file.
bool holds_text(const parquet::ColumnDescriptor& column) {
  if (column.physical_type() != parquet::Type::BYTE_ARRAY) return false;
  const auto& type = column.logical_type();
  return type == nullptr || type->is_none() || type->is_string() || type->is_JSON() ||
         type->is_enum();
}

bool is_list(const parquet::schema::Node& node) {
  return node.logical_type() != nullptr && node.logical_type()->is_list();
}

// "messages[].content": a list in the schema is a group of a repeated group of an element, whose
// names are the writer's affair.
std::string name_of(const parquet::ColumnDescriptor& column) {
  std::vector<const parquet::schema::Node*> path;
  for (const auto* node = column.schema_node().get(); node->parent(); node = node->parent()) {
    path.insert(path.begin(), node);
  }
  std::string name;
  for (size_t i = 0; i < path.size(); ++i) {
    const bool element =
        i >= 2 && path[i - 1]->is_repeated() && is_list(*path[i - 2]) &&
        static_cast<const parquet::schema::GroupNode*>(path[i - 1])->field_count() == 1;
    const bool wrapper = i >= 1 && path[i]->is_repeated() && is_list(*path[i - 1]);
    if (!element && !wrapper) name += (name.empty() ? "" : ".") + path[i]->name();
    if (path[i]->is_repeated()) name += "[]";
  }
  return name;
}

// For a message.
std::string type_of(const parquet::ColumnDescriptor& column) {
  const auto& logical = column.logical_type();
  return "of type " + (logical == nullptr || logical->is_none()
                           ? parquet::TypeToString(column.physical_type())
                           : logical->ToString());
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
  ParquetReader(const fs::path& file, const ReadOptions& options)
      : path_(system_path(file)),
        name_(display_name(file)),
        memory_(options.memory),
        pool_(arrow::system_memory_pool(), memory_) {
    guarded([&] { open(); });
    choose_column(options.column);
    guarded([&] { advance(); });
  }

  bool next(std::string& document) override {
    if (at_ == values_.size()) return false;
    document.clear();
    const int64_t row = rows_[at_];
    for (bool first = true; at_ < values_.size() && rows_[at_] == row; first = false) {
      if (!first) document += '\n';  // between the strings of a list
      document.append(reinterpret_cast<const char*>(values_[at_].ptr), values_[at_].len);
      group_ended_ = false;
      if (++at_ == values_.size()) guarded([&] { advance(); });
    }
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
        throw Error(where + " takes more than " + std::to_string(memory_ >> 20) +
                    " MiB to read, which is a reader's share of the free memory; give --workers 1, "
                    "or write it with smaller pages");
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
    PARQUET_ASSIGN_OR_THROW(auto source, arrow::io::ReadableFile::Open(path_.string(), &pool_));
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
    rows_.clear();
    at_ = 0;
    while (values_.empty()) {
      if (rows_left_ > 0 || in_last_list()) {
        read_batch();
      } else {
        group_ended_ = true;
        if (++group_ >= metadata_->num_row_groups()) return;
        reader_ = file_->RowGroup(group_)->Column(column_);
        rows_left_ = metadata_->RowGroup(group_)->num_rows();
      }
    }
  }

  bool in_last_list() const {
    return reader_ && reader_->descr()->max_repetition_level() > 0 && reader_->HasNext();
  }

  void read_batch() {
    // Pages may end early if a length in the file is damaged.
    if (!reader_->HasNext()) throw parquet::ParquetException("it has fewer rows than it says");
    auto& values = static_cast<parquet::ByteArrayReader&>(*reader_);
    const parquet::ColumnDescriptor& column = *reader_->descr();
    const bool lists = column.max_repetition_level() > 0;
    int64_t count = 0;
    values_.resize(kBatch);
    const int64_t levels =
        values.ReadBatch(lists ? kBatch : std::min(kBatch, rows_left_), definitions_.data(),
                         repetitions_.data(), values_.data(), &count);
    values_.resize(static_cast<size_t>(count));  // nulls have a level, but no value
    for (size_t i = 0; i < static_cast<size_t>(levels); ++i) {
      const bool begins = !lists || repetitions_[i] == 0;
      rows_left_ -= begins;
      rows_read_ += begins;
      if (column.max_definition_level() == 0 || definitions_[i] == column.max_definition_level()) {
        rows_.push_back(rows_read_);
      }
    }
    if (rows_.size() != values_.size()) throw parquet::ParquetException("its levels are damaged");
  }

  fs::path path_;
  std::string name_;
  int64_t bytes_ = 0, memory_;
  arrow::CappedMemoryPool pool_;
  std::unique_ptr<parquet::ParquetFileReader> file_;
  std::shared_ptr<parquet::FileMetaData> metadata_;
  std::shared_ptr<parquet::ColumnReader> reader_;  // of the row group at hand
  int column_ = -1, group_ = -1;
  int64_t rows_left_ = 0, rows_read_ = 0;  // in the row group; of the file
  std::vector<int16_t> definitions_ = std::vector<int16_t>(kBatch);
  std::vector<int16_t> repetitions_ = std::vector<int16_t>(kBatch);
  std::vector<parquet::ByteArray> values_;  // of one page
  std::vector<int64_t> rows_;               // of the file, that each of them is in
  size_t at_ = 0;                           // the next of them
  bool group_ended_ = false;
};

}  // namespace

std::unique_ptr<DocumentReader> open_parquet(const fs::path& file, const ReadOptions& options) {
  return std::make_unique<ParquetReader>(file, options);
}

std::optional<std::string> parquet_problem(const fs::path& file) try {
  parquet::ParquetFileReader::OpenFile(file.string(), /*memory_map=*/false);
  return std::nullopt;
} catch (const std::exception& error) {
  return "it can't be read as parquet: " + first_line(error) + " (a page? check --base-url)";
}

}  // namespace autoresearch
