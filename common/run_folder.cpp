#include "common/run_folder.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>

#include "common/folder.h"

namespace autoresearch {

fs::path ExperimentFolder::reply(int k) const {
  return path / (k == 1 ? "reply.md" : fmt::format("reply-{}.md", k));
}

fs::path ExperimentFolder::next_reply() const {
  int k = 1;
  while (fs::exists(reply(k))) ++k;
  return reply(k);
}

void ExperimentFolder::tidy() const {
  for (const fs::path& part : {program(), sealed(), attempt(), build()}) remove_whatever(part);
}

ExperimentFolder RunFolder::experiment(int64_t n) const {
  return {experiments() / fmt::format("{:04}", n)};
}

std::vector<ExperimentFolder> RunFolder::all_experiments() const {
  std::vector<ExperimentFolder> folders;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(experiments(), ignored))
    folders.push_back({entry.path()});
  const auto number = [](const ExperimentFolder& folder) {
    return std::strtoll(folder.path.filename().c_str(), nullptr, 10);
  };
  std::sort(folders.begin(), folders.end(),
            [&](const auto& a, const auto& b) { return number(a) < number(b); });
  return folders;
}

std::vector<ExperimentFolder> RunFolder::all_folders() const {
  std::vector<ExperimentFolder> folders = all_experiments();
  folders.insert(folders.end(), {again(), canary()});
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(proofs(), ignored))
    folders.push_back({entry.path()});
  return folders;
}

bool is_half_written(const fs::path& path) {
  const std::string name = path.filename();
  return name.starts_with(".") && name.find(".tmp-") != std::string::npos;
}

fs::path runs_dir(const fs::path& data) { return data / "runs"; }
fs::path kits_dir(const fs::path& data) { return data / "kits"; }
RunFolder run_folder(const std::string& tag) { return {runs_dir() / tag}; }

}  // namespace autoresearch
