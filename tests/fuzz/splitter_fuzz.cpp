// Any bytes are cut as PCRE2 cuts them, a safe prefix stays what it is, and encoding comes back.

#include <cstdlib>
#include <string_view>

#include "task/splitter.h"
#include "task/tokenizer.h"
#include "tests/reference_splitter.h"
#include "tests/train_on.h"

using namespace autoresearch;

namespace {

void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "%s\n", what);
  std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const ReferenceSplitter reference;
  static const Tokenizer tokenizer = train_on(
      {"the cat's hat, we'll see: caf\u00e9 12345\n\n  indented \u65e5\u672c\u8a9e the cat the hat",
       "aaaa bbbb ---- 0000 \u0434\u0430 \u0434\u0430 ====== the end of the tale"},
      400);
  const std::string_view text(reinterpret_cast<const char*>(data), size);

  const std::vector<std::string_view> pieces = split(text);
  if (reference.comparable(text)) {
    require(pieces == reference.split(text), "cut otherwise than PCRE2 does");
  }
  const size_t safe = safe_prefix(text);
  std::vector<std::string_view> parts = split(text.substr(0, safe));
  for (const std::string_view piece : split(text.substr(safe))) parts.push_back(piece);
  require(parts == pieces, "a safe prefix is cut otherwise than in the whole");

  std::vector<uint16_t> ids;
  tokenizer.encode(text, ids);
  require(tokenizer.decode(ids) == text, "decode(encode(x)) is not x");
  return 0;
}
