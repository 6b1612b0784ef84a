#include "common/folder.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <random>
#include <vector>

#include "common/descriptor.h"
#include "common/log.h"

namespace autoresearch {
namespace {

constexpr int kOpenFolder = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;

// A name that says nothing and that nobody could have guessed.
std::string random_name() {
  std::random_device random;
  return fmt::format(".{}{}", random(), random());
}

// Opens a folder by name, whatever its permissions; none if it is no folder.
Descriptor open_folder(int parent, const std::string& name) {
  struct stat status = {};
  if (fstatat(parent, name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) return {};
  if (!S_ISDIR(status.st_mode)) return {};
  fchmodat(parent, name.c_str(), S_IRWXU, 0);
  return Descriptor(openat(parent, name.c_str(), kOpenFolder));
}

// The names in an open folder, which is closed.
std::vector<std::string> names_in(int folder) {
  std::vector<std::string> names;
  DIR* listing = fdopendir(folder);
  if (listing == nullptr) return names;
  while (const dirent* entry = readdir(listing))
    if (std::strcmp(entry->d_name, ".") != 0 && std::strcmp(entry->d_name, "..") != 0)
      names.emplace_back(entry->d_name);
  closedir(listing);
  return names;
}

// Removes what is in the open folder `top`. A folder inside another is first moved up into `top`:
// so no path grows long, and neither stack nor descriptors run out, however deep they were nested.
void empty_folder(int top) {
  const std::string mark = random_name() + "-";
  std::vector<std::string> folders;
  for (const std::string& name : names_in(dup(top)))
    if (unlinkat(top, name.c_str(), 0) != 0 && errno == EISDIR) folders.push_back(name);
  for (size_t i = 0; i < folders.size(); ++i) {
    const Descriptor folder = open_folder(top, folders[i]);
    if (folder < 0) continue;
    for (const std::string& name : names_in(dup(folder))) {
      if (unlinkat(folder, name.c_str(), 0) == 0 || errno != EISDIR) continue;
      const std::string moved = mark + std::to_string(folders.size());
      fchmodat(folder, name.c_str(), S_IRWXU, 0);  // to be moved, a folder must be writable
      if (renameat(folder, name.c_str(), top, moved.c_str()) == 0) folders.push_back(moved);
    }
    unlinkat(top, folders[i].c_str(), AT_REMOVEDIR);
  }
}

}  // namespace

bool remove_whatever(const fs::path& path) {
  if (const Descriptor folder = open_folder(AT_FDCWD, path); folder >= 0) empty_folder(folder);
  if (unlink(path.c_str()) != 0) rmdir(path.c_str());
  struct stat status = {};
  return lstat(path.c_str(), &status) != 0 && errno == ENOENT;
}

void remove_or_warn(const fs::path& path) {
  if (remove_whatever(path)) return;
  log_warning("can't remove all of a folder or file; type: rm -rf '" + path.string() + "'");
}

fs::path fresh_folder(const fs::path& path) {
  if (!remove_whatever(path)) fs::rename(path, path.parent_path() / random_name());
  fs::create_directories(path);
  return path;
}

std::optional<int64_t> take_file(const fs::path& folder, const std::string& name, int64_t max_bytes,
                                 const fs::path& to) {
  const Descriptor from = open_folder(AT_FDCWD, folder);
  if (from < 0) return std::nullopt;
  struct stat status = {};
  std::optional<int64_t> size;
  if (fstatat(from, name.c_str(), &status, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(status.st_mode)) {
    size = status.st_size;
    // Readable for us, whatever the candidate made of its permissions; shares have none to change.
    fchmodat(from, name.c_str(), (status.st_mode & 0777) | 0600, 0);
    const bool taken = size <= max_bytes && renameat(from, name.c_str(), AT_FDCWD, to.c_str()) == 0;
    if (!taken && size <= max_bytes) size.reset();
  }
  return size;
}

}  // namespace autoresearch
