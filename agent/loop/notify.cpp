#include "agent/loop/notify.h"

#include <fmt/format.h>
#include <unistd.h>

#include <utility>

#include "common/log.h"
#include "common/process.h"
#include "common/text.h"

namespace autoresearch {
namespace {

constexpr size_t kLineChars = 200;

const char* name_of(Notice notice) {
  switch (notice) {
    case Notice::kEnd:
      return "ended";
    case Notice::kFirstKeep:
      return "first keep";
    case Notice::kPause:
      return "paused";
    case Notice::kBreakage:
      return "broken";
    case Notice::kPlateau:
      return "plateau";
  }
  return "";
}

std::vector<std::string> own_environment() {
  std::vector<std::string> env;
  for (char** variable = environ; *variable; ++variable) env.emplace_back(*variable);
  return env;
}

// What went wrong, in a line; empty if nothing did.
std::string problem_of(const Exit& exit, double limit) {
  if (exit.code == 0) return "";
  if (exit.timed_out) return fmt::format("it took more than {:g} s", limit);
  const std::vector<std::string> lines = split_lines(trim(exit.output));
  return fmt::format("exit code {}{}", exit.code,
                     lines.empty() ? "" : ": " + one_line(lines.back(), kLineChars));
}

}  // namespace

std::string notice_line(Notice notice, const std::string& tag, const std::string& words) {
  const std::string line = "autoresearch " + tag + ": " + name_of(notice);
  return one_line(words.empty() ? line : line + ": " + words, kLineChars);
}

std::string notify_script(const std::string& command) {
  const bool says_where = has_any(command, {"$1", "${1", "$@", "$*"});
  return says_where ? command : command + " \"$1\"";
}

Notifier::Notifier(std::string command, double limit)
    : command_(std::move(command)), limit_(limit) {}

void Notifier::tell(Notice notice, const std::string& tag, const std::string& words,
                    const std::string& details) {
  if (command_.empty()) return;
  Command command{
      .argv = {"/bin/sh", "-c", notify_script(command_), "sh", notice_line(notice, tag, words)},
      .env = own_environment(),
      .input = plain_text(details),
      .limit = limit_,
      .finishes = true};
  try {
    running_.push_back(std::async(std::launch::async, [this, command = std::move(command)] {
      try {
        warn_once(problem_of(run(command), limit_));
      } catch (const std::exception& error) {
        warn_once(error.what());
      }
    }));
  } catch (const std::exception& error) {  // no thread to be had
    warn_once(error.what());
  }
}

void Notifier::warn_once(const std::string& problem) {
  if (problem.empty() || warned_.test_and_set()) return;
  log_warning("--notify failed (" + problem + "); the run goes on, and this is not said again");
}

}  // namespace autoresearch
