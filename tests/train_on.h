// A tokenizer of a few documents that a test names.
#pragma once

#include <string>
#include <vector>

#include "task/tokenizer.h"

namespace autoresearch {

inline Tokenizer train_on(const std::vector<std::string>& documents, int64_t vocab_size) {
  const auto next = [&documents, i = size_t{0}](std::string& document) mutable {
    if (i == documents.size()) return false;
    document = documents[i++];
    return true;
  };
  return Tokenizer::train(next, vocab_size);
}

}  // namespace autoresearch
