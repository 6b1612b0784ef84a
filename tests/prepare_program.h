// Runs the real `prepare` as a user would, in a folder of the test's own.
#pragma once

#include <sys/wait.h>

#include <algorithm>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/support.h"

namespace autoresearch {

struct Output {
  int code = -1;
  std::string out, err;
};

class PrepareProgramTest : public FolderTest {
 protected:
  // Runs `prepare <arguments>`, the arguments in the shell's syntax, with `input` on stdin.
  Output prepare(const std::string& arguments, const std::string& input = "",
                 const std::string& out = "stdout") const {
    write_file(dir_ / "stdin", input);
    return run_in_shell("'" PREPARE_PROGRAM "' " + arguments + " < stdin", out);
  }

  // The same as an argument of another program, and what follows it.
  Output prepare_under(const std::string& program, const std::string& arguments,
                       const std::string& then = "") const {
    return run_in_shell(program + "'" PREPARE_PROGRAM "' " + arguments + then, "stdout");
  }

  Output run_in_shell(const std::string& words, const std::string& out) const {
    write_file(dir_ / "stdout", "");
    const std::string command = "cd " + dir_.string() +
                                " && export AUTORESEARCH_DATA=" + data().string() + " && " + words +
                                " > " + out + " 2> stderr";
    const int status = std::system(command.c_str());
    return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status),
            read_file(dir_ / "stdout"), read_file(dir_ / "stderr")};
  }

  fs::path data() const { return dir_ / "data"; }

  // What is in the data folder, sorted.
  std::vector<std::string> entries() const {
    std::vector<std::string> names;
    if (!fs::exists(data())) return names;
    for (const auto& entry : fs::directory_iterator(data())) {
      names.push_back(entry.path().filename().string());
    }
    std::sort(names.begin(), names.end());
    return names;
  }

  nlohmann::json task_json(const std::string& task) const {
    return nlohmann::json::parse(read_file(data() / task / "task.json"));
  }
};

}  // namespace autoresearch
