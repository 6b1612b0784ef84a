#include "prepare/utf16.h"

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>

namespace autoresearch {
namespace {

constexpr uint32_t kReplacement = 0xFFFD;
constexpr size_t kChunk = 64 << 10;  // bytes

void append_utf8(std::string& text, uint32_t c) {
  const auto tail = [c](int shift) { return static_cast<char>(0x80 | (c >> shift & 0x3F)); };
  if (c < 0x80) {
    text += static_cast<char>(c);
  } else if (c < 0x800) {
    text += {static_cast<char>(0xC0 | c >> 6), tail(0)};
  } else if (c < 0x10000) {
    text += {static_cast<char>(0xE0 | c >> 12), tail(6), tail(0)};
  } else {
    text += {static_cast<char>(0xF0 | c >> 18), tail(12), tail(6), tail(0)};
  }
}

bool is_high(uint32_t unit) { return unit >= 0xD800 && unit < 0xDC00; }
bool is_low(uint32_t unit) { return unit >= 0xDC00 && unit < 0xE000; }

class Utf16Stream : public ByteStream {
 public:
  Utf16Stream(std::unique_ptr<ByteStream> source, bool big_endian)
      : source_(std::move(source)), big_endian_(big_endian) {}

  int64_t position() const override { return source_->position(); }

 protected:
  size_t read_some(char* buffer, size_t size) override {
    while (text_.empty() && !ended_) convert();
    const size_t count = text_.copy(buffer, std::min(size, text_.size()));
    text_.erase(0, count);
    return count;
  }

 private:
  void convert() {
    char bytes[kChunk];
    const size_t count = source_->read(bytes, sizeof bytes);
    ended_ = count == 0;
    for (size_t i = 0; i < count; ++i) {
      half_ = half_ << 8 | static_cast<unsigned char>(bytes[i]);
      if (odd_ = !odd_; odd_) continue;
      const uint32_t unit = half_ & 0xFFFF;
      take(big_endian_ ? unit : (unit >> 8 | (unit & 0xFF) << 8));
    }
    if (ended_ && (high_ != 0 || odd_)) append_utf8(text_, kReplacement);
  }

  void take(uint32_t unit) {
    const uint32_t high = std::exchange(high_, is_high(unit) ? unit : 0);
    if (high != 0 && is_low(unit)) {
      return append_utf8(text_, 0x10000 + ((high - 0xD800) << 10) + (unit - 0xDC00));
    }
    if (high != 0) append_utf8(text_, kReplacement);
    if (high_ == 0) append_utf8(text_, is_low(unit) ? kReplacement : unit);
  }

  std::unique_ptr<ByteStream> source_;
  bool big_endian_, odd_ = false, ended_ = false;
  uint32_t half_ = 0, high_ = 0;  // the last bytes; the first half of a pair, or 0
  std::string text_;
};

}  // namespace

std::unique_ptr<ByteStream> utf8_of_utf16(std::unique_ptr<ByteStream> source, bool big_endian) {
  return std::make_unique<Utf16Stream>(std::move(source), big_endian);
}

}  // namespace autoresearch
