#include "agent/loop/notify.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>

#include "common/log.h"
#include "common/process.h"
#include "tests/support.h"

namespace autoresearch {
namespace {

class NotifyTest : public FolderTest {
 protected:
  // What a command has written to `out` when its Notifier is gone.
  std::string told(const std::string& command, const std::string& words,
                   const std::string& details = "") {
    Notifier(command).tell(Notice::kFirstKeep, "monday", words, details);
    return fs::exists(out_) ? read_file(out_) : "";
  }
  std::string script(const std::string& text) const {
    const fs::path path = file("notify.sh", "#!/bin/sh\n" + text);
    fs::permissions(path, fs::perms::owner_all);
    return path;
  }

  const fs::path out_ = dir_ / "out";
};

TEST(NoticeLine, IsOneLineThatNoCommandTakesForAnOption) {
  EXPECT_EQ(notice_line(Notice::kEnd, "monday", "--max-hours 9 reached"),
            "autoresearch monday: ended: --max-hours 9 reached");
  EXPECT_EQ(notice_line(Notice::kPlateau, "monday", ""), "autoresearch monday: plateau");
  EXPECT_EQ(notice_line(Notice::kPause, "m", "a\nb\x1b[31mc"), "autoresearch m: paused: a bc");
}

TEST(NotifyScript, PutsTheLineLastOrWhereTheCommandSays) {
  EXPECT_EQ(notify_script("notify-send"), "notify-send \"$1\"");
  EXPECT_EQ(notify_script("mail -s \"$1\" me"), "mail -s \"$1\" me");
}

TEST_F(NotifyTest, TheLineIsOneArgumentAndTheDetailsAreOnStdin) {
  const std::string command =
      script("{ printf '%s|' \"$@\"; cat; } > " + out_.string()) + " --urgent";
  EXPECT_EQ(told(command, "$(touch planted) `id` \"'; x", "one\ntwo\n"),
            "--urgent|autoresearch monday: first keep: $(touch planted) `id` \"'; x|one\ntwo\n");
  EXPECT_FALSE(fs::exists("planted"));
}

TEST_F(NotifyTest, TheLoopDoesNotWaitForIt) {
  const fs::path gate = dir_ / "gate";
  const std::string command = script("while [ ! -e " + gate.string() +
                                     " ]; do sleep 0.01; done; echo $1 >> " + out_.string());
  {
    Notifier notifier(command);
    notifier.tell(Notice::kFirstKeep, "monday", "", "");
    notifier.tell(Notice::kEnd, "monday", "", "");
    EXPECT_FALSE(fs::exists(out_)) << "they wait for what is made after tell() has returned";
    file("gate", "");
  }
  EXPECT_NE(read_file(out_).find("autoresearch monday: ended"), std::string::npos);
}

// The lines that a command's failures put on stderr, told twice of two notices.
std::string warnings(const std::string& command, double limit) {
  testing::internal::CaptureStderr();
  {
    Notifier notifier(command, limit);
    for (int i = 0; i < 2; ++i) notifier.tell(Notice::kPause, "monday", "", "");
  }
  return testing::internal::GetCapturedStderr();
}

class NotifierTest : public testing::Test {
 protected:
  static void SetUpTestSuite() { set_up_log("notify_test"); }
};

TEST_F(NotifierTest, ItsTimeIsBounded) {
  EXPECT_NE(warnings("sleep 3600;", 0.1).find("it took more than 0.1 s"), std::string::npos);
}

TEST_F(NotifierTest, ItsFailuresAreOneWarning) {
  for (const char* command : {"echo no bus; exit 3;", "no-such-program", "kill -9 $$;"}) {
    const std::string text = warnings(command, 30);
    EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1) << text;
    EXPECT_NE(text.find("--notify failed (exit code"), std::string::npos) << text;
  }
  EXPECT_NE(warnings("echo no bus; exit 3;", 30).find("exit code 3: no bus)"), std::string::npos);
  EXPECT_EQ(warnings("true", 30), "");
}

TEST_F(NotifyTest, TheEndIsToldAfterAnInterruptToo) {
  const pid_t agent = fork();
  if (agent == 0) {
    watch_for_interrupt();
    raise(SIGINT);
    // Longer than many looks at the interrupt.
    told("sleep 0.3; echo >" + out_.string(), "interrupted");
    _exit(0);
  }
  waitpid(agent, nullptr, 0);
  EXPECT_EQ(read_file(out_), "autoresearch monday: first keep: interrupted\n");
}

TEST_F(NotifyTest, WithoutACommandNobodyIsTold) { EXPECT_EQ(told("", "words"), ""); }

}  // namespace
}  // namespace autoresearch
