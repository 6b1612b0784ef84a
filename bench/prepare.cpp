// How the time and the memory of `prepare` grow with the corpus.
//
//   build/bench/prepare [MEGABYTES...]     default: 100 300 1000
//
// Makes corpora of synthetic text below the temporary folder (twice the largest must fit there):
// documents of all lengths, words drawn by Zipf's law from 200,000, one in twenty never seen
// before, so that the distinct pieces grow with the corpus as they do in real text. Prints for each
// how long `prepare --source` took and the most memory that it held; the part of that which
// libtorch takes as soon as a program is linked with it comes first, as `prepare --help`.

#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include "common/error.h"
#include "common/files.h"
#include "common/process.h"

namespace autoresearch {
namespace {

constexpr size_t kWords = 200'000;
constexpr double kMega = 1e6;
constexpr double kLimitMegabytes = 1500;  // what prepare promises, whatever the corpus

class Writer {
 public:
  Writer() {
    for (size_t i = 0; i < kWords; ++i) words_.push_back(fresh_word());
  }

  // Files of some 8 MB, a document a line.
  void corpus(const fs::path& folder, double bytes) {
    fs::create_directories(folder);
    for (int file = 0; bytes > 0; ++file) {
      std::ofstream out(folder / (std::to_string(file) + ".jsonl"), std::ios::binary);
      for (double left = std::min(bytes, 8 * kMega); left > 0;) {
        const std::string line = "{\"text\": \"" + document() + "\"}\n";
        out << line;
        left -= static_cast<double>(line.size());
        bytes -= static_cast<double>(line.size());
      }
      check(out.good(), "can't write to " + folder.string() + "; is the disk full?");
    }
  }

 private:
  std::string fresh_word() {
    std::string word;
    for (size_t length = 2 + random_() % 9; word.size() < length;) {
      word += static_cast<char>('a' + random_() % 26);
    }
    return word;
  }

  std::string document() {
    const auto words = static_cast<size_t>(std::exp(std::normal_distribution<>(5, 1)(random_)));
    std::string text;
    for (size_t i = 0; i <= words; ++i) {
      // Zipf: the rank is log-uniform.
      const double u = std::uniform_real_distribution<>(0, 1)(random_);
      const auto rank = static_cast<size_t>(std::pow(static_cast<double>(kWords), u)) - 1;
      text += random_() % 20 == 0 ? fresh_word() + std::to_string(random_() % 1000)
                                  : words_[std::min(rank, kWords - 1)];
      text += random_() % 12 == 0 ? ". " : " ";
    }
    return text;
  }

  std::mt19937_64 random_{1};
  std::vector<std::string> words_;
};

Exit run_prepare(std::vector<std::string> arguments, const fs::path& data) {
  arguments.insert(arguments.begin(), BUILD_DIR "/prepare");
  std::vector<std::string> environment = scrubbed_environment();
  environment.push_back("AUTORESEARCH_DATA=" + data.string());
  const Exit exit = run({.argv = arguments, .env = environment, .limit = 7200});
  check(exit.code == 0, "prepare failed: " + exit.output);
  return exit;
}

int bench(const std::vector<double>& sizes) {
  const fs::path dir =
      fs::temp_directory_path() / ("autoresearch-bench." + std::to_string(getpid()));
  Writer writer;
  std::printf("%10s %9s %9s %12s\n", "corpus MB", "seconds", "MB/s", "peak MB");
  const Exit help = run_prepare({"--help"}, dir / "data");
  std::printf("%10s %9.1f %9s %12.0f\n", "(--help)", help.seconds, "",
              static_cast<double>(help.peak_rss_bytes) / kMega);
  double most = 0;
  for (const double size : sizes) {
    writer.corpus(dir / "corpus", size * kMega);
    const Exit exit = run_prepare(
        {"--source", (dir / "corpus").string(), "--task", "bench", "--force"}, dir / "data");
    const double peak = static_cast<double>(exit.peak_rss_bytes) / kMega;
    std::printf("%10.0f %9.1f %9.1f %12.0f\n", size, exit.seconds, size / exit.seconds, peak);
    std::fflush(stdout);
    most = std::max(most, peak);
    fs::remove_all(dir);
  }
  std::printf("---\nmost memory: %.0f MB, promised are %.0f\n", most, kLimitMegabytes);
  return most <= kLimitMegabytes ? 0 : 1;
}

}  // namespace
}  // namespace autoresearch

int main(int argc, char** argv) try {
  std::vector<double> sizes;
  for (int i = 1; i < argc; ++i) sizes.push_back(std::atof(argv[i]));
  return autoresearch::bench(sizes.empty() ? std::vector<double>{100, 300, 1000} : sizes);
} catch (const std::exception& e) {
  std::fprintf(stderr, "bench/prepare: error: %s\n", e.what());
  return 1;
}
