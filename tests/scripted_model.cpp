// An OpenAI-compatible server whose answers are files:
//
//   scripted_model PORT REPLY...
//
// The first call gets the first file, and so on; the last one goes on for ever. PORT 0 picks a free
// one. The address for --base-url is printed as the first line; the end of stdin ends the program.
#include <cstdio>
#include <exception>
#include <string>
#include <vector>

#include "common/files.h"
#include "tests/loopback_server.h"

using namespace autoresearch;

int main(int argc, char** argv) try {
  if (argc < 3) {
    std::fprintf(stderr, "usage: scripted_model PORT REPLY...\n");
    return 2;
  }
  const std::vector<std::string> files(argv + 2, argv + argc);
  const LoopbackServer server(
      [&](const HttpRequest&, size_t index) {
        return chat_answer(read_file(files[std::min(index, files.size() - 1)]));
      },
      static_cast<uint16_t>(std::stoi(argv[1])));
  std::printf("%s\n", server.url().c_str());
  std::fflush(stdout);
  while (std::getchar() != EOF) {
  }
} catch (const std::exception& error) {
  std::fprintf(stderr, "scripted_model: error: %s\n", error.what());
  return 1;
}
