#include "prepare/corpus.h"

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string_view>
#include <unordered_set>

#include "common/error.h"

namespace autoresearch {
namespace {

constexpr int64_t kSmallestPart = 4 << 10;  // bytes; files up to here are never cut

std::string extension(const fs::path& path) {
  std::string extension = path.extension().string();
  for (char& c : extension) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return extension;
}

[[noreturn]] void fail(const fs::path& path, const std::error_code& error) {
  throw Error("can't read " + path.string() + ": " + error.message() +
              "; check the path given to --source");
}

std::array<uint64_t, 2> hash_of(std::string_view text) {
  const std::string hex = sha256(text);
  return {std::stoull(hex.substr(0, 16), nullptr, 16),
          std::stoull(hex.substr(16, 16), nullptr, 16)};
}

bool is_blank(std::string_view text) {
  return text.find_first_not_of(" \t\r\n\v\f") == std::string_view::npos;
}

// The "text" of a line of JSON; `where` names the line in an error.
std::string json_text(std::string_view line, const std::string& where) {
  try {
    return nlohmann::json::parse(line).at("text").get<std::string>();
  } catch (const nlohmann::json::exception&) {
    throw Error(where + " is no JSON object with a \"text\" of type string; mend or remove it");
  }
}

bool is_json_lines(const fs::path& path) { return extension(path) == ".jsonl"; }

class Indexer {
 public:
  Indexer(const std::vector<fs::path>& files, const std::function<void(int64_t)>& on_bytes)
      : on_bytes_(on_bytes) {
    corpus_.files = files;
    int64_t total = 0;
    for (const fs::path& file : files) total += static_cast<int64_t>(fs::file_size(file));
    part_ = std::max(kSmallestPart, total / 40);
  }

  Corpus run() {
    for (uint32_t f = 0; f < corpus_.files.size(); ++f) {
      is_json_lines(corpus_.files[f]) ? add_lines(f) : add_file(f);
    }
    std::sort(corpus_.documents.begin(), corpus_.documents.end(),
              [](const Document& a, const Document& b) { return a.hash < b.hash; });
    const auto end =
        std::unique(corpus_.documents.begin(), corpus_.documents.end(),
                    [](const Document& a, const Document& b) { return a.hash == b.hash; });
    corpus_.duplicates = corpus_.documents.end() - end;
    corpus_.documents.erase(end, corpus_.documents.end());
    for (const Document& document : corpus_.documents) corpus_.bytes += document.bytes;
    return std::move(corpus_);
  }

 private:
  void add(uint32_t file, int64_t offset, int64_t length, std::string_view text) {
    if (is_blank(text)) return;
    corpus_.documents.push_back(
        {hash_of(text), file, offset, length, static_cast<int64_t>(text.size())});
  }

  void tick(int64_t bytes) {
    done_ += bytes;
    if (on_bytes_) on_bytes_(done_);
  }

  // Where the part that starts at `at` ends: at a line end, or, where lines are endless, at a
  // character.
  size_t part_end(std::string_view text, size_t at) const {
    const size_t part = static_cast<size_t>(part_);
    if (text.size() - at <= part) return text.size();
    const size_t line_end = text.substr(0, at + 2 * part).find('\n', at + part - 1);
    if (line_end != std::string_view::npos) return line_end + 1;
    size_t end = at + part;
    while (end > at + part - 3 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
    return end;
  }

  void add_file(uint32_t file) {
    const std::string text = read_file(corpus_.files[file]);
    for (size_t at = 0; at < text.size();) {
      const size_t end = part_end(text, at);
      add(file, static_cast<int64_t>(at), static_cast<int64_t>(end - at),
          std::string_view(text).substr(at, end - at));
      at = end;
    }
    tick(static_cast<int64_t>(text.size()));
  }

  void add_lines(uint32_t file) {
    const fs::path& path = corpus_.files[file];
    std::ifstream in(path, std::ios::binary);
    if (!in) fail(path, {errno, std::generic_category()});
    int64_t offset = 0, number = 0;
    for (std::string line; std::getline(in, line);) {
      const int64_t length = static_cast<int64_t>(line.size());
      ++number;
      if (!is_blank(line)) {
        add(file, offset, length, json_text(line, path.string() + ":" + std::to_string(number)));
      }
      offset += length + 1;
      tick(length + 1);
    }
  }

  const std::function<void(int64_t)>& on_bytes_;
  Corpus corpus_;
  int64_t part_ = 0, done_ = 0;
};

}  // namespace

std::string Corpus::text(const Document& document) const {
  const fs::path& path = files[document.file];
  std::ifstream in(path, std::ios::binary);
  std::string text(static_cast<size_t>(document.length), '\0');
  in.seekg(document.offset);
  in.read(text.data(), document.length);
  const auto changed = [&] {
    return Error(path.string() + " has changed while it was read; run the command again");
  };
  if (!in) throw changed();
  if (is_json_lines(path)) text = json_text(text, path.string());
  if (hash_of(text) != document.hash) throw changed();
  return text;
}

Corpus index_corpus(const std::vector<fs::path>& files,
                    const std::function<void(int64_t)>& on_bytes) {
  return Indexer(files, on_bytes).run();
}

}  // namespace autoresearch
