// The sandbox for model-written code. There are two kinds, neither of which needs root.
//
// Bubblewrap (https://github.com/containers/bubblewrap): read-only system (/usr, the loader's part
// of /etc, the folders of LD_LIBRARY_PATH, what the caller names), a fresh /tmp, /dev/shm and
// /proc, no network, no other processes, no key, one writable folder, and of the kernel's calls
// those that a program needs (common/seccomp.h). With a GPU the NVIDIA device nodes and /sys are
// there too. Everything else of the machine, the user's home included, is not there. All
// processes inside end with the first one, daemons included.
//
// Landlock (common/landlock.h), for containers that can't make namespaces: the same files can be
// read, the one folder alone be written to (temporary files too), no socket be made, and nothing
// leaves its process group, which ends as a whole. But it is the same machine: docs/protection.md
// says what is weaker.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "common/files.h"
#include "common/process.h"

namespace autoresearch {

struct View {
  std::vector<fs::path> read_only = {};  // beside the system; missing ones are an Error
  fs::path writable = {};                // also the working directory; empty: there is none
  bool gpu = false;
  bool builds = false;  // for a compiler, which marks its output as executable
};

// `command`, whose environment is scrubbed_environment(), in a sandbox of its own. Paths are the
// same inside and outside; the working directory is the writable folder.
Command confine(Command command, const View& view);

// Settles which kind confine() makes: once, before the first child. `wanted`: "landlock"; "try",
// the first that works; or another word for bubblewrap, which it also is if nobody chose. Why that
// can't work here (not installed, user namespaces forbidden, an old kernel) is returned in one line
// with what to type; nothing if it does, found out by running `true` in a real sandbox.
std::optional<std::string> choose_sandbox(const std::string& wanted);
std::optional<std::string> sandbox_problem();  // choose_sandbox("bubblewrap")
bool landlock_is_chosen();
std::string sandbox_in_words();  // that which is chosen, in half a line

// What bubblewrap needs where it complained of `error`, as a command. Pure but for the switches of
// the kernel, which stand in `root`/proc/sys.
std::string remedy(const std::string& error, const fs::path& root = "/");

// CUDA inside a sandbox needs the driver's node /dev/nvidia-uvm, which nothing inside can make.
// Makes it if it is missing; if that fails, says so in one line with what to type.
std::optional<std::string> make_nvidia_uvm(const fs::path& root = "/");

}  // namespace autoresearch
