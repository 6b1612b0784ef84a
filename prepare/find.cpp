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
#include "prepare/form.h"

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
const Names kDataExtensions = {".jsonl", ".ndjson", ".parquet"};
const Names kHeaderExtensions = {".h", ".hh", ".hpp", ".hxx", ".inl", ".ipp", ".tcc", ".cuh"};

[[noreturn]] void fail(const fs::path& path, const std::error_code& error) {
  throw Error("can't read " + path.string() + ": " + error.message() +
              "; check the path given to --source");
}

Look look_at_file(const fs::path& path) {
  Findings ignored;  // whoever reads the file finds the same
  return open_file(path, ignored).look;
}

// Whether a file that may be anything holds rows or lines with the wanted column.
bool has_column(const fs::path& path, const std::string& column) {
  const Form form = look_at_file(path).form;
  if (form == Form::kText) return false;
  std::string document;
  const ReadOptions options{.column = column};
  return open_documents(path, options)->next(document);
}

// What a file in a folder is left out as; empty: it is taken. Its name says what it is for: text
// and source code are known by it, and so is what must be data. What is behind any other name is
// data only if that shows, and has the column.
std::string reason_to_leave_out(const fs::path& path, const std::string& column) {
  const fs::path name = plain_name(path);
  const std::string extension = lower_extension(name);
  if (kDataExtensions.contains(lower_extension(path)) || kDataExtensions.contains(extension)) {
    return extension == ".parquet" && name != path ? ".parquet in another file" : "";
  }
  if (kTextExtensions.contains(extension) || kTextNames.contains(name.filename().string())) {
    const Look look = look_at_file(path);
    return look.kind.empty() ? "" : look.kind + " " + extension;
  }
  try {
    if (has_column(path, column)) return "";
  } catch (const Error&) {  // of a kind that nobody has asked for
  }
  const std::string shown = lower_extension(path);
  return shown.empty() ? "without extension" : shown;
}

// Regular files below `folder` that `wanted` takes, in the order of the file system. Links to
// folders are not followed, so a loop of links can't trap it; `passed_over` hears of what is no
// file to look at.
template <typename Wanted, typename PassedOver>
void search(const fs::path& folder, fs::directory_options options, const Wanted& wanted,
            const PassedOver& passed_over, std::vector<fs::path>& found) {
  std::error_code error;
  fs::recursive_directory_iterator entry(folder, options, error);
  if (error) fail(folder, error);
  while (entry != fs::recursive_directory_iterator()) {
    const fs::path path = entry->path();
    std::error_code ignored;  // a dangling link is no file
    const bool is_link = entry->is_symlink(ignored);
    const bool hidden = path.filename().string()[0] == '.';
    if (entry->is_directory(ignored)) {
      if (hidden) entry.disable_recursion_pending();
      if (hidden || is_link) passed_over(hidden ? "hidden folder" : "link to a folder");
    } else if (!entry->is_regular_file(ignored)) {
      passed_over(is_link ? "link to nothing" : "pipe or device");
    } else if (hidden) {  // an editor's or a file system's: "._a.jsonl" of an archive from a Mac
      passed_over("hidden file");
    } else if (wanted(path)) {
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

std::vector<fs::path> find_files(const std::vector<fs::path>& paths, const ReadOptions& options) {
  std::vector<fs::path> found;
  const auto leave_out = [&](const std::string& kind) { options.findings->leave_out(kind); };
  const auto wanted = [&](const fs::path& path) {
    const std::string reason = reason_to_leave_out(path, options.column);
    if (!reason.empty()) leave_out(reason);
    return reason.empty();
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
      search(path, fs::directory_options::none, wanted, leave_out, found);
      continue;
    }
    // A file that was named is taken whatever its extension, so it must not be an unfit one.
    check(fs::is_regular_file(status),
          path.string() +
              " is neither a file nor a folder; if it is a pipe, give it as stdin: --source -");
    const Look look = look_at_file(path);
    check(look.unfit.empty(), path.string() + " " + look.unfit);
    found.push_back(path);
  }
  sort_unique(found);
  drop_other_names(found);
  check(!found.empty(), "no text, source code, .jsonl or .parquet in " + paths[0].string() +
                            (paths.size() > 1 ? " and the other paths" : "") +
                            options.findings->left_out(" (left out: ", ")") +
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
        [](const char*) {}, found);
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
    if (!look_at_file(header.path).unfit.empty() ||
        !seen.insert(sha256_of_file(header.path)).second) {
      continue;
    }
    total += header.bytes;
    chosen.push_back(header.path);
  }
  check(!chosen.empty(), "no C or C++ headers on this machine for the demo; use --source PATH");
  return chosen;
}

}  // namespace autoresearch
