// A kit of a tiny recipe: a trusted object with `trusted()`, a header, and a `score` that is a
// shell script; the candidate is a one-page C++ program. Built and run in real sandboxes and
// without.
#include "agent/lab/recipe.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <future>
#include <nlohmann/json.hpp>

#include "common/error.h"
#include "common/sandbox.h"
#include "tests/support.h"

namespace autoresearch {
namespace {

using nlohmann::json;

constexpr const char* kGood =
    "#include \"trusted.h\"\n"
    "#include <cstdio>\n"
    "int main(int argc, char** argv) {\n"
    "  std::printf(\"%d %s\\n\", trusted(), argc > 1 ? argv[1] : \"\");\n"
    "}\n";

class RecipeTest : public testing::Test {
 protected:
  // Below /var/tmp: what lies below /tmp would be hidden by the sandbox's fresh /tmp alone.
  RecipeTest() {
    char pattern[] = "/var/tmp/recipe_test.XXXXXX";
    dir_ = mkdtemp(pattern);
    for (const char* name : {"build/include", "task/train", "task/heldout", "run/1"}) {
      fs::create_directories(dir_ / name);
    }
    write("build/include/trusted.h", "int trusted();\n");
    write("build/trusted.cpp", "int trusted() { return 42; }\n");
    write("build/score", "#!/bin/sh\necho \"$@\"\n");
    fs::permissions(dir_ / "build/score", fs::perms::owner_all);
    shell("g++ -c " + path("build/trusted.cpp") + " -o " + path("build/trusted.o"));
    write("task/task.json", "{}");
    write("task/tokenizer.tiktoken", "");
    write("task/train/00000.bin", "training text\n");
    write("task/heldout/val.bin", "answers\n");
    spec_ = {{"edited", "train.cpp"},
             {"build",
              {{"g++", "-I{kit}/include", "-c", "{source}", "-o", "{object}"},
               {"objcopy", "--keep-global-symbol=main", "{object}"},
               {"g++", "{object}", "{kit}/lib/trusted.o", "-o", "{program}"}}},
             {"files",
              {{{"from", path("build/include/trusted.h")}, {"to", "include/trusted.h"}},
               {{"from", "trusted.o"}, {"to", "lib/trusted.o"}},
               {{"from", "score"}, {"to", "score"}}}},
             {"system", json::array()}};
    write_spec();
  }
  ~RecipeTest() override {
    shell("chmod -R u+rwx " + dir_.string());  // one test locks its folder
    fs::remove_all(dir_);
  }

  std::string path(const std::string& name) const { return (dir_ / name).string(); }
  void write(const std::string& name, const std::string& text) {
    std::ofstream(dir_ / name) << text;
  }
  void write_spec() { write("build/candidate.json", spec_.dump()); }
  std::string text(const std::string& name) const { return read_file(dir_ / name); }
  Exit shell(const std::string& script) const {
    return run({.argv = {"sh", "-c", script}, .env = scrubbed_environment()});
  }
  Kit create() const { return Kit::create(dir_ / "build", dir_ / "run/kit"); }
  Kit open_shared(const std::string& wanted = "") const {
    return Kit::open_or_create(dir_ / "build", dir_ / "kits", wanted);
  }
  std::vector<std::string> names_in(const std::string& folder) const {
    std::vector<std::string> names;
    std::error_code missing;
    for (const auto& entry : fs::directory_iterator(dir_ / folder, missing))
      names.push_back(entry.path().filename());
    return names;
  }
  std::string problem_of_create() const {
    return error_of([&] { create(); });
  }
  std::string problem_of_open() const {
    return error_of([&] { Kit::open(dir_ / "run/kit"); });
  }

  fs::path dir_;
  json spec_;
};

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST_F(RecipeTest, AKitHoldsWhatTheSpecNamesAndOpensAgain) {
  Kit made = create();
  EXPECT_EQ(text("run/kit/include/trusted.h"), "int trusted();\n");
  EXPECT_TRUE(fs::exists(dir_ / "run/kit/lib/trusted.o"));
  Kit opened = Kit::open(dir_ / "run/kit");
  EXPECT_EQ(opened.fingerprint(), made.fingerprint());
  EXPECT_EQ(opened.spec().build, made.spec().build);
  EXPECT_EQ(made.fingerprint().size(), 64u);
}

TEST_F(RecipeTest, TheFingerprintDependsOnContentAndStepsButNotOnTheBuildFolder) {
  std::string first = create().fingerprint();
  fs::rename(dir_ / "build", dir_ / "elsewhere");
  spec_["files"][0]["from"] = path("elsewhere/include/trusted.h");
  write("elsewhere/candidate.json", spec_.dump());
  EXPECT_EQ(Kit::create(dir_ / "elsewhere", dir_ / "run/kit2").fingerprint(), first);
  spec_["build"][0].push_back("-O1");
  write("elsewhere/candidate.json", spec_.dump());
  EXPECT_NE(Kit::create(dir_ / "elsewhere", dir_ / "run/kit3").fingerprint(), first);
  spec_["build"][0].erase(spec_["build"][0].size() - 1);
  write("elsewhere/candidate.json", spec_.dump());
  write("elsewhere/include/trusted.h", "int trusted(); // new\n");
  EXPECT_NE(Kit::create(dir_ / "elsewhere", dir_ / "run/kit4").fingerprint(), first);
}

TEST_F(RecipeTest, ARebuildOfTheCheckoutChangesNothing) {
  Kit kit = create();
  write("build/include/trusted.h", "#error rebuilt\n");
  fs::remove(dir_ / "build/trusted.o");
  write("run/1/train.cpp", kGood);
  EXPECT_TRUE(Kit::open(dir_ / "run/kit").build({dir_ / "run/1"}, false).ok);
}

TEST_F(RecipeTest, AChangedMissingOrAddedKitFileIsRefused) {
  create();
  EXPECT_EQ(problem_of_open(), "");
  write("run/kit/include/planted.h", "");
  EXPECT_TRUE(contains(problem_of_open(), "include/planted.h was added")) << problem_of_open();
  fs::remove(dir_ / "run/kit/include/planted.h");
  write("run/kit/include/trusted.h", "int trusted( );\n");
  EXPECT_TRUE(contains(problem_of_open(), "include/trusted.h has changed"));
  fs::remove(dir_ / "run/kit/include/trusted.h");
  EXPECT_TRUE(contains(problem_of_open(), "include/trusted.h is missing"));
  EXPECT_TRUE(contains(problem_of_open(), "type your command again: rm -r '" + path("run/kit")));
  write("run/kit/kit.json", "{");
  EXPECT_NE(problem_of_open(), "");
}

TEST_F(RecipeTest, WithoutABuildTheNextCommandIsNamed) {
  fs::remove(dir_ / "build/candidate.json");
  EXPECT_EQ(problem_of_create(), "no candidate.json in " + path("build") +
                                     "; build first: cmake --workflow --preset demo");
}

TEST_F(RecipeTest, AFailedCreateLeavesNoKitAndNoHalfKit) {
  fs::remove(dir_ / "build/score");  // the last file of the list: the others are copied before
  EXPECT_TRUE(contains(problem_of_create(), "score is missing; build first"));
  EXPECT_EQ(std::distance(fs::directory_iterator(dir_ / "run"), {}), 1);  // run/1
}

TEST_F(RecipeTest, AKilledCreateIsNoKitAndTheNextOneSucceeds) {
  // As a kill after the first file leaves it: a folder under the temporary name.
  fs::create_directories(dir_ / "run/kit.partial/include");
  write("run/kit.partial/include/stale.h", "");
  EXPECT_NE(problem_of_open(), "");
  create();
  EXPECT_EQ(problem_of_open(), "");
  EXPECT_FALSE(fs::exists(dir_ / "run/kit.partial"));
}

TEST_F(RecipeTest, AnExistingKitIsNotReplaced) {
  create();
  EXPECT_TRUE(contains(problem_of_create(), "exists already"));
  EXPECT_EQ(problem_of_open(), "");
}

// What counts as unchanged without being read: only a file that nobody wrote to.
TEST_F(RecipeTest, AFileWithItsOldSizeAndTimeIsReadAgain) {
  create();
  const fs::path header = dir_ / "run/kit/include/trusted.h";
  const auto time = fs::last_write_time(header);
  write("run/kit/include/trusted.h", "int trusteD();\n");
  fs::last_write_time(header, time);
  EXPECT_TRUE(contains(problem_of_open(), "include/trusted.h has changed"));
  write("run/kit/include/trusted.h", "int trusted();\n");  // other times, the same bytes
  EXPECT_EQ(problem_of_open(), "");
}

using SharedKitTest = RecipeTest;

TEST_F(SharedKitTest, RunsOfTheSameProgramsShareOneKit) {
  const Kit first = open_shared();
  write("build/trusted.o", text("build/trusted.o"));  // built again, to the same bytes
  EXPECT_EQ(open_shared().folder(), first.folder());
  EXPECT_EQ(first.folder(), dir_ / "kits" / first.fingerprint());
  write("build/include/trusted.h", "int trusted(); // new\n");
  EXPECT_NE(open_shared().folder(), first.folder());
  EXPECT_EQ(open_shared(first.fingerprint()).folder(), first.folder());  // a run that goes on
  EXPECT_EQ(names_in("kits").size(), 2u);
}

TEST_F(SharedKitTest, ARunWhoseKitIsGoneHasItMadeAgainOrIsToldSo) {
  const Kit kit = open_shared();
  fs::remove_all(kit.folder());
  EXPECT_EQ(open_shared(kit.fingerprint()).fingerprint(), kit.fingerprint());
  fs::remove_all(kit.folder());
  write("build/include/trusted.h", "int trusted(); // new\n");
  EXPECT_TRUE(contains(error_of([&] { open_shared(kit.fingerprint()); }),
                       "the kit that this run began with is gone"));
  EXPECT_TRUE(names_in("kits").empty()) << "another kit was made in vain";
}

TEST_F(SharedKitTest, ADamagedKitIsMendedByTheCommandThatIsNamed) {
  const Kit kit = open_shared();
  write("kits/" + kit.fingerprint() + "/score", "");
  const std::string problem = error_of([&] { open_shared(); });
  EXPECT_TRUE(contains(problem, "score has changed")) << problem;
  EXPECT_EQ(shell(problem.substr(problem.find("rm -r"))).code, 0) << problem;
  EXPECT_EQ(open_shared().fingerprint(), kit.fingerprint());
}

TEST_F(SharedKitTest, AKitUnderAnothersNameIsNotTaken) {
  const Kit kit = open_shared();
  write("build/include/trusted.h", "int trusted(); // new\n");
  const Kit other = open_shared();
  fs::remove_all(kit.folder());
  fs::rename(other.folder(), kit.folder());
  EXPECT_TRUE(contains(error_of([&] { open_shared(kit.fingerprint()); }), "it is another kit"));
}

TEST_F(SharedKitTest, AgentsThatMakeItAtOnceGetTheSame) {
  std::vector<std::future<std::string>> agents;
  for (int i = 0; i < 8; ++i)
    agents.push_back(
        std::async(std::launch::async, [&] { return open_shared().folder().string(); }));
  const std::string kit = open_shared().folder();
  for (auto& agent : agents) EXPECT_EQ(agent.get(), kit);
  EXPECT_EQ(names_in("kits").size(), 1u) << "a partial kit was left";
}

TEST_F(SharedKitTest, AFailedOneLeavesNothing) {
  write_spec();
  fs::remove(dir_ / "build/score");
  EXPECT_TRUE(contains(error_of([&] { open_shared(); }), "score is missing; build first"));
  write("build/score", "");
  fs::resize_file(dir_ / "build/score", fs::space(dir_).available + (1 << 30));  // a hole
  EXPECT_TRUE(contains(error_of([&] { create(); }), "MB free; free some space"));
  EXPECT_TRUE(names_in("kits").empty());
}

TEST(BrokenBuild, IsOneThatNamesNoPlaceInTheCode) {
  const auto broken = [](const std::string& log) { return broken_build(1, log, "train.cpp"); };
  const std::string gone = "/usr/bin/ld: cannot find -lc10: No such file or directory";
  EXPECT_EQ(broken(gone + "\ncollect2: error: ld returned 1 exit status\n"), gone);
  EXPECT_EQ(broken("c++: internal compiler error: Segmentation fault\n"),
            "c++: internal compiler error: Segmentation fault");
  const std::string header =
      "/torch/ATen/Tensor.h:3:10: fatal error: c10/X.h: No such file or directory";
  EXPECT_EQ(broken("In file included from train.cpp:3:\n" + header + "\ncompilation terminated.\n"),
            header);
  for (const char* codes : {"train.cpp:1:10: error: 'x' was not declared in this scope\n",
                            "train.cpp:3:10: fatal error: mine.h: No such file or directory\n",
                            "/usr/bin/ld: harness.o: multiple definition of `f'; train.o: first\n",
                            "/usr/bin/ld: undefined reference to `g'\n", ""})
    EXPECT_EQ(broken(codes), "") << codes;
  EXPECT_EQ(broken_build(0, gone, "train.cpp"), "");
}

TEST_F(RecipeTest, ASpecCannotWriteOutsideTheKit) {
  for (const char* to : {"../planted", "/tmp/planted", "a/../../planted", "kit.json", "", "."}) {
    spec_["files"][0]["to"] = to;
    write_spec();
    EXPECT_TRUE(contains(problem_of_create(), "candidate.json can't be used")) << to;
  }
  write("build/candidate.json", "not json");
  EXPECT_TRUE(contains(problem_of_create(), "build first"));
}

// The same in each sandbox and without one.
class RecipeSandboxTest : public RecipeTest, public testing::WithParamInterface<const char*> {
 protected:
  void SetUp() override {
    if (!sandboxed()) return;
    if (const auto problem = choose_sandbox(GetParam())) GTEST_SKIP() << *problem;
  }
  ~RecipeSandboxTest() override { sandbox_problem(); }
  bool sandboxed() const { return GetParam() != std::string("off"); }
  BuildResult build(const std::string& source) {
    write("run/1/train.cpp", source);
    return Kit::open(dir_ / "run/kit").build({dir_ / "run/1"}, sandboxed());
  }
  Command train(const std::vector<std::string>& args = {}) {
    return Kit::open(dir_ / "run/kit")
        .train({dir_ / "run/1"}, dir_ / "task", args, sandboxed(), false);
  }
};

INSTANTIATE_TEST_SUITE_P(Sandbox, RecipeSandboxTest, testing::Values("off", "on", "landlock"),
                         [](const auto& info) { return info.param; });

TEST_P(RecipeSandboxTest, BuildsTrainsAndScores) {
  Kit kit = create();
  BuildResult built = build(kGood);
  ASSERT_TRUE(built.ok) << built.log;
  EXPECT_EQ(built.log, "");
  EXPECT_GT(built.seconds, 0);
  EXPECT_FALSE(fs::exists(dir_ / "run/1/build"));
  EXPECT_TRUE(contains(text("run/1/build.log"), "$ objcopy"));

  EXPECT_EQ(run(train({"hello"})).code, 0);
  EXPECT_EQ(text("run/1/run.log"), "42 hello\n");

  write("run/1/model", "sealed");
  Exit scored = run(kit.score(dir_ / "run/1/model", {"--split", "val"}, sandboxed()));
  EXPECT_EQ(scored.output, path("run/1/model") + " --sandbox " + GetParam() + " --split val\n");
  EXPECT_EQ(text("run/1/run.log"), "42 hello\n");  // the scorer's words are its own
}

TEST_P(RecipeSandboxTest, AFailedCompileGivesItsLogAndLeavesNoProgram) {
  create();
  ASSERT_TRUE(build(kGood).ok);
  BuildResult failed = build("int main() { return undeclared_thing; }\n");
  EXPECT_FALSE(failed.ok);
  EXPECT_TRUE(contains(failed.log, "run/1/train.cpp:1:")) << failed.log;
  EXPECT_TRUE(contains(failed.log, "undeclared_thing"));
  EXPECT_FALSE(contains(failed.log, "$ g++"));
  EXPECT_FALSE(fs::exists(dir_ / "run/1/train"));
  EXPECT_FALSE(fs::exists(dir_ / "run/1/build"));
  EXPECT_TRUE(contains(text("run/1/build.log"), "undeclared_thing"));
  EXPECT_TRUE(contains(text("run/1/build.log"), "$ objcopy")) << "the first build's lines are gone";
}

TEST_P(RecipeSandboxTest, RedefiningATrustedFunctionDoesNotReachTheOthers) {
  create();
  // Localized: the candidate's own `trusted` serves the candidate alone, and nothing is interposed.
  ASSERT_TRUE(build("int trusted() { return 7; }\nint main() { return trusted(); }\n").ok);
  EXPECT_EQ(shell("nm " + path("run/1/train") + " | grep -c ' T _Z7trustedv'").output, "1\n");
}

TEST_P(RecipeSandboxTest, AMissingCompilerIsAFailedBuildNamingIt) {
  spec_["build"][0][0] = "no-such-compiler";
  write_spec();
  create();
  BuildResult failed = build(kGood);
  EXPECT_FALSE(failed.ok);
  EXPECT_TRUE(contains(failed.log, "no-such-compiler")) << failed.log;
}

TEST_P(RecipeSandboxTest, TheLogIsNeverWrittenThroughALink) {
  create();
  write("precious", "kept");
  fs::create_symlink(dir_ / "precious", dir_ / "run/1/run.log");
  EXPECT_TRUE(build(kGood).ok);
  EXPECT_THROW(run(train()), Error);
  EXPECT_EQ(text("precious"), "kept");
}

TEST_P(RecipeSandboxTest, ASealedModelMustBeAFileOfItsOwn) {
  Kit kit = create();
  fs::create_symlink("/etc/hostname", dir_ / "run/1/model");
  EXPECT_THROW(kit.score(dir_ / "run/1/model", {}, sandboxed()), Error);
}

// What only a sandbox gives. Each is shown to succeed without one, so that it is the sandbox that
// stops it.
class RecipeAttackTest : public RecipeTest, public testing::WithParamInterface<const char*> {
 protected:
  void SetUp() override {
    if (const auto problem = choose_sandbox(GetParam())) GTEST_SKIP() << *problem;
    create();
  }
  ~RecipeAttackTest() override { sandbox_problem(); }
  BuildResult build(const std::string& source, bool sandboxed) {
    write("run/1/train.cpp", source);
    return Kit::open(dir_ / "run/kit").build({dir_ / "run/1"}, sandboxed);
  }
  // Builds `body` as main's and runs it as the trainer; its exit status.
  int train(const std::string& body, bool sandboxed) {
    std::string source =
        "#include <cstdio>\n#include <sys/stat.h>\n#include <unistd.h>\nint "
        "main() {" +
        body + "}\n";
    BuildResult built = build(source, sandboxed);
    EXPECT_TRUE(built.ok) << built.log;
    Kit kit = Kit::open(dir_ / "run/kit");
    return run(kit.train({dir_ / "run/1"}, dir_ / "task", {}, sandboxed, false)).code;
  }
  std::string reads(const std::string& file) const {
    return "FILE* f = std::fopen(\"" + file +
           "\", \"r\"); return f && std::fgetc(f) != EOF ? 0 : 1;";
  }
  std::string writes(const std::string& file) const {
    return "FILE* f = std::fopen(\"" + file +
           "\", \"w\");"
           "return f && std::fputc('x', f) != EOF && std::fclose(f) == 0 ? 0 : 1;";
  }
};

INSTANTIATE_TEST_SUITE_P(Sandbox, RecipeAttackTest, testing::Values("on", "landlock"),
                         [](const auto& info) { return info.param; });

TEST_P(RecipeAttackTest, TheBuildCannotIncludeAnythingOfTheTask) {
  for (const char* file : {"task/heldout/val.bin", "task/train/00000.bin", "task/task.json"}) {
    std::string source = "asm(\".incbin \\\"" + path(file) + "\\\"\");\nint main() {}\n";
    EXPECT_TRUE(build(source, false).ok);
    BuildResult sandboxed = build(source, true);
    EXPECT_FALSE(sandboxed.ok) << file;
    EXPECT_TRUE(contains(sandboxed.log, "file not found: " + path(file))) << sandboxed.log;
  }
}

TEST_P(RecipeAttackTest, TheBuildSeesNothingElseOfItsFolder) {
  write("run/1/hidden.inc", "int main() {}\n");  // as an earlier attempt could have left it
  EXPECT_TRUE(build("#include \"hidden.inc\"\n", false).ok);
  EXPECT_FALSE(build("#include \"hidden.inc\"\n", true).ok);
}

TEST_P(RecipeAttackTest, TheTrainerSeesTrainingDataButNotTheAnswers) {
  EXPECT_EQ(train(reads(path("task/train/00000.bin")), true), 0);
  EXPECT_EQ(train(reads(path("task/heldout/val.bin")), false), 0);
  EXPECT_EQ(train(reads(path("task/heldout/val.bin")), true), 1);
}

TEST_P(RecipeAttackTest, TheTrainerWritesToItsAttemptAlone) {
  fs::create_directories(dir_ / "run/2");
  write("run/1/prompt.md", "prompt\n");
  EXPECT_EQ(train(writes(path("run/1/attempt/model")), true), 0);
  for (const char* file : {"run/2/x", "run/1/x", "run/1/prompt.md", "run/1/train.cpp",
                           "run/1/train", "run/1/run.log", "run/kit/score", "task/train/x", "x"})
    EXPECT_EQ(train(writes(path(file)), true), 1) << file;
  EXPECT_EQ(text("run/1/prompt.md"), "prompt\n");
  EXPECT_EQ(train(writes(path("run/2/x")), false), 0);
  EXPECT_EQ(problem_of_open(), "");
}

TEST_P(RecipeAttackTest, TheTrainerSeesNothingOfTheRecordsAndTheKit) {
  write("run/1/prompt.md", "prompt\n");
  for (const char* file : {"run/1/prompt.md", "run/1/train.cpp", "run/1/build.log", "run/1/run.log",
                           "run/kit/score", "run/kit/include/trusted.h", "run/kit/lib/trusted.o"})
    EXPECT_EQ(train(reads(path(file)), true), 1) << file;
}

// An open log could be opened again through /proc and read: notes of an earlier attempt.
TEST_P(RecipeAttackTest, TheTrainerHasAPipeForItsOutputAndNotTheLog) {
  const std::string is_pipe = "struct stat s; return fstat(1, &s) != 0 || !S_ISFIFO(s.st_mode);";
  EXPECT_EQ(train(is_pipe, true), 0);
}

TEST_P(RecipeAttackTest, TheBuilderSeesNoScorer) {
  EXPECT_TRUE(
      build("asm(\".incbin \\\"" + path("run/kit/score") + "\\\"\");\nint main() {}\n", false).ok);
  EXPECT_FALSE(
      build("asm(\".incbin \\\"" + path("run/kit/score") + "\\\"\");\nint main() {}\n", true).ok);
}

// Each attempt begins in an empty folder, and the builder too.
TEST_P(RecipeAttackTest, NothingOfAnAttemptIsThereForTheNext) {
  const std::string leave =
      "return mkdir(\"a\", 0300) || mkdir(\"a/b\", 0);";  // closed: not to be listed
  EXPECT_EQ(train(leave, true), 0);
  EXPECT_EQ(train(leave, true), 0) << "the second finds no a";
  EXPECT_TRUE(Kit::open(dir_ / "run/kit").build({dir_ / "run/1"}, true).ok);
}

}  // namespace
}  // namespace autoresearch
