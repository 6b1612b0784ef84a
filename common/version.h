// Where a program lies, and what it was built from.
#pragma once

#include <fstream>
#include <string>

#include "common/files.h"

namespace autoresearch {

// The folder of the running program: the build folder, with the other programs in it, or a kit.
inline fs::path program_folder() { return fs::read_symlink("/proc/self/exe").parent_path(); }

// For --version. The commit stands in a file of the build folder (cmake/version.cmake) and not in
// the program: so a commit links nothing anew, and the same programs stay the same kit.
inline std::string version_of(const std::string& program) {
  std::string commit = "of unknown version";
  std::ifstream file(program_folder() / "version");
  std::getline(file, commit);  // leaves it if there is no such file
  return program + " " + commit;
}

}  // namespace autoresearch
