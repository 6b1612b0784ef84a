// libFuzzer on replies: any bytes through parse_reply and apply_proposal, against the first part of
// the real train.cpp.
//
// The first byte of an input chooses `truncated`, `allow_whole_file` and one of two ways to a
// reply:
// - the rest of the input as it is, but that some bytes stand for longer text: 1 and a byte for a
//   line of train.cpp, 2 to 5 for the markers and an IDEA line;
// - a good reply, of a block around lines that the input names, with the damage that it describes.
//   The first way gets little beyond the parser, this one to applied edits.
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

// Four bytes a wound: where (two), how, and with what.
void damage(std::string& reply, const uint8_t* data, size_t size,
            const std::vector<std::string>& lines) {
  static const std::vector<std::string> kPieces = {"\n",
                                                   "// ...\n",
                                                   "/*",
                                                   "*/",
                                                   "\\\n",
                                                   "\"",
                                                   "R\"(",
                                                   "#if 0\n",
                                                   "{",
                                                   "}",
                                                   "\r",
                                                   "```\n",
                                                   "> ",
                                                   "\n-",
                                                   "\n+",
                                                   "\n7: ",
                                                   "&lt;",
                                                   "\xc2\xa0",
                                                   "\x1b[2m",
                                                   "IDEA: y\n",
                                                   "\nFinal reply:\n",
                                                   "\nWait, no.\n",
                                                   "=======\n",
                                                   "<<<<<<< SEARCH\n",
                                                   ">>>>>>> REPLACE\n",
                                                   "</think>"};
  for (size_t i = 0; i + 4 <= size; i += 4) {
    const size_t at = (data[i] + size_t{256} * data[i + 1]) % (reply.size() + 1);
    const uint8_t with = data[i + 3];
    switch (data[i + 2] % 4) {
      case 0:
        reply.erase(at, with);
        break;
      case 1:
        reply.insert(at, kPieces[with % kPieces.size()]);
        break;
      case 2:
        reply.insert(at, lines[with % lines.size()] + "\n");
        break;
      default:
        reply.insert(at, 1, static_cast<char>(with));
    }
  }
}

std::string damaged(const uint8_t* data, size_t size, const std::vector<std::string>& lines) {
  if (size < 4) return "";
  const size_t first = (data[0] + size_t{256} * data[1]) % (lines.size() - 16);
  std::string search, replace;
  for (size_t i = first; i < first + 3 + data[2] % 12; ++i) search += lines[i] + "\n";
  for (size_t i = first; i < first + 3 + data[2] % 12; ++i)
    replace += (i == first + data[3] % 8 ? "  added(" + std::to_string(data[3]) + ");\n" : "") +
               lines[i] + "\n";
  std::string reply = "IDEA: x\nWHY: y\n<<<<<<< SEARCH\n" + search + "=======\n" + replace +
                      ">>>>>>> REPLACE\nNEXT: z\n";
  damage(reply, data + 4, size - 4, lines);
  return reply;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace autoresearch;
  static const std::string whole = read_file(SOURCE_DIR "/train.cpp");
  static const std::string source = whole.substr(0, whole.find("struct Layer {"));  // for speed
  static const std::vector<std::string> lines = split_lines(source);
  if (size == 0) return 0;
  const std::string reply =
      (data[0] & 4) != 0 ? damaged(data + 1, size - 1, lines) : expanded(data + 1, size - 1, lines);
  bool applied = false;
  const std::string broken =
      broken_property(source, reply, (data[0] & 1) != 0, (data[0] & 2) != 0, applied);
  if (broken.empty()) return 0;
  std::fprintf(stderr, "%s\n%s\n", broken.c_str(), reply.c_str());
  std::abort();
}
