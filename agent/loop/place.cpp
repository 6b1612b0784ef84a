#include "agent/loop/place.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <limits>
#include <sstream>

#include "common/error.h"
#include "common/folder.h"
#include "common/run_folder.h"
#include "common/text.h"

namespace autoresearch {
namespace {

constexpr int64_t kKeeps = 10;                // models that a night keeps, as a guess
constexpr int64_t kModelOnGpu = 200'000'000;  // bytes of upstream's model, sealed
constexpr int64_t kModelOnCpu = 10'000'000;   // the sizes that a CPU trains in minutes
constexpr int64_t kWork = 250'000'000;        // one attempt's files; prompts and logs of a night
constexpr int64_t kFiles = 10'000;            // of a night: some twenty an experiment

fs::path nearest_folder(const fs::path& path) {
  std::error_code ignored;
  fs::path folder = fs::absolute(path);
  while (!fs::exists(folder, ignored) && folder.has_relative_path()) folder = folder.parent_path();
  return folder;
}

}  // namespace

std::optional<std::string> writing_problem(const fs::path& folder, const std::string& fix) {
  std::string name = nearest_folder(folder) / ".autoresearch-XXXXXX";
  const int fd = mkstemp(name.data());
  if (fd < 0)
    return "can't write to " + folder.string() + " (" + std::strerror(errno) + "); " + fix;
  close(fd);
  unlink(name.c_str());
  return std::nullopt;
}

Room room_of(const fs::path& folder) {
  struct statvfs status = {};
  const fs::path there = nearest_folder(folder);
  check(statvfs(there.c_str(), &status) == 0,
        "can't see how much is free in " + there.string() + ": " + std::strerror(errno));
  Room room{.bytes = static_cast<int64_t>(status.f_bavail * status.f_frsize),
            .files = std::numeric_limits<int64_t>::max()};
  if (status.f_files > 0) room.files = static_cast<int64_t>(status.f_favail);
  return room;
}

Room room_needed(int64_t model_bytes, bool gpu) {
  if (model_bytes <= 0) model_bytes = gpu ? kModelOnGpu : kModelOnCpu;
  return {.bytes = kWork + kKeeps * model_bytes, .files = kFiles};
}

std::optional<std::string> room_problem(const fs::path& folder, const Room& need,
                                        const Room& have) {
  const std::string fix = "; free some space, or give --data another folder";
  if (have.bytes < need.bytes)
    return fmt::format("a night needs about {} in {}, where {} are free{}", human_bytes(need.bytes),
                       folder.string(), human_bytes(have.bytes), fix);
  if (have.files < need.files)
    return fmt::format("a night makes about {} files in {}, whose disk has room for {}{}",
                       need.files, folder.string(), have.files, fix);
  return std::nullopt;
}

std::optional<std::string> library_problem(const std::string& search_path,
                                           const std::vector<fs::path>& system,
                                           const std::vector<fs::path>& rpath) {
  constexpr std::array<std::string_view, 10> kNeeded = {
      "libstdc++.so", "libgcc_s.so", "libgomp.so", "libcrypto.so", "libssl.so",
      "libcurl.so",   "libz.so",     "libfmt.so",  "libspdlog.so", "libarrow.so"};
  std::error_code ignored;
  const auto harmless = [&](const fs::path& file) {
    const auto same = [&](const fs::path& folder) {
      return fs::equivalent(file, folder / file.filename(), ignored);
    };
    const auto comes_first = [&](const fs::path& folder) {
      return fs::exists(folder / file.filename(), ignored);
    };
    return std::any_of(system.begin(), system.end(), same) ||
           std::any_of(rpath.begin(), rpath.end(), comes_first);
  };
  std::vector<std::string> found;
  std::istringstream folders(search_path);
  for (std::string folder; std::getline(folders, folder, ':');) {
    for (const auto& file : fs::directory_iterator(folder, ignored)) {
      const std::string name = file.path().filename();
      if (std::any_of(kNeeded.begin(), kNeeded.end(),
                      [&](std::string_view needed) { return name.starts_with(needed); }) &&
          !harmless(file.path()))
        found.push_back(file.path());
    }
  }
  if (found.empty()) return std::nullopt;
  std::sort(found.begin(), found.end());
  const size_t others = found.size() - 1;
  return "LD_LIBRARY_PATH puts " + found[0] +
         (others > 0 ? fmt::format(" and {} more", others) : "") +
         " before the libraries that the programs were built with; if one does not start or "
         "crashes, type: unset LD_LIBRARY_PATH";
}

std::vector<fs::path> system_libraries() {
  std::vector<fs::path> folders = {"/usr/lib64", "/lib64"};
  std::error_code ignored;
  for (const char* root : {"/usr/lib", "/lib"}) {
    folders.emplace_back(root);
    for (const auto& entry : fs::directory_iterator(root, ignored))
      if (entry.path().filename().string().find("-linux-") != std::string::npos)
        folders.push_back(entry.path());
  }
  return folders;
}

std::string file_system_type(const std::string& mountinfo, dev_t device) {
  const std::string wanted = fmt::format("{}:{}", major(device), minor(device));
  for (const std::string& line : split_lines(mountinfo)) {  // "36 35 98:0 / /mnt rw - ext4 /dev/x"
    const size_t rest = line.find(" - ");
    std::string id, parent, number, type;
    std::istringstream(line) >> id >> parent >> number;
    if (number != wanted || rest == std::string::npos) continue;
    std::istringstream(line.substr(rest + 3)) >> type;
    return type;
  }
  return "";
}

std::optional<std::string> link_problem(const fs::path& checkout, const fs::path& run) {
  const fs::path link = checkout / (".autoresearch-link-" + std::to_string(getpid()));
  if (symlink("nowhere", link.c_str()) == 0) {
    unlink(link.c_str());
    return std::nullopt;
  }
  const std::string reason = std::strerror(errno);
  struct stat status = {};
  const bool there = stat(checkout.c_str(), &status) == 0;
  const std::string type =
      there ? file_system_type(read_file("/proc/self/mountinfo"), status.st_dev) : "";
  return "no symbolic link can be made in " + checkout.string() + " (" + reason +
         (type.empty() ? "" : "; its file system is " + type) +
         "), so results.tsv and runs will not stand there; the run's are in " + run.string();
}

std::vector<std::string> other_runs(const std::vector<RunSummary>& runs, const std::string& own_tag,
                                    const std::string& machine) {
  std::vector<std::string> warnings;
  for (const RunSummary& run : runs) {
    if (run.holder.empty() || run.tag == own_tag || run.paused) continue;
    if (!run.machine.empty() && run.machine != machine) continue;
    warnings.push_back("run " + run.tag + " is running on this machine (process " + run.holder +
                       "), and measurements of both would suffer; pause it: build/agent pause "
                       "--tag " +
                       run.tag);
  }
  return warnings;
}

std::string repository_note(const std::string& reason, const fs::path& checkout,
                            const fs::path& repository) {
  const std::string where = "the run's commits go to " + repository.string();
  if (has_any(reason, {"not a git repository"}))
    return where + ", since " + checkout.string() +
           " is in no git repository; to have them there, type git init first";
  return where + ": " + one_line(reason, 200);
}

FreshFolder::FreshFolder(const fs::path& path) : path_(path) {
  fs::create_directories(path.parent_path());
  is_new_ = fs::create_directory(path);
}

FreshFolder::~FreshFolder() {
  if (!is_new_) return;
  try {
    const FileLock mine(RunFolder{path_}.lock());
    remove_whatever(path_);
  } catch (const std::exception&) {  // another agent is in it, or nobody can tell: it stays
  }
}

void set_paused(const fs::path& run_dir, bool paused) {
  if (paused) {
    write_file(RunFolder{run_dir}.paused(), "");
  } else {
    std::error_code error;
    fs::remove(RunFolder{run_dir}.paused(), error);
    check(!error, "can't remove " + RunFolder{run_dir}.paused().string() + ": " + error.message());
  }
}

bool is_paused(const fs::path& run_dir) {
  std::error_code ignored;
  return fs::exists(RunFolder{run_dir}.paused(), ignored);
}

}  // namespace autoresearch
