// Documents that a test names, as a reader.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "prepare/reader.h"

namespace autoresearch {

class ListedDocuments : public DocumentReader {
 public:
  // A group ends after every `group` documents; 0: never.
  explicit ListedDocuments(std::vector<std::string> texts, size_t group = 0)
      : texts_(std::move(texts)), group_(group) {}

  bool next(std::string& document) override {
    if (at_ == texts_.size()) return false;
    document = texts_[at_++];
    position_ += static_cast<int64_t>(document.size());
    return true;
  }
  int64_t position() const override { return position_; }
  bool group_ended() const override { return group_ > 0 && at_ % group_ == 0; }

 private:
  std::vector<std::string> texts_;
  size_t group_, at_ = 0;
  int64_t position_ = 0;
};

}  // namespace autoresearch
