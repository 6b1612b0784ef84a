// A stranger's git: whatever state a repository is in, a run's commits are kept and readable, and
// nothing of the user's changes: no file, no index, no HEAD, no branch, no hook is run.
#include "agent/record/history.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>
#include <map>

#include "common/error.h"
#include "tests/support.h"

namespace autoresearch {
namespace {

// A user's machine in a temporary folder: a home, a checkout with an awkward name, a run's
// scratch.
class Stranger {
 public:
  Stranger() {
    // In memory where programs (hooks) can run there: hundreds of fsyncs take minutes on a busy
    // disk.
    struct statvfs shm;
    bool fast = statvfs("/dev/shm", &shm) == 0 && !(shm.f_flag & (ST_NOEXEC | ST_RDONLY));
    std::string name = fast ? "/dev/shm/history_test.XXXXXX" : "/tmp/history_test.XXXXXX";
    root = mkdtemp(name.data());
    checkout = root / "my check'out";
    scratch = root / "data/run/git";
    fs::create_directories(root / "home");
    fs::create_directories(scratch);
    setenv("HOME", (root / "home").c_str(), 1);
    unsetenv("XDG_CONFIG_HOME");
  }
  ~Stranger() { fs::remove_all(root); }

  // Runs a script in `root` as the user would: `g` is git with an identity; C is the checkout.
  std::string sh(const std::string& script) const {
    write_file(root / "script",
               "g() { git -c user.name=U -c user.email=u@example.org "
               "-c commit.gpgsign=false -c protocol.file.allow=always \"$@\"; }\n" +
                   script + "\n");
    std::string line = "cd '" + root.string() + "' && env -i PATH=\"$PATH\" HOME='" +
                       root.string() + "/home' GIT_OPTIONAL_LOCKS=0 C=\"" + checkout.string() +
                       "\" sh -e ./script >out 2>err </dev/null";
    int status = system(line.c_str());
    EXPECT_EQ(status, 0) << script << "\n" << read_file(root / "err");
    std::string text = read_file(root / "out");
    if (!text.empty() && text.back() == '\n') text.pop_back();
    return text;
  }

  fs::path root, checkout, scratch;
};

// A clean repository of three commits with files of several kinds.
constexpr const char* kOrdinary = R"(
git init -q -b main "$C"; cd "$C"
printf 'int a;\nint b;\n' >train.cpp; echo one >other.txt; echo keep >kept.txt; echo x >gone.txt
ln -s other.txt link; mkdir sub; echo deep >'sub/a file'
for i in 1 2 3; do echo $i >count; g add .; g commit -qm "$i"; done
)";

// Uncommitted edits of every kind: changed, same size, mode, deleted, staged, symlink, untracked.
constexpr const char* kEdits = R"(
cd "$C"; echo two >other.txt; echo mine >'sub/a file'; chmod +x kept.txt; rm gone.txt
echo new >staged.txt; git add staged.txt; echo newer >staged.txt; ln -sfn kept.txt link
echo private >untracked.txt
)";

struct Situation {
  const char* name;
  std::string before;        // script that makes the checkout
  std::string between = "";  // script that runs after the first two commits
  bool own = false;          // the repository can't be used
  const char* refusal = "";  // part of what move_branch says after `between`; empty: it moves
  const char* folder = "";   // the checkout's folder inside the repository
  const char* eol = "\n";
};

void PrintTo(const Situation& situation, std::ostream* out) { *out << situation.name; }

std::string describe_file(const fs::path& path) {
  fs::file_status status = fs::symlink_status(path);
  std::string kind = std::to_string(static_cast<int>(status.permissions())) + " ";
  if (fs::is_symlink(status)) return kind + "-> " + fs::read_symlink(path).string();
  return fs::is_regular_file(status) ? kind + sha256_of_file(path) : kind;
}

// All that must not change: every file outside .git, index, HEAD, refs but ours, git status.
std::map<std::string, std::string> what_is_the_users(const Stranger& user, const fs::path& place) {
  std::map<std::string, std::string> state;
  for (auto it = fs::recursive_directory_iterator(user.checkout); it != end(it); ++it) {
    if (it->path().filename() == ".git" && it->is_directory())
      it.disable_recursion_pending();
    else
      state[it->path()] = describe_file(it->path());
  }
  state["git"] = user.sh(R"(cd ")" + place.string() + R"("
if ! git rev-parse --git-dir >/dev/null 2>&1; then echo none; exit 0; fi
git rev-parse --git-path index | while read -r f; do sha256sum "$f" || true; done
git symbolic-ref -q HEAD || true; git rev-parse -q --verify HEAD || true
git for-each-ref --format='%(refname) %(objectname)' | grep -v /autoresearch/ || true
git status --porcelain || true; git stash list || true; git worktree list --porcelain || true)");
  return state;
}

class AnyRepository : public ::testing::TestWithParam<Situation> {
 protected:
  static History open(const Stranger& user) {
    return History(user.checkout / GetParam().folder, user.scratch, "nov-23", "train.cpp");
  }
  static std::string source(int i) { return "int v" + std::to_string(i) + ";" + GetParam().eol; }

  void begin(const Stranger& user) {
    History history = open(user);
    start_ = history.commit_start(source(0), "baseline");
    EXPECT_EQ(history.own_repository(), GetParam().own) << history.own_reason();
    history.set_ref("0000", start_);
    history.set_ref("champion", start_);
    EXPECT_EQ(history.move_branch(start_, ""), std::nullopt);
    EXPECT_EQ(history.move_branch(start_, ""), std::nullopt) << "moving is idempotent";
    first_ = history.commit(start_, source(1), "first: \"quoted\"\n\nwhy");
    history.set_ref("0001", first_);
  }

  void go_on(const Stranger& user) {
    History history = open(user);
    EXPECT_EQ(history.own_repository(), GetParam().own) << history.own_reason();
    EXPECT_EQ(history.ref("0001"), first_);
    EXPECT_EQ(history.ref("0002"), std::nullopt);
    second_ = history.commit(first_, source(2), "second");
    history.set_ref("0002", second_);
    history.set_ref("champion", second_);
    const std::string at = history.branch().value_or(""), refusal = GetParam().refusal;
    const std::string line = history.move_branch(second_, start_).value_or("");
    EXPECT_EQ(history.branch().value_or(""), refusal.empty() ? second_ : at) << line;
    EXPECT_EQ(line.empty(), refusal.empty()) << line;
    EXPECT_NE(line.find(refusal), std::string::npos) << line;
    EXPECT_EQ(line.find('\n'), std::string::npos);
  }

  void expect_all_is_kept(const Stranger& user) {
    History history = open(user);
    EXPECT_EQ(history.source_at(start_), source(0));
    EXPECT_EQ(history.source_at(first_), source(1));
    EXPECT_EQ(history.source_at(second_), source(2));
    EXPECT_EQ(history.ref("champion"), second_);
    const bool own = GetParam().own;
    EXPECT_EQ(history.repository().string().starts_with(user.scratch.string()), own);
    const fs::path place = user.checkout / GetParam().folder;
    const std::string git = "git --git-dir=\"" + history.repository().string() + "\" ";
    const std::string prefix =
        own ? "" : user.sh("cd \"" + place.string() + "\"; git rev-parse --show-prefix");
    EXPECT_EQ(user.sh(git + "diff-tree -r --name-only " + first_ + " " + second_),
              prefix + "train.cpp");
    EXPECT_EQ(user.sh(git + "log -1 --format='%P %an %ae %cn %s' " + second_),
              first_ + " autoresearch autoresearch@localhost autoresearch second");
    EXPECT_EQ(history.source_at(second_), source(2));
  }

  std::string start_, first_, second_;
};

// Two commits, a disturbance, a fresh object (as after a restart), another commit: what the loop
// does.
TEST_P(AnyRepository, KeepsTheRunAndLeavesTheUserAlone) {
  Stranger user;
  const fs::path place = user.checkout / GetParam().folder;
  user.sh(GetParam().before);
  auto before = what_is_the_users(user, place);
  begin(user);
  EXPECT_EQ(what_is_the_users(user, place), before);
  user.sh(GetParam().between);
  before = what_is_the_users(user, place);
  go_on(user);
  EXPECT_EQ(what_is_the_users(user, place), before);
  EXPECT_FALSE(fs::exists(user.root / "home/hook-ran"));
  fs::remove(user.root / "home/.gitconfig");  // what follows asks git as a user without settings
  expect_all_is_kept(user);
}

std::string after(std::initializer_list<std::string> scripts) {
  std::string all;
  for (const std::string& script : scripts) all += "(" + script + "\n)\n";
  return all;
}

std::vector<Situation> situations() {
  const std::string clean = kOrdinary, edited = after({kOrdinary, kEdits});
  const std::string bare = after({kOrdinary,
                                  "g clone -q --bare \"$C\" origin.git; rm -rf \"$C\";"
                                  "git -C origin.git config uploadpack.allowFilter 1"});
  const std::string url = "\"file://$PWD/origin.git\" \"$C\"; rm -rf origin.git";
  const std::string hooks = R"(mkdir hooks; printf '#!/bin/sh\ntouch ~/hook-ran; exit 1\n' >hooks/h
chmod +x hooks/h; for h in reference-transaction post-index-change pre-commit commit-msg post-commit \
  update post-checkout fsmonitor-watchman; do cp hooks/h hooks/$h; done
git config --global core.hooksPath "$PWD/hooks")";
  return {
      {"clean", clean},
      {"edits_of_every_kind", edited},
      {"failing_hooks_everywhere", after({edited, hooks})},
      {"signing_without_a_key",
       after({edited,
              "git config --global commit.gpgsign true; git config --global user.signingKey X;"
              "git config --global gpg.program /bin/false"})},
      {"identity_forbidden", after({edited, "git config --global user.useConfigOnly true"})},
      {"broken_user_configuration_after_start", clean, "echo '[' >home/.gitconfig; exit 0"},
      {"autocrlf_with_crlf_files",
       after({clean,
              "git config --global core.autocrlf true; cd \"$C\"; rm train.cpp other.txt;"
              "git checkout -q .; grep -q \"$(printf '\\r')\" train.cpp; touch other.txt"}),
       "", false, "", "", "\r\n"},
      {"filters_in_attributes",
       after({edited,
              "cd \"$C\"; echo '*.txt filter=upper ident eol=crlf text' >.gitattributes;"
              "git config filter.upper.clean 'tr a-z A-Z'; git config filter.upper.required 1"})},
      {"detached_head", after({edited,
                               "cd \"$C\"; git checkout -q --detach HEAD~1 2>/dev/null ||"
                               "{ git stash -q; git checkout -q --detach HEAD~1; }"})},
      {"unborn_head", "git init -q \"$C\"; cd \"$C\"; echo a >train.cpp; echo b >b; git add b"},
      {"empty_repository", "git init -q \"$C\""},
      {"sha256_repository",
       "git init -q --object-format=sha256 \"$C\"; cd \"$C\"; echo a >train.cpp;"
       "g add .; g commit -qm a; echo b >train.cpp"},
      {"shallow_clone", after({bare, "git clone -q --depth=1 " + url, kEdits})},
      {"blobless_clone_without_its_remote",
       after({bare, "git clone -q --filter=blob:none " + url, kEdits})},
      {"treeless_clone_without_its_remote",
       after({bare, "git clone -q --filter=tree:0 " + url, kEdits})},
      {"sparse_blobless_clone_without_its_remote",
       after({bare, "git clone -q --sparse --filter=blob:none " + url,
              "cd \"$C\"; echo 2 >other.txt"})},
      {"sparse_index",
       after({clean, "cd \"$C\"; git sparse-checkout set --sparse-index; echo 2 >count"})},
      {"split_index", after({clean, "cd \"$C\"; git update-index --split-index; echo 2 >count"})},
      {"a_subfolder",
       after({clean,
              "cd \"$C\"; mkdir -p 'sub/l m'; cp train.cpp 'sub/l m';"
              "g add .; g commit -qm sub",
              kEdits}),
       "", false, "", "sub/l m"},
      {"a_submodule",
       after({bare,
              "git init -q super; cd super; g submodule --quiet add "
              "../origin.git sub; g commit -qm s; cd ..; mkdir \"$C\";"
              "mv super/* super/.git super/.gitmodules \"$C\""}),
       "", false, "", "sub"},
      {"a_dirty_submodule_inside",
       after({edited,
              "cd \"$C\"; g clone -q . ../s; g submodule --quiet add ../s s; cd s;"
              "echo 1 >>count; g commit -qam s; echo 2 >>count"})},
      {"a_linked_worktree", after({"C=\"$PWD/home/main\"\n" + clean,
                                   "git -C home/main worktree add -q \"$C\" -b side", kEdits})},
      {"a_worktree_of_a_bare_repository",
       after({bare, "git -C origin.git worktree add -q \"$C\" -b side", kEdits})},
      {"a_merge_with_conflicts",
       after({clean,
              "cd \"$C\"; git checkout -q -b side; echo s >other.txt; git rm -q gone.txt;"
              "g commit -qam s; git checkout -q main; echo m >other.txt; echo m >gone.txt;"
              "g commit -qam m; ! g merge -q side >/dev/null"})},
      {"inherited_variables", edited},  // as every case: see Misleading
      {"user_commits_and_switches", edited,
       "cd \"$C\"; g add -A; g commit -qm mine; git switch -q -c elsewhere; echo 9 >count"},
      {"user_has_the_branch_checked_out", clean, "cd \"$C\"; git switch -q autoresearch/nov-23",
       false, "is checked out in"},
      {"another_worktree_has_it", clean,
       "git -C \"$C\" worktree add -q ../wt autoresearch/nov-23 2>&1", false, "wt"},
      {"user_rebases_it", clean,
       "cd \"$C\"; git switch -q autoresearch/nov-23; GIT_SEQUENCE_EDITOR='sed -i 1ibreak' "
       "g rebase -qi HEAD~1",
       false, "is checked out in"},
      {"user_moved_it", clean, "cd \"$C\"; git branch -qf autoresearch/nov-23 main", false,
       "somebody moved it"},
      {"user_deleted_it", clean, "cd \"$C\"; git branch -qD autoresearch/nov-23", false,
       "somebody deleted it"},
      {"clean_xdf", edited, "cd \"$C\"; git clean -qxdff"},
      {"gc_prune_now", edited,
       "cd \"$C\"; git reflog expire --expire=now --all; git gc -q --prune=now"},
      {"stash_and_hard_reset", edited, "cd \"$C\"; g stash -qu; git reset -q --hard HEAD~1"},
      {"moved", edited, "mv \"$C\" away; cp -a away \"$C\"; rm -rf away"},
      {"a_killed_git_left_locks", clean,
       "touch data/run/git/index.lock data/run/git/start.index.lock"},
      {"no_repository", "mkdir \"$C\"; echo a >\"$C/train.cpp\"", "", true},
      {"no_repository_at_first", "mkdir \"$C\"; echo a >\"$C/train.cpp\"",
       "cd \"$C\"; git init -q; git add .; g commit -qm late", true},
      {"ignored_by_a_repository_above",
       "git init -q \"$C\"; echo '*' >\"$C/.gitignore\";"
       "echo a >\"$C/train.cpp\"",
       "", true},
      {"broken_head", after({clean, "cd \"$C\"; echo garbage >.git/HEAD"}), "", true},
      {"lost_objects", after({clean, "cd \"$C\"; rm -rf .git/objects/??"}), "", true},
      {"unknown_extension",
       after({clean,
              "cd \"$C\"; git config core.repositoryFormatVersion 1;"
              "git config extensions.fromTheFuture 1"}),
       "", true},
  };
}

INSTANTIATE_TEST_SUITE_P(Git, AnyRepository, ::testing::ValuesIn(situations()),
                         [](const auto& info) { return std::string(info.param.name); });

// Every case runs under variables that would lead git astray: a hook's child inherits such ones.
class Misleading : public ::testing::Environment {
 public:
  void SetUp() override {
    for (const char* name : {"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY",
                             "GIT_COMMON_DIR", "GIT_NAMESPACE"}) {
      setenv(name, "/nonexistent", 1);
    }
    setenv("GIT_CONFIG_COUNT", "1", 1);
    setenv("GIT_CONFIG_KEY_0", "core.bare", 1);
    setenv("GIT_CONFIG_VALUE_0", "nonsense", 1);
  }
};
const auto* const kMisleading = ::testing::AddGlobalTestEnvironment(new Misleading);

TEST(History, StartHoldsHeadAndAllTrackedEditsAsTheyLieThere) {
  Stranger user;
  user.sh(after({kOrdinary, kEdits}));
  History history(user.checkout, user.scratch, "t", "train.cpp");
  std::string start = history.commit_start("int best;\n", "baseline");
  EXPECT_EQ(user.sh("cd \"$C\"; git rev-parse " + start + "^"),
            user.sh("git -C \"$C\" rev-parse HEAD"));
  EXPECT_EQ(user.sh("cd \"$C\"; git diff-tree -r --name-status HEAD " + start),
            "D\tgone.txt\nM\tkept.txt\nM\tlink\nM\tother.txt\nA\tstaged.txt\nM\tsub/a "
            "file\nM\ttrain.cpp");
  EXPECT_EQ(user.sh("cd \"$C\"; git show " + start + ":staged.txt " + start + ":other.txt " +
                    start + ":link; git ls-tree " + start + " kept.txt link | cut -c1-6"),
            "newer\ntwo\nkept.txt100755\n120000");
}

TEST(History, AnEditOfTheSameSizeInTheSameSecondIsSeen) {
  Stranger user;
  // The time stamps of file and index say nothing, as after an edit within one tick of the clock.
  user.sh(std::string(kOrdinary) + R"(
git config core.trustctime false; touch -d @1000000000 other.txt; git update-index --refresh
echo ONE >other.txt; touch -d @1000000000 other.txt .git/index)");
  History history(user.checkout, user.scratch, "t", "train.cpp");
  std::string start = history.commit_start("x\n", "baseline");
  EXPECT_EQ(user.sh("cd \"$C\"; git show " + start + ":other.txt"), "ONE");
}

TEST(History, FilesThatOnlyLookChangedStayAsTheyWereCommitted) {
  Stranger user;  // CRLF by autocrlf and a filter, every time stamp changed by a copy
  user.sh(std::string(kOrdinary) + R"(
git config --global core.autocrlf true; rm count other.txt; git checkout -q .
cd ..; cp -r "$C" copy; rm -rf "$C"; mv copy "$C"; cd "$C"; printf 'raw\r\n' >count)");
  History history(user.checkout, user.scratch, "t", "train.cpp");
  std::string start = history.commit_start("x\r\n", "baseline");
  EXPECT_EQ(user.sh("cd \"$C\"; git diff-tree -r --name-only HEAD " + start), "count\ntrain.cpp");
  EXPECT_EQ(user.sh("cd \"$C\"; git cat-file blob " + start + ":count"), "raw\r");
}

TEST(History, ASubmoduleStaysAtItsCommit) {
  Stranger user;
  user.sh(std::string(kOrdinary) +
          "g clone -q . ../s; g submodule --quiet add ../s s; g commit -qm s;"
          "g submodule --quiet add ../s t; g commit -qm t; rm -rf t; echo 1 >t;"
          "cd s; echo 1 >>count; g commit -qam moved");
  History history(user.checkout, user.scratch, "t", "train.cpp");
  std::string start = history.commit_start("x\n", "baseline");
  EXPECT_EQ(user.sh("cd \"$C\"; git diff-tree -r --name-only HEAD " + start), "train.cpp");
}

TEST(History, AConflictIsCommittedWithItsMarkers) {
  Stranger user;
  user.sh(std::string(kOrdinary) + R"(
git checkout -q -b side; echo s >other.txt; g commit -qam s; git checkout -q main
echo m >other.txt; g commit -qam m; ! g merge -q side >/dev/null)");
  History history(user.checkout, user.scratch, "t", "train.cpp");
  std::string start = history.commit_start("x\n", "baseline");
  EXPECT_EQ(user.sh("cd \"$C\"; git show " + start + ":other.txt"),
            "<<<<<<< HEAD\nm\n=======\ns\n>>>>>>> side");
}

TEST(History, AnyBytesComeBackAsTheyWentIn) {
  Stranger user;
  user.sh(std::string(kOrdinary) + "echo '* text=auto eol=crlf ident' >.gitattributes; g add .");
  History history(user.checkout, user.scratch, "t", "train.cpp");
  std::string bytes = "a\r\nb\nc\r$Id$ \xff\xfe";
  bytes += std::string(3 << 20, 'x') + '\0' + "end without a line break";
  std::string start = history.commit_start(bytes, "baseline");
  EXPECT_EQ(history.source_at(start), bytes);
  EXPECT_EQ(history.source_at(history.commit(start, "", "empty")), "");
}

TEST(History, ABranchCalledAutoresearchIsNoObstacle) {
  Stranger user;
  user.sh(std::string(kOrdinary) + "git branch autoresearch");
  History history(user.checkout, user.scratch, "t", "train.cpp");
  std::string start = history.commit_start("x\n", "baseline");
  history.set_ref("champion", start);
  EXPECT_NE(history.move_branch(start, "").value_or("").find("left alone"), std::string::npos);
  EXPECT_EQ(history.source_at(start), "x\n");
}

TEST(History, AnUnbornBranchOfTheTagsNameIsNotBorn) {
  Stranger user;
  user.sh(std::string(kOrdinary) + "git checkout -q --orphan autoresearch/t");
  History history(user.checkout, user.scratch, "t", "train.cpp");
  std::string start = history.commit_start("x\n", "baseline");
  EXPECT_TRUE(history.move_branch(start, "").has_value());
  EXPECT_EQ(history.branch(), std::nullopt);
}

TEST(History, AReadOnlyRepositoryIsLeftForABareOne) {
  Stranger user;
  user.sh(std::string(kOrdinary) +
          "cd ..; chmod -R a-w \"$C/.git\"; chmod -R a+rX .; chmod 777 data/run/git");
  auto run = [&] {
    if (getuid() == 0 && setuid(65534) != 0) _exit(2);  // nothing is read-only for root
    History history(user.checkout, user.scratch, "t", "train.cpp");
    std::string start = history.commit_start("x\n", "baseline");
    history.set_ref("champion", start);
    bool good = history.own_repository() && history.source_at(start) == "x\n" &&
                !history.move_branch(start, "");
    _exit(good ? 0 : 1);
  };
  EXPECT_EXIT(run(), ::testing::ExitedWithCode(0), "");
  user.sh("chmod -R u+w \"$C/.git\"");
  EXPECT_EQ(user.sh("git -C \"$C\" for-each-ref --format='%(refname)'"), "refs/heads/main");
}

TEST(History, AMissingGitIsNamedWithTheCommandThatInstallsIt) {
  Stranger user;
  fs::create_directories(user.checkout);
  fs::create_directories(user.root / "bin");
  fs::create_symlink("/bin/sh", user.root / "bin/sh");
  auto run = [&] {
    setenv("PATH", (user.root / "bin").c_str(), 1);
    try {
      History(user.checkout, user.scratch, "t", "train.cpp");
    } catch (const Error& error) {
      _exit(std::string(error.what()).find("apt-get install -y git") != std::string::npos ? 0 : 1);
    }
    _exit(2);
  };
  EXPECT_EXIT(run(), ::testing::ExitedWithCode(0), "");
}

TEST(History, ARunGoesOnOnlyWhereItsCommitsAre) {
  Stranger user;
  fs::create_directories(user.checkout);
  const auto begun = [&] { History(user.checkout, user.scratch, "t", "train.cpp", true); };
  EXPECT_HAS(error_of(begun), "mend that, or type the command in the checkout in which it began");
  EXPECT_FALSE(fs::exists(user.scratch / "repository.git")) << "the next start would believe it";
  History own(user.checkout, user.scratch, "t", "train.cpp");
  EXPECT_TRUE(own.own_repository());
  EXPECT_EQ(error_of(begun), "") << "it began in its own repository";
  const std::string commit = own.commit_start("int a;\n", "baseline");
  EXPECT_TRUE(own.has(commit));
  EXPECT_FALSE(own.has(std::string(40, 'a')));
}

TEST(History, TagsThatCantNameAFolderAndABranchAreRefused) {
  for (const char* tag : {"", ".", "..", "a/b", "-x", ".a", "a..b", "a.", "a.lock", "a b", "a\n",
                          "ä", "a~1", "a^", "a:b", "@{u}", "a*"}) {
    EXPECT_THROW(History::check_tag(tag), Error) << tag;
  }
  for (const char* tag : {"nov23", "a", "0", "a-b_c.d", "v1.0"}) {
    EXPECT_NO_THROW(History::check_tag(tag)) << tag;
    Stranger user;
    EXPECT_EQ(user.sh(std::string("git check-ref-format refs/heads/autoresearch/") + tag), "");
  }
}

// An edit is carried over to another champion, unless both touch one place.
TEST(History, AMergeTakesBothChangesOrNothing) {
  Stranger user;
  user.sh(kOrdinary);
  const History history(user.checkout, user.scratch, "t", "train.cpp");
  const std::string base = "a\nb\nc\nd\ne\n";
  EXPECT_EQ(history.merge(base, "A\nb\nc\nd\ne\n", "a\nb\nc\nd\nE\n"), "A\nb\nc\nd\nE\n");
  EXPECT_EQ(history.merge(base, "A\nb\nc\nd\ne\n", base), "A\nb\nc\nd\ne\n");
  EXPECT_EQ(history.merge(base, "A\nb\nc\nd\ne\n", "A\nb\nc\nd\ne\n"), "A\nb\nc\nd\ne\n");
  EXPECT_FALSE(history.merge(base, "A\nb\nc\nd\ne\n", "x\nb\nc\nd\ne\n"));
  EXPECT_FALSE(history.merge(base, "", "A\nb\nc\nd\ne\n"));
  EXPECT_EQ(history.merge("a\nb\nc\nd\ne", "A\nb\nc\nd\ne", "a\nb\nc\nd\nE"), "A\nb\nc\nd\nE");
  EXPECT_EQ(history.merge(base, "A\nb\nc\nd\ne\n", "a\nb\nc\nd\ne"), "A\nb\nc\nd\ne")
      << "one side lost its last line end";
  EXPECT_EQ(std::distance(fs::directory_iterator(user.scratch), {}), 0) << "nothing is left";
}

TEST(History, CommitsThatAreGoneAreAnErrorOfOneLine) {
  Stranger user;
  user.sh(kOrdinary);
  History history(user.checkout, user.scratch, "t", "train.cpp");
  try {
    history.source_at(std::string(40, '1'));
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace autoresearch
