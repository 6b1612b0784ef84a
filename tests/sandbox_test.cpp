// What a sandbox keeps in and out, tried in real ones. Each test first shows where it can that the
// same thing works outside: a claim that holds because the attack was mistyped is worth nothing.
#include "common/sandbox.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <set>
#include <sstream>

#include "common/error.h"
#include "common/landlock.h"
#include "common/process.h"
#include "common/process_table.h"
#include "common/seccomp.h"
#include "tests/support.h"

namespace autoresearch {
namespace {

class SandboxTest : public FolderTest {
 protected:
  // Below /var/tmp: what lies below /tmp would be hidden by the fresh /tmp alone.
  SandboxTest() : FolderTest("/var/tmp") {
    for (const char* name : {"inside", "named", "unnamed"}) fs::create_directory(dir_ / name);
    write("named/file", "named\n");
    write("unnamed/file", "secret\n");
  }

  void SetUp() override {
    static const auto problem = sandbox_problem();
    if (problem) GTEST_SKIP() << *problem;
  }

  void write(const std::string& name, const std::string& text) {
    std::ofstream(dir_ / name) << text;
  }
  View view() const { return {.read_only = {dir_ / "named"}, .writable = dir_ / "inside"}; }
  void expect_that_cpp_compiles() const {
    View builder = view();
    builder.builds = true;
    const std::string script = "echo 'int main() { return 42; }' > a.cpp && g++ a.cpp -o a && ./a";
    const Exit exit =
        run(confine({.argv = {"sh", "-c", script}, .env = scrubbed_environment()}, builder));
    EXPECT_EQ(exit.code, 42) << exit.output;
  }
  Exit outside(const std::string& script) const {
    return run({.argv = {"bash", "-c", script}, .env = scrubbed_environment(), .limit = 20});
  }
  Command sandboxed(const std::string& script) const {
    return confine({.argv = {"bash", "-c", script}, .env = scrubbed_environment(), .limit = 20},
                   view());
  }
  Exit inside(const std::string& script) const { return run(sandboxed(script)); }

  // tests/redteam/calls.cpp as a program, seen on both sides.
  std::string calls() const { return (dir_ / "named/calls").string(); }
  void build_calls() const {
    const Exit built =
        outside("g++ -std=c++20 -o " + calls() + " " SOURCE_DIR "/tests/redteam/calls.cpp");
    ASSERT_EQ(built.code, 0) << built.output;
  }
};

// A folder that stands for / of a machine that was booted without a display.
class NvidiaUvm : public FolderTest {
 protected:
  NvidiaUvm() {
    fs::create_directories(root_ / "dev");
    setenv("PATH", (root_.string() + ":" + path_).c_str(), 1);
  }
  ~NvidiaUvm() override { setenv("PATH", path_.c_str(), 1); }
  void modprobe(const std::string& script) {
    std::ofstream(root_ / "nvidia-modprobe") << "#!/bin/sh\n" << script << "\n";
    fs::permissions(root_ / "nvidia-modprobe", fs::perms::owner_all);
  }
  std::string node() const { return root_.string() + "/dev/nvidia-uvm"; }

  const std::string path_ = std::getenv("PATH");
  const fs::path& root_ = dir_;
};

TEST_F(NvidiaUvm, TheNodeIsMadeBeforeTheFirstSandbox) {
  std::ofstream(root_ / "dev/nvidiactl");
  modprobe("[ \"$*\" = '-u -c=0' ] && touch " + node());
  EXPECT_EQ(make_nvidia_uvm(root_), std::nullopt);
  EXPECT_TRUE(fs::exists(node()));
}

TEST_F(NvidiaUvm, ANodeThatCannotBeMadeIsToldWithTheCommand) {
  std::ofstream(root_ / "dev/nvidiactl");
  for (const bool installed : {false, true}) {
    if (installed) modprobe("exit 1");
    const auto problem = make_nvidia_uvm(root_);
    ASSERT_TRUE(problem);
    EXPECT_NE(problem->find("type: sudo nvidia-modprobe -u -c=0"), std::string::npos) << *problem;
  }
}

TEST_F(NvidiaUvm, WithoutADriverNothingIsMade) {
  modprobe("touch " + node());
  EXPECT_EQ(make_nvidia_uvm(root_), std::nullopt);
  EXPECT_FALSE(fs::exists(node()));
}

// How many processes of the machine have `mark` in their command line.
int processes_with(const std::string& mark) {
  int count = 0;
  for (const auto& entry : fs::directory_iterator("/proc")) {
    std::ifstream file(entry.path() / "cmdline");
    std::string line((std::istreambuf_iterator<char>(file)), {});
    if (line.find(mark) != std::string::npos) ++count;
  }
  return count;
}

TEST_F(SandboxTest, RunsInTheWritableFolderAndHandsOnTheExitStatus) {
  Exit exit = inside("pwd; echo result > file; exit 7");
  EXPECT_EQ(exit.output, (dir_ / "inside").string() + "\n");
  EXPECT_EQ(exit.code, 7);
  EXPECT_EQ(text("inside/file"), "result\n");
}

TEST_F(SandboxTest, ANamedPathIsVisibleAndNotWritable) {
  std::string named = (dir_ / "named").string();
  EXPECT_EQ(inside("cat " + named + "/file").output, "named\n");
  EXPECT_NE(inside("echo x >> " + named + "/file").code, 0);
  EXPECT_NE(inside("touch " + named + "/new").code, 0);
  EXPECT_NE(inside("rm -f " + named + "/file; [ ! -e " + named + "/file ]").code, 0);
  EXPECT_EQ(text("named/file"), "named\n");
}

TEST_F(SandboxTest, UnnamedPathsAreNotThere) {
  std::string command = "cat " + (dir_ / "unnamed/file").string();
  EXPECT_EQ(outside(command).output, "secret\n");
  EXPECT_NE(inside(command).code, 0);
  EXPECT_EQ(inside("ls " + dir_.string()).output, "inside\nnamed\n");
}

TEST_F(SandboxTest, ALinkDoesNotLeadOut) {
  fs::create_symlink(dir_ / "unnamed/file", dir_ / "inside/link");
  EXPECT_EQ(outside("cat " + (dir_ / "inside/link").string()).output, "secret\n");
  EXPECT_NE(inside("cat link").code, 0);
}

TEST_F(SandboxTest, APathThroughALinkHasBothItsNames) {
  fs::create_directory_symlink(dir_ / "named", dir_ / "alias");
  View seen{.read_only = {dir_ / "alias"}, .writable = dir_ / "inside"};
  std::string script =
      "cat " + (dir_ / "alias/file").string() + " " + (dir_ / "named/file").string();
  EXPECT_EQ(
      run(confine({.argv = {"sh", "-c", script}, .env = scrubbed_environment()}, seen)).output,
      "named\nnamed\n");
}

TEST_F(SandboxTest, PathsBelowTmpWorkThoughTmpIsFresh) {
  char pattern[] = "/tmp/sandbox_test.XXXXXX";
  fs::path tmp = mkdtemp(pattern);
  fs::create_directories(tmp / "outer/inner");
  std::ofstream(tmp / "outer/file") << "seen\n";
  std::ofstream(tmp / "other") << "unseen\n";
  // The writable folder lies within a read-only one.
  View seen{.read_only = {tmp / "outer"}, .writable = tmp / "outer/inner"};
  const std::string script = "cat ../file; : > made; touch ../no; ls /tmp; ls " + tmp.string() +
                             "; : > /tmp/mine && echo mine";
  Exit exit = run(confine({.argv = {"sh", "-c", script}, .env = scrubbed_environment()}, seen));
  EXPECT_EQ(exit.output, "seen\ntouch: cannot touch '../no': Read-only file system\n" +
                             tmp.filename().string() + "\nouter\nmine\n");
  EXPECT_TRUE(fs::exists(tmp / "outer/inner/made"));
  EXPECT_FALSE(fs::exists("/tmp/mine"));
  fs::remove_all(tmp);
}

TEST_F(SandboxTest, HomesAreNotThere) {
  EXPECT_NE(inside("ls /home").code, 0);
  EXPECT_NE(inside("ls /root").code, 0);
  EXPECT_EQ(inside("ls / | tr '\\n' ' '").output.find("home"), std::string::npos);
}

TEST_F(SandboxTest, NothingOutsideTheFolderCanBeWritten) {
  for (const char* place :
       {"/", "/usr/", "/usr/local/bin/", "/etc/", "/var/", "/var/tmp/", "/bin/"}) {
    EXPECT_NE(inside(std::string("echo x > ") + place + "planted").code, 0) << place;
  }
  // As root, core_pattern would run a program outside the sandbox. Opened only, not written to.
  std::string open = "exec 3>> /proc/sys/kernel/core_pattern";
  if (geteuid() == 0) {
    EXPECT_EQ(outside(open).code, 0);
  }
  EXPECT_NE(inside(open).code, 0);
  EXPECT_EQ(inside("find /proc /sys -maxdepth 6 -writable -not -type l 2>/dev/null").output, "");
  EXPECT_EQ(inside("find / -type d -writable -not -path '/dev*' 2>/dev/null | sort").output,
            "/tmp\n" + (dir_ / "inside").string() + "\n");
}

TEST_F(SandboxTest, MountsCannotBeChanged) {
  EXPECT_NE(inside("mount -o remount,rw /usr").code, 0);
  EXPECT_NE(inside("umount " + (dir_ / "named").string()).code, 0);
}

TEST_F(SandboxTest, NoCapabilityIsLeft) {
  EXPECT_EQ(inside("grep CapEff /proc/self/status").output, "CapEff:\t0000000000000000\n");
}

TEST_F(SandboxTest, ThereIsNoNetwork) {
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  ASSERT_EQ(bind(listener, reinterpret_cast<sockaddr*>(&address), size), 0);
  ASSERT_EQ(listen(listener, 4), 0);
  ASSERT_EQ(getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size), 0);
  std::string connect = "echo > /dev/tcp/127.0.0.1/" + std::to_string(ntohs(address.sin_port));
  EXPECT_EQ(outside(connect).code, 0);
  EXPECT_NE(inside(connect).code, 0);
  EXPECT_EQ(inside("grep -c : /proc/net/dev").output, "1\n");  // the sandbox's own loopback
  close(listener);
}

TEST_F(SandboxTest, OtherProcessesAreInvisible) {
  std::string us = std::to_string(getpid());
  std::string find = "for p in /proc/[0-9]*; do [ $(readlink $p/exe) = " +
                     fs::read_symlink("/proc/self/exe").string() + " ] && echo found; done; true";
  EXPECT_NE(outside(find).output.find("found"), std::string::npos);
  EXPECT_EQ(inside(find).output.find("found"), std::string::npos);
  EXPECT_EQ(inside("ls -d /proc/[0-9]* | wc -l").output.size(), 2u);  // one digit: a handful
  EXPECT_EQ(outside("kill -0 " + us).code, 0);
  EXPECT_NE(inside("kill -0 " + us).code, 0);
  EXPECT_NE(inside("head -c 1 /proc/" + us + "/mem").code, 0);  // what ptrace would go through
}

TEST_F(SandboxTest, NoSecretIsInAnyEnvironment) {
  setenv("OPENAI_API_KEY", "sk-secret", 1);
  std::string search = "cat /proc/[0-9]*/environ /proc/$PPID/environ 2>/dev/null | tr '\\0' '\\n'";
  // Outside, the search meets the environment of its parent, which has no key: only a new child
  // has.
  EXPECT_NE(
      outside("OPENAI_API_KEY=sk-secret sleep 5 & sleep 0.2; " + search).output.find("sk-secret"),
      std::string::npos);
  Exit exit = inside(search);
  EXPECT_NE(exit.output.find("TMPDIR=/tmp"), std::string::npos);
  EXPECT_EQ(exit.output.find("sk-secret"), std::string::npos);
  unsetenv("OPENAI_API_KEY");
}

// They are the machine's own: what is marked there would be read in the next sandbox.
TEST_F(SandboxTest, NodesInDevKeepTheirModesAndTimes) {
  struct stat before = {}, after = {};
  ASSERT_EQ(stat("/dev/full", &before), 0);
  const Exit exit = inside("chmod 1640 /dev/full && echo marked; touch -m -d 2001-02-03 /dev/full");
  EXPECT_EQ(exit.output.find("marked"), std::string::npos) << exit.output;
  ASSERT_EQ(stat("/dev/full", &after), 0);
  EXPECT_EQ(before.st_mode, after.st_mode);
  EXPECT_EQ(before.st_mtim.tv_sec, after.st_mtim.tv_sec);
  EXPECT_EQ(before.st_mtim.tv_nsec, after.st_mtim.tv_nsec);
}

TEST_F(SandboxTest, ADaemonDiesWithTheSandbox) {
  std::string mark = "3600." + std::to_string(getpid());
  Command command = sandboxed("setsid setsid sleep " + mark + " & sleep 1");
  int seen = 0;
  command.tick = [&](double) { seen = std::max(seen, processes_with(mark)); };
  EXPECT_EQ(run(command).code, 0);
  EXPECT_GE(seen, 2);  // the shell, and the daemon
  EXPECT_EQ(processes_with(mark), 0) << "run() returns when the sandbox is empty";
}

TEST_F(SandboxTest, ADeadlineEndsTheWholeCage) {
  std::string mark = "3601." + std::to_string(getpid());
  Command command = sandboxed("setsid setsid sleep " + mark + " & sleep " + mark);
  command.limit = 1;
  EXPECT_TRUE(run(command).timed_out);
  EXPECT_EQ(processes_with(mark), 0) << "run() returns when the sandbox is empty";
}

TEST_F(SandboxTest, MemoryOfADaemonInTheSandboxCounts) {
  Command command = sandboxed(
      "setsid bash -c 'head -c 400M /dev/zero | tail -c 400M | sleep 60' & "
      "sleep 60");
  command.max_rss_bytes = 100 << 20;
  Exit exit = run(command);
  EXPECT_TRUE(exit.over_memory);
  EXPECT_FALSE(exit.timed_out);
}

// --- Memory and processes

TEST_F(SandboxTest, MemoryThatNoProcessHoldsCountsToo) {
  build_calls();
  const std::string fill = "head -c 300M /dev/zero > ";
  for (const std::string& script :
       {fill + "/tmp/x; sleep 60", fill + "/dev/shm/x; sleep 60", calls() + " memfd 300"}) {
    Command command = sandboxed(script);
    command.max_rss_bytes = 100 << 20;
    EXPECT_TRUE(run(command).over_memory) << script;
  }
}

TEST_F(SandboxTest, FileSystemsInMemoryAreLimitedAndDevIsNone) {
  EXPECT_EQ(inside("df --output=size /tmp /dev/shm | tail -n 2 | tr -d ' '").output,
            "4194304\n1048576\n");
  EXPECT_NE(inside("touch /dev/x").code, 0);
}

TEST_F(SandboxTest, TooManyProcessesEndTheWholeSandbox) {
  const std::string mark = "3602." + std::to_string(getpid());
  Command command = sandboxed("for i in {1..60}; do setsid sleep " + mark + " & done; wait");
  command.max_tasks = 40;
  EXPECT_NE(run(command).over.find("processes and threads"), std::string::npos);
  EXPECT_EQ(processes_with(mark), 0);
}

TEST_F(SandboxTest, AChainOfProcessesIsCountedHoweverLong) {
  Command command = sandboxed("f() { [ $1 = 0 ] && sleep 60 || (f $(($1 - 1)); true); }; f 100");
  command.max_tasks = 90;
  EXPECT_NE(run(command).over.find("processes and threads"), std::string::npos);
}

TEST_F(SandboxTest, WhatHasAMemoryLimitIsTheFirstToDieWithoutMemory) {
  Command command = sandboxed("cat /proc/self/oom_score_adj; echo 0 > /proc/self/oom_score_adj");
  command.max_rss_bytes = int64_t{1} << 30;
  EXPECT_TRUE(run(command).output.starts_with("1000\n"));
}

// --- Reaching out of it

TEST_F(SandboxTest, CallsThatATrainingDoesNotNeedAreRefused) {
  build_calls();
  const std::string free = outside("cd " + (dir_ / "inside").string() + "; " + calls()).output;
  for (const char* name :
       {"ptrace", "process_vm_readv", "pidfd_getfd", "lease", "keyctl", "shmget", "unshare"})
    EXPECT_NE(free.find(name + std::string(" ok\n")), std::string::npos) << free;
  const std::set<std::string> unknown = {"clone3", "x32", "setxattrat"};
  std::istringstream lines(inside(calls()).output);
  int count = 0;
  for (std::string name, result; lines >> name >> result; ++count)
    EXPECT_EQ(result, unknown.contains(name) ? "ENOSYS" : "EPERM") << name;
  EXPECT_GE(count, 17);
}

#ifdef __x86_64__
TEST_F(SandboxTest, AnotherArchitecturesCallsEndTheProcess) {
  build_calls();
  EXPECT_EQ(inside(calls() + " int80").code, 128 + SIGSYS);
}
#endif

TEST_F(SandboxTest, OfTheParentsDescriptorsNoneIsInside) {
  // The listing itself opens one, which gets the lowest free number.
  EXPECT_EQ(inside("exec ls /proc/self/fd").output, "0\n1\n2\n3\n");
}

TEST_F(SandboxTest, ASignalToTheGroupStaysInside) {
  // bwrap outside, if it were stopped, could not be woken from inside and hand on the status.
  const std::string waker =
      "setsid bash -c 'touch up; while :; do sleep 0.1; kill -CONT -1; done' & ";
  EXPECT_EQ(inside(waker + "until [ -e up ]; do :; done; kill -STOP 0; exit 5").code, 5);
}

TEST_F(SandboxTest, TheEndOfASandboxIsSeenThoughBwrapIsStopped) {
  Command command = sandboxed("sleep 0.5");
  pid_t bwrap = 0;
  command.before_exec = [&](pid_t pid, uint64_t) { bwrap = pid; };
  command.tick = [&](double) { kill(bwrap, SIGSTOP); };
  const Exit exit = run(command);
  EXPECT_FALSE(exit.timed_out);
  EXPECT_EQ(exit.code, 128 + SIGKILL);
}

TEST_F(SandboxTest, TheTerminalCannotBeOpened) {
  EXPECT_NE(inside("exec 3<> /dev/tty").code, 0);
  EXPECT_EQ(inside("ls /dev/pts | wc -l").output, "1\n");  // ptmx alone
}

TEST_F(SandboxTest, CppCompilesInTheSandbox) { expect_that_cpp_compiles(); }

TEST_F(SandboxTest, TheGpuViewStillHidesTheRest) {
  View seen{.writable = dir_ / "inside", .gpu = true};
  auto output = [&](const std::string& script) {
    return run(confine({.argv = {"sh", "-c", script}, .env = scrubbed_environment()}, seen)).output;
  };
  std::string nodes = outside("ls -d /dev/nvidia* 2>/dev/null").output;
  EXPECT_EQ(output("ls -d /dev/nvidia* 2>/dev/null"), nodes);
  EXPECT_EQ(output("ls /sys/bus > /dev/null && echo sys"), "sys\n");
  EXPECT_EQ(output("ls /root /home 2>/dev/null; ls -d /dev/kmsg 2>/dev/null"), "");
}

TEST_F(SandboxTest, LibraryFoldersAreVisibleUnlessTheyHoldTheHome) {
  const char* old_home = std::getenv("HOME");
  std::string home = old_home ? old_home : "";
  setenv("HOME", (dir_ / "unnamed/user").c_str(), 1);
  std::string list =
      (dir_ / "named").string() + "::relative:/no/such:/:" + (dir_ / "unnamed").string();
  setenv("LD_LIBRARY_PATH", list.c_str(), 1);
  const Command command =
      confine({.argv = {"sh", "-c", "ls " + dir_.string()}, .env = scrubbed_environment()},
              {.writable = dir_ / "inside"});
  setenv("HOME", home.c_str(), 1);
  unsetenv("LD_LIBRARY_PATH");
  EXPECT_EQ(run(command).output, "inside\nnamed\n");
}

// --- Landlock

class LandlockTest : public SandboxTest {
 protected:
  void SetUp() override {
    if (landlock_abi() == 0) GTEST_SKIP() << "this kernel has no Landlock";
    ASSERT_EQ(choose_sandbox("landlock"), std::nullopt);
  }
  ~LandlockTest() override { sandbox_problem(); }
};

TEST_F(LandlockTest, RunsInTheWritableFolderWithItsTemporaryFiles) {
  EXPECT_EQ(inside("pwd; echo $TMPDIR; echo x > file; exit 7").output,
            (dir_ / "inside").string() + "\n" + (dir_ / "inside").string() + "\n");
  EXPECT_EQ(inside("exit 7").code, 7);
  EXPECT_EQ(text("inside/file"), "x\n");
}

TEST_F(LandlockTest, OnlyNamedPlacesCanBeReadAndOnlyTheFolderWritten) {
  EXPECT_EQ(inside("cat " + (dir_ / "named/file").string()).output, "named\n");
  const std::string unnamed = "cat " + (dir_ / "unnamed/file").string();
  EXPECT_EQ(outside(unnamed).output, "secret\n");
  EXPECT_NE(inside(unnamed).code, 0);
  fs::create_symlink(dir_ / "unnamed/file", dir_ / "inside/link");
  EXPECT_NE(inside("cat link").code, 0);
  const std::string named = (dir_ / "named").string();
  for (const std::string& place : {named, dir_.string(), std::string("/tmp"),
                                   std::string("/dev/shm"), std::string("/var/tmp")}) {
    EXPECT_EQ(inside("ls " + place).code == 0, place == named) << place;
    EXPECT_NE(inside("echo x > " + place + "/planted").code, 0) << place;
    EXPECT_NE(inside("mkdir " + place + "/planted").code, 0) << place;
  }
  EXPECT_NE(inside("echo x >> " + (dir_ / "named/file").string()).code, 0);
  EXPECT_NE(inside("mv " + (dir_ / "named/file").string() + " taken").code, 0);
  EXPECT_NE(inside("ln " + (dir_ / "unnamed/file").string() + " taken").code, 0);
  EXPECT_EQ(text("named/file"), "named\n");
}

// As root too: no capability is left, and /proc/sys is no exception.
TEST_F(LandlockTest, RootIsNobody) {
  EXPECT_NE(inside("exec 3>> /proc/sys/kernel/core_pattern").code, 0);
  EXPECT_NE(inside("mknod node c 1 3").code, 0);
  if (geteuid() != 0) return;
  write("inside/of_another", "x");
  ASSERT_EQ(chown((dir_ / "inside/of_another").c_str(), 65534, 65534), 0);
  View builder = view();
  builder.builds = true;
  const std::string script = "chmod 600 of_another";
  EXPECT_NE(
      run(confine({.argv = {"sh", "-c", script}, .env = scrubbed_environment()}, builder)).code, 0);
}

TEST_F(LandlockTest, OtherProcessesCanNeitherBeReadNorReached) {
  build_calls();
  const std::string script = calls() + " among " + std::to_string(getpid());
  const std::string free =
      outside("cd " + (dir_ / "unnamed").string() + "; : > leased; " + script).output;
  EXPECT_EQ(free.find("EPERM"), std::string::npos) << free;
  std::istringstream lines(inside(": > leased; " + script).output);
  int count = 0;
  for (std::string name, result; lines >> name >> result; ++count)
    EXPECT_EQ(result, "EPERM") << name;
  EXPECT_EQ(count, 13);
  const std::string environment = "head -c 1 /proc/" + std::to_string(getpid()) + "/environ";
  EXPECT_EQ(outside(environment).code, 0);
  EXPECT_NE(inside(environment).code, 0);
  EXPECT_NE(inside("ls /proc").code, 0);
}

// It hides from the list of the child's orphans, and has a parent that is not in its group.
TEST_F(LandlockTest, WhatIsLeftBehindIsGoneAtTheEnd) {
  const std::string mark = "3603." + std::to_string(getpid());
  const std::string daemon = "(env -i sleep " + mark + " & ) & (sleep " + mark + " &); : > up; ";
  EXPECT_EQ(inside(daemon + "until [ -e up ]; do :; done; exit 5").code, 5);
  EXPECT_EQ(processes_with(mark), 0) << "run() returns when the group is empty";
  Command command = sandboxed(daemon + "sleep " + mark);
  command.limit = 1;
  int seen = 0;
  command.tick = [&](double) { seen = std::max(seen, processes_with(mark)); };
  EXPECT_TRUE(run(command).timed_out);
  EXPECT_GE(seen, 3);
  EXPECT_EQ(processes_with(mark), 0);
}

TEST_F(LandlockTest, MemoryAndProcessesOfOrphansCount) {
  Command command =
      sandboxed("(env -i bash -c 'head -c 400M /dev/zero | tail -c 400M | sleep 60' &) ; sleep 60");
  command.max_rss_bytes = 100 << 20;
  EXPECT_TRUE(run(command).over_memory);
}

TEST_F(LandlockTest, CallsThatATrainingDoesNotNeedAreRefused) {
  build_calls();
  const std::string told = inside(calls()).output;
  EXPECT_EQ(told.find(" ok\n"), std::string::npos) << told;
  EXPECT_GE(std::count(told.begin(), told.end(), '\n'), 17) << told;
  EXPECT_EQ(inside("head -c 4 /dev/urandom > /dev/null").code, 0);
}

TEST_F(LandlockTest, CppCompilesInTheSandbox) { expect_that_cpp_compiles(); }

// What each kernel since 5.13 can do, tried on this one.
TEST_F(LandlockTest, EveryAbiClosesFilesAndTheFilterClosesTheRest) {
  build_calls();
  for (int abi = 1; abi <= landlock_abi(); ++abi) {
    std::vector<Opening> openings = {{dir_ / "inside", Access::kWrite}, {dir_ / "named"}};
    for (const char* path : {"/usr", "/bin", "/lib", "/lib64"}) openings.push_back({path});
    const auto ends = [&](const std::string& script) {
      Command command{.argv = {"bash", "-c", script}, .env = scrubbed_environment(), .limit = 20};
      command.cwd = dir_ / "inside";
      command.fence = std::make_shared<Descriptor>(make_fence(openings, abi));
      command.filter = seccomp_filter({.among_others = true, .may_signal = abi >= 6});
      return run(command);
    };
    EXPECT_EQ(ends("echo x > file; mkdir -p sub; mv file sub; exit 3").code, 3) << abi;
    EXPECT_NE(ends("echo x > " + (dir_ / "planted").string()).code, 0) << abi;
    EXPECT_NE(ends("cat " + (dir_ / "unnamed/file").string()).code, 0) << abi;
    const std::string told = ends(calls() + " among " + std::to_string(getpid())).output;
    EXPECT_EQ(told.find(" ok\n"), std::string::npos) << abi << told;
    EXPECT_EQ(std::count(told.begin(), told.end(), '\n'), 13) << abi << told;
  }
}

TEST(LandlockPolicy, AnAbiClosesWhatItKnows) {
  EXPECT_EQ(closed_by(1), (Closed{0x1fff, 0, 0}));
  EXPECT_EQ(closed_by(2), (Closed{0x3fff, 0, 0}));
  EXPECT_EQ(closed_by(3), (Closed{0x7fff, 0, 0}));
  EXPECT_EQ(closed_by(4), (Closed{0x7fff, 3, 0}));
  EXPECT_EQ(closed_by(5), (Closed{0xffff, 3, 0}));
  EXPECT_EQ(closed_by(6), (Closed{0xffff, 3, 3}));
  EXPECT_EQ(closed_by(99), closed_by(6));
}

TEST(LandlockPolicy, WhatIsReadIsNotWrittenAndWhatIsWrittenIsNoDevice) {
  constexpr uint64_t kWrites = 0b111'1111'1111'0010;  // writing, removing, making, moving, emptying
  constexpr uint64_t kNodes = (1 << 6) | (1 << 9) | (1 << 11);
  for (int abi = 1; abi < 9; ++abi) {
    EXPECT_EQ(rights_of(Access::kRead, true, abi) & kWrites, 0u);
    EXPECT_EQ(rights_of(Access::kRead, false, abi), 0b101u) << "a file is no folder";
    EXPECT_EQ(rights_of(Access::kWrite, true, abi), closed_by(abi).files & 0x7fff & ~kNodes);
    EXPECT_EQ(rights_of(Access::kDevice, false, abi), abi < 5 ? 0b110u : 0x8006u);
    EXPECT_EQ(rights_of(Access::kWrite, true, abi) & ~closed_by(abi).files, 0u);
  }
}

TEST_F(NvidiaUvm, TheRemedyIsTheLeastThatHelps) {
  const auto set = [&](const std::string& name, const char* value) {
    file("proc/sys/" + name, value);
    return remedy("bwrap: No permissions to create new namespace", root_);
  };
  EXPECT_EQ(remedy("bwrap: Can't mount proc on /newroot/proc: Operation not permitted", root_),
            "docker run --security-opt systempaths=unconfined ... (in a container)");
  EXPECT_HAS(set("user/max_user_namespaces", "9"), "--security-opt seccomp=unconfined");
  EXPECT_EQ(set("user/max_user_namespaces", "0"), "sudo sysctl user.max_user_namespaces=10000");
  EXPECT_EQ(set("kernel/unprivileged_userns_clone", "0"),
            "sudo sysctl kernel.unprivileged_userns_clone=1");
}

TEST(SandboxProblemTest, AMissingPathIsNamed) {
  try {
    confine({.argv = {"true"}}, {.read_only = {"/no/such/libtorch"}});
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "the sandbox needs /no/such/libtorch, which does not exist");
  }
}

TEST(SandboxProblemTest, TellsWhatToTypeWhereBubblewrapIsMissing) {
  std::string path = std::getenv("PATH");
  setenv("PATH", "/no/such/folder", 1);
  auto problem = sandbox_problem();
  setenv("PATH", path.c_str(), 1);
  ASSERT_TRUE(problem);
  EXPECT_NE(problem->find("apt-get install bubblewrap"), std::string::npos) << *problem;
  EXPECT_EQ(problem->find("--sandbox landlock") != std::string::npos, landlock_abi() > 0);
}

TEST(SandboxProblemTest, TryTakesTheStrongestThatWorks) {
  const std::string path = std::getenv("PATH");
  setenv("PATH", "/no/such/folder", 1);
  const auto problem = choose_sandbox("try");
  setenv("PATH", path.c_str(), 1);
  EXPECT_EQ(problem.has_value(), landlock_abi() == 0);
  EXPECT_EQ(landlock_is_chosen(), landlock_abi() > 0);
  const bool bubblewrap = !sandbox_problem();
  choose_sandbox("try");
  EXPECT_EQ(landlock_is_chosen(), !bubblewrap && landlock_abi() > 0);
  sandbox_problem();
}

// Whose init is not known can't be ended: nothing may run there.
TEST(SandboxProblemTest, ABwrapThatDoesNotTellOfItsInitIsAnError) {
  char pattern[] = "/tmp/sandbox_test.XXXXXX";
  const fs::path dir = mkdtemp(pattern);
  fs::create_symlink("/bin/true", dir / "bwrap");
  const std::string path = std::getenv("PATH");
  setenv("PATH", (dir.string() + ":" + path).c_str(), 1);
  EXPECT_THROW(sandbox_problem(), Error);
  setenv("PATH", path.c_str(), 1);
  fs::remove_all(dir);
}

TEST(SandboxProblemTest, QuotesBubblewrapWhereItFails) {
  char pattern[] = "/tmp/sandbox_test.XXXXXX";
  fs::path dir = mkdtemp(pattern);
  std::ofstream(dir / "bwrap")
      << "#!/bin/sh\necho 'bwrap: No permissions to create namespace' >&2\n"
         "exit 1\n";
  fs::permissions(dir / "bwrap", fs::perms::owner_all);
  std::string path = std::getenv("PATH");
  setenv("PATH", (dir.string() + ":" + path).c_str(), 1);
  auto problem = sandbox_problem();
  setenv("PATH", path.c_str(), 1);
  fs::remove_all(dir);
  ASSERT_TRUE(problem);
  EXPECT_NE(problem->find("(bwrap: No permissions to create namespace)"), std::string::npos);
  EXPECT_NE(problem->find("--sandbox off"), std::string::npos);
  EXPECT_EQ(problem->find('\n'), std::string::npos);
}

}  // namespace
}  // namespace autoresearch
