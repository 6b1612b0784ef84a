// Documents to token ids, with several threads, in order.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "prepare/reader.h"
#include "task/tokenizer.h"

namespace autoresearch {

// One document, encoded; valid during the call that it is handed to.
struct EncodedDocument {
  std::span<const uint16_t> ids;  // without BOS
  int64_t bytes = 0;              // of its text
  int64_t invalid_bytes = 0;      // of its text that are not UTF-8
  bool group_ended = false;       // it was the last of a group of its file (DocumentReader)
};

// Encodes what `reader` yields with `workers` threads, while this thread reads. `on_document` gets
// the documents in order, in this thread, until it returns false or `reader` ends. The result does
// not depend on the number of threads. Memory is that of some megabytes of text a thread.
void encode_documents(DocumentReader& reader, const Tokenizer& tokenizer, int64_t workers,
                      const std::function<bool(const EncodedDocument&)>& on_document);

// Documents' tokens one after the other.
struct TokenSequences {
  std::vector<uint16_t> tokens;
  std::vector<size_t> ends;  // offset in `tokens` at which each ends

  // Appends `bos` and `ids` as one document.
  void add(std::span<const uint16_t> ids, int64_t bos);
  size_t size() const { return ends.size(); }
  std::span<const uint16_t> operator[](size_t i) const;  // BOS first
};

}  // namespace autoresearch
