#include "prepare/token_stream.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "common/error.h"
#include "task/splitter.h"

namespace autoresearch {
namespace {

constexpr size_t kChunk = 1 << 20;  // bytes read at a time

// Appends the next bytes of `in` to `buffer`, at least `wanted` unless it ends; false at the end.
bool read_more(std::FILE* in, std::string& buffer, size_t wanted) {
  const size_t before = buffer.size();
  buffer.resize(before + wanted);
  buffer.resize(before + std::fread(buffer.data() + before, 1, wanted, in));
  check(!std::ferror(in), std::string("can't read the input: ") + std::strerror(errno));
  return buffer.size() == before + wanted;
}

void write(std::FILE* out, std::string_view bytes) {
  const bool written = std::fwrite(bytes.data(), 1, bytes.size(), out) == bytes.size();
  check(written, std::string("can't write the output: ") + std::strerror(errno));
}

// Writes ids in one of the two forms.
class IdWriter {
 public:
  IdWriter(std::FILE* out, bool binary) : out_(out), binary_(binary) {}

  void operator()(const std::vector<uint16_t>& ids) {
    if (binary_) return write(out_, {reinterpret_cast<const char*>(ids.data()), 2 * ids.size()});
    text_.clear();
    for (const uint16_t id : ids) {
      if (!first_) text_ += ' ';
      first_ = false;
      char digits[8];
      text_.append(digits, std::to_chars(digits, digits + sizeof digits, id).ptr);
    }
    write(out_, text_);
  }
  void finish() const {
    if (!binary_) write(out_, "\n");
  }

 private:
  std::FILE* out_;
  bool binary_, first_ = true;
  std::string text_;
};

// Cuts the whole ids off the front of `buffer`; `last`: nothing follows it.
std::vector<uint16_t> take_binary(std::string& buffer, bool last) {
  check(!last || buffer.size() % 2 == 0,
        "the input ends within an id; --binary takes two bytes for each");
  std::vector<uint16_t> ids(buffer.size() / 2);
  std::memcpy(ids.data(), buffer.data(), 2 * ids.size());
  buffer.erase(0, 2 * ids.size());
  return ids;
}

std::vector<uint16_t> take_numbers(std::string& buffer, bool last, const Tokenizer& tokenizer) {
  constexpr std::string_view kSpace = " \t\r\n\v\f";
  constexpr size_t kShown = 40;  // characters of what is no id
  std::vector<uint16_t> ids;
  const size_t space = buffer.find_last_of(kSpace);
  const size_t whole = last ? buffer.size() : space == std::string::npos ? 0 : space + 1;
  std::string_view rest = std::string_view(buffer).substr(0, whole);
  while ((rest.remove_prefix(std::min(rest.find_first_not_of(kSpace), rest.size()))),
         !rest.empty()) {
    const std::string_view word = rest.substr(0, rest.find_first_of(kSpace));
    int64_t id = -1;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), id);
    check(error == std::errc() && end == word.data() + word.size() && id >= 0,
          "\"" + std::string(word.substr(0, kShown)) +
              "\" is no token id; give numbers, or --binary");
    tokenizer.token(id);  // refuses what is out of range before it is cut to 16 bits
    ids.push_back(static_cast<uint16_t>(id));
    rest.remove_prefix(word.size());
  }
  buffer.erase(0, whole);
  check(buffer.size() < kChunk, "the input is no list of token ids; give numbers, or --binary");
  return ids;
}

}  // namespace

void encode_stream(const Tokenizer& tokenizer, std::FILE* in, std::FILE* out, bool binary) {
  IdWriter write_ids(out, binary);
  std::string buffer;
  std::vector<uint16_t> ids;
  for (bool more = true; more;) {
    more = read_more(in, buffer, std::max(kChunk, buffer.size()));
    const size_t now = more ? safe_prefix(buffer) : buffer.size();
    ids.clear();
    tokenizer.encode(std::string_view(buffer).substr(0, now), ids);
    write_ids(ids);
    buffer.erase(0, now);
  }
  write_ids.finish();
}

void decode_stream(const Tokenizer& tokenizer, std::FILE* in, std::FILE* out, bool binary) {
  std::string buffer;
  for (bool more = true; more;) {
    more = read_more(in, buffer, kChunk);
    write(out, tokenizer.decode(binary ? take_binary(buffer, !more)
                                       : take_numbers(buffer, !more, tokenizer)));
  }
}

}  // namespace autoresearch
