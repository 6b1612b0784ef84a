#include "common/sandbox.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <map>
#include <sstream>
#include <utility>

#include "common/error.h"
#include "common/nvidia.h"
#include "common/process.h"
#include "common/seccomp.h"

namespace autoresearch {
namespace {

using Args = std::vector<std::string>;

// Both live in memory, which no process's resident size shows, so they get limits of their own.
constexpr const char* kTmpBytes = "4294967296";
constexpr const char* kShmBytes = "1073741824";

void append(Args& args, std::initializer_list<std::string> more) {
  args.insert(args.end(), more.begin(), more.end());
}

// /bin, /lib and the like are links into /usr on most systems and folders on the others.
void add_system(Args& args) {
  append(args, {"--ro-bind", "/usr", "/usr"});
  for (const char* name : {"/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"}) {
    if (fs::is_symlink(name)) {
      append(args, {"--symlink", fs::read_symlink(name).string(), name});
    } else {
      append(args, {"--ro-bind-try", name, name});
    }
  }
  for (const char* name : {"/etc/alternatives", "/etc/ld.so.cache", "/etc/ld.so.conf",
                           "/etc/ld.so.conf.d", "/etc/nsswitch.conf"}) {
    append(args, {"--ro-bind-try", name, name});
  }
}

void add_gpu(Args& args) {
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator("/dev", ignored)) {
    std::string path = entry.path().string();
    bool wanted = path.starts_with("/dev/nvidia") || path == "/dev/dxg";  // dxg: a GPU under WSL
    if (wanted) append(args, {"--dev-bind-try", path, path});
  }
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
  if (gpu) add_gpu(args);
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
void bind(std::map<std::string, std::string>& binds, const fs::path& path, const char* how) {
  std::error_code missing;
  fs::path real = fs::canonical(path, missing);
  check(!missing, "the sandbox needs " + path.string() + ", which does not exist");
  fs::path given = fs::absolute(path).lexically_normal();
  if (!given.has_filename()) given = given.parent_path();
  binds[given.string()] = how;
  binds[real.string()] = how;
}

// In the order of their names, a folder always comes before what lies in it.
void add_binds(Args& args, const View& view) {
  std::map<std::string, std::string> binds;
  for (const auto& folder : library_folders()) bind(binds, folder, "--ro-bind");
  for (const auto& path : view.read_only) bind(binds, path, "--ro-bind");
  if (!view.writable.empty()) bind(binds, view.writable, "--bind");
  for (const auto& [path, how] : binds) append(args, {how, path, path});
}

std::string last_line(const std::string& text) {
  std::istringstream lines(text);
  std::string last;
  for (std::string line; std::getline(lines, line);) {
    if (!line.empty()) last = line;
  }
  return last;
}

std::string first_word_of(const char* path) {
  std::string word;
  std::ifstream(path) >> word;
  return word;
}

// The switch that most likely forbids user namespaces, as a command.
std::string remedy() {
  if (first_word_of("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1") {
    return "sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0";
  }
  if (first_word_of("/proc/sys/kernel/unprivileged_userns_clone") == "0") {
    return "sudo sysctl kernel.unprivileged_userns_clone=1";
  }
  if (first_word_of("/proc/sys/user/max_user_namespaces") == "0") {
    return "sudo sysctl user.max_user_namespaces=10000";
  }
  return "docker run --privileged ... (in a container)";
}

}  // namespace

Command confine(Command command, const View& view) {
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
  add_binds(args, view);
  append(args, {"--remount-ro", "/"});
  append(args, {"--chdir", view.writable.empty() ? "/" : fs::absolute(view.writable).string()});
  args.push_back("--");
  args.insert(args.end(), command.argv.begin(), command.argv.end());
  command.argv = std::move(args);
  command.cwd.clear();
  command.filter = seccomp_filter(view.builds);
  return command;
}

std::optional<std::string> sandbox_problem() {
  Exit exit = run(confine({.argv = {"/bin/true"}, .env = scrubbed_environment(), .limit = 20}, {}));
  if (exit.code == 0) return std::nullopt;
  if (exit.code == 127) {
    return "bubblewrap is not installed; type: apt-get install bubblewrap (or use --sandbox off)";
  }
  return "bubblewrap can't build its sandbox here (" + last_line(exit.output) +
         "); type: " + remedy() + ", or use --sandbox off";
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
