#include "prepare/encode.h"

#include <deque>
#include <future>
#include <string>

#include "task/unicode.h"

namespace autoresearch {
namespace {

constexpr size_t kBatchBytes = 2 << 20;      // of text that one thread encodes at a time
constexpr size_t kUnderWayBytes = 64 << 20;  // of text beyond which no further batch is read

struct Batch {
  struct Document {
    size_t text_end, ids_end;
    int64_t invalid_bytes;
    bool group_ended;
  };
  std::string text;
  std::vector<uint16_t> ids;
  std::vector<Document> documents;
};

// Empty when the reader has ended.
Batch read_batch(DocumentReader& reader) {
  Batch batch;
  std::string document;
  while (batch.text.size() < kBatchBytes && reader.next(document)) {
    batch.text += document;
    batch.documents.push_back({batch.text.size(), 0, 0, reader.group_ended()});
  }
  return batch;
}

Batch encode_batch(Batch batch, const Tokenizer& tokenizer) {
  size_t begin = 0;
  for (Batch::Document& document : batch.documents) {
    const std::string_view text =
        std::string_view(batch.text).substr(begin, document.text_end - begin);
    tokenizer.encode(text, batch.ids);
    document.ids_end = batch.ids.size();
    document.invalid_bytes = invalid_utf8_bytes(text);
    begin = document.text_end;
  }
  return batch;
}

bool hand_on(const Batch& batch, const std::function<bool(const EncodedDocument&)>& on_document) {
  size_t text_begin = 0, ids_begin = 0;
  for (const Batch::Document& document : batch.documents) {
    const EncodedDocument encoded{
        std::span(batch.ids).subspan(ids_begin, document.ids_end - ids_begin),
        static_cast<int64_t>(document.text_end - text_begin), document.invalid_bytes,
        document.group_ended};
    if (!on_document(encoded)) return false;
    text_begin = document.text_end;
    ids_begin = document.ids_end;
  }
  return true;
}

}  // namespace

void encode_documents(DocumentReader& reader, const Tokenizer& tokenizer, int64_t workers,
                      const std::function<bool(const EncodedDocument&)>& on_document) {
  std::deque<std::future<Batch>> under_way;
  size_t bytes = 0;  // of their text
  for (bool more = true; more || !under_way.empty();) {
    while (more && under_way.size() < static_cast<size_t>(workers) && bytes < kUnderWayBytes) {
      Batch batch = read_batch(reader);
      more = !batch.documents.empty();
      if (!more) break;
      bytes += batch.text.size();
      under_way.push_back(
          std::async(std::launch::async, encode_batch, std::move(batch), std::cref(tokenizer)));
    }
    if (under_way.empty()) return;
    const Batch batch = under_way.front().get();
    under_way.pop_front();
    bytes -= batch.text.size();
    if (!hand_on(batch, on_document)) return;
  }
}

void TokenSequences::add(std::span<const uint16_t> ids, int64_t bos) {
  tokens.push_back(static_cast<uint16_t>(bos));
  tokens.insert(tokens.end(), ids.begin(), ids.end());
  ends.push_back(tokens.size());
}

std::span<const uint16_t> TokenSequences::operator[](size_t i) const {
  const size_t begin = i == 0 ? 0 : ends[i - 1];
  return std::span(tokens).subspan(begin, ends[i] - begin);
}

}  // namespace autoresearch
