// libFuzzer on replies: any bytes through parse_reply and apply_proposal, against the real
// train.cpp.
//
// The first byte of an input chooses `truncated` and `allow_whole_file`, the rest is the reply. So
// that it gets beyond the parser, some bytes stand for longer text: 1 and a byte for one of 256
// neighbouring lines of train.cpp, 2 to 5 for the markers and an IDEA line.
#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "common/files.h"
#include "tests/fuzz/reply_property.h"

namespace {

std::string expanded(const uint8_t* data, size_t size, const std::vector<std::string>& lines) {
  static const char* const kTexts[] = {"<<<<<<< SEARCH\n", "=======\n", ">>>>>>> REPLACE\n",
                                       "IDEA: x\n"};
  std::string text;
  for (size_t i = 0; i < size; ++i) {
    if (data[i] == 1 && i + 1 < size) {
      text += lines[data[++i] % lines.size()] + "\n";
    } else if (data[i] >= 2 && data[i] <= 5) {
      text += kTexts[data[i] - 2];
    } else {
      text += static_cast<char>(data[i]);
    }
  }
  return text;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace autoresearch;
  static const std::string source = read_file(SOURCE_DIR "/train.cpp");
  static const std::vector<std::string> lines = split_lines(source);
  if (size == 0) return 0;
  const std::string reply = expanded(data + 1, size - 1, lines);
  bool applied = false;
  const std::string broken =
      broken_property(source, reply, (data[0] & 1) != 0, (data[0] & 2) != 0, applied);
  if (broken.empty()) return 0;
  std::fprintf(stderr, "%s\n%s\n", broken.c_str(), reply.c_str());
  std::abort();
}
