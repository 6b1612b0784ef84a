// `--notify COMMAND`: tells the user about the few moments of a night that matter, by a command of
// theirs. The loop never waits for it, and never fails because of it.
#pragma once

#include <atomic>
#include <future>
#include <string>
#include <vector>

namespace autoresearch {

enum class Notice { kEnd, kFirstKeep, kPause, kBreakage, kPlateau };

// "autoresearch monday: first keep: kHeadLr 0.004 -> 0.0056". One line, fit for a terminal and a
// subject; it never begins with a dash, so that no command takes it for an option.
std::string notice_line(Notice notice, const std::string& tag, const std::string& words);

// What the shell is given: `command` with the line as its last argument, or `command` as it is if
// it says itself where the line goes, as $1.
std::string notify_script(const std::string& command);

class Notifier {
 public:
  // `command` is the shell's; empty: nobody is told. Its environment and folder are the agent's.
  explicit Notifier(std::string command, double limit = 30);
  // Waits for the commands that still run, each at most `limit` seconds since its start.
  ~Notifier() = default;
  Notifier(const Notifier&) = delete;
  Notifier& operator=(const Notifier&) = delete;

  // Starts the command and returns. `details`: any text, given on stdin. What the command prints is
  // dropped, but the first time it fails its last line stands in a warning. An interrupt leaves it
  // alone, so that the end of a run is told too.
  void tell(Notice notice, const std::string& tag, const std::string& words,
            const std::string& details);

 private:
  void warn_once(const std::string& problem);

  const std::string command_;
  const double limit_;
  std::atomic_flag warned_;
  std::vector<std::future<void>> running_;  // last: they use the others until they end
};

}  // namespace autoresearch
