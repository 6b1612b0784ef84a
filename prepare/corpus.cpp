#include "prepare/corpus.h"

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string_view>
#include <unordered_set>

#include "common/error.h"

namespace autoresearch {
namespace {

constexpr size_t kBinaryProbe = 8192;          // a NUL this early makes a file binary, as for git
constexpr int64_t kSmallestPart = 4 << 10;     // bytes; files up to here are never cut
constexpr int64_t kLargestDemoFile = 200'000;  // bytes; what is larger is mostly tables

using Names = std::unordered_set<std::string_view>;

const Names kTextExtensions = {
    ".txt", ".md",    ".markdown", ".rst",  ".tex", ".org", ".adoc", ".jsonl", ".c",    ".cc",
    ".cpp", ".cxx",   ".c++",      ".h",    ".hh",  ".hpp", ".hxx",  ".inl",   ".ipp",  ".tcc",
    ".cu",  ".cuh",   ".m",        ".mm",   ".py",  ".pyi", ".pyx",  ".rs",    ".go",   ".java",
    ".kt",  ".kts",   ".scala",    ".cs",   ".fs",  ".js",  ".mjs",  ".jsx",   ".ts",   ".tsx",
    ".css", ".scss",  ".html",     ".htm",  ".xml", ".yml", ".yaml", ".toml",  ".ini",  ".cfg",
    ".sh",  ".bash",  ".zsh",      ".fish", ".pl",  ".pm",  ".rb",   ".php",   ".lua",  ".r",
    ".jl",  ".hs",    ".ml",       ".mli",  ".ex",  ".exs", ".erl",  ".clj",   ".lisp", ".el",
    ".scm", ".sql",   ".swift",    ".dart", ".zig", ".nim", ".v",    ".sv",    ".vhd",  ".s",
    ".asm", ".f",     ".f90",      ".for",  ".pas", ".ada", ".adb",  ".ads",   ".d",    ".tcl",
    ".vim", ".proto", ".cmake",    ".mk",   ".bib", ".srt"};
const Names kTextNames = {"README",  "LICENSE", "COPYING",  "NEWS",       "ChangeLog",
                          "AUTHORS", "TODO",    "Makefile", "Dockerfile", "CHANGES"};
const Names kHeaderExtensions = {".h", ".hh", ".hpp", ".hxx", ".inl", ".ipp", ".tcc", ".cuh"};

std::string extension(const fs::path& path) {
  std::string extension = path.extension().string();
  for (char& c : extension) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return extension;
}

bool is_text_name(const fs::path& path) {
  return kTextExtensions.contains(extension(path)) || kTextNames.contains(path.filename().string());
}

[[noreturn]] void fail(const fs::path& path, const std::error_code& error) {
  throw Error("can't read " + path.string() + ": " + error.message() +
              "; check the path given to --source");
}

bool is_binary(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) fail(path, {errno, std::generic_category()});
  char probe[kBinaryProbe];
  in.read(probe, sizeof probe);
  return std::find(probe, probe + in.gcount(), '\0') != probe + in.gcount();
}

// Regular files below `folder` that `wanted` takes, in the order of the file system. Links to
// folders are not followed, so a loop of links can't trap it.
template <typename Wanted>
void search(const fs::path& folder, fs::directory_options options, const Wanted& wanted,
            std::vector<fs::path>& found) {
  std::error_code error;
  fs::recursive_directory_iterator entry(folder, options, error);
  if (error) fail(folder, error);
  while (entry != fs::recursive_directory_iterator()) {
    const fs::path path = entry->path();
    std::error_code ignored;  // a dangling link is no file
    if (entry->is_directory(ignored) && path.filename().string()[0] == '.') {
      entry.disable_recursion_pending();
    } else if (entry->is_regular_file(ignored) && wanted(path)) {
      found.push_back(path);
    }
    entry.increment(error);
    if (error) fail(path, error);
  }
}

void sort_unique(std::vector<fs::path>& paths) {
  std::sort(paths.begin(), paths.end(),
            [](const fs::path& a, const fs::path& b) { return a.native() < b.native(); });
  paths.erase(std::unique(paths.begin(), paths.end()), paths.end());
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

std::vector<fs::path> find_files(const std::vector<fs::path>& paths) {
  std::vector<fs::path> found;
  const auto wanted = [](const fs::path& path) { return is_text_name(path) && !is_binary(path); };
  for (const fs::path& path : paths) {
    std::error_code error;
    const fs::file_status status = fs::status(path, error);
    if (!fs::exists(status)) fail(path, error);
    if (fs::is_directory(status)) {
      search(path, fs::directory_options::none, wanted, found);
      continue;
    }
    check(fs::is_regular_file(status), path.string() + " is neither a file nor a folder");
    check(!is_binary(path), path.string() + " is a binary file; give --source text files, " +
                                ".jsonl files or folders");
    found.push_back(path);
  }
  sort_unique(found);
  check(!found.empty(), "no text or source code in " + paths[0].string() +
                            (paths.size() > 1 ? " and the other paths" : "") +
                            "; name files to take them whatever their extension");
  return found;
}

std::vector<fs::path> find_demo_files(const std::vector<fs::path>& roots, int64_t max_bytes) {
  struct Header {
    std::string key;
    fs::path path;
    int64_t bytes;
  };
  std::vector<Header> headers;
  for (const fs::path& root : roots) {
    if (!fs::is_directory(root)) continue;
    std::vector<fs::path> found;
    search(
        root, fs::directory_options::skip_permission_denied,
        [](const fs::path& path) { return kHeaderExtensions.contains(extension(path)); }, found);
    for (const fs::path& path : found) {
      // The key knows nothing of where the root lies, so that other machines choose alike.
      const std::string name = path.lexically_relative(root).string();
      const int64_t bytes = static_cast<int64_t>(fs::file_size(path));
      if (name.starts_with("ATen/ops/") || bytes > kLargestDemoFile) continue;
      headers.push_back({sha256(name), path, bytes});
    }
  }
  std::sort(headers.begin(), headers.end(), [](const Header& a, const Header& b) {
    return std::tie(a.key, a.path) < std::tie(b.key, b.path);
  });
  std::vector<fs::path> chosen;
  std::unordered_set<std::string> seen;  // copies of a header are installed in many places
  int64_t total = 0;
  for (const Header& header : headers) {
    if (total + header.bytes > max_bytes) break;
    if (is_binary(header.path) || !seen.insert(sha256_of_file(header.path)).second) continue;
    total += header.bytes;
    chosen.push_back(header.path);
  }
  check(!chosen.empty(), "no C or C++ headers on this machine for the demo; use --source PATH");
  return chosen;
}

Corpus index_corpus(const std::vector<fs::path>& files,
                    const std::function<void(int64_t)>& on_bytes) {
  return Indexer(files, on_bytes).run();
}

}  // namespace autoresearch
