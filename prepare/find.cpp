#include "prepare/find.h"

#include <sys/stat.h>

#include <algorithm>
#include <set>
#include <string>
#include <string_view>
#include <tuple>
#include <unordered_set>
#include <utility>

#include "common/error.h"
#include "prepare/bytes.h"
#include "prepare/reader.h"

namespace autoresearch {
namespace {

constexpr int64_t kLargestDemoFile = 200'000;  // bytes; what is larger is mostly tables

using Names = std::unordered_set<std::string_view>;

const Names kTextExtensions = {
    ".txt",   ".md",    ".markdown", ".rst", ".tex", ".org",  ".adoc", ".c",    ".cc",   ".cpp",
    ".cxx",   ".c++",   ".h",        ".hh",  ".hpp", ".hxx",  ".inl",  ".ipp",  ".tcc",  ".cu",
    ".cuh",   ".m",     ".mm",       ".py",  ".pyi", ".pyx",  ".rs",   ".go",   ".java", ".kt",
    ".kts",   ".scala", ".cs",       ".fs",  ".js",  ".mjs",  ".jsx",  ".ts",   ".tsx",  ".css",
    ".scss",  ".html",  ".htm",      ".xml", ".yml", ".yaml", ".toml", ".ini",  ".cfg",  ".sh",
    ".bash",  ".zsh",   ".fish",     ".pl",  ".pm",  ".rb",   ".php",  ".lua",  ".r",    ".jl",
    ".hs",    ".ml",    ".mli",      ".ex",  ".exs", ".erl",  ".clj",  ".lisp", ".el",   ".scm",
    ".sql",   ".swift", ".dart",     ".zig", ".nim", ".v",    ".sv",   ".vhd",  ".s",    ".asm",
    ".f",     ".f90",   ".for",      ".pas", ".ada", ".adb",  ".ads",  ".d",    ".tcl",  ".vim",
    ".proto", ".cmake", ".mk",       ".bib", ".srt"};
const Names kTextNames = {"README",  "LICENSE", "COPYING",  "NEWS",       "ChangeLog",
                          "AUTHORS", "TODO",    "Makefile", "Dockerfile", "CHANGES"};
const Names kHeaderExtensions = {".h", ".hh", ".hpp", ".hxx", ".inl", ".ipp", ".tcc", ".cuh"};

// What a folder is searched for.
bool is_wanted_name(const fs::path& path) {
  const fs::path name = plain_name(path);
  return form_of(path) != Form::kText || kTextExtensions.contains(lower_extension(name)) ||
         kTextNames.contains(name.filename().string());
}

[[noreturn]] void fail(const fs::path& path, const std::error_code& error) {
  throw Error("can't read " + path.string() + ": " + error.message() +
              "; check the path given to --source");
}

// The start of a text; empty for other forms, whose readers say what is wrong with them.
std::string start_of_text(const fs::path& path) {
  if (form_of(path) != Form::kText) return "";
  const auto bytes = open_bytes(path);
  std::string start(kBinaryProbe, '\0');
  size_t size = 0, count = 1;
  while (count > 0 && size < start.size()) {
    count = bytes->read(start.data() + size, start.size() - size);
    size += count;
  }
  start.resize(size);
  return start;
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

// Leaves one name of each file: it may have been given as "a" and "./a", or have links.
void drop_other_names(std::vector<fs::path>& paths) {
  std::set<std::pair<dev_t, ino_t>> seen;
  std::erase_if(paths, [&](const fs::path& path) {
    struct stat status = {};
    return !is_stdin(path) && ::stat(path.c_str(), &status) == 0 &&
           !seen.emplace(status.st_dev, status.st_ino).second;
  });
}

}  // namespace

std::vector<fs::path> find_files(const std::vector<fs::path>& paths) {
  std::vector<fs::path> found;
  const auto wanted = [](const fs::path& path) {
    return is_wanted_name(path) && !is_binary(start_of_text(path));
  };
  for (const fs::path& path : paths) {
    if (is_stdin(path)) {
      found.push_back(path);
      continue;
    }
    std::error_code error;
    const fs::file_status status = fs::status(path, error);
    if (!fs::exists(status)) fail(path, error);
    if (fs::is_directory(status)) {
      search(path, fs::directory_options::none, wanted, found);
      continue;
    }
    check(fs::is_regular_file(status),
          path.string() +
              " is neither a file nor a folder; if it is a pipe, give it as stdin: --source -");
    check_is_text(path, start_of_text(path));
    found.push_back(path);
  }
  sort_unique(found);
  drop_other_names(found);
  check(!found.empty(), "no text, source code, .jsonl or .parquet in " + paths[0].string() +
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
        [](const fs::path& path) { return kHeaderExtensions.contains(lower_extension(path)); },
        found);
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
    if (is_binary(start_of_text(header.path)) || !seen.insert(sha256_of_file(header.path)).second)
      continue;
    total += header.bytes;
    chosen.push_back(header.path);
  }
  check(!chosen.empty(), "no C or C++ headers on this machine for the demo; use --source PATH");
  return chosen;
}

}  // namespace autoresearch
