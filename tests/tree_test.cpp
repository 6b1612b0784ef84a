// Rules of the tree that a user or a model might break without noticing.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <map>
#include <memory>
#include <regex>
#include <set>
#include <tuple>

#include "agent/edit/edit.h"
#include "common/files.h"
#include "common/text.h"

namespace autoresearch {
namespace {

const fs::path kRoot = SOURCE_DIR;

// Every #include of the sources in a folder (or of one file), as "file: included".
std::vector<std::pair<std::string, std::string>> includes(const fs::path& place) {
  std::vector<fs::path> files;
  if (fs::is_directory(place)) {
    for (const auto& entry : fs::recursive_directory_iterator(place))
      if (entry.is_regular_file()) files.push_back(entry.path());
  } else {
    files.push_back(place);
  }
  std::vector<std::pair<std::string, std::string>> result;
  const std::regex include("#include [<\"]([^>\"]+)");
  for (const fs::path& file : files) {
    const std::string text = read_file(file);
    for (std::sregex_iterator i(text.begin(), text.end(), include), end; i != end; ++i)
      result.emplace_back(file.filename(), (*i)[1]);
  }
  return result;
}

TEST(Tree, TrainCppStaysWithinWhatAUserReadsInOneSitting) {
  const std::string source = read_file(kRoot / "train.cpp");
  EXPECT_LE(static_cast<size_t>(std::count(source.begin(), source.end(), '\n')), kMaxLines);
  EXPECT_LE(source.size(), kMaxBytes);
}

TEST(Tree, TrainCppSeesOfUsOnlyTheHarnessAndTheKernels) {
  for (const auto& [file, included] : includes(kRoot / "train.cpp"))
    for (const char* room :
         {"common/", "task/", "prepare/", "agent/", "harness/", "kernels/", "referee/"})
      EXPECT_TRUE(!included.starts_with(room) || included == "harness/harness.h" ||
                  included == "kernels/kernels.h")
          << included;
}

// Every room and those below it, which are all of this project that it may include.
const std::map<std::string, std::vector<std::string>> kRooms = {
    {"common", {}},
    {"task", {"common"}},
    {"prepare", {"common", "task"}},
    {"referee", {"common", "task"}},
    {"kernels", {"common"}},
    {"harness", {"common", "task", "referee", "kernels"}},
    {"agent/edit", {"common"}},
    {"agent/llm", {"common", "agent/edit"}},
    {"agent/lab", {"common", "agent/edit", "agent/llm"}},
    {"agent/record", {"common", "agent/edit", "agent/llm", "agent/lab"}},
    {"agent/propose", {"common", "task", "agent/edit", "agent/llm", "agent/lab", "agent/record"}},
    {"agent/loop",
     {"common", "task", "agent/edit", "agent/llm", "agent/lab", "agent/record", "agent/propose"}}};

TEST(Tree, NothingIncludesUpwards) {
  for (const auto& [room, below] : kRooms) {
    for (const auto& [file, included] : includes(kRoot / room)) {
      const std::string from = fs::path(included).parent_path();
      const bool ours = kRooms.contains(from) && from != room;
      EXPECT_TRUE(!ours || std::find(below.begin(), below.end(), from) != below.end())
          << room << "/" << file << ": " << included;
      const bool may_torch = room == "referee" || room == "kernels" || room == "harness";
      for (const char* torch : {"ATen/", "torch/", "c10/"})
        EXPECT_TRUE(may_torch || !included.starts_with(torch))
            << room << "/" << file << ": " << included;
    }
  }
}

// The three programs, tests and benches stand on the rooms, and no room on one of them.
TEST(Tree, NoRoomIncludesAProgramATestOrABench) {
  for (const auto& [room, below] : kRooms)
    for (const auto& [file, included] : includes(kRoot / room)) {
      const bool source = included.ends_with(".cpp") || included.ends_with(".cc");
      EXPECT_TRUE(!source && !included.starts_with("tests/") && !included.starts_with("bench/"))
          << room << "/" << file << ": " << included;
    }
}

TEST(Tree, EveryFolderOfSourcesIsARoom) {
  for (fs::recursive_directory_iterator i(kRoot), end; i != end; ++i) {
    const fs::path path = i->path().lexically_relative(kRoot);
    const std::string name = path.filename();
    const bool other = name == "tests" || name == "bench" || name == "build" || name[0] == '.';
    if (i.depth() == 0 && i->is_directory() && other) i.disable_recursion_pending();
    const bool header = i.depth() > 0 && path.extension() == ".h";
    EXPECT_TRUE(!header || kRooms.contains(path.parent_path())) << path;
  }
}

// The first program that links both would keep the members of only one of them, without a word.
TEST(Tree, NoTwoHeadersDefineATypeOfTheSameName) {
  const std::regex space(R"(^namespace ([\w:]+) \{)");
  const std::regex type(R"(^(?:struct|class|enum class|enum|using) (\w+)\b[^;{=]*[{=])");
  std::map<std::string, fs::path> definitions;
  for (const auto& [room, below] : kRooms) {
    for (const auto& entry : fs::directory_iterator(kRoot / room)) {
      if (entry.path().extension() != ".h") continue;
      std::vector<std::string> scopes = {""};  // each with "::" at its end
      for (const std::string& line : split_lines(read_file(entry.path()))) {
        std::smatch found;
        if (std::regex_search(line, found, space))
          scopes.push_back(scopes.back() + found.str(1) + "::");
        if (line.starts_with("}  // namespace ")) scopes.pop_back();
        if (!std::regex_search(line, found, type)) continue;
        const auto [other, first] = definitions.emplace(scopes.back() + found.str(1), entry.path());
        EXPECT_TRUE(first) << other->first << ": " << other->second << ", " << entry.path();
      }
    }
  }
  EXPECT_GT(definitions.size(), 200u);
}

std::string output_of(const std::string& command) {
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> out(popen(command.c_str(), "r"), pclose);
  std::string text;
  char buffer[4096];
  while (const size_t n = std::fread(buffer, 1, sizeof buffer, out.get())) text.append(buffer, n);
  return text;
}

TEST(Tree, EachProgramLoadsNoMoreThanItNeeds) {
  const std::tuple<const char*, const char*, std::vector<const char*>> programs[] = {
      {PREPARE_PROGRAM, "libarrow", {"libtorch", "libc10"}},
      {AGENT_PROGRAM, "libcurl", {"libtorch", "libc10", "libarrow"}},
      {SCORE_PROGRAM, "libtorch_cpu", {"libtorch_cuda", "libcurl", "libarrow", "libparquet"}}};
  for (const auto& [program, needed, others] : programs) {
    const std::string libraries = output_of("ldd '" + std::string(program) + "'");
    EXPECT_NE(libraries.find(needed), std::string::npos) << program << ": " << libraries;
    for (const char* other : others)
      EXPECT_EQ(libraries.find(other), std::string::npos) << program << ": " << libraries;
  }
}

TEST(Tree, EachProgramTellsTheCommitThatItWasBuiltFrom) {
  const fs::path build = fs::path(SCORE_PROGRAM).parent_path();
  const fs::path file = build / "version";  // none in an unpacked archive
  const std::string commit = fs::exists(file) ? read_file(file) : "of unknown version\n";
  for (const std::string program : {"prepare", "train", "agent", "score"}) {
    EXPECT_EQ(output_of((build / program).string() + " --version"), program + " " + commit);
    // A copy elsewhere, as in a kit, does not know it.
    const fs::path copy = fs::path(testing::TempDir()) / program;
    fs::copy_file(build / program, copy, fs::copy_options::overwrite_existing);
    EXPECT_EQ(output_of(copy.string() + " --version"), program + " of unknown version\n");
    fs::remove(copy);
  }
}

TEST(Tree, TheReadmeAndTheTestsInstallTheSamePackages) {
  const auto installs = [](const fs::path& file) {
    const std::string text = read_file(file);
    const std::regex command("apt-get install -y( [a-z]+)* < [a-z.-]+");
    std::set<std::string> found;
    for (std::sregex_iterator i(text.begin(), text.end(), command), end; i != end; ++i)
      found.insert(i->str());
    return found;
  };
  const std::set<std::string> readme = installs(kRoot / "README.md");
  EXPECT_EQ(readme, (std::set<std::string>{"apt-get install -y < apt-packages.txt",
                                           "apt-get install -y clang < apt-packages.txt"}));
  EXPECT_TRUE(readme.contains(*installs(kRoot / ".ci/run").begin()));
}

}  // namespace
}  // namespace autoresearch
