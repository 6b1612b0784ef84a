// Our side of bench/tokenizer.py, which explains what is measured; prints one line of JSON.
//
//   build/bench/tokenizer train DOCUMENTS VOCAB THREADS OUT.tiktoken
//   build/bench/tokenizer encode DOCUMENTS TOKENIZER.tiktoken THREADS TIMES OUT.ids
//
// DOCUMENTS: each a little-endian uint32 length, then so many bytes. OUT.ids: each document's ids
// as little-endian uint16 behind a uint32 that counts them.

#include "task/tokenizer.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "common/error.h"
#include "common/files.h"

namespace autoresearch {
namespace {

std::vector<std::string_view> documents_of(std::string_view bytes) {
  std::vector<std::string_view> documents;
  while (!bytes.empty()) {
    uint32_t size;
    check(bytes.size() >= sizeof size, "the documents end within a length");
    std::memcpy(&size, bytes.data(), sizeof size);
    check(bytes.size() - sizeof size >= size, "the documents end within one");
    documents.push_back(bytes.substr(sizeof size, size));
    bytes.remove_prefix(sizeof size + size);
  }
  return documents;
}

double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

// Of this program. getrusage() would tell that of the Python that started it, where that is more.
double peak_mb() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmHWM:")) return std::stod(line.substr(6)) * 1024 / 1e6;
  }
  throw Error("no VmHWM in /proc/self/status");
}

void print(double seconds, const char* more, long long figure) {
  std::printf("{\"seconds\": %.4f, \"peak_mb\": %.0f, \"%s\": %lld}\n", seconds, peak_mb(), more,
              figure);
}

// The documents are read from the file one by one, as from a corpus.
void train(const fs::path& file, int64_t vocab, int64_t threads, const fs::path& out) {
  const auto begin = std::chrono::steady_clock::now();
  std::ifstream in(file, std::ios::binary);
  const auto next = [&](std::string& document) {
    uint32_t size;
    if (!in.read(reinterpret_cast<char*>(&size), sizeof size)) return false;
    document.resize(size);
    return static_cast<bool>(in.read(document.data(), size));
  };
  const Tokenizer tokenizer = Tokenizer::train(next, vocab, threads);
  const double seconds = seconds_since(begin);
  tokenizer.save(out);
  print(seconds, "tokens", tokenizer.vocab_size());
}

using Ids = std::vector<std::vector<uint16_t>>;

double encode_all(const Tokenizer& tokenizer, const std::vector<std::string_view>& documents,
                  int64_t threads, Ids& ids) {
  ids.assign(documents.size(), {});
  std::atomic<size_t> at{0};
  const auto begin = std::chrono::steady_clock::now();
  const auto work = [&] {
    for (size_t i; (i = at++) < documents.size();) tokenizer.encode(documents[i], ids[i]);
  };
  {
    std::vector<std::jthread> others;
    for (int64_t t = 1; t < threads; ++t) others.emplace_back(work);
    work();
  }
  return seconds_since(begin);
}

void encode(const fs::path& file, const fs::path& tiktoken, int64_t threads, int times,
            const fs::path& out) {
  const std::string bytes = read_file(file);
  const std::vector<std::string_view> documents = documents_of(bytes);
  const Tokenizer tokenizer = Tokenizer::load(tiktoken);
  Ids ids;
  double best = 1e9;
  for (int i = 0; i < times; ++i) {
    best = std::min(best, encode_all(tokenizer, documents, threads, ids));
  }
  long long changed = 0;
  for (size_t i = 0; i < documents.size(); ++i) changed += tokenizer.decode(ids[i]) != documents[i];
  std::ofstream stream(out, std::ios::binary);
  for (const std::vector<uint16_t>& document : ids) {
    const auto count = static_cast<uint32_t>(document.size());
    stream.write(reinterpret_cast<const char*>(&count), sizeof count);
    stream.write(reinterpret_cast<const char*>(document.data()),
                 static_cast<std::streamsize>(2 * document.size()));
  }
  check(stream.good(), "can't write " + out.string());
  print(best, "changed_by_round_trip", changed);
}

}  // namespace
}  // namespace autoresearch

int main(int argc, char** argv) try {
  const std::vector<std::string> words(argv + 1, argv + argc);
  if (words.size() == 5 && words[0] == "train") {
    autoresearch::train(words[1], std::stoll(words[2]), std::stoll(words[3]), words[4]);
  } else if (words.size() == 6 && words[0] == "encode") {
    autoresearch::encode(words[1], words[2], std::stoll(words[3]), std::stoi(words[4]), words[5]);
  } else {
    std::fprintf(stderr, "bench/tokenizer: run python3 bench/tokenizer.py\n");
    return 2;
  }
} catch (const std::exception& e) {
  std::fprintf(stderr, "bench/tokenizer: error: %s\n", e.what());
  return 1;
}
