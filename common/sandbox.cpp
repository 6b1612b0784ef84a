#include "common/sandbox.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <fstream>
#include <map>
#include <sstream>
#include <utility>

#include "common/error.h"
#include "common/landlock.h"
#include "common/nvidia.h"
#include "common/process.h"
#include "common/seccomp.h"

namespace autoresearch {
namespace {

using Args = std::vector<std::string>;

// Both live in memory, which no process's resident size shows, so they get limits of their own.
constexpr const char* kTmpBytes = "4294967296";
constexpr const char* kShmBytes = "1073741824";

// What programs need of the system, to be read; not all of it is on every one.
constexpr const char* kPrograms[] = {"/usr",   "/bin",   "/sbin",  "/lib",
                                     "/lib32", "/lib64", "/libx32"};
constexpr const char* kSettings[] = {"/etc/alternatives", "/etc/ld.so.cache", "/etc/ld.so.conf",
                                     "/etc/ld.so.conf.d", "/etc/nsswitch.conf"};

std::atomic<bool> landlocked = false;

void append(Args& args, std::initializer_list<std::string> more) {
  args.insert(args.end(), more.begin(), more.end());
}

// /bin, /lib and the like are links into /usr on most systems and folders on the others.
void add_system(Args& args) {
  for (const char* name : kPrograms) {
    if (fs::is_symlink(name)) {
      append(args, {"--symlink", fs::read_symlink(name).string(), name});
    } else {
      append(args, {"--ro-bind-try", name, name});
    }
  }
  for (const char* name : kSettings) append(args, {"--ro-bind-try", name, name});
}

std::vector<std::string> gpu_nodes() {
  std::vector<std::string> nodes;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator("/dev", ignored)) {
    std::string path = entry.path().string();
    bool wanted = path.starts_with("/dev/nvidia") || path == "/dev/dxg";  // dxg: a GPU under WSL
    if (wanted) nodes.push_back(path);
  }
  return nodes;
}

// How many processors there are is read here by libtorch; CUDA looks for the card's place on its
// bus.
void add_devices(Args& args, bool gpu) {
  // bwrap leaves /proc/sys to the ordinary permissions, by which root may write core_pattern even
  // without any capability: the kernel would then run a program outside the sandbox (tried).
  append(args, {"--proc", "/proc", "--remount-ro", "/proc", "--dev", "/dev"});
  append(args, {"--size", kShmBytes, "--tmpfs", "/dev/shm"});
  std::string sys = gpu ? "/sys" : "/sys/devices/system";
  append(args, {"--ro-bind-try", sys, sys});
  if (gpu)
    for (const std::string& node : gpu_nodes()) append(args, {"--dev-bind-try", node, node});
  append(args, {"--remount-ro", "/dev"});  // the same kind of memory as /tmp
}

// Folders of the loader's search path. One that holds the user's home is not the loader's.
std::vector<fs::path> library_folders() {
  std::vector<fs::path> result;
  const char* list = std::getenv("LD_LIBRARY_PATH");
  const char* home_name = std::getenv("HOME");
  fs::path home = home_name ? home_name : "/root";
  std::istringstream folders(list ? list : "");
  for (std::string name; std::getline(folders, name, ':');) {
    fs::path folder = fs::path(name).lexically_normal();
    std::string inside = (folder / "").string();
    bool holds_home = (home / "").lexically_normal().string().starts_with(inside);
    std::error_code ignored;
    if (folder.is_absolute() && !holds_home && fs::is_directory(folder, ignored)) {
      result.push_back(folder);
    }
  }
  return result;
}

// The same place by its given name and by its real one: programs remember both (rpath).
void name(std::map<fs::path, bool>& places, const fs::path& path, bool writable) {
  std::error_code missing;
  fs::path real = fs::canonical(path, missing);
  check(!missing, "the sandbox needs " + path.string() + ", which does not exist");
  fs::path given = fs::absolute(path).lexically_normal();
  if (!given.has_filename()) given = given.parent_path();
  places[given] = writable;
  places[real] = writable;
}

// Places beside the system, and whether they are writable. In the order of their names, a folder
// always comes before what lies in it.
std::map<fs::path, bool> places_of(const View& view) {
  std::map<fs::path, bool> places;
  for (const auto& folder : library_folders()) name(places, folder, false);
  for (const auto& path : view.read_only) name(places, path, false);
  if (!view.writable.empty()) name(places, view.writable, true);
  return places;
}

std::string folder_of(const View& view) {
  return view.writable.empty() ? "/" : fs::absolute(view.writable).string();
}

std::string last_line(const std::string& text) {
  std::istringstream lines(text);
  std::string last;
  for (std::string line; std::getline(lines, line);) {
    if (!line.empty()) last = line;
  }
  return last;
}

std::string first_word_of(const fs::path& path) {
  std::string word;
  std::ifstream(path) >> word;
  return word;
}

Command in_bubblewrap(Command command, const View& view) {
  // A session of its own takes the sandbox out of bwrap's process group, which a signal to the
  // whole group would reach from inside.
  Args args = {"bwrap",         "--unshare-all",
               "--new-session", "--die-with-parent",
               "--cap-drop",    "ALL",
               "--hostname",    "autoresearch",
               "--info-fd",     std::to_string(kReportFd),
               "--seccomp",     std::to_string(kFilterFd)};
  add_system(args);
  add_devices(args, view.gpu);
  append(args, {"--size", kTmpBytes, "--tmpfs", "/tmp"});  // before binds that lie below /tmp
  for (const auto& [path, writable] : places_of(view))
    append(args, {writable ? "--bind" : "--ro-bind", path, path});
  append(args, {"--remount-ro", "/", "--chdir", folder_of(view), "--"});
  args.insert(args.end(), command.argv.begin(), command.argv.end());
  command.argv = std::move(args);
  command.cwd.clear();
  command.filter = seccomp_filter({.may_mark_files = view.builds});
  return command;
}

// /proc tells of all processes, so that of it no more is open than computing needs; CUDA's driver
// wants its own part and its own maps, whose place nobody knows before it runs.
std::vector<Opening> openings_of(const View& view) {
  std::vector<Opening> openings;
  for (const char* path : kPrograms) openings.push_back({path});
  for (const char* path : kSettings) openings.push_back({path});
  openings.push_back({view.gpu ? "/proc" : "/proc/cpuinfo"});
  openings.push_back({view.gpu ? "/sys" : "/sys/devices/system"});
  for (const char* node : {"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"})
    openings.push_back({node, Access::kDevice});
  if (view.gpu)
    for (const std::string& node : gpu_nodes()) openings.push_back({node, Access::kDevice});
  for (const auto& [path, writable] : places_of(view))
    openings.push_back({path, writable ? Access::kWrite : Access::kRead});
  return openings;
}

Command behind_landlock(Command command, const View& view) {
  const int abi = landlock_abi();
  command.fence = std::make_shared<Descriptor>(make_fence(openings_of(view), abi));
  command.filter = seccomp_filter({.may_mark_files = view.builds,
                                   .among_others = true,
                                   .may_signal = closed_by(abi).scopes != 0});
  command.cwd = folder_of(view);
  std::replace(command.env.begin(), command.env.end(), std::string("TMPDIR=/tmp"),
               "TMPDIR=" + folder_of(view));
  command.dies_with_caller = true;  // as bwrap does
  adopt_orphans();                  // which no init of its own would
  return command;
}

// How `true` ends in a sandbox of the kind that is chosen.
Exit try_out() {
  return run(confine({.argv = {"/bin/true"}, .env = scrubbed_environment(), .limit = 20}, {}));
}

std::optional<std::string> landlock_problem() {
  if (landlock_abi() == 0)
    return "this kernel has no Landlock (Linux 5.13 or newer, with landlock among its lsm=); use "
           "--sandbox off";
  const Exit exit = try_out();
  if (exit.code == 0) return std::nullopt;
  return "no sandbox of Landlock can be made here (" + last_line(exit.output) +
         "); use --sandbox off";
}

std::optional<std::string> bubblewrap_problem() {
  const std::string otherwise =
      landlock_abi() > 0 ? "or use --sandbox landlock, which is weaker (docs/protection.md), or "
                           "--sandbox off"
                         : "or use --sandbox off";
  const Exit exit = try_out();
  if (exit.code == 0) return std::nullopt;
  if (exit.code == 127)
    return "bubblewrap is not installed; type: apt-get install bubblewrap, " + otherwise;
  const std::string error = last_line(exit.output);
  return "bubblewrap can't build its sandbox here (" + error + "); type: " + remedy(error) + ", " +
         otherwise;
}

}  // namespace

Command confine(Command command, const View& view) {
  return landlocked ? behind_landlock(std::move(command), view)
                    : in_bubblewrap(std::move(command), view);
}

std::optional<std::string> choose_sandbox(const std::string& wanted) {
  landlocked = wanted == "landlock";
  if (landlocked) return landlock_problem();
  const auto problem = bubblewrap_problem();
  if (!problem || wanted != "try") return problem;
  landlocked = true;
  if (!landlock_problem()) return std::nullopt;
  landlocked = false;
  return problem;
}

std::optional<std::string> sandbox_problem() { return choose_sandbox("bubblewrap"); }

bool landlock_is_chosen() { return landlocked; }

std::string sandbox_in_words() {
  return landlocked ? "Landlock: files and network closed, weaker than bubblewrap "
                      "(docs/protection.md)"
                    : "bubblewrap: read-only system, no network";
}

std::string remedy(const std::string& error, const fs::path& root) {
  // A switch that forbids user namespaces.
  for (const auto& [name, forbids, allows] :
       {std::tuple("kernel/apparmor_restrict_unprivileged_userns", "1", "0"),
        std::tuple("kernel/unprivileged_userns_clone", "0", "1"),
        std::tuple("user/max_user_namespaces", "0", "10000")})
    if (first_word_of(root / "proc/sys" / name) == forbids) {
      std::string dotted = name;
      std::replace(dotted.begin(), dotted.end(), '/', '.');
      return "sudo sysctl " + dotted + "=" + allows;
    }
  // A container whose /proc has covered parts may not mount another one.
  const std::string least = "--security-opt systempaths=unconfined";
  if (error.find("mount proc") != std::string::npos)
    return "docker run " + least + " ... (in a container)";
  return "docker run --security-opt seccomp=unconfined " + least + " ... (in a container)";
}

std::optional<std::string> make_nvidia_uvm(const fs::path& root) {
  if (!lacks_nvidia_uvm(root)) return std::nullopt;
  // Comes with the driver and belongs to root with the setuid bit, so that CUDA itself can call it.
  run({.argv = {"nvidia-modprobe", "-u", "-c=0"}, .env = scrubbed_environment(), .limit = 20});
  if (!lacks_nvidia_uvm(root)) return std::nullopt;
  return "/dev/nvidia-uvm is missing, without which CUDA does not start in the sandbox; type: "
         "sudo nvidia-modprobe -u -c=0";
}

}  // namespace autoresearch
