#include "common/process.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/fuse.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <thread>
#include <utility>

#include "common/cgroup.h"
#include "common/descriptor.h"
#include "common/error.h"
#include "common/process_table.h"
#include "tests/support.h"

namespace autoresearch {
namespace {

class ProcessTest : public FolderTest {
 protected:
  Command shell(const std::string& script) const {
    return {.argv = {"sh", "-c", script}, .env = {"PATH=/usr/bin:/bin"}, .cwd = dir_, .limit = 30};
  }
};

// Whether a process exists and is not merely waiting to be reaped.
bool alive(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  std::string line;
  std::getline(file, line);
  size_t end = line.rfind(')');
  return end != std::string::npos && line.at(end + 2) != 'Z';
}

bool dies_soon(pid_t pid) {
  for (int i = 0; i < 200 && alive(pid); ++i) usleep(10000);
  return !alive(pid);
}

uint64_t start_time_of(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  std::string line, field;
  std::getline(file, line);
  std::istringstream rest(line.substr(line.rfind(')') + 2));
  for (int i = 3; i <= 22; ++i) rest >> field;
  return std::stoull(field);
}

TEST_F(ProcessTest, ReportsExitStatusAndSignal) {
  EXPECT_EQ(run(shell("exit 0")).code, 0);
  EXPECT_EQ(run(shell("exit 3")).code, 3);
  EXPECT_EQ(run(shell("kill -SEGV $$")).code, 128 + SIGSEGV);
}

TEST_F(ProcessTest, MergesStdoutAndStderrInOrder) {
  EXPECT_EQ(run(shell("echo one; echo two >&2; echo three")).output, "one\ntwo\nthree\n");
}

TEST_F(ProcessTest, AppendsToALog) {
  Command command = shell("echo more; echo trouble >&2");
  command.log = dir_ / "run.log";
  std::ofstream(command.log) << "first\n";
  EXPECT_EQ(run(command).output, "");
  EXPECT_EQ(text("run.log"), "first\nmore\ntrouble\n");
  command.log = dir_ / "no/such/folder/run.log";
  EXPECT_THROW(run(command), Error);
}

// A warning is never read as an answer, and what the child writes elsewhere has no limit for that.
TEST_F(ProcessTest, StderrCanBeKeptApartAndStdoutWhole) {
  Command command = shell("echo careful >&2; head -c 3M /dev/zero; head -c 5M /dev/zero > file");
  command.apart = true;
  const Exit exit = run(command);
  EXPECT_EQ(exit.code, 0);
  EXPECT_EQ(exit.output, std::string(3 << 20, '\0'));
  EXPECT_EQ(exit.errors, "careful\n");
}

TEST_F(ProcessTest, ALogTakesNoMoreThanItsShare) {
  Command command = shell("head -c 6M /dev/zero");
  command.log = dir_ / "run.log";
  EXPECT_EQ(run(command).code, 0);
  EXPECT_EQ(fs::file_size(command.log), 4 << 20);
}

TEST_F(ProcessTest, WhatIsToldComesWithItsTimeAndAtMostSixteenBytesDo) {
  Command command = shell("printf b >&5; printf e >&5; readlink /proc/self/fd/5 | head -c 4");
  command.tells = true;
  const Exit exit = run(command);
  EXPECT_EQ(exit.output, "pipe");
  ASSERT_EQ(exit.told.size(), 2u);
  EXPECT_EQ(exit.told[0].word, 'b');
  EXPECT_EQ(exit.told[1].word, 'e');
  EXPECT_LE(exit.told[0].seconds, exit.told[1].seconds);
  EXPECT_LE(exit.told[1].seconds, exit.seconds);
  command.argv[2] = "head -c 100000 /dev/zero >&5";
  EXPECT_EQ(run(command).told.size(), kMostTold);
}

TEST_F(ProcessTest, AMissingProgramIs127AndNamed) {
  Command command = shell("");
  command.argv = {"no-such-program"};
  Exit exit = run(command);
  EXPECT_EQ(exit.code, 127);
  EXPECT_EQ(exit.output, "cannot run no-such-program in " + dir_.string() + ": not found\n");
  command.argv = {"true"};
  command.cwd = dir_ / "gone";
  EXPECT_EQ(run(command).code, 127);
}

TEST_F(ProcessTest, ANameIsNeverLookedUpInTheWorkingDirectory) {
  std::ofstream(dir_ / "helper") << "#!/bin/sh\necho hello\n";
  fs::permissions(dir_ / "helper", fs::perms::owner_all);
  Command command = shell("");
  command.argv = {"helper"};
  EXPECT_EQ(run(command).code, 127);
  command.env = {"PATH=" + dir_.string()};  // the child's PATH, not the caller's
  EXPECT_EQ(run(command).output, "hello\n");
}

TEST_F(ProcessTest, ATimeoutLeavesNoSurvivorsIncludingGrandchildren) {
  Command command = shell(
      "trap '' TERM; (trap '' TERM; sleep 100 & echo $! > grandchild; wait; sleep 100) &"
      "echo $! > child; sleep 100");
  command.limit = 0.5;
  Exit exit = run(command);
  EXPECT_TRUE(exit.timed_out);
  EXPECT_FALSE(exit.interrupted || exit.over_memory);
  EXPECT_EQ(exit.code, 128 + SIGKILL);
  EXPECT_GE(exit.seconds, 0.5);
  for (const char* who : {"child", "grandchild"}) {
    ASSERT_FALSE(text(who).empty());
    EXPECT_TRUE(dies_soon(std::stoi(text(who)))) << who;
  }
}

TEST_F(ProcessTest, WhatIsLeftOfTheGroupIsKilledAtANormalExit) {
  // The background process also holds the output pipe open: waiting for its end would take 100 s.
  Exit exit = run(shell("sleep 100 & echo $!"));
  EXPECT_EQ(exit.code, 0);
  EXPECT_FALSE(exit.timed_out);
  EXPECT_TRUE(dies_soon(std::stoi(exit.output)));
}

TEST_F(ProcessTest, FiftyMegabytesOfOutputKeepTheLastMebibyte) {
  Exit exit = run(shell("head -c 50000000 /dev/zero; echo the end"));
  EXPECT_EQ(exit.code, 0);
  EXPECT_EQ(exit.output.size(), size_t{1} << 20);
  EXPECT_TRUE(exit.output.ends_with("the end\n"));
}

TEST_F(ProcessTest, TenMegabytesOfInputArriveWhole) {
  Command command = shell("wc -c; echo done");
  command.input = std::string(10'000'000, 'x');
  EXPECT_EQ(run(command).output, "10000000\ndone\n");
  command.argv[2] = "true";  // never reads it
  EXPECT_EQ(run(command).code, 0);
  command.input = "";
  command.argv[2] = "readlink /proc/self/fd/0";
  EXPECT_EQ(run(command).output, "/dev/null\n");
}

TEST_F(ProcessTest, TheEnvironmentIsExactlyWhatWasGiven) {
  setenv("OPENAI_API_KEY", "sk-secret", 1);
  Command command = shell("");
  command.argv = {"/usr/bin/env"};
  command.env = {"ONE=1", "TWO=two words"};
  EXPECT_EQ(run(command).output, "ONE=1\nTWO=two words\n");
  unsetenv("OPENAI_API_KEY");
}

TEST_F(ProcessTest, TheScrubbedEnvironmentHasNoKeyAndNoToken) {
  for (const char* name : {"OPENAI_API_KEY", "GITHUB_TOKEN", "AWS_SECRET", "LD_PRELOAD"}) {
    setenv(name, "secret", 1);
  }
  setenv("CUDA_VISIBLE_DEVICES", "1", 1);
  auto env = scrubbed_environment();
  auto has = [&](const std::string& entry) {
    return std::count(env.begin(), env.end(), entry) == 1;
  };
  EXPECT_TRUE(has("CUDA_VISIBLE_DEVICES=1") && has("TMPDIR=/tmp"));
  EXPECT_TRUE(has(std::string("PATH=") + std::getenv("PATH")));
  for (const auto& entry : env) EXPECT_EQ(entry.find("secret"), std::string::npos) << entry;
  for (const char* name :
       {"OPENAI_API_KEY", "GITHUB_TOKEN", "AWS_SECRET", "LD_PRELOAD", "CUDA_VISIBLE_DEVICES"}) {
    unsetenv(name);
  }
}

TEST_F(ProcessTest, BeforeExecSeesTheChildBeforeItRuns) {
  Command command = shell("touch ran; echo $$");
  pid_t seen = 0;
  command.before_exec = [&](pid_t pid, uint64_t start_time) {
    seen = pid;
    EXPECT_EQ(start_time, start_time_of(pid));
    usleep(200000);
    EXPECT_FALSE(fs::exists(dir_ / "ran"));
  };
  std::string output = run(command).output;
  EXPECT_EQ(output, std::to_string(seen) + "\n");
  EXPECT_TRUE(fs::exists(dir_ / "ran"));
}

TEST_F(ProcessTest, AnExceptionBeforeExecKillsTheChildAndItNeverRuns) {
  Command command = shell("touch ran");
  pid_t seen = 0;
  command.before_exec = [&](pid_t pid, uint64_t) {
    seen = pid;
    throw Error("the journal is full");
  };
  EXPECT_THROW(run(command), Error);
  EXPECT_EQ(kill(seen, 0), -1);  // reaped as well
  usleep(100000);
  EXPECT_FALSE(fs::exists(dir_ / "ran"));
}

TEST_F(ProcessTest, AnExceptionInATickKillsTheChild) {
  Command command = shell("sleep 100");
  pid_t seen = 0;
  command.before_exec = [&](pid_t pid, uint64_t) { seen = pid; };
  command.tick = [](double seconds) {
    EXPECT_GT(seconds, 0);
    throw Error("stop");
  };
  EXPECT_THROW(run(command), Error);
  EXPECT_EQ(kill(seen, 0), -1);
}

TEST_F(ProcessTest, DescriptorsAreNotInherited) {
  int leaked = open("/etc/hostname", O_RDONLY);  // no O_CLOEXEC, as libraries do it
  ASSERT_GE(leaked, 0);
  // The listing itself opens one descriptor, which gets the lowest free number.
  EXPECT_EQ(run(shell("exec ls /proc/self/fd")).output, "0\n1\n2\n3\n");
  close(leaked);
}

TEST_F(ProcessTest, LeadsASessionOfItsOwn) {
  // Without the terminal of the user's session nothing can be typed into it.
  EXPECT_EQ(
      run(shell("set -- $(cat /proc/$$/stat); [ $5 = $$ ] && [ $6 = $$ ] && echo own")).output,
      "own\n");
}

TEST_F(ProcessTest, SignalsOfTheChildAreDefaultAndUnblocked) {
  auto before = signal(SIGPIPE, SIG_IGN);
  sigset_t terminate, old;
  sigemptyset(&terminate);
  sigaddset(&terminate, SIGTERM);
  sigprocmask(SIG_BLOCK, &terminate, &old);
  EXPECT_EQ(run(shell("kill -PIPE $$")).code, 128 + SIGPIPE);
  EXPECT_EQ(run(shell("kill -TERM $$")).code, 128 + SIGTERM);
  sigprocmask(SIG_SETMASK, &old, nullptr);
  signal(SIGPIPE, before);
}

TEST_F(ProcessTest, TooMuchMemoryEndsTheWholeGroup) {
  // tail holds all of it; the leader itself, a shell, stays small.
  Command command = shell("head -c 400M /dev/zero | (tail -c 400M; sleep 100) | (sleep 100; cat)");
  command.max_rss_bytes = 100 << 20;
  Exit exit = run(command);
  EXPECT_TRUE(exit.over_memory);
  EXPECT_FALSE(exit.timed_out);
  EXPECT_EQ(exit.code, 128 + SIGKILL);
}

// A control group refuses at once what a watch would only see later.
TEST_F(ProcessTest, AControlGroupLimitsWhatNoWatchSees) {
  if (const ControlGroup group(1 << 30, 100); !group.limits_memory() || !group.limits_tasks())
    GTEST_SKIP() << "no control group can be made here";
  Command command = shell("for i in 1 2 3 4 5 6 7 8; do (sleep 20 | sleep 20) & done; wait");
  command.limit = 5;
  command.max_tasks = 6;
  const Exit few = run(command);
  EXPECT_NE(few.output.find("fork"), std::string::npos) << "the shell was refused: " << few.output;
  command = shell("head -c 300M /dev/zero | tail -c 300M");
  command.max_rss_bytes = 50 << 20;
  command.tick = [](double) { usleep(2000000); };  // our own watch looks away
  EXPECT_TRUE(run(command).over_memory);
}

// On a small disk of its own, which only this process sees.
TEST_F(ProcessTest, AChildThatFillsTheDiskIsEnded) {
  const auto fill = [&](const char* size, const std::string& script) {
    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0)
      _exit(2);
    if (mount("none", dir_.c_str(), "tmpfs", 0, size) != 0) _exit(2);
    Command command = shell(script + "; sleep 60");
    command.disk = dir_;
    _exit(run(command).over == "it filled the disk" ? 0 : 1);
  };
  if (geteuid() != 0) GTEST_SKIP() << "only root may mount";
  EXPECT_EXIT(fill("size=64m", "head -c 60M /dev/zero > full"), testing::ExitedWithCode(0), "");
  EXPECT_EXIT(fill("nr_inodes=100", "for i in $(seq 90); do : > $i; done"),
              testing::ExitedWithCode(0), "");
}

TEST_F(ProcessTest, ReportsThePeakOfTheLargestProcess) {
  Exit exit = run(shell("head -c 200M /dev/zero | tail -c 200M | cat > /dev/null"));
  EXPECT_EQ(exit.code, 0);
  EXPECT_GT(exit.peak_rss_bytes, 200 << 20);
  EXPECT_LT(exit.peak_rss_bytes, 600 << 20);
}

TEST_F(ProcessTest, NiceIsPassedOn) {
  Command command = shell("nice");
  const int ours = std::stoi(run(command).output);  // the tests themselves may be nice
  command.nice = 7;
  EXPECT_EQ(run(command).output, std::to_string(std::min(19, ours + 7)) + "\n");
}

// The flag stays set for the rest of a process: each of these runs in a process of its own.
TEST_F(ProcessTest, AnInterruptEndsTheChildAndIsReported) {
  auto interrupted = [&](const std::string& script, bool finishes) {
    watch_for_interrupt();
    Command command = shell(script);
    command.finishes = finishes;
    bool sent = false;
    command.tick = [&](double) {
      if (!std::exchange(sent, true)) raise(SIGTERM);
    };
    Exit exit = run(command);
    _exit(exit.interrupted && !exit.timed_out ? exit.code : 1);
  };
  EXPECT_EXIT(interrupted("sleep 100", false), testing::ExitedWithCode(128 + SIGTERM), "");
  EXPECT_EXIT(interrupted("trap 'exit 9' TERM; while :; do sleep 0.1; done", false),
              testing::ExitedWithCode(9), "");
  EXPECT_EXIT(interrupted("trap '' TERM; while :; do sleep 0.1; done", false),
              testing::ExitedWithCode(128 + SIGKILL), "");
  EXPECT_EXIT(interrupted("sleep 1; exit 5", /*finishes=*/true), testing::ExitedWithCode(1), "");
}

TEST_F(ProcessTest, ASecondInterruptEndsTheAgentAtOnceAndAHangupDoesNot) {
  auto twice = [] {
    watch_for_interrupt();
    raise(SIGHUP);
    raise(SIGPIPE);
    raise(SIGINT);
    if (!interrupt_requested()) _exit(1);
    raise(SIGINT);
    _exit(2);
  };
  EXPECT_EXIT(twice(), testing::ExitedWithCode(130), "");
}

TEST_F(ProcessTest, KillOrphanIgnoresARecycledPid) {
  pid_t pid = fork();
  if (pid == 0) {
    setsid();
    execlp("sleep", "sleep", "100", nullptr);
    _exit(127);
  }
  uint64_t start = start_time_of(pid);
  kill_orphan(pid, start + 1);
  usleep(100000);
  EXPECT_TRUE(alive(pid));
  kill_orphan(pid, start);
  int status = 0;
  ASSERT_EQ(waitpid(pid, &status, 0), pid);
  EXPECT_EQ(WTERMSIG(status), SIGKILL);
  kill_orphan(pid, start);  // nobody is there any more
}

// In a process of its own: that it adopts orphans can't be undone.
TEST_F(ProcessTest, WhoeverAdoptsOrphansIsLeftWithNone) {
  const auto leave_a_daemon = [&] {
    adopt_orphans();
    const Exit exit = run(shell("(setsid sleep 100 & echo $!)"));
    _exit(alive(std::stoi(exit.output)) ? 1 : 0);
  };
  EXPECT_EXIT(leave_a_daemon(), testing::ExitedWithCode(0), "");
}

TEST_F(ProcessTest, KillOrphanKillsTheWholeGroup) {
  int pipe_ends[2];
  ASSERT_EQ(pipe(pipe_ends), 0);
  pid_t pid = fork();
  if (pid == 0) {
    setsid();
    pid_t child = fork();
    if (child == 0) {
      pause();
      _exit(0);
    }
    [[maybe_unused]] ssize_t n = write(pipe_ends[1], &child, sizeof child);
    pause();
    _exit(0);
  }
  pid_t grandchild = 0;
  ASSERT_EQ(read(pipe_ends[0], &grandchild, sizeof grandchild), ssize_t{sizeof grandchild});
  kill_orphan(pid, start_time_of(pid));
  waitpid(pid, nullptr, 0);
  EXPECT_TRUE(dies_soon(grandchild));
  close(pipe_ends[0]);
  close(pipe_ends[1]);
}

TEST_F(ProcessTest, ManyThreadsMayRunChildrenAtOnce) {
  std::vector<std::thread> threads;
  std::vector<std::string> outputs(16);
  for (size_t i = 0; i < outputs.size(); ++i) {
    threads.emplace_back([&, i] {
      Command command = shell("cat");
      command.input = std::to_string(i);
      outputs[i] = run(command).output;
    });
  }
  for (auto& thread : threads) thread.join();
  for (size_t i = 0; i < outputs.size(); ++i) EXPECT_EQ(outputs[i], std::to_string(i));
}

// Each of four threads runs its share, of every kind, and gets what its own children did.
TEST_F(ProcessTest, TwoHundredShortChildrenOnFourThreadsDoNotMixUp) {
  constexpr int kThreads = 4, kEach = 50;
  std::atomic<int> right = 0;
  std::vector<std::thread> threads;
  for (int thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&, thread] {
      for (int i = 0; i < kEach; ++i) {
        const std::string word = std::to_string(thread) + "-" + std::to_string(i);
        Command command = shell("cat; printf b >&5; printf e >&5; exit " + std::to_string(i));
        command.input = word;
        command.tells = true;
        pid_t named = 0;
        command.before_exec = [&](pid_t pid, uint64_t) { named = pid; };
        const bool killed = i % 10 == 9;  // one that has to be, among others that must not
        bool told = false;
        if (killed) {
          command.argv[2] = "cat; printf b >&5; sleep 100";
          command.heard = [&](char) { told = true; };
          command.stop = [&] { return told; };
        }
        const Exit exit = run(command);
        const bool as_wished = killed ? exit.code == 128 + SIGKILL && exit.told.size() == 1
                                      : exit.code == i && exit.told.size() == 2;
        if (as_wished && exit.output == word && kill(named, 0) != 0) ++right;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(right, kThreads * kEach);
}

// In a process of its own: that it adopts orphans can't be undone.
TEST_F(ProcessTest, OrphansEndWithTheirOwnChildAndNotWithAnothers) {
  const std::string leave = "(setsid sleep 100 & echo $! > ";
  const auto both = [&] {
    adopt_orphans();
    bool others_lived = false;
    std::thread longer([&] {
      Command command = shell(leave + "longer); touch there; sleep 100");
      command.stop = [&] { return fs::exists(dir_ / "look"); };
      run(command);
    });
    while (!fs::exists(dir_ / "there")) usleep(10000);
    run(shell(leave + "shorter)"));
    const bool own_ended = !alive(std::stoi(text("shorter")));
    others_lived = alive(std::stoi(text("longer")));
    std::ofstream(dir_ / "look");
    longer.join();
    _exit(own_ended && others_lived && !alive(std::stoi(text("longer"))) ? 0 : 1);
  };
  EXPECT_EXIT(both(), testing::ExitedWithCode(0), "");
}

// Two children wait for their journal lines, and each was forked while the other's pipe was open.
TEST_F(ProcessTest, ChildrenThatNeverRanEndWithAnAgentThatIsKilled) {
  const pid_t agent = fork();
  if (agent == 0) {
    std::vector<std::thread> threads;
    for (const char* name : {"first", "second"})
      threads.emplace_back([this, name] {
        Command command = shell("sleep 100");
        command.before_exec = [&](pid_t pid, uint64_t) {
          std::ofstream(dir_ / name) << pid << std::endl;
          pause();
        };
        run(command);
      });
    for (auto& thread : threads) thread.join();
    _exit(0);
  }
  while (text("first").empty() || text("second").empty()) usleep(10000);
  kill(agent, SIGKILL);
  waitpid(agent, nullptr, 0);
  EXPECT_TRUE(dies_soon(std::stoi(text("first"))));
  EXPECT_TRUE(dies_soon(std::stoi(text("second"))));
}

// A file system whose server has stopped to answer, as a network disk's can: who reads there waits
// in the kernel and no signal ends it.
class SilentDisk {
 public:
  explicit SilentDisk(const fs::path& folder) : folder_(folder) {
    server_ = open("/dev/fuse", O_RDWR | O_CLOEXEC);
    const std::string options =
        "fd=" + std::to_string(server_) + ",rootmode=40000,user_id=0,group_id=0";
    mounted_ = server_ >= 0 && mount("silent", folder.c_str(), "fuse", 0, options.c_str()) == 0;
    if (mounted_) greet();
  }
  ~SilentDisk() { answer_nothing_more(); }
  bool mounted() const { return mounted_; }
  // Takes one question and leaves it open.
  void hear() const {
    char question[1 << 16];
    ASSERT_GT(read(server_, question, sizeof question), 0);
  }
  // The kernel gives up what is open: whoever waited goes on, and ends.
  void answer_nothing_more() {
    if (server_ >= 0) close(std::exchange(server_, -1));
    if (std::exchange(mounted_, false)) umount2(folder_.c_str(), MNT_DETACH);
  }

 private:
  void greet() const {
    char question[1 << 16];
    ASSERT_GT(read(server_, question, sizeof question), 0);
    fuse_in_header asked;
    memcpy(&asked, question, sizeof asked);
    struct {
      fuse_out_header header;
      fuse_init_out init;
    } answer = {};
    answer.header = {sizeof answer, 0, asked.unique};
    answer.init.major = FUSE_KERNEL_VERSION;
    answer.init.minor = FUSE_KERNEL_MINOR_VERSION;
    answer.init.max_write = 4096;
    ASSERT_EQ(write(server_, &answer, sizeof answer), ssize_t{sizeof answer});
  }

  fs::path folder_;
  int server_ = -1;
  bool mounted_ = false;
};

TEST_F(ProcessTest, AChildThatSigkillDoesNotEndIsReportedAndNotWaitedForForEver) {
  fs::create_directory(dir_ / "disk");
  SilentDisk disk(dir_ / "disk");
  if (!disk.mounted()) GTEST_SKIP() << "only root may mount, and Linux must have FUSE";
  Command command = shell("echo before; exec cat disk/file");
  command.patience = 1;
  std::atomic<bool> asked = false;
  std::thread server([&] {
    disk.hear();
    asked = true;
  });
  command.stop = [&] { return asked.load(); };
  const Exit exit = run(command);
  server.join();
  EXPECT_EQ(exit.output, "before\n");
  ASSERT_TRUE(exit.stuck);
  EXPECT_EQ(what_holds(*exit.stuck)
                .find("process " + std::to_string(exit.stuck->pid) + " can't be ended (state D"),
            0u)
      << what_holds(*exit.stuck);
  EXPECT_EQ(run(shell("echo others run")).output, "others run\n");
  disk.answer_nothing_more();
  EXPECT_TRUE(dies_soon(exit.stuck->pid));
  EXPECT_EQ(what_holds(*exit.stuck), "");
  run(shell("true"));
  EXPECT_EQ(kill(exit.stuck->pid, 0), -1) << "a later run() reaps it";
}

TEST_F(ProcessTest, WhatHasAMemoryLimitDiesBeforeUsWhenMemoryRunsOut) {
  Command command = shell("cat /proc/self/oom_score_adj");
  command.max_rss_bytes = int64_t{1} << 30;
  EXPECT_EQ(run(command).output, "1000\n");
  command.argv[2] =
      "cd /proc/$$; echo 0 > oom_score_adj; "
      "for i in $(seq 100); do [ $(cat oom_score_adj) = 0 ] && sleep 0.1; done; cat oom_score_adj";
  EXPECT_EQ(run(command).output, "1000\n") << "nor can it take that back";
  int ours = 1000;
  std::ifstream("/proc/self/oom_score_adj") >> ours;
  EXPECT_LT(ours, 1000);
}

// As an agent: orphans of the group are found among its own children.
TEST_F(ProcessTest, MemoryOfAnOrphanCounts) {
  const auto watch_an_orphan = [&] {
    adopt_orphans();
    Command command =
        shell("(setsid sh -c 'head -c 400M /dev/zero | tail -c 400M | sleep 100' &); sleep 100");
    command.max_rss_bytes = 100 << 20;
    _exit(run(command).over_memory ? 0 : 1);
  };
  EXPECT_EXIT(watch_an_orphan(), testing::ExitedWithCode(0), "");
}

// Five runners have the same libraries mapped, whose pages the kernel keeps once and can drop.
TEST_F(ProcessTest, PagesOfFilesOnDiskCountForNobody) {
  constexpr int64_t kSize = int64_t{64} << 20;
  const fs::path file = dir_ / "library";
  write_file(file, std::string(kSize, 'x'));
  const auto used = [] { return usage_of(trees_of({getpid()}), 0).bytes; };
  const int64_t before = used();
  const Descriptor opened(open(file.c_str(), O_RDONLY | O_CLOEXEC));
  void* of_file = mmap(nullptr, kSize, PROT_READ, MAP_PRIVATE | MAP_POPULATE, opened.get(), 0);
  ASSERT_NE(of_file, MAP_FAILED);
  EXPECT_LT(used() - before, kSize / 2);
  void* own = mmap(nullptr, kSize, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  ASSERT_NE(own, MAP_FAILED);
  EXPECT_GT(used() - before, kSize / 2);
  munmap(of_file, kSize);
  munmap(own, kSize);
}

TEST_F(ProcessTest, ATreeIsFoundByItsOwnLists) {
  Command command = shell("sleep 100 & (sleep 100 & sleep 100; true); true");
  ProcessTable seen;
  pid_t leader = 0;
  command.before_exec = [&](pid_t pid, uint64_t) { leader = pid; };
  command.stop = [&] { return (seen = trees_of({leader})).size() == 5; };
  run(command);
  EXPECT_EQ(seen.size(), 5u);
  EXPECT_FALSE(seen.contains(getpid()));
}

// In children: what is asked for can't be taken back.
TEST_F(ProcessTest, AnOpenFileCanBeItsInput) {
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  ASSERT_EQ(write(ends[1], "from a pipe", 11), 11);
  close(ends[1]);
  Command command = shell("cat");
  command.input_fd = ends[0];
  EXPECT_EQ(run(command).output, "from a pipe");
  EXPECT_EQ(close(ends[0]), 0) << "the descriptor stays the caller's";
}

TEST_F(ProcessTest, StopEndsAChildThatWouldGoOn) {
  Command command = shell("echo $$ > pid; sleep 30");
  command.stop = [&] { return !text("pid").empty(); };
  const Exit exit = run(command);
  EXPECT_EQ(exit.code, 128 + SIGKILL);
  EXPECT_FALSE(exit.timed_out);
  EXPECT_TRUE(dies_soon(std::stoi(text("pid"))));
}

TEST(KeepMemoryPrivate, NoCrashLeavesACoreFile) {
  const pid_t child = fork();
  if (child == 0) {
    const rlimit unlimited = {RLIM_INFINITY, RLIM_INFINITY};
    setrlimit(RLIMIT_CORE, &unlimited);
    keep_memory_private();
    rlimit left = {1, 1};
    getrlimit(RLIMIT_CORE, &left);
    if (left.rlim_cur != 0 || left.rlim_max != 0 || prctl(PR_GET_DUMPABLE) != 0) _exit(1);
    signal(SIGABRT, SIG_DFL);
    abort();
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(WTERMSIG(status), SIGABRT);
  EXPECT_FALSE(WCOREDUMP(status));
}

}  // namespace
}  // namespace autoresearch
